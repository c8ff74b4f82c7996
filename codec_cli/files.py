"""Whole files in and out: a write either happens completely or leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from codec_cli.errors import CodecError, ImageError, LimitError, OutputError

try:
    import fcntl
except ImportError:  # Windows, where no one can remove a file that another process has open.
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "TEMPORARY_SUFFIX",
    "atomic_path",
    "ends_mid_line",
    "make_folder",
    "read_bytes",
    "read_stdin",
    "scratch",
    "sweep",
    "write_atomic",
]

TEMPORARY_SUFFIX = ".codec-tmp"
_TEMPORARY = re.compile(rf"\..*\.[0-9a-f]{{16}}{re.escape(TEMPORARY_SUFFIX)}", re.DOTALL)
_ABANDONED = 24 * 3600.0  # Seconds after which a temporary file that can't be locked is no one's.
_PERMISSIONS = 0o777


@contextlib.contextmanager
def atomic_path(path: Path, force: bool, like: os.stat_result | None = None) -> Iterator[Path]:
    """Writes a file so that readers see either the old content, or all of the new one.

    What is written to the path that this yields (``.NAME.XXXX.codec-tmp`` in the same folder, an empty file)
    reaches the disk when the ``with`` block ends, and is then moved into place. Whatever goes wrong (Ctrl-C
    too), the temporary file is removed and the target is untouched; of a process that was killed, the next
    one that writes into the folder removes it (see :func:`sweep`). A symbolic link is followed with
    ``force``: the file that it names is replaced, the link stays. Pipes and character devices
    (``/dev/null``) hold nothing to overwrite: what was written is then copied to them.

    Args:
        path: The file to write; its folder must exist.
        force: Replace an existing file, whose permissions are kept. A new file's follow the umask.
        like: Of a file whose permissions and times (of access and modification) the new one gets, as they
            were when it was read.

    Yields:
        The file to write to.

    Raises:
        OutputError: The file exists (without ``force``), is a folder, or can't be written. So that a full
            disk is told in one way, this is also what becomes of an OSError of the ``with`` block, unless it
            names another file.
    """
    with _named(path):
        target = _checked(path, force)
        if target is not None:
            _sweep_once(target.parent)
            mode = _mode(target, like)
    if target is None:
        with scratch() as spool:
            yield spool
            with _named(path):
                _copy(spool, path)
        return
    temporary = _temporary(target)
    descriptor = -1
    try:
        try:
            with _named(path):
                descriptor = _create(temporary)
                if mode is None:
                    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                # At once: what is private must not be readable while it is written.
                _set_mode(temporary, mode | stat.S_IRUSR | stat.S_IWUSR)
            try:
                yield temporary
            except OSError as error:
                if error.filename in (None, str(temporary)):
                    raise _cannot_write(path, error) from error
                raise
            with _named(path):
                _finish(temporary, mode, like)
                if fcntl is None:  # Windows moves no file that is open.
                    descriptor = _close(descriptor)
                if force:
                    temporary.replace(target)
                else:
                    _move_no_clobber(path, temporary, target)
                _sync_folder(target.parent)
        finally:
            _close(descriptor)
    except BaseException:
        # A failure here must not hide the one that brought us here.
        _remove(temporary)
        raise


def write_atomic(path: Path, data: bytes, force: bool, like: os.stat_result | None = None) -> None:
    """Writes bytes to a file, completely or not at all: see :func:`atomic_path`.

    Args:
        path: The file to write; its folder must exist.
        data: All bytes of the file.
        force: Replace an existing file.
        like: See :func:`atomic_path`.

    Raises:
        OutputError: The file exists (without ``force``), is a folder, or can't be written.
    """
    with _named(path):
        if _checked(path, force) is None:
            _write_all(os.open(path, os.O_WRONLY), data)
            return
    with atomic_path(path, force, like) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yields an empty file in the system's folder for temporary files, which is removed afterwards.

    No one else may read it. Those of processes that were killed are removed by the next call.
    """
    import tempfile  # Slow to import, and rarely needed.

    folder = Path(tempfile.gettempdir())
    sweep(folder)
    path = _temporary(folder / "output")
    descriptor = _create(path, 0o600)
    try:
        yield path
    finally:
        _close(descriptor)
        _remove(path)


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, so that a crash of the machine leaves them.

    Args:
        folder: May exist.

    Raises:
        OSError: It can't be made, or is a file.
    """
    missing = list(itertools.takewhile(lambda place: not place.is_dir(), (folder, *folder.parents)))
    # One by one: of a folder that another process made, all above it are on the disk.
    for place in reversed(missing):
        try:
            place.mkdir(exist_ok=True)
        except FileExistsError as error:
            if place == folder:
                raise
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place)) from error
        _sync_folder(place.parent)
    if not missing:
        _sync_parent_once(folder)


def sweep(folder: Path) -> None:
    """Removes what killed processes left in a folder: temporary files that no one writes any more.

    The writer holds a lock on its temporary file (``flock``), which the system gives back however the
    process ends. So a file that can be locked is no one's; neither clocks nor process numbers, which are
    used again, have a say. Where files can't be locked, those not written to for a day are removed. On
    network folders mounted with locks that other machines don't see (``nolock``), a file that another
    machine writes at this moment may be removed: its write then fails, and nothing else is lost.

    Args:
        folder: Where to look, not below it. What can't be listed or removed stays.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_abandoned(Path(entry.path))


