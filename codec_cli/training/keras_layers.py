"""Listed transforms as Keras models: for export to Keras, and for pictures of the architecture.

Ordinary layers and TensorFlow operations only, so that a saved model loads without this package. The
arithmetic is that of :mod:`codec_cli.training.layers`, whose parameters they take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from codec_cli.training import gdn
from codec_cli.training.config import Config, Layer, Listed
from codec_cli.training.params import Arrays
from codec_cli.training.shapes import output_shape

Gains = tuple[npt.NDArray | None, npt.NDArray | None]


def model(
    config: Config, name: str, params: Arrays | None = None, gains: Gains = (None, None)
) -> tf.keras.Model:
    """One of the networks of a configuration with listed transforms.

    Args:
        config: The configuration.
        name: ``encoder``, ``decoder``, ``autoencoder`` or ``discriminator``.
        params: Weights to set, by name; None leaves Keras's own initial ones (for a picture).
        gains: Factors of the latents behind the encoder and before the decoder, float32 (latent_channels,);
            with them the autoencoder rounds.

    Returns:
        A Keras model of batches: images in [0, 1] (clipped, where they come out) and latents of
        ``latent_shape``, as :func:`codec_cli.training.formats.build` defines them.
    """
    transforms = config.transforms
    if not isinstance(transforms, Listed):
        raise AssertionError("only transforms that are listed by layers become Keras models")
    keras = tf.keras.layers
    image = (transforms.size, transforms.size, transforms.channels)
    if name == "autoencoder":
        value = tf.keras.Input(image, name="image")
        latents = model(config, "encoder", params, gains)(value)
        latents = latents if config.entropy.kind == "none" else tf.round(latents)
        return tf.keras.Model(value, model(config, "decoder", params, gains)(latents), name=name)
    if name == "decoder":
        flat = output_shape(transforms.analysis, "analysis", image)
        value = tf.keras.Input(transforms.latent_shape, name="latents")
        x = _scaled(value, "inverse_gain", gains[1])
        x = keras.Reshape(flat, name="latent_shape")(x) if len(flat) == 1 else x
        x = _stack(transforms.synthesis, "synthesis", params, transforms.slope, x)
        x = keras.Rescaling(1.0, 0.5, name="uncentre")(x)
        return tf.keras.Model(value, keras.ReLU(max_value=1.0, name="clip")(x), name=name)
    value = tf.keras.Input(image, name="image")
    x = keras.Rescaling(1.0, -0.5, name="centre")(value)
    if name == "encoder":
        x = _stack(transforms.analysis, "analysis", params, transforms.slope, x)
        if len(x.shape) == 2:
            x = keras.Reshape(transforms.latent_shape, name="latents")(x)
        return tf.keras.Model(value, _scaled(x, "gain", gains[0]), name=name)
    if config.adversarial is None:
        raise AssertionError("a configuration without an adversarial section has no discriminator")
    section = config.adversarial
    return tf.keras.Model(value, _stack(section.layers, name, params, section.slope, x), name=name)


def _scaled(x: Any, name: str, gain: npt.NDArray | None) -> Any:  # noqa: ANN401 - Keras tensors
    """Channels times their gain: a 1x1 depthwise convolution is the ordinary layer that does it."""
    if gain is None:
        return x
    layer = tf.keras.layers.DepthwiseConv2D(1, use_bias=False, name=name)
    scaled = layer(x)
    layer.set_weights([gain[None, None, :, None]])
    return scaled


def _stack(
    layers: Sequence[Layer],
    name: str,
    params: Arrays | None,
    slope: float,
    x: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    for i, layer in enumerate(layers):
        place = f"{name}/{i}"
        x = _activate(layer, place, params, slope, _run(layer, place, params, slope, x))
    return x


def _run(layer: Layer, name: str, params: Arrays | None, slope: float, x: Any) -> Any:  # noqa: ANN401
    keras, label = tf.keras.layers, _label(name, layer.op)
    if layer.op == "conv":
        made = keras.Conv2D(layer.filters, layer.kernel, layer.stride, "same", name=label)
        return _weighted(made, name, params, x)
    if layer.op == "conv_transpose":
        made = keras.Conv2DTranspose(layer.filters, layer.kernel, layer.stride, "same", name=label)
        return _weighted(made, name, params, x)
    if layer.op == "dense":
        return _weighted(keras.Dense(layer.filters, name=label), name, params, x)
    if layer.op == "subpixel":
        made = keras.Conv2D(layer.filters * layer.factor**2, layer.kernel, padding="same", name=label)
        return tf.nn.depth_to_space(_weighted(made, name, params, x), layer.factor)
    if layer.op == "residual":
        inner = _stack(layer.layers, name, params, slope, x)
        skip = layer.shortcut(x.shape[-1])
        x = x if skip is None else _run(skip, f"{name}/skip", params, slope, x)
        return keras.Add(name=label)([inner, x])
    if layer.op in ("gdn", "igdn"):
        # The layer that it is would need TensorFlow Compression to load.
        pool = keras.Conv2D(x.shape[-1], 1, name=label)
        pooled = pool(tf.abs(x))
        if params is not None:
            beta, gamma = (gdn.value(part, params[f"{name}/{part}"]) for part in ("beta", "gamma"))
            pool.set_weights([gamma[None, None], beta])
        return x * pooled if layer.op == "igdn" else x / pooled
    if layer.op == "attention":
        mask = keras.Conv2D(x.shape[-1], layer.kernel, padding="same", activation="sigmoid", name=label)
        return x * _weighted(mask, name, params, x)
    if layer.op == "upsample":
        return keras.UpSampling2D(layer.factor, name=label)(x)
    if layer.op == "space_to_depth":
        return tf.nn.space_to_depth(x, layer.factor)
    if layer.op == "flatten":
        return keras.Flatten(name=label)(x)
    return keras.Reshape(tuple(layer.shape), name=label)(x)


def _activate(layer: Layer, name: str, params: Arrays | None, slope: float, x: Any) -> Any:  # noqa: ANN401
    keras, label = tf.keras.layers, _label(name, layer.activation)
    if layer.activation == "none":
        return x
    if layer.activation == "leaky_relu":
        return keras.LeakyReLU(slope, name=label)(x)
    if layer.activation == "prelu":
        shared: list[int] = list(range(1, len(x.shape) - 1))
        made = keras.PReLU(shared_axes=shared or None, name=label)
        out = made(x)
        if params is not None:
            made.set_weights([params[f"{name}/slope"].reshape(made.alpha.shape)])
        return out
    return keras.Activation(layer.activation, name=label)(x)


def _weighted(made: Any, name: str, params: Arrays | None, x: Any) -> Any:  # noqa: ANN401
    out = made(x)
    if params is not None:
        made.set_weights([params[f"{name}/kernel"], params[f"{name}/bias"]])
    return out


def _label(name: str, what: str) -> str:
    return f"{name.replace('/', '_')}_{what}"
