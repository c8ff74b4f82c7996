"""BMP, GIF, PNM, and what else there is, made by other programs: docs/INPUTS.md."""

from input_helpers import (
    FLOATING,
    FRAMES_NOTE,
    REDUCED_NOTE,
    Refusal,
    Row,
    check_refusal,
    check_row,
    parametrize,
)

from codec_cli.pictures.contents import LAYERS_NOTE, SIZES_NOTE


def _row(name, commands, suffix, **options):
    return Row(name, commands, suffix=suffix, **options)


def _bmp(name, commands, *facts, **options):
    return Row(f"bmp-{name}", commands, facts, suffix=".bmp", **{"reader": "bmptopnm {out}"} | options)


MAGICK = "magick {out}[0] -depth 8 pam:-"
MASKED = "magick sixteen.ppm mask.pgm -alpha off -compose CopyOpacity -composite {out}"
PAM_ALPHA = "pamflip -null colour-alpha.pam"

ROWS = [
    _bmp("1", "ppmtobmp -windows -bpp=1 two.ppm > {out}", "BitDepth: 1"),
    _bmp("4", "ppmtobmp -windows -bpp=4 sixteen.ppm > {out}", "BitDepth: 4"),
    _bmp("8", "ppmtobmp -windows -bpp=8 many.ppm > {out}", "BitDepth: 8"),
    _bmp("24", "ppmtobmp -windows -bpp=24 colour.ppm > {out}", "BitDepth: 24"),
    _bmp("os2", "ppmtobmp -os2 sixteen.ppm > {out}"),
    # Five bits become eight; programs round differently.
    _bmp(
        "16", "magick colour.ppm -define bmp:subtype=RGB565 {out}", "BitDepth: 16", tolerance=1, reader=MAGICK
    ),
    _bmp("32", "magick colour-alpha.pam {out}", "BitDepth: 32", alpha=True, reader=MAGICK),
    _bmp(
        "rle8",
        "magick many.ppm -type palette -compress RLE bmp3:{out}",
        "Compression: 8-Bit RLE",
        reader=MAGICK,
    ),
    _row("gif", "pamtogif many.ppm > {out}", ".gif", reader="giftopnm {out}"),
    _row("gif-gray", "pamtogif gray.pgm > {out}", ".gif", reader="giftopnm {out}"),
    _row("gif-interlaced", "pamtogif -interlace many.ppm > {out}", ".gif", reader="giftopnm {out}"),
    _row("gif-transparent", MASKED, ".gif", alpha=True),
    _row("gif-animated", "magick sixteen.ppm red.ppm {out}", ".gif", warnings=(FRAMES_NOTE,)),
    _row("pnm-p1", "magick bits.pgm -compress none {out}", ".pbm", channels=1),
    _row("pnm-p2", "pnmtoplainpnm gray.pgm > {out}", ".pgm", channels=1),
    _row("pnm-p3", "pnmtoplainpnm colour.ppm > {out}", ".ppm"),
    _row("pnm-p4", "magick bits.pgm {out}", ".pbm", channels=1),
    _row("pnm-p5", "pamflip -null gray.pgm > {out}", ".pgm", channels=1),
    _row("pnm-p6", "pamflip -null colour.ppm > {out}", ".ppm"),
    _row("pnm-5-bit", "pamdepth 31 colour.ppm > {out}", ".ppm", tolerance=0.5),
    _row("pnm-10-bit", "pamdepth 1023 colour16.ppm > {out}", ".ppm", tolerance=0.5, warnings=(REDUCED_NOTE,)),
    _row(
        "pnm-p5-16",
        "pamflip -null gray16.pgm > {out}",
        ".pgm",
        channels=1,
        tolerance=0.5,
        warnings=(REDUCED_NOTE,),
    ),
    _row("pnm-p6-16", "pamflip -null colour16.ppm > {out}", ".ppm", tolerance=0.5, warnings=(REDUCED_NOTE,)),
    _row(
        "pfm-gray",
        "pamtopfm gray.pgm > {out}",
        ".pfm",
        channels=1,
        reader="pfmtopam {out}",
        warnings=(FLOATING,),
    ),
    _row("ico", "ppmtowinicon sixteen.ppm > {out}", ".ico", alpha=True),
    _row("ico-alpha", "magick colour-alpha.pam {out}", ".ico", alpha=True),
    _row(
        "ico-sizes",
        "magick colour.ppm -resize 16x16! small.png\nmagick colour.ppm small.png {out}",
        ".ico",
        alpha=True,
        warnings=(SIZES_NOTE,),
    ),
    _row("tga", "pamtotga -rgb -norle colour.ppm > {out}", ".tga", reader="tgatoppm {out}"),
    _row("tga-rle", "pamtotga -rgb colour.ppm > {out}", ".tga", reader="tgatoppm {out}"),
    _row("tga-palette", "pamtotga -cmap sixteen.ppm > {out}", ".tga", reader="tgatoppm {out}"),
    _row("tga-gray", "pamtotga -mono gray.pgm > {out}", ".tga", channels=1, reader="tgatoppm {out}"),
    _row("psd", "magick colour.ppm {out}", ".psd"),
    _row("psd-gray", "magick gray.pgm {out}", ".psd", channels=1),
    _row("psd-layers", "magick colour.ppm ( red.ppm gray.pgm ) {out}", ".psd", warnings=(LAYERS_NOTE,)),
    # Not read by ImageMagick 6 itself as it was written: compared with the source.
    _row("psd-alpha", "magick colour-alpha.pam {out}", ".psd", alpha=True, reader=PAM_ALPHA),
    _row("pcx", "ppmtopcx sixteen.ppm > {out}", ".pcx", reader="pcxtoppm {out}"),
    _row("sgi", "pnmtosgi colour.ppm > {out}", ".sgi", reader="sgitopnm {out}"),
    _row("qoi", "pamtoqoi colour.ppm > {out}", ".qoi", reader="qoitopam {out}"),
    _row("jp2", "magick colour.ppm -quality 90 {out}", ".jp2", tolerance=1),
]

REFUSALS = [
    Refusal(
        "pam", "pamflip -null colour-alpha.pam > {out}", ".pam", "a kind of PAM that Pillow does not read"
    ),
    Refusal("pfm-colour", "pamtopfm colour.ppm > {out}", ".pfm", "a kind of PFM that Pillow does not read"),
    Refusal(
        "psd-16", "magick colour16.ppm -depth 16 {out}", ".psd", "a kind of PSD that Pillow does not read"
    ),
]


@parametrize(ROWS)
def test_row(row, tmp_path, run):
    check_row(row, tmp_path, run)


@parametrize(REFUSALS)
def test_refusal(row, tmp_path, run):
    check_refusal(row, tmp_path, run)
