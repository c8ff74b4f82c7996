"""What of an image file is lost: warned of, refused, or a reason not to delete the file."""

import importlib.util
import io
import struct
import zlib

import pytest
from conftest import error_line
from PIL import Image

from codec_cli.pictures import contents
from codec_cli.pictures.images import load_picture
from codec_cli.pictures.keeping import unkept

MANY = 1 << 20
TINY = ("--model", "tiny")


def encoded(kind, mode="RGB", **options):
    data = io.BytesIO()
    Image.linear_gradient("L").convert(mode).resize((32, 32)).save(data, kind, **options)
    return data.getvalue()


def losses(folder, data, strip=False):
    path = folder / "a"
    path.write_bytes(data)
    return unkept(path, "a", MANY, strip)


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(*content):
    png = encoded("PNG")
    return png[:33] + chunk(*content) + png[33:]  # Behind IHDR.


def with_segment(code, data):
    jpeg = encoded("JPEG")
    return jpeg[:2] + struct.pack(">BBH", 0xFF, code, len(data) + 2) + data + jpeg[2:]


def tiff(samples=3, photometric=2, magic=b"", **tags):
    """A TIFF of 4x4 pixels with tags (tNNN) more than it needs, all LONG."""
    start = 8 + len(magic)
    facts = {256: 4, 257: 4, 258: 8, 259: 1, 262: photometric, 277: samples, 278: 4, 279: 16 * samples}
    facts |= {int(name[1:]): value for name, value in tags.items()} | {273: 0}
    rest = start + 2 + 12 * len(facts) + 4
    pixels, places = bytes(range(16)) * samples, []
    for tag, value in sorted(facts.items()):
        values = (value,) * samples if tag == 258 else value if isinstance(value, tuple) else (value,)
        data = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            pixels += data
            data = struct.pack("<I", rest + len(pixels) - len(data))
        places.append([tag, len(values), data])
    for place in places:
        if place[0] == 273:
            place[2] = struct.pack("<I", rest)
    entries = b"".join(struct.pack("<HHI", tag, 4, count) + data for tag, count, data in places)
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + magic
        + struct.pack("<H", len(places))
        + entries
        + bytes(4)
        + pixels
    )


