"""codec info: everything about a file without decoding it."""

import io
import json
import os
import subprocess
import sys
import threading

import pytest
from conftest import error_line, needs_pipes
from PIL import Image

from codec_cli.bitstream import container
from codec_cli.zoo import Zoo


class Endless(io.RawIOBase):
    """A stream that goes on with zeros for ever, and counts what it gave."""

    def __init__(self, start):
        self.start, self.given = start, 0

    def readable(self):
        return True

    def read(self, size=-1):
        assert size >= 0, "all of it was wanted"
        data = self.start[self.given : self.given + size].ljust(size, b"\0")
        self.given += size
        return data


def facts(run, *arguments, code=0, **options):
    result = run("info", "--json", *arguments, **options)
    assert result.exit_code == code
    return json.loads(result.stdout)


def test_facts(run, compressed, models_dir):
    report = facts(run, compressed)
    (file,) = report["files"]
    data = compressed.read_bytes()
    info = Zoo(models_dir).info("tiny")
    level = container.peek(data).level
    assert report["failed"] == 0
    assert file == {
        "file": str(compressed),
        "bytes": len(data),
        "width": 96,
        "height": 64,
        "mode": "RGB",
        "model": "tiny-1",
        "fingerprint": info.fingerprint.hex(),
        "level": level,
        "levels": info.levels,
        "quality": info.quality_of_level(level),
        "bpp": round(len(data) * 8 / 6144, 4),
        "format_version": 1,
        "parts": container.layout(data, info.tile_pixels, 10**6),
        "crc_ok": True,
        "error": None,
    }
    assert sum(size for name, size in file["parts"].items() if name != "total") == len(data)


def test_text(run, compressed):
    result = run("info", compressed)
    assert result.exit_code == 0
    for text in ("96x64 RGB", "tiny-1 (fingerprint ", " bpp", "header ", "payload ", "checksum  ok"):
        assert text in result.stdout


def test_the_quality_gives_the_same_level_again(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png", 32, 32)
    for quality in (1, 33, 50, 100):
        again = tmp_path / "again.bin"
        assert run("compress", source, "-q", quality, "--model", "tiny", "--force").exit_code == 0
        (file,) = facts(run, tmp_path / "a.bin")["files"]
        assert (
            run("compress", source, again, "-q", file["quality"], "--model", "tiny", "--force").exit_code == 0
        )
        assert again.read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_metadata_and_mode(run, tmp_path):
    source = tmp_path / "a.png"
    Image.new("LA", (40, 30), (9, 99)).save(source, icc_profile=b"x" * 200)
    assert run("compress", source, "--model", "tiny").exit_code == 0
    (file,) = facts(run, tmp_path / "a.bin")["files"]
    assert file["mode"] == "gray + alpha"
    assert {"icc", "alpha"} <= set(file["parts"])


def test_unknown_model(run, compressed, monkeypatch, tmp_path):
    monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path))
    result = run("info", compressed)
    assert result.exit_code == 0
    assert "unknown model, fingerprint " in result.stdout
    (file,) = facts(run, compressed)["files"]
    assert (file["model"], file["quality"], file["crc_ok"]) == (None, None, True)
    assert file["parts"]["total"] == compressed.stat().st_size


def test_damaged_file_still_tells_what_it_was(run, compressed):
    compressed.write_bytes(compressed.read_bytes()[:-9])
    result = run("info", compressed)
    assert result.exit_code == 4
    assert "checksum does not match" in error_line(result)
    assert "96x64" in result.stdout
    assert "DOES NOT MATCH" in result.stdout
    report = facts(run, compressed, code=4)
    assert report["failed"] == 1
    assert report["files"][0]["crc_ok"] is False


def test_several_files(run, compressed, tmp_path):
    other = tmp_path / "other.bin"
    other.write_bytes(b"not one of ours at all")
    result = run("info", compressed, other)
    assert result.exit_code == 1
    assert "96x64" in result.stdout
    assert error_line(result) == f"codec: {other}: not a codec file (wrong magic bytes)"
    report = facts(run, compressed, other, code=1)
    assert report["files"][1]["error"].startswith(f"{other}: not a codec file")


def test_stdin(run, compressed):
    (file,) = facts(run, "-", input=compressed.read_bytes())["files"]
    assert file["file"] == "-"
    assert file["bytes"] == compressed.stat().st_size


def test_stdin_without_end(run, compressed, monkeypatch):
    """No more than the limit is read, and of what is none of ours hardly anything."""
    data = compressed.read_bytes()
    monkeypatch.setattr("codec_cli.commands._verbs.size_limit", lambda _: len(data))
    assert run("info", "-", input=data).exit_code == 0
    endless = Endless(data)
    result = run("info", "-", input=endless)
    assert result.exit_code == 8
    assert error_line(result).startswith(f"codec: -: larger than the limit of {len(data)} bytes")
    assert endless.given == len(data) + 1
    endless = Endless(b"")
    assert run("info", "-", input=endless).exit_code == 4
    assert endless.given < 100


@pytest.mark.skipif(os.name == "nt", reason="Windows has no sh")
@pytest.mark.parametrize("verb", ["info", "verify"])
def test_stdin_that_is_closed(verb, environment):
    script = f'exec "{sys.executable}" -m codec_cli {verb} - <&-'
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1
    assert error_line(result) == "codec: -: there is no standard input"


@needs_pipes
def test_pipe_without_end(run, compressed, tmp_path, monkeypatch):
    data = compressed.read_bytes()
    monkeypatch.setattr("codec_cli.commands._verbs.size_limit", lambda _: len(data) - 1)
    assert run("info", compressed).exit_code == 0  # What is on a disk has an end.
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    result = run("info", pipe)
    writer.join()
    assert result.exit_code == 8
    assert "larger than the limit" in error_line(result)


@pytest.mark.parametrize(
    ("name", "reason"), [("none.bin", "No such file or directory"), (".", "Is a directory")]
)
def test_unreadable(run, tmp_path, name, reason):
    result = run("info", tmp_path / name)
    assert result.exit_code == 4
    assert error_line(result).endswith(f"cannot read: {reason}")