def ends_mid_line(path: Path) -> bool:
    """Whether a file has a last line that was cut off, by a kill or a crash."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def read_stdin(limit: int, head: int = 0, peek: Callable[[bytes], object] | None = None) -> bytes:
    """All of standard input, which may have no end.

    Args:
        limit: The most bytes to accept.
        head: How many bytes ``peek`` wants to see.
        peek: Called with the beginning before the rest is read: raises what is to be raised for what is
            not wanted.

    Raises:
        CodecError: There is none.
        LimitError: It has more than ``limit`` bytes.
    """
    if sys.stdin is None:
        raise CodecError("-: there is no standard input")
    data = sys.stdin.buffer.read(head)
    if peek:
        peek(data)
    data += sys.stdin.buffer.read(limit + 1 - len(data))
    if len(data) > limit:
        raise LimitError(f"-: larger than the limit of {limit} bytes")
    return data


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


def _checked(path: Path, force: bool) -> Path | None:
    """The file to replace or to make, behind all links; None for pipes and devices."""
    kind = _kind(path)
    if kind is not None and stat.S_ISDIR(kind):
        raise OutputError(f"{path}: is a folder; give the name of a file")
    if kind is not None and (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
        return None
    if not force and os.path.lexists(path):
        raise _exists(path)
    if kind is not None and not stat.S_ISREG(kind):
        raise OutputError(f"{path}: is not a regular file; give another name")
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not target.parent.is_dir():
        raise OutputError(f"{path}: the folder {target.parent} does not exist; create it first")
    return target


def _kind(path: Path) -> int | None:
    """The file mode behind all links, or None where there is no file."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path}: exists; use --force to overwrite")


def _cannot_write(path: Path, error: Exception) -> OutputError:
    return OutputError(f"{path}: cannot write: {getattr(error, 'strerror', None) or error}")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Makes what goes wrong an error that names ``path``."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error


def _temporary(target: Path) -> Path:
    """A name that no one else has, in the same folder."""
    # Cut: with the random part the name of the temporary file must stay below 255 bytes.
    return target.parent / f".{target.name[:40]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def _create(temporary: Path, mode: int = 0o666) -> int:
    """Makes a temporary file, with the permissions that the umask leaves, and returns it, open and locked."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        # Not tempfile: its files are 0600, and the umask can't be asked for without setting it everywhere.
        descriptor = os.open(temporary, flags, mode)
        if fcntl is None:
            return descriptor
        with contextlib.suppress(OSError):  # Not every file system has locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # Another process has swept it away before it was locked.


def _remove_abandoned(temporary: Path) -> None:
    if fcntl is None:
        held = None
    else:
        descriptor = _open_to_lock(temporary)
        try:
            held = _held(descriptor)
            if held is False:
                temporary.unlink()
        finally:
            os.close(descriptor)
    if held is None and time.time() - temporary.stat().st_mtime > _ABANDONED:
        temporary.unlink()


def _open_to_lock(temporary: Path) -> int:
    # Not blocking, should someone have put a pipe there; for writing, which locks over NFS ask for.
    try:
        return os.open(temporary, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (
        PermissionError
    ):  # It got the permissions of a file that no one may write, and then its writer died.
        return os.open(temporary, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)


def _held(descriptor: int) -> bool | None:
    """Whether another process has locked a file; None where files can't be locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


@functools.lru_cache(maxsize=64)
def _sweep_once(folder: Path) -> None:
    sweep(folder)


@functools.lru_cache(maxsize=64)
def _sync_parent_once(folder: Path) -> None:
    _sync_folder(folder.parent)


def _mode(target: Path, like: os.stat_result | None) -> int | None:
    """The permissions that the new file shall have; None for those by the umask."""
    if like is not None:
        return like.st_mode & _PERMISSIONS
    kind = _kind(target)
    return None if kind is None else kind & _PERMISSIONS


def _set_mode(temporary: Path, mode: int) -> None:
    with contextlib.suppress(OSError):  # File systems without permissions refuse them.
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)


def _finish(temporary: Path, mode: int, like: os.stat_result | None) -> None:
    """Sees to it that a file and what is known of it are on the disk."""
    # Opened anew: whoever wrote the file may have put another in its place.
    descriptor = os.open(temporary, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        _set_mode(temporary, mode)
        if like is not None:
            os.utime(temporary, ns=(like.st_atime_ns, like.st_mtime_ns))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a crash of the machine, where folders can be synced at all."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _copy(source: Path, path: Path) -> None:
    """Writes a file's bytes to a pipe or a device."""
    with source.open("rb") as file, os.fdopen(os.open(path, os.O_WRONLY), "wb") as output:
        shutil.copyfileobj(file, output)


def _write_all(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _close(descriptor: int) -> int:
    """Closes a file, once: returns -1, which is not closed again."""
    if descriptor >= 0:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return -1


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
