"""codec unpack: images out of archives, all or one; and archives met by the other commands."""

import json
import zlib

import numpy as np
import pytest
from conftest import error_line
from helpers import FACTORIZED, codec_of, resealed, texture
from PIL import Image

from codec_cli.bitstream import archive
from codec_cli.packing import Unpacker, pack_arrays, unpack_arrays

NAMES = ["sky", "sea", "1", "b.2"]


@pytest.fixture
def images():
    return np.stack([texture(20, 30, seed=seed) for seed in range(4)])


@pytest.fixture
def packed(images, tmp_path):
    """An archive with names."""
    path = tmp_path / "a.pack"
    path.write_bytes(pack_arrays(codec_of(FACTORIZED), images, 4, names=NAMES))
    return path


@pytest.fixture
def numbered(images, tmp_path):
    """An archive without names, of gray images."""
    path = tmp_path / "n.pack"
    path.write_bytes(pack_arrays(codec_of(FACTORIZED), images[..., :1], 4))
    return path


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def same(path, pixels):
    with Image.open(path) as image:
        return np.array_equal(np.asarray(image), pixels.squeeze())


class TestAll:
    def test_with_names(self, run, packed, tmp_path):
        out = tmp_path / "new" / "out"
        result = run("unpack", packed, out)
        assert result.exit_code == 0
        assert result.stderr == ""
        size = packed.stat().st_size
        assert result.stdout.startswith(f"{packed} -> {out}  4 images of 30x20 RGB  {size} B  ")
        assert files(out) == sorted(f"{name}.png" for name in NAMES)
        decoded = unpack_arrays(packed.read_bytes(), codec_of(FACTORIZED))
        assert all(same(out / f"{name}.png", pixels) for name, pixels in zip(NAMES, decoded, strict=True))

    def test_without_names(self, run, numbered, tmp_path):
        assert run("unpack", numbered, tmp_path / "out").exit_code == 0
        assert files(tmp_path / "out") == [f"0000{i}.png" for i in range(4)]
        with Image.open(tmp_path / "out" / "00000.png") as image:
            assert image.mode == "L"

    @pytest.mark.parametrize("suffix", ["webp", "BMP", "jpg"])
    def test_formats(self, run, packed, tmp_path, suffix):
        assert run("unpack", packed, tmp_path / "out", "--format", suffix).exit_code == 0
        assert files(tmp_path / "out") == sorted(f"{name}.{suffix.lower()}" for name in NAMES)

    def test_from_images_and_back(self, run, write_photo, tmp_path):
        for name in ("b.png", "a.jpg"):
            write_photo(tmp_path / "in" / name)
        assert run("pack", tmp_path / "in", tmp_path / "x.pack", "--model", "tiny").exit_code == 0
        assert run("unpack", tmp_path / "x.pack", tmp_path / "out").exit_code == 0
        assert files(tmp_path / "out") == ["a.png", "b.png"]
        assert (
            run("compress", tmp_path / "in" / "b.png", tmp_path / "b.bin", "--model", "tiny").exit_code == 0
        )
        assert run("decompress", tmp_path / "b.bin", tmp_path / "again.png").exit_code == 0
        with Image.open(tmp_path / "again.png") as image:
            assert same(tmp_path / "out" / "b.png", np.asarray(image))

    def test_json_and_quiet(self, run, packed, tmp_path):
        out = tmp_path / "out"
        facts = json.loads(run("unpack", packed, out, "--json").stdout)
        assert facts.pop("seconds") >= 0
        assert facts == {
            "archive": str(packed),
            "bytes": packed.stat().st_size,
            "images": 4,
            "width": 30,
            "height": 20,
            "mode": "RGB",
            "model": FACTORIZED,
            "level": 4,
            "files": [
                {
                    "name": name,
                    "index": index,
                    "output": str(out / f"{name}.png"),
                    "bytes": (out / f"{name}.png").stat().st_size,
                }
                for index, name in enumerate(NAMES)
            ],
        }
        assert run("unpack", packed, out, "--force", "--quiet").output == ""

    def test_a_fresh_process(self, spawn, packed, tmp_path):
        result = spawn("unpack", packed, "out", "--threads", "1")
        assert result.returncode == 0, result.stderr
        assert len(files(tmp_path / "out")) == 4


