"""TIFF of every kind, made by other programs: docs/INPUTS.md."""

from input_helpers import (
    EXIFTOOL,
    FLOATING,
    FRAMES_NOTE,
    KEPT,
    REDUCED_NOTE,
    XMP_DROPPED,
    Refusal,
    Row,
    check_refusal,
    check_row,
    parametrize,
)

BY_PROFILE = (
    "magick {out} -intent perceptual -black-point-compensation -profile {icc}/srgb.icc -depth 8 ppm:-"
)
FLOAT = "-depth 32 -define quantum:format=floating-point -compress zip {out}"
REDUCED = {"tolerance": 1, "warnings": (REDUCED_NOTE,)}


def _row(name, commands, *facts, **options):
    return Row(f"tiff-{name}", commands, facts, **{"suffix": ".tif"} | options)


def _copied(name, options, *facts, **rest):
    """By libtiff's tools. ImageMagick reads the file."""
    return _row(name, f"ppm2tiff -c none colour.ppm a.tif\ntiffcp {options} a.tif {{out}}", *facts, **rest)


def _refused(name, commands, message):
    return Refusal(f"tiff-{name}", commands, ".tif", message)


ROWS = [
    _copied("none", "-c none", "Compression: Uncompressed"),
    _copied("lzw", "-c lzw:2", "Compression: LZW", "Predictor: Horizontal"),
    _copied("deflate", "-c zip", "Compression: Adobe Deflate"),
    _copied("packbits", "-c packbits", "Compression: PackBits"),
    _copied("lzma", "-c lzma", "Compression"),
    _copied("zstd", "-c zstd", "Compression"),
    _row("jpeg", "ppm2tiff -c jpeg:95 colour.ppm {out}", "Compression: JPEG", tolerance=1),
    _copied("tiled", "-c lzw -t -w 16 -l 16", "TileWidth: 16"),
    _copied("planar", "-p separate", "PlanarConfiguration: Planar"),
    _copied("planar-lzw", "-c lzw -p separate", "PlanarConfiguration: Planar", "Compression: LZW"),
    _copied("big", "-8", "FileType: BTF"),
    _copied("big-endian", "-B", "ExifByteOrder: Big-endian"),
    _row(
        "pages",
        "ppm2tiff -c none colour.ppm a.tif\nppm2tiff -c none red.ppm b.tif\ntiffcp a.tif b.tif {out}",
        warnings=(FRAMES_NOTE,),
    ),
    _row("bits", "magick bits.pgm -type bilevel -compress none {out}", "BitsPerSample: 1", channels=1),
    _row("fax", "magick bits.pgm -type bilevel -compress group4 {out}", "Compression: T6", channels=1),
    _row(
        "min-is-white",
        "magick bits.pgm -type bilevel -define quantum:polarity=min-is-white -compress none {out}",
        "PhotometricInterpretation: WhiteIsZero",
        channels=1,
    ),
    _row("gray-4", "magick gray4.pgm -depth 4 -compress none {out}", "BitsPerSample: 4", channels=1),
    _row("gray-8", "ppm2tiff -c lzw gray.pgm {out}", "BitsPerSample: 8", channels=1),
    _row("palette", "magick sixteen.ppm -type palette {out}", "PhotometricInterpretation: RGB Palette"),
    _row(
        "gray-16",
        "magick gray16.pgm -compress none {out}",
        "BitsPerSample: 16",
        channels=1,
        **REDUCED | {"tolerance": 0.5},
    ),
    _row(
        "gray-16-lzw",
        "magick gray16.pgm -compress lzw {out}",
        "BitsPerSample: 16",
        channels=1,
        **REDUCED | {"tolerance": 0.5},
    ),
    _row("colour-16", "magick colour16.ppm -compress none {out}", "BitsPerSample: 16", **REDUCED),
    _row("colour-16-lzw", "magick colour16.ppm -compress lzw {out}", "BitsPerSample: 16", **REDUCED),
    _row(
        "alpha-16",
        "magick colour-alpha16.pam -compress none {out}",
        "BitsPerSample: 16",
        alpha=True,
        **REDUCED,
    ),
    _row(
        "gray-32",
        "magick gray16.pgm -depth 32 -compress none {out}",
        "BitsPerSample: 32",
        channels=1,
        tolerance=0.5,
        warnings=("32-bit input reduced to 8 bits",),
    ),
    _row("float", f"magick gray.pgm {FLOAT}", "SampleFormat: Float", channels=1, warnings=(FLOATING,)),
    _row(
        "gray-alpha",
        "magick gray-alpha.pam -compress none {out}",
        "ExtraSamples: Unassociated",
        channels=1,
        alpha=True,
    ),
    _row("alpha", "magick colour-alpha.pam -compress none {out}", "ExtraSamples: Unassociated", alpha=True),
    _row(
        "alpha-associated",
        "magick colour-alpha.pam -define tiff:alpha=associated -compress none {out}",
        "ExtraSamples: Associated",
        alpha=True,
        tolerance=1,
    ),
    _row(
        "cmyk",
        "magick slope.ppm -colorspace CMYK -compress none {out}",
        "PhotometricInterpretation: CMYK",
        reader="magick {out} -colorspace sRGB -depth 8 ppm:-",
        tolerance=1,
        warnings=("CMYK converted without a profile",),
    ),
    _row(
        "cmyk-icc",
        "magick slope.ppm -profile {icc}/srgb.icc -profile {icc}/default_cmyk.icc -compress lzw {out}",
        "PhotometricInterpretation: CMYK",
        reader=BY_PROFILE,
        tolerance=1,
        warnings=("CMYK converted to sRGB by its profile",),
    ),
    _row(
        "icc",
        "magick colour.ppm -profile {icc}/a98.icc -compress none {out}",
        "ColorSpaceData: RGB",
        profile=KEPT,
    ),
    _row(
        "orientation",
        "ppm2tiff -c none colour.ppm {out}\ntiffset -s 274 6 {out}",
        "Orientation: Rotate 90 CW",
        reader="magick {out} -auto-orient -depth 8 ppm:-",
    ),
    _row(
        "exif",
        f"ppm2tiff -c none colour.ppm {{out}}\n{EXIFTOOL} -Make=Maker -GPSLatitude=12.5 -GPSLatitudeRef=N"
        " -DateTimeOriginal='2024:01:02 03:04:05' {out}",
        "Make: Maker",
        exif=("Make", "GPSLatitude", "DateTimeOriginal"),
    ),
    _row(
        "xmp",
        f"ppm2tiff -c none colour.ppm {{out}}\n{EXIFTOOL} -XMP-dc:Title=x {{out}}",
        "Title: x",
        warnings=(XMP_DROPPED,),
    ),
]

REFUSALS = [
    _refused(
        "planar-16",
        "magick colour16.ppm -interlace plane -compress none {out}",
        "more than 8 bits in separate planes are not supported; convert it to PNG",
    ),
    _refused(
        "planar-16-lzw",
        "magick colour16.ppm -interlace plane -compress lzw {out}",
        "more than 8 bits in separate planes are not supported; convert it to PNG",
    ),
    _refused(
        "float-colour",
        f"magick colour.ppm {FLOAT}",
        "a kind of TIFF that Pillow does not read; convert it to PNG",
    ),
    _refused(
        "preview",
        "ppm2tiff -c none colour.ppm {out}\ntiffset -s 254 1 {out}",
        "only a preview can be read of this raw photo or pyramid; convert it to PNG or TIFF",
    ),
    _refused(
        "truncated", "ppm2tiff -c none colour.ppm a.tif\nhead -c 3000 a.tif > {out}", "not an image that can"
    ),
]


@parametrize(ROWS)
def test_row(row, tmp_path, run):
    check_row(row, tmp_path, run)


@parametrize(REFUSALS)
def test_refusal(row, tmp_path, run):
    check_refusal(row, tmp_path, run)
