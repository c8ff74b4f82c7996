"""Tiles of a picture on their way to latents: where they lie, and where their pixels come from.

The format codes tiles of 64x64 latent positions; a transform sees a halo around each. :class:`Source` gives
the pixels of a rectangle, of an array that is in memory or of rows that come one after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from codec_cli.errors import ImageError
from codec_cli.transforms import TILE, Floats, Pixels, Rectangle, analyse, latent_size

if TYPE_CHECKING:
    from codec_cli.loading import Loaded

__all__ = ["ArraySource", "Grid", "Source", "StreamSource", "latents_of", "source_of", "to_channels"]


@dataclass(frozen=True)
class Grid:
    """The tiles of an image.

    Attributes:
        size: (height, width) of the image in latent positions.
    """

    size: tuple[int, int]

    @classmethod
    def of(cls, height: int, width: int, stride: int) -> Grid:
        """Of an image of ``height`` by ``width`` pixels."""
        return cls(latent_size(height, width, stride))

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.size[0] // TILE)

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.size[1] // TILE)

    def tile(self, row: int, column: int) -> Rectangle:
        """One tile's rectangle of latent positions: (top, left, bottom, right)."""
        top, left = row * TILE, column * TILE
        return top, left, min(top + TILE, self.size[0]), min(left + TILE, self.size[1])

    def tiles(self) -> Iterator[Rectangle]:
        """All tiles in raster order."""
        return (self.tile(row, column) for row in range(self.rows) for column in range(self.columns))


class Source(Protocol):
    """Where the pixels of an image come from."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the image; 1 channel is gray, 3 are R'G'B'."""

    def cut(self, top: int, left: int, bottom: int, right: int) -> Pixels:
        """uint8 (rows, columns, channels) of a rectangle, without what lies beyond the image's edges.

        Rectangles come in the order of the tiles, with a halo around each.
        """


class ArraySource:
    """Pixels of an array, uint8 (height, width, channels)."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """See :class:`Source`."""
        height, width, channels = self._pixels.shape
        return height, width, channels

    def cut(self, top: int, left: int, bottom: int, right: int) -> Pixels:
        """See :class:`Source`."""
        return self._pixels[top:bottom, left:right]


class StreamSource:
    """Pixels of rows that come one after another; only those that the current tiles can reach are kept.

    Args:
        shape: (height, width, channels) of the image.
        bands: uint8 (rows, width, channels), any number of rows at a time, ``height`` in all.
    """

    def __init__(self, shape: tuple[int, int, int], bands: Iterable[Pixels]) -> None:
        self._shape = shape
        self._bands = iter(bands)
        self._rest = np.empty((0, *shape[1:]), np.uint8)
        # Rows top..bottom - 1 of the image are the first ones of the window.
        self._window = np.empty((0, *shape[1:]), np.uint8)
        self._top = self._bottom = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """See :class:`Source`."""
        return self._shape

    def cut(self, top: int, left: int, bottom: int, right: int) -> Pixels:
        """See :class:`Source`.

        The result is a view, good until the next call.

        Raises:
            ImageError: The rows end too early.
            ValueError: A row is asked for that was there before: this is not the order of the tiles.
        """
        bottom = min(bottom, self._shape[0])
        if top < self._top:
            raise ValueError(f"row {top} is no longer kept, {self._top} is the first")
        if bottom > self._bottom:
            self._advance(top, bottom)
        return self._window[top - self._top : bottom - self._top, left:right]

    def _advance(self, top: int, bottom: int) -> None:
        """Drops the rows above ``top``, and reads on until there are all above ``bottom``."""
        kept = max(0, self._bottom - top)
        rows = self._window[self._bottom - kept - self._top : self._bottom - self._top]
        if bottom - top > len(self._window):
            rows = rows.copy()
            # Not both at once.
            del self._window
            self._window = np.empty((bottom - top, *self._shape[1:]), np.uint8)
        self._window[:kept] = rows  # numpy sees to it that they may overlap.
        self._top = self._bottom - kept
        while self._bottom < bottom:
            if not len(self._rest):
                self._rest = next(self._bands, self._rest)
                if not len(self._rest):
                    raise ImageError(f"ends after {self._bottom} of {self._shape[0]} rows")
            if self._bottom < top:  # No one has asked for these rows.
                take = min(top - self._bottom, len(self._rest))
                self._top += take
            else:
                take = min(bottom - self._bottom, len(self._rest))
                place = self._bottom - self._top
                self._window[place : place + take] = self._rest[:take]
            self._rest = self._rest[take:]
            self._bottom += take


def source_of(pixels: Pixels | Source) -> Source:
    """Pixels as a source, whichever they are."""
    return ArraySource(pixels) if isinstance(pixels, np.ndarray) else pixels


def latents_of(loaded: Loaded, source: Source) -> Iterator[Floats]:
    """Latents of every tile in raster order, without gain.

    Args:
        loaded: The model.
        source: The image.

    Yields:
        float32 (rows, columns, latent_channels), at most 64x64 positions.

    Raises:
        ImageError: Colour does not fit a gray model.
    """
    info = loaded.info
    height, width, channels = source.shape
    if channels > info.channels:
        raise ImageError("the model codes gray images only; choose another with --model")
    for tile in Grid.of(height, width, info.stride).tiles():
        yield analyse(
            loaded.analysis,
            lambda *rectangle: to_channels(source.cut(*rectangle), info.channels),
            (height, width),
            tile,
            info.stride,
            int(info.facts["analysis_halo"]),
            loaded.gain.shape[1],
        )


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """Gray to R'G'B' for a colour model."""
    return pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, 2)
