"""``codec pack``: many images of one size in, one archive out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codec_cli import options

if TYPE_CHECKING:
    from codec_cli.packing import Packer
    from codec_cli.pictures.images import Picture
    from codec_cli.zoo import ModelInfo


@click.command(
    "pack",
    epilog=options.examples(
        "codec pack digits/ digits.pack                # all images of a folder",
        "codec pack a.png b.png c.png abc.pack -q 20",
        "codec pack digits/ digits.pack --no-names     # smaller; unpacked as 00000.png, 00001.png, ...",
        "codec info digits.pack",
    ),
)
@click.argument("paths", metavar="IMAGES|DIR... ARCHIVE", nargs=-1, required=True, type=click.Path())
@options.quality
@options.model
@click.option(
    "--effort",
    type=click.IntRange(1, 9),
    default=options.DEFAULT_EFFORT,
    help="1 to 3 round, 4 to 6 weigh bits against errors, 7 to 9 search by gradient (slow, train extra).",
)
@click.option("--no-names", is_flag=True, help="Number the images. [default: keep their names]")
@options.models_dir
@options.max_pixels
@options.threads
@options.force
@options.quiet
@options.json_output
def command(
    paths: tuple[str, ...],
    quality: int | None,
    model: str,
    effort: int,
    no_names: bool,
    models_dir: Path | None,
    max_pixels: int,
    threads: int | None,
    force: bool,
    quiet: bool,
    json: bool,
) -> None:
    """Compress many images of one size into one archive.

    IMAGES are image files of any format that Pillow reads, or directories, of which all images are taken, in
    the order of their names. ARCHIVE is the file to write. The images share one header, model and level, so
    that each takes its segment and a byte or two: for small images much less than a file.

    All images must have the same size, and be all gray or all in colour. An archive has neither alpha (such
    images are refused) nor ICC profile and EXIF (which are dropped, with a warning). It keeps the names of
    the images without their suffixes. --max-pixels limits the pixels of all images together.
    """
    from codec_cli.bitstream.archive import check_names
    from codec_cli.codec import Codec
    from codec_cli.commands._plan import check_new_file
    from codec_cli.errors import ImageError, OutputError
    from codec_cli.files import write_atomic
    from codec_cli.packing import Packer
    from codec_cli.report import json_text, one_line, progress, size_text

    start = time.perf_counter()
    target, sources = _arguments(paths)
    error = check_new_file(target, force)
    if error is None and not target.parent.is_dir():
        error = OutputError(f"{target}: the folder {target.parent} does not exist; create it first")
    if error is not None:
        raise error
    names = None if no_names else [source.stem for source in sources]
    try:
        check_names(names or ())
    except ValueError as problem:
        raise ImageError(f"{problem} (names are kept without suffix); use --no-names") from None
    codec = Codec(model, models_dir=models_dir, threads=threads)
    packer, notes = Packer(codec, codec.level_of(quality), effort), _Notes()
    with progress(len(sources), "images", not quiet) as advance:
        for source in sources:
            notes.add(source, _add(packer, source, len(sources), max_pixels))
            advance(1)
    data = packer.finish(names)
    write_atomic(target, data, force)

    facts = {"archive": str(target), **_facts(data, codec.info)}
    facts |= {"seconds": round(time.perf_counter() - start, 4), "warnings": notes.lines()}
    if not quiet:
        for line in notes.lines():
            click.echo(one_line(line), err=True)
    if json:
        click.echo(json_text(facts), nl=False)
    elif not quiet:
        click.echo(
            one_line(
                f"{target}  {facts['images']} images of {facts['width']}x{facts['height']} {facts['mode']}  "
                f"{size_text(len(data))}, {facts['bytes_per_image']:.1f} B an image  "
                f"{facts['bpp']:.2f} bpp  {facts['seconds']:.2f} s"
            )
        )


def _arguments(paths: Sequence[str]) -> tuple[Path, list[Path]]:
    """The archive to write and the images to read, in order.

    Raises:
        click.UsageError: The arguments don't fit together.
        ImageError: An image is missing, or a folder has none.
    """
    from codec_cli.commands._plan import STREAM, find
    from codec_cli.commands._verbs import is_image
    from codec_cli.errors import ImageError

    *inputs, last = paths
    if not inputs:
        raise click.UsageError("give images or a directory, and then the archive to write")
    if STREAM in paths:
        raise click.UsageError("standard input and output (-) are not supported; name files")
    # With --force a forgotten archive would cost a picture.
    if is_image(Path(last).name.lower()):
        raise click.UsageError(f"the archive to write comes last, and {last} is named like an image")
    sources: list[Path] = []
    for name in inputs:
        if not Path(name).is_dir():
            sources.append(Path(name))
            continue
        found = list(find(Path(name), is_image))
        if not found:
            raise ImageError(f"{name}: no images in this directory")
        for path, fault in found:
            if fault is not None:
                raise ImageError(f"{path}: {fault}")
            sources.append(path)
    target = Path(last)
    for source in sources:
        try:
            source.stat()
        except OSError as error:
            raise ImageError(f"{source}: cannot read: {error.strerror}") from error
        if target.exists() and target.samefile(source):
            raise click.UsageError(f"{last} is also an input; choose another name for the archive")
    return target, sources


def _add(packer: Packer, source: Path, count: int, max_pixels: int) -> Picture:
    """Reads and codes one of ``count`` images; what was read.

    Raises:
        CodecError: It can't be read or does not fit into the archive; names the image.
    """
    from codec_cli.errors import CodecError, ImageError, LimitError
    from codec_cli.pictures.images import load_picture
    from codec_cli.report import named

    picture = load_picture(source, str(source), max_pixels)
    height, width = picture.pixels.shape[:2]
    if picture.alpha is not None:
        raise ImageError(f"{source}: has alpha, which archives do not hold; use `codec compress`")
    if height * width * count > max_pixels:
        raise LimitError(
            f"{source}: {count} images of {width}x{height} are above the limit of {max_pixels} pixels; "
            "raise it with --max-pixels"
        )
    try:
        packer.add(picture.pixels)
    except CodecError as problem:
        raise type(problem)(named(str(source), str(problem))) from problem
    return picture


def _facts(data: bytes, info: ModelInfo) -> dict[str, Any]:
    """What there is to say about an archive, for ``--json``."""
    from codec_cli.bitstream.archive import MAX_COUNT, layout
    from codec_cli.bitstream.container import MAX_DIMENSION

    content, parts = layout(data, info.tile_pixels, MAX_DIMENSION**2 * MAX_COUNT)
    header, count = content.header, len(content.images)
    return {
        "images": count,
        "width": header.width,
        "height": header.height,
        "mode": "gray" if header.gray else "RGB",
        "model": info.name,
        "level": header.level,
        "bytes": len(data),
        "bytes_per_image": round(len(data) / count, 4),
        "bpp": round(len(data) * 8 / (header.width * header.height * count), 4),
        "parts": parts,
    }


class _Notes:
    """What was lost, each kind once: there may be thousands of images."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, source: Path, picture: Picture) -> None:
        """Takes note of an image's warnings, and of its metadata."""
        dropped = [kind for kind, raw in (("ICC profile", picture.icc), ("EXIF", picture.exif)) if raw]
        lost = [f"{' and '.join(dropped)} not kept: archives hold pixels only"] if dropped else []
        for text in (*picture.warnings, *lost):
            self._first.setdefault(text, str(source))
            self._count[text] = self._count.get(text, 0) + 1

    def lines(self) -> list[str]:
        """A line for each kind."""
        return [
            f"{name}: warning: {text}" + (f" ({self._count[text]} images)" if self._count[text] > 1 else "")
            for text, name in self._first.items()
        ]
