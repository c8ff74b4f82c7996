"""``codec train``: a model for your own images."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  codec train runs/mine --data photos/ --minutes 60
  codec train runs/mine --resume
  codec train runs/digits --config mnist --data mnist/
  codec train runs/tuned --data scans/ --from photo --steps 5000 --set optimizer.learning_rate=1e-4
  codec export runs/mine models/mine-1
"""


@click.command(epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--config",
    "config_name",
    default="photo",
    show_default=True,
    help="Training configuration: a name that comes with the tool, or the path of a JSON file.",
)
@click.option(
    "--data",
    "data_path",
    type=click.Path(path_type=Path),
    help="Directory of images, searched recursively; or arrays of images: an npz file with x_train (and "
    "x_test, to validate on), an idx file, or a directory with MNIST's idx files.  "
    "[default: the configuration's]",
)
@click.option(
    "--dataset",
    help="tfds:NAME, a TensorFlow data set instead of --data, such as tfds:mnist, tfds:emnist/balanced or "
    "tfds:clic.  [default: none]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where TensorFlow Datasets keeps its files.  [default: its own]",
)
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    help="Images to validate on, as for --data.  [default: what the training images come with for that, or "
    "else some that are held out of them: every 20th file, or the last of an array]",
)
@click.option(
    "--steps", type=click.IntRange(1), help="Length of the schedule in steps.  [default: the configuration's]"
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Bound on training time in minutes, over all resumptions; the schedule is fitted to it.  "
    "[default: none]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Override a field of the configuration; may be repeated.  [default: none]",
)
@click.option(
    "--from",
    "start_from",
    metavar="MODEL",
    help="Fine-tune a model, by name or folder, or the model of another run.  [default: a fresh start]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run in RUN exactly where its last checkpoint stands, with its own configuration (and "
    "what --set and the like change in it).  [default: off]",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="Directory of decoded patches, to share between runs.  [default: RUN/cache]",
)
@click.option(
    "--lower",
    type=click.Path(path_type=Path),
    help="Do not train: write the train step as HLO to this directory, for scripts/train_xla.py.  "
    "[default: off]",
)
@click.option(
    "--collect",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Do not train: make RUN of what scripts/train_xla.py brought, a directory of weights-*.npz or one "
    "such file; may be repeated.  [default: off]",
)
@click.option("--quiet", is_flag=True, help="No progress bar.  [default: off]")
def command(
    run: Path,
    config_name: str,
    data_path: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    validation: Path | None,
    steps: int | None,
    minutes: float | None,
    overrides: tuple[str, ...],
    start_from: str | None,
    resume: bool,
    cache_dir: Path | None,
    lower: Path | None,
    collect: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Train a model in the directory RUN.

    The run keeps its configuration, checkpoints (every few minutes), a log and TensorBoard events in RUN.
    Ctrl-C ends it with a checkpoint. `codec export` turns it into a model.
    """
    from codec_cli.training import require

    require()
    import json

    from codec_cli.training.config import load_config

    given = {
        "data.path": data_path, "data.dataset": dataset, "data.data_dir": data_dir,
        "data.validation": validation, "run.steps": steps,
    }  # fmt: skip
    # As JSON: a directory may be named 2024 or null.
    named = [
        f"{field}={json.dumps(value if isinstance(value, int) else str(value))}"
        for field, value in given.items()
        if value is not None
    ]
    changes = (*overrides, *named)
    if resume and (collect or lower is not None or start_from is not None):
        raise click.UsageError("--resume continues a run: it takes no --from, --lower or --collect")
    if resume:
        from codec_cli.training.checkpoint import load_run_config

        config = load_run_config(run, changes)
    else:
        config = load_config(config_name, changes)
    if collect:
        from codec_cli.training.checkpoint import collect as make_run

        make_run(config, list(collect), run)
    elif lower is not None:
        import numpy as np

        from codec_cli.training import data, sensitivity
        from codec_cli.training.loop import initial_params
        from codec_cli.training.lower import lower as write_bundle

        patches = np.asarray(data.load_patches(config, cache_dir or run / "cache", quiet))
        params = initial_params(config, patches, start_from)
        write_bundle(config, sensitivity.fit(config, {"params": params}, patches)["params"], lower)
    else:
        from codec_cli.training.loop import train

        result = train(
            config,
            run,
            resume=resume,
            overrides=changes,
            minutes=minutes,
            start_from=start_from,
            cache_dir=cache_dir,
            quiet=quiet,
        )
        if not quiet:
            click.echo(f"{run}: {result['step']} steps, validation loss {result['loss']:.4f}", err=True)