WHOLE = {
    "png": lambda: encoded("PNG", icc_profile=b"x" * 200, dpi=(72, 72)),
    "png-alpha": lambda: encoded("PNG", "RGBA"),
    "jpeg": lambda: encoded("JPEG", dpi=(72, 72)),
    "jpeg-progressive": lambda: encoded(
        "JPEG", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
    ),
    "jpeg-padded": lambda: encoded("JPEG") + bytes(1000),
    "jpeg-restarts": lambda: encoded("JPEG", restart_marker_blocks=1),
    "tiff": lambda: encoded("TIFF", compression="tiff_lzw", description="x"),
    "tiff-by-hand": tiff,
    "webp": lambda: encoded("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "pgm": lambda: encoded("PPM", "L"),
    "ppm": lambda: encoded("PPM"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_kinds_that_are_kept_whole(tmp_path, name):
    assert losses(tmp_path, WHOLE[name]()) == ()


TEXTS = "text chunks are not kept"
LOST = {
    "tEXt": (lambda: with_chunk(b"tEXt", b"Comment\0x"), TEXTS),
    "zTXt": (lambda: with_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x")), TEXTS),
    "iTXt": (lambda: with_chunk(b"iTXt", b"Comment\0\0\0\0\0x"), TEXTS),
    "png-unknown": (lambda: with_chunk(b"caBX", b"x"), "PNG chunk caBX is not kept"),
    "png-behind": (lambda: encoded("PNG") + b"film", "4 bytes behind the picture are not kept"),
    "jpeg-comment": (lambda: encoded("JPEG", comment=b"x"), "comments are not kept"),
    "jpeg-behind": (lambda: encoded("JPEG") + b"\0film", "4 bytes behind the picture are not kept"),
    "jpeg-behind-progressive": (
        lambda: encoded("JPEG", progressive=True) + encoded("JPEG"),
        f"{len(encoded('JPEG'))} bytes behind the picture are not kept",
    ),
    "jpeg-app11": (lambda: with_segment(0xEB, b"JP\0\1"), "JPEG segment APP11 is not kept"),
    "jpeg-gain-map": (
        lambda: with_segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0"),
        "JPEG segment APP2 is not kept",
    ),
    "jpeg-photoshop": (lambda: with_segment(0xED, b"Photoshop 3.0\0"), "JPEG segment APP13 is not kept"),
    "tiff": (lambda: tiff(t33550=1), "TIFF tag 33550 is not kept"),
    "webp-chunk": (
        lambda: (lambda data: data[:4] + struct.pack("<I", len(data)) + data[8:] + b"abcd\0\0\0\0")(
            encoded("WEBP")
        ),
        "WebP chunk abcd is not kept",
    ),
    "webp-behind": (lambda: encoded("WEBP") + b"film", "4 bytes behind the picture are not kept"),
    "ppm-two": (
        lambda: encoded("PPM") * 2,
        "what a file of this kind (PPM) may hold beside its picture is not kept",
    ),
    "ppm-comment": (
        lambda: encoded("PPM").replace(b"P6\n", b"P6\n#x\n"),
        "what a file of this kind (PPM) may hold beside its picture is not kept",
    ),
    "bmp": (lambda: encoded("BMP"), "what a file of this kind (BMP) may hold beside its picture is not kept"),
    "gif": (lambda: encoded("GIF"), "what a file of this kind (GIF) may hold beside its picture is not kept"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_without_a_warning(tmp_path, name):
    make, expected = LOST[name]
    assert losses(tmp_path, make()) == (expected,)
    assert load_picture(tmp_path / "a", "a", MANY).warnings == ()
    asked_for = expected in (TEXTS, "comments are not kept", "JPEG segment APP13 is not kept")
    assert losses(tmp_path, make(), strip=True) == (() if asked_for else (expected,))


def test_heic_may_hold_depth_and_more(tmp_path):
    if importlib.util.find_spec("pillow_heif") is None:
        pytest.skip("needs pillow-heif (pip install '.[formats]')")
    from codec_cli.pictures.modern import load_heif

    load_heif()
    (loss,) = losses(tmp_path, encoded("HEIF"))
    assert loss == "what a file of this kind (HEIF) may hold beside its picture is not kept"


@pytest.mark.parametrize("name", ["tEXt", "jpeg-behind", "jpeg-comment", "bmp"])
def test_delete_source_keeps_what_is_not_kept_whole(run, tmp_path, name):
    make, expected = LOST[name]
    source = tmp_path / "a.img"
    source.write_bytes(make())
    result = run("compress", source, tmp_path / "a.bin", "--delete-source", "-q", "90", *TINY)
    assert result.exit_code == 0
    assert f"{source}: warning: {expected}" in result.stderr
    assert f"{source}: warning: source kept, for what is said above" in result.stderr
    assert source.read_bytes() == make()
    quiet = run("compress", source, tmp_path / "b.bin", "-q", "90", *TINY)
    assert expected not in quiet.stderr


# What is warned of, or refused, in any case


@pytest.mark.parametrize(
    ("make", "warning"),
    [
        (lambda: tiff(samples=5, t338=(0, 0)), contents.CHANNELS_NOTE),
        (lambda: tiff(samples=4, t338=0), contents.CHANNELS_NOTE),
        (lambda: tiff(samples=5, t338=(2, 0)), contents.CHANNELS_NOTE),
        (lambda: tiff(t330=0), contents.SUBIFDS_NOTE),
        (lambda: tiff(t37724=0), contents.LAYERS_NOTE),
        (lambda: encoded("ICO", sizes=[(16, 16), (32, 32)]), contents.SIZES_NOTE),
    ],
    ids=["rgbxx", "rgbx", "rgbax", "sub-ifds", "layers", "icon"],
)
def test_what_is_warned_of(run, tmp_path, make, warning):
    source = tmp_path / "a.img"
    source.write_bytes(make())
    assert load_picture(source, "a", MANY).warnings == (warning,)
    result = run("compress", source, tmp_path / "a.bin", "--strip", "--delete-source", *TINY)
    assert result.exit_code == 0
    assert f"{source}: warning: {warning}" in result.stderr
    assert source.exists()


def test_alpha_is_no_other_channel(tmp_path):
    for data in (
        tiff(samples=4, t338=2),
        tiff(samples=2, photometric=1, t338=2),
        encoded("ICO", sizes=[(32, 32)]),
    ):
        (tmp_path / "a").write_bytes(data)
        assert load_picture(tmp_path / "a", "a", MANY).warnings == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiff(t254=1, t330=8),
        lambda: tiff(t255=2),
        lambda: tiff(magic=b"CR\2\0\0\0\0\0"),
    ],
    ids=["dng-nef-arw", "old", "cr2"],
)
def test_previews_of_raw_photos_are_refused(run, tmp_path, make):
    source = tmp_path / "a.dng"
    source.write_bytes(make())
    result = run("compress", source, tmp_path / "a.bin", "--delete-source", *TINY)
    assert result.exit_code == 3
    assert "only a preview can be read of this raw photo" in error_line(result)
    assert [path.name for path in tmp_path.iterdir()] == ["a.dng"]
