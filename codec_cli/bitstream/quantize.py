"""Rate-distortion-optimised quantization: which integer to send for a latent.

Plain rounding takes the nearest integer. Where the next one towards the most likely symbol costs fewer bits
than its larger error is worth, it is the better choice (RDOQ, as video encoders do it; the error's worth
comes from the synthesis transform's measured sensitivity per channel). The decoder does not know.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.entropy import SYMBOL_MAX, SYMBOL_MIN, Ints, Tables

Floats = npt.NDArray[np.float32]


def nearest(scaled: Floats) -> npt.NDArray[np.int16]:
    """Plain rounding (half to even) to symbols, int16, of latents times gain; any shape."""
    symbols: npt.NDArray[np.int16] = np.clip(np.rint(scaled), SYMBOL_MIN, SYMBOL_MAX).astype(np.int16)
    return symbols


def choose(wanted: Floats, tables: Tables, index: Ints, centre: Ints, weight: Floats) -> Ints:
    """Picks for each latent the cheaper of its nearest integer and the next one towards the table's middle.

    The middle is the table's median, not ``centre``: that is the floor of a mean, one below the most likely
    symbol half of the time.

    Args:
        wanted: float32 (positions, channels), latents times gain.
        tables: The tables of this pass.
        index: int32 (positions * channels,), table of each symbol.
        centre: int32 (positions * channels,), centre of each symbol.
        weight: float32 (channels,), bits that a squared error of one symbol step is worth; 0 or less for
            plain rounding.

    Returns:
        int32 (positions, channels).
    """
    flat = wanted.reshape(-1)
    symbols: Ints = nearest(flat).astype(np.int32)
    worth = np.broadcast_to(weight, wanted.shape).reshape(-1)
    middle = centre + tables.medians[index]
    # Symbols at the middle can't move towards it.
    moving = np.flatnonzero((symbols != middle) & (worth > 0))
    if len(moving):
        value, start, table = symbols[moving], centre[moving], index[moving]
        other = value - np.sign(value - middle[moving])
        gain = _bits(tables, table, value - start) - _bits(tables, table, other - start)
        error = (flat[moving] - other) ** 2 - (flat[moving] - value) ** 2
        better = gain > worth[moving] * error
        symbols[moving[better]] = other[better]
    chosen: Ints = symbols.reshape(wanted.shape)
    return chosen


def _bits(tables: Tables, index: Ints, value: Ints) -> Floats:
    entry = value - tables.offsets[index]
    escape = tables.lengths[index] - 1
    entry = np.where((entry < 0) | (entry > escape), escape, entry)
    return np.asarray(tables.bits[tables.starts[index] + entry], np.float32)
