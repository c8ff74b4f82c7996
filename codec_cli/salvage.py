"""What is left of a damaged file: the header, and every tile whose bytes can still be trusted.

Intact tiles are decoded as always. But the synthesis looks beyond a tile's edge, so pixels near a lost tile
are not quite those of the whole file: :attr:`Salvaged.reach` says how far that goes.

The opposite of :func:`codec_cli.bitstream.container.parse`, which refuses a file for a single wrong bit.
Version 2 of the format has a checksum for each tile and one for all that precedes them; version 1 has none,
and a tile of it is trusted if the range coder gets through it (docs/FORMAT.md, 2.5 and 5.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codec_cli.bitstream import container
from codec_cli.bitstream.container import Header, Metadata
from codec_cli.bitstream.wire import CRC_SIZE, Reader, crc, matches
from codec_cli.decoding import Region, Symbols, TileDecoder
from codec_cli.errors import FormatError
from codec_cli.pictures.alpha import decode_alpha
from codec_cli.pictures.images import Picture

if TYPE_CHECKING:
    from codec_cli.codec import Codec
    from codec_cli.loading import Loaded
    from codec_cli.transforms import Pixels

__all__ = ["GRAY", "Remains", "Salvaged", "read", "salvage"]

GRAY = 128
"""What lost tiles are filled with."""


@dataclass(frozen=True)
class Remains:
    """What a damaged file still holds.

    Attributes:
        header: Size and kind of the image, and its model.
        metadata: ICC profile, EXIF and alpha plane, as far as they could be read.
        tiles: The segment of each tile in raster order; None where it is lost.
        notes: What is wrong beside lost tiles, one line each.
        checked: The tiles were compared with checksums, their own or that of the whole file.
    """

    header: Header
    metadata: Metadata
    tiles: tuple[bytes | None, ...]
    notes: tuple[str, ...]
    checked: bool


@dataclass(frozen=True)
class Salvaged:
    """What could be decoded of a damaged file.

    Attributes:
        picture: The image; lost tiles are :data:`GRAY`.
        tiles: How many tiles the image has.
        lost: The rectangles that are lost, in pixels.
        reach: Within so many rows and columns of a lost tile, pixels of intact tiles may differ from those
            that the whole file decodes to.
        notes: What else is wrong or uncertain, one line each.
    """

    picture: Picture
    tiles: int
    lost: tuple[Region, ...]
    reach: int
    notes: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether the file was whole after all."""
        return not self.lost and not self.notes

    def report(self) -> tuple[str, ...]:
        """What was lost, one line each; nothing if the file was whole."""
        lines = [
            f"lost: columns {place.left} to {place.right - 1} of rows {place.top} to {place.bottom - 1}"
            for place in self.lost
        ]
        if self.lost:
            lines.insert(0, f"{self.tiles - len(self.lost)} of {self.tiles} tiles saved, the others are gray")
        if 0 < len(self.lost) < self.tiles and self.reach:
            lines.append(
                f"pixels within {self.reach} rows and columns of a lost tile may differ from those of the "
                "whole file"
            )
        return (*lines, *self.notes)


def salvage(codec: Codec, data: bytes, max_pixels: int) -> Salvaged:
    """Decodes what is left of a file.

    Args:
        codec: Knows the models.
        data: All bytes of the file, or as many as are left of it.
        max_pixels: The most pixels that the image may claim to have.

    Raises:
        CodecError: There is nothing to be saved; see :func:`read`. Or no tile is intact, or the model is not
            here.
    """
    info = codec.model_for(container.peek(data))
    remains = read(data, info.tile_pixels, max_pixels)
    header, metadata = remains.header, remains.metadata
    decoder = _Salvager(codec.loaded_for(header), header, [tile or b"" for tile in remains.tiles])
    decoder.lost.update(index for index, tile in enumerate(remains.tiles) if tile is None)
    pixels = decoder.pixels()
    lost = tuple(decoder.place(index) for index in sorted(decoder.lost))
    if len(lost) == len(remains.tiles):
        raise FormatError("damaged: nothing could be saved, no tile is intact")
    notes, alpha = list(remains.notes), None
    if header.alpha:
        try:
            alpha = decode_alpha(metadata.alpha_png, header, "alpha plane")
        except FormatError:
            alpha = decode_alpha(None, header, "alpha plane")
            notes.append("the alpha plane is damaged, the image is opaque")
    if not remains.checked:
        notes.append("tiles in a file of this version have no checksums: they may be wrong")
    picture = Picture(pixels, alpha, metadata.icc, metadata.exif)
    reach = int(info.facts["synthesis_halo"]) * info.stride
    return Salvaged(picture, len(remains.tiles), lost, reach, tuple(notes))


