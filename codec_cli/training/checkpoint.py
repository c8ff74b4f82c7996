"""Checkpoints of a run: one npz, written beside and renamed, so that a kill never leaves half of one."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codec_cli import zoo
from codec_cli.errors import TrainingError
from codec_cli.files import write_atomic
from codec_cli.training.config import Config, load_config

if TYPE_CHECKING:
    from codec_cli.training.networks import Arrays

FILE = "checkpoint.npz"
CONFIG = "config.json"
# Among a run's parameters if it optimises its symbols (``run.rdoq``), by trained level; it is not trained.
DISTORTION_WEIGHT = "encoder/distortion_weight"


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
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **flat, **{"!step": np.asarray(step), "!seconds": np.asarray(seconds)})
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(run / FILE)
    finally:
        partial.unlink(missing_ok=True)


def require_none(run: Path) -> None:
    """Raises :class:`TrainingError` if a directory holds a run."""
    if (run / FILE).exists():
        raise TrainingError(
            f"{run}: holds a run already; continue it with --resume or choose another directory"
        )


def require_finite(
    run: Path, step: int, advice: str, *values: npt.NDArray[np.float32] | np.float32 | float
) -> None:
    """Raises :class:`TrainingError` with advice unless all values are finite."""
    if not all(np.isfinite(value).all() for value in values):
        raise TrainingError(
            f"{run}: the loss is not finite at step {step}; the last good checkpoint is kept. {advice}"
        )


def keep(
    run: Path,
    state: dict[str, Arrays],
    step: int,
    seconds: float,
    advice: str,
    *more: npt.NDArray[np.float32],
) -> None:
    """:func:`save` of a state whose values, and some more, are finite; see :func:`require_finite`."""
    values = [value for part in state.values() for value in part.values()]
    require_finite(run, step, advice, *values, *more)
    save(run, state, step, seconds)


def load(run: Path) -> tuple[dict[str, Arrays], int, float]:
    """Reads what :func:`save` wrote: (state, step, seconds). Raises :class:`TrainingError`."""
    arrays = read_arrays(run / FILE, "no readable checkpoint")
    state: dict[str, Arrays] = {}
    for key, value in arrays.items():
        if not key.startswith("!"):
            part, _, name = key.partition("/")
            state.setdefault(part, {})[name] = value
    if not {"params", "ema"} <= state.keys() or not {"!step", "!seconds"} <= arrays.keys():
        raise TrainingError(f"{run / FILE}: no readable checkpoint (it holds no weights)")
    return state, int(arrays["!step"]), float(arrays["!seconds"])


def read_arrays(path: Path, complaint: str) -> Arrays:
    """All arrays of an npz file.

    Args:
        path: The file.
        complaint: What to say of a file that is missing, damaged or something else.

    Raises:
        TrainingError: "PATH: COMPLAINT (reason)".
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TrainingError(f"{path}: {complaint} ({reason})") from error


def model_weights(folder: Path) -> Arrays:
    """A model's averaged weights to train on with, float32 by name (raises :class:`TrainingError`)."""
    path = folder / zoo.WEIGHTS
    if not path.exists():
        raise TrainingError(f"{path}: no weights to start from{zoo.LEFT_OUT}")
    arrays = read_arrays(path, "no weights to start from")
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def trained(model: str) -> tuple[Config, Arrays]:
    """Configuration and averaged weights of what was trained before, to go on from.

    Args:
        model: A run's directory, or the name or folder of a model with weights.

    Raises:
        TrainingError: There are no weights.
        ModelError: There is no such model.
    """
    if (Path(model) / FILE).is_file():
        state, _, _ = load(Path(model))
        params = {name: value for name, value in state["ema"].items() if name != DISTORTION_WEIGHT}
        return load_run_config(Path(model)), params
    info = zoo.Zoo().info(model)
    if "config" not in info.facts:
        raise TrainingError(f"{info.path}: has no configuration to train on with")
    try:
        config = Config.model_validate(info.facts["config"])
    except ValueError as error:  # pydantic's, of many lines.
        raise TrainingError(f"{info.path}: its configuration is not one of this version's") from error
    return config, model_weights(info.path)


def load_run_config(run: Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """The configuration that lies beside a run's checkpoint, with ``section.field=value`` texts applied."""
    if not (run / CONFIG).is_file():
        raise TrainingError(f"{run}: holds no run (there is no {CONFIG})")
    return load_config(str(run / CONFIG), overrides)


def save_run_config(run: Path, config: Config) -> None:
    """Writes the configuration beside a run's checkpoint."""
    write_atomic(run / CONFIG, config.to_json().encode(), force=True)


def collect(config: Config, files: list[Path], run: Path, facts: dict[str, object] | None = None) -> None:
    """Makes a run directory of averaged weights that another machine trained (``scripts/train_xla.py``).

    Args:
        config: The configuration that was lowered.
        files: ``weights-N.npz`` with ``ema/...`` arrays, or directories of them; they hold no optimiser
            moments.
        run: Target directory.
        facts: Provenance to keep: hardware, seconds.
    """
    averaged: Arrays = {}
    step = 0
    parts = [
        part for path in files for part in (sorted(path.glob("weights-*.npz")) if path.is_dir() else [path])
    ]
    for path in parts:
        for key, value in read_arrays(path, "no readable weights").items():
            if key.startswith("ema/"):
                averaged[key.removeprefix("ema/")] = value
            elif key == "step":
                step = int(value)
    if not averaged:
        raise TrainingError("the collected files hold no averaged weights (ema/...)")
    from codec_cli.training.model import init_params

    stride, channels = config.transforms.stride, config.transforms.channels
    wanted = init_params(config, np.zeros((1, stride, stride, channels), np.uint8))
    for name, value in wanted.items():
        if name not in averaged or averaged[name].shape != value.shape:
            raise TrainingError(
                f"the collected weights do not fit the configuration: {name} (are all parts there?)"
            )
    run.mkdir(parents=True, exist_ok=True)
    save_run_config(run, config)
    seconds = float(str((facts or {}).get("seconds", 0)))
    save(run, {"params": averaged, "ema": averaged}, step, seconds)
