"""Integer entropy tables from symbol counts, smoothed with a model's density."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.entropy import TOTAL, Tables
from codec_cli.bitstream.walk import FRACTIONS
from codec_cli.training import levels, prior
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays, Params

Floats = npt.NDArray[np.float64]
# Scales of the bank: quarter octaves from 2^-5 to 2^8.
SCALES = 52
SCALE_STEPS, SCALE_FIRST = 4, -5
# The density counts as much as this many observed symbols.
SMOOTHING = 64.0
# Entries beyond this mass go to the escape, which costs 16 bits more.
TAIL = 2.0**-14
LARGEST = 700


def integer_table(mass: Floats, escape: float) -> npt.NDArray[np.uint16]:
    """Scales probabilities to counts that sum to 2^16, each at least 1; the escape is the last."""
    weights = np.append(mass, escape)
    weights = weights / weights.sum()
    counts = np.maximum(1, np.floor(weights * TOTAL)).astype(np.int64)
    while (excess := int(counts.sum()) - TOTAL) != 0:
        place = int(np.argmax(counts))
        # Never below 1, even when many entries are raised to the minimum.
        counts[place] -= min(excess, int(counts[place]) - 1)
    return counts.astype(np.uint16)


def build(histograms: list[Floats], densities: list[Floats], centre: int) -> Tables:
    """Makes a set of tables.

    Args:
        histograms: Observed counts per table, each over the values -centre..centre.
        densities: Probabilities under the learned density over the same values.
        centre: Index of value 0.
    """
    offsets, lengths, counts = [], [], []
    for histogram, density in zip(histograms, densities, strict=True):
        mass = histogram + SMOOTHING * density
        total = mass.sum() + 1e-9 * SMOOTHING
        cumulative = np.cumsum(mass) / total
        low = int(np.searchsorted(cumulative, TAIL / 2))
        high = int(np.searchsorted(cumulative, 1 - TAIL / 2))
        low, high = min(low, centre), max(min(high, len(mass) - 1), centre)
        low, high = max(low, centre - LARGEST), min(high, centre + LARGEST)
        kept = mass[low : high + 1]
        escape = max(total - kept.sum(), total * 2.0**-16)
        offsets.append(low - centre)
        table = integer_table(kept, escape)
        lengths.append(len(table))
        counts.append(table)
    return Tables(np.array(offsets, np.int32), np.array(lengths, np.int32), np.concatenate(counts))


def logistic_mass(log2_scale: float, mean: float, centre: int) -> Floats:
    """Mass of unit bins at -centre..centre under a logistic density."""
    edges = (np.arange(-centre, centre + 2) - 0.5 - mean) * 2.0**-log2_scale
    # The difference of two numbers near 1 loses the upper tail: use the symmetric form there.
    flipped = np.where(edges > 0, -edges, edges)
    tail = 1 / (1 + np.exp(-np.maximum(flipped, -700)))
    both_high = edges[:-1] > 0
    cdf = np.where(edges > 0, 1 - tail, tail)
    return np.asarray(np.where(both_high, tail[:-1] - tail[1:], cdf[1:] - cdf[:-1]), np.float64)


def bank_densities(centre: int) -> list[Floats]:
    """Logistic masses of every (scale, fraction) of the bank, over -centre..centre."""
    return [
        logistic_mass(SCALE_FIRST + scale / SCALE_STEPS, fraction / FRACTIONS, centre)
        for scale in range(SCALES)
        for fraction in range(FRACTIONS)
    ]


def prior_densities(
    config: Config, params: Params, gains: npt.NDArray[np.float32], channels: int, centre: int
) -> list[list[Floats]]:
    """Masses under the learned factorized prior, for every usable level.

    Between trained levels the nearest one's cumulative is evaluated on a rescaled grid: a symbol s at gain g
    is s * g_trained / g at the trained gain.

    Args:
        config: The configuration.
        params: All parameters as tensors.
        gains: float32 (usable levels, latent_channels).
        channels: The prior's number of channels (the first group's with contexts).
        centre: Index of value 0.

    Returns:
        Per usable level and channel, float64 (2 * centre + 1,).
    """
    trained = len(config.levels.lambdas)
    base = prior.build_prior(params, (trained, channels), config.entropy).base
    step = config.levels.between + 1
    edges = np.arange(-centre, centre + 2) - 0.5
    out = []
    for level, nearest in enumerate(levels.nearest_trained(config)):
        ratio = gains[nearest * step, :channels] / gains[level, :channels]
        grid = np.zeros((len(edges), trained, channels), np.float32)
        grid[:, nearest] = edges[:, None] * ratio[None]
        cdf = np.asarray(base.cdf(grid), np.float64)[:, nearest]
        survival = np.asarray(base.survival_function(grid), np.float64)[:, nearest]
        upper = cdf[:-1] > 0.5
        mass = np.where(upper, survival[:-1] - survival[1:], cdf[1:] - cdf[:-1])
        out.append([np.maximum(mass[:, c], 0) for c in range(channels)])
    return out


def flat(tables: list[Tables]) -> Arrays:
    """Several sets of tables as the arrays that ``tables.npz`` stores."""
    merged: dict[str, npt.NDArray] = {
        "offsets": np.concatenate([t.offsets for t in tables]).astype(np.int32),
        "lengths": np.concatenate([t.lengths for t in tables]).astype(np.int32),
        "counts": np.concatenate([t.counts for t in tables]),
    }
    return merged
