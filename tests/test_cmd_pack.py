"""codec pack: what goes into an archive, in which order, and everything that is refused."""

import json
import os

import numpy as np
import pytest
from conftest import error_line, needs_pipes
from helpers import FACTORIZED, codec_of, copy_model, rewrite
from PIL import Image

from codec_cli.bitstream import archive
from codec_cli.commands.decompress import FORMATS
from codec_cli.packing import Unpacker, pack_arrays, unpack_arrays

MODEL = ("--model", "tiny-factorized")


@pytest.fixture
def digits(tmp_path):
    """Four small gray pictures, which differ, in a folder."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for name, level in (("nine", 9), ("one", 50), ("two", 130), ("zero", 240)):
        pixels = np.full((28, 28), level, np.uint8)
        pixels[4:20, 8:12] = 255 - level
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def read(path):
    """The names of an archive, and its images uint8 (n, height, width, channels)."""
    data = path.read_bytes()
    return list(Unpacker(data, codec_of(FACTORIZED)).names), unpack_arrays(data, codec_of(FACTORIZED))


def pixels_of(*paths):
    return np.stack([np.asarray(Image.open(path)) for path in paths])


class TestWhatGoesIn:
    def test_a_directory(self, run, digits, tmp_path):
        target = tmp_path / "d.pack"
        result = run("pack", digits, target, *MODEL, "-q", "100")
        assert result.exit_code == 0
        assert result.stderr == ""
        names, images = read(target)
        assert names == ["nine", "one", "two", "zero"]
        assert images.shape == (4, 28, 28, 1)
        sources = pixels_of(*sorted(digits.iterdir()))
        # As the arrays would be packed, with the default effort.
        assert target.read_bytes() == pack_arrays(codec_of(FACTORIZED), sources, 6, names=names)
        size = target.stat().st_size
        line = (
            f"{target}  4 images of 28x28 gray  {size} B, {size / 4:.1f} B an image  {size * 2 / 784:.2f} bpp"
        )
        assert result.stdout.startswith(line)

    def test_files_and_directories_in_the_order_given(self, run, digits, tmp_path):
        (digits / "below").mkdir()
        (digits / "two.png").rename(digits / "below" / "two.png")
        (digits / "notes.txt").write_text("no image")
        target = tmp_path / "d.pack"
        assert (
            run("pack", digits / "zero.png", digits / "below", digits / "one.png", target, *MODEL).exit_code
            == 0
        )
        assert read(target)[0] == ["zero", "two", "one"]
        assert run("pack", digits, target, *MODEL, "--force").exit_code == 0
        assert read(target)[0] == ["nine", "one", "zero", "two"]

    def test_no_names(self, run, digits, tmp_path):
        named, plain = tmp_path / "named.pack", tmp_path / "plain.pack"
        assert run("pack", digits, named, *MODEL).exit_code == 0
        assert run("pack", digits, plain, *MODEL, "--no-names").exit_code == 0
        assert archive.parse(plain.read_bytes(), 1024, 1 << 20).names is None
        assert np.array_equal(read(named)[1], read(plain)[1])
        parts = archive.layout(named.read_bytes(), 1024, 1 << 20)[1]
        assert len(named.read_bytes()) - len(plain.read_bytes()) == parts["names"]

    def test_colour(self, run, write_photo, tmp_path):
        for name in ("a.png", "b.jpg"):
            write_photo(tmp_path / "in" / name)
        target = tmp_path / "d.pack"
        result = run("pack", tmp_path / "in", target, "--model", "tiny", "--effort", "1", "--threads", "1")
        assert "2 images of 96x64 RGB" in result.stdout
        assert unpack_arrays(target.read_bytes(), codec_of("tiny-1")).shape == (2, 64, 96, 3)

    def test_quality_and_effort(self, run, digits, tmp_path):
        sizes = []
        for number, arguments in enumerate((("-q", "1"), ("-q", "100"), ())):
            target = tmp_path / f"{number}.pack"
            assert run("pack", digits, target, *MODEL, *arguments).exit_code == 0
            sizes.append((archive.peek(target.read_bytes())[0].level, target.stat().st_size))
        assert [level for level, _ in sizes] == [0, 6, codec_of(FACTORIZED).level_of(None)]
        assert sizes[0][1] < sizes[1][1]

    def test_smaller_than_files(self, run, digits, tmp_path):
        assert run("compress", digits, tmp_path / "files", *MODEL).exit_code == 0
        assert run("pack", digits, tmp_path / "d.pack", *MODEL, "--no-names").exit_code == 0
        files = sum(path.stat().st_size for path in (tmp_path / "files").iterdir())
        # A file has 16 bytes beside its segment, an archive 15 and one for each image.
        assert (tmp_path / "d.pack").stat().st_size == files - 4 * 16 + 16 + 4

    def test_a_fresh_process(self, spawn, digits):
        result = spawn("pack", digits, "d.pack", *MODEL)
        assert result.returncode == 0, result.stderr


class TestWhatIsSaid:
    def test_json(self, run, digits, tmp_path):
        target = tmp_path / "d.pack"
        facts = json.loads(run("pack", digits, target, *MODEL, "--json").stdout)
        data = target.read_bytes()
        assert facts.pop("seconds") >= 0
        assert facts == {
            "archive": str(target),
            "images": 4,
            "width": 28,
            "height": 28,
            "mode": "gray",
            "model": FACTORIZED,
            "level": archive.peek(data)[0].level,
            "bytes": len(data),
            "bytes_per_image": round(len(data) / 4, 4),
            "bpp": round(len(data) * 2 / 784, 4),
            "parts": archive.layout(data, 1024, 1 << 20)[1],
            "warnings": [],
        }

    def test_quiet(self, run, digits, tmp_path):
        with Image.open(digits / "one.png") as image:
            image.save(digits / "one.png", icc_profile=b"x" * 200)
        assert run("pack", digits, tmp_path / "d.pack", *MODEL, "--quiet").output == ""

    def test_metadata_is_dropped_with_one_warning(self, run, write_photo, tmp_path):
        tags = Image.Exif()
        tags[0x010F] = "a camera"
        for name in "abc":
            write_photo(tmp_path / "in" / f"{name}.png", exif=tags)
        write_photo(tmp_path / "in" / "d.png", icc_profile=b"\0" * 16 + b"RGB " + b"\0" * 200)
        target = tmp_path / "d.pack"
        result = run("pack", tmp_path / "in", target, *MODEL)
        assert result.exit_code == 0
        first = tmp_path / "in" / "a.png"
        lines = [f"{first}: warning: EXIF not kept: archives hold pixels only (3 images)"]
        assert result.stderr.splitlines()[: len(lines)] == lines
        assert "ICC profile not kept" in result.stderr
        facts = json.loads(run("pack", tmp_path / "in", target, *MODEL, "--json", "--force").stdout)
        assert facts["warnings"][0] == lines[0]

    def test_other_losses(self, run, tmp_path):
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "a.png")
        result = run("pack", tmp_path / "a.png", tmp_path / "d.pack", *MODEL)
        assert result.stderr == f"{tmp_path / 'a.png'}: warning: 16-bit input reduced to 8 bits\n"


class TestRefused:
    def refused(self, run, tmp_path, code, *arguments):
        result = run("pack", *arguments, *MODEL)
        assert result.exit_code == code
        assert result.stdout == ""
        assert not list(tmp_path.glob("*.pack"))
        return error_line(result)

    def test_another_size(self, run, digits, tmp_path):
        Image.new("L", (28, 27)).save(digits / "one.png")
        Image.new("L", (9, 9)).save(digits / "two.png")
        line = self.refused(run, tmp_path, 3, digits, tmp_path / "d.pack")
        assert line == (
            f"codec: {digits / 'one.png'}: is 28x27 gray, the first image 28x28 gray; "
            "an archive holds images of one size and mode"
        )

    def test_another_mode(self, run, digits, tmp_path):
        Image.new("RGB", (28, 28)).save(digits / "two.png")
        line = self.refused(run, tmp_path, 3, digits, tmp_path / "d.pack")
        assert f"{digits / 'two.png'}: is 28x28 RGB, the first image 28x28 gray" in line

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_alpha(self, run, digits, tmp_path, mode):
        Image.new(mode, (28, 28)).save(digits / "two.png")
        line = self.refused(run, tmp_path, 3, digits, tmp_path / "d.pack")
        assert (
            line
            == f"codec: {digits / 'two.png'}: has alpha, which archives do not hold; use `codec compress`"
        )

    def test_two_of_one_name(self, run, digits, tmp_path):
        Image.new("L", (28, 28)).save(digits / "two.bmp")
        line = self.refused(run, tmp_path, 3, digits, tmp_path / "d.pack")
        assert "the name 'two' comes twice" in line
        assert "--no-names" in line
        assert run("pack", digits, tmp_path / "d.pack", *MODEL, "--no-names").exit_code == 0

    def test_existing_archive(self, run, digits, tmp_path):
        target = tmp_path / "d.bin"
        target.write_bytes(b"precious")
        (digits / "one.png").write_bytes(b"damaged, but that is not even looked at")
        result = run("pack", digits, target, *MODEL)
        assert (result.exit_code, error_line(result)) == (
            7, f"codec: {target}: exists; use --force to overwrite"
        )  # fmt: skip
        assert run("pack", digits, target, *MODEL, "--force").exit_code == 3  # And now it is.
        assert target.read_bytes() == b"precious"
        (digits / "one.png").unlink()
        assert run("pack", digits, target, *MODEL, "--force").exit_code == 0
        assert archive.is_archive(target.read_bytes())

    def test_places_that_cannot_be_written(self, run, digits, tmp_path):
        assert "does not exist; create it first" in self.refused(
            run, tmp_path, 7, digits, tmp_path / "no" / "d.x"
        )
        assert "is a folder" in self.refused(run, tmp_path, 7, digits / "one.png", digits)

    def test_images_that_cannot_be_read(self, run, digits, tmp_path):
        target = tmp_path / "d.pack"
        missing = digits / "three.png"
        line = self.refused(run, tmp_path, 3, digits, missing, target)
        assert line == f"codec: {missing}: cannot read: No such file or directory"
        (digits / "one.png").write_bytes(b"no image")
        assert f"{digits / 'one.png'}: not an image" in self.refused(run, tmp_path, 3, digits, target)
        (tmp_path / "empty").mkdir()
        assert "no images in this directory" in self.refused(run, tmp_path, 3, tmp_path / "empty", target)

    @needs_pipes
    def test_a_pipe_in_a_directory(self, run, digits, tmp_path):
        """It is not waited for."""
        os.mkfifo(digits / "pipe.png")
        line = self.refused(run, tmp_path, 3, digits, tmp_path / "d.pack")
        assert line == f"codec: {digits / 'pipe.png'}: cannot read: not a regular file"

    def test_too_many_pixels(self, run, digits, tmp_path):
        limit = ("--max-pixels", 4 * 784 - 1)
        line = self.refused(run, tmp_path, 8, digits, tmp_path / "d.pack", *limit)
        assert f"{digits / 'nine.png'}: 4 images of 28x28 are above the limit of 3135 pixels" in line
        assert "--max-pixels" in line
        assert run("pack", digits, tmp_path / "d.pack", *MODEL, "--max-pixels", 4 * 784).exit_code == 0

    def test_unknown_model(self, run, digits, tmp_path):
        result = run("pack", digits, tmp_path / "d.pack", "--model", "none")
        assert result.exit_code == 6
        assert "no such model" in error_line(result)

    def test_a_model_of_another_size(self, run, digits, tmp_path):
        rewrite(copy_model(tmp_path / "small-1", FACTORIZED), facts={"size": 32})
        result = run("pack", digits, tmp_path / "d.pack", "--model", tmp_path / "small-1")
        assert result.exit_code == 3
        assert error_line(result).startswith(
            f"codec: {digits / 'nine.png'}: the model small-1 codes images of 32x32"
        )

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_forgotten_archive(self, run, digits, suffix):
        """The last of `codec pack *.png` is no archive, whatever --force says, and whatever Pillow reads."""
        kept = digits / f"zzz.{suffix}"
        kept.write_bytes(b"precious")
        assert run("pack", digits / "one.png", kept, "--force", *MODEL).exit_code == 2
        assert kept.read_bytes() == b"precious"

    def test_an_archive_that_is_an_input(self, run, digits):
        plain = (digits / "one.png").rename(digits / "plain")
        before = plain.read_bytes()
        result = run("pack", plain, plain, "--force", *MODEL)
        assert result.exit_code == 2
        assert "is also an input" in result.stderr
        assert plain.read_bytes() == before

    @pytest.mark.parametrize("arguments", [[], ["x.pack"], ["-", "x.pack"], ["x", "-"]])
    def test_arguments(self, run, arguments):
        result = run("pack", *arguments)
        assert result.exit_code == 2
        assert "Usage: codec pack" in result.stderr
