"""The scalars that steer a training step. No TensorFlow here: the loop for other devices imports it too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

NAMES = ("correction1", "correction2", "ema", "hard", "learning_rate")


def scalars(
    config: Mapping[str, Any], step: int, progress: float | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Warm-up, plateau, cosine decay or cycles; averaging; decoder rounding; Adam's bias corrections.

    Cycles are the triangular policy of L. N. Smith, "Cyclical learning rates for training neural networks",
    WACV 2017, arXiv:1506.01186; they count steps, whatever bounds the run.

    Args:
        config: A configuration as a tree of plain values (``Config.model_dump()`` or its JSON);
            ``run.steps`` is the length of the schedule.
        step: Steps already done.
        progress: Share of the schedule that is over, 0 to 1; ``step / run.steps`` by default. A run that is
            bounded by time passes the share of its time.

    Returns:
        float32 scalars ``learning_rate``, ``ema``, ``hard`` (1 once the synthesis is to see rounded
        latents), ``correction1`` and ``correction2`` (after this step); and ``adversarial`` (1 once the
        discriminator takes part) for a configuration that has one.
    """
    optimizer, run = config["optimizer"], config["run"]
    rate, low = optimizer["learning_rate"], optimizer["final_learning_rate"]
    if progress is None:
        progress = step / run["steps"]
    start, cycle = optimizer["decay_start"], optimizer.get("cycle_steps")
    if cycle:
        rate = low + (rate - low) * (1 - abs(2 * (step % cycle) / cycle - 1))
    elif progress > start:
        phase = min(1.0, (progress - start) / max(1e-9, 1 - start))
        rate = low + (rate - low) * 0.5 * (1 + math.cos(math.pi * phase))
    if step < optimizer["warmup_steps"]:
        rate *= (step + 1) / optimizer["warmup_steps"]
    values = {
        "correction1": 1 - optimizer["beta1"] ** (step + 1),
        "correction2": 1 - optimizer["beta2"] ** (step + 1),
        # Early in a run the average must not remember the initial weights.
        "ema": min(optimizer["ema"], (1 + step) / (10 + step)),
        "hard": float(progress >= run["decoder_rounding"]),
        "learning_rate": rate,
    }
    names: tuple[str, ...] = NAMES
    if config.get("adversarial"):
        values["adversarial"] = float(progress >= config["adversarial"]["start"])
        names = (*NAMES, "adversarial")
    return {name: np.asarray(values[name], np.float32) for name in names}
