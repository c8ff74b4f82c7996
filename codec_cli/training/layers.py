"""Transforms that a configuration lists layer by layer: pure functions of a flat dictionary of parameters.

For architectures other than the photo model's: small images with a dense latent, decoders to compare, what a
paper describes. Images have one size, or any if all layers are convolutional. Parameters are named after the
layer's place in the list (``analysis/0/kernel``), those inside a ``residual`` after both places
(``analysis/2/0/kernel``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from codec_cli.training import gdn
from codec_cli.training.config import Convolutional, Layer, Listed
from codec_cli.training.params import Arrays, Params
from codec_cli.training.shapes import Shape, after, output_shape

_WEIGHTED = ("attention", "conv", "conv_transpose", "dense", "subpixel")


def init_transforms(config: Listed | Convolutional, rng: np.random.Generator) -> Arrays:
    """Draws initial parameters (He et al. 2015, arXiv:1502.01852).

    Args:
        config: The layers.
        rng: Source of the weights.

    Returns:
        Parameters by name: ``analysis/...`` and ``synthesis/...``, float32.
    """
    arrays: Arrays = {}
    latent = output_shape(config.analysis, "analysis", config.image_shape)
    init(config.analysis, "analysis", config.image_shape, rng, arrays)
    init(config.synthesis, "synthesis", latent, rng, arrays)
    return arrays


def analysis(
    params: Params, config: Listed | Convolutional, image: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Images to latents, before any gain.

    Args:
        params: From :func:`init_transforms`.
        config: The same configuration.
        image: float32 (batch, height, width, channels) in [0, 1], of the one size or multiples of the stride.
        dtype: Precision of the layers.

    Returns:
        float32 (batch, rows, columns, latent_channels); one row and column for a dense latent.
    """
    x = apply(config.analysis, "analysis", params, tf.cast(image - 0.5, dtype), config.slope)
    latents = tf.cast(x, tf.float32)
    return tf.reshape(latents, (-1, *config.latent_shape)) if isinstance(config, Listed) else latents


