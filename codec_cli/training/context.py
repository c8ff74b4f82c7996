"""The context model in training: float twins of the integer networks of :mod:`codec_cli.bitstream.context`.

Latent channels are cut into groups; each group is coded in two passes, the two halves of a checkerboard.
The first pass of all uses the factorized prior. Every later pass runs a small network of three layers over
the 3x3 neighbourhood of symbols already decoded: all earlier groups, and in a second half the first half of
its own group. It yields a mean and a scale per symbol. (Checkerboard halves: He et al. 2021; channel
groups: Minnen and Singh 2020, He et al. 2022; integer evaluation: Balle et al. 2019.)

What is exact later must be expressible here: inputs are integers and a rounded logarithm of their
magnitude, activations are clipped to [0, 255] in units of 1/16, means come in steps of 1/8 and scales in
quarter octaves. Training is in float without those roundings; export rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_compression as tfc

from codec_cli.training import prior
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays, Params, precision

# Units of one in the float network, in the integer network's steps.
SYMBOL_UNIT = 8.0
MAGNITUDE_UNIT = 16.0
ACTIVATION_UNIT = 16.0
ACTIVATION_MAX = 255.0
INPUT_CLIP = 255.0
MEAN_GAIN = 2.0
# Uniform noise makes a symbol that is surely zero cost 2.4 bits times its scale: the lower bound must be far
# below the narrowest table.
LOG2_SCALE_MIN, LOG2_SCALE_MAX = -8.0, 8.0


def passes(config: Config) -> list[tuple[int, int]]:
    """(group, half) of every pass that has a network, in coding order; (0, 0) is the factorized one."""
    return [(g, h) for g in range(len(config.entropy.context.groups)) for h in (0, 1) if (g, h) != (0, 0)]


def init_context(config: Config, scales: npt.NDArray[np.float32], rng: np.random.Generator) -> Arrays:
    """Initial parameters of all passes.

    Args:
        config: The configuration.
        scales: float32 (levels, channels), the standard deviation of the symbols: where scales start.
        rng: Source of the weights.

    Returns:
        Parameters by name: ``context/pass-G-H/...`` and the first half-group's ``prior/...``.
    """
    groups, hidden = config.entropy.context.groups, config.entropy.context.hidden
    levels = len(config.levels.lambdas)
    starts = np.concatenate([[0], np.cumsum(groups)])
    out: Arrays = prior.init_prior(scales[:, : groups[0]], config.entropy, rng)
    for g, h in passes(config):
        name = f"context/pass-{g}-{h}"
        inputs = 2 * int(starts[g]) + (2 * groups[g] if h else 0)

        def dense(layer: str, shape: tuple[int, ...], gain: float, name: str = name) -> None:
            fan_in = int(np.prod(shape[:-1]))
            out[f"{name}/{layer}/kernel"] = rng.normal(0, gain / math.sqrt(fan_in), shape).astype(np.float32)
            out[f"{name}/{layer}/bias"] = np.zeros((levels, shape[-1]), np.float32)

        dense("layer0", (3, 3, inputs, hidden), 1.0)
        out[f"{name}/layer0/bias"] += 0.5
        dense("layer1", (1, 1, hidden, hidden), 1.0)
        out[f"{name}/layer1/bias"] += 0.5
        dense("layer2", (1, 1, hidden, 2 * groups[g]), 0.1)
        # A logistic density's standard deviation is 1.81 times its scale.
        start = np.log2(np.clip(scales[:, starts[g] : starts[g + 1]] / 1.81, 0.06, 100))
        out[f"{name}/layer2/bias"][:, groups[g] :] = start
    return out


def features(symbols: tf.Tensor) -> tf.Tensor:
    """Network inputs of integer symbols: value and logarithmic magnitude, in float units.

    Args:
        symbols: float32 (batch, height, width, channels).

    Returns:
        float32 (batch, height, width, 2 * channels): values / 8, then log2(1 + |value|).
    """
    clipped = tf.clip_by_value(symbols, -INPUT_CLIP, INPUT_CLIP)
    magnitude = tf.math.log1p(tf.abs(clipped)) * (1 / math.log(2))
    return tf.concat([clipped / SYMBOL_UNIT, magnitude], -1)


def checkerboard(height: int, width: int) -> npt.NDArray[np.float32]:
    """1 where row + column is even: the first half; shape (1, height, width, 1)."""
    rows, columns = np.indices((height, width))
    return ((rows + columns) % 2 == 0).astype(np.float32)[None, :, :, None]


def network(
    params: Params, name: str, inputs: tf.Tensor, level_weights: tf.Tensor, dtype: tf.DType = tf.float32
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and log2 scale of each symbol of a pass.

    Args:
        params: All parameters by name.
        name: ``context/pass-G-H``.
        inputs: float32 (batch, height, width, inputs) from :func:`features`.
        level_weights: float32 (batch, levels), one-hot or interpolating.
        dtype: Precision of the two hidden layers.

    Returns:
        Two float32 tensors (batch, height, width, channels of the group).
    """
    ceiling = ACTIVATION_MAX / ACTIVATION_UNIT
    hidden = tf.cast(inputs, dtype)
    for layer in ("layer0", "layer1"):
        kernel = tf.cast(params[f"{name}/{layer}/kernel"], dtype)
        bias = tf.matmul(level_weights, params[f"{name}/{layer}/bias"])[:, None, None, :]
        hidden = tf.nn.conv2d(hidden, kernel, 1, "SAME") + tf.cast(bias, dtype)
        hidden = tf.clip_by_value(hidden, tf.cast(0.0, dtype), tf.cast(ceiling, dtype))
    bias = tf.matmul(level_weights, params[f"{name}/layer2/bias"])[:, None, None, :]
    out = tf.nn.conv2d(tf.cast(hidden, tf.float32), params[f"{name}/layer2/kernel"], 1, "SAME") + bias
    mean, scale = tf.split(out, 2, -1)
    return mean * MEAN_GAIN, scale


