"""Every usable level becomes a trained one, with channels that come in gradually.

Training lets channels die at low levels: uniform noise makes a latent that is nearly always zero cost more
than it is worth, so its gain falls to nothing there. Between such a level and the next one, where the channel
is alive, interpolated gains keep it dead up to the last step, and the levels between are worse than both
(docs/TRAINING.md). Real symbols know no such noise: here every channel lives from :data:`AHEAD` of a trained
level before the one that it was trained for, with the gain that the living channels' steps give it, and each
usable level gets gains, biases and conditioning of its own, to be trained
(:mod:`codec_cli.training.finish`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from codec_cli.training import levels
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays

# A channel dies where its gain falls by more than this factor (e^4) from one trained level to the next.
DYING = 4.0
# In distances of trained levels.
AHEAD = 1.0
# Logarithm of a gain that makes every symbol zero.
DEAD = -14.0
# Biases of a dead channel's logarithm of the scale, in the context networks.
DEAD_SCALE = -8.0

Floats = npt.NDArray[np.float64]


def spread(config: Config, params: Arrays) -> tuple[Config, Arrays]:
    """The configuration and parameters with as many trained levels as there were usable ones.

    Args:
        config: Of a context model.
        params: Its averaged weights.

    Returns:
        A configuration without levels between the trained ones, and parameters that fit it.
    """
    hats = levels.hat_weights(config).astype(np.float64)
    forward, inverse, born, steps = _living(params)
    trained = len(config.levels.lambdas)
    place = np.arange(len(hats)) / (config.levels.between + 1)
    # Whether a channel is dead at a usable level.
    dead = born[None] > np.minimum(trained - 1, np.floor(place + AHEAD))[:, None]
    out: Arrays = dict(params)
    out["gain/forward"] = np.where(dead, DEAD, hats @ forward).astype(np.float32)
    out["gain/inverse"] = (hats @ inverse).astype(np.float32)
    for name, value in params.items():
        if name.endswith(("/level_bias", "/level_scale")):
            out[name] = (hats @ value).astype(np.float32)
        elif name.startswith("context/") and name.endswith("/bias"):
            biases = hats @ value.astype(np.float64)
            if "/layer2/" in name:
                _revive(biases, value, _channels(config, name), born, dead, place, steps)
            out[name] = biases.astype(np.float32)
    out.update(_prior(config, params, out["gain/forward"]))
    section = config.levels.model_copy(
        update={"lambdas": [float(value) for value in levels.lambdas(config)], "between": 0}
    )
    return config.model_copy(update={"levels": section}), out


def _living(params: Arrays) -> tuple[Floats, Floats, npt.NDArray[np.intp], Floats]:
    """Gains as if no channel ever died.

    Returns:
        Logarithms of both gains, float64 (trained, channels); the trained level from which on each channel
        lives; and by how much the logarithm of a gain has risen at each level.
    """
    forward, inverse = (params[f"gain/{side}"].astype(np.float64).copy() for side in ("forward", "inverse"))
    lives = np.ones(forward.shape, bool)
    for level in range(len(forward) - 2, -1, -1):
        lives[level] = lives[level + 1] & (forward[level + 1] - forward[level] < DYING)
    steps = np.zeros(len(forward))
    for level in range(len(forward) - 2, -1, -1):
        known = lives[level] if lives[level].any() else np.ones_like(lives[level])
        for gains in (forward, inverse):
            change = np.median(gains[level + 1][known] - gains[level][known])
            gains[level, ~lives[level]] = gains[level + 1, ~lives[level]] - change
        steps[level + 1] = np.median(forward[level + 1][known] - forward[level][known])
    return forward, inverse, (~lives).sum(0), np.cumsum(steps)


def _channels(config: Config, name: str) -> npt.NDArray[np.intp]:
    """The latent channels of a pass, ``context/pass-G-H/...``."""
    groups = config.entropy.context.groups
    group = int(name.split("/")[1].split("-")[1])
    begin = sum(groups[:group])
    return np.arange(begin, begin + groups[group])


def _revive(
    biases: Floats,
    trained: npt.NDArray[np.float32],
    channels: npt.NDArray[np.intp],
    born: npt.NDArray[np.intp],
    dead: npt.NDArray[np.bool_],
    place: Floats,
    steps: Floats,
) -> None:
    """Sets means and scales of channels before the level that they were trained for.

    They are those of that level, narrower as symbols are smaller.
    """
    count = len(channels)
    for i, channel in enumerate(channels):
        first = born[channel]
        early = place < first
        alive, gone = early & ~dead[:, channel], early & dead[:, channel]
        smaller = (steps[first] - np.interp(place, np.arange(len(steps)), steps)) / math.log(2)
        biases[alive, i] = trained[first, i]
        biases[alive, count + i] = trained[first, count + i] - smaller[alive]
        biases[gone, i] = 0
        biases[gone, count + i] = DEAD_SCALE


def _prior(config: Config, params: Arrays, forward: npt.NDArray[np.float32]) -> Arrays:
    """The factorized prior of every usable level: the nearest trained one's on a rescaled grid."""
    step, size = config.levels.between + 1, config.entropy.context.groups[0]
    nearest = levels.nearest_trained(config)
    ratio = np.exp(forward[np.multiply(nearest, step), :size] - forward[:, :size]).astype(np.float64)
    own = {name: value for name, value in params.items() if name.startswith("prior/")}
    out = levels.picked(own, len(config.levels.lambdas), nearest)
    if "prior/matrix_0" in out:
        # Its softplus multiplies the symbol (Balle et al. 2018, appendix 6.1).
        product = np.logaddexp(0, out["prior/matrix_0"].astype(np.float64)) * ratio.reshape(-1, 1, 1)
        out["prior/matrix_0"] = (product + np.log(-np.expm1(-product))).astype(np.float32)
    else:
        out["prior/loc"] = (out["prior/loc"] / ratio).astype(np.float32)
        out["prior/log_scale"] = (out["prior/log_scale"] - np.log(ratio)).astype(np.float32)
    return out
