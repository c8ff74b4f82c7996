"""``codec unpack``: an archive in, ordinary images out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from codec_cli import options
from codec_cli.commands.decompress import FORMATS


@click.command(
    "unpack",
    epilog=options.examples(
        "codec unpack digits.pack digits/               # all images, as PNG",
        "codec unpack digits.pack digits/ --only seven  # one image, by name",
        "codec unpack digits.pack digits/ --only 7      # or by index, from 0",
    ),
)
@click.argument("archive", type=click.Path(readable=False))
@click.argument("outdir", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--only",
    metavar="NAME|INDEX",
    multiple=True,
    help="Decode this image alone, whatever else there is. Repeatable. [default: all]",
)
@click.option(
    "--format",
    "image_format",
    type=click.Choice(FORMATS, case_sensitive=False),
    default="png",
    help="Image format to write.",
)
@options.models_dir
@options.max_pixels
@options.threads
@options.force
@options.quiet
@options.json_output
def command(
    archive: str,
    outdir: Path,
    only: tuple[str, ...],
    image_format: str,
    models_dir: Path | None,
    max_pixels: int,
    threads: int | None,
    force: bool,
    quiet: bool,
    json: bool,
) -> None:
    """Decode the images of an archive that `codec pack` wrote.

    The images are written into the directory OUTDIR, which is made if it is missing, under the names that
    they have in ARCHIVE (NAME.png), or as 00000.png, 00001.png and so on if it has none. Without --force
    nothing is done if one of them exists already.
    """
    from codec_cli.bitstream.archive import peek
    from codec_cli.codec import Codec
    from codec_cli.commands._verbs import read_compressed, size_limit
    from codec_cli.errors import CodecError, OutputError
    from codec_cli.files import write_atomic
    from codec_cli.packing import Unpacker
    from codec_cli.pictures.images import Picture, save_picture
    from codec_cli.report import json_text, named, one_line, progress, size_text

    start = time.perf_counter()
    try:
        # No archive within the limit has so many bytes.
        data = read_compressed(Path(archive), size_limit(max_pixels), peek)
        codec = Codec(models_dir=models_dir, threads=threads)
        unpacker = Unpacker(data, codec, max_pixels=max_pixels)
        chosen = [unpacker.find(name) for name in dict.fromkeys(only)] if only else range(len(unpacker))
    except CodecError as error:
        raise type(error)(named(archive, str(error))) from error
    targets = {index: outdir / f"{unpacker.names[index]}.{image_format}" for index in chosen}
    _check_targets(outdir, list(targets.values()), force)
    header = unpacker.archive.header
    files: list[dict[str, str | int]] = []
    with progress(len(targets), "images", not quiet) as advance:
        for index, target in targets.items():
            try:
                image = save_picture(Picture(unpacker[index]), target.suffix, name=str(target))
            except OutputError:
                raise
            except CodecError as error:
                raise type(error)(f"{archive}: image {unpacker.names[index]}: {error}") from error
            if not files:
                try:
                    outdir.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise OutputError(f"{outdir}: cannot make this folder: {error.strerror}") from error
            write_atomic(target, image, force)
            files.append(
                {"name": unpacker.names[index], "index": index, "output": str(target), "bytes": len(image)}
            )
            advance(1)
    seconds = time.perf_counter() - start
    if json:
        facts = {
            "archive": archive,
            "bytes": len(data),
            "images": len(unpacker),
            "width": header.width,
            "height": header.height,
            "mode": "gray" if header.gray else "RGB",
            "model": unpacker.info.name,
            "level": header.level,
            "seconds": round(seconds, 4),
            "files": files,
        }
        click.echo(json_text(facts), nl=False)
    elif not quiet:
        number = f"{len(files)} of {len(unpacker)} images" if only else f"{len(files)} images"
        size = f"{header.width}x{header.height} {'gray' if header.gray else 'RGB'}"
        click.echo(
            one_line(f"{archive} -> {outdir}  {number} of {size}  {size_text(len(data))}  {seconds:.2f} s")
        )


def _check_targets(outdir: Path, targets: Sequence[Path], force: bool) -> None:
    """Refuses outputs that can't be written, before anything is decoded.

    Raises:
        OutputError: ``outdir`` is a file, or one of the targets exists.
    """
    from codec_cli.commands._plan import check_new_file
    from codec_cli.errors import OutputError

    if outdir.exists() and not outdir.is_dir():
        raise OutputError(f"{outdir}: is a file, not a directory for the outputs")
    for target in targets:
        # Elsewhere than here a name may be more: "C:x" is a place on another drive of Windows.
        if target.parent != outdir:
            raise OutputError(f"{target.name}: is no name for a file on this system")
        error = check_new_file(target, force)
        if error is not None:
            raise error
