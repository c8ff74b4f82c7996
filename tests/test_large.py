"""Large images: by rows, the same files and the same pixels as with everything in memory."""

import math

import numpy as np
import pytest
from conftest import error_line, needs_vips
from helpers import CONTEXT, KINDS, MANY_PIXELS, MODELS, ROOT, codec_of, texture
from PIL import Image

from codec_cli import streaming, verification
from codec_cli.bitstream import container
from codec_cli.codec import Codec
from codec_cli.errors import FormatError, TargetError
from codec_cli.evaluation import metrics
from codec_cli.evaluation.by_rows import MultiScale
from codec_cli.pictures import rows
from codec_cli.pictures.alpha import decode_alpha
from codec_cli.pictures.images import load_picture
from codec_cli.pictures.rows import open_rows
from codec_cli.streaming import RowFile, ms_ssim_by_rows, psnr_by_rows
from codec_cli.target import MS_SSIM, PSNR, SIZE, Target, encode_to

SIZES = [(80, 2100), (2100, 50), (1045, 1061)]  # Several tiles, and odd edges.


def write(path, pixels, **options):
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, **options)
    return path


def both(path):
    """The same picture read by rows, and at once."""
    by_rows = open_rows(path, "name", MANY_PIXELS, min_pixels=0)
    assert by_rows is not None
    return by_rows, load_picture(path, "name", MANY_PIXELS)


def parsed(data):
    return codec_of(CONTEXT).open(data)


@pytest.fixture
def all_large(monkeypatch):
    """Every image counts as large."""
    monkeypatch.setattr(rows, "MIN_PIXELS", 1)


@needs_vips
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KINDS)
class TestSameAsInMemory:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_file(self, name, size, channels, tmp_path):
        by_rows, picture = both(write(tmp_path / "x.png", texture(*size, channels)))
        codec = codec_of(name)
        data = codec.encode_picture(by_rows, 70)
        assert data == codec.encode_picture(picture, 70)
        decoded = np.concatenate(list(RowFile(codec, codec.open(data), "name").bands()))
        assert np.array_equal(decoded, codec.decode(data))

    def test_alpha(self, name, size, tmp_path):
        """Equal planes, though not equal PNGs of them."""
        codec, pixels = codec_of(name), texture(*size, 4)
        by_rows, picture = both(write(tmp_path / "x.png", pixels))
        data, expected = (codec.encode_picture(given, 30) for given in (by_rows, picture))
        assert codec.open(data).tiles == codec.open(expected).tiles
        assert np.array_equal(codec.decode(data), codec.decode(expected))
        decoded = np.concatenate(list(RowFile(codec, codec.open(data), "name").bands(alpha=True)))
        assert np.array_equal(decoded, codec.decode(data))

    def test_opaque(self, name, size, tmp_path):
        pixels = texture(*size, 4)
        pixels[:, :, 3] = 255
        by_rows, picture = both(write(tmp_path / "x.png", pixels))
        codec = codec_of(name)
        data = codec.encode_picture(by_rows, 30)
        assert data == codec.encode_picture(picture, 30)
        file = RowFile(codec, codec.open(data), "name")
        assert file.alpha
        assert not file.transparent()
        assert np.array_equal(np.concatenate(list(file.bands(alpha=True))), codec.decode(data))


