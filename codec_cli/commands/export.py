"""``codec export``: from a training run to a model folder, or to networks in other programs' formats."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  codec export runs/mine models/mine-1
  codec models add models/mine-1
  codec compress --model mine photo.png
  codec export runs/mine networks/mine --format keras --format tflite --part decoder
"""

# These repeat codec_cli.training.formats, whose import would be slow; a test compares them.
FORMATS = ("savedmodel", "keras", "tflite")
PARTS = ("encoder", "decoder", "both")


@click.command(epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Override a field of the run's configuration, such as data.path.  [default: none]",
)
@click.option(
    "--note",
    "notes",
    multiple=True,
    metavar="KEY=TEXT",
    help="A fact for the model card, such as hardware=... or data=...; may be repeated.  [default: none]",
)
@click.option(
    "--cache-dir", type=click.Path(path_type=Path), help="Directory of decoded patches.  [default: RUN/cache]"
)
@click.option(
    "--table-patches",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Training patches whose symbols are counted for the entropy tables.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    help="Write the plain float networks in this format to TARGET instead of a model folder; may be "
    "repeated.  [default: a model folder]",
)
@click.option(
    "--part",
    type=click.Choice(PARTS),
    help="With --format: the encoder, the decoder, or both and the autoencoder that they make.  "
    "[default: both]",
)
@click.option(
    "--level",
    type=click.IntRange(0),
    help="With --format: the quality level of the networks, from 0.  [default: the middle one]",
)
@click.option("--quiet", is_flag=True, help="No progress bars.  [default: off]")
def command(
    run: Path,
    target: Path,
    overrides: tuple[str, ...],
    notes: tuple[str, ...],
    cache_dir: Path | None,
    table_patches: int,
    formats: tuple[str, ...],
    part: str | None,
    level: int | None,
    quiet: bool,
) -> None:
    """Export the training run RUN to the model folder TARGET.

    Writes the transforms for LiteRT, integer entropy tables for every quality level, the weights for
    fine-tuning and a model card, and checks the result against TensorFlow. With --format, writes the networks
    for other programs instead.
    """
    if not formats and (part is not None or level is not None):
        raise click.UsageError("--part and --level are of networks for other programs: give a --format too")
    from codec_cli.training import require

    require()
    facts = dict(note.partition("=")[::2] for note in notes)
    if formats:
        from codec_cli.training.formats import export_formats

        written = export_formats(
            run,
            target,
            formats=formats,
            part=part or "both",
            level=level,
            overrides=overrides,
            provenance=facts,
        )
        if not quiet:
            names = ", ".join(written["networks"])
            click.echo(f"{target}: {names} as {', '.join(dict.fromkeys(formats))}, level {written['level']}")
        return
    from codec_cli.training.export import export_run

    info = export_run(
        run,
        target,
        overrides=overrides,
        cache_dir=cache_dir,
        provenance=facts,
        table_patches=table_patches,
        quiet=quiet,
    )
    if not quiet:
        click.echo(
            f"{target}: {info.levels} levels, {info.size_bytes() / 1e6:.1f} MB, "
            f"fingerprint {info.fingerprint.hex()}"
        )