def synthesis(
    params: Params, config: Listed | Convolutional, latents: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Latents (inverse gain already applied) to images.

    Args:
        params: From :func:`init_transforms`.
        config: The same configuration.
        latents: float32 (batch, rows, columns, latent_channels).
        dtype: Precision of the layers.

    Returns:
        float32 (batch, height, width, channels), nominally in [0, 1], not clipped.
    """
    if isinstance(config, Listed):
        latents = tf.reshape(latents, (-1, *output_shape(config.analysis, "analysis", config.image_shape)))
    x = tf.cast(latents, dtype)
    return tf.cast(apply(config.synthesis, "synthesis", params, x, config.slope), tf.float32) + 0.5


def init(layers: Sequence[Layer], name: str, shape: Shape, rng: np.random.Generator, arrays: Arrays) -> None:
    """Adds initial parameters of layers.

    Args:
        layers: One after the other.
        name: What the parameters' names begin with.
        shape: Of the input.
        rng: Source of the weights.
        arrays: Takes the parameters by name.
    """
    for i, layer in enumerate(layers):
        place, out = f"{name}/{i}", after(layer, shape)
        if layer.op in _WEIGHTED:
            _weigh(arrays, place, _kernel_shape(layer, shape), rng, _initial_gain(layer))
        elif layer.op == "residual":
            init(layer.layers, place, shape, rng, arrays)
            skip = layer.shortcut(shape[-1])
            if skip is not None:
                _weigh(arrays, f"{place}/skip", _kernel_shape(skip, shape), rng, skip.gain)
        elif layer.op in ("gdn", "igdn"):
            gdn.init(arrays, place, shape[-1])
        if layer.op == "conv_transpose":
            # What TensorFlow's transposed convolution takes: outputs before inputs.
            arrays[f"{place}/kernel"] = np.ascontiguousarray(arrays[f"{place}/kernel"].swapaxes(2, 3))
        if layer.activation == "prelu":
            arrays[f"{place}/slope"] = np.full(out[-1], 0.1, np.float32)
        shape = out


def _kernel_shape(layer: Layer, shape: Shape) -> tuple[int, ...]:
    """With inputs before outputs."""
    if layer.op == "dense":
        return (shape[0], layer.filters)
    outputs = layer.filters * (layer.factor**2 if layer.op == "subpixel" else 1)
    return (layer.kernel, layer.kernel, shape[-1], shape[-1] if layer.op == "attention" else outputs)


def _initial_gain(layer: Layer) -> float:
    # An output of a transposed convolution sees only every stride-th tap of the kernel along each axis.
    return layer.gain * (layer.stride if layer.op == "conv_transpose" else 1)


def _weigh(arrays: Arrays, name: str, shape: tuple[int, ...], rng: np.random.Generator, gain: float) -> None:
    deviation = gain * math.sqrt(2 / math.prod(shape[:-1]))
    arrays[f"{name}/kernel"] = rng.normal(0, deviation, shape).astype(np.float32)
    arrays[f"{name}/bias"] = np.zeros(shape[-1], np.float32)


def apply(layers: Sequence[Layer], name: str, params: Params, x: tf.Tensor, slope: float) -> tf.Tensor:
    """Runs layers.

    Args:
        layers: As given to :func:`init`.
        name: Likewise.
        params: All parameters by name.
        x: (batch, height, width, channels) or (batch, units), in the precision to compute in.
        slope: Of leaky rectifiers below zero.

    Returns:
        The output, in the same precision.
    """
    for i, layer in enumerate(layers):
        x = apply_one(layer, f"{name}/{i}", params, x, slope)
    return x


def apply_one(layer: Layer, name: str, params: Params, x: tf.Tensor, slope: float) -> tf.Tensor:
    """Runs one layer, named with its place: as :func:`apply` otherwise."""
    return _activate(layer, name, params, _run(layer, name, params, x, slope), slope)


def _run(layer: Layer, name: str, params: Params, x: tf.Tensor, slope: float) -> tf.Tensor:
    if layer.op == "conv":
        return _conv(params, name, x, layer.stride)
    if layer.op == "conv_transpose":
        return _conv_transpose(params, name, x, layer.stride)
    if layer.op == "dense":
        return tf.matmul(x, tf.cast(params[f"{name}/kernel"], x.dtype)) + tf.cast(
            params[f"{name}/bias"], x.dtype
        )
    if layer.op == "subpixel":  # Shi et al. 2016, arXiv:1609.05158
        return tf.nn.depth_to_space(_conv(params, name, x, 1), layer.factor)
    if layer.op == "residual":  # He et al. 2016, arXiv:1512.03385
        inner = apply(layer.layers, name, params, x, slope)
        skip = layer.shortcut(x.shape[-1])
        return inner + (x if skip is None else _run(skip, f"{name}/skip", params, x, slope))
    if layer.op in ("gdn", "igdn"):
        return gdn.apply(params, name, x, inverse=layer.op == "igdn")
    if layer.op == "attention":
        return x * tf.nn.sigmoid(_conv(params, name, x, 1))
    if layer.op == "upsample":
        return tf.repeat(tf.repeat(x, layer.factor, 1), layer.factor, 2)
    if layer.op == "space_to_depth":
        return tf.nn.space_to_depth(x, layer.factor)
    return tf.reshape(x, (-1, *after(layer, tuple(x.shape[1:]))))


def _conv(params: Params, name: str, x: tf.Tensor, stride: int) -> tf.Tensor:
    kernel = tf.cast(params[f"{name}/kernel"], x.dtype)
    if kernel.shape[0] == 1:
        # The same result without a stride: the gradient of a strided 1x1 kernel of fewer than 16 channels
        # writes beyond its memory in oneDNN (https://github.com/uxlfoundation/oneDNN/issues/6035).
        x, stride = x[:, ::stride, ::stride], 1
    return tf.nn.conv2d(x, kernel, stride, "SAME") + tf.cast(params[f"{name}/bias"], x.dtype)


def _conv_transpose(params: Params, name: str, x: tf.Tensor, stride: int) -> tf.Tensor:
    kernel, bias = (tf.cast(params[f"{name}/{part}"], x.dtype) for part in ("kernel", "bias"))
    if kernel.shape[0] == 1:
        # Likewise: every pixel becomes the first of a block that is empty otherwise.
        x = tf.nn.conv2d(x, tf.transpose(kernel, (0, 1, 3, 2)), 1, "SAME")
        if stride > 1:
            empty = tf.zeros_like(tf.repeat(x, stride**2 - 1, 3))
            x = tf.nn.depth_to_space(tf.concat([x, empty], 3), stride)
        return x + bias
    size = (tf.shape(x)[0], x.shape[1] * stride, x.shape[2] * stride, kernel.shape[2])
    return tf.nn.conv2d_transpose(x, kernel, size, stride, "SAME") + bias


def _activate(layer: Layer, name: str, params: Params, x: tf.Tensor, slope: float) -> tf.Tensor:
    if layer.activation == "prelu":
        return tf.where(x > 0, x, x * tf.cast(params[f"{name}/slope"], x.dtype))
    if layer.activation == "leaky_relu":
        return tf.nn.leaky_relu(x, slope)
    plain = {"relu": tf.nn.relu, "sigmoid": tf.nn.sigmoid, "tanh": tf.nn.tanh}.get(layer.activation)
    return x if plain is None else plain(x)
