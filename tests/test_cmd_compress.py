"""codec compress: files, directories, streams, options, and everything that can go wrong."""

import contextlib
import json
import os
import re
import shlex
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import error_line
from helpers import CONTEXT, codec_of, copy_model, info_of, rewrite
from PIL import Image

from codec_cli.bitstream import container
from codec_cli.codec import Codec
from codec_cli.evaluation.metrics import ms_ssim, psnr
from codec_cli.pictures.images import Picture, load_picture

TINY = ("--model", "tiny")
ROOT_USER = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
LINE = re.compile(
    r"^\S+ -> \S+  \d+ px  [\d.]+ k?B -> [\d.]+ k?B  \d+\.\d\d bpp  \d+\.\d:1  \d+\.\d\d s$", re.M
)


def decoded(path, models_dir):
    return Codec(models_dir=models_dir).decode(path.read_bytes())


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Where the output goes


def test_one_file_goes_beside_the_input(run, write_photo, tmp_path, models_dir, photo):
    source = write_photo(tmp_path / "a.png")
    result = run("compress", source, *TINY)
    assert result.exit_code == 0
    assert LINE.match(result.stdout), result.stdout
    assert tree(tmp_path) == ["a.bin", "a.png"]
    pixels = decoded(tmp_path / "a.bin", models_dir)
    assert pixels.shape == photo().shape
    assert np.abs(pixels.astype(int) - photo()).mean() < 30


