"""PNG of every kind, made by other programs: docs/INPUTS.md."""

import numpy as np
import pytest
from helpers import texture
from input_helpers import (
    EXIFTOOL,
    FRAMES_NOTE,
    HEIGHT,
    KEPT,
    MADE,
    MANY,
    REDUCED_NOTE,
    SIZES,
    WIDTH,
    XMP_DROPPED,
    Row,
    call,
    check_row,
    make,
    parametrize,
    parse_pnm,
    pictures,
)

from codec_cli.pictures.images import load_picture

READER, ALPHA_READER = "pngtopam {out}", "pngtopam -alphapam {out}"
FIRST = "/".join(f"{level:02x}" for level in texture(HEIGHT, WIDTH)[0, 0])
P3 = "cjxl colour.ppm a.jxl -d 0 -x color_space=RGB_D65_DCI_Rel_SRG\ndjxl a.jxl {out}"


def _plain():
    """All colour types and bit depths, without and with interlace."""
    # Of ImageMagick; it gives palettes an entry more, so these are netpbm's, which takes the fewest bits.
    kinds = (
        (
            "gray",
            0,
            "Grayscale",
            {1: "bits.pgm", 2: "gray2.pgm", 4: "gray4.pgm", 8: "gray.pgm", 16: "gray16.pgm"},
        ),
        ("colour", 2, "RGB", {8: "colour.ppm", 16: "colour16.ppm"}),
        ("palette", 3, "Palette", {1: "two.ppm", 2: "four.ppm", 4: "sixteen.ppm", 8: "many.ppm"}),
        ("gray-alpha", 4, "Grayscale with Alpha", {8: "gray-alpha.pam", 16: "gray-alpha16.pam"}),
        ("colour-alpha", 6, "RGB with Alpha", {8: "colour-alpha.pam", 16: "colour-alpha16.pam"}),
    )
    for name, kind, described, depths in kinds:
        for depth, source in depths.items():
            for interlace, way in (("", "Noninterlaced"), ("-interlaced", "Adam7 Interlace")):
                options = f"-define png:color-type={kind} -define png:bit-depth={depth}"
                line = f"magick {source} {options} {'-interlace PNG ' if interlace else ''}{{out}}"
                if kind == 3:
                    line = f"pnmtopng {'-interlace ' if interlace else ''}{source} > {{out}}"
                yield Row(
                    f"png-{name}-{depth}{interlace}",
                    line,
                    (f"ColorType: {described}", f"BitDepth: {depth}", f"Interlace: {way}"),
                    reader=ALPHA_READER if "alpha" in name else READER,
                    channels=1 if "gray" in name else 3,
                    alpha="alpha" in name,
                    # Pillow keeps the upper byte of colours; gray is rounded.
                    tolerance=0 if depth < 16 else 0.5 if name == "gray" else 1,
                    warnings=(REDUCED_NOTE,) if depth == 16 else (),
                )


def _tagged(name, options, channels=3, profile=""):
    source = "colour.ppm" if channels == 3 else "gray.pgm"
    return Row(
        f"png-{name}",
        f"pnmtopng {options} {source} > {{out}}",
        ("Gamma",),
        reader=READER,
        channels=channels,
        profile=profile,
    )


def _transparent(name, line, channels=3):
    return Row(
        f"png-trns-{name}", line, ("Transparency",), reader=ALPHA_READER, channels=channels, alpha=True
    )


