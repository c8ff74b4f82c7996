"""The photo model's transforms.

Both transforms are a linear path plus a convolutional branch. The linear path is a 16x16 block transform
(``space_to_depth``, 1x1 convolution), initialised with the PCA of image blocks: at the first step the
model is already a sensible transform codec, and the branch learns what linear can't do. Only plain
convolutions, ``space_to_depth``, ``depth_to_space`` and leaky ReLU appear: all run fast in LiteRT.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.training.config import Stage, Transforms
from codec_cli.training.params import Arrays, Params


def init_transforms(
    config: Transforms, levels: int, basis: npt.NDArray[np.float32], rng: np.random.Generator
) -> Arrays:
    """Draws initial parameters.

    Args:
        config: Widths and depths.
        levels: Number of trained levels, which the synthesis is conditioned on.
        basis: Orthonormal columns (channels * stride^2, latent_channels), in the channel order of
            ``tf.nn.space_to_depth``: the linear path of the analysis; its transpose is the synthesis's.
        rng: Source of the branch's random weights.

    Returns:
        Parameters by name: ``analysis/...`` and ``synthesis/...``, float32.
    """
    out: Arrays = {}

    def conv(name: str, size: int, n_in: int, n_out: int, gain: float = 1.0) -> None:
        std = gain * math.sqrt(2.0 / (size * size * n_in))
        out[f"{name}/kernel"] = rng.normal(0, std, (size, size, n_in, n_out)).astype(np.float32)
        out[f"{name}/bias"] = np.zeros(n_out, np.float32)

    def blocks(name: str, stage: Stage) -> None:
        for i in range(stage.blocks):
            conv(f"{name}/block{i}/conv0", 3, stage.width, stage.width)
            conv(f"{name}/block{i}/conv1", 3, stage.width, stage.width, gain=0.2)

    width: int = config.channels
    for i, stage in enumerate(config.analysis):
        conv(f"analysis/stage{i}/in", 3 if i == 0 else 1, width * stage.stride**2, stage.width, 0.7)
        blocks(f"analysis/stage{i}", stage)
        width = stage.width
    conv("analysis/out", 3, width, config.latent_channels, gain=0.01)
    out["analysis/linear/kernel"] = basis[None, None].astype(np.float32)

    width = config.latent_channels
    for i, stage in reversed(list(enumerate(config.synthesis))):
        conv(f"synthesis/stage{i}/in", 1, width, stage.width, 0.7)
        blocks(f"synthesis/stage{i}", stage)
        width = stage.width
        for block in range(stage.blocks):
            name = f"synthesis/stage{i}/block{block}"
            out[f"{name}/level_bias"] = np.zeros((levels, width), np.float32)
            out[f"{name}/level_scale"] = np.ones((levels, width), np.float32)
        if i > 0:
            conv(f"synthesis/stage{i}/up", 1, width, width * stage.stride**2 // 2, 0.7)
            width = width // 2
    last = config.synthesis[0]
    conv("synthesis/out", 3, width, config.channels * last.stride**2, gain=0.01)
    out["synthesis/linear/kernel"] = np.ascontiguousarray(basis.T)[None, None].astype(np.float32)
    return out


def _conv(params: Params, name: str, x: tf.Tensor) -> tf.Tensor:
    kernel = tf.cast(params[f"{name}/kernel"], x.dtype)
    return tf.nn.conv2d(x, kernel, 1, "SAME") + tf.cast(params[f"{name}/bias"], x.dtype)


def _blocks(
    params: Params,
    name: str,
    stage: Stage,
    slope: float,
    x: tf.Tensor,
    level_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    for i in range(stage.blocks):
        hidden = _conv(params, f"{name}/block{i}/conv0", x)
        if level_weights is None:
            hidden = tf.nn.leaky_relu(hidden, slope)
        else:
            # How strongly to smooth depends on the quantiser step, which the latents alone do not show.
            bias, scale = (
                tf.cast(tf.matmul(level_weights, params[f"{name}/block{i}/{table}"]), x.dtype)
                for table in ("level_bias", "level_scale")
            )
            hidden = tf.nn.leaky_relu(hidden + bias[:, None, None, :], slope) * scale[:, None, None, :]
        x = x + _conv(params, f"{name}/block{i}/conv1", hidden)
    return x


def analysis(params: Params, config: Transforms, image: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Image to latents, before any gain.

    Args:
        params: From :func:`init_transforms`.
        config: The same configuration.
        image: float32 (batch, height, width, channels) in [0, 1]; height and width multiples of the stride.
        dtype: Precision of the branch; the linear path is always float32.

    Returns:
        float32 (batch, height / stride, width / stride, latent_channels).
    """
    centred = image - 0.5
    x = tf.cast(centred, dtype)
    for i, stage in enumerate(config.analysis):
        x = _conv(params, f"analysis/stage{i}/in", tf.nn.space_to_depth(x, stage.stride))
        x = _blocks(params, f"analysis/stage{i}", stage, config.slope, x)
    branch = tf.cast(_conv(params, "analysis/out", x), tf.float32)
    linear = tf.nn.conv2d(
        tf.nn.space_to_depth(centred, config.stride), params["analysis/linear/kernel"], 1, "SAME"
    )
    return linear + branch


