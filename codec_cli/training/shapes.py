"""Shapes and reach of listed layers, so that a configuration is checked before TensorFlow loads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codec_cli.training.config import Layer

__all__ = ["Shape", "after", "output_shape", "reach", "whole_side"]

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
    if layer.op in ("attention", "gdn", "igdn"):
        return shape
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
    skip = layer.shortcut(channels) if len(inner) == 3 else None
    if inner[:-1] != (shape if skip is None else after(skip, shape))[:-1]:
        raise ValueError(
            f"the layers inside change {shape} to {inner}; only the channels may change, and the resolution "
            "by a whole factor"
        )
    return inner


def whole_side(layers: Sequence[Layer]) -> int:
    """A height and width that no layer has to round up to go on."""
    inside = (whole_side(layer.layers) for layer in layers)
    steps = (layer.stride * (layer.factor if layer.op == "space_to_depth" else 1) for layer in layers)
    return math.prod(steps) * math.prod(inside)


def reach(layers: Sequence[Layer], first: int, last: int) -> tuple[int, int]:
    """What some outputs can depend on, along one axis.

    Args:
        layers: One after the other, as :class:`codec_cli.training.config.Convolutional` takes them; inputs
            are as large as each stride divides.
        first: Index of an output.
        last: Index of an output, not before ``first``.

    Returns:
        Indices of the first and the last input; those before 0 are beyond the edge.
    """
    for layer in reversed(layers):
        if layer.op == "space_to_depth":
            first, last = first * layer.factor, last * layer.factor + layer.factor - 1
        elif layer.op in ("conv", "attention", "subpixel"):
            if layer.op == "subpixel":
                first, last = first // layer.factor, last // layer.factor
            # TensorFlow's "SAME": of an odd number of zeros, the odd one goes behind.
            step = layer.stride if layer.op == "conv" else 1
            before = max(layer.kernel - step, 0) // 2
            first, last = first * step - before, last * step - before + layer.kernel - 1
        elif layer.op == "residual":
            skip = layer.shortcut(1)
            ends = reach(layer.layers, first, last), reach([skip] if skip else [], first, last)
            first, last = min(end[0] for end in ends), max(end[1] for end in ends)
    return first, last
