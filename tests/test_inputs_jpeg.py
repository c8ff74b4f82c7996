"""JPEG of every kind, made by other programs: docs/INPUTS.md."""

import dataclasses

import pytest
from input_helpers import (
    EXIFTOOL,
    KEPT,
    MANY,
    XMP_DROPPED,
    Refusal,
    Row,
    call,
    check_refusal,
    check_row,
    make,
    parametrize,
    parse_pnm,
    pictures,
)

from codec_cli.pictures.images import load_picture

UPRIGHT = "magick {out} -auto-orient -depth 8 ppm:-"
CMYK = "magick slope.ppm -colorspace CMYK {out}"
CMYK_ICC = "magick slope.ppm -profile {icc}/srgb.icc -profile {icc}/default_cmyk.icc {out}"
BY_PROFILE = (
    "magick {out} -intent perceptual -black-point-compensation -profile {icc}/srgb.icc -depth 8 ppm:-"
)
TAGS = (
    "-Make=Maker -GPSLatitude=12.5 -GPSLatitudeRef=N -DateTimeOriginal='2024:01:02 03:04:05'"
    " -MakerNoteSafety=1 -Orientation=3"
)


def _row(name, commands, *facts, **options):
    # Decoders may differ by a level; the versions at hand do not.
    return Row(
        f"jpeg-{name}",
        commands,
        facts,
        **{"suffix": ".jpg", "reader": "djpeg {out}", "tolerance": 1} | options,
    )


def _tagged(name, options, *facts, **rest):
    return _row(name, f"cjpeg colour.ppm > {{out}}\n{EXIFTOOL} {options} {{out}}", *facts, **rest)


def _ycck(row):
    """The same coefficients, said to be YCCK: Adobe's marker ends with the number of the transform."""
    return dataclasses.replace(
        row,
        name=row.name.replace("cmyk", "ycck"),
        commands=row.commands
        + "\nsed -e 's/Adobe\\(......\\)\\x00/Adobe\\1\\x02/' {out} > a.jpg\nmv a.jpg {out}",
        facts=("ColorComponents: 4", "ColorTransform: YCCK"),
    )


_CMYK = _row(
    "cmyk",
    CMYK,
    "ColorComponents: 4",
    reader="magick {out} -colorspace sRGB -depth 8 ppm:-",
    warnings=("CMYK converted without a profile",),
)

