"""``codec decompress``: compressed files in, ordinary images out."""

from __future__ import annotations

import re

import click

from codec_cli import options

# The suffixes of codec_cli.pictures.images.OUTPUT_SUFFIXES, whose import would be slow; a test compares them.
FORMATS = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "ppm", "pgm", "pnm", "avif")


def _parse_region(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*){3}", value):
        raise click.BadParameter(f"{value!r} is not X,Y,W,H, as in 100,50,640,480")
    return tuple(int(number) for number in value.split(","))


@click.command(
    "decompress",
    epilog=options.examples(
        "codec decompress photo.bin              # writes photo.png",
        "codec decompress photo.bin photo.jpg",
        "codec decompress huge.bin part.png --region 12000,8000,1024,768",
        "codec decompress damaged.bin saved.png --salvage",
        "codec decompress compressed/ pictures/ --format webp",
        "codec decompress - < photo.bin > photo.png",
    ),
)
@click.option(
    "--format",
    "image_format",
    type=click.Choice(FORMATS, case_sensitive=False),
    show_default="by the suffix of OUT, else png",
    help="Image format to write.",
)
@click.option(
    "--region",
    metavar="X,Y,W,H",
    callback=_parse_region,
    help="Decode this part of the image only, in pixels from its upper left corner: quick, as only the tiles "
    "that it touches are decoded. [default: all of it]",
)
@click.option(
    "--salvage",
    is_flag=True,
    help="Of damaged files, save what is intact: tiles that are lost are gray, and named; near them (it says "
    "how near) pixels of others may differ a little. Holds the image in memory. The exit code is 12 if "
    "anything was lost. [default: refuse damaged files]",
)
@options.batch("*.bin")
@click.pass_context
def command(
    ctx: click.Context,
    batch: options.Batch,
    image_format: str | None,
    region: tuple[int, int, int, int] | None,
    salvage: bool,
) -> None:
    """Decompress files to ordinary images.

    INPUTS are files that `codec compress` wrote, directories, or - for standard input. One file may be
    followed by OUT, the image to write (- for standard output), in the format of its suffix; otherwise
    NAME.png is written beside NAME.bin. A directory needs OUT, a directory in which its folders are
    mirrored. Several files go into OUT if that is a directory or ends with a slash, or else beside the
    inputs.

    PNG, TIFF, BMP, PNM and WebP keep every pixel as decoded; JPEG is written with quality 95 and AVIF with
    90. The model that a file was compressed with is found by the fingerprint in the file.
    """
    from codec_cli.commands._batch import convert_all, threads_of
    from codec_cli.commands._verbs import Decompress
    from codec_cli.decoding import Region

    if salvage and (region is not None or batch.delete_source):
        raise click.UsageError("--salvage goes with neither --region nor --delete-source")
    verb = Decompress(
        models_dir=batch.models_dir,
        threads=threads_of(batch),
        format=image_format,
        region=None if region is None else Region(*region),
        salvage=salvage,
        max_pixels=batch.max_pixels,
        verbose=batch.verbose,
    )
    ctx.exit(convert_all(verb, batch))
