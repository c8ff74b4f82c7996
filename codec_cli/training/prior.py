"""The factorized prior: ``tfc.NoisyDeepFactorized`` with a batch shape (levels, channels).

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

from codec_cli.training.networks import Arrays, Params


def init_prior(scales: npt.NDArray[np.float32], filters: list[int], rng: np.random.Generator) -> Arrays:
    """Initial parameters, with each density as wide as its latents.

    Args:
        scales: float32 (levels, channels), the standard deviation of the symbols.
        filters: Hidden layer widths of the cumulative's network.
        rng: Source of the biases that break the symmetry.

    Returns:
        Parameters by name, ``prior/matrix_i`` (levels * channels, out, in) and so on.
    """
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


def build_prior(params: Params, shape: tuple[int, int], filters: list[int]) -> Any:  # noqa: ANN401
    """A ``tfc.NoisyDeepFactorized`` of batch shape (levels, channels) whose parameters are ``params``."""

    def creator(_next: Any, **kwargs: Any) -> tf.Tensor:  # noqa: ANN401
        return params[f"prior/{kwargs['name']}"]

    with tf.variable_creator_scope(creator):
        return tfc.NoisyDeepFactorized(batch_shape=shape, num_filters=tuple(filters))


def bits(prior: Any, noisy: tf.Tensor) -> tf.Tensor:  # noqa: ANN401
    """Bits of each noisy symbol.

    Args:
        prior: From :func:`build_prior`.
        noisy: float32 (batch, levels, height, width, channels).

    Returns:
        float32, shape (batch, height, width, levels, channels).
    """
    return prior.log_prob(tf.transpose(noisy, (0, 2, 3, 1, 4))) * (-1 / math.log(2))