def synthesis(
    params: Params,
    config: Transforms,
    latents: tf.Tensor,
    level_weights: tf.Tensor,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Latents (inverse gain already applied) to an image.

    Args:
        params: From :func:`init_transforms`.
        config: The same configuration.
        latents: float32 (batch, height / stride, width / stride, latent_channels).
        level_weights: float32 (batch, levels): one-hot at a trained level, two neighbours' shares between.
        dtype: Precision of the branch; the linear path is always float32.

    Returns:
        float32 (batch, height, width, channels), nominally in [0, 1], not clipped.
    """
    x = tf.cast(latents, dtype)
    for i, stage in reversed(list(enumerate(config.synthesis))):
        x = _conv(params, f"synthesis/stage{i}/in", x)
        x = _blocks(params, f"synthesis/stage{i}", stage, config.slope, x, level_weights)
        if i > 0:
            x = tf.nn.depth_to_space(_conv(params, f"synthesis/stage{i}/up", x), stage.stride)
    branch = tf.nn.depth_to_space(_conv(params, "synthesis/out", x), config.synthesis[0].stride)
    linear = tf.nn.conv2d(latents, params["synthesis/linear/kernel"], 1, "SAME")
    return tf.nn.depth_to_space(linear, config.stride) + tf.cast(branch, tf.float32) + 0.5


def halo(config: Transforms) -> tuple[int, int]:
    """Latent positions on each side that one output of (analysis, synthesis) can depend on."""

    def positions(stages: list[Stage], extra_fine: int, extra_coarse: int) -> int:
        stride, pixels = 1, 0
        for i, stage in enumerate(stages):
            stride *= stage.stride
            pixels += stride * (2 * stage.blocks + (extra_fine if i == 0 else 0))
        pixels += stride * extra_coarse
        return math.ceil(pixels / stride)

    # A 3x3 convolution at the finest stage on both ends; one at the latents in the analysis.
    return positions(config.analysis, 1, 1), positions(config.synthesis, 1, 0)


def macs_per_pixel(params: Arrays, config: Transforms) -> dict[str, float]:
    """Multiply-accumulates per image pixel of each transform."""
    totals = {"analysis": 0.0, "synthesis": 0.0}
    for name, value in params.items():
        if not name.endswith("/kernel") or name.split("/")[0] not in totals:
            continue
        side, where = name.split("/")[:2]
        stages = config.analysis if side == "analysis" else config.synthesis
        if where.startswith("stage"):
            depth = int(where.removeprefix("stage")) + 1
        else:
            depth = 1 if (side, where) == ("synthesis", "out") else len(stages)
        stride = math.prod(stage.stride for stage in stages[:depth])
        totals[side] += float(np.prod(value.shape)) / stride**2
    return totals
