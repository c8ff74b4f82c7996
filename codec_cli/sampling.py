"""Pictures out of nothing: latents drawn from a model's own prior, decoded.

The entropy model of a codec is a distribution of latents: what it codes in few bits, it holds for likely.
Symbols that are drawn from it instead of read from a file become pictures, which show what the prior knows
of the images that the model was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.context import ContextModel
from codec_cli.bitstream.entropy import SYMBOL_MAX, SYMBOL_MIN, TOTAL, Ints, Tables
from codec_cli.bitstream.walk import Walk
from codec_cli.codec import Codec
from codec_cli.errors import LimitError
from codec_cli.loading import Loaded
from codec_cli.transforms import TILE, Floats, Pixels, available_threads, synthesise
from codec_cli.zoo import ModelInfo

# Side, in latent positions, of what is drawn from a model that takes images of any size.
POSITIONS = 4
# Between the pictures of a grid.
GAP, GAP_SHADE = 2, 128
MAX_PIXELS = 1 << 28


def draw(
    tables: Tables, index: Ints, centre: Ints, rng: np.random.Generator, temperature: float = 1.0
) -> Ints:
    """Symbols with the probabilities that tables give them, without ever drawing an escape.

    Args:
        tables: The tables that ``index`` points into.
        index: int32 (n,), table of each symbol.
        centre: int32 (n,), added to each symbol.
        rng: Where chance comes from: one number per symbol, in order.
        temperature: Probabilities are taken to the power of its inverse: below 1 the likely gets likelier.

    Returns:
        int32 (n,), within [-32768, 32767].
    """
    first = tables.starts[index]
    escape = tables.starts[index + 1] - 1
    # A place within the counts of all entries of the table but the last, which is the escape.
    if temperature == 1:
        ends: npt.NDArray[Any] = np.cumsum(tables.counts, dtype=np.int64)
        below = ends[first] - tables.counts[first]
        place = below + rng.integers(0, ends[escape - 1] - below)
    else:
        weights = (tables.counts / TOTAL) ** (1 / temperature)
        ends = np.cumsum(weights)
        below = ends[first] - weights[first]
        place = below + rng.random(len(first)) * (ends[escape - 1] - below)
    # Sums of floats may miss the ends of a table by a rounding.
    entry = np.clip(np.searchsorted(ends, place, side="right"), first, escape - 1) - first
    symbols: Ints = entry.astype(np.int32) + tables.offsets[index] + centre
    return np.clip(symbols, SYMBOL_MIN, SYMBOL_MAX, out=symbols)


def draw_plane(
    model: Loaded, level: int, height: int, width: int, rng: np.random.Generator, temperature: float = 1.0
) -> npt.NDArray[np.int16]:
    """Symbols of one tile of latents.

    Args:
        model: The model; with contexts each pass is drawn given the passes before it.
        level: Usable level.
        height: In positions, at most 64.
        width: In positions, at most 64.
        rng: Where chance comes from.
        temperature: See :func:`draw`.

    Returns:
        int16 (height, width, latent_channels).
    """
    entropy = model.entropy
    if isinstance(entropy, ContextModel):
        out = np.empty((height, width, sum(entropy.groups)), np.int16)
        walk = Walk(entropy, height, width, level)
        for part in walk:
            values = draw(part.tables, part.table, part.centre, rng, temperature).reshape(len(part.rows), -1)
            out[part.rows, part.columns, part.channels] = values
            walk.fill(values)
        return out
    tables = entropy.first[level]
    channels = len(tables.lengths)
    index = np.tile(np.arange(channels, dtype=np.int32), height * width)
    symbols = draw(tables, index, np.zeros(len(index), np.int32), rng, temperature)
    return symbols.reshape(height, width, channels).astype(np.int16)


def sample(
    info: ModelInfo,
    count: int,
    *,
    seed: int = 0,
    level: int | None = None,
    positions: int = POSITIONS,
    temperature: float = 1.0,
    threads: int | None = None,
) -> Iterator[Pixels]:
    """Pictures drawn from a model's prior.

    Picture i depends on the model, level, seed and i alone, not on how many are drawn.

    Args:
        info: The model.
        count: How many pictures.
        seed: Chooses them.
        level: Usable level whose prior and quantiser steps count; the model's default if None.
        positions: Side of the area to draw, 1 to 64 latent positions. Models for images of one size always
            give images of that size.
        temperature: See :func:`draw`; 1 is the prior as it is.
        threads: Processor threads; all by default.

    Yields:
        uint8 (height, width, channels).

    Raises:
        ModelError: The model is damaged.
        ValueError: The level, count, number of positions or temperature is out of range.
    """
    level = int(info.facts["default_level"]) if level is None else level
    if not 0 <= level < info.levels:
        raise ValueError(f"level must be within 0..{info.levels - 1}")
    if count < 1 or not 1 <= positions <= TILE:
        raise ValueError(f"count must be at least 1, and positions within 1..{TILE}")
    if not temperature > 0:
        raise ValueError("temperature must be above 0")
    side = positions if info.size is None else info.size // info.stride
    model = Loaded(info, threads or available_threads())
    scale: Floats = model.inverse_gain[level]
    weights = np.ascontiguousarray(model.level_weights[level][None])
    for number in range(count):
        plane = draw_plane(model, level, side, side, np.random.default_rng([seed, number]), temperature)
        latents: Floats = plane.astype(np.float32) * scale
        yield _decoded(model, latents, weights)


def _decoded(model: Loaded, latents: Floats, level_weights: Floats) -> Pixels:
    """The picture of a plane of latents that fits one tile."""
    info, (height, width, _) = model.info, latents.shape

    def part(top: int, left: int, bottom: int, right: int) -> Floats:
        return latents[top:bottom, left:right]

    return synthesise(
        model.synthesis,
        part,
        (0, 0, height, width),
        (height, width),
        info.stride,
        int(info.facts["synthesis_halo"]),
        level_weights,
        info.channels,
    )


def draw_samples(
    codec: Codec,
    count: int,
    *,
    level: int | None = None,
    seed: int = 0,
    positions: int = POSITIONS,
    temperature: float = 1.0,
) -> Pixels:
    """The pictures of :func:`sample` as one array, uint8 (count, height, width, channels)."""
    drawn = sample(codec.info, count, seed=seed, level=level, positions=positions, temperature=temperature)
    return np.stack(list(drawn))


def grid(images: list[Pixels], columns: int | None = None, scale: int = 1) -> Pixels:
    """Pictures side by side, row by row, on gray.

    Args:
        images: uint8 (height, width, channels), all of one shape, at least one.
        columns: Pictures in a row; by default as many as make the grid square.
        scale: Each pixel becomes a square of this side.

    Returns:
        uint8 (height, width, channels).

    Raises:
        LimitError: The grid would have more than 2^28 pixels.
    """
    columns = math.ceil(math.sqrt(len(images))) if columns is None else min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width, channels = images[0].shape
    step = (height * scale + GAP, width * scale + GAP)
    size = (rows * step[0] + GAP, columns * step[1] + GAP)
    if size[0] * size[1] > MAX_PIXELS:
        raise LimitError(f"a grid of {size[1]}x{size[0]} pixels is too large; lower the number or the scale")
    out = np.full((*size, channels), GAP_SHADE, np.uint8)
    for i, image in enumerate(images):
        top, left = GAP + i // columns * step[0], GAP + i % columns * step[1]
        enlarged = image.repeat(scale, 0).repeat(scale, 1)
        out[top : top + enlarged.shape[0], left : left + enlarged.shape[1]] = enlarged
    return out
