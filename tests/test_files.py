"""codec_cli.files: a write happens completely or not at all."""

import contextlib
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
from codec_cli.files import (
    TEMPORARY_SUFFIX,
    atomic_path,
    make_folder,
    read_bytes,
    scratch,
    sweep,
    write_atomic,
)

with contextlib.suppress(ImportError):  # Windows.
    import fcntl

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
    assert len(seen) == 2  # The file; and the folder, in which it then has its own name.
    assert seen[1] == "out.bin"
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
@pytest.mark.parametrize("function", ["open", "write", "fsync"])
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
        if function == "write":
            # Full at the first byte: the file is there, the write fails.
            patch.setattr(Path, "write_bytes", raising(failure))
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


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o400])
def test_replaced_file_passes_its_permissions_on(tmp_path, mode):
    path = tmp_path / "out.bin"
    path.touch()
    path.chmod(mode)
    with atomic_path(path, force=True) as temporary:
        # No more than that while it is written, either.
        assert stat.S_IMODE(temporary.stat().st_mode) == mode | 0o600
        temporary.write_bytes(b"abc")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_like_another_file(tmp_path):
    source, path = tmp_path / "source.png", tmp_path / "out.bin"
    source.touch()
    source.chmod(0o4750)
    os.utime(source, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    path.touch()
    write_atomic(path, b"abc", force=True, like=source.stat())
    facts = path.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o750  # Not setuid: that goes with a program's content.
    assert (facts.st_atime_ns, facts.st_mtime_ns) == (1_500_000_000_123_456_789, 1_400_000_000_987_654_321)
    assert path.read_bytes() == b"abc"


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


def test_others_may_write(tmp_path):
    path = tmp_path / "out.bin"
    with atomic_path(path, force=False) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.read_bytes() == b""
        subprocess.run([sys.executable, "-c", f"open({str(temporary)!r}, 'wb').write(b'abc')"], check=True)
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert names(tmp_path) == ["out.bin"]


def test_others_may_replace_the_temporary_file(tmp_path):
    (tmp_path / "other").write_bytes(b"abc")
    with atomic_path(tmp_path / "out.bin", force=False) as temporary:
        (tmp_path / "other").rename(temporary)
    assert (tmp_path / "out.bin").read_bytes() == b"abc"
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
        (FileNotFoundError(errno.ENOENT, "No such file", "source.png"), FileNotFoundError),
        (FormatError("damaged"), FormatError),
        (ValueError("a bug"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_failure_of_the_writer(tmp_path, failure, expected, force):
    path = tmp_path / "out.bin"
    if force:
        path.write_bytes(b"old")
    with pytest.raises(expected) as error, atomic_path(path, force) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half of")
        raise failure
    if expected is OutputError:
        assert one_line(error) == f"{path}: cannot write: No space left on device"
    assert names(tmp_path) == (["out.bin"] if force else [])
    assert not force or path.read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipe_gets_a_copy(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    with atomic_path(path, force=False) as temporary:
        assert temporary.parent != tmp_path
        temporary.write_bytes(b"abc" * 1000)
    reader.join(10)
    assert got == [b"abc" * 1000]
    assert names(tmp_path) == ["pipe"]
    assert not temporary.exists()


KILLED = """
import os, sys
from pathlib import Path
from codec_cli.files import atomic_path
with atomic_path(Path(sys.argv[1]), force=False) as temporary:
    temporary.write_bytes(b"half of")
    print("here", flush=True)
    sys.stdin.read()
    os._exit(9)  # As if killed.
"""


@pytest.fixture
def writer(tmp_path):
    """Writes ``out.bin`` in a process that dies when its standard input ends, and leaves a file behind."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "out.bin"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"here\n"
        yield process


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_sweep_knows_whose_process_lives(tmp_path, writer):
    (left,) = names(tmp_path)
    os.utime(tmp_path / left, (0, 0))  # However old it is.
    sweep(tmp_path)
    assert names(tmp_path) == [left]
    writer.communicate()
    assert names(tmp_path) == [left]
    sweep(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_next_write_sweeps(tmp_path, writer):
    writer.communicate()
    assert len(names(tmp_path)) == 1
    write_atomic(tmp_path / "other.bin", b"abc", force=False)
    assert names(tmp_path) == ["other.bin"]


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_sweep_without_locks_goes_by_age(tmp_path, monkeypatch):
    mark = "0123456789abcdef.codec-tmp"
    (tmp_path / f".old.{mark}").touch()
    (tmp_path / f".new.{mark}").touch()
    os.utime(tmp_path / f".old.{mark}", (0, 0))
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")))
    sweep(tmp_path)
    assert names(tmp_path) == [f".new.{mark}"]


def test_sweep_takes_nothing_else(tmp_path):
    mark = "0123456789abcdef.codec-tmp"
    others = (f"a.{mark}", ".a.codec-tmp", f".a.{mark}.png", ".a.0123456789ABCDEF.codec-tmp")
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".folder.{mark}").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / f".pipe.{mark}")
        (tmp_path / f".link.{mark}").symlink_to(tmp_path / "photo.png")
    before = names(tmp_path)
    (tmp_path / f".a\nb.{mark}").touch()
    sweep(tmp_path)
    assert names(tmp_path) == before
    sweep(tmp_path / "nowhere")


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_swept_away_before_it_was_locked(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def late(descriptor, operation):
        if not calls:  # Another process comes between making and locking.
            (left,) = names(tmp_path)
            (tmp_path / left).unlink()
        calls.append(operation)
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    write_atomic(tmp_path / "out.bin", b"abc", force=False)
    assert calls == [fcntl.LOCK_EX] * 2
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_sweep_takes_files_that_may_only_be_read(tmp_path, monkeypatch):
    left = tmp_path / ".a.0123456789abcdef.codec-tmp"
    left.touch(0o444)
    opened = os.open

    def as_others(path, flags, *rest, **options):
        # Root may write what it likes.
        if Path(path) == left and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", as_others)
    with left.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert left.exists()
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_scratch(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch() as path:
        path.write_bytes(b"abc")
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with scratch() as other:
            assert names(tmp_path) == sorted([path.name, other.name])
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_scratch_of_a_killed_process_is_swept(tmp_path, monkeypatch):
    code = "import os\nfrom codec_cli.files import scratch\nwith scratch() as path: os.kill(os.getpid(), 9)"
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, check=False
    )
    assert (killed.returncode, len(names(tmp_path))) == (-9, 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch() as path:
        assert names(tmp_path) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="folders are not synced elsewhere")
def test_new_folders_reach_the_disk_from_the_top(tmp_path, monkeypatch):
    seen = []
    fsync = os.fsync

    def note(descriptor):
        facts = os.fstat(descriptor)
        seen.append(next(place for place in folders if os.path.samestat(place.stat(), facts)).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    folders = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_folder(tmp_path / "a" / "b" / "c")
    assert seen == [folder.name for folder in folders]
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    # Another process may have made it a moment ago.
    assert seen[3:] == ["b"]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


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
