"""The folder of a report: written whole or not at all, and replacing nothing but another report."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codec_cli.errors import OutputError
from codec_cli.files import TEMPORARY_SUFFIX

__all__ = ["INDEX", "MARKER", "PICTURES", "check_folder", "new_folder"]

INDEX = "index.html"
PICTURES = "pictures"
MARKER = '<meta name="generator" content="codec eval --report">'
"""What a report's index.html is recognised by; near its start."""

_MARKER_WITHIN = 1000
_PICTURE = re.compile(r"\d{3,}-[a-z0-9-]+\.(webp|png)")


def check_folder(folder: Path, force: bool) -> None:
    """Says early what :func:`new_folder` would say after the work.

    Args:
        folder: Where the report is to be.
        force: Replace a former report (or an empty folder).

    Raises:
        OutputError: There is something already which ``force`` is not given for, or which is not a former
            report; or the folder that it is to be in does not exist or can't be written to.
    """
    try:
        _check(folder, force)
    except (OSError, ValueError) as error:
        raise _cannot_write(folder, error) from error


@contextmanager
def new_folder(folder: Path, force: bool) -> Iterator[Path]:
    """A temporary folder that takes its place when the block ends, and vanishes when it fails (Ctrl-C, too).

    Args:
        folder: See :func:`check_folder`. A symbolic link stays, and the folder that it names is replaced.
        force: See :func:`check_folder`.

    Yields:
        The folder to write into, beside the final one.

    Raises:
        OutputError: As for :func:`check_folder`, or something can't be written.
    """
    check_folder(folder, force)
    target = Path(os.path.realpath(folder))
    temporary = _beside(target)
    try:
        temporary.mkdir()
        yield temporary
        _check(folder, force)  # What came meanwhile is not ours to replace.
        _move(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _cannot_write(folder, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _check(folder: Path, force: bool) -> None:
    parent = Path(os.path.realpath(folder)).parent
    if os.path.lexists(folder):
        if not force:
            raise OutputError(f"{folder}: exists; use --force to replace a former report")
        if not folder.is_dir():
            raise OutputError(f"{folder}: is not a folder; give another name")
        _require_report(folder)
    if not parent.is_dir():
        raise OutputError(f"{folder}: the folder {parent} does not exist; create it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot write: no permission in {parent}")


def _require_report(folder: Path) -> None:
    """Raises an error unless the folder is empty, or holds a report and nothing else."""
    entries = {entry.name: entry for entry in folder.iterdir()}
    if not entries:
        return
    index, pictures = entries.pop(INDEX, None), entries.pop(PICTURES, None)
    if index is None or not _is_report(index):
        raise OutputError(f"{folder}: is not a former report; give another name")
    others = sorted(entries)
    if pictures is not None:
        if pictures.is_symlink() or not pictures.is_dir():
            others.append(PICTURES)
        else:
            others += sorted(entry.name for entry in pictures.iterdir() if not _PICTURE.fullmatch(entry.name))
    if others:
        raise OutputError(
            f"{folder}: holds files that are not of a report ({others[0]}); move them or give another name"
        )


def _is_report(index: Path) -> bool:
    if index.is_symlink() or not index.is_file():
        return False
    with index.open("rb") as file:
        return MARKER.encode() in file.read(_MARKER_WITHIN)


def _move(temporary: Path, target: Path) -> None:
    """Puts the new folder in the old one's place, which is put back if that fails."""
    if not os.path.lexists(target):
        temporary.rename(target)
        return
    old = _beside(target)
    target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _remove_report(old)


def _remove_report(folder: Path) -> None:
    """Removes the files of a report one by one: whatever else came to lie there is never deleted."""
    with contextlib.suppress(OSError):
        for entry in list((folder / PICTURES).glob("*")):
            if _PICTURE.fullmatch(entry.name):
                entry.unlink()
        (folder / PICTURES).rmdir()
    with contextlib.suppress(OSError):
        (folder / INDEX).unlink(missing_ok=True)
        folder.rmdir()


def _beside(target: Path) -> Path:
    # Cut: with the random part the name must stay below 255 bytes.
    return target.parent / f".{target.name[:40]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def _cannot_write(folder: Path, error: Exception) -> OutputError:
    return OutputError(f"{folder}: cannot write: {getattr(error, 'strerror', None) or error}")
