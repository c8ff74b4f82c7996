"""``codec compress``: images in, small files out."""

from __future__ import annotations

import click

from codec_cli import options


@click.command(
    "compress",
    epilog=options.examples(
        "codec compress photo.png                    # writes photo.bin",
        "codec compress photo.jpg small.bin -q 20",
        "codec compress photo.jpg --target-size 50KB",
        "codec compress photo.png --verify           # decodes it, prints its PSNR",
        "codec compress -j 0 pictures/ compressed/   # a whole directory, on all cores",
        "cat photo.png | codec compress - > photo.bin",
    ),
)
@options.quality
@options.model
@click.option(
    "--target-size",
    metavar="N[KB|MB|%]",
    help="The best quality within this size: bytes, KB (1000), MB, or percent of the source. [default: none]",
)
@click.option(
    "--target-bpp",
    type=click.FloatRange(0, min_open=True),
    help="The best quality within this many bits per pixel. [default: none]",
)
@click.option(
    "--target-psnr",
    type=float,
    help="The smallest file with at least this PSNR over R'G'B', in dB. [default: none]",
)
@click.option(
    "--target-ms-ssim",
    type=click.FloatRange(0, 1),
    help="The smallest file with at least this MS-SSIM, 0 to 1. [default: none]",
)
@click.option(
    "--effort",
    type=click.IntRange(1, 9),
    default=options.DEFAULT_EFFORT,
    help="1 to 3 round, 4 to 6 weigh bits against errors, 7 to 9 search by gradient (slow, train extra).",
)
@click.option(
    "--strip",
    is_flag=True,
    help="Leave out the ICC profile and EXIF. [default: keep both, without thumbnail]",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Decode each result before it is written, print its PSNR, and warn of content that does not suit "
    "the model. Takes the time of decompressing. [default: off]",
)
@options.batch("names of images")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    batch: options.Batch,
    quality: int | None,
    model: str,
    effort: int,
    strip: bool,
    verify: bool,
    **targets: str | float | None,
) -> None:
    """Compress images.

    INPUTS are image files of any format that Pillow reads, directories, or - for standard input. One file
    may be followed by OUT, the file to write (- for standard output); otherwise NAME.bin is written beside
    NAME.png. A directory needs OUT, a directory in which its folders are mirrored. Several files go into
    OUT if that is a directory or ends with a slash, or else beside the inputs.

    Prints a line for each file: pixels, size before and after, bits per pixel, ratio, seconds, the quality
    found for a target, and PSNR over R'G'B' with --verify. One bad file does not stop the others.
    """
    from codec_cli.commands._batch import convert_all, threads_of
    from codec_cli.commands._verbs import Compress, Wish
    from codec_cli.zoo import Zoo

    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) + (quality is not None) > 1:
        raise click.UsageError("give one of --quality and the --target options")
    wish = Wish.parse(*given.popitem()) if given else None
    info = Zoo(batch.models_dir).info(model)
    verb = Compress(
        model=info,
        models_dir=batch.models_dir,
        threads=threads_of(batch),
        quality=quality,
        wish=wish,
        effort=effort,
        keep_metadata=not strip,
        check=verify,
        max_pixels=batch.max_pixels,
        verbose=batch.verbose,
        shows=not batch.quiet,
    )
    used = "a target" if wish is not None else f"quality {quality or info.default_quality}"
    ctx.exit(convert_all(verb, batch, f"model {info.name} from {info.path}, {used}"))
