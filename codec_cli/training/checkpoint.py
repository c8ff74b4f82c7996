"""Checkpoints of a run: one npz, written beside and renamed, so that a kill never leaves half of one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from codec_cli.errors import TrainingError
from codec_cli.training.config import Config, load_config
from codec_cli.training.networks import Arrays

FILE = "checkpoint.npz"
CONFIG = "config.json"


def save(run: Path, state: dict[str, Arrays], step: int, seconds: float) -> None:
    """Writes the state of a run.

    Args:
        run: The run's directory.
        state: Parts (``params``, ``m``, ``v``, ``ema``) of arrays by parameter name.
        step: Steps done.
        seconds: Training time so far.
    """
    flat = {f"{part}/{name}": value for part, values in state.items() for name, value in values.items()}
    partial = run / f".{FILE}.{os.getpid()}.tmp"
    with partial.open("wb") as stream:
        np.savez(stream, **flat, **{"!step": np.asarray(step), "!seconds": np.asarray(seconds)})
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(run / FILE)


def load(run: Path) -> tuple[dict[str, Arrays], int, float]:
    """Reads what :func:`save` wrote: (state, step, seconds). Raises :class:`TrainingError`."""
    try:
        with np.load(run / FILE, allow_pickle=False) as archive:
            state: dict[str, Arrays] = {}
            for key in archive.files:
                if not key.startswith("!"):
                    part, _, name = key.partition("/")
                    state.setdefault(part, {})[name] = archive[key]
            return state, int(archive["!step"]), float(archive["!seconds"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise TrainingError(f"{run / FILE}: no readable checkpoint ({error})") from error


def load_run_config(run: Path) -> Config:
    """The configuration that lies beside a run's checkpoint."""
    return load_config(str(run / CONFIG))


def collect(config: Config, files: list[Path], run: Path, facts: dict[str, object] | None = None) -> None:
    """Makes a run directory of averaged weights that another machine trained (``scripts/train_xla.py``).

    Args:
        config: The configuration that was lowered.
        files: ``weights-N.npz`` with ``ema/...`` arrays; they hold no optimiser moments.
        run: Target directory.
        facts: Provenance to keep: hardware, seconds.
    """
    averaged: Arrays = {}
    step = 0
    for path in files:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                if key.startswith("ema/"):
                    averaged[key.removeprefix("ema/")] = archive[key]
                elif key == "step":
                    step = int(archive[key])
    if not averaged:
        raise TrainingError("the collected files hold no averaged weights (ema/...)")
    run.mkdir(parents=True, exist_ok=True)
    (run / CONFIG).write_text(config.to_json())
    seconds = float(str((facts or {}).get("seconds", 0)))
    save(run, {"params": averaged, "ema": averaged}, step, seconds)
