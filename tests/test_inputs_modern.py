"""WebP, AVIF, HEIC and JPEG XL of every kind, made by other programs: docs/INPUTS.md."""

import io
import sys

import pytest
from input_helpers import (
    EXIFTOOL,
    FRAMES_NOTE,
    KEPT,
    MADE,
    MANY,
    REDUCED_NOTE,
    XMP_DROPPED,
    Refusal,
    Row,
    check_refusal,
    check_row,
    make,
    parametrize,
)

from codec_cli.errors import ImageError, LimitError
from codec_cli.pictures import modern
from codec_cli.pictures.images import input_suffixes, load_picture

PNG, PNG_ALPHA = "pnmtopng colour.ppm > a.png", "pamtopng colour-alpha.pam > a.png"
PNG_ICC = "magick colour.ppm -profile {icc}/a98.icc a.png"
TWO = f"{PNG}\npnmtopng red.ppm > b.png"
JPEG = f"cjpeg colour.ppm > a.jpg\n{EXIFTOOL} -Make=Maker -Orientation=6 a.jpg"
TEN_BITS = "10-bit input reduced to 8 bits"
PQ = "colour space PQ dropped: no ICC profile describes it"


def _webp(name, commands, reader="dwebp -quiet {out} -pam -o -", **options):
    return Row(f"webp-{name}", commands, suffix=".webp", reader=reader, **options)


def _avif(name, commands, reader="avifdec {out} again.png\npngtopam again.png", **options):
    return Row(f"avif-{name}", commands, suffix=".avif", reader=reader, **{"tolerance": 1} | options)


def _heic(name, commands, reader="heif-convert {out} again.png\npngtopam again.png", **options):
    options = {"tolerance": 1, "needs": "pillow_heif"} | options
    return Row(f"heic-{name}", commands, suffix=".heic", reader=reader, **options)


def _jxl(name, commands, reader="djxl {out} again.png\npngtopam again.png", **options):
    return Row(f"jxl-{name}", commands, suffix=".jxl", reader=reader, **{"needs": "pillow_jxl"} | options)