class TestOnly:
    @pytest.mark.parametrize(
        ("wanted", "index"), [("sea", 1), ("sea.jpg", 1), ("0", 0), ("1", 2), ("3", 3), ("b.2", 3)]
    )
    def test_one(self, run, packed, tmp_path, wanted, index):
        result = run("unpack", packed, tmp_path / "out", "--only", wanted)
        assert "1 of 4 images" in result.stdout
        assert files(tmp_path / "out") == [f"{NAMES[index]}.png"]
        pixels = Unpacker(packed.read_bytes(), codec_of(FACTORIZED))[index]
        assert same(tmp_path / "out" / f"{NAMES[index]}.png", pixels)

    def test_numbers(self, run, numbered, tmp_path):
        for wanted in ("2", "00002", "00002.png"):
            assert run("unpack", numbered, tmp_path / wanted, "--only", wanted).exit_code == 0
            assert files(tmp_path / wanted) == ["00002.png"]

    def test_several(self, run, packed, tmp_path):
        facts = json.loads(
            run(
                "unpack", packed, tmp_path / "out", "--only", "3", "--only", "sky", "--only", "0", "--json"
            ).stdout
        )
        assert [file["index"] for file in facts["files"]] == [3, 0]

    def test_nothing_else_is_decoded(self, run, packed, tmp_path):
        parsed = archive.parse(packed.read_bytes(), 1024, 1 << 20)
        broken = archive.Archive(parsed.header, parsed.names, ((b"\xff\xff",), *parsed.images[1:]))
        packed.write_bytes(archive.serialize(broken, 1024))
        assert run("unpack", packed, tmp_path / "out", "--only", "sea").exit_code == 0
        result = run("unpack", packed, tmp_path / "none")
        assert result.exit_code == 4
        assert error_line(result).startswith(f"codec: {packed}: image sky: damaged: ")
        assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize("wanted", ["4", "-1", "nothing", "../sky"])
    def test_what_is_not_there(self, run, packed, tmp_path, wanted):
        result = run("unpack", packed, tmp_path / "out", f"--only={wanted}")
        if wanted == "../sky":  # Without folder and suffix.
            assert files(tmp_path / "out") == ["sky.png"]
            return
        assert result.exit_code == 1
        assert error_line(result).startswith(f"codec: {packed}: no image {wanted}; the archive has 4")
        assert not (tmp_path / "out").exists()


class TestRefused:
    def test_existing_files_before_any_work(self, run, packed, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "b.2.png").write_bytes(b"precious")
        result = run("unpack", packed, out)
        assert result.exit_code == 7
        assert error_line(result) == f"codec: {out / 'b.2.png'}: exists; use --force to overwrite"
        assert files(out) == ["b.2.png"]
        assert run("unpack", packed, out, "--only", "sky").exit_code == 0
        assert run("unpack", packed, out, "--force").exit_code == 0
        assert (out / "b.2.png").read_bytes() != b"precious"

    def test_a_file_in_place_of_the_directory(self, run, packed, tmp_path):
        (tmp_path / "out").write_bytes(b"precious")
        for out in (tmp_path / "out", tmp_path / "out" / "below"):
            result = run("unpack", packed, out, "--force")
            assert result.exit_code == 7
            error_line(result)
        assert (tmp_path / "out").read_bytes() == b"precious"

    @pytest.mark.parametrize("content", [b"", b"\xc0\xda", b"hello, I am a text", b"\x89PNG\r\n" * 9])
    def test_not_an_archive(self, run, tmp_path, content):
        path = tmp_path / "x.pack"
        path.write_bytes(content)
        result = run("unpack", path, tmp_path / "out")
        assert result.exit_code == 4
        assert error_line(result).startswith(f"codec: {path}: not a codec archive")
        assert not (tmp_path / "out").exists()

    def test_large_files_of_others_are_not_read_whole(self, run, tmp_path):
        path = tmp_path / "x.pack"
        with path.open("wb") as file:
            file.truncate(1 << 40)
        result = run("unpack", path, tmp_path / "out")
        assert (result.exit_code, "wrong magic bytes" in error_line(result)) == (4, True)

    def test_an_archive_beyond_all_limits_is_not_read_whole(self, run, packed, tmp_path):
        with packed.open("ab") as file:
            file.truncate(1 << 40)
        result = run("unpack", packed, tmp_path / "out")
        assert result.exit_code == 8
        assert "larger than the limit" in error_line(result)

    def test_damage(self, run, packed, tmp_path):
        data = packed.read_bytes()
        for change in (data[:-1], data + b"\0", data[:50] + bytes([data[50] ^ 1]) + data[51:]):
            packed.write_bytes(change)
            result = run("unpack", packed, tmp_path / "out")
            assert result.exit_code == 4
            assert error_line(result).startswith(f"codec: {packed}: damaged: checksum does not match")

    def test_version_model_pixels(self, run, packed, tmp_path):
        data, out = packed.read_bytes(), tmp_path / "out"
        result = run("unpack", packed, out, "--max-pixels", 4 * 600 - 1)
        assert result.exit_code == 8
        assert "--max-pixels" in error_line(result)
        packed.write_bytes(resealed(data[:3] + b"\xde\xad\xbe\xef" + data[7:]))
        result = run("unpack", packed, out)
        assert result.exit_code == 6
        assert "deadbeef" in error_line(result)
        packed.write_bytes(resealed(data[:2] + b"\2" + data[3:]))
        assert run("unpack", packed, out).exit_code == 5
        assert not out.exists()
        assert run("unpack", tmp_path / "missing", out).exit_code == 4

    def test_names_never_leave_the_directory(self, run, packed, tmp_path):
        """Whoever wrote the archive: `tests/test_archive.py` has the names that are refused."""
        data = packed.read_bytes()
        for bad in (b"../sky", b"/sky", b"..", b"a\\b"):
            stream = zlib.compress(b"\0".join([bad, b"sea", b"1", b"b.2"]))
            kept = archive.layout(data, 1024, 1 << 20)[1]
            start = kept["header"]
            hostile = data[:start] + bytes([len(stream)]) + stream + data[start + kept["names"] :]
            packed.write_bytes(resealed(hostile))
            result = run("unpack", packed, tmp_path / "out")
            assert result.exit_code == 4
            assert "is no possible name" in error_line(result)
        assert files(tmp_path) == ["a.pack"]

    def test_a_format_that_does_not_fit(self, run, packed, tmp_path):
        result = run("unpack", packed, tmp_path / "out", "--format", "pgm")
        assert result.exit_code == 7
        assert ".pgm cannot hold colour" in error_line(result)

    def test_one_image_in_a_file(self, run, compressed, tmp_path):
        result = run("unpack", compressed, tmp_path / "out")
        assert result.exit_code == 4
        assert error_line(result).endswith("but a file of one image; use `codec decompress`")


