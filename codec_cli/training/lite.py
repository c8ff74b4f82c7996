"""Conversion of the transforms to LiteRT models with fp16 weights.

Those for images of one size run at theirs, others at any.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.training import gdn, networks
from codec_cli.training.config import Config, Listed
from codec_cli.training.networks import Arrays


def round_half(params: Arrays) -> Arrays:
    """Transform weights rounded to fp16 and back: what the LiteRT models hold."""
    return {
        name: _round_half(name, value) if name.startswith(("analysis/", "synthesis/")) else value
        for name, value in params.items()
    }


def _round_half(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if gdn.is_parameter(name):
        return gdn.round_half(name, value)
    return value.astype(np.float16).astype(np.float32)


def convert(config: Config, params: Arrays) -> tuple[bytes, bytes]:
    """The analysis and synthesis transforms as LiteRT flatbuffers.

    Args:
        config: The configuration.
        params: Parameters by name, already rounded to fp16.

    Returns:
        Two models. Analysis: float32 (1, h, w, channels) in [0, 1] -> latents without gain. Synthesis:
        float32 (1, h, w, latent_channels) and level weights (1, trained levels) -> image in [0, 1].
    """
    transforms = config.transforms
    constants = {name: tf.constant(value) for name, value in params.items()}
    rows, columns = transforms.latent_shape[:2] if isinstance(transforms, Listed) else (4, 4)
    side = rows * transforms.stride

    @tf.function(
        input_signature=[tf.TensorSpec((1, side, side, transforms.channels), tf.float32, name="image")],
        autograph=False,
    )
    def analysis(image: tf.Tensor) -> tf.Tensor:
        return networks.analysis(constants, transforms, image)

    @tf.function(
        input_signature=[
            tf.TensorSpec((1, rows, columns, transforms.latent_channels), tf.float32, name="latents"),
            tf.TensorSpec((1, len(config.levels.lambdas)), tf.float32, name="level_weights"),
        ],
        autograph=False,
    )
    def synthesis(latents: tf.Tensor, level_weights: tf.Tensor) -> tf.Tensor:
        return networks.synthesis(constants, transforms, latents, level_weights)

    return _convert(analysis), _convert(synthesis)


def _convert(function: tf.types.experimental.GenericFunction) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())
