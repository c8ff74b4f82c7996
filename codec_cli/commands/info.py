"""``codec info``: what a compressed file is, without decoding it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codec_cli import options

if TYPE_CHECKING:
    from codec_cli.zoo import ModelInfo, Zoo

# Without the model of a file, what all models have had so far.
USUAL_TILE_PIXELS = 1024
# Of an archive's names, as text; --json has all of them.
SHOWN_NAMES = 5


@click.command(
    "info",
    epilog=options.examples(
        "codec info photo.bin digits.pack", "codec info --json *.bin", "codec info - < photo.bin"
    ),
)
@click.argument("files", metavar="FILES...", nargs=-1, required=True, type=click.Path(readable=False))
@options.models_dir
@options.json_output
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], models_dir: Path | None, json: bool) -> None:
    """Tell what compressed files are.

    FILES are files that `codec compress` or `codec pack` wrote, or - for standard input (up to 2.2 GB).
    Shows the size, the kind of image, the model and quality it was compressed with, bits per pixel, and how
    many bytes each part takes, of archives also how many images there are and their names, and checks the
    checksum. Nothing is decoded, and the model need not be installed.
    """
    from codec_cli.errors import CodecError
    from codec_cli.report import describe, exit_code, json_text, named
    from codec_cli.zoo import Zoo

    zoo = Zoo(models_dir)
    found: list[dict[str, Any]] = []
    codes: list[int] = []
    for name in files:
        try:
            facts, code = _inspect(zoo, name)
        except CodecError as error:
            message, code = describe(error)
            facts = {"file": name, "error": named(name, message)}
        found.append(facts)
        codes.append(code)
        if facts["error"]:
            click.echo(f"codec: {facts['error']}", err=True)
        if not json and "width" in facts:
            click.echo(_text(facts))
    if json:
        click.echo(json_text({"files": found, "failed": sum(code != 0 for code in codes)}), nl=False)
    ctx.exit(exit_code(codes))


def _inspect(zoo: Zoo, name: str) -> tuple[dict[str, Any], int]:
    """All facts of a file for ``--json``, and an exit code.

    Raises:
        CodecError: Not even the header can be read.
    """
    from codec_cli.bitstream import archive, container
    from codec_cli.commands._plan import STREAM
    from codec_cli.commands._verbs import read_compressed, size_limit
    from codec_cli.errors import FormatError, LimitError, ModelError
    from codec_cli.files import read_stdin

    def peek(start: bytes) -> tuple[container.Header, int | None]:
        return archive.peek(start) if archive.is_archive(start) else (container.peek(start), None)

    limit = size_limit(options.DEFAULT_MAX_PIXELS)
    if name == STREAM:
        try:
            data = read_stdin(limit, archive.HEADER_MAX_SIZE, peek)
        except LimitError as failure:
            raise LimitError(f"{failure}; name the file instead") from failure
    else:
        # What is on a disk has an end.
        data = read_compressed(Path(name), None if Path(name).is_file() else limit, peek)
    header, count = peek(data)
    info: ModelInfo | None
    try:
        info = zoo.by_fingerprint(header.fingerprint)
    except ModelError:
        info = None
    error, code, crc_ok = None, 0, False
    parts, names = None, None
    try:
        tile_pixels, limit = info.tile_pixels if info else USUAL_TILE_PIXELS, container.MAX_DIMENSION**2
        if count is None:
            container.check_sum(data)
            crc_ok = True
            parts = container.layout(data, tile_pixels, limit)
        else:
            archive.check_sum(data)
            crc_ok = True
            content, parts = archive.layout(data, tile_pixels, limit * archive.MAX_COUNT)
            names = content.names
        if info and header.level >= info.levels:
            raise FormatError(f"damaged: level {header.level} of a model with {info.levels}")
    except FormatError as failure:
        error, code = f"{name}: {failure}", failure.exit_code
    pixels = header.width * header.height * (1 if count is None else count)
    facts = {
        "file": name,
        "bytes": len(data),
        "width": header.width,
        "height": header.height,
        "mode": ("gray" if header.gray else "RGB") + (" + alpha" if header.alpha else ""),
        "model": info.name if info else None,
        "fingerprint": header.fingerprint.hex(),
        "level": header.level,
        "levels": info.levels if info else None,
        "quality": info.quality_of_level(header.level) if info and header.level < info.levels else None,
        "bpp": round(len(data) * 8 / pixels, 4),
        "format_version": container.version_of(data) if count is None else archive.VERSION,
        "parts": parts,
        "crc_ok": crc_ok,
        "error": error,
    }
    if count is not None:
        facts |= {"images": count, "bytes_per_image": round(len(data) / count, 4), "names": names}
    return facts, code


def _text(facts: dict[str, Any]) -> str:
    """The same facts for people."""
    from codec_cli.report import one_line, size_text

    if facts["model"] is None:
        model, quality = f"unknown model, fingerprint {facts['fingerprint']}", f"level {facts['level']}"
    else:
        model = f"{facts['model']} (fingerprint {facts['fingerprint']})"
        quality = f"{facts['quality']} (level {facts['level']} of 0 to {facts['levels'] - 1})"
    parts = facts["parts"] or {}
    listed = ", ".join(f"{key.replace('_', ' ')} {size}" for key, size in parts.items() if key != "total")
    images = {"image": f"{facts['width']}x{facts['height']} {facts['mode']}"}
    if "images" in facts:
        count, names = facts["images"], facts["names"]
        images = {"archive": f"{count} images of {images['image']}, {facts['bytes_per_image']:.1f} B each"}
        if names:
            images["names"] = one_line(", ".join(names[:SHOWN_NAMES])) + ", ..." * (count > SHOWN_NAMES)
    lines = {
        **images,
        "model": model,
        "quality": quality,
        "size": f"{facts['bytes']} B ({size_text(facts['bytes'])}), {facts['bpp']:.2f} bpp",
        "parts": f"{listed} (bytes)" if listed else "unknown",
        "checksum": "ok" if facts["crc_ok"] else "DOES NOT MATCH",
    }
    return "\n".join([one_line(facts["file"]), *(f"  {name:<9} {text}" for name, text in lines.items())])