def test_one_file_to_a_named_output(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    assert run("compress", source, tmp_path / "small.codec", *TINY).exit_code == 0
    assert tree(tmp_path) == ["a.png", "small.codec"]


@pytest.mark.parametrize("existing", [True, False])
def test_files_into_a_directory(run, write_photo, tmp_path, existing):
    sources = [write_photo(tmp_path / name) for name in ("a.png", "b.jpg")]
    out = tmp_path / "out"
    if existing:
        out.mkdir()
    result = run("compress", *sources, out if existing else f"{out}/", *TINY)
    assert result.exit_code == 0
    assert tree(out) == ["a.bin", "b.bin"]
    assert len(LINE.findall(result.stdout)) == 2
    assert result.stdout.splitlines()[-1].startswith("2 files  ")


def test_output_dir_option(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    assert run("compress", source, "-o", tmp_path / "x" / "y", *TINY).exit_code == 0
    assert tree(tmp_path) == ["a.png", "x/y/a.bin"]


def test_two_images_are_two_inputs(run, write_photo, tmp_path):
    sources = [write_photo(tmp_path / name) for name in ("a.png", "b.png")]
    before = sources[1].read_bytes()
    assert run("compress", *sources, "--force", *TINY).exit_code == 0
    assert tree(tmp_path) == ["a.bin", "a.png", "b.bin", "b.png"]
    assert sources[1].read_bytes() == before


def test_directory_is_mirrored(run, write_photo, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a.png", "sub/b.JPG", "sub/deep/c.webp", ".hidden/d.png", "sub/.thumb.png"):
        write_photo(photos / name)
    (photos / "notes.txt").write_text("no image")
    result = run("compress", photos, tmp_path / "out", *TINY)
    assert result.exit_code == 0
    assert tree(tmp_path / "out") == ["a.bin", "sub/b.bin", "sub/deep/c.bin"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--include", "*.JPG"], ["sub/b.bin", "thumbs/t.bin"]),
        (["--include", "sub/*"], ["sub/b.bin", "sub/c.bin"]),
        (["--include", "a.*", "--include", "c.*"], ["a.bin", "sub/c.bin"]),
        (["--exclude", "thumbs"], ["a.bin", "sub/b.bin", "sub/c.bin"]),
        (["--exclude", "sub/", "--exclude", "t.jpg"], ["a.bin"]),
        (["--include", "*.jpg", "--exclude", "thumbs/*"], ["sub/b.bin"]),
    ],
)
def test_include_and_exclude(run, write_photo, tmp_path, options, expected):
    for name in ("a.png", "sub/b.jpg", "sub/c.png", "thumbs/t.jpg"):
        write_photo(tmp_path / "photos" / name, 16, 16)
    assert run("compress", tmp_path / "photos", tmp_path / "out", *options, *TINY).exit_code == 0
    assert tree(tmp_path / "out") == expected


def test_stdin_and_stdout(run, write_photo, tmp_path, models_dir, photo):
    source = write_photo(tmp_path / "a.png")
    result = run("compress", "-", *TINY, input=source.read_bytes())
    assert result.exit_code == 0
    assert result.stderr.startswith("- -> -  6144 px")
    assert run("compress", source, "-", *TINY).stdout_bytes == result.stdout_bytes
    out = tmp_path / "b.bin"
    assert run("compress", "-", out, *TINY, input=source.read_bytes()).exit_code == 0
    assert out.read_bytes() == result.stdout_bytes
    assert decoded(out, models_dir).shape == photo().shape


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="no /dev/fd")  # noqa: PTH112
def test_pipe_as_input(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    read, write = os.pipe()
    os.write(write, source.read_bytes()[:60000])
    os.close(write)
    result = run("compress", f"/dev/fd/{read}", tmp_path / "x.bin", "--json", *TINY)
    os.close(read)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["files"][0]["input_bytes"] == source.stat().st_size


def test_no_binary_on_a_terminal(environment, write_photo, tmp_path):
    pty = pytest.importorskip("pty", reason="no pseudo-terminals")
    source = write_photo(tmp_path / "a.png")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "codec_cli", "compress", str(source), "-", *TINY]
    result = subprocess.run(command, stdout=slave, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(slave)
    os.close(master)
    assert result.returncode == 7
    assert b"will not write binary data to a terminal" in result.stderr


def test_device_as_output(run, write_photo, tmp_path):
    assert run("compress", write_photo(tmp_path / "a.png"), os.devnull, *TINY).exit_code == 0


# Options


def test_quality_and_default(run, write_photo, tmp_path, models_dir):
    source = write_photo(tmp_path / "a.png", 128, 128)
    sizes, levels = [], []
    for quality in ("1", "100", None):
        out = tmp_path / f"{quality}.bin"
        assert run("compress", source, out, *(["-q", quality] if quality else []), *TINY).exit_code == 0
        sizes.append(out.stat().st_size)
        levels.append(container.peek(out.read_bytes()).level)
    info = Codec("tiny", models_dir=models_dir).info
    assert sizes[0] < sizes[1]
    assert levels == [0, info.levels - 1, info.level_of_quality(info.default_quality)]


def test_strip(run, write_photo, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    source = write_photo(tmp_path / "a.jpg", exif=exif, icc_profile=b"profile")
    kept, stripped = tmp_path / "kept.bin", tmp_path / "stripped.bin"
    assert run("compress", source, kept, *TINY).exit_code == 0
    assert run("compress", source, stripped, "--strip", *TINY).exit_code == 0
    parts = [container.layout(path.read_bytes(), 1024, 10**6) for path in (kept, stripped)]
    assert {"icc", "exif"} <= set(parts[0])
    assert not {"icc", "exif"} & set(parts[1])


def test_models_dir_option_goes_before_the_variable(run, write_photo, tmp_path, models_dir, monkeypatch):
    source = write_photo(tmp_path / "a.png")
    monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path))
    assert run("compress", source, *TINY).exit_code == 6
    assert run("compress", source, *TINY, "--models-dir", models_dir).exit_code == 0


def test_a_model_folder_as_model(run, write_photo, tmp_path, models_dir):
    source = write_photo(tmp_path / "a.png")
    assert run("compress", source, "--model", models_dir / "tiny-1").exit_code == 0


def test_an_output_named_like_an_image_is_a_mistake(run, write_photo, tmp_path):
    """As people write it who come from cwebp; where both are there, both are inputs."""
    source, target = write_photo(tmp_path / "a.png"), tmp_path / "b.jpg"
    result = run("compress", source, target, *TINY)
    assert result.exit_code == 2
    assert f"{target}: no such file, and an output of `codec compress` is not named like" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    write_photo(target)
    assert run("compress", source, target, *TINY).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.png", "b.bin", "b.jpg"]


def test_quiet_and_verbose(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    quiet = run("compress", source, "--quiet", *TINY)
    assert (quiet.exit_code, quiet.output) == (0, "")
    verbose = run("compress", source, "--verbose", "--force", *TINY)
    assert "model tiny-1 from " in verbose.stdout
    assert "RGB, 96x64, level " in verbose.stdout
    wished = run("compress", source, "--verbose", "--force", *TINY, "--target-psnr", "20")
    assert ", a target\n" in wished.stdout


def test_json(run, write_photo, tmp_path):
    good, bad = write_photo(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"bad")
    result = run("compress", good, bad, "--json", *TINY)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["failed"] == 1
    first, second = report["files"]
    size = (tmp_path / "good.bin").stat().st_size
    assert first == {
        "input": str(good),
        "output": str(tmp_path / "good.bin"),
        "input_bytes": good.stat().st_size,
        "bytes": size,
        "width": 96,
        "height": 64,
        "bpp": round(size * 8 / 6144, 4),
        "ratio": round(good.stat().st_size / size, 3),
        "seconds": first["seconds"],
        "psnr_rgb_db": None,
        "quality": None,
        "warnings": [],
        "error": None,
        "skipped": False,
        "source_deleted": False,
    }
    assert second["error"].startswith(f"{bad}: not an image")
    assert second["bytes"] is None


def test_warnings_name_the_file(run, tmp_path):
    source = tmp_path / "deep.png"
    Image.fromarray(np.full((2, 2), 999, np.uint16)).save(source)
    result = run("compress", source, *TINY)
    assert result.exit_code == 0
    assert f"{source}: warning: 16-bit input reduced to 8 bits" in result.stderr
    assert LINE.match(result.stdout)


def test_warns_when_the_output_is_larger(run, tmp_path):
    source = tmp_path / "flat.png"
    Image.new("L", (200, 200)).save(source)
    source.write_bytes(source.read_bytes())
    noisy = run("compress", source, "--json", "-q", "100", *TINY)
    (file,) = json.loads(noisy.stdout)["files"]
    assert (file["bytes"] > file["input_bytes"]) == (
        "the output is larger than the source" in file["warnings"]
    )
    tiny = tmp_path / "t.pgm"
    tiny.write_bytes(b"P5 1 1 255 x")
    result = run("compress", tiny, *TINY)
    assert result.exit_code == 0
    assert f"{tiny}: warning: the output is larger than the source" in result.stderr


def test_jobs(run, write_photo, tmp_path, models_dir):
    photos = tmp_path / "photos"
    for index in range(4):
        write_photo(photos / f"{index}.png", 64 + index, 32)
    (photos / "bad.png").write_bytes(b"bad")
    result = run("compress", photos, tmp_path / "out", "--jobs", "2", "--json", *TINY)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [(file["width"], file["error"] is None) for file in report["files"]] == [
        *((64 + index, True) for index in range(4)),
        (None, False),
    ]
    alone = tmp_path / "alone.bin"
    assert run("compress", photos / "3.png", alone, *TINY).exit_code == 0
    assert (tmp_path / "out" / "3.bin").read_bytes() == alone.read_bytes()


def on_terminal(command):
    """Runs a command whose standard error is a terminal: what it shows there, and its standard output."""
    fcntl, pty, termios = (
        pytest.importorskip(name, reason="no pseudo-terminals") for name in ("fcntl", "pty", "termios")
    )
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # A bar needs room.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # How a terminal says that no one writes to it any more.
        while chunk := os.read(master, 1 << 16):
            shown += chunk
    os.close(master)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    return shown, output


def test_progress_bar_on_a_terminal_only(environment, write_photo, tmp_path):
    sources = [write_photo(tmp_path / f"{index}.png", 16, 16) for index in range(3)]
    command = [sys.executable, "-m", "codec_cli", "compress", *map(str, sources), "--force", *TINY]
    shown, output = on_terminal(command)
    assert b"0/3" in shown
    assert len(LINE.findall(output)) == 3
    piped = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert b"0/3" not in piped.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no sh")
def test_standard_error_that_is_closed(environment, write_photo, tmp_path):
    sources = [write_photo(tmp_path / f"{index}.png", 16, 16) for index in range(2)]
    command = [sys.executable, "-m", "codec_cli", "compress", *map(str, sources), *TINY]
    script = f"exec {shlex.join(command)} 2>&-"
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0
    assert len(LINE.findall(result.stdout)) == 2


@pytest.mark.parametrize(
    ("options", "bar"),
    [
        pytest.param((), b" 0/150 ", id="quality"),
        pytest.param(("--target-size", "99%"), b"0 gradient steps", id="target", marks=pytest.mark.slow),
        pytest.param(("--quiet",), None, id="quiet", marks=pytest.mark.slow),
    ],
)
def test_refinement_shows_its_steps(environment, write_photo, tmp_path, options, bar):
    pytest.importorskip("tensorflow", reason="refinement needs the train extra")
    source = write_photo(tmp_path / "photo.png", 16, 16)
    command = [sys.executable, "-m", "codec_cli", "compress", str(source), "--effort", "7", *options, *TINY]
    shown, _ = on_terminal(command)
    assert bar in shown if bar else shown == b""


# What goes wrong


def test_one_bad_file_does_not_stop_the_others(run, write_photo, tmp_path):
    photos = tmp_path / "photos"
    write_photo(photos / "a.png")
    (photos / "b.png").write_bytes(b"no image")
    write_photo(photos / "c.png")
    result = run("compress", photos, tmp_path / "out", *TINY)
    assert result.exit_code == 1
    assert tree(tmp_path / "out") == ["a.bin", "c.bin"]
    assert f"codec: {photos / 'b.png'}: not an image" in result.stderr
    assert "codec: 1 of 3 files failed" in result.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"text", "unknown format"), (None, "image file is truncated")],
    ids=["empty", "text", "truncated"],
)
def test_not_an_image(run, write_photo, tmp_path, content, reason):
    source = tmp_path / "a.png"
    source.write_bytes(write_photo(tmp_path / "x.png").read_bytes()[:5000] if content is None else content)
    result = run("compress", source, tmp_path / "a.bin", *TINY)
    assert result.exit_code == 3
    assert error_line(result).startswith(f"codec: {source}: not an image that can be read ({reason}")
    assert not (tmp_path / "a.bin").exists()
    piped = run("compress", "-", *TINY, input=source.read_bytes())
    assert piped.exit_code == 3
    assert error_line(piped).startswith("codec: standard input: not an image")


