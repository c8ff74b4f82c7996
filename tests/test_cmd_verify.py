"""``codec verify``: whole files pass, damaged ones fail by name, PSNR against originals."""

import json
import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import needs_pipes, needs_vips
from helpers import CONTEXT, GOLDEN, MODELS, codec_of, texture
from make_golden import GOLDEN_ARCHIVES
from PIL import Image

from codec_cli.codec import Codec
from codec_cli.decoding import TileDecoder
from codec_cli.evaluation.metrics import psnr
from codec_cli.integrity import check
from codec_cli.main import cli
from codec_cli.pictures import images, rows
from codec_cli.pictures.images import Picture
from codec_cli.pictures.rows import MIN_PIXELS

LIMIT = 1 << 28


def run(*arguments, code=0, input=None):
    result = CliRunner().invoke(
        cli, ["verify", "--models-dir", str(MODELS), *map(str, arguments)], input=input
    )
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path):
    """Pictures in ``pictures`` and ``pictures/more``, compressed in ``packed``."""
    for name, size in (("one", (20, 30)), ("more/two", (33, 17))):
        pixels = texture(*size)
        for place, suffix in (("pictures", "png"), ("packed", "bin")):
            (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
            path = tmp_path / place / f"{name}.{suffix}"
            if suffix == "png":
                Image.fromarray(pixels).save(path)
            else:
                path.write_bytes(codec_of(CONTEXT).encode(pixels, 60))
    return tmp_path


def damage(path, at=-9):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


class TestWhole:
    def test_one(self, folder):
        result = run(folder / "packed" / "one.bin")
        assert result.stdout == f"{folder / 'packed' / 'one.bin'}: whole  30x20  {CONTEXT} level 4\n"

    def test_standard_input(self, folder, monkeypatch):
        data = (folder / "packed" / "one.bin").read_bytes()
        assert run("-", input=data).stdout == f"-: whole  30x20  {CONTEXT} level 4\n"
        result = run("-", "--against", folder / "pictures" / "one.png", "-j", "2", input=data)
        assert result.stdout.endswith(" dB\n")
        assert "damaged" in run("-", input=data[:-1], code=4).output
        # Files and directories of that name are no streams, and a stream is none of them.
        monkeypatch.chdir(folder)
        assert "-: cannot read: No such file" in run("./-", input=data, code=4).output
        (folder / "-").mkdir()
        assert run("-", input=data).stdout == f"-: whole  30x20  {CONTEXT} level 4\n"
        for more in (["-"], [folder], ["--against", folder / "pictures"]):
            assert "standard input" in run("-", *more, code=2).output
        monkeypatch.setattr("codec_cli.commands._verbs.size_limit", lambda _: len(data) - 1)
        assert (
            f"codec: -: larger than the limit of {len(data) - 1} bytes" in run("-", input=data, code=8).output
        )

    def test_all_golden_files_and_archives(self):
        for decode in ([], ["--decode"]):
            result = run(GOLDEN, GOLDEN_ARCHIVES, *decode)
            files = len(list(GOLDEN.glob("*.bin"))) + len(list(GOLDEN_ARCHIVES.glob("*.pack")))
            assert result.stdout.splitlines()[-1] == f"{files} of {files} files are whole"
            assert "12 images of 28x28" in result.stdout

    def test_jobs(self, folder):
        assert run(folder / "packed", "-j", "2").stdout == run(folder / "packed").stdout

    def test_quiet(self, folder):
        assert run(folder / "packed", "--quiet").output == ""


class TestDamaged:
    @pytest.mark.parametrize("decode", [[], ["--decode"]])
    def test_one(self, folder, decode):
        path = folder / "packed" / "one.bin"
        damage(path)
        result = run(path, *decode, code=4)
        assert result.stdout == ""
        assert result.stderr == (
            f"codec: {path}: damaged: checksum does not match (the file is truncated or was changed)\n"
        )

    def test_one_of_several(self, folder):
        path = folder / "packed" / "more" / "two.bin"
        damage(path)
        result = run(folder / "packed", code=1)
        assert "one.bin: whole" in result.stdout
        assert result.stderr.startswith(f"codec: {path}: damaged")
        assert result.stderr.endswith("1 of 2 files are whole\n")

    def test_what_only_decoding_finds(self, folder):
        """A proper container around a segment that no encoder makes."""
        from codec_cli.bitstream import container

        path = folder / "packed" / "one.bin"
        parsed = container.parse(path.read_bytes(), 1024, LIMIT)
        bad = container.Container(parsed.header, parsed.metadata, (parsed.tiles[0] + b"\x01",))
        path.write_bytes(container.serialize(bad, 1024))
        run(path)
        assert "damaged" in run(path, "--decode", code=4).stderr

    def test_archive(self, folder):
        path = folder / "a.pack"
        shutil.copy(GOLDEN_ARCHIVES / "factorized-digits.pack", path)
        run(path)
        damage(path)
        assert "archive" in run(path, code=4).stderr

    def test_unknown_model(self, folder, monkeypatch):
        monkeypatch.delenv("CODEC_MODELS_DIR", raising=False)
        result = CliRunner().invoke(cli, ["verify", str(folder / "packed" / "one.bin")])
        assert result.exit_code == 6
        assert "one.bin" in result.stderr

    def test_not_ours(self, folder):
        run(folder / "pictures" / "one.png", code=4)
        run(folder / "missing.bin", code=4)
        assert "no compressed files" in run(folder / "pictures", code=4).stderr

    @needs_pipes
    def test_pipe_in_a_folder(self, folder):
        """It is not waited for."""
        pipe = folder / "packed" / "more" / "pipe.bin"
        os.mkfifo(pipe)
        result = run(folder / "packed", code=1)
        assert f"codec: {pipe}: cannot read: not a regular file\n" in result.stderr
        assert result.stderr.endswith("2 of 3 files are whole\n")

    def test_too_large(self, folder):
        run(folder / "packed" / "one.bin", "--max-pixels", 599, code=8)
        run(folder / "packed" / "one.bin", "--max-pixels", 600)


class TestAgainst:
    def test_folder(self, folder):
        result = run(folder / "packed", "--against", folder / "pictures", "--json")
        found = json.loads(result.stdout)
        assert found["failed"] == 0
        by_name = {facts["file"].rpartition("/")[2]: facts for facts in found["files"]}
        source = texture(20, 30)
        decoded = codec_of(CONTEXT).decode((folder / "packed" / "one.bin").read_bytes())
        assert by_name["one.bin"]["psnr_rgb_db"] == pytest.approx(psnr(source, decoded), abs=1e-4)
        assert by_name["two.bin"]["identical"] is False

    def test_image(self, folder):
        result = run(folder / "packed" / "one.bin", "--against", folder / "pictures" / "one.png")
        assert result.stdout.endswith(" dB\n")

    def test_equal(self, folder):
        path = folder / "packed" / "one.bin"
        original = folder / "same.png"
        Image.fromarray(codec_of(CONTEXT).decode(path.read_bytes())).save(original)
        assert run(path, "--against", original).stdout.endswith("exact\n")
        facts = json.loads(run(path, "--against", original, "--json").stdout)["files"][0]
        assert (facts["identical"], facts["psnr_rgb_db"]) == (True, None)

    @pytest.fixture
    def transparent(self, tmp_path):
        """A file with alpha, and what it decodes to: uint8 (height, width, 4)."""
        path = tmp_path / "clear.bin"
        source = Picture(texture(20, 30), texture(20, 30, 1)[:, :, 0])
        path.write_bytes(codec_of(CONTEXT).encode_picture(source, 60))
        return path, codec_of(CONTEXT).decode(path.read_bytes())

    # By rows too, as are originals of many pixels.
    @pytest.mark.parametrize("least", [MIN_PIXELS, pytest.param(1, marks=needs_vips)])
    def test_alpha(self, transparent, tmp_path, monkeypatch, least):
        monkeypatch.setattr(rows, "MIN_PIXELS", least)
        path, pixels = transparent
        original = tmp_path / "clear.png"
        Image.fromarray(pixels).save(original)
        facts = json.loads(run(path, "--against", original, "--json").stdout)["files"][0]
        assert (facts["alpha_equal"], facts["identical"]) == (True, True)
        pixels[-1, -1, 3] ^= 1
        Image.fromarray(pixels).save(original)
        result = run(path, "--against", original, "--json", code=4)
        assert result.stderr == f"codec: {path}: the alpha plane differs\n"
        facts = json.loads(result.stdout)["files"][0]
        assert (facts["alpha_equal"], facts["identical"]) == (False, False)

    @pytest.mark.parametrize("least", [MIN_PIXELS, pytest.param(1, marks=needs_vips)])
    def test_alpha_of_one_alone(self, folder, transparent, tmp_path, monkeypatch, least):
        """Opaque alpha counts, too: it was not in the original."""
        monkeypatch.setattr(rows, "MIN_PIXELS", least)
        path, pixels = transparent
        original = tmp_path / "clear.png"
        Image.fromarray(pixels[:, :, :3]).save(original)
        assert "the alpha plane differs" in run(path, "--against", original, code=4).stderr
        pixels[:, :, 3] = 255
        Image.fromarray(pixels).save(original)
        packed = folder / "packed" / "one.bin"
        assert "the alpha plane differs" in run(packed, "--against", original, code=4).stderr

    def test_large_originals_by_rows(self, folder, monkeypatch):
        """The same figure, and neither image as a whole."""
        path, original = folder / "packed" / "one.bin", folder / "one.ppm"
        Image.fromarray(texture(20, 30)).save(original)
        whole = run(path, "--against", original).stdout
        assert " dB\n" in whole
        monkeypatch.setattr(rows, "MIN_PIXELS", 600)
        monkeypatch.setattr(images, "load_picture", None)
        monkeypatch.setattr(TileDecoder, "pixels", None)
        assert run(path, "--against", original).stdout == whole

    def test_min_psnr(self, folder):
        both = (folder / "packed" / "one.bin", "--against", folder / "pictures" / "one.png", "--min-psnr")
        run(*both, 5)
        assert "below --min-psnr 90" in run(*both, 90, code=11).stderr
        run(both[0], "--min-psnr", 5, code=2)

    def test_min_psnr_of_several(self, folder):
        """What is too bad can be told from what is damaged."""
        both = (folder / "packed", "--against", folder / "pictures", "--min-psnr", 90)
        count = len(list((folder / "packed").iterdir()))
        assert f"{count} of {count} files are whole, {count} below" in run(*both, code=11).stderr
        (folder / "packed" / "one.bin").write_bytes(b"")
        message = run(*both, code=1).stderr
        assert f"{count - 1} of {count} files are whole, {count - 1} below --min-psnr 90" in message

    def test_other_size(self, folder):
        other = folder / "other.png"
        Image.fromarray(np.zeros((20, 31), np.uint8)).save(other)
        message = run(folder / "packed" / "one.bin", "--against", other, code=4).stderr
        assert f"it decodes to 30x20 RGB, but {other} is 31x20 gray" in message

    def test_missing_and_ambiguous(self, folder):
        (folder / "pictures" / "one.png").rename(folder / "pictures" / "uno.png")
        message = run(folder / "packed", "--against", folder / "pictures", code=1).stderr
        assert "no original one.*" in message
        for suffix in ("png", "bmp"):
            Image.fromarray(texture(20, 30)).save(folder / "pictures" / f"one.{suffix}")
        assert (
            "several originals: one.bmp, one.png"
            in run(folder / "packed", "--against", folder / "pictures", code=1).stderr
        )
        assert "no such image" in run(folder / "packed", "--against", folder / "nothing", code=1).stderr
        run(folder / "packed", "--against", folder / "pictures" / "uno.png", code=2)

    @needs_pipes
    def test_original_is_a_pipe(self, folder):
        original = folder / "pictures" / "one.png"
        original.unlink()
        os.mkfifo(original)
        message = run(folder / "packed", "--against", folder / "pictures", code=1).stderr
        assert f"{original}: cannot read: not a regular file" in message

    def test_archive(self, folder):
        archive = GOLDEN_ARCHIVES / "factorized-digits.pack"
        message = run(archive, "--against", folder / "pictures" / "one.png", code=4).stderr
        assert "unpack it first" in message


def test_library():
    data = (GOLDEN / "context-rgba.bin").read_bytes()
    checked = check(Codec(CONTEXT, models_dir=MODELS), data, decode=True, max_pixels=LIMIT)
    assert (checked.width, checked.height, checked.images, checked.model) == (31, 43, None, CONTEXT)
