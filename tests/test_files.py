"""codec_cli.files: a write happens completely or not at all."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codec_cli.errors import FormatError, ImageError, LimitError, OutputError
from codec_cli.files import TEMPORARY_SUFFIX, read_bytes, write_atomic

ROOT = Path(__file__).parents[1]


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_writes_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "out.bin"
    write_atomic(path, b"abc", force=False)
    assert path.read_bytes() == b"abc"
    assert names(tmp_path) == ["out.bin"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=10_000))
def test_any_bytes(tmp_path, data):
    path = tmp_path / "out.bin"
    write_atomic(path, data, force=True)
    assert read_bytes(path) == data


def test_existing_target_needs_force(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputError) as error:
        write_atomic(path, b"new", force=False)
    assert one_line(error) == f"{path}: exists; use --force to overwrite"
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["out.bin"]


def test_long_and_odd_names(tmp_path):
    for name in ("a" * 255, "ü" * 127, "with space.x", "-dash"):
        write_atomic(tmp_path / name, b"abc", force=False)
        assert (tmp_path / name).read_bytes() == b"abc"
    assert len(names(tmp_path)) == 4


def test_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic(Path("out.bin"), b"abc", force=False)
    assert (tmp_path / "out.bin").read_bytes() == b"abc"


def test_temporary_name_is_recognisable(tmp_path, monkeypatch):
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.extend(names(tmp_path)), fsync(fd)))
    write_atomic(tmp_path / "out.bin", b"abc", force=False)
    assert len(seen) == 1
    assert seen[0].startswith(".out.bin.")
    assert seen[0].endswith(TEMPORARY_SUFFIX)


def test_missing_folder(tmp_path):
    path = tmp_path / "no" / "out.bin"
    with pytest.raises(OutputError, match="does not exist; create it first") as error:
        write_atomic(path, b"abc", force=False)
    assert one_line(error).startswith(f"{path}: ")
    assert not path.parent.exists()


def test_parent_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="create it first"):
        write_atomic(tmp_path / "file" / "out.bin", b"abc", force=True)


@pytest.mark.parametrize("force", [False, True])
def test_target_is_a_folder(tmp_path, force):
    with pytest.raises(OutputError, match="is a folder") as error:
        write_atomic(tmp_path, b"abc", force=force)
    assert one_line(error).startswith(f"{tmp_path}: ")


def test_impossible_name(tmp_path):
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "a\0b", b"abc", force=False)
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / ("a" * 300), b"abc", force=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("function", ["open", "fdopen", "fsync"])
@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EACCES, os.strerror(errno.EACCES)),
        OSError(errno.EROFS, os.strerror(errno.EROFS)),
    ],
)
def test_failure_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, function, failure, force):
    path = tmp_path / "out.bin"
    if force:
        path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        if function == "fdopen":
            # Full at the first byte: the file is there, the write fails.
            patch.setattr(os, "fdopen", lambda fd, mode: (os.close(fd), raising(failure)())[1])
        else:
            patch.setattr(os, function, raising(failure))
        with pytest.raises(OutputError) as error:
            write_atomic(path, b"new", force=force)
    assert one_line(error) == f"{path}: cannot write: {failure.strerror}"
    assert names(tmp_path) == (["out.bin"] if force else [])
    if force:
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("function", ["link", "replace", "fsync"])
def test_interrupt_leaves_nothing(tmp_path, monkeypatch, function):
    force = function == "replace"
    path = tmp_path / "out.bin"
    monkeypatch.setattr(os, function, raising(KeyboardInterrupt()))
    monkeypatch.setattr(Path, "replace", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new", force=force)
    assert names(tmp_path) == []


def test_failing_move_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", raising(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OutputError, match="Input/output error"):
        write_atomic(tmp_path / "out.bin", b"new", force=True)
    assert names(tmp_path) == []


def test_failing_cleanup_does_not_hide_the_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", raising(OSError(errno.ENOSPC, "No space left on device")))
    monkeypatch.setattr(Path, "unlink", raising(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(tmp_path / "out.bin", b"new", force=False)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path):
    folder = tmp_path / "ro"
    folder.mkdir()
    folder.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write_atomic(folder / "out.bin", b"abc", force=False)
        assert names(folder) == []
    finally:
        folder.chmod(0o755)


def test_full_disk_for_real():
    # The kernel's own full disk; a device is written to directly.
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with pytest.raises(OutputError, match="/dev/full: cannot write: No space left on device"):
        write_atomic(Path("/dev/full"), b"abc", force=True)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_device_stays_a_device():
    if os.name != "posix":
        pytest.skip("POSIX devices")
    for force in (False, True):
        write_atomic(Path("/dev/null"), b"abc", force=force)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    write_atomic(path, b"abc" * 1000, force=False)
    reader.join(10)
    assert got == [b"abc" * 1000]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    path = tmp_path / "out.bin"
    before = os.umask(umask)
    try:
        write_atomic(path, b"abc", force=False)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        write_atomic(path, b"abc", force=True)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_race_does_not_overwrite(tmp_path, monkeypatch):
    path = tmp_path / "out.bin"
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (path.write_bytes(b"theirs"), fsync(fd)))
    with pytest.raises(OutputError, match="exists; use --force"):
        write_atomic(path, b"ours", force=False)
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("failure", [OSError(errno.EPERM, "no links"), NotImplementedError()])
@pytest.mark.parametrize("taken", [False, True])
def test_without_hard_links(tmp_path, monkeypatch, failure, taken):
    path = tmp_path / "out.bin"

    def link(*args):
        if taken:
            path.write_bytes(b"theirs")
        raise failure

    monkeypatch.setattr(os, "link", link)
    if taken:
        with pytest.raises(OutputError, match="exists; use --force"):
            write_atomic(path, b"ours", force=False)
    else:
        write_atomic(path, b"ours", force=False)
    assert path.read_bytes() == (b"theirs" if taken else b"ours")
    assert names(tmp_path) == ["out.bin"]


def test_only_one_of_many_writers_wins(tmp_path):
    path = tmp_path / "out.bin"
    results = []

    def write(data):
        try:
            write_atomic(path, data, force=False)
            results.append(data)
        except OutputError:
            pass

    threads = [threading.Thread(target=write, args=(bytes([i]) * 1000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 1
    assert path.read_bytes() == results[0]
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_symbolic_link_is_followed(tmp_path):
    (tmp_path / "data").mkdir()
    target, link = tmp_path / "data" / "out.bin", tmp_path / "link.bin"
    link.symlink_to(target)
    with pytest.raises(OutputError, match="exists"):  # The link itself does, though it points nowhere.
        write_atomic(link, b"abc", force=False)
    for data in (b"abc", b"def"):
        write_atomic(link, data, force=True)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert names(target.parent) == ["out.bin"]


def test_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "stat", lambda self, **k: os.stat_result((stat.S_IFSOCK,) + (0,) * 9))
    with pytest.raises(OutputError, match="not a regular file"):
        write_atomic(tmp_path / "socket", b"abc", force=True)


def test_read_bytes(tmp_path):
    path = tmp_path / "in.bin"
    path.write_bytes(b"abc")
    assert read_bytes(path) == read_bytes(path, limit=3) == b"abc"
    with pytest.raises(LimitError, match="larger than the limit of 2 bytes") as error:
        read_bytes(path, limit=2)
    assert one_line(error).startswith(f"{path}: ")


def test_read_bytes_errors(tmp_path):
    with pytest.raises(ImageError, match="cannot read: No such file or directory") as error:
        read_bytes(tmp_path / "none")
    assert one_line(error).startswith(f"{tmp_path / 'none'}: ")
    with pytest.raises(FormatError, match="cannot read: "):
        read_bytes(tmp_path, error=FormatError)
    with pytest.raises(ImageError, match="cannot read: "):
        read_bytes(tmp_path / "a\0b")


def test_import_is_light():
    code = "import sys, codec_cli.files; print([m for m in ('numpy', 'PIL', 'tempfile') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
