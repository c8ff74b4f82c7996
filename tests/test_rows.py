"""Images in and out by rows: the same pixels, metadata and warnings as with the whole image in memory."""

import io
import os
import struct
import tempfile
import zlib

import numpy as np
import pytest
from conftest import needs_vips
from helpers import MANY_PIXELS, texture
from PIL import Image, ImageCms

from codec_cli.errors import CodecError, ImageError, LimitError, OutputError
from codec_cli.memory import return_freed_memory
from codec_cli.pictures import images, rows, writing
from codec_cli.pictures.images import load_picture
from codec_cli.pictures.rows import open_rows
from codec_cli.pictures.writing import png_bytes, save_rows
from codec_cli.spool import Spool, turned
from codec_cli.tiles import StreamSource

HEIGHT, WIDTH = 301, 97
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_of(orientation=1):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    return exif.tobytes()


def save(path, pixels, **options):
    Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(
        path, **options
    )
    return path


def vips_file(path, pixels, interpretation, **options):
    """An image file of libvips, which writes what Pillow does not: 16 bits a sample, tiles, ..."""
    pyvips = rows.vips()
    height, width, channels = pixels.shape
    kind = {"uint8": "uchar", "uint16": "ushort"}[str(pixels.dtype)]
    image = pyvips.Image.new_from_memory(pixels.tobytes(), width, height, channels, kind)
    image.copy(interpretation=interpretation).write_to_file(str(path), **options)
    return path


def opened(path, **options):
    return open_rows(path, "name", MANY_PIXELS, min_pixels=0, **options)


def whole(bands):
    return np.concatenate(list(bands))


def require_equal(path):
    """What is read by rows is what is read at once."""
    by_rows, picture = opened(path), load_picture(path, "name", MANY_PIXELS)
    assert by_rows is not None
    assert by_rows.shape == picture.pixels.shape
    assert np.array_equal(whole(by_rows.bands()), picture.pixels)
    assert by_rows.alpha == (picture.alpha is not None)
    if by_rows.alpha:
        assert np.array_equal(whole(by_rows.alpha_bands())[:, :, 0], picture.alpha)
    for name in ("icc", "exif", "warnings"):
        assert getattr(by_rows, name) == getattr(picture, name)
    # Once more, from the first row on.
    assert np.array_equal(whole(by_rows.bands()), picture.pixels)


