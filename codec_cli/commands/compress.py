"""``codec compress``: images in, small files out."""

from __future__ import annotations

import click

from codec_cli import options


@click.command(
    "compress",
    epilog=options.examples(
        "codec compress photo.png                    # writes photo.bin",
        "codec compress photo.jpg small.bin -q 20",
        "codec compress -j 0 pictures/ compressed/   # a whole directory, on all cores",
        "cat photo.png | codec compress - > photo.bin",
    ),
)
@options.quality
@options.model
@click.option(
    "--strip",
    is_flag=True,
    help="Leave out the ICC profile and EXIF. [default: keep both, without thumbnail]",
)
@options.batch("names of images")
@click.pass_context
def command(ctx: click.Context, batch: options.Batch, quality: int | None, model: str, strip: bool) -> None:
    """Compress images.

    INPUTS are image files of any format that Pillow reads, directories, or - for standard input. One file
    may be followed by OUT, the file to write (- for standard output); otherwise NAME.bin is written beside
    NAME.png. A directory needs OUT, a directory in which its folders are mirrored. Several files go into
    OUT if that is a directory or ends with a slash, or else beside the inputs.

    Prints a line for each file: pixels, size before and after, bits per pixel, ratio, seconds. One bad file
    does not stop the others.
    """
    from codec_cli.commands._batch import convert_all, threads_of
    from codec_cli.commands._verbs import Compress
    from codec_cli.zoo import Zoo

    info = Zoo(batch.models_dir).info(model)
    verb = Compress(
        model=info,
        models_dir=batch.models_dir,
        threads=threads_of(batch),
        quality=quality,
        keep_metadata=not strip,
        max_pixels=batch.max_pixels,
        verbose=batch.verbose,
    )
    used = f"quality {quality or info.default_quality}"
    ctx.exit(convert_all(verb, batch, f"model {info.name} from {info.path}, {used}"))