ROWS = [
    _row(
        "444",
        "cjpeg -sample 1x1 colour.ppm > {out}",
        "EncodingProcess: Baseline",
        "YCbCrSubSampling: YCbCr4:4:4",
    ),
    _row(
        "420",
        "cjpeg -sample 2x2 colour.ppm > {out}",
        "EncodingProcess: Baseline",
        "YCbCrSubSampling: YCbCr4:2:0",
    ),
    _row("422", "cjpeg -sample 2x1 colour.ppm > {out}", "YCbCrSubSampling: YCbCr4:2:2"),
    _row("411", "cjpeg -sample 4x1 colour.ppm > {out}", "YCbCrSubSampling: YCbCr4:1:1"),
    _row("440", "cjpeg -sample 1x2 colour.ppm > {out}", "YCbCrSubSampling: YCbCr4:4:0"),
    _row("400", "cjpeg gray.pgm > {out}", "ColorComponents: 1", channels=1),
    _row("rgb", "cjpeg -rgb colour.ppm > {out}", "ColorComponents: 3", "ColorTransform: Unknown (RGB"),
    _row("progressive", "cjpeg -progressive colour.ppm > {out}", "EncodingProcess: Progressive DCT, Huffman"),
    _row(
        "arithmetic",
        "cjpeg -arithmetic colour.ppm > {out}",
        "EncodingProcess: Extended sequential DCT, arith",
    ),
    _row("restart", "cjpeg -restart 1 colour.ppm > {out}"),
    _CMYK,
    _ycck(_CMYK),
    _row(
        "cmyk-icc",
        CMYK_ICC,
        "ColorComponents: 4",
        "ColorSpaceData: CMYK",
        reader=BY_PROFILE,
        warnings=("CMYK converted to sRGB by its profile",),
    ),
    *(
        _tagged(
            f"orientation-{number}",
            f"-Orientation={number} -Make=Maker",
            "Orientation",
            reader=UPRIGHT,
            exif=("Make",),
        )
        for number in range(1, 9)
    ),
    _tagged("exif", TAGS, "Make", reader=UPRIGHT, exif=("Make", "GPSLatitude", "DateTimeOriginal")),
    _row(
        "thumbnail",
        "cjpeg colour.ppm > {out}\ncjpeg slope.ppm > thumbnail.jpg\n"
        + EXIFTOOL
        + " -Make=Maker '-ThumbnailImage<=thumbnail.jpg' {out}",
        "ThumbnailLength",
        exif=("Make",),
    ),
    _tagged("xmp", "-XMP-dc:Title=x", "Title", warnings=(XMP_DROPPED,)),
    _tagged(
        "iptc",
        "-IPTC:Caption-Abstract=x",
        "Caption-Abstract",
        warnings=("IPTC dropped: only ICC profile and EXIF are kept",),
    ),
    _row("icc", "cjpeg -icc {icc}/a98.icc colour.ppm > {out}", "ColorSpaceData: RGB", profile=KEPT),
    _row("icc-gray", "cjpeg -icc {icc}/sgray.icc gray.pgm > {out}", channels=1, profile=KEPT),
    _row("trailing", "cjpeg colour.ppm > a.jpg\ncat a.jpg gray.pgm > {out}"),
]

REFUSALS = [
    Refusal("jpeg-truncated", "cjpeg colour.ppm > a.jpg\nhead -c 1500 a.jpg > {out}", ".jpg", "truncated"),
]


@parametrize(ROWS)
def test_row(row, tmp_path, run):
    check_row(row, tmp_path, run)


@parametrize(REFUSALS)
def test_refusal(row, tmp_path, run):
    check_refusal(row, tmp_path, run)


@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_brings_back_the_upright_picture(number, tmp_path):
    """Turned by jpegtran, said by exiftool: what is read is the picture before both."""
    turns = (
        "",
        "-flip horizontal",
        "-rotate 180",
        "-flip vertical",
        "-transpose",
        "-rotate 270",
        "-transverse",
    )
    turn = (*turns, "-rotate 90")[number - 1]
    (tmp_path / "slope.ppm").write_bytes(pictures()["slope.ppm"])
    # A side of 48 and 32: jpegtran turns whole blocks only.
    call(
        "pamcut -width 48 -height 32 slope.ppm > a.ppm\ncjpeg -quality 95 -sample 1x1 a.ppm > a.jpg", tmp_path
    )
    call(f"jpegtran -perfect {turn} a.jpg > b.jpg\n{EXIFTOOL} -Orientation={number} b.jpg", tmp_path)
    upright = parse_pnm(call("djpeg a.jpg", tmp_path))
    again = load_picture(tmp_path / "b.jpg", "b.jpg", MANY).pixels
    assert again.shape == upright.shape
    # Rows and columns of a transform are rounded in turn.
    assert abs(again - upright).max() <= 2


def test_a_cmyk_profile_makes_a_difference(tmp_path):
    """Near the picture that was converted to CMYK; without the profile it is not."""
    row = next(row for row in ROWS if row.name == "jpeg-cmyk-icc")
    source = parse_pnm(pictures()["slope.ppm"])
    by_profile = load_picture(make(row, tmp_path), "x", MANY).pixels
    plain = parse_pnm(
        call("magick {out} +profile '*' -colorspace sRGB ppm:-", tmp_path, tmp_path / "jpeg-cmyk-icc.jpg")
    )
    assert abs(by_profile - source).mean() < 10 < abs(plain - source).mean()