@needs_vips
class TestReading:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_modes(self, tmp_path, channels, suffix):
        require_equal(save(tmp_path / f"x{suffix}", texture(HEIGHT, WIDTH, channels)))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_pnm(self, tmp_path, channels):
        require_equal(save(tmp_path / "x.ppm", texture(HEIGHT, WIDTH, channels)))

    @pytest.mark.parametrize(
        "options",
        [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 30, "subsampling": 1}],
    )
    def test_jpeg(self, tmp_path, options):
        require_equal(save(tmp_path / "x.jpg", texture(HEIGHT, WIDTH), **options))
        require_equal(save(tmp_path / "g.jpg", texture(HEIGHT, WIDTH, 1)))

    @pytest.mark.parametrize(
        ("channels", "interpretation"), [(1, "grey16"), (2, "grey16"), (3, "rgb16"), (4, "rgb16")]
    )
    def test_16_bits(self, tmp_path, channels, interpretation):
        wide = texture(HEIGHT, WIDTH, channels).astype(np.uint16) * 251
        require_equal(vips_file(tmp_path / "x.png", wide, interpretation, keep="none"))

    @pytest.mark.parametrize("options", [{"tile": True}, {"compression": "deflate"}, {"compression": "lzw"}])
    def test_tiff(self, tmp_path, options):
        require_equal(vips_file(tmp_path / "x.tif", texture(HEIGHT, WIDTH), "srgb", **options))

    def test_wide_tiff(self, tmp_path):
        wide = texture(HEIGHT, WIDTH, 1).astype(np.uint16) * 251
        require_equal(vips_file(tmp_path / "x.tif", wide, "grey16"))

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
    def test_metadata(self, tmp_path, suffix):
        path = save(tmp_path / f"x{suffix}", texture(HEIGHT, WIDTH), icc_profile=PROFILE, exif=exif_of())
        require_equal(path)
        assert opened(path).icc == PROFILE
        assert b"Maker" in opened(path).exif
        stripped = opened(path, keep_metadata=False)
        assert (stripped.icc, stripped.exif) == (None, None)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_orientations(self, tmp_path, monkeypatch, suffix, orientation):
        monkeypatch.setattr(rows, "_BAND_SAMPLES", 40 * WIDTH * 3)
        path = save(tmp_path / f"x{suffix}", texture(HEIGHT, WIDTH), exif=exif_of(orientation))
        require_equal(path)

    @pytest.mark.parametrize("orientation", [1, 6])
    def test_exif_behind_the_pixels(self, tmp_path, orientation):
        path = save(tmp_path / "x.png", texture(HEIGHT, WIDTH))
        data, body = path.read_bytes(), exif_of(orientation)[6:]
        chunk = b"eXIf" + body
        late = struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(data[:-12] + late + data[-12:])
        require_equal(path)
        assert b"Maker" in opened(path).exif

    def test_bytes(self, tmp_path):
        path = save(tmp_path / "x.png", texture(HEIGHT, WIDTH))
        assert np.array_equal(whole(opened(path.read_bytes()).bands()), texture(HEIGHT, WIDTH))

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".ppm"])
    def test_damaged(self, tmp_path, suffix):
        options = {"compression": "tiff_adobe_deflate"} if suffix == ".tif" else {}
        path = save(tmp_path / f"x{suffix}", texture(900, 300), **options)
        data = path.read_bytes()
        half = len(data) // 2
        if suffix == ".tif":  # Its directory stands at its end: what is damaged is a strip.
            strange = bytes(byte ^ 0x55 for byte in data[half : half + 500])
            path.write_bytes(data[:half] + strange + data[half + 500 :])
        else:
            path.write_bytes(data[:half])
        with pytest.raises(ImageError, match=r"^name: not an image that can be read") as caught:
            whole(opened(path).bands())
        assert "\n" not in str(caught.value)


ODD_NAMES = [b"page[n=2]", b"a\nb", b"~", b"caf\xe9"]


def odd(folder, name, suffix):
    """A path whose name is these bytes, and makes a file there, where the system has such names."""
    try:
        path = folder / (
            os.fsdecode(name + suffix.encode()) if os.name == "posix" else name.decode() + suffix
        )
        path.write_bytes(b"")
    except (OSError, UnicodeDecodeError):
        pytest.skip("this system has no such names")
    return path


class TestNotByRows:
    @pytest.mark.parametrize(
        ("suffix", "mode"),
        [
            *[(".png", mode) for mode in ("P", "1", "I;16B")],
            *[(".tif", mode) for mode in ("P", "1", "PA", "CMYK", "YCbCr", "RGBX", "F", "I;16B")],
            *[(".jpg", mode) for mode in ("1", "CMYK", "YCbCr", "RGBX")],
            *[(".ppm", mode) for mode in ("1", "F")],
        ],
    )
    def test_rarities(self, tmp_path, mode, suffix):
        """None, or exactly the same: there is no third."""
        path = tmp_path / f"x{suffix}"
        Image.new(mode, (WIDTH, HEIGHT), 1).save(path)
        if opened(path) is not None:
            require_equal(path)
        else:
            assert load_picture(path, "name", MANY_PIXELS).pixels.shape[:2] == (HEIGHT, WIDTH)

    def test_what_libvips_would_hold_in_memory_or_read_otherwise(self, tmp_path):
        pixels = texture(HEIGHT, WIDTH)
        assert opened(save(tmp_path / "key.png", pixels, transparency=(1, 2, 3))) is None
        assert opened(save(tmp_path / "x.webp", pixels)) is None
        tiff = Image.Exif()
        tiff[0x0112] = 6
        assert opened(save(tmp_path / "turned.tif", pixels, exif=tiff)) is None

    def test_small(self, tmp_path):
        path = save(tmp_path / "x.ppm", texture(10, 20))
        assert open_rows(path, "name", MANY_PIXELS) is None
        assert open_rows(path, "name", MANY_PIXELS, min_pixels=201) is None
        assert open_rows(path, "name", MANY_PIXELS, min_pixels=200) is not None

    def test_without_libvips(self, tmp_path, monkeypatch):
        monkeypatch.setattr(rows, "have_vips", lambda: False)
        assert opened(save(tmp_path / "x.png", texture(10, 20))) is None
        assert opened(save(tmp_path / "x.ppm", texture(10, 20))) is not None

    def test_errors(self, tmp_path):
        path = save(tmp_path / "x.png", texture(10, 20))
        with pytest.raises(LimitError):
            open_rows(path, "name", 199)
        (tmp_path / "none.png").write_bytes(b"nothing")
        for bad in ("none.png", "missing.png"):
            with pytest.raises(ImageError, match=r"^name: "):
                opened(tmp_path / bad)