class TestOtherCommands:
    def test_decompress_names_unpack(self, run, packed, tmp_path):
        message = "an archive of several images; use `codec unpack`"
        result = run("decompress", packed, tmp_path / "x.png")
        assert (result.exit_code, error_line(result)) == (4, f"codec: {packed}: {message}")
        result = run("decompress", "-", input=packed.read_bytes())
        assert error_line(result) == f"codec: standard input: {message}"
        with packed.open("ab") as file:
            file.truncate(2 << 20)
        assert message in error_line(run("decompress", packed, tmp_path / "x.png"))
        assert not (tmp_path / "x.png").exists()

    def test_info(self, run, packed, numbered):
        result = run("info", packed)
        assert result.exit_code == 0
        each = packed.stat().st_size / 4
        assert f"  archive   4 images of 30x20 RGB, {each:.1f} B each\n" in result.stdout
        assert "  names     sky, sea, 1, b.2\n" in result.stdout
        for text in ("tiny-factorized-1 (fingerprint ", "names 2", "lengths 4, payload ", "checksum  ok"):
            assert text in result.stdout
        report = json.loads(run("info", packed, numbered, "--json").stdout)
        first, second = report["files"]
        data = packed.read_bytes()
        assert report["failed"] == 0
        assert first["parts"] == archive.layout(data, 1024, 1 << 20)[1]
        assert (first["images"], first["names"], first["crc_ok"]) == (4, NAMES, True)
        assert first["bpp"] == round(len(data) * 8 / 2400, 4)
        assert first["bytes_per_image"] == round(each, 4)
        assert (second["images"], second["names"], second["mode"]) == (4, None, "gray")
        assert json.loads(run("info", "-", "--json", input=data).stdout)["files"][0]["images"] == 4

    def test_info_shows_the_first_names(self, run, tmp_path):
        path = tmp_path / "many.pack"
        names = [f"name{i}" for i in range(9)]
        path.write_bytes(pack_arrays(codec_of(FACTORIZED), np.zeros((9, 4, 4), np.uint8), 0, names=names))
        assert "  names     name0, name1, name2, name3, name4, ...\n" in run("info", path).stdout

    def test_info_of_damaged_archives(self, run, packed):
        packed.write_bytes(packed.read_bytes()[:-9])
        result = run("info", packed)
        assert result.exit_code == 4
        assert "checksum does not match" in error_line(result)
        assert "4 images of 30x20" in result.stdout
        assert "DOES NOT MATCH" in result.stdout

    def test_info_without_the_model(self, run, packed, monkeypatch, tmp_path):
        (tmp_path / "none").mkdir()
        monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path / "none"))
        result = run("info", packed)
        assert result.exit_code == 0
        assert "unknown model, fingerprint " in result.stdout

    def test_info_needs_neither_pillow_nor_litert(self, environment, packed):
        from test_cli import modules_after

        assert not modules_after("info", packed) & {"PIL", "ai_edge_litert", "constriction"}
        for verb in ("pack", "unpack"):
            heavy = {"numpy", "PIL", "ai_edge_litert", "constriction", "tensorflow", "tqdm"}
            assert not modules_after(verb, "--help") & heavy