def test_missing_input(run, tmp_path):
    result = run("compress", tmp_path / "none.png", *TINY)
    assert result.exit_code == 3
    assert error_line(result).endswith("none.png: cannot read: No such file or directory")


def test_name_too_long(run, tmp_path):
    result = run("compress", tmp_path / ("x" * 300), *TINY)
    assert result.exit_code == 3
    assert "File name too long" in error_line(result)


def test_directory_without_images(run, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("compress", tmp_path / "empty", tmp_path / "out", *TINY)
    assert result.exit_code == 3
    assert error_line(result).endswith("empty: no images in this directory")
    assert not (tmp_path / "out").exists()


def test_folders_that_can_not_be_listed_are_not_left_out_in_silence(run, write_photo, tmp_path, monkeypatch):
    for name in ("a.png", "closed/b.png"):
        write_photo(tmp_path / "photos" / name)
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = run("compress", tmp_path / "photos", tmp_path / "out", *TINY)
    assert result.exit_code == 1
    assert f"codec: {tmp_path / 'photos' / 'closed'}: cannot read: " in result.stderr
    assert tree(tmp_path / "out") == ["a.bin"]


def test_existing_output_is_refused_before_the_work(run, tmp_path):
    source, out = tmp_path / "a.png", tmp_path / "a.bin"
    source.write_bytes(b"not even an image")  # Which nobody finds out.
    out.write_bytes(b"precious")
    result = run("compress", source, *TINY)
    assert result.exit_code == 7
    assert error_line(result) == f"codec: {out}: exists; use --force to overwrite"
    assert out.read_bytes() == b"precious"


def test_force(run, write_photo, tmp_path):
    out = tmp_path / "a.bin"
    out.write_bytes(b"old")
    assert run("compress", write_photo(tmp_path / "a.png"), "--force", *TINY).exit_code == 0
    assert out.read_bytes()[:2] == container.MAGIC


def test_existing_outputs_in_a_directory_do_not_stop_the_others(run, write_photo, tmp_path):
    for name in ("a.png", "b.png"):
        write_photo(tmp_path / "photos" / name)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.bin").write_bytes(b"old")
    result = run("compress", tmp_path / "photos", out, *TINY)
    assert result.exit_code == 1
    assert f"{out / 'a.bin'}: exists" in result.stderr
    assert tree(out) == ["a.bin", "b.bin"]


def test_two_inputs_for_one_output(run, write_photo, tmp_path):
    sources = [write_photo(tmp_path / name) for name in ("a.png", "a.jpg", "b.png")]
    result = run("compress", *sources, "-o", tmp_path / "out", *TINY)
    assert result.exit_code == 7
    line = error_line(result)
    assert str(sources[0]) in line
    assert str(sources[1]) in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("link", [False, True])
def test_output_that_is_an_input(run, write_photo, tmp_path, link):
    source = write_photo(tmp_path / "picture", format="PNG")
    out = tmp_path / "picture"
    if link:
        out = tmp_path / "link"
        out.symlink_to(source)
    before = source.read_bytes()
    result = run("compress", source, out, "--force", *TINY)
    assert result.exit_code == 7
    assert "is also an input" in error_line(result)
    assert source.read_bytes() == before


def test_missing_folder_of_the_output(run, write_photo, tmp_path):
    result = run("compress", write_photo(tmp_path / "a.png"), tmp_path / "none" / "x.bin", *TINY)
    assert result.exit_code == 7
    assert "does not exist; create it first" in error_line(result)


def test_output_directory_that_can_not_be_made(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    (tmp_path / "file").write_bytes(b"")
    result = run("compress", source, "-o", tmp_path / "file" / "out", *TINY)
    assert result.exit_code == 7
    assert "cannot make this folder: Not a directory" in error_line(result)


@ROOT_USER
def test_unwritable_place(run, write_photo, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    result = run("compress", write_photo(tmp_path / "a.png"), folder / "a.bin", *TINY)
    assert result.exit_code == 7
    assert "no permission" in error_line(result)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_full_disk(run, spawn, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    result = run("compress", source, "/dev/full", *TINY)
    assert result.exit_code == 7
    assert error_line(result) == "codec: /dev/full: cannot write: No space left on device"
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        piped = spawn("compress", source, "-", *TINY, stdout=full, stderr=subprocess.PIPE)
    assert piped.returncode == 7
    assert b"codec: standard output: cannot write: No space left on device" in piped.stderr


def test_too_many_pixels(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    result = run("compress", source, "--max-pixels", "6143", *TINY)
    assert result.exit_code == 8
    assert "--max-pixels" in error_line(result)
    assert run("compress", source, "--max-pixels", "6144", *TINY).exit_code == 0


def test_unknown_model(run, write_photo, tmp_path):
    sources = [write_photo(tmp_path / f"{name}.png") for name in "ab"]
    result = run("compress", *sources, "--model", "nothing")
    assert result.exit_code == 6
    assert "nothing: no such model" in error_line(result)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["photos"],
        ["photos", "-"],
        ["photos", "a.png"],
        ["a.png", "b", "new"],
        ["a.png", "b", "-"],
        ["-", "a.png", "-o", "out"],
        ["-", "out/"],
        ["a.png", "-o", "b"],
        ["a.png", "-q", "0"],
        ["a.png", "-q", "101"],
        ["a.png", "--jobs", "-1"],
        ["a.png", "--threads", "0"],
        ["a.png", "-", "--json"],
        ["a.png", "--unknown"],
    ],
    ids=" ".join,
)
def test_wrong_usage(run, write_photo, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/x.png", "a.png", "b.png"):
        write_photo(tmp_path / name, 16, 16)
    (tmp_path / "b.png").rename("b")
    result = run("compress", *arguments, *TINY)
    assert result.exit_code == 2
    assert "Usage: codec compress" in result.stderr
    assert not list(tmp_path.rglob("*.bin"))


def test_no_traceback_from_what_nobody_expected(run, write_photo, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("something\nodd")

    monkeypatch.setattr(Codec, "encode_picture", fail)
    source = write_photo(tmp_path / "a.png")
    result = run("compress", source, *TINY)
    assert result.exit_code == 1
    assert error_line(result).startswith(f"codec: {source}: internal error: RuntimeError: something odd (")
    monkeypatch.setenv("CODEC_DEBUG", "1")
    with pytest.raises(RuntimeError):
        run("compress", source, *TINY)


def test_a_name_can_not_steer_the_terminal(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a\n\x1b[31m.png")
    result = run("compress", source, *TINY)
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1"])
def test_kinds_of_images(run, write_photo, tmp_path, models_dir, mode):
    source = write_photo(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), 33, 17, mode)
    assert run("compress", source, *TINY).exit_code == 0
    expected = load_picture(source, "x", 10**6)
    shape = decoded(tmp_path / "a.bin", models_dir).shape
    assert shape == (17, 33, expected.pixels.shape[2] + (expected.alpha is not None))


@pytest.fixture
def source(write_photo, tmp_path):
    return write_photo(tmp_path / "in.png", 192, 192)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--target-size", "4KB"),
        ("--target-size", "60%"),
        ("--target-bpp", "0.9"),
        ("--target-psnr", "20"),
        ("--target-ms-ssim", "0.9"),
    ],
)
def test_targets(run, source, tmp_path, option, value):
    target = tmp_path / "out.bin"
    result = run("compress", *TINY, source, target, option, value)
    assert result.exit_code == 0, result.output
    bytes_, again = target.stat().st_size, codec_of(CONTEXT).decode(target.read_bytes())
    pixels = np.asarray(Image.open(source))
    reached = {
        "4KB": bytes_ <= 4000,
        "60%": bytes_ <= 0.6 * source.stat().st_size,
        "0.9": ms_ssim(pixels, again) >= 0.9 if "ssim" in option else bytes_ * 8 <= 0.9 * 192**2,
        "20": psnr(pixels, again) >= 20,
    }
    assert reached[value]
    level = container.peek(target.read_bytes()).level
    assert result.stdout.endswith(f" s  quality {info_of(CONTEXT).quality_of_level(level)}\n")


def test_target_excludes_quality(run, source, tmp_path):
    result = run("compress", *TINY, source, tmp_path / "out.bin", "--target-size", "4KB", "-q", "10")
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("option", "value"), [("--target-psnr", "nan"), ("--target-psnr", "inf"), ("--target-bpp", "inf")]
)
def test_target_that_is_no_number(run, source, tmp_path, option, value):
    result = run("compress", *TINY, source, tmp_path / "out.bin", option, value)
    assert result.exit_code == 2
    assert f"{option}: {value} is not a number to reach" in result.stderr.replace("'", "")
    assert not (tmp_path / "out.bin").exists()


@pytest.mark.parametrize("size", ["four", "0%", "0", "0KB"])
def test_target_that_is_no_size(run, source, tmp_path, size):
    result = run("compress", *TINY, source, tmp_path / "out.bin", "--target-size", size)
    assert result.exit_code == 2
    assert "is not a size" in result.output


def test_target_out_of_reach(run, source, tmp_path):
    result = run("compress", *TINY, source, tmp_path / "out.bin", "--target-size", "10")
    assert result.exit_code == 10
    assert not (tmp_path / "out.bin").exists()


# --verify


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_verify_tells_the_psnr_of_the_written_file(run, write_photo, tmp_path, models_dir, mode):
    source = write_photo(tmp_path / "a.png", 96, 64, mode)
    result = run("compress", source, "--verify", *TINY)
    assert result.exit_code == 0
    line, reported = re.fullmatch(r"(.*)  ([\d.]+) dB\n", result.stdout).groups()
    assert LINE.match(line)
    pixels = load_picture(source, "x", 10**6).pixels
    expected = psnr(pixels, decoded(tmp_path / "a.bin", models_dir)[:, :, : pixels.shape[2]])
    assert float(reported) == round(expected, 1)
    plain = (tmp_path / "a.bin").read_bytes()
    assert run("compress", source, "--force", *TINY).exit_code == 0
    assert (tmp_path / "a.bin").read_bytes() == plain
    again = run("compress", source, "--force", "--verify", "--json", *TINY)
    assert json.loads(again.stdout)["files"][0]["psnr_rgb_db"] == round(expected, 4)


def test_verify_and_verbose(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    result = run("compress", source, "--verify", "--verbose", "-q", "1", *TINY)
    assert re.search(
        r"^  RGB, 96x64, level 0 of .*; verified: [\d.]+ dB, model's card: 31.71 dB$", result.stdout, re.M
    )


def test_verify_with_metadata(run, write_photo, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    source = write_photo(tmp_path / "a.jpg", exif=exif, icc_profile=b"profile")
    assert run("compress", source, "--verify", *TINY).exit_code == 0
    assert run("compress", source, "--verify", "--strip", "--force", *TINY).exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--target-bpp", "0.9"],
        ["--target-psnr", "20"],
        ["--effort", "1"],
        ["--jobs", "2"],
        ["--threads", "1"],
    ],
    ids=" ".join,
)
def test_verify_with_other_options(run, write_photo, tmp_path, options):
    photos = tmp_path / "photos"
    for index in range(2):
        write_photo(photos / f"{index}.png", 192, 64 + index)
    result = run("compress", photos, tmp_path / "out", "--verify", "--json", *options, *TINY)
    assert result.exit_code == 0
    files = json.loads(result.stdout)["files"]
    assert all(20 < file["psnr_rgb_db"] < 40 for file in files)
    assert [file["warnings"] for file in files] == [[], []]


def test_verify_in_a_pipe(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    plain = run("compress", "-", *TINY, input=source.read_bytes())
    result = run("compress", "-", "--verify", *TINY, input=source.read_bytes())
    assert result.stdout_bytes == plain.stdout_bytes
    assert re.fullmatch(r"- -> -  .* s  [\d.]+ dB\n", result.stderr)


@pytest.fixture
def unusual(tmp_path):
    """What no photograph looks like: a checkerboard of single pixels."""
    path = tmp_path / "checkerboard.png"
    board = np.indices((256, 256)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).convert("RGB").save(path)
    return path


def test_verify_warns_of_unusual_content(run, unusual):
    result = run("compress", unusual, "--verify", "-q", "90", *TINY)
    assert result.exit_code == 0
    assert re.search(
        r"checkerboard.png: warning: [\d.]+ dB, the model's card promises about 34 dB at this quality: "
        r"unusual content; a PNG is exact at [\d.]+ times the size$",
        result.stderr,
        re.M,
    )
    quiet = run("compress", unusual, "--verify", "--force", "--quiet", *TINY)
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert "promises" not in run("compress", unusual, "--force", *TINY).output


def test_verify_leaves_metadata_out_of_the_comparison(run, unusual, tmp_path):
    with Image.open(unusual) as image:
        image.save(tmp_path / "heavy.png", icc_profile=np.random.default_rng(1).bytes(30000))
    texts = []
    for source in (unusual, tmp_path / "heavy.png"):
        result = run("compress", source, "--verify", "--json", "-q", "90", *TINY)
        texts.append([text for text in json.loads(result.stdout)["files"][0]["warnings"] if "dB" in text])
    assert texts[0] == texts[1] != []


def test_verify_with_a_card_without_figures(run, unusual, write_photo, tmp_path):
    folder = copy_model(tmp_path / "mine-1")
    rewrite(folder, facts={"validation": ...})
    arguments = ("--verify", "--verbose", "--model", folder)
    result = run("compress", write_photo(tmp_path / "a.png"), *arguments)
    assert result.exit_code == 0
    assert "; verified: " in result.stdout
    assert result.stdout.splitlines()[-1].endswith(" dB, model's card: no figure")
    assert not result.stderr
    # That another format does better needs no card.
    assert re.search(
        r"warning: [\d.]+ dB: unusual content; a PNG", run("compress", unusual, *arguments).stderr
    )


def failing_decoders():
    def broken(kind):
        def decode(codec, data, **_):
            picture = Codec.whole(codec, data)
            pixels, alpha = picture.pixels, picture.alpha
            return {
                "size": Picture(pixels[:-1], alpha[:-1], picture.icc),
                "mode": Picture(pixels[:, :, :1], alpha, picture.icc),
                "alpha": Picture(pixels, 255 - alpha, picture.icc),
                "no alpha": Picture(pixels, None, picture.icc),
                "icc": Picture(pixels, alpha, b"other"),
                "exif": Picture(pixels, alpha, picture.icc, b"II*\0"),
            }[kind]

        return decode

    reasons = {
        "size": "it decodes to 96x63 RGB, not 96x64 RGB",
        "mode": "it decodes to 96x64 gray, not 96x64 RGB",
        "alpha": "the alpha plane differs",
        "no alpha": "the alpha plane differs",
        "icc": "ICC differs",
        "exif": "EXIF differs",
    }
    return [pytest.param(broken(kind), reason, id=kind) for kind, reason in reasons.items()]


@pytest.mark.parametrize(("decode", "reason"), failing_decoders())
def test_failed_verification_writes_nothing(run, write_photo, tmp_path, monkeypatch, decode, reason):
    monkeypatch.setattr(Codec, "whole", Codec.decode_picture, raising=False)
    monkeypatch.setattr(Codec, "decode_picture", decode)
    source = write_photo(tmp_path / "a.png", mode="RGBA", icc_profile=b"profile")
    result = run("compress", source, "--verify", *TINY)
    assert result.exit_code == 4
    assert error_line(result) == f"codec: {source}: verification failed: {reason}; nothing was written"
    assert tree(tmp_path) == ["a.png"]


def test_verification_finds_bytes_that_do_not_decode(run, write_photo, tmp_path, monkeypatch):
    encode = Codec.encode_picture
    monkeypatch.setattr(Codec, "encode_picture", lambda *args, **options: encode(*args, **options)[:-9])
    source, old = write_photo(tmp_path / "a.png"), tmp_path / "a.bin"
    old.write_bytes(b"precious")
    result = run("compress", source, "--verify", "--force", *TINY)
    assert result.exit_code == 4
    assert error_line(result).startswith(
        f"codec: {source}: verification failed: it does not decode (damaged: "
    )
    assert old.read_bytes() == b"precious"
    piped = run("compress", source, "-", "--verify", *TINY)
    assert (piped.exit_code, piped.stdout_bytes) == (4, b"")
    several = run("compress", source, write_photo(tmp_path / "b.png"), f"{tmp_path}/out/", "--verify", *TINY)
    assert several.exit_code == 1
    assert not (tmp_path / "out" / "a.bin").exists()


def test_verification_survives_any_failure_of_decoding(run, write_photo, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise IndexError("odd")

    monkeypatch.setattr(Codec, "decode_picture", fail)
    result = run("compress", write_photo(tmp_path / "a.png"), "--verify", *TINY)
    assert result.exit_code == 4
    assert "it does not decode (IndexError: odd); nothing was written" in error_line(result)
