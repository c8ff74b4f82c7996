"""codec_cli.pictures.images: every kind of image in, plain 8-bit samples out, and back."""

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from codec_cli.errors import ImageError, LimitError, OutputError
from codec_cli.pictures import images, metadata
from codec_cli.pictures.images import OUTPUT_SUFFIXES, Picture, input_suffixes, load_picture, save_picture

ROOT = Path(__file__).parents[1]
MANY = 10**6
RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[0:200:24j, 0:200:32j], 90.0), -1).astype(np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
REDUCED = "16-bit input reduced to 8 bits"
Image.init()
AVIF = pytest.mark.skipif("AVIF" not in Image.SAVE, reason="this Pillow has no AVIF")


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def load(data, **options):
    picture = load_picture(data, "x.png", MANY, **options)
    check(picture)
    return picture


def attempt(data):
    """The picture, or None after a proper error."""
    try:
        return load(data)
    except (ImageError, LimitError) as error:
        text = str(error)
    assert text.startswith("x.png: ")
    assert "\n" not in text
    return None


def check(picture):
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.ndim == 3
    assert picture.pixels.shape[2] in (1, 3)
    assert picture.pixels.flags.c_contiguous
    if picture.alpha is not None:
        assert picture.alpha.dtype == np.uint8
        assert picture.alpha.shape == picture.pixels.shape[:2]
        assert picture.alpha.flags.c_contiguous
    assert all("\n" not in warning for warning in picture.warnings)


def png(depth, colour, rows, *chunks, width=None):
    """A PNG made by hand: what Pillow doesn't write. ``rows`` are the packed samples of each row."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    step = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    header = struct.pack(">IIBBBBB", width or len(rows[0]) * 8 // step, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    middle = b"".join(chunk(kind, content) for kind, content in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff_block(order, *directories, tail=b""):
    """EXIF by hand: directories at the given places, each (offset, [(tag, type, count, value)], next)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    out = bytearray(mark + struct.pack(order + "I", directories[0][0]))
    for offset, entries, following in directories:
        out.extend(bytes(max(0, offset - len(out))))
        body = struct.pack(order + "H", len(entries))
        for tag, kind, count, value in entries:
            body += struct.pack(order + "HHI", tag, kind, count)
            if kind == 3 and count == 1:
                body += struct.pack(order + "HH", value, 0)
            else:
                body += struct.pack(order + "I", value)
        out[offset:] = body + struct.pack(order + "I", following)
    return bytes(out) + tail


def exif_with_thumbnail(order="<", orientation=6):
    """Make ("Camera") and orientation, an Exif directory, GPS, a maker note, and a thumbnail at the end."""
    strings = 140
    first = [
        (0x010F, 2, 7, strings),
        (0x0112, 3, 1, orientation),
        (0x8769, 4, 1, 80),
        (0x8825, 4, 1, 120),
    ]
    block = tiff_block(
        order,
        (8, first, 200),
        (80, [(0x9003, 2, 20, strings + 7), (0x927C, 7, 8, strings + 27)], 0),
        (120, [(0x0001, 2, 2, 0x4E000000 if order == ">" else 0x4E)], 0),
    )
    block = block.ljust(strings, b"\0") + b"Camera\0" + b"2024:01:02 03:04:05\0" + b"NOTE\0\1\2\3"
    thumbnail = b"\xff\xd8THUMBNAIL\xff\xd9"
    block = block.ljust(200, b"\0")
    last = tiff_block(order, (8, [(0x0201, 4, 1, 230), (0x0202, 4, 1, len(thumbnail))], 0))[8:]
    return (block + last).ljust(230, b"\0") + thumbnail


# Modes.


def test_rgb():
    picture = load(encoded(RGB))
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert (picture.alpha, picture.icc, picture.exif, picture.warnings) == (None, None, None, ())


def test_gray_and_alpha_modes():
    gray = load(encoded(RGB[..., 0]))
    np.testing.assert_array_equal(gray.pixels[..., 0], RGB[..., 0])
    assert gray.alpha is None
    both = load(encoded(np.dstack([RGB[..., 0], ALPHA])))
    assert both.pixels.shape == (5, 7, 1)
    np.testing.assert_array_equal(both.pixels[..., 0], RGB[..., 0])
    np.testing.assert_array_equal(both.alpha, ALPHA)
    rgba = load(encoded(np.dstack([RGB, ALPHA])))
    np.testing.assert_array_equal(rgba.pixels, RGB)
    np.testing.assert_array_equal(rgba.alpha, ALPHA)


def test_opaque_alpha_is_kept():
    picture = load(encoded(np.dstack([RGB, np.full_like(ALPHA, 255)])))
    assert picture.alpha is not None
    assert picture.alpha.min() == 255


def test_one_bit():
    bits = ALPHA > 127
    picture = load(encoded(Image.fromarray(ALPHA).point(lambda v: 255 * (v > 127), "1")))
    np.testing.assert_array_equal(picture.pixels[..., 0], 255 * bits)


def test_palette():
    image = Image.fromarray((ALPHA % 4).astype(np.uint8)).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    palette = np.array([[1, 2, 3], [40, 50, 60], [200, 100, 0], [255, 255, 255]], np.uint8)
    image.putpalette(palette.tobytes())
    picture = load(encoded(image))
    np.testing.assert_array_equal(picture.pixels, palette[ALPHA % 4])
    assert picture.alpha is None
    for kind in ("PNG", "GIF"):
        one = load(encoded(image, kind, transparency=2))
        np.testing.assert_array_equal(one.alpha, np.where(ALPHA % 4 == 2, 0, 255))
        np.testing.assert_array_equal(one.pixels[one.alpha > 0], palette[ALPHA % 4][one.alpha > 0])
    several = load(encoded(image, transparency=bytes([0, 128, 255, 7])))
    np.testing.assert_array_equal(several.alpha, np.array([0, 128, 255, 7])[ALPHA % 4])
    np.testing.assert_array_equal(several.pixels, palette[ALPHA % 4])


@pytest.mark.parametrize(
    "kind", ["BMP", "DDS", "GIF", "ICO", "JPEG2000", "PCX", "SGI", "TGA", "TIFF", "WEBP"]
)
def test_other_formats(kind):
    square = np.kron(RGB[:4, :4], np.ones((8, 8, 1), np.uint8))  # An icon is square, and 16 wide or more.
    options = {
        "WEBP": {"lossless": True},
        "GIF": {"palette": Image.Palette.ADAPTIVE},
        "ICO": {"sizes": [(32, 32)]},
    }.get(kind, {})
    image = Image.fromarray(square)
    picture = load(encoded(image.quantize(16) if kind == "GIF" else image, kind, **options))
    assert picture.pixels.shape == square.shape
    assert np.abs(picture.pixels.astype(int) - square).mean() < 4
    assert picture.warnings == ()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK"])
@pytest.mark.parametrize("transform", ["none", "convert"])
def test_every_mode_in_memory(mode, transform):
    # Straight to the conversion: few formats store La, PA or RGBa.
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    if mode == "La":
        image = image.convert("LA")
    elif mode == "PA":
        image = image.convert("RGB").convert("P").convert("PA")
    image = image.convert("RGB").convert(mode) if mode in ("CMYK", "RGBX", "P") else image.convert(mode)
    pixels, alpha = images._samples(image, "", [])
    expected = Image.fromarray(np.dstack([RGB, ALPHA]))
    assert (alpha is not None) == mode.lower().endswith("a")
    assert pixels.shape == (5, 7, 1 if mode in ("1", "L", "LA", "La") else 3)
    if alpha is not None and mode != "PA":
        np.testing.assert_array_equal(alpha, ALPHA)
    if mode in ("RGB", "RGBA", "RGBX", "CMYK"):
        np.testing.assert_array_equal(pixels, np.asarray(expected)[..., :3])


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV"])
def test_other_colour_spaces(mode):
    flat = Image.new("RGB", (4, 4), (200, 80, 40))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(flat, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        image = flat.convert(mode)
    pixels, alpha = images._samples(image, "", [])
    assert alpha is None
    assert np.abs(pixels.astype(int) - [200, 80, 40]).max() <= 4


def test_lab_and_ycbcr_tiff():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    flat = Image.new("RGB", (4, 4), (200, 80, 40))
    lab = ImageCms.applyTransform(flat, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    for image, options in ((lab, {}), (flat.convert("YCbCr"), {"compression": "jpeg"})):
        picture = load(encoded(image, "TIFF", icc_profile=SRGB, **options))
        assert np.abs(picture.pixels.astype(int) - [200, 80, 40]).max() <= 4
    assert load(encoded(lab, "TIFF", icc_profile=SRGB)).icc is None


def test_cmyk_jpeg():
    profile = bytearray(SRGB)
    profile[16:20] = b"CMYK"
    cmyk = Image.new("CMYK", (8, 8), (0, 128, 255, 0))
    picture = load(encoded(cmyk, "JPEG", icc_profile=bytes(profile), quality=100))
    # Pillow writes Adobe's inverted CMYK: orange, not its negative.
    assert np.abs(picture.pixels.astype(int) - [255, 127, 0]).max() <= 3
    assert picture.icc is None
    # That of a screen is none for CMYK, whatever it says.
    assert picture.warnings == ("CMYK converted without its profile",)
    assert load(encoded(cmyk, "JPEG"), keep_metadata=False).warnings == ("CMYK converted without a profile",)


def test_profile_of_another_space_is_dropped():
    picture = load(encoded(RGB[..., 0], icc_profile=SRGB))
    assert picture.icc is None
    assert len(picture.warnings) == 1
    assert load(encoded(RGB, icc_profile=b"no header, not ours to judge")).icc is not None


def test_messages_hold_no_control_characters():
    profile = bytearray(SRGB)
    profile[16:20] = b"\x1b[2J"
    (warning,) = load(encoded(RGB, icc_profile=bytes(profile))).warnings
    assert warning.isprintable()
    assert images._reason(ValueError("a\x1b[2J\nb")) == "a?[2J b"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_gamma_and_chromaticities(data):
    numbers = st.one_of(
        st.integers(0, 2**32 - 1), st.integers(0, 100000), st.sampled_from([31270, 32900, 45455])
    )
    chunks = [(b"gAMA", struct.pack(">I", data.draw(numbers)))]
    chunks.append((b"cHRM", struct.pack(">8I", *data.draw(st.lists(numbers, min_size=8, max_size=8)))))
    code = data.draw(st.binary(min_size=4, max_size=4))
    chunks += [(b"cICP", code)] * data.draw(st.integers(0, 1))
    picture = load(png(8, data.draw(st.sampled_from([0, 2])), [bytes(12)] * 2, *chunks))
    if picture.icc is not None:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc)).profile
        assert profile.xcolor_space.strip() == ("GRAY" if picture.pixels.shape[2] == 1 else "RGB")


# Transparent colours.


def test_transparent_colour():
    picture = load(encoded(RGB, transparency=tuple(RGB[2, 3].tolist())))
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert picture.alpha[2, 3] == 0
    assert (picture.alpha == 0).sum() == (RGB[2, 3] == RGB).all(-1).sum()
    gray = load(encoded(RGB[..., 0], transparency=int(RGB[1, 1, 0])))
    np.testing.assert_array_equal(gray.alpha, np.where(RGB[..., 0] == RGB[1, 1, 0], 0, 255))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_transparent_level_at_any_depth(depth):
    row = {1: b"\x50", 2: b"\x1b", 4: b"\x05\xaf", 8: bytes([0, 85, 170, 255])}[depth]
    levels = {1: [0, 1, 0, 1, 0, 0, 0, 0], 2: [0, 1, 2, 3], 4: [0, 5, 10, 15], 8: [0, 85, 170, 255]}[depth]
    for level in set(levels):
        picture = load(png(depth, 0, [row], (b"tRNS", struct.pack(">H", level))))
        expected = np.array([levels]) * (255 // (2**depth - 1))
        np.testing.assert_array_equal(picture.pixels[..., 0], expected)
        np.testing.assert_array_equal(picture.alpha, np.where(np.array([levels]) == level, 0, 255))


def test_transparent_level_16_bits():
    values = np.array([[0, 1000, 1001, 65535]], ">u2")
    picture = load(png(16, 0, [values.tobytes()], (b"tRNS", struct.pack(">H", 1000))))
    np.testing.assert_array_equal(picture.alpha, [[255, 0, 255, 255]])
    colour = np.array([[[1, 2, 3], [1000, 2000, 3000]]], ">u2")
    picture = load(png(16, 2, [colour.tobytes()], (b"tRNS", struct.pack(">3H", 1000, 2000, 3000))))
    np.testing.assert_array_equal(picture.alpha, [[255, 0]])


# More than 8 bits.


def test_every_16_bit_level():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.round(values / 257).astype(np.uint8)
    big, little = (
        Image.fromarray(values),
        Image.frombytes("I;16B", (256, 256), values.astype(">u2").tobytes()),
    )
    sources = [
        encoded(big),
        encoded(big, "TIFF"),
        encoded(big, "TIFF", compression="tiff_adobe_deflate"),
        encoded(little, "TIFF"),
        b"P5 256 256 65535\n" + values.astype(">u2").tobytes(),
    ]
    for source in sources:
        picture = load(source)
        np.testing.assert_array_equal(picture.pixels[..., 0], expected)
        assert picture.warnings == (REDUCED,)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_16_bit_png_colour(colour):
    channels = {2: 3, 4: 2, 6: 4}[colour]
    values = RNG.integers(0, 65536, (5, 7, channels)).astype(">u2")
    picture = load(png(16, colour, [row.tobytes() for row in values]))
    assert picture.warnings == (REDUCED,)
    planes = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    np.testing.assert_array_equal(planes, values >> 8)


def test_16_bit_pnm_and_tiff_colour():
    values = RNG.integers(0, 65536, (5, 7, 3)).astype(">u2")
    picture = load(b"P6 7 5 65535\n" + values.tobytes())
    assert picture.warnings == (REDUCED,)
    assert np.abs(picture.pixels - values / 257).max() <= 1
    assert load(b"P6 7 5 255\n" + RGB.tobytes()).warnings == ()
    assert load(b"P3 1 1 1023\n1023 0 512\n").pixels.tolist() == [[[255, 0, 128]]]
    header = tiff_block(
        ">",
        (
            8,
            [
                (256, 3, 1, 7),
                (257, 3, 1, 5),
                (258, 3, 3, 140),
                (259, 3, 1, 1),
                (262, 3, 1, 2),
                (273, 4, 1, 146),
                (277, 3, 1, 3),
                (278, 3, 1, 5),
                (279, 4, 1, 210),
            ],
            0,
        ),
    )
    picture = load(header.ljust(140, b"\0") + struct.pack(">3H", 16, 16, 16) + values.tobytes())
    assert picture.warnings == (REDUCED,)
    np.testing.assert_array_equal(picture.pixels, values >> 8)


def test_pnm_with_10_bits():
    values = np.array([[0, 512, 1023]], ">u2")
    picture = load(b"P5 3 1 1023\n" + values.tobytes())
    assert picture.pixels[..., 0].tolist() == [[0, 128, 255]]


def test_12_bit_tiff_uses_the_whole_range():
    pixels, _ = images._samples(Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)), "'I;12'", [])
    assert pixels[..., 0].tolist() == [[0, 128, 255]]


