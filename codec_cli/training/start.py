"""A start for convolutional transforms as the linear transform codec that they contain.

Layer by layer from the image on, what lowers the resolution (a convolution, or the shortcut of a residual)
begins with the principal components of the blocks that it merges, and in the synthesis what raises it with
the least-squares estimate of the activations that went in there. Weights elsewhere stay as drawn: small, if
the layer's ``gain`` is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.training import layers
from codec_cli.training.config import Convolutional, Layer
from codec_cli.training.params import Arrays

_Floats = npt.NDArray[np.float32]
# Of the mean variance, on the diagonal: estimates of what hardly varies stay small.
_RIDGE = 1e-4


def linear(params: Arrays, config: Convolutional, images: npt.NDArray[np.uint8]) -> None:
    """Sets the linear path of both transforms.

    Args:
        params: From :func:`codec_cli.training.layers.init_transforms`; changed in place. Layers of the
            synthesis whose shapes do not mirror the analysis keep what they have.
        config: The same configuration.
        images: uint8 (n, height, width, channels), sizes multiples of the stride: what the components are of.
    """
    x = tf.cast(images, tf.float32) / 255.0 - 0.5
    inputs: list[tf.Tensor] = []
    for name, layer, scaling, place in _scalings(config.analysis, "analysis"):
        if scaling is not None and scaling.op == "conv":
            inputs.append(x)
            _set_components(params, place, scaling, x)
        x = layers.apply_one(layer, name, params, x, config.slope)
    for name, layer, scaling, place in _scalings(config.synthesis, "synthesis"):
        if scaling is not None and scaling.op == "subpixel" and inputs:
            _set_estimate(params, place, scaling, x, inputs.pop())
        x = layers.apply_one(layer, name, params, x, config.slope)


def _scalings(listing: Sequence[Layer], side: str) -> Iterator[tuple[str, Layer, Layer | None, str]]:
    """Every layer with its name; and what in it changes the resolution without rectifiers, with its name."""
    for i, layer in enumerate(listing):
        inner, place = layer, f"{side}/{i}"
        if layer.op == "residual":
            inner, place = layer.shortcut(1) or layer, f"{place}/skip"
        is_scaling = inner.op == "subpixel" or (inner.op == "conv" and inner.stride > 1)
        yield f"{side}/{i}", layer, inner if is_scaling else None, place


def _set_components(params: Arrays, name: str, layer: Layer, x: tf.Tensor) -> None:
    """The leading channels become principal components about zero of blocks, as for the photo model."""
    step, kernel = layer.stride, params[f"{name}/kernel"]
    if kernel.shape[0] < step:
        return
    blocks = tf.nn.space_to_depth(x, step).numpy()
    blocks = blocks.reshape(-1, blocks.shape[-1])
    values, vectors = np.linalg.eigh((blocks.T @ blocks).astype(np.float64))
    count = min(kernel.shape[-1], len(values))
    leading = vectors[:, np.argsort(values)[::-1][:count]]
    first = (kernel.shape[0] - step) // 2
    taps = slice(first, first + step)
    kernel[..., :count] = 0
    kernel[taps, taps, :, :count] = leading.reshape(step, step, -1, count)


def _set_estimate(params: Arrays, name: str, layer: Layer, x: tf.Tensor, target: tf.Tensor) -> None:
    """Each output becomes the best linear estimate of the target from the input at the same place."""
    kernel, wanted = params[f"{name}/kernel"], tf.nn.space_to_depth(target, layer.factor).numpy()
    if wanted.shape[1:] != (*x.shape[1:3], kernel.shape[-1]):
        return
    given = x.numpy().reshape(-1, x.shape[-1])
    wanted = wanted.reshape(-1, wanted.shape[-1])
    centre, means = given.mean(0), wanted.mean(0)
    moment = ((given - centre).T @ (given - centre)).astype(np.float64)
    moment += _RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    estimate = np.linalg.solve(moment, (given - centre).T @ (wanted - means))
    middle = (kernel.shape[0] - 1) // 2
    kernel[middle, middle] = estimate
    params[f"{name}/bias"][...] = means - centre @ estimate
