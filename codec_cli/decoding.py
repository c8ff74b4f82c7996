"""From segments to pixels, tile by tile: whole images, bands of rows, or a region.

Symbols are decoded when a tile's halo first reaches them and forgotten when none does any more, so memory
holds about one row of tiles, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError
from codec_cli.tiles import Grid
from codec_cli.transforms import TILE, Floats, Pixels, synthesise

if TYPE_CHECKING:
    from codec_cli.bitstream.container import Header
    from codec_cli.loading import Loaded

__all__ = ["Region", "Symbols", "TileDecoder"]

Symbols = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Region:
    """A rectangle of an image, in pixels.

    Attributes:
        left: First column.
        top: First row.
        width: Columns, at least 1.
        height: Rows, at least 1.
    """

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def whole(cls, header: Header) -> Region:
        """All of an image."""
        return cls(0, 0, header.width, header.height)

    @property
    def right(self) -> int:
        """The column after the last one."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The row after the last one."""
        return self.top + self.height

    def require(self, header: Header) -> None:
        """Raises :class:`CodecError` unless it has pixels and all of them lie in an image."""
        if (
            min(self.left, self.top) < 0
            or min(self.width, self.height) < 1
            or self.right > header.width
            or self.bottom > header.height
        ):
            raise CodecError(
                f"the region {self.left},{self.top},{self.width},{self.height} (X,Y,W,H) does not lie within "
                f"the image of {header.width}x{header.height} pixels; choose another --region"
            )


class TileDecoder:
    """Decodes an image from its segments.

    Args:
        loaded: The model.
        header: Of the image; it must fit the model.
        segments: The range coder's segment of each tile, in raster order.
    """

    def __init__(self, loaded: Loaded, header: Header, segments: Sequence[bytes]) -> None:
        self._loaded = loaded
        self._header = header
        self._segments = segments
        self._grid = Grid.of(header.height, header.width, loaded.info.stride)

    def symbols(self, row: int, column: int) -> Symbols:
        """Decodes one tile's segment.

        Args:
            row: Of tiles, from the top.
            column: Of tiles, from the left.

        Returns:
            int16 (height, width, latent_channels), at most 64x64 positions.

        Raises:
            FormatError: The segment is damaged.
        """
        top, left, bottom, right = self._grid.tile(row, column)
        segment = self._segments[row * self._grid.columns + column]
        return self._loaded.entropy.decode(segment, bottom - top, right - left, self._header.level)

    def all_symbols(self) -> Iterator[Symbols]:
        """The symbols of every tile in raster order."""
        for row in range(self._grid.rows):
            for column in range(self._grid.columns):
                yield self.symbols(row, column)

    def pixels(self, region: Region | None = None) -> Pixels:
        """All pixels of a region (by default the whole image) at once; see :meth:`bands`."""
        region = region or Region.whole(self._header)
        bands = self.bands(region)
        first = next(bands)
        if len(first) == region.height:
            return first
        out = np.empty((region.height, *first.shape[1:]), np.uint8)
        out[: len(first)] = first
        done = len(first)
        for band in bands:
            out[done : done + len(band)] = band
            done += len(band)
        return out

    def bands(self, region: Region | None = None) -> Iterator[Pixels]:
        """Pixels of a region (by default the whole image), a row of tiles at a time.

        Only tiles that the region touches, and their neighbours within the synthesis's halo, are decoded.

        Args:
            region: Within the image.

        Yields:
            uint8 (rows, columns, channels), 1 channel if the image is gray, else 3; rows from top to bottom.

        Raises:
            FormatError: A segment is damaged.
        """
        region = region or Region.whole(self._header)
        info, channels = self._loaded.info, 1 if self._header.gray else 3
        halo, side = int(info.facts["synthesis_halo"]), TILE * info.stride
        weights = np.ascontiguousarray(self._loaded.level_weights[self._header.level][None])
        plane = _Plane(self, self._loaded.inverse_gain[self._header.level], halo)
        for row in range(region.top // side, -(-region.bottom // side)):
            top, bottom = max(region.top, row * side), min(region.bottom, (row + 1) * side)
            out = np.empty((bottom - top, region.width, channels), np.uint8)
            for column in range(region.left // side, -(-region.right // side)):
                image = synthesise(
                    self._loaded.synthesis,
                    plane.latents,
                    self._grid.tile(row, column),
                    self._grid.size,
                    info.stride,
                    halo,
                    weights,
                    info.channels,
                )
                left, right = max(region.left, column * side), min(region.right, (column + 1) * side)
                shown = image[
                    top - row * side : bottom - row * side, left - column * side : right - column * side
                ]
                out[:, left - region.left : right - region.left] = _from_channels(shown, channels)
                plane.leave(row, column)
            plane.leave_row(row)
            yield out


class _Plane:
    """Decoded symbols as a plane of dequantised latents; holds the tiles that are still to be seen."""

    def __init__(self, decoder: TileDecoder, scale: Floats, halo: int) -> None:
        self._decoder, self._scale, self._halo = decoder, scale, halo
        # By (row, column) of the tile: its first row that is kept, in latent positions, and the symbols.
        self._kept: dict[tuple[int, int], tuple[int, Symbols | npt.NDArray[np.int8]]] = {}

    def latents(self, top: int, left: int, bottom: int, right: int) -> Floats:
        """float32 (rows, columns, latent_channels) of a rectangle of latent positions."""
        out = np.empty((bottom - top, right - left, len(self._scale)), np.float32)
        for row in range(top // TILE, -(-bottom // TILE)):
            for column in range(left // TILE, -(-right // TILE)):
                first, symbols = self._tile(row, column)
                begin, stop = max(top, first), min(bottom, (row + 1) * TILE)
                start, end = max(left, column * TILE), min(right, (column + 1) * TILE)
                out[begin - top : stop - top, start - left : end - left] = symbols[
                    begin - first : stop - first, start - column * TILE : end - column * TILE
                ]
        out *= self._scale
        return out

    def leave(self, row: int, column: int) -> None:
        """Forgets what no tile after this one (in raster order) can reach."""
        self._kept.pop((row - 1, column - 1), None)
        self._trim(row, column - 1)

    def leave_row(self, row: int) -> None:
        """As :meth:`leave`, after the last tile of a row."""
        for place in list(self._kept):
            if place[0] < row:
                del self._kept[place]
            elif place[0] == row:
                self._trim(*place)

    def _tile(self, row: int, column: int) -> tuple[int, Symbols | npt.NDArray[np.int8]]:
        if (row, column) not in self._kept:
            symbols = self._decoder.symbols(row, column)
            # Of a photograph all but a few tiles fit a byte each.
            if symbols.min() >= -128 and symbols.max() <= 127:
                symbols = symbols.astype(np.int8)
            self._kept[row, column] = row * TILE, symbols
        return self._kept[row, column]

    def _trim(self, row: int, column: int) -> None:
        """Keeps of a tile what the halo of the row below reaches."""
        if (row, column) in self._kept:
            first, symbols = self._kept[row, column]
            cut = max(0, len(symbols) - self._halo)
            self._kept[row, column] = first + cut, symbols[cut:].copy()


def _from_channels(image: Pixels, channels: int) -> Pixels:
    """R'G'B' back to gray: the mean of the channels, rounded half up."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, 2)
    gray: Pixels = ((image.astype(np.uint16).sum(2, keepdims=True) * 2 + 3) // 6).astype(np.uint8)
    return gray
