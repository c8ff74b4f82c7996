"""codec decompress: files, directories, streams, formats, and everything that can go wrong."""

import json
import shutil
import zlib

import numpy as np
import pytest
from conftest import error_line
from PIL import Image

from codec_cli.bitstream import container
from codec_cli.codec import Codec
from codec_cli.commands.decompress import FORMATS
from codec_cli.pictures.images import OUTPUT_SUFFIXES


def sealed(data):
    """A file with its checksum made right."""
    body = bytes(data[: -container.CRC_SIZE])
    return body + zlib.crc32(body).to_bytes(container.CRC_SIZE, "little")


@pytest.fixture
def pixels(compressed, models_dir):
    """What the compressed file holds."""
    return Codec(models_dir=models_dir).decode(compressed.read_bytes())


def read(path):
    with Image.open(path) as image:
        return image.format, np.asarray(image)


# Where the output goes, and in which format


def test_one_file_goes_beside_the_input(run, compressed, pixels):
    result = run("decompress", compressed)
    assert result.exit_code == 0
    assert "photo.bin -> " in result.stdout
    assert "6144 px" in result.stdout
    kind, decoded = read(compressed.with_suffix(".png"))
    assert kind == "PNG"
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.png", "PNG"), ("x.JPG", "JPEG"), ("x.webp", "WEBP"), ("x.tiff", "TIFF"), ("x", "PNG")],
)
def test_format_by_suffix(run, compressed, tmp_path, pixels, name, kind):
    assert run("decompress", compressed, tmp_path / name).exit_code == 0
    found, decoded = read(tmp_path / name)
    assert found == kind
    if kind == "JPEG":
        assert np.abs(decoded.astype(int) - pixels).mean() < 3
    else:
        assert np.array_equal(decoded, pixels)


def test_format_option(run, compressed, tmp_path):
    assert run("decompress", compressed, "--format", "webp").exit_code == 0
    assert read(compressed.with_suffix(".webp"))[0] == "WEBP"
    assert run("decompress", compressed, tmp_path / "strange.xyz", "--format", "bmp").exit_code == 0
    assert read(tmp_path / "strange.xyz")[0] == "BMP"


@pytest.mark.parametrize("suffix", OUTPUT_SUFFIXES)
def test_every_format(run, compressed, tmp_path, suffix):
    if suffix == ".avif" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow has no AVIF")
    result = run("decompress", compressed, tmp_path / f"x{suffix}")
    assert result.exit_code == (7 if suffix == ".pgm" else 0)  # A gray format, a picture in colour.


def test_formats_are_those_that_can_be_written():
    assert tuple(f".{name}" for name in FORMATS) == OUTPUT_SUFFIXES