ROWS = [
    _webp("lossy", f"{PNG}\ncwebp -quiet -q 80 a.png -o {{out}}"),
    _webp("lossless", f"{PNG}\ncwebp -quiet -lossless a.png -o {{out}}"),
    _webp("alpha", f"{PNG_ALPHA}\ncwebp -quiet -q 80 a.png -o {{out}}", alpha=True),
    _webp("lossless-alpha", f"{PNG_ALPHA}\ncwebp -quiet -lossless -exact a.png -o {{out}}", alpha=True),
    _webp(
        "animated",
        f"{TWO}\nimg2webp -lossless a.png b.png -o {{out}}",
        "webpmux -get frame 1 {out} -o a.webp\ndwebp -quiet a.webp -pam -o -",
        warnings=(FRAMES_NOTE,),
    ),
    _webp("icc", f"{PNG_ICC}\ncwebp -quiet -metadata all a.png -o {{out}}", profile=KEPT),
    _webp(
        "exif",
        f"{JPEG}\ncwebp -quiet -metadata all a.jpg -o {{out}}",
        "dwebp -quiet {out} -ppm -o a.ppm\npamflip -cw a.ppm",
        exif=("Make",),
    ),
    _webp(
        "xmp",
        f"{JPEG}\n{EXIFTOOL} -XMP-dc:Title=x a.jpg\ncwebp -quiet -metadata xmp a.jpg -o {{out}}",
        warnings=(XMP_DROPPED,),
    ),
    _avif("444", f"{PNG}\navifenc -s 8 -y 444 a.png {{out}}"),
    _avif("420", f"{PNG}\navifenc -s 8 -y 420 a.png {{out}}"),
    _avif("400", "pnmtopng gray.pgm > a.png\navifenc -s 8 -y 400 a.png {out}", channels=1),
    _avif("lossless", f"{PNG}\navifenc -s 8 -l a.png {{out}}"),
    # Decoders go from 10 bits and YCbCr to 8 bits and R'G'B' in different ways.
    _avif("10", f"{PNG}\navifenc -s 8 -d 10 -y 444 a.png {{out}}", tolerance=3, warnings=(TEN_BITS,)),
    _avif(
        "alpha",
        f"{PNG_ALPHA}\navifenc -s 8 a.png {{out}}",
        "avifdec {out} again.png\npngtopam -alphapam again.png",
        alpha=True,
    ),
    # avifdec turns nothing.
    _avif(
        "irot",
        f"{PNG}\navifenc -s 8 --irot 1 a.png {{out}}",
        "heif-convert {out} again.png\npngtopam again.png",
    ),
    _avif(
        "irot-imir",
        f"{PNG}\navifenc -s 8 --irot 3 --imir 1 a.png {{out}}",
        "heif-convert {out} again.png\npngtopam again.png",
    ),
    _avif(
        "exif",
        f"{JPEG}\navifenc -s 8 a.jpg {{out}}",
        "avifdec {out} again.png\npngtopam again.png > a.ppm\npamflip -cw a.ppm",
        exif=("Make",),
    ),
    _avif("p3", f"{PNG}\navifenc -s 8 --cicp 12/13/6 a.png {{out}}", profile=MADE),
    _avif("pq", f"{PNG}\navifenc -s 8 --cicp 9/16/9 a.png {{out}}", warnings=(PQ,)),
    _avif("icc", f"{PNG_ICC}\navifenc -s 8 a.png {{out}}", profile=KEPT),
    _avif(
        "animated",
        f"{TWO}\navifenc -s 8 a.png b.png {{out}}",
        "avifdec {out} again.png\npngtopam -alphapam again.png",
        alpha=True,
        warnings=(FRAMES_NOTE,),
    ),
    _heic("420", f"{PNG}\nheif-enc -q 90 -o {{out}} a.png"),
    _heic("400", "pnmtopng gray.pgm > a.png\nheif-enc -q 90 -o {out} a.png", channels=1),
    _heic(
        "10",
        "pnmtopng colour16.ppm > a.png\nheif-enc -q 90 -b 10 -o {out} a.png",
        tolerance=3,
        warnings=(TEN_BITS,),
    ),
    _heic(
        "alpha",
        f"{PNG_ALPHA}\nheif-enc -q 90 -o {{out}} a.png",
        "heif-convert {out} again.png\npngtopam -alphapam again.png",
        alpha=True,
    ),
    _heic("thumbnail", f"{PNG}\nheif-enc -t 16 -q 90 -o {{out}} a.png"),
    _heic(
        "two",
        f"{TWO}\nheif-enc -q 90 -o {{out}} a.png b.png",
        "heif-convert {out} again.png\npngtopam again-1.png",
        warnings=(FRAMES_NOTE,),
    ),
    # The standard: what EXIF says of orientation doesn't count, and heif-enc writes nothing else.
    _heic("exif", f"{JPEG}\nheif-enc -q 90 -o {{out}} a.jpg", exif=("Make",)),
    _heic("icc", f"{PNG_ICC}\nheif-enc -q 90 -o {{out}} a.png", profile=KEPT),
    _jxl("lossy", "cjxl colour.ppm {out} -d 1", tolerance=1),
    _jxl("lossless", "cjxl colour.ppm {out} -d 0"),
    _jxl("gray", "cjxl gray.pgm {out} -d 0", channels=1),
    _jxl("gray-16", "cjxl gray16.pgm {out} -d 0", channels=1, tolerance=0.5, warnings=(REDUCED_NOTE,)),
    _jxl("colour-16", "cjxl colour16.ppm {out} -d 0", tolerance=1, warnings=(REDUCED_NOTE,)),
    _jxl(
        "alpha",
        f"{PNG_ALPHA}\ncjxl a.png {{out}} -d 0",
        "djxl {out} again.png\npngtopam -alphapam again.png",
        alpha=True,
    ),
    _jxl("p3", "cjxl colour.ppm {out} -d 0 -x color_space=RGB_D65_DCI_Rel_SRG", profile=MADE),
    _jxl("jpeg", "cjpeg colour.ppm > a.jpg\ncjxl a.jpg {out}", "djxl {out} again.jpg\ndjpeg again.jpg"),
    _jxl(
        "jpeg-exif",
        f"{JPEG}\ncjxl a.jpg {{out}}",
        "djxl {out} again.jpg\nmagick again.jpg -auto-orient -depth 8 ppm:-",
        exif=("Make",),
    ),
    _jxl(
        "jpeg-xmp",
        f"{JPEG}\n{EXIFTOOL} -Orientation=1 -XMP-dc:Title=x a.jpg\ncjxl a.jpg {{out}}",
        "djxl {out} again.jpg\ndjpeg again.jpg",
        exif=("Make",),
        warnings=(XMP_DROPPED,),
    ),
    # The orientation that counts is not in EXIF.
    _jxl(
        "exif",
        f"cjxl colour.ppm {{out}} -d 0 --container=1\n{EXIFTOOL} -Make=Maker -Orientation=6 {{out}}",
        exif=("Make",),
    ),
]

