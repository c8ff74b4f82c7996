"""Generalised divisive normalisation: ``tfc.GDN`` as a pure function of its parameters.

Its layer keeps beta and gamma in variables of its own. A train step that is a pure function needs them as
arguments, so a variable creator hands our tensors in instead, as for the prior
(:mod:`codec_cli.training.prior`); the mathematics, and the reparameterisation that keeps beta and gamma from
becoming negative, stay TensorFlow Compression's.

References:
    J. Ballé, V. Laparra, E. P. Simoncelli, "Density modeling of images using a generalized normalization
    transformation", ICLR 2016, arXiv:1511.06281.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_compression as tfc

from codec_cli.training.params import Arrays, Params

_Floats = npt.NDArray[np.float32]

# What gamma starts with on its diagonal: TFC's own default, as is a beta of 1.
_DIAGONAL = 0.1
_MINIMA = {"beta": 1e-6, "gamma": 0.0}
_OFFSET = 2.0**-18


class _Static(tfc.GDN):  # type: ignore[misc]
    """With exponents that are plain numbers: TFC's are tensors, on which only autograph can branch."""

    alpha = 1.0
    epsilon = 1.0


def init(arrays: Arrays, name: str, channels: int) -> None:
    """Adds initial parameters.

    Args:
        arrays: Takes ``NAME/beta`` (channels,) and ``NAME/gamma`` (channels, channels), float32: the roots
            that ``tfc.GDNParameter`` trains.
        name: Of the layer.
        channels: Of its input.
    """
    arrays[f"{name}/beta"] = _stored(np.ones(channels))
    arrays[f"{name}/gamma"] = _stored(_DIAGONAL * np.eye(channels))


def apply(params: Params, name: str, x: tf.Tensor, *, inverse: bool) -> tf.Tensor:
    """Divides each channel by a pool of all channels at the same place, or multiplies by it.

    Args:
        params: All parameters by name.
        name: As given to :func:`init`.
        x: (batch, height, width, channels), in the precision to compute in.
        inverse: Multiply.

    Returns:
        ``x / (beta + |x| gamma)``, or ``x * (beta + |x| gamma)``, in the same shape and precision.
    """
    beta, gamma = (_parameter(params[f"{name}/{part}"], part) for part in ("beta", "gamma"))
    layer = _Static(inverse=inverse, beta_parameter=beta, gamma_parameter=gamma, dtype=x.dtype)
    return layer(x)


def _parameter(stored: tf.Tensor, part: str) -> Any:  # noqa: ANN401 - untyped
    def creator(_next: Any, **_: Any) -> tf.Tensor:  # noqa: ANN401
        return stored

    with tf.variable_creator_scope(creator):
        return tfc.GDNParameter(
            None, name=part, minimum=_MINIMA[part], offset=_OFFSET, shape=stored.shape, dtype=stored.dtype
        )


def is_parameter(name: str) -> bool:
    """Whether a parameter of the transforms is one of these."""
    return name.rpartition("/")[2] in _MINIMA


def value(name: str, stored: _Floats) -> _Floats:
    """Beta or gamma itself, float32, of what is stored."""
    low = (_MINIMA[name.rpartition("/")[2]] + _OFFSET**2) ** 0.5
    return np.asarray(np.square(np.maximum(stored.astype(np.float64), low)) - _OFFSET**2, np.float32)


def round_half(name: str, stored: _Floats) -> _Floats:
    """What is stored of a beta or gamma rounded to fp16: that is what a LiteRT model holds, not its root."""
    return _stored(value(name, stored).astype(np.float16).astype(np.float64))


def _stored(values: npt.NDArray[np.float64]) -> _Floats:
    return np.sqrt(values + _OFFSET**2).astype(np.float32)
