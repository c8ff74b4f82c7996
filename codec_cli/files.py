"""Whole files in and out: a write either happens completely or leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from codec_cli.errors import CodecError, ImageError, LimitError, OutputError

__all__ = ["TEMPORARY_SUFFIX", "read_bytes", "write_atomic"]

TEMPORARY_SUFFIX = ".codec-tmp"


def write_atomic(path: Path, data: bytes, force: bool) -> None:
    """Writes a file so that readers see either the old content, or all of the new one.

    The bytes go to ``.NAME.XXXX.codec-tmp`` in the same folder, reach the disk, and are then moved into
    place. Whatever goes wrong (Ctrl-C too), the temporary file is removed and the target is untouched. A
    symbolic link is followed with ``force``: the file that it names is replaced, the link stays. Pipes and
    character devices (``/dev/null``) hold nothing to overwrite, and are written to directly.

    Args:
        path: The file to write; its folder must exist.
        data: All bytes of the file.
        force: Replace an existing file. A new file's permissions follow the umask in any case.

    Raises:
        OutputError: The file exists (without ``force``), is a folder, or can't be written.
    """
    try:
        kind = _kind(path)
        if kind is not None and stat.S_ISDIR(kind):
            raise OutputError(f"{path}: is a folder; give the name of a file")
        if kind is not None and (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
            _write_all(os.open(path, os.O_WRONLY), data, sync=False)
            return
        if not force and os.path.lexists(path):
            raise _exists(path)
        if kind is not None and not stat.S_ISREG(kind):
            raise OutputError(f"{path}: is not a regular file; give another name")
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        if not target.parent.is_dir():
            raise OutputError(f"{path}: the folder {target.parent} does not exist; create it first")
        _write_beside(path, target, data, force)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot write: {reason}") from error


def read_bytes(path: Path, limit: int | None = None, error: type[CodecError] = ImageError) -> bytes:
    """Reads a whole file.

    Args:
        path: The file to read.
        limit: The most bytes to accept; None for any number.
        error: What to raise when the file can't be read.

    Returns:
        The bytes of the file.

    Raises:
        CodecError: Of type ``error``, "PATH: cannot read: reason".
        LimitError: The file is larger than ``limit`` (no more than ``limit + 1`` bytes are read).
    """
    try:
        with path.open("rb") as file:
            data = file.read(-1 if limit is None else limit + 1)
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise error(f"{path}: cannot read: {reason}") from failure
    if limit is not None and len(data) > limit:
        raise LimitError(f"{path}: larger than the limit of {limit} bytes")
    return data


def _kind(path: Path) -> int | None:
    """The file mode behind all links, or None where there is no file."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path}: exists; use --force to overwrite")


def _write_beside(path: Path, target: Path, data: bytes, force: bool) -> None:
    """Writes ``target`` through a temporary file; ``path`` is its name for messages."""
    # Cut: with the random part the name of the temporary file must stay below 255 bytes.
    name = f".{target.name[:40]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    temporary = target.parent / name
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        # Not tempfile: its files are 0600, and the umask can't be asked for without setting it everywhere.
        _write_all(os.open(temporary, flags, 0o666), data, sync=True)
        if force:
            temporary.replace(target)
        else:
            _move_no_clobber(path, temporary, target)
    except BaseException:
        # A failure here must not hide the one that brought us here.
        _remove(temporary)
        raise


def _write_all(descriptor: int, data: bytes, sync: bool) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def _move_no_clobber(path: Path, temporary: Path, target: Path) -> None:
    """Moves a file to a name that must be free, even if someone else takes it meanwhile."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise _exists(path) from error
    except (OSError, NotImplementedError, AttributeError):
        # No hard links here (FAT, some network folders). What is left is a check with a short gap after it.
        if os.path.lexists(target):
            raise _exists(path) from None
        temporary.replace(target)
    else:
        _remove(temporary)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
