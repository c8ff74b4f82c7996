"""Distortions as differentiable functions: each takes two batches and gives one number per image.

The definitions are those of :mod:`codec_cli.evaluation.metrics` and :mod:`codec_cli.evaluation.lpips`, which
are also what the tests compare with. All are small when the images are alike, so that they can be added up
with weights (``losses`` in a configuration).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.errors import TrainingError
from codec_cli.evaluation import lpips, metrics
from codec_cli.training.config import Config, Loss

# A contrast-structure term of 0 has no gradient through its power; this far below use, none is missed.
_SMALLEST_TERM = 1e-3


def distortion(config: Config, original: tf.Tensor, decoded: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The configuration's distortion: the weighted sum of its ``losses``.

    Args:
        config: The configuration.
        original: float32 (batch, height, width, channels), R'G'B' or gray in [0, 1].
        decoded: The same shape; values may lie beyond [0, 1].
        dtype: Precision of convolutions.

    Returns:
        float32 (batch,).
    """
    total = tf.zeros(tf.shape(original)[:1])
    for loss in config.losses:
        total += loss.weight * LOSSES[loss.name](loss, original, decoded, dtype)
    return total


def _mse(_: Loss, original: tf.Tensor, decoded: tf.Tensor, __: tf.DType) -> tf.Tensor:
    """Mean square error on [0, 255]."""
    return tf.reduce_mean(tf.square((original - decoded) * 255.0), (1, 2, 3))


def _mae(_: Loss, original: tf.Tensor, decoded: tf.Tensor, __: tf.DType) -> tf.Tensor:
    """Mean absolute error on [0, 255]."""
    return tf.reduce_mean(tf.abs((original - decoded) * 255.0), (1, 2, 3))


def _ssim(_: Loss, original: tf.Tensor, decoded: tf.Tensor, __: tf.DType) -> tf.Tensor:
    """1 - SSIM."""
    similarity, _contrast = _similarity(_planes(original), _planes(decoded))
    return 1.0 - tf.reduce_mean(similarity, 1)


def _ms_ssim(_: Loss, original: tf.Tensor, decoded: tf.Tensor, __: tf.DType) -> tf.Tensor:
    """1 - MS-SSIM."""
    x, y = _planes(original), _planes(decoded)
    product = tf.ones(tf.shape(x)[:2])
    last = len(metrics.SCALE_WEIGHTS) - 1
    for scale, weight in enumerate(metrics.SCALE_WEIGHTS):
        if scale:
            x, y = _halve(x), _halve(y)
        similarity, contrast = _similarity(x, y)
        product *= tf.maximum(similarity if scale == last else contrast, _SMALLEST_TERM) ** weight
    return 1.0 - tf.reduce_mean(product, 1)


def _planes(images: tf.Tensor) -> tf.Tensor:
    """(batch, channels, height, width) on [0, 255] about mid-grey, which keeps variances exact in float32."""
    return tf.transpose(images, (0, 3, 1, 2)) * 255.0 - metrics.CENTRE


@functools.cache
def _band(size: int) -> npt.NDArray[np.float32]:
    """The Gaussian window as a banded matrix (size - 10, size): a product is faster than a convolution."""
    taps = np.asarray(metrics.TAPS, np.float32)
    band = np.zeros((size - len(taps) + 1, size), np.float32)
    for row in range(len(band)):
        band[row, row : row + len(taps)] = taps
    return band


def _similarity(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean SSIM and mean contrast-structure term, each (batch, channels), of centred planes."""
    height, width = x.shape[2:]
    stack = tf.stack((x, y, x * x + y * y, x * y))
    rows = tf.matmul(stack, tf.constant(_band(width)), transpose_b=True)
    mean_x, mean_y, squares, product = tf.unstack(tf.matmul(tf.constant(_band(height)), rows))
    contrast = (2 * (product - mean_x * mean_y) + metrics.C2) / (
        squares - (mean_x * mean_x + mean_y * mean_y) + metrics.C2
    )
    mean_x += metrics.CENTRE
    mean_y += metrics.CENTRE
    luminance = (2 * mean_x * mean_y + metrics.C1) / (mean_x * mean_x + mean_y * mean_y + metrics.C1)
    return tf.reduce_mean(luminance * contrast, (2, 3)), tf.reduce_mean(contrast, (2, 3))


def _halve(x: tf.Tensor) -> tf.Tensor:
    batch, channels, height, width = x.shape
    x = tf.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), "SYMMETRIC")
    shape = (batch, channels, (height + 1) // 2, 2, (width + 1) // 2, 2)
    return tf.reduce_mean(tf.reshape(x, shape), (3, 5))


def _lpips(loss: Loss, original: tf.Tensor, decoded: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """LPIPS v0.1, AlexNet (Zhang et al. 2018, arXiv:1801.03924)."""
    weights = _lpips_weights(loss.weights)
    total = tf.zeros(tf.shape(original)[:1])
    both = tf.concat((original, decoded), 0)
    if both.shape[3] == 1:
        both = tf.repeat(both, 3, 3)
    for level, features in enumerate(_alexnet(weights, both, dtype)):
        norm = tf.sqrt(tf.reduce_sum(tf.square(features), 3, keepdims=True) + 1e-10)
        unit = features / (norm + 1e-10)
        a, b = tf.split(unit, 2)
        head = tf.constant(weights[f"NetLinLayer_{level}.Conv_0.kernel"].reshape(-1))
        total += tf.reduce_mean(tf.reduce_sum(tf.square(a - b) * head, 3), (1, 2))
    return total


def _alexnet(
    weights: Mapping[str, npt.NDArray[np.float32]], images: tf.Tensor, dtype: tf.DType
) -> list[tf.Tensor]:
    """The outputs of the five rectified convolutions, float32."""
    x = (images * 2.0 - 1.0 - lpips.SHIFT) / lpips.SCALE
    outputs = []
    for i, layer in enumerate(lpips.LAYERS):
        if layer.pooled:
            x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        kernel = tf.cast(tf.constant(weights[f"AlexNet_0.Conv_{i}.kernel"]), dtype)
        # Padded apart: the CPU kernels for bfloat16 know no explicit padding.
        x = tf.pad(x, ((0, 0), (layer.padding,) * 2, (layer.padding,) * 2, (0, 0)))
        x = tf.nn.conv2d(tf.cast(x, dtype), kernel, layer.stride, "VALID")
        x = tf.nn.relu(tf.cast(x, tf.float32) + weights[f"AlexNet_0.Conv_{i}.bias"])
        outputs.append(x)
    return outputs


@functools.cache
def _lpips_weights(path: str | None) -> Mapping[str, npt.NDArray[np.float32]]:
    named = path or os.environ.get(lpips.VARIABLE)
    if not named:
        raise TrainingError(
            f"the loss lpips needs the weights of its network: name the file in {lpips.VARIABLE} or as "
            "`weights` of the loss; scripts/fetch_lpips.py gets it"
        )
    return lpips.Lpips.load(Path(named)).weights


LOSSES: dict[str, Callable[[Loss, tf.Tensor, tf.Tensor, tf.DType], tf.Tensor]] = {
    "mse": _mse,
    "mae": _mae,
    "ssim": _ssim,
    "ms_ssim": _ms_ssim,
    "lpips": _lpips,
}
"""By the names that configurations use."""
