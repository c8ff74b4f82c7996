"""Analysis and synthesis transforms as pure functions of a flat dictionary of parameters.

Pure functions (no Keras layers, no captured variables) let one train step run under ``tf.function``, be
lowered to HLO for other devices, and be exported with any weights. What a transform is made of is the
configuration's choice: :mod:`codec_cli.training.stages` or :mod:`codec_cli.training.layers`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from codec_cli.training import layers, stages
from codec_cli.training.config import AnyTransforms, Config, Convolutional, Listed, Transforms
from codec_cli.training.params import Arrays, Params

__all__ = [
    "Arrays",
    "Params",
    "analysis",
    "halo",
    "init_transforms",
    "macs_per_pixel",
    "native_bfloat16",
    "precision",
    "synthesis",
]

init_transforms = stages.init_transforms
macs_per_pixel = stages.macs_per_pixel


def precision(config: Config) -> tf.DType:
    """What convolutions are computed in during training."""
    return tf.bfloat16 if config.run.precision == "bfloat16" else tf.float32


def native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this is an x86 processor with AVX512-BF16: elsewhere TensorFlow is faster in float32.

    Args:
        cpuinfo: Where Linux lists what the processor knows; other systems have none, and the answer is no.
    """
    try:
        return "avx512_bf16" in cpuinfo.read_text(errors="replace")
    except OSError:
        return False


def analysis(
    params: Params, config: AnyTransforms, image: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Image to latents, before any gain.

    Args:
        params: All parameters by name.
        config: The transforms' configuration.
        image: float32 (batch, height, width, channels) in [0, 1]; height and width multiples of the stride.
        dtype: Precision of convolutions.

    Returns:
        float32 (batch, height / stride, width / stride, latent_channels).
    """
    if isinstance(config, Transforms):
        return stages.analysis(params, config, image, dtype)
    return layers.analysis(params, config, image, dtype)


def synthesis(
    params: Params,
    config: AnyTransforms,
    latents: tf.Tensor,
    level_weights: tf.Tensor,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Latents (inverse gain already applied) to an image.

    Args:
        params: All parameters by name.
        config: The transforms' configuration.
        latents: float32 (batch, height / stride, width / stride, latent_channels).
        level_weights: float32 (batch, levels): one-hot at a trained level, two neighbours' shares between.
        dtype: Precision of convolutions.

    Returns:
        float32 (batch, height, width, channels), nominally in [0, 1], not clipped.
    """
    if isinstance(config, Transforms):
        return stages.synthesis(params, config, latents, level_weights, dtype)
    # The levels count for nothing here, but exported models have both inputs.
    return layers.synthesis(params, config, latents, dtype) + 0.0 * tf.reduce_sum(level_weights)


def halo(config: AnyTransforms) -> tuple[int, int]:
    """Latent positions on each side that one output of (analysis, synthesis) can depend on."""
    if isinstance(config, Convolutional):
        return config.halo
    return (0, 0) if isinstance(config, Listed) else stages.halo(config)


def deviations(params: Arrays, config: Listed | Convolutional, images: np.ndarray) -> np.ndarray:
    """Standard deviation of every latent channel.

    Args:
        params: Initial parameters.
        config: The transforms' configuration.
        images: uint8 (n, height, width, channels).

    Returns:
        float32 (latent_channels,).
    """
    latents = layers.analysis(params, config, tf.cast(images, tf.float32) / 255.0).numpy()
    return np.asarray(latents.reshape(-1, config.latent_channels).std(0) + 1e-3, np.float32)
