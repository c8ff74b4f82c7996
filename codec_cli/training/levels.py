"""Usable levels: the trained ones and those interpolated between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays


def hat_weights(config: Config) -> npt.NDArray[np.float32]:
    """Share of each trained level in each usable one, float32 (usable, trained); rows sum to 1."""
    trained = len(config.levels.lambdas)
    place = np.arange(config.levels.usable) / (config.levels.between + 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(trained)[None])).astype(np.float32)


def lambdas(config: Config) -> npt.NDArray[np.float64]:
    """Weight of the distortion at every usable level, interpolated geometrically; float64 (usable,)."""
    return np.asarray(np.exp(hat_weights(config) @ np.log(config.levels.lambdas)), np.float64)


def nearest_trained(config: Config) -> list[int]:
    """Of every usable level the trained one whose prior it takes, on a rescaled grid."""
    trained, step = len(config.levels.lambdas), config.levels.between + 1
    return [min(trained - 1, round(level / step)) for level in range(config.levels.usable)]


def gains(config: Config, params: Arrays) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gain and inverse gain of every usable level, interpolated geometrically.

    Returns:
        Two float32 arrays (usable levels, latent_channels).
    """
    hats = hat_weights(config).astype(np.float64)
    forward, inverse = (
        np.exp(hats @ params[f"gain/{side}"].astype(np.float64)) for side in ("forward", "inverse")
    )
    return forward.astype(np.float32), inverse.astype(np.float32)


def picked(params: Arrays, count: int, chosen: list[int]) -> Arrays:
    """Parameters of some of the trained levels.

    Args:
        params: All parameters of a model.
        count: Its trained levels.
        chosen: Which of them to keep, in order.
    """
    out: Arrays = {}
    for name, value in params.items():
        if name in ("prior/loc", "prior/log_scale"):
            out[name] = value[chosen]
        elif name.startswith("prior/"):  # Levels times channels, level by level.
            out[name] = value.reshape(count, -1, *value.shape[1:])[chosen].reshape(-1, *value.shape[1:])
        elif _has_levels(name):
            out[name] = value[chosen]
        else:
            out[name] = value
    return out


def _has_levels(name: str) -> bool:
    """Whether a parameter's first axis is that of the levels."""
    bias = name.startswith("context/") and name.endswith("/bias")
    return bias or name.startswith("gain/") or name.endswith(("/level_bias", "/level_scale"))


def nearest(have: list[float], wanted: list[float]) -> list[int]:
    """Of each wanted lambda the index of the one in ``have`` that is nearest by ratio."""
    ratios = np.abs(np.log(np.asarray(wanted))[:, None] - np.log(np.asarray(have))[None])
    return [int(index) for index in ratios.argmin(1)]
