"""``codec finish``: the last stage of training, which any trained model gains by."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  codec finish runs/mine runs/mine-finished --data photos/ --minutes 30
  codec finish photo-1 runs/finished --data photos/ --validation others/
  codec finish runs/mine runs/mine-finished --resume
  codec export runs/mine-finished models/mine-2
"""


def _groups(_context: click.Context, _option: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    if not all(part.strip().isdecimal() and int(part) > 0 for part in value.split(",")):
        raise click.BadParameter("numbers of channels, with commas between them")
    return [int(part) for part in value.split(",")]


@click.command(epilog=EPILOG)
@click.argument("model")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    "data_path",
    type=click.Path(path_type=Path),
    help="Directory of images, searched recursively, as for `codec train`.  [default: that of "
    "the run that is finished]",
)
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    help="Images to measure on.  [default: some that are held out of the training images]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Length of the training in minutes, with what was done before --resume.",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.25,
    show_default=True,
    help="How strongly the encoder is to optimise its symbols meanwhile; `--effort` 4 to 6 do it with 0.2.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=3e-5,
    show_default=True,
    help="Of the synthesis, at the start.",
)
@click.option(
    "--crop",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Side of crops in pixels, a multiple of the model's stride.",
)
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Crops of a step.")
@click.option(
    "--groups",
    metavar="N,N,...",
    callback=_groups,
    help="Split the channel groups of the context model: channels of each new group. [default: as they are]",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="Directory of decoded patches, to share between runs.  [default: RUN/cache]",
)
@click.option(
    "--resume",
    "again",
    is_flag=True,
    help="Continue RUN, which was stopped, as it was begun; takes --minutes, --cache-dir and --quiet "
    "alone.  [default: off]",
)
@click.option("--quiet", is_flag=True, help="No progress bar.  [default: off]")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    run: Path,
    data_path: Path | None,
    validation: Path | None,
    minutes: float,
    strength: float,
    learning_rate: float,
    crop: int,
    batch: int,
    groups: list[int] | None,
    cache_dir: Path | None,
    again: bool,
    quiet: bool,
) -> None:
    """Finish a trained MODEL in the new directory RUN.

    MODEL is a run of `codec train`, or the name or folder of a model with weights; its entropy model must be
    of kind context. Training knows a few levels, and noise in place of rounding. This stage leaves the
    analysis as it is; the context networks and the synthesis learn every usable level, from the symbols that
    the encoder really sends. Levels between the trained ones gain most. `codec export` turns RUN into a
    model.

    RUN keeps its configuration, checkpoints (every few minutes) and a log. Once it learns, Ctrl-C ends it
    with a checkpoint.
    """
    from codec_cli.training import require

    require()
    from codec_cli.training import finish as stage

    if again:
        given = {
            name
            for name in ctx.params
            if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        }
        if given - {"model", "run", "minutes", "cache_dir", "again", "quiet"}:
            raise click.UsageError(
                "--resume continues a run as it was begun: it takes no options of the training"
            )
        length = minutes if "minutes" in given else None
        rows = stage.resume(run, minutes=length, cache_dir=cache_dir, quiet=quiet)
    else:
        from codec_cli.training.checkpoint import trained

        config, params = trained(model)
        where: dict[str, str | None] = {}
        if data_path is not None:
            where = {"path": str(data_path), "dataset": None, "validation": None}
        if validation is not None:
            where["validation"] = str(validation)
        rows = stage.finish(
            config.model_copy(update={"data": config.data.model_copy(update=where)}),
            params,
            run,
            minutes=minutes,
            strength=strength,
            learning_rate=learning_rate,
            crop=crop,
            batch=batch,
            groups=groups,
            cache_dir=cache_dir,
            quiet=quiet,
        )
    half = len(rows) // 2
    click.echo(
        "level   bits per pixel, before and after   PSNR in dB, before and after   loss, before and after"
    )
    for old, new in zip(rows[:half], rows[half:], strict=True):
        rates = f"{old['bpp']:14.4f} {new['bpp']:19.4f}"
        decibels = f"{old['psnr']:14.3f} {new['psnr']:15.3f}"
        click.echo(f"{new['level']:5.0f}   {rates} {decibels} {old['loss']:12.4f} {new['loss']:11.4f}")
