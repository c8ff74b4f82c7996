"""The runs of a study: trained once, kept with their configuration, reloaded afterwards."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_cli.errors import TrainingError
from codec_cli.files import write_atomic
from codec_cli.training import checkpoint, loop, model, pictures
from codec_cli.training.config import Config, load_config
from codec_cli.training.networks import Arrays
from codec_cli.training.step import init_state

__all__ = ["FINISHED", "Length", "Trained", "behind", "reload", "train_once"]

FINISHED = "finished.json"
"""Lies in a run's folder once it is done."""
# Too small to move a float32, and not 0, which a configuration does not take.
_FROZEN = 1e-30


@dataclass(frozen=True)
class Length:
    """How long to train; at most one of the three is given, else the configuration says.

    Attributes:
        steps: Length of the schedule in steps.
        epochs: The same, in passes over the training images.
        minutes: Bound on time, to which the schedule is fitted.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None

    def apply(self, config: Config, images: int) -> Config:
        """The configuration with this length.

        Args:
            config: Any.
            images: Number of training images.
        """
        steps = self.steps
        if self.epochs is not None:
            steps = max(1, math.ceil(self.epochs * images / config.data.batch))
        if steps is None:
            return config
        # Each validation draws the run's curves, which takes as long as a hundred steps of a small network.
        every = -(-steps // 6) if steps > 300 else steps
        return config.model_copy(
            update={"run": config.run.model_copy(update={"steps": steps, "validate_steps": every})}
        )


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        run: Its folder.
        config: Its configuration.
        params: The averaged weights.
        steps: Steps trained.
        seconds: Time that took.
        history: Validations: what its log holds.
        batches: Metrics of training steps, every tenth or so.
    """

    run: Path
    config: Config
    params: Arrays
    steps: int
    seconds: float
    history: list[dict[str, Any]]
    batches: list[dict[str, Any]]


def train_once(
    config: Config,
    run: Path,
    *,
    minutes: float | None = None,
    start: Arrays | None = None,
    cache_dir: Path | None = None,
    force: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Trains a run, goes on with one that was interrupted, or reloads one that is finished.

    Args:
        config: What to train.
        run: Where it lies.
        minutes: Bound on training time.
        start: All initial weights; by default fresh ones.
        cache_dir: Of decoded patches.
        force: Train anew whatever lies there.
        quiet: No progress bar.
        say: Takes lines on what happens.

    Raises:
        TrainingError: A run of another configuration lies there, or training failed.
    """
    if force and (run / checkpoint.CONFIG).is_file():
        shutil.rmtree(run)
    if (run / checkpoint.FILE).is_file():
        if checkpoint.load_run_config(run) != config:
            raise TrainingError(
                f"{run}: holds a run of other settings; train anew with --force or choose another folder"
            )
        if (run / FINISHED).is_file():
            say(f"{run.name}: trained already")
            return reload(run)
    elif start is not None:
        run.mkdir(parents=True, exist_ok=True)
        checkpoint.save_run_config(run, config)
        checkpoint.save(run, init_state(start), 0, 0.0)
    resume = (run / checkpoint.FILE).is_file()
    say(f"{run.name}: training")
    try:
        result = loop.train(config, run, resume=resume, minutes=minutes, cache_dir=cache_dir, quiet=quiet)
    except TrainingError as error:
        if "stopped at step" not in str(error):
            raise
        raise TrainingError(f"{run}: stopped with a checkpoint; the same command goes on from it") from error
    facts = {"steps": result["step"], "seconds": result["seconds"]}
    write_atomic(run / FINISHED, (json.dumps(facts) + "\n").encode(), force=True)
    return reload(run)


def reload(run: Path) -> Trained:
    """A run from its folder. Raises :class:`TrainingError` where there is none."""
    config = checkpoint.load_run_config(run)
    state, steps, seconds = checkpoint.load(run)
    logs = (pictures.read_log(run / name) for name in (loop.LOG, pictures.TRAIN_LOG))
    return Trained(run, config, state["ema"], steps, seconds, *logs)


def behind(encoder: Arrays, config: Config, patches: npt.NDArray[np.uint8]) -> tuple[Config, Arrays]:
    """A fresh decoder behind an encoder that stays as it is.

    Args:
        encoder: Weights that hold the encoder.
        config: Of the whole, with the same encoder.
        patches: A few training images.

    Returns:
        The configuration that trains the decoder alone, and the weights to start from.
    """
    fresh = model.init_params(config, patches)
    start = {name: encoder[name] if name.startswith("analysis/") else fresh[name] for name in fresh}
    optimizer = config.optimizer.model_copy(
        update={"multipliers": {**config.optimizer.multipliers, "analysis/": _FROZEN}}
    )
    return config.model_copy(update={"optimizer": optimizer}), start


def with_latent(name: str, latent: int, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """A packaged configuration whose analysis ends with a dense layer of ``latent`` units.

    Args:
        name: Of the configuration, or the path of a JSON file.
        latent: Dimensions of the latent.
        overrides: ``section.field=value`` texts.
    """
    config = load_config(name, overrides)
    last = len(config.transforms.analysis) - 1
    return load_config(name, [f"transforms.analysis.{last}.filters={latent}", *overrides])