def test_32_bit_integers():
    values = np.array([[-5, 0, 257, 65535, 70000]], np.int32)
    picture = load(encoded(values, "TIFF"))
    assert picture.pixels[..., 0].tolist() == [[0, 0, 1, 255, 255]]
    assert picture.warnings == (REDUCED, "samples outside 0 to 65535 clipped")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 1.0], [0, 64, 255]),
        ([-3.0, 0.5, 1.0], [0, 128, 255]),
        ([-3.0, 100.4, 300.0], [0, 100, 255]),
        ([np.nan, np.inf, 0.5], [0, 255, 128]),
        ([-np.inf, np.nan, np.nan], [0, 0, 0]),
    ],
)
def test_floating_point(values, expected):
    picture = load(encoded(np.array([values], np.float32), "TIFF"))
    assert picture.pixels[0, :, 0].tolist() == expected
    assert picture.warnings == ("floating-point input reduced to 8 bits",)


# Orientation and metadata.


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_orientation(kind, orientation):
    values = np.dstack([RGB, ALPHA | 1])  # WebP drops the colour where alpha is 0 unless told not to.
    if kind == "JPEG":
        values = SMOOTH
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera"
    options = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 98}}.get(kind, {})
    picture = load(encoded(values, kind, exif=exif, **options))
    stored = values.swapaxes(0, 1) if orientation >= 5 else values
    flips = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
    rows, columns = flips.get(orientation, (1, 1))
    expected = stored[::rows, ::columns]
    if kind == "JPEG":
        assert picture.pixels.shape == expected.shape
        assert np.abs(picture.pixels.astype(int) - expected).max() < 16
    else:
        np.testing.assert_array_equal(picture.pixels, expected[..., :3])
        np.testing.assert_array_equal(picture.alpha, expected[..., 3])
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept.get(0x0112, 1) == 1
    assert kept[0x010F] == "Camera"
    # What we write must not be turned a second time.
    again = load(save_picture(picture, ".png"))
    np.testing.assert_array_equal(again.pixels, picture.pixels)


