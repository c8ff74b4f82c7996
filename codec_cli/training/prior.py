"""The factorized prior: ``tfc.NoisyDeepFactorized`` of batch shape (levels, channels), or a simpler family.

TensorFlow Compression creates the prior's variables itself. A train step that is a pure function needs them
as arguments, so a variable creator hands our tensors in instead; the distribution's mathematics stay TFC's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_compression as tfc

from codec_cli.training.config import Entropy
from codec_cli.training.params import Arrays, Params


def init_prior(scales: npt.NDArray[np.float32], config: Entropy, rng: np.random.Generator) -> Arrays:
    """Initial parameters, with each density as wide as its latents.

    Args:
        scales: float32 (levels, channels), the standard deviation of the symbols.
        config: Family, and hidden layer widths of the cumulative's network.
        rng: Source of the biases that break the symmetry.

    Returns:
        Parameters by name, ``prior/matrix_i`` (levels * channels, out, in) and so on; ``prior/loc`` and
        ``prior/log_scale`` (levels, channels) of the simpler families.
    """
    if config.prior != "deep":
        return {
            "prior/loc": np.zeros_like(scales),
            "prior/log_scale": np.log(np.maximum(scales, 0.01)).astype(np.float32),
        }
    filters = config.filters
    flat = np.maximum(scales.reshape(-1).astype(np.float64) * 0.6, 0.01)
    widths = (1, *filters, 1)
    per_layer = flat ** (1 / (len(filters) + 1))
    out: Arrays = {}
    for i in range(len(filters) + 1):
        target = 1 / per_layer / widths[i + 1]
        init = np.where(target < 15, np.log(np.expm1(np.minimum(target, 15))), target)
        shape = (flat.size, widths[i + 1], widths[i])
        out[f"prior/matrix_{i}"] = np.broadcast_to(init[:, None, None], shape).astype(np.float32)
        out[f"prior/bias_{i}"] = rng.uniform(-0.5, 0.5, (flat.size, widths[i + 1], 1)).astype(np.float32)
        if i < len(filters):
            out[f"prior/factor_{i}"] = np.zeros((flat.size, widths[i + 1], 1), np.float32)
    return out


def build_prior(params: Params, shape: tuple[int, int], config: Entropy) -> Any:  # noqa: ANN401
    """A noisy distribution of TFC of batch shape (levels, channels) whose parameters are ``params``."""
    if config.prior != "deep":
        noisy = {"normal": tfc.NoisyNormal, "logistic": tfc.NoisyLogistic}[config.prior]
        return noisy(loc=params["prior/loc"], scale=tf.exp(params["prior/log_scale"]))

    def creator(_next: Any, **kwargs: Any) -> tf.Tensor:  # noqa: ANN401
        return params[f"prior/{kwargs['name']}"]

    with tf.variable_creator_scope(creator):
        return tfc.NoisyDeepFactorized(batch_shape=shape, num_filters=tuple(config.filters))


def bits(prior: Any, noisy: tf.Tensor) -> tf.Tensor:  # noqa: ANN401
    """Bits of each noisy symbol.

    Args:
        prior: From :func:`build_prior`.
        noisy: float32 (batch, levels, height, width, channels).

    Returns:
        float32, shape (batch, height, width, levels, channels).
    """
    return prior.log_prob(tf.transpose(noisy, (0, 2, 3, 1, 4))) * (-1 / math.log(2))
