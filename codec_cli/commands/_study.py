"""Options that several studies share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from codec_cli.options import packed

__all__ = ["TINY", "Common", "common"]

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


@dataclass(frozen=True)
class Common:
    """What every study was asked to do.

    Attributes:
        out: Folder of the results.
        data: Where the images are.
        data_dir: Where TensorFlow Datasets keeps its files.
        steps: Length of each training in steps.
        epochs: The same in passes over the training images.
        minutes: Bound on the time of each training.
        overrides: ``section.field=value`` texts.
        tiny: A few steps and images.
        force: Train anew.
        quiet: Print errors only.
    """

    out: Path
    data: str | None
    data_dir: str | None
    steps: int | None
    epochs: float | None
    minutes: float | None
    overrides: tuple[str, ...]
    tiny: bool
    force: bool
    quiet: bool

    def require_data(self) -> str:
        """Where the images are; a usage error if that was not said."""
        if self.data is None:
            raise click.UsageError("name images with --data")
        return self.data

    def options(self) -> dict[str, Any]:
        """The fields that all studies' ``Options`` have, apart from ``data``."""
        from codec_cli.study.runs import Length

        if self.steps is not None and self.epochs is not None:
            raise click.UsageError("give --steps or --epochs, not both")
        return {
            "data_dir": self.data_dir,
            "length": Length(self.steps, self.epochs, self.minutes),
            "overrides": (*(TINY if self.tiny else ()), *self.overrides),
            "force": self.force,
            "quiet": self.quiet,
        }

    def finish(self, study: Callable[[Path, Any, Callable[[str], None]], Path], chosen: Any) -> None:  # noqa: ANN401
        """Runs a study, telling what it does on standard error, and prints where its summary is."""
        say = (lambda _: None) if self.quiet else (lambda line: click.echo(line, err=True))
        summary = study(self.out, chosen, say)
        if not self.quiet:
            click.echo(str(summary))


common = packed(_OPTIONS, Common, "common")
"""The argument OUT and the options that all studies have, as one argument ``common``."""