REFUSALS = [
    Refusal(
        "jxl-animated",
        "pnmtopng colour.ppm > a1.png\npnmtopng red.ppm > a2.png\napngasm a.png a1.png a2.png\n"
        "cjxl a.png {out} -d 0",
        ".jxl",
        "an animated JPEG XL is not supported; convert a frame of it to PNG",
    ),
    Refusal(
        "webp-truncated",
        f"{PNG}\ncwebp -quiet a.png -o a.webp\nhead -c 300 a.webp > {{out}}",
        ".webp",
        "not an",
    ),
    Refusal(
        "avif-truncated", f"{PNG}\navifenc -s 8 a.png a.avif\nhead -c 600 a.avif > {{out}}", ".avif", "not an"
    ),
    Refusal(
        "jxl-truncated", "cjxl colour.ppm a.jxl -d 0\nhead -c 900 a.jxl > {out}", ".jxl", "not an image that"
    ),
]

WITHOUT = [
    Refusal(
        "heic-without-plugin",
        f"{PNG}\nheif-enc -q 90 -o {{out}} a.png",
        ".heic",
        "HEIC needs the package pillow-heif: pip install pillow-heif",
    ),
    Refusal(
        "jxl-without-plugin",
        "cjxl colour.ppm {out} -d 0",
        ".jxl",
        "JPEG XL needs the package pillow-jxl-plugin: pip install pillow-jxl-plugin",
    ),
    Refusal(
        "avif-without-pillow",
        f"{PNG}\navifenc -s 8 a.png {{out}}",
        ".avif",
        "has no AVIF: pip install --upgrade pillow",
    ),
]


@parametrize(ROWS)
def test_row(row, tmp_path, run):
    check_row(row, tmp_path, run)


@parametrize(REFUSALS)
def test_refusal(row, tmp_path, run):
    check_refusal(row, tmp_path, run)


@parametrize(WITHOUT)
def test_without_plugin(row, tmp_path, run, monkeypatch):
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)  # What makes an import fail.
    modern.Image.init()
    for table in (modern.Image.OPEN, modern.Image.SAVE):
        for kind in {"HEIF", "JXL", "AVIF"}.intersection(table):
            monkeypatch.delitem(table, kind)
    monkeypatch.setattr(modern.Image, "ID", [kind for kind in modern.Image.ID if kind in modern.Image.OPEN])
    assert row.suffix in input_suffixes()
    check_refusal(row, tmp_path, run)


@pytest.mark.parametrize("name", ["jxl-lossless", "jxl-exif", "jxl-jpeg-exif", "heic-420", "avif-444"])
def test_size_is_checked_before_pixels_are_decoded(name, tmp_path, monkeypatch):
    row = next(row for row in ROWS if row.name == name)
    if row.needs:
        pytest.importorskip(row.needs)
    out = make(row, tmp_path)
    plugin = sys.modules.get("pillow_jxl.JpegXLImagePlugin")
    if name.startswith("jxl") and plugin is not None:
        monkeypatch.setattr(plugin, "Decoder", None)  # It decodes when a file is opened.
    with pytest.raises(LimitError, match=r"^x: (53x37|37x53) = 1961 pixels is above the limit of 1960"):
        load_picture(out, "x", 1960)


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.name.startswith(("jxl", "heic", "avif"))])
def test_facts_of_damaged_headers(name, tmp_path):
    """Whatever the bytes are: facts, none, or ValueError."""
    row = next(row for row in ROWS if row.name == name)
    data = make(row, tmp_path).read_bytes()
    assert modern.read_facts(io.BytesIO(data)) is not None
    for position in range(0, min(len(data), 700), 7):
        for value in (0, 1, 0x7F, 0xFF):
            damaged = bytearray(data)
            damaged[position] = value
            for stream in (io.BytesIO(damaged), io.BytesIO(data[:position])):
                try:
                    modern.read_facts(stream)
                except ValueError:
                    assert name.startswith("jxl")


def test_a_damaged_jpeg_xl_is_an_image_error():
    with pytest.raises(ImageError, match="the header is cut short"):
        load_picture(b"\xff\x0a", "x", MANY)