@needs_vips
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("suffix", ["[page=0]", "[x]", ".png"])
def test_odd_names_are_read(tmp_path, name, suffix):
    path = odd(tmp_path, name, suffix)
    path.write_bytes(save(tmp_path / "x.png", texture(HEIGHT, WIDTH)).read_bytes())
    require_equal(path)


@needs_vips
class TestWriting:
    @pytest.mark.parametrize("name", ODD_NAMES)
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
    def test_odd_names(self, tmp_path, name, suffix):
        path, pixels = odd(tmp_path, name, suffix), texture(HEIGHT, WIDTH)
        save_rows(path, suffix, pixels.shape, [pixels])
        assert load_picture(path.read_bytes(), "x", MANY_PIXELS).pixels.shape == pixels.shape
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
    def test_lossless(self, tmp_path, channels, suffix):
        pixels = texture(HEIGHT, WIDTH, channels)
        save_rows(tmp_path / "x", suffix, pixels.shape, (pixels[i : i + 50] for i in range(0, HEIGHT, 50)))
        picture = load_picture(tmp_path / "x", "x", MANY_PIXELS)
        colours = 1 if channels < 3 else 3
        assert np.array_equal(picture.pixels, pixels[:, :, :colours])
        if channels > colours:
            assert np.array_equal(picture.alpha, pixels[:, :, -1])
        assert (picture.icc, picture.exif) == (None, None)

    @pytest.mark.parametrize(("suffix", "channels"), [(".ppm", 1), (".pgm", 1), (".pnm", 1), (".ppm", 3)])
    def test_pnm_is_that_of_pillow(self, tmp_path, suffix, channels):
        pixels = texture(HEIGHT, WIDTH, channels)
        save_rows(tmp_path / "x", suffix, pixels.shape, [pixels])
        assert (tmp_path / "x").read_bytes() == images.save_picture(images.Picture(pixels), suffix)

    def test_jpeg(self, tmp_path):
        pixels = load_picture(images.save_picture(images.Picture(texture(64, 64)), ".png"), "x", MANY_PIXELS)
        save_rows(tmp_path / "x", ".jpg", (64, 64, 3), [pixels.pixels])
        again = load_picture(tmp_path / "x", "x", MANY_PIXELS).pixels
        pillow = load_picture(images.save_picture(pixels, ".jpg"), "x", MANY_PIXELS).pixels
        error = [np.square(made - pixels.pixels.astype(float)).mean() for made in (again, pillow)]
        assert error[0] < 1.2 * error[1]

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_metadata(self, tmp_path, suffix):
        pixels, exif = texture(64, 64), exif_of()[6:]
        save_rows(tmp_path / "x", suffix, pixels.shape, [pixels], PROFILE, exif)
        picture = load_picture(tmp_path / "x", "x", MANY_PIXELS)
        expected = load_picture(
            images.save_picture(images.Picture(pixels, None, PROFILE, exif), suffix), "x", MANY_PIXELS
        )
        assert (picture.icc, picture.exif) == (expected.icc, expected.exif) == (PROFILE, exif)

    def test_profile_of_tiff(self, tmp_path):
        save_rows(tmp_path / "x", ".tif", (64, 64, 3), [texture(64, 64)], PROFILE, exif_of()[6:])
        assert load_picture(tmp_path / "x", "x", MANY_PIXELS).icc == PROFILE

    def test_failing_source(self, tmp_path):
        """What the rows' maker raises arrives as it is, and no thread is left."""

        def bands():
            yield texture(10, 20)
            raise ImageError("broken")

        for suffix in (".png", ".tif", ".jpg", ".ppm"):
            with pytest.raises(ImageError, match="broken"):
                save_rows(tmp_path / "x", suffix, (400, 20, 3), bands())

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".ppm"])
    def test_full_disk(self, suffix):
        from pathlib import Path

        full = Path("/dev/full")
        if not full.exists():
            pytest.skip("there is no /dev/full here")
        with pytest.raises(OSError, match="No space left"):
            save_rows(full, suffix, (600, 500, 3), [texture(600, 500)])

    def test_beyond_the_format(self, tmp_path):
        with pytest.raises(OutputError, match=r"\.jpg"):
            save_rows(tmp_path / "x", ".jpg", (1, 70000, 3), [texture(1, 70000)])
        with pytest.raises(OutputError, match="EXIF"):
            save_rows(tmp_path / "x", ".jpg", (9, 9, 3), [texture(9, 9)], None, bytes(70000))

    def test_can_write(self, monkeypatch):
        assert [s for s in images.OUTPUT_SUFFIXES if not writing.can_write_rows(s)] == [
            ".webp",
            ".bmp",
            ".avif",
        ]
        monkeypatch.setattr(writing, "have_vips", lambda: False)
        assert [s for s in images.OUTPUT_SUFFIXES if writing.can_write_rows(s)] == [".ppm", ".pgm", ".pnm"]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_bytes(channels):
    """The alpha plane's: compressed, and nothing but pixels in it."""
    pixels = texture(HEIGHT, WIDTH, channels) // 64 * 64
    data = png_bytes(pixels.shape, (pixels[i : i + 100] for i in range(0, HEIGHT, 100)))
    assert len(data) < pixels.size
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)
        assert not image.info