def test_orientation_is_applied_without_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = load(encoded(RGB, exif=exif, icc_profile=SRGB), keep_metadata=False)
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
    assert (picture.icc, picture.exif) == (None, None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_agrees_with_pillow(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(load(data).pixels, np.asarray(expected))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_thumbnail_is_dropped_and_the_rest_kept(kind, order):
    block = exif_with_thumbnail(order)
    assert b"THUMBNAIL" in block
    picture = load(encoded(SMOOTH, kind, exif=b"Exif\0\0" + block))
    assert picture.pixels.shape == (32, 24, 3)
    assert not picture.exif.startswith(b"Exif")
    assert len(picture.exif) < 200
    exif = Image.Exif()
    exif.load(picture.exif)
    assert exif[0x010F] == "Camera"
    assert exif[0x0112] == 1
    assert exif.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
    assert exif.get_ifd(0x8769)[0x927C] == b"NOTE\0\1\2\3"
    assert exif.get_ifd(0x8825)[1] == "N"
    assert exif.get_ifd(1) == {}
    # Only the orientation and the offset of the thumbnail's directory differ from the original.
    differing = [i for i, byte in enumerate(picture.exif) if byte != block[i]]
    assert len(differing) == 2


def test_thumbnail_before_other_data_is_wiped():
    block = tiff_block("<", (8, [(0x010F, 2, 7, 90), (0x0112, 3, 1, 3)], 40))
    last = tiff_block("<", (8, [(0x0201, 4, 1, 75), (0x0202, 4, 1, 9)], 0))[8:]
    block = (block.ljust(40, b"\0") + last).ljust(75, b"\0") + b"THUMBNAIL"
    trimmed = metadata.trimmed_exif(b"Exif\0\0" + block.ljust(90, b"\0") + b"Camera\0")
    assert b"THUMB" not in trimmed
    exif = Image.Exif()
    exif.load(trimmed)
    assert (exif[0x010F], exif[0x0112], exif.get_ifd(1)) == ("Camera", 1, {})


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", pytest.param(".avif", marks=AVIF)])
@pytest.mark.parametrize("channels", [1, 3])
def test_metadata_round_trip(suffix, channels):
    source = load(encoded(SMOOTH, exif=b"Exif\0\0" + exif_with_thumbnail(), icc_profile=SRGB))
    assert source.icc == SRGB
    picture = Picture(np.ascontiguousarray(source.pixels[..., :channels]), None, source.icc, source.exif)
    if channels == 1:
        gray = bytearray(SRGB)
        gray[16:20] = b"GRAY"
        picture = Picture(picture.pixels, None, bytes(gray), source.exif)
    again = load(save_picture(picture, suffix))
    if suffix in (".webp", ".avif") and channels == 1:
        assert again.icc is None  # These hold colour only, which a gray profile doesn't fit.
    else:
        assert again.icc == picture.icc
    exif = Image.Exif()
    exif.load(again.exif)
    assert exif[0x010F] == "Camera"
    assert exif.get(0x0112, 1) == 1
    assert exif.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
    assert exif.get_ifd(0x8825)[1] == "N"
    if suffix in (".png", ".jpg", ".webp"):
        assert again.exif == picture.exif


def test_tiff_tags_of_the_file_itself_are_not_exif():
    assert load(encoded(RGB, "TIFF")).exif is None
    # And the EXIF of a photo must not change the layout of a TIFF that we write.
    block = tiff_block("<", (8, [(256, 3, 1, 4000), (257, 3, 1, 3000), (271, 2, 3, 0x4D4143)], 0))
    source = load(encoded(RGB, exif=b"Exif\0\0" + block))
    np.testing.assert_array_equal(load(save_picture(source, ".tif")).pixels, RGB)


def test_legacy_exif_in_png_text():
    block = b"Exif\0\0" + exif_with_thumbnail()
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    data = png(
        8, 2, [r.tobytes() for r in RGB], (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    )
    picture = load(data)
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
    assert b"Camera" in picture.exif
    assert b"THUMB" not in picture.exif


def test_exif_after_the_pixels():
    data = encoded(RGB)
    chunk = b"eXIf" + exif_with_thumbnail()
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    picture = load(data[:-12] + chunk + data[-12:])
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
    assert b"Camera" in picture.exif


@pytest.mark.parametrize("block", [b"junk", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff"])
def test_damaged_exif_is_dropped(block):
    picture = load(encoded(SMOOTH, "JPEG", exif=b"Exif\0\0" + block))
    assert picture.exif is None
    assert picture.warnings == ("damaged EXIF dropped",)


def test_hostile_exif_ends_soon():
    # Directories that refer to each other, and far more values than there are bytes.
    loop = tiff_block("<", (8, [(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)], 8))
    assert metadata.trimmed_exif(loop)[:8] == loop[:8]
    many = struct.pack("<4sIH", b"II*\0", 8, 65000) + struct.pack("<HHII", 1, 7, 2**32 - 1, 0) * 65000
    assert len(metadata.trimmed_exif(many)) <= len(many)
    nested = struct.pack("<4sIH", b"II*\0", 8, 1000)
    nested += b"".join(struct.pack("<HHII", 0x8769, 4, 1, 10 + i) for i in range(1000))
    with pytest.raises(ValueError, match=r"too many|outside"):
        metadata.trimmed_exif(nested)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_exif(data):
    block = bytearray(exif_with_thumbnail(data.draw(st.sampled_from("<>"))))
    for position in data.draw(st.lists(st.integers(0, len(block) - 1), max_size=4)):
        block[position] = data.draw(st.integers(0, 255))
    exif = bytes(block[: data.draw(st.integers(1, 300))])
    picture = load(encoded(RGB, exif=b"Exif\0\0" + exif))
    if picture.exif is None and picture.warnings != ("damaged EXIF dropped",):
        # A changed offset or count can leave a directory of nothing: nothing to keep, nothing to warn of.
        assert metadata._says_nothing(metadata.trimmed_exif(exif))
        assert picture.warnings == ()


# Frames.


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame(kind):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = load(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (picture.pixels == [255, 0, 0]).all()
    assert picture.warnings == ("only the first of several frames is kept",)
    assert load(encoded(frames[0], kind, **options)).warnings == ()


# Limits.


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_pixel_limit(kind, monkeypatch):
    data = encoded(SMOOTH, kind)
    assert load_picture(data, "x", 24 * 32).pixels.shape == (24, 32, 3)

    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(LimitError, match=r"^x: 32x24 = 768 pixels .* 767; raise it with --max-pixels$"):
        load_picture(data, "x", 24 * 32 - 1)


def test_huge_header():
    for size in ((30000, 30000), (2**31 - 1, 2**31 - 1)):
        data = bytearray(encoded(RGB))
        data[16:24] = struct.pack(">II", *size)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        with pytest.raises(LimitError, match=rf"^x: .*{size[0] * size[1]} pixels .*--max-pixels$"):
            load_picture(bytes(data), "x", MANY)
    webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (2**24 - 1).to_bytes(3, "little") * 2
    with pytest.raises((LimitError, ImageError)):
        load_picture(webp, "x", MANY)


def test_our_limit_replaces_that_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(RGB)  # 35 pixels: Pillow would raise.
    assert load(data).pixels.shape == (5, 7, 3)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(ImageError):
        load(b"nothing")
    assert Image.MAX_IMAGE_PIXELS == 10


def test_settings_are_restored_and_truncation_refused(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    filters = list(warnings.filters)
    with pytest.raises(ImageError):
        load(encoded(RGB)[:-40])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert warnings.filters == filters


def test_threads():
    data, before, failures = encoded(SMOOTH), Image.MAX_IMAGE_PIXELS, []
    filters = list(warnings.filters)

    def work(limit):
        try:
            for _ in range(20):
                if limit < 768:
                    with pytest.raises(LimitError):
                        load_picture(data, "x", limit)
                else:
                    load_picture(data, "x", limit)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(limit,)) for limit in (1, 768, 10**9, 767)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert before == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters


# What is no image, or not all of one.


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unknown format"),
    ],
)
def test_no_image(data, reason):
    with pytest.raises(ImageError) as error:
        load_picture(data, "a/b.png", MANY)
    assert str(error.value) == f"a/b.png: not an image that can be read ({reason})"


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(ImageError, match=r"^in.png: cannot read: No such file or directory$"):
        load_picture(tmp_path / "none.png", "in.png", MANY)
    with pytest.raises(ImageError, match=r"^in.png: cannot read: "):
        load_picture(tmp_path, "in.png", MANY)
    with pytest.raises(ImageError, match=r"^in.png: not an image"):
        load_picture(tmp_path / "a\0b", "in.png", MANY)


@pytest.mark.parametrize(
    "failure", [MemoryError(), RecursionError("deep"), IndexError(), OverflowError("a\nb"), zlib.error("bad")]
)
def test_any_exception_becomes_one_line(monkeypatch, failure):
    def load(self):
        raise failure

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageError, match=r"^x\.png: not an image that can be read \([^\n]+\)$"):
        load_picture(encoded(RGB), "x.png", MANY)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_truncated_at_every_length(kind):
    # No EXIF: the offset of a TIFF's directory may be at its end, which makes all of it necessary.
    data = encoded(SMOOTH[:9, :9], kind)
    whole = load(data)
    for length in range(len(data)):
        picture = attempt(data[:length])
        if picture is not None:
            # What Pillow takes for complete must be complete: only a trailer may be missing.
            np.testing.assert_array_equal(picture.pixels, whole.pixels)
            assert length >= len(data) - 24


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes(kind, data):
    damaged = bytearray(encoded(SMOOTH[:9, :9], kind))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=5)):
        damaged[position] = data.draw(st.integers(0, 255))
    attempt(bytes(damaged))


MAGICS = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF89a",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"II*\0\x08\0\0\0",
]
MAGICS += [
    b"BM",
    b"P6 4 4 255\n",
    b"8BPS\0\1",
    b"\0\0\1\0",
    b"DDS ",
    b"qoif",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"icns",
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MAGICS), st.binary(max_size=200))
def test_random_bytes(magic, rest):
    attempt(magic + rest)