class _Salvager(TileDecoder):
    """Decodes what it can: tiles that are known to be lost, or do not decode, are gray."""

    def __init__(self, loaded: Loaded, header: Header, segments: Sequence[bytes]) -> None:
        super().__init__(loaded, header, segments)
        self.lost: set[int] = set()
        """Indices of tiles in raster order."""

    def symbols(self, row: int, column: int) -> Symbols:
        """See :class:`TileDecoder`; all zero where the tile is lost."""
        index = row * self._grid.columns + column
        if index not in self.lost:
            try:
                return super().symbols(row, column)
            except FormatError:
                self.lost.add(index)
        top, left, bottom, right = self._grid.tile(row, column)
        channels = int(self._loaded.info.facts["latent_channels"])
        return np.zeros((bottom - top, right - left, channels), np.int16)

    def bands(self, region: Region | None = None) -> Iterator[Pixels]:
        """See :class:`TileDecoder`, of the whole image only."""
        if region not in (None, Region.whole(self._header)):
            raise ValueError("a part of an image can't be salvaged")
        for row, band in enumerate(super().bands()):
            first = row * self._grid.columns
            for index in self.lost.intersection(range(first, first + self._grid.columns)):
                place = self.place(index)
                band[:, place.left : place.right] = GRAY
            yield band

    def place(self, index: int) -> Region:
        """A tile's rectangle in the image, in pixels."""
        stride = self._loaded.info.stride
        tile = self._grid.tile(*divmod(index, self._grid.columns))
        top, left, bottom, right = (edge * stride for edge in tile)
        width, height = min(right, self._header.width) - left, min(bottom, self._header.height) - top
        return Region(left, top, width, height)


def read(data: bytes, tile_pixels: int, max_pixels: int) -> Remains:
    """Reads what can be read.

    Args:
        data: All bytes of the file, or as many as are left of it.
        tile_pixels: Side of a tile in pixels.
        max_pixels: The most pixels that the image may claim to have.

    Raises:
        FormatError: There is nothing to be saved: this is no file of ours, or its beginning is damaged so
            that the tiles can't be found.
        VersionError: A later version of the format, or a damaged version byte.
        LimitError: The image is larger than ``max_pixels``.
    """
    header = container.peek(data)
    if matches(data):
        parsed = container.parse(data, tile_pixels, max_pixels)
        return Remains(parsed.header, parsed.metadata, parsed.tiles, (), True)
    notes: list[str] = []
    reader = Reader(data)
    metadata = container.read_start(reader, max_pixels, notes)
    count = container.tile_count(header.width, header.height, tile_pixels)
    if container.version_of(data) == container.VERSION_TILES:
        tiles = _by_table(reader, count, notes)
    else:
        tiles = _one_by_one(reader, count)
    if None not in tiles and not notes:
        notes.append("the file's checksum does not match; its parts do")
    return Remains(
        header, metadata, tiles, tuple(notes), container.version_of(data) == container.VERSION_TILES
    )


def _one_by_one(reader: Reader, count: int) -> tuple[bytes | None, ...]:
    """Version 1: each tile after its length, until the bytes run out."""
    tiles: list[bytes | None] = []
    end = len(reader.data) - CRC_SIZE
    reader = Reader(reader.data[:end], min(reader.position, end))
    try:
        while len(tiles) < min(count, len(reader.data)):
            tiles.append(reader.take(reader.varint("a tile's length"), "a tile"))
    except FormatError:
        pass
    return _filled(tiles, count)


def _by_table(reader: Reader, count: int, notes: list[str]) -> tuple[bytes | None, ...]:
    """Version 2: at the place that the lengths before a tile give, or at that which those after it give."""
    table = container.read_table(reader, count)
    data = reader.data
    head = container.head_sum(data[: reader.position])
    if reader.take(CRC_SIZE, "the header's checksum") != head:
        notes.append("the header is damaged: size, quality, colours or metadata may be wrong")
    from_start = reader.position
    starts, ends = [], []
    for length, _ in table:
        starts.append(from_start)
        from_start += length
    from_end = len(data) - CRC_SIZE
    for length, _ in reversed(table):
        from_end -= length
        ends.append(from_end)
    tiles: list[bytes | None] = []
    for (length, expected), *places in zip(table, starts, reversed(ends), strict=True):
        found = (data[place : place + length] for place in places if 0 <= place <= len(data) - length)
        tiles.append(next((tile for tile in found if crc(tile) == expected), None))
    return tuple(tiles)


def _filled(tiles: Sequence[bytes | None], count: int) -> tuple[bytes | None, ...]:
    return (*tiles, *[None] * (count - len(tiles)))