@needs_vips
class TestMeasuring:
    @pytest.mark.parametrize(("size", "channels"), [((399, 500), 3), ((1301, 201), 1), ((177, 1030), 3)])
    def test_equals_the_metrics(self, tmp_path, size, channels):
        by_rows, picture = both(write(tmp_path / "x.png", texture(*size, channels)))
        codec = codec_of(CONTEXT)
        data = codec.encode_picture(picture, 50)
        decoded = codec.decode(data)
        assert psnr_by_rows(codec, by_rows, parsed(data)) == pytest.approx(
            metrics.psnr(picture.pixels, decoded), abs=1e-9
        )
        assert ms_ssim_by_rows(codec, by_rows, parsed(data)) == pytest.approx(
            metrics.ms_ssim(picture.pixels, decoded), abs=1e-6
        )

    @pytest.mark.parametrize("step", [1, 2, 7, 16, 300])
    def test_ms_ssim_of_any_bands(self, step):
        a = texture(233, 191)
        b = np.clip(a + np.random.default_rng(0).normal(0, 20, a.shape), 0, 255).astype(np.uint8)
        for one, other in ((a, b), (a, a), (a, 255 - a)):
            measured = MultiScale(a.shape)
            for top in range(0, len(a), step):
                measured.add(one[top : top + step], other[top : top + step])
            assert measured.finish() == pytest.approx(metrics.ms_ssim(one, other), abs=1e-6)

    def test_too_small_for_ms_ssim(self):
        with pytest.raises(metrics.NotDefined):
            MultiScale((175, 900, 3))

    def test_verify(self, tmp_path):
        codec = codec_of(CONTEXT)
        by_rows, picture = both(write(tmp_path / "x.png", texture(200, 1100, 4)))
        data = codec.encode_picture(by_rows, 50)
        found = verification.verify(codec, by_rows, data, MANY_PIXELS)
        assert found == pytest.approx(verification.verify(codec, picture, data, MANY_PIXELS), abs=1e-9)

    def test_verify_refuses(self, tmp_path):
        codec, pixels = codec_of(CONTEXT), texture(200, 1100, 4)
        by_rows, _ = both(write(tmp_path / "x.png", pixels))
        other = pixels.copy()
        other[150, 1050, 3] ^= 1
        for changed, match in (
            (other, "alpha plane differs"),
            (pixels[:, :, :3], "alpha plane differs"),
            (pixels[:199], "1100x199 RGB, not 1100x200 RGB"),
        ):
            with pytest.raises(FormatError, match=f"verification failed: .*{match}"):
                verification.verify(codec, by_rows, codec.encode(changed, 50), MANY_PIXELS)
        with pytest.raises(FormatError, match="does not decode"):
            verification.verify(codec, by_rows, codec.encode(pixels)[:-1], MANY_PIXELS)

    def test_targets(self, tmp_path):
        """The same files as in memory."""
        codec = codec_of(CONTEXT)
        by_rows, picture = both(write(tmp_path / "x.png", texture(200, 1100)))
        files = [codec.encode_picture(picture, level=level) for level in range(codec.info.levels)]
        quality = metrics.psnr(picture.pixels, codec.decode(files[3]))
        for target in (
            Target(SIZE, len(files[2])),
            Target(PSNR, quality - 0.01),
            Target(MS_SSIM, metrics.ms_ssim(picture.pixels, codec.decode(files[4])) - 1e-5),
        ):
            assert encode_to(codec, by_rows, target) == encode_to(codec, picture, target)
        with pytest.raises(TargetError):
            encode_to(codec, by_rows, Target(SIZE, 10))

    def test_what_is_too_large_to_try_other_formats(self):
        assert verification.advice_untried(30.0, None) is None
        assert verification.advice_untried(30.0, 32.0) is None
        assert "too large" in verification.advice_untried(30.0, 40.0)