# Sources.


def test_sources(tmp_path):
    path = tmp_path / "in.png"
    path.write_bytes(encoded(RGB))
    with path.open("rb") as file:
        file.seek(5)
        for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), file):
            np.testing.assert_array_equal(load_picture(source, "in.png", MANY).pixels, RGB)
        assert not file.closed


def test_pipe():
    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.rest = data

        def readable(self):
            return True

        def readinto(self, buffer):
            piece, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
            buffer[: len(piece)] = piece
            return len(piece)

    np.testing.assert_array_equal(load(Pipe(encoded(RGB))).pixels, RGB)


# Saving.


@pytest.mark.parametrize("suffix", [".png", "PNG", "", ".webp", ".TIFF", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [None, ALPHA])
def test_lossless_formats_with_alpha(suffix, channels, alpha):
    picture = Picture(np.ascontiguousarray(RGB[..., :channels]), alpha)
    again = load(save_picture(picture, suffix))
    np.testing.assert_array_equal(*np.broadcast_arrays(again.pixels, picture.pixels))
    if alpha is None:
        assert again.alpha is None
    else:
        np.testing.assert_array_equal(again.alpha, alpha)
    if suffix != ".webp":
        assert again.pixels.shape == picture.pixels.shape


@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".pgm", ".pnm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_without_alpha(suffix, channels):
    picture = Picture(np.ascontiguousarray(RGB[..., :channels]), icc=SRGB, exif=exif_with_thumbnail())
    if (suffix, channels) == (".pgm", 3):
        with pytest.raises(OutputError, match=r"^y.pgm: .pgm cannot hold colour; choose .ppm or .png$"):
            save_picture(picture, suffix, name="y.pgm")
        return
    data = save_picture(picture, suffix)
    np.testing.assert_array_equal(*np.broadcast_arrays(load(data).pixels, picture.pixels))
    if suffix in (".ppm", ".pgm"):
        assert data[:2] == {".ppm": b"P6", ".pgm": b"P5"}[suffix]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp", ".ppm"])
def test_alpha_that_does_not_fit(suffix):
    with pytest.raises(OutputError, match=rf"^y: \{suffix} cannot hold alpha; choose .png$"):
        save_picture(Picture(RGB, ALPHA), suffix, name="y")
    opaque = save_picture(Picture(RGB, np.full_like(ALPHA, 255)), suffix)
    assert load(opaque).alpha is None


@pytest.mark.parametrize("suffix", [".jpg", ".webp", pytest.param(".avif", marks=AVIF)])
def test_quality(suffix):
    picture = Picture(np.repeat(np.repeat(RGB, 8, 0), 8, 1))
    low, high = save_picture(picture, suffix, 10), save_picture(picture, suffix, 95)
    assert len(low) < len(high)
    error = np.abs(load(high).pixels.astype(int) - picture.pixels).mean()
    # WebP is always 4:2:0 when it is lossy.
    assert error < (30 if suffix == ".webp" else 6)
    for quality in (0, 101):
        with pytest.raises(OutputError, match="not within 1 to 100"):
            save_picture(picture, suffix, quality)


def test_jpeg_default_is_444():
    image = Image.open(io.BytesIO(save_picture(Picture(SMOOTH), ".jpg")))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


def test_unknown_suffix():
    with pytest.raises(
        OutputError, match=r"^y.xyz: unknown image suffix .xyz; choose one of .png, "
    ) as error:
        save_picture(Picture(RGB), ".xyz", name="y.xyz")
    assert all(suffix in str(error.value) for suffix in OUTPUT_SUFFIXES)


def test_what_a_format_cannot_hold_is_one_line():
    wide = Picture(np.zeros((1, 70000, 3), np.uint8))
    for suffix in (".jpg", ".webp"):
        with pytest.raises(
            OutputError, match=rf"^y: cannot be written as \{suffix} \([^\n]+\); choose .png$"
        ):
            save_picture(wide, suffix, name="y")
    with pytest.raises(OutputError, match="EXIF"):
        save_picture(Picture(RGB, exif=b"II*\0" + bytes(70000)), ".jpg")


def test_missing_support(monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.SAVE, "WEBP")
    with pytest.raises(OutputError, match=r"this Pillow cannot write .webp; choose .png"):
        save_picture(Picture(RGB), ".webp")


@pytest.mark.parametrize("level", [0, 9])
def test_compress_level(level):
    picture = Picture(np.repeat(SMOOTH, 4, 0))
    data = save_picture(picture, ".png", compress_level=level)
    np.testing.assert_array_equal(load(data).pixels, picture.pixels)
    assert (len(data) > picture.pixels.size) == (level == 0)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_picture_round_trip(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    channels = data.draw(st.sampled_from([1, 3]))
    size = height * width
    pixels = np.frombuffer(data.draw(st.binary(min_size=size * channels, max_size=size * channels)), np.uint8)
    alpha = data.draw(st.none() | st.binary(min_size=size, max_size=size))
    picture = Picture(
        pixels.reshape(height, width, channels),
        None if alpha is None else np.frombuffer(alpha, np.uint8).reshape(height, width),
    )
    again = load(save_picture(picture, data.draw(st.sampled_from([".png", ".webp", ".tif"]))))
    np.testing.assert_array_equal(*np.broadcast_arrays(again.pixels, picture.pixels))
    if picture.alpha is not None and picture.alpha.min() < 255:
        np.testing.assert_array_equal(again.alpha, picture.alpha)


# Helpers.


def test_input_suffixes():
    suffixes = input_suffixes()
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".gif", ".bmp", ".ppm", ".mpo"} <= suffixes
    assert not {".eps", ".ps", ".pdf", ".mpg", ".h5", ".wmf"} & suffixes
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)


def test_import_is_light():
    code = "import sys, codec_cli.pictures.images; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "scipy", "skimage", "click", "ai_edge_litert"} & set(eval(done.stdout))