def _density(
    params: Params, place: tuple[int, int], inputs: tf.Tensor, level_weights: tf.Tensor, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """:func:`network` of the pass (group, half), with bounded scales."""
    mean, scale = network(params, f"context/pass-{place[0]}-{place[1]}", inputs, level_weights, dtype)
    # Bounds whose gradient still leads back inside.
    return mean, tfc.upper_bound(tfc.lower_bound(scale, LOG2_SCALE_MIN), LOG2_SCALE_MAX)


def logistic_bits(symbols: tf.Tensor, mean: tf.Tensor, log2_scale: tf.Tensor) -> tf.Tensor:
    """Bits of symbols under a logistic density integrated over unit bins.

    With b and a the standardised bin edges, s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), which is
    stable everywhere in logarithms.
    """
    inverse = tf.exp(-log2_scale * math.log(2))
    centred = symbols - mean
    upper, lower = (centred + 0.5) * inverse, (centred - 0.5) * inverse
    log_mass = -tf.nn.softplus(-upper) - tf.nn.softplus(lower) + tf.math.log(-tf.math.expm1(-inverse))
    return log_mass * (-1 / math.log(2))


def pass_bits(
    params: Params,
    config: Config,
    coded: tf.Tensor,
    seen: tf.Tensor,
    level_weights: tf.Tensor,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Bits of each image in all passes that have a network.

    Args:
        params: All parameters by name.
        config: The configuration.
        coded: float32 (batch, height, width, channels), what is coded (noisy in training).
        seen: The same shape, what contexts see (rounded).
        level_weights: float32 (batch, levels).
        dtype: Precision of the hidden layers.

    Returns:
        float32 (batch,).
    """
    groups = config.entropy.context.groups
    starts = np.concatenate([[0], np.cumsum(groups)])
    first = tf.constant(checkerboard(coded.shape[1], coded.shape[2]))
    total = tf.zeros(coded.shape[:1])
    for g, h in passes(config):
        begin, end = int(starts[g]), int(starts[g + 1])
        known = [features(seen[..., :begin])] if begin else []
        if h:
            known.append(features(seen[..., begin:end] * first))
        mean, scale = _density(params, (g, h), tf.concat(known, -1), level_weights, dtype)
        mask = first if h == 0 else 1 - first
        total += tf.reduce_sum(logistic_bits(coded[..., begin:end], mean, scale) * mask, (1, 2, 3))
    return total


def optimised(
    params: Params, config: Config, scaled: tf.Tensor, worth: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Symbols of rate-distortion-optimised quantization, and their bits.

    The float twin of :meth:`codec_cli.bitstream.context.ContextModel.encode_optimised`: pass by pass, each
    symbol is the nearest integer or the next one towards the most likely one, whichever costs less.

    Args:
        params: All parameters by name.
        config: The configuration.
        scaled: float32 (repeats, levels, height, width, channels), latents times gain.
        worth: float32 (levels, channels), bits that a squared error of one symbol step is worth.

    Returns:
        The symbols, float32 of the shape of ``scaled``, without a gradient; and the bits of each image,
        float32 (repeats, levels), whose gradient leads to the entropy model alone.
    """
    repeats, levels, height, width, channels = scaled.shape
    density = prior.build_prior(params, (levels, config.entropy.context.groups[0]), config.entropy)

    def static(symbols: tf.Tensor) -> tf.Tensor:
        by_level = prior.bits(density, tf.reshape(symbols, (repeats, levels, height, width, -1)))
        return tf.reshape(tf.transpose(by_level, (0, 3, 1, 2, 4)), symbols.shape)

    symbols, total = sent(
        params,
        config,
        tf.reshape(scaled, (-1, height, width, channels)),
        tf.tile(worth, (repeats, 1)),
        tf.tile(tf.eye(levels), (repeats, 1)),
        static,
        precision(config),
    )
    return tf.reshape(symbols, scaled.shape), tf.reshape(total, (repeats, levels))


def sent(
    params: Params,
    config: Config,
    scaled: tf.Tensor,
    worth: tf.Tensor,
    level_weights: tf.Tensor,
    static: Callable[[tf.Tensor], tf.Tensor],
    dtype: tf.DType,
) -> tuple[tf.Tensor, tf.Tensor]:
    """:func:`optimised`, each image at a level of its own.

    Args:
        params: All parameters by name.
        config: The configuration.
        scaled: float32 (batch, height, width, channels), latents times gain.
        worth: float32 (batch, channels).
        level_weights: float32 (batch, levels), one-hot.
        static: Bits of symbols of the first group under the factorized prior, float32 of their shape.
        dtype: Precision of the hidden layers.

    Returns:
        The symbols without a gradient, float32 of the shape of ``scaled``, and bits, float32 (batch,).
    """
    wanted = tf.stop_gradient(scaled)
    worth = tf.stop_gradient(worth)[:, None, None, :]
    groups = config.entropy.context.groups
    starts = np.concatenate([[0], np.cumsum(groups)])
    first = tf.constant(checkerboard(scaled.shape[1], scaled.shape[2]))
    known: list[tf.Tensor] = []
    total, own = tf.zeros(wanted.shape[:1]), tf.zeros(())
    for g, h in [(0, 0), *passes(config)]:
        part = slice(int(starts[g]), int(starts[g + 1]))
        cost, likely = static, tf.zeros(())
        if (g, h) != (0, 0):
            seen = [features(tf.concat(known, -1))] if known else []
            seen += [features(own)] if h else []
            mean, scale = _density(params, (g, h), tf.concat(seen, -1), level_weights, dtype)
            cost, likely = partial(logistic_bits, mean=mean, log2_scale=scale), tf.round(mean)
        symbols = tf.stop_gradient(_cheaper(wanted[..., part], likely, worth[..., part], cost))
        mask = first if h == 0 else 1 - first
        total += tf.reduce_sum(cost(symbols) * mask, (1, 2, 3))
        own = symbols * mask if h == 0 else own + symbols * mask
        if h:
            known.append(own)
    return tf.concat(known, -1), total


def _cheaper(
    wanted: tf.Tensor, likely: tf.Tensor, worth: tf.Tensor, cost: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """As :func:`codec_cli.bitstream.quantize.choose`."""
    nearest = tf.round(wanted)
    other = nearest - tf.sign(nearest - likely)
    error = tf.square(wanted - other) - tf.square(wanted - nearest)
    better = (cost(nearest) - cost(other) > worth * error) & (worth > 0)
    return tf.where(better, other, nearest)


def rate_bits(params: Params, config: Config, noisy: tf.Tensor, rounded: tf.Tensor) -> tf.Tensor:
    """Bits of each image under the context model; see :func:`codec_cli.training.model.rate_bits`."""
    dtype = precision(config)
    repeats, levels, height, width, channels = noisy.shape
    groups = config.entropy.context.groups
    first = tf.constant(checkerboard(height, width))
    density = prior.build_prior(params, (levels, groups[0]), config.entropy)
    bits = prior.bits(density, noisy[..., : groups[0]]) * first[:, :, :, :, None]
    flat = (-1, height, width, channels)
    others = pass_bits(
        params,
        config,
        tf.reshape(noisy, flat),
        tf.reshape(rounded, flat),
        tf.tile(tf.eye(levels), (repeats, 1)),
        dtype,
    )
    return tf.reduce_sum(bits, (1, 2, 4)) + tf.reshape(others, (repeats, levels))
