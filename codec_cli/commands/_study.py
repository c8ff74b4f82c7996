"""Options that several studies share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["TINY", "common", "length", "say"]

F = TypeVar("F", bound=Callable[..., Any])

TINY = (
    "run.steps=20",
    "run.validate_steps=20",
    "run.validation_images=8",
    "data.batch=16",
    "optimizer.warmup_steps=2",
)
"""Overrides of ``--tiny``: what shows in seconds that everything works."""

_OPTIONS = (
    click.argument("out", type=click.Path(path_type=Path, file_okay=False)),
    click.option(
        "--data",
        metavar="PATH",
        show_default="none",
        help="Images: a directory of MNIST's idx files, an npz file (x_train, y_train, x_test, y_test), or "
        "tfds:NAME.",
    ),
    click.option(
        "--data-dir",
        type=click.Path(),
        show_default="its own",
        help="Where TensorFlow Datasets keeps its files.",
    ),
    click.option(
        "--steps",
        type=click.IntRange(1),
        show_default="the configuration's",
        help="Length of each training in steps.",
    ),
    click.option(
        "--epochs",
        type=click.FloatRange(0, min_open=True),
        show_default="the configuration's steps",
        help="The same in passes over the training images.",
    ),
    click.option(
        "--minutes",
        type=click.FloatRange(0, min_open=True),
        show_default="none",
        help="Bound on the time of each training; the schedule is fitted to it.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="SECTION.FIELD=VALUE",
        show_default="none",
        help="Override a field of the configurations; may be repeated.",
    ),
    click.option("--tiny", is_flag=True, help="A few steps and images: to try the command. [default: off]"),
    click.option("--force", is_flag=True, help="Train anew what is trained already. [default: reuse it]"),
    click.option("--quiet", is_flag=True, help="Print errors only. [default: progress]"),
)


def common(function: F) -> F:
    """The argument OUT and the options that all studies have."""
    command: Any = function
    for option in reversed(_OPTIONS):
        command = option(command)
    result: F = command
    return result


def length(steps: int | None, epochs: float | None, minutes: float | None) -> Any:  # noqa: ANN401 - lazy
    """What ``--steps``, ``--epochs`` and ``--minutes`` ask for, a ``runs.Length``."""
    from codec_cli.study.runs import Length

    if steps is not None and epochs is not None:
        raise click.UsageError("give --steps or --epochs, not both")
    return Length(steps, epochs, minutes)


def say(quiet: bool) -> Callable[[str], None]:
    """Prints lines on standard error, or nothing."""
    return (lambda _: None) if quiet else (lambda line: click.echo(line, err=True))