def test_directory_is_mirrored(run, compressed, tmp_path):
    files = tmp_path / "files"
    for name in ("a.bin", "sub/b.bin", "sub/c.dat"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(compressed, files / name)
    out = tmp_path / "out"
    result = run("decompress", files, out, "--format", "jpg")
    assert result.exit_code == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == ["a.jpg", "sub/b.jpg"]
    assert result.stdout.splitlines()[-1].startswith("2 files  ")
    assert run("decompress", files, out, "--include", "*.dat").exit_code == 0
    assert (out / "sub" / "c.png").is_file()


def test_two_compressed_files_are_two_inputs(run, compressed):
    other = compressed.with_name("other.bin")
    shutil.copy(compressed, other)
    assert run("decompress", compressed, other).exit_code == 0
    assert compressed.with_suffix(".png").read_bytes() == other.with_suffix(".png").read_bytes()


def test_stdin_and_stdout(run, compressed, tmp_path, pixels):
    result = run("decompress", "-", input=compressed.read_bytes())
    assert result.exit_code == 0
    assert result.stdout_bytes.startswith(b"\x89PNG")
    assert result.stderr.startswith("- -> -  6144 px")
    assert run("decompress", compressed, "-", "--format", "bmp").stdout_bytes.startswith(b"BM")
    assert run("decompress", "-", tmp_path / "x.png", input=compressed.read_bytes()).exit_code == 0
    assert np.array_equal(read(tmp_path / "x.png")[1], pixels)


def test_the_model_is_found_by_fingerprint(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    assert run("compress", source, "--model", "tiny-factorized").exit_code == 0
    assert run("decompress", tmp_path / "a.bin", tmp_path / "b.png").exit_code == 0


def test_json_quiet_verbose(run, compressed):
    out = compressed.with_suffix(".png")
    report = json.loads(run("decompress", compressed, "--json").stdout)
    (file,) = report["files"]
    assert report["failed"] == 0
    assert (file["input"], file["output"]) == (str(compressed), str(out))
    assert (file["width"], file["height"]) == (96, 64)
    assert file["bytes"] == out.stat().st_size
    assert file["bpp"] == round(compressed.stat().st_size * 8 / 6144, 4)
    assert file["ratio"] == round(out.stat().st_size / compressed.stat().st_size, 3)
    assert run("decompress", compressed, "--quiet", "--force").output == ""
    assert "RGB, 96x64, level " in run("decompress", compressed, "--verbose", "--force").stdout


def test_jobs(run, compressed, tmp_path):
    for name in "abc":
        shutil.copy(compressed, compressed.with_name(f"{name}.bin"))
    result = run("decompress", compressed.parent, tmp_path / "out", "--jobs", "2")
    assert result.exit_code == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_a_fresh_process(spawn, compressed, tmp_path):
    result = spawn("decompress", compressed, "x.png")
    assert result.returncode == 0, result.stderr
    assert read(tmp_path / "x.png")[1].shape == (64, 96, 3)


# What goes wrong


@pytest.mark.parametrize("content", [b"", b"\xc0", b"hello, I am a text", b"\x89PNG\r\n" * 9])
def test_not_a_compressed_file(run, tmp_path, content):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    result = run("decompress", path)
    assert result.exit_code == 4
    assert error_line(result).startswith(f"codec: {path}: not a codec file")
    assert not (tmp_path / "a.png").exists()
    piped = run("decompress", "-", input=content)
    assert piped.exit_code == 4
    assert error_line(piped).startswith("codec: standard input: not a codec file")


def test_large_files_of_others_are_not_read_whole(run, tmp_path):
    path = tmp_path / "a.bin"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # Takes no room, but could not be read.
    result = run("decompress", path)
    assert result.exit_code == 4
    assert "wrong magic bytes" in error_line(result)


def test_truncated_and_changed_files(run, compressed, tmp_path):
    data = compressed.read_bytes()
    broken = tmp_path / "broken.bin"
    for change in (
        data[:-1],
        data[: len(data) // 2],
        data + b"\0",
        data[:50] + bytes([data[50] ^ 1]) + data[51:],
    ):
        broken.write_bytes(change)
        result = run("decompress", broken)
        assert result.exit_code == 4
        assert error_line(result).startswith(f"codec: {broken}: damaged: checksum does not match")
        assert not broken.with_suffix(".png").exists()


def test_a_later_version(run, compressed, tmp_path):
    data = bytearray(compressed.read_bytes())
    data[2] = 3
    path = tmp_path / "later.bin"
    path.write_bytes(sealed(data))
    result = run("decompress", path)
    assert result.exit_code == 5
    assert "later version" in error_line(result)


def test_an_unknown_model(run, compressed, tmp_path):
    data = bytearray(compressed.read_bytes())
    data[3:7] = b"\xde\xad\xbe\xef"
    path = tmp_path / "foreign.bin"
    path.write_bytes(sealed(data))
    result = run("decompress", path)
    assert result.exit_code == 6
    line = error_line(result)
    assert line.startswith(f"codec: {path}: ")
    assert "deadbeef" in line
    assert "codec models add" in line


def test_too_many_pixels(run, compressed):
    result = run("decompress", compressed, "--max-pixels", "6143")
    assert result.exit_code == 8
    assert "--max-pixels" in error_line(result)
    assert run("decompress", compressed, "--max-pixels", "6144").exit_code == 0


def test_existing_output_is_refused_before_the_work(run, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"not even ours")
    (tmp_path / "a.png").write_bytes(b"precious")
    result = run("decompress", tmp_path / "a.bin")
    assert result.exit_code == 7
    assert error_line(result) == f"codec: {tmp_path / 'a.png'}: exists; use --force to overwrite"


def test_unknown_suffix_is_refused_before_the_work(run, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"not even ours")
    result = run("decompress", tmp_path / "a.bin", tmp_path / "a.xyz")
    assert result.exit_code == 7
    assert "unknown image suffix .xyz" in error_line(result)


def test_alpha_does_not_fit_jpeg(run, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    with Image.open(source) as image:
        image.putalpha(image.convert("L"))
        image.save(source)
    assert run("compress", source, "--model", "tiny").exit_code == 0
    result = run("decompress", tmp_path / "a.bin", tmp_path / "b.jpg")
    assert result.exit_code == 7
    assert "cannot hold alpha" in error_line(result)
    assert not (tmp_path / "b.jpg").exists()


def test_missing_input_and_empty_directory(run, tmp_path):
    assert run("decompress", tmp_path / "none.bin").exit_code == 4
    (tmp_path / "empty").mkdir()
    result = run("decompress", tmp_path / "empty", tmp_path / "out")
    assert result.exit_code == 4
    assert error_line(result).endswith("empty: no compressed files (*.bin) in this directory")


def test_one_bad_file_does_not_stop_the_others(run, compressed, tmp_path):
    compressed.with_name("bad.bin").write_bytes(b"bad")
    result = run("decompress", compressed.parent, tmp_path / "out")
    assert result.exit_code == 1
    assert "1 of 2 files failed" in result.stderr
    assert (tmp_path / "out" / "photo.png").is_file()
    assert not (tmp_path / "out" / "bad.png").exists()


# Damaged files


@pytest.fixture
def wide(run, write_photo, tmp_path):
    """A file of two tiles, and what it holds."""
    source = write_photo(tmp_path / "wide.png", 1040, 20)
    assert run("compress", source, "--model", "tiny").exit_code == 0
    assert run("decompress", tmp_path / "wide.bin", tmp_path / "wide-before.png").exit_code == 0
    return tmp_path / "wide.bin", read(tmp_path / "wide-before.png")[1]


def test_salvage(run, wide, tmp_path):
    path, before = wide
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # In the second tile.
    path.write_bytes(data)
    result = run("decompress", path, tmp_path / "saved.png")
    assert result.exit_code == 4
    assert not (tmp_path / "saved.png").exists()
    result = run("decompress", path, tmp_path / "saved.png", "--salvage")
    assert result.exit_code == 12
    assert result.stderr.splitlines() == [
        f"{path}: warning: 1 of 2 tiles saved, the others are gray",
        f"{path}: warning: lost: columns 1024 to 1039 of rows 0 to 19",
        f"{path}: warning: pixels within 48 rows and columns of a lost tile may differ from those of the "
        "whole file",
    ]
    saved = read(tmp_path / "saved.png")[1]
    assert (saved[:, 1024:] == 128).all()
    assert (saved[:, : 1024 - 48] == before[:, : 1024 - 48]).all()


def test_salvage_of_whole_files_and_of_nothing(run, wide, tmp_path):
    path, before = wide
    result = run("decompress", path, tmp_path / "saved.png", "--salvage")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (read(tmp_path / "saved.png")[1] == before).all()
    path.write_bytes(path.read_bytes()[:40])
    result = run("decompress", path, tmp_path / "nothing.png", "--salvage")
    assert result.exit_code == 4
    assert error_line(result)
    assert not (tmp_path / "nothing.png").exists()


def test_salvage_in_a_directory(run, wide, tmp_path):
    """Each file's losses are told; some lost, so 1 as for other troubles; JSON has them too."""
    path, _ = wide
    folder = tmp_path / "packed"
    folder.mkdir()
    shutil.copy(path, folder / "whole.bin")
    data = path.read_bytes()
    (folder / "hurt.bin").write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    result = run("decompress", folder, tmp_path / "out", "--salvage", "--json")
    assert result.exit_code == 1
    found = {facts["input"].rpartition("/")[2]: facts for facts in json.loads(result.stdout)["files"]}
    assert found["whole.bin"]["warnings"] == []
    assert "1 of 2 tiles saved" in found["hurt.bin"]["warnings"][0]
    assert (tmp_path / "out" / "hurt.png").is_file()


def test_salvage_stands_alone(run, wide, tmp_path):
    path, _ = wide
    assert run("decompress", path, tmp_path / "x.png", "--salvage", "--region", "0,0,1,1").exit_code == 2
    assert run("decompress", path, tmp_path / "x.png", "--salvage", "--delete-source").exit_code == 2