@needs_vips
@pytest.mark.usefixtures("all_large")
class TestCommands:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".jpg"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_round_trip(self, run, tmp_path, suffix, channels):
        pixels = texture(1100, 90, channels)
        source = write(tmp_path / f"x{suffix}", pixels)
        result = run("compress", source, "--model", "tiny", "--verify", "--verbose")
        assert result.exit_code == 0, result.stderr
        data = (tmp_path / "x.bin").read_bytes()
        picture = load_picture(source, "x", MANY_PIXELS)
        assert data == codec_of(CONTEXT).encode_picture(picture)
        quality = metrics.psnr(picture.pixels, codec_of(CONTEXT).decode(data))
        assert f"  {quality:.1f} dB" in result.stdout
        again = tmp_path / f"again{suffix}"
        assert run("decompress", tmp_path / "x.bin", again).exit_code == 0
        decoded = load_picture(again, "x", MANY_PIXELS).pixels
        expected = codec_of(CONTEXT).decode(data)
        if suffix == ".ppm" and channels == 1:
            decoded = decoded[:, :, :1]
        if suffix == ".jpg":
            assert metrics.psnr(decoded, expected) > 30
        else:
            assert np.array_equal(decoded, expected)

    def test_it_is_done_by_rows(self, run, tmp_path, monkeypatch):
        """So the tests here do test it."""
        monkeypatch.setattr("codec_cli.pictures.images.load_picture", None)
        monkeypatch.setattr("codec_cli.pictures.images.save_picture", None)
        source = write(tmp_path / "x.png", texture(90, 70))
        assert run("compress", source, "--model", "tiny", "--verify").exit_code == 0
        assert run("decompress", tmp_path / "x.bin", tmp_path / "y.png").exit_code == 0

    def test_streams(self, run, tmp_path):
        source = write(tmp_path / "x.png", texture(90, 70))
        packed = run("compress", "-", "--model", "tiny", input=source.read_bytes())
        assert packed.stdout_bytes == codec_of(CONTEXT).encode(texture(90, 70))
        again = run("decompress", "-", input=packed.stdout_bytes)
        (tmp_path / "y.png").write_bytes(again.stdout_bytes)
        with Image.open(tmp_path / "y.png") as image:
            assert np.array_equal(np.asarray(image), codec_of(CONTEXT).decode(packed.stdout_bytes))

    def test_alpha_and_metadata(self, run, tmp_path):
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "Maker", 6
        source = write(tmp_path / "x.png", texture(90, 70, 4), exif=exif.tobytes())
        assert run("compress", source, "--model", "tiny", "--verify").exit_code == 0
        expected = codec_of(CONTEXT).decode_picture((tmp_path / "x.bin").read_bytes())
        assert expected.pixels.shape == (70, 90, 3)
        for suffix in (".png", ".tif"):
            result = run("decompress", tmp_path / "x.bin", tmp_path / f"y{suffix}")
            assert result.exit_code == 0
            made = load_picture(tmp_path / f"y{suffix}", "y", MANY_PIXELS)
            assert np.array_equal(made.pixels, expected.pixels)
            assert np.array_equal(made.alpha, expected.alpha)
            if suffix == ".png":
                assert made.exif == expected.exif
            else:
                assert "EXIF dropped" in result.stderr
        result = run("decompress", tmp_path / "x.bin", tmp_path / "y.jpg")
        assert result.exit_code == 7
        assert "cannot hold alpha" in error_line(result)

    def test_targets(self, run, tmp_path):
        source = write(tmp_path / "x.png", texture(200, 180))
        for option, value in (("size", "20%"), ("bpp", "2"), ("psnr", "9"), ("ms-ssim", "0.1")):
            path = tmp_path / f"{option}.bin"
            result = run("compress", source, path, "--model", "tiny", f"--target-{option}", value)
            assert result.exit_code == 0, result.stderr
            assert codec_of(CONTEXT).decode(path.read_bytes()).shape == (200, 180, 3)

    def test_damage_leaves_nothing(self, run, tmp_path, monkeypatch):
        source = write(tmp_path / "x.png", texture(900, 300))
        source.write_bytes(source.read_bytes()[:60000])
        result = run("compress", source, "--model", "tiny")
        assert result.exit_code == 3
        assert error_line(result).startswith(f"codec: {source}: not an image that can be read")
        good = codec_of(CONTEXT).encode(texture(1100, 30))
        whole = codec_of(CONTEXT).open(good)
        broken = container.Container(whole.header, whole.metadata, (whole.tiles[0], b"\xff" * 9))
        (tmp_path / "x.bin").write_bytes(container.serialize(broken, 1024))
        for suffix in (".png", ".jpg", ".tif", ".ppm"):
            target = tmp_path / f"y{suffix}"
            result = run("decompress", tmp_path / "x.bin", target)
            assert result.exit_code == 4
            assert "damaged" in error_line(result)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bin", "x.png"]

    def test_sources_are_deleted_only_for_equal_pixels(self, run, tmp_path):
        packed = tmp_path / "x.bin"
        packed.write_bytes(codec_of(CONTEXT).encode(texture(90, 70)))
        result = run("decompress", packed, tmp_path / "part.png", "--region", "0,0,9,9", "--delete-source")
        assert result.exit_code == 0
        assert "region" in result.stderr
        assert packed.exists()
        assert run("decompress", packed, tmp_path / "y.png", "--delete-source").exit_code == 0
        assert not packed.exists()

    @pytest.mark.parametrize("channels", [3, 4])
    def test_what_was_written_is_compared(self, run, tmp_path, monkeypatch, channels):
        packed = tmp_path / "x.bin"
        packed.write_bytes(codec_of(CONTEXT).encode(texture(90, 70, channels)))
        other = codec_of(CONTEXT).decode(packed.read_bytes())
        other[5, 6, channels - 1] ^= 1

        def wrong(path, *_):
            Image.fromarray(other).save(path, "PNG")

        monkeypatch.setattr("codec_cli.pictures.writing.save_rows", wrong)
        result = run("decompress", packed, tmp_path / "y.png", "--delete-source")
        assert packed.exists()
        assert ("verification failed" if channels == 3 else "alpha plane") in result.stderr


