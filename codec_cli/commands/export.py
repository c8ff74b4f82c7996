"""``codec export``: from a training run to a model folder."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  codec export runs/mine models/mine-1
  codec models add models/mine-1
  codec compress --model mine photo.png
"""


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
@click.option("--quiet", is_flag=True, help="No progress bars.  [default: off]")
def command(
    run: Path,
    target: Path,
    overrides: tuple[str, ...],
    notes: tuple[str, ...],
    cache_dir: Path | None,
    table_patches: int,
    quiet: bool,
) -> None:
    """Export the training run RUN to the model folder TARGET.

    Writes the transforms for LiteRT, integer entropy tables for every quality level, the weights for
    fine-tuning and a model card, and checks the result against TensorFlow.
    """
    from codec_cli.training import require

    require()
    from codec_cli.training.export import export_run

    facts = dict(note.partition("=")[::2] for note in notes)
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
