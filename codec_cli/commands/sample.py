"""``codec sample``: pictures drawn from what a model has learned, in a grid."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from codec_cli import options

STDOUT = "-"


@click.command(
    "sample",
    epilog=options.examples(
        "codec sample photo                     # writes samples.png",
        "codec sample mnist -n 100 --columns 10 --scale 2 -o digits.png",
        "codec sample photo -q 10 --seed 7 -o - > drawn.png",
    ),
)
@click.argument("model", metavar="MODEL", shell_complete=options.complete_model)
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=64,
    show_default=True,
    help="How many pictures to draw.",
)
@click.option(
    "-o",
    "--output",
    default="samples.png",
    metavar="FILE",
    show_default=True,
    help="Image to write, in the format of its suffix; - for PNG on standard output.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    metavar="N",
    default=0,
    show_default=True,
    help="Chooses the pictures: the same number gives the same ones.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 10, min_open=True),
    metavar="T",
    default=1.0,
    show_default=True,
    help="1 draws from the prior as it is; below 1 what is likely gets likelier: fewer odd pictures, less "
    "variety.",
)
@options.quality
@click.option(
    "--columns",
    type=click.IntRange(min=1),
    metavar="N",
    show_default="makes the grid square",
    help="Pictures in a row.",
)
@click.option(
    "--scale",
    type=click.IntRange(1, 64),
    metavar="K",
    default=1,
    show_default=True,
    help="Side of the square, in pixels, that each pixel becomes.",
)
@options.models_dir
@options.force
@options.quiet
def command(
    model: str,
    count: int,
    output: str,
    seed: int,
    temperature: float,
    quality: int | None,
    columns: int | None,
    scale: int,
    models_dir: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Draw pictures from what a model has learned.

    MODEL is a name or alias that `codec models` lists, or the path of a model folder. Latents are drawn
    from the model's own prior, the one that it compresses with, at the quality level given, and decoded
    into a grid of pictures. A model for images of one size draws whole images; one for photographs draws
    small textures.
    """
    from codec_cli.errors import OutputError
    from codec_cli.files import write_atomic
    from codec_cli.pictures.images import OUTPUT_SUFFIXES, Picture, save_picture
    from codec_cli.sampling import grid, sample
    from codec_cli.zoo import Zoo

    path = Path(output)
    suffix = ".png" if output == STDOUT else path.suffix.lower() or ".png"
    if suffix not in OUTPUT_SUFFIXES:
        raise OutputError(
            f"{path}: unknown image suffix {suffix}; choose one of {', '.join(OUTPUT_SUFFIXES)}"
        )
    if output == STDOUT and sys.stdout.isatty() and not force:
        raise OutputError("standard output is a terminal; name a file with -o, or use --force")
    info = Zoo(models_dir).info(model)
    level = info.level_of_quality(info.default_quality if quality is None else quality)
    drawn = sample(info, count, seed=seed, level=level, temperature=temperature)
    picture = Picture(grid(list(drawn), columns, scale))
    data = save_picture(picture, suffix, name=output)
    if output == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    write_atomic(path, data, force)
    if not quiet:
        height, width = picture.pixels.shape[:2]
        click.echo(f"{output}: {count} pictures of {info.name}, level {level}, {width}x{height}")