ROWS = [
    *_plain(),
    _transparent("gray-1", "pnmtopng -transparent=rgb:ff/ff/ff bits.pgm > {out}", 1),
    _transparent("gray-4", "pnmtopng -transparent=rgb:ff/ff/ff gray4.pgm > {out}", 1),
    _transparent("colour", f"pnmtopng -transparent=rgb:{FIRST} colour.ppm > {{out}}"),
    _transparent("palette", "pnmtopng -alpha=mask.pgm sixteen.ppm > {out}"),
    _tagged("srgb", "-srgbintent=perceptual -gamma=0.45455"),
    _tagged("gamma-srgb", "-gamma=0.45455"),
    _tagged("gamma-linear", "-gamma=1.0", profile=MADE),
    _tagged("gamma-gray", "-gamma=1.0", 1, profile=MADE),
    Row(
        "png-gamma-chroma",
        "magick colour.ppm -white-point 0.3127,0.329 -red-primary 0.68,0.32 -green-primary 0.265,0.69 {out}",
        ("GreenX: 0.265",),
        reader=READER,
        profile=MADE,
    ),
    Row(
        "png-cicp",
        f"{P3}\n{EXIFTOOL} -icc_profile:all= {{out}}",
        reader=READER,
        profile=MADE,
    ),
    Row("png-icc-p3", P3, ("ProfileName",), reader=READER, profile=KEPT),
    Row("png-icc", "magick colour.ppm -profile {icc}/a98.icc {out}", ("ProfileName",), profile=KEPT),
    Row(
        "png-icc-gray",
        "magick gray.pgm -profile {icc}/sgray.icc {out}",
        ("ProfileName", "ColorSpaceData: GRAY"),
        channels=1,
        profile=KEPT,
    ),
    Row(
        "png-icc-unfit",
        f"pnmtopng gray.pgm > {{out}}\n{EXIFTOOL} '-icc_profile<={{icc}}/srgb.icc' {{out}}",
        ("ColorSpaceData: RGB",),
        reader=READER,
        channels=1,
        warnings=("colour profile for RGB dropped: it does not fit the pixels",),
    ),
    Row(
        "png-apng",
        "pnmtopng colour.ppm > a1.png\npnmtopng red.ppm > a2.png\napngasm {out} a1.png a2.png",
        ("AnimationFrames: 2",),
        alpha=True,
        warnings=(FRAMES_NOTE,),
    ),
    Row(
        "png-exif",
        f"pnmtopng colour.ppm > {{out}}\n{EXIFTOOL} -Make=Maker -Orientation=6 {{out}}",
        ("Make: Maker",),
        # ImageMagick knows no orientation of PNG.
        reader=f"{READER} > a.ppm\npamflip -cw a.ppm",
        exif=("Make",),
    ),
    Row(
        "png-xmp",
        f"pnmtopng colour.ppm > {{out}}\n{EXIFTOOL} -XMP-dc:Title=x {{out}}",
        ("Title: x",),
        reader=READER,
        warnings=(XMP_DROPPED,),
    ),
    Row("png-crushed", "pnmtopng colour.ppm > a.png\npngcrush -q a.png {out}", reader=READER),
    *(
        Row(f"size-{width}x{height}", f"pnmtopng colour-{width}x{height}.ppm > {{out}}", reader=READER)
        for width, height in SIZES
    ),
]


@parametrize(ROWS)
def test_row(row, tmp_path, run):
    check_row(row, tmp_path, run)


def _shown(profile, folder):
    """colour.ppm as a screen with sRGB shows it if it has a profile, by ImageMagick."""
    (folder / "of.icc").write_bytes(profile)
    (folder / "colour.ppm").write_bytes(pictures()["colour.ppm"])
    line = "magick colour.ppm -intent relative -profile of.icc -profile {icc}/srgb.icc -depth 16 ppm:-"
    return parse_pnm(call(line, folder))


def test_a_linear_gamma_becomes_a_linear_profile(tmp_path):
    row = next(row for row in ROWS if row.name == "png-gamma-linear")
    picture = load_picture(make(row, tmp_path), "x", MANY)
    linear = picture.pixels / 255
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)

    assert np.abs(_shown(picture.icc, tmp_path) - 255 * srgb).max() < 1


@pytest.mark.parametrize("name", ["png-cicp", "png-gamma-chroma"])
def test_primaries_become_a_profile(tmp_path, name):
    rows = {row.name: row for row in ROWS}
    theirs = load_picture(make(rows["png-icc-p3"], tmp_path), "x", MANY).icc
    ours = load_picture(make(rows[name], tmp_path), "x", MANY).icc
    difference = np.abs(_shown(ours, tmp_path) - _shown(theirs, tmp_path))
    # A gamma of 2.2 is not sRGB's curve: levels differ by up to 4 of 255, most of all dark ones.
    assert difference.max() < (1 if name == "png-cicp" else 10)
    assert np.abs(_shown(ours, tmp_path) - parse_pnm(pictures()["colour.ppm"])).max() > 20


def test_loss_of_16_bits(tmp_path):
    """The figures of docs/INPUTS.md."""
    for name, expected in (("png-gray-16", 58.9), ("png-colour-16", 55.9)):
        row = next(row for row in ROWS if row.name == name)
        out = make(row, tmp_path)
        exact = parse_pnm(call(row.reader, tmp_path, out))
        error = load_picture(out, "x", MANY).pixels - exact
        assert 10 * np.log10(255**2 / np.mean(error**2)) == pytest.approx(expected, abs=0.2)