def test_memory_of_other_c_libraries(monkeypatch):
    """Where there is no such setting, nothing happens."""
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    return_freed_memory()


class TestSpool:
    def test_arrays_come_back(self):
        arrays = [texture(5, 7), np.arange(12, dtype=np.float32).reshape(3, 4), texture(9, 2, 1)[:, ::-1]]
        spool = Spool(arrays)
        for _ in range(2):
            for given, kept in zip(arrays, spool, strict=True):
                assert given.dtype == kept.dtype
                assert np.array_equal(given, kept)
        assert np.array_equal(spool.read(1, 1, 3), arrays[1][1:3])
        assert np.array_equal(spool.read(0, 3, 99), arrays[0][3:])

    def test_full_disk(self, monkeypatch):
        class Full(io.BytesIO):
            def write(self, _):
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
        with pytest.raises(CodecError, match="TMPDIR"):
            Spool([texture(3, 3)])

    @pytest.mark.parametrize("orientation", range(10))
    def test_turned(self, orientation):
        pixels = texture(50, 23)
        bands = [pixels[i : i + 16] for i in range(0, 50, 16)]
        assert np.array_equal(whole(turned(bands, orientation, 7)), images._upright(pixels, orientation))


class TestStreamSource:
    def test_windows(self):
        """Rectangles as tiles with halos ask for them."""
        pixels = texture(200, 60)
        source = StreamSource(pixels.shape, (pixels[i : i + 9] for i in range(0, 200, 9)))
        for top, bottom in ((0, 40), (0, 40), (20, 70), (20, 70), (60, 130), (110, 230)):
            for left, right in ((0, 30), (20, 60), (50, 99)):
                assert np.array_equal(source.cut(top, left, bottom, right), pixels[top:bottom, left:right]), (
                    top,
                    left,
                )
        with pytest.raises(ValueError, match="no longer"):
            source.cut(0, 0, 10, 10)

    @pytest.mark.parametrize("step", [1, 9, 64])
    def test_rows_that_no_one_asks_for(self, step):
        pixels = texture(200, 60)
        source = StreamSource(pixels.shape, (pixels[i : i + step] for i in range(0, 200, step)))
        for top, bottom in ((30, 40), (35, 60), (100, 104), (190, 200)):
            assert np.array_equal(source.cut(top, 0, bottom, 60), pixels[top:bottom])

    def test_too_few_rows(self):
        with pytest.raises(ImageError, match="ends after 30 of 50 rows"):
            StreamSource((50, 8, 3), iter([texture(30, 8)])).cut(0, 0, 50, 8)
