"""Shapes of the activations of listed layers, so that a configuration is checked before TensorFlow loads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codec_cli.training.config import Layer

__all__ = ["Shape", "after", "output_shape"]

Shape = tuple[int, ...]
"""Of one image's activations: (height, width, channels), or (units,) once flat."""


def output_shape(layers: Sequence[Layer], name: str, shape: Shape) -> Shape:
    """The shape after all layers.

    Args:
        layers: One after the other.
        name: Of the list, for messages.
        shape: Of the input.

    Raises:
        ValueError: A layer does not fit the output of the one before it.
    """
    for i, layer in enumerate(layers):
        try:
            shape = after(layer, shape)
        except ValueError as error:
            raise ValueError(f"{name}.{i} ({layer.op}): {error}") from error
    return shape


def after(layer: Layer, shape: Shape) -> Shape:
    """The shape after one layer.

    Raises:
        ValueError: The layer does not fit.
    """
    if layer.op == "flatten":
        return (math.prod(shape),)
    if layer.op == "reshape":
        if math.prod(shape) != math.prod(layer.shape):
            raise ValueError(f"{math.prod(shape)} values do not fill {layer.shape}")
        return tuple(layer.shape)
    if layer.op == "dense":
        if len(shape) != 1:
            raise ValueError("needs a vector; `flatten` makes one of an image")
        return (layer.filters,)
    if len(shape) != 3:
        raise ValueError("needs an image; `reshape` makes one of a vector")
    height, width, channels = shape
    if layer.op == "conv":
        return (-(-height // layer.stride), -(-width // layer.stride), layer.filters)
    if layer.op == "conv_transpose":
        return (height * layer.stride, width * layer.stride, layer.filters)
    if layer.op == "subpixel":
        return (height * layer.factor, width * layer.factor, layer.filters)
    if layer.op == "upsample":
        return (height * layer.factor, width * layer.factor, channels)
    if layer.op == "space_to_depth":
        if height % layer.factor or width % layer.factor:
            raise ValueError(f"{height}x{width} is no multiple of {layer.factor}")
        return (height // layer.factor, width // layer.factor, channels * layer.factor**2)
    inner = output_shape(layer.layers, "layers", shape)
    if inner[:-1] != shape[:-1]:
        raise ValueError(f"the layers inside change {shape} to {inner}; only the channels may change")
    return inner
