"""Quantizes the float context networks of training to the integer ones of :mod:`codec_cli.bitstream.context`.

Every layer becomes floor((w @ x + b) * 2^-k), with the largest k per output for which the sums provably stay
below 2^24 and the weights fit 16 bits. Units: symbols enter as they are, magnitudes as
round(16 log2(1 + |x|)), activations in sixteenths, means leave in eighths, scales in quarter octaves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.context import ACTIVATION_MAX, EXACT
from codec_cli.bitstream.walk import ALL_TAPS, CROSS_TAPS, FRACTIONS, INPUT_CLIP
from codec_cli.errors import TrainingError
from codec_cli.training import context, levels, tables
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays

Floats = npt.NDArray[np.float64]
MAX_WEIGHT = 32767
MAX_SHIFT = 18


def magnitude_table() -> npt.NDArray[np.int32]:
    """round(16 log2(1 + n)) for n in 0..255: stored, so that no decoder computes a logarithm."""
    return np.floor(context.MAGNITUDE_UNIT * np.log2(1 + np.arange(256)) + 0.5).astype(np.int32)


def quantize_layer(kernel: Floats, bias: Floats, largest: Floats, name: str) -> dict[str, npt.NDArray]:
    """Integer weights of one layer.

    Args:
        kernel: float64 (inputs, outputs), in integer units of input and output.
        bias: float64 (levels, outputs), in integer units of the output.
        largest: float64 (inputs,), the largest magnitude of each input.
        name: For the error message.

    Returns:
        ``kernel`` int16, ``bias`` int32 (with a half added, so that the floor rounds), ``shift`` int8.

    Raises:
        TrainingError: No shift keeps the sums below 2^24.
    """
    outputs = kernel.shape[1]
    shift = np.full(outputs, -1)
    for k in range(MAX_SHIFT + 1):
        whole, offset = np.rint(kernel * 2.0**k), np.rint((bias + 0.5) * 2.0**k)
        reach = largest @ np.abs(whole) + np.abs(offset).max(0)
        fits = (reach < EXACT) & (np.abs(whole).max(0) <= MAX_WEIGHT) & (shift == k - 1)
        shift[fits] = k
    if (shift < 0).any():
        raise TrainingError(
            f"{name}: weights too large for exact integer evaluation; train with a lower learning rate"
        )
    return {
        "kernel": np.rint(kernel * 2.0**shift).astype(np.int16),
        "bias": np.rint((bias + 0.5) * 2.0**shift).astype(np.int32),
        "shift": shift.astype(np.int8),
    }


def quantize_networks(config: Config, params: Arrays) -> dict[str, npt.NDArray]:
    """All integer networks as arrays of ``tables.npz``: ``pass-G-H/layerI/kernel`` and so on."""
    groups = config.entropy.context.groups
    hats = levels.hat_weights(config).astype(np.float64)
    largest_magnitude = float(magnitude_table().max())
    unit = context.ACTIVATION_UNIT
    out: dict[str, npt.NDArray] = {}
    for g, h in context.passes(config):
        name = f"pass-{g}-{h}"
        known = sum(groups[:g])

        def parameter(layer: str, part: str, name: str = name) -> Floats:
            return params[f"context/{name}/{layer}/{part}"].astype(np.float64)

        # From a float unit of each input to its integer step, for outputs in activation steps. Rows come in
        # the order of the run-time's gather: tap, group, values before magnitudes.
        first = parameter("layer0", "kernel")
        # Tap, first channel of values, first channel of magnitudes, number of channels.
        pieces = [
            (tap, sum(groups[:other]), known + sum(groups[:other]), groups[other])
            for tap in ALL_TAPS
            for other in range(g)
        ]
        if h:
            pieces += [(tap, 2 * known, 2 * known + groups[g], groups[g]) for tap in CROSS_TAPS]
        rows, largest = [], []
        for tap, values, magnitudes, size in pieces:
            kernel = first[tap]
            rows.append(kernel[values : values + size] * (unit / context.SYMBOL_UNIT))
            rows.append(kernel[magnitudes : magnitudes + size] * (unit / context.MAGNITUDE_UNIT))
            largest += [np.full(size, float(INPUT_CLIP)), np.full(size, largest_magnitude)]
        layers = [(np.concatenate(rows), hats @ parameter("layer0", "bias") * unit, np.concatenate(largest))]

        second = parameter("layer1", "kernel")[0, 0]
        ceiling = np.full(len(second), float(ACTIVATION_MAX))
        layers.append((second, hats @ parameter("layer1", "bias") * unit, ceiling))

        third, bias = parameter("layer2", "kernel")[0, 0], hats @ parameter("layer2", "bias")
        to_mean = context.MEAN_GAIN * FRACTIONS
        half = groups[g]
        kernel = np.concatenate(
            [third[:, :half] * (to_mean / unit), third[:, half:] * (tables.SCALE_STEPS / unit)], 1
        )
        shifted = (bias[:, half:] - tables.SCALE_FIRST) * tables.SCALE_STEPS
        layers.append((kernel, np.concatenate([bias[:, :half] * to_mean, shifted], 1), ceiling))
        for i, (weights, offsets, bound) in enumerate(layers):
            for part, value in quantize_layer(weights, offsets, bound, f"{name}/layer{i}").items():
                out[f"{name}/layer{i}/{part}"] = value
    return out