def test_memory_is_told(run, tmp_path, monkeypatch):
    """Of what can't be read by rows and does not fit, one line says what could."""

    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr("codec_cli.pictures.images.load_picture", refuse)
    source = tmp_path / "x.bmp"
    Image.fromarray(texture(9, 9)).save(source)
    result = run("compress", source, "--model", "tiny")
    assert result.exit_code == 1
    assert "not enough memory; PNG, JPEG, TIFF and PNM are read and written by rows" in error_line(result)


def test_alpha_without_libvips(tmp_path, monkeypatch):
    """The plane is then held in memory."""
    monkeypatch.setattr(streaming, "open_rows", lambda *_, **__: None)
    codec, pixels = codec_of(CONTEXT), texture(60, 1100, 4)
    data = codec.encode(pixels, 50)
    decoded = np.concatenate(list(RowFile(codec, codec.open(data), "name").bands(alpha=True)))
    assert np.array_equal(decoded[:, :, 3], pixels[:, :, 3])
    png = codec.open(data).metadata.alpha_png
    assert np.array_equal(decode_alpha(png, codec.open(data).header, "x"), pixels[:, :, 3])


@needs_vips
def test_verbose_says_how(run, tmp_path, all_large):
    source = write(tmp_path / "x.png", texture(40, 50))
    other = write(tmp_path / "y.bmp", texture(40, 50))
    options = ("--verbose", "--force", "--model", "tiny")
    assert ", by rows\n" in run("compress", source, *options).stdout
    assert ", all of it in memory (docs/LARGE.md)\n" in run("compress", other, *options).stdout
    for suffix, told in ((".png", ", by rows\n"), (".webp", ", all of it in memory (docs/LARGE.md)\n")):
        target = tmp_path / f"z{suffix}"
        assert told in run("decompress", source.with_suffix(".bin"), target, "--verbose").stdout


@needs_vips
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["tiny-1", pytest.param("photo-1", marks=pytest.mark.skipif(
        not (ROOT / "models" / "photo-1").exists(), reason="models/photo-1 is not here"))],
)  # fmt: skip
def test_24_megapixels(name, run, tmp_path):
    """By rows and tiles, the pixels within 1 of those of a single pass over the whole image."""
    folder = (MODELS if name.startswith("tiny") else ROOT / "models") / name
    codec = Codec(str(folder), models_dir=folder.parent)
    width, height, stride = 6000, 4000, codec.info.stride
    tile = texture(500, 750, seed=3)
    pixels = np.tile(tile, (height // 500, width // 750, 1))
    source = write(tmp_path / "x.png", pixels, compress_level=1)
    by_rows = open_rows(source, "x", MANY_PIXELS, min_pixels=0)
    data = codec.encode_picture(by_rows, 50)
    assert data == codec.encode(pixels, 50)
    loaded = codec.loaded_for(container.peek(data))
    level, columns = container.peek(data).level, math.ceil(width / stride)
    latents = np.empty((math.ceil(height / stride), columns, loaded.gain.shape[1]), np.float32)
    symbols = iter(codec.symbols(data))
    for top in range(0, len(latents), 64):
        for left in range(0, columns, 64):
            latents[top : top + 64, left : left + 64] = next(symbols)
    wanted = loaded.analysis(pixels.astype(np.float32)[None] * np.float32(1 / 255))[0] * loaded.gain[level]
    # The optimisation may choose the next integer, never one further away.
    assert np.abs(wanted - latents).max() < 1.51
    latents *= loaded.inverse_gain[level]
    whole = loaded.synthesis(latents[None], loaded.level_weights[level][None])[0] * np.float32(255)
    expected = np.clip(whole + np.float32(0.5), 0, 255).astype(np.uint8)[:height, :width]
    del whole, wanted, latents
    top = 0
    for band in RowFile(codec, codec.open(data), "x").bands():
        difference = band.astype(np.int16) - expected[top : top + len(band)]
        assert np.abs(difference).max() <= 1
        top += len(band)
    assert top == height
