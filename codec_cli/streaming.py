"""Compressed files as rows: how what is too large for memory is decompressed and compared with its source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from codec_cli.bitstream.container import Container
from codec_cli.decoding import Region
from codec_cli.errors import FormatError, ImageError
from codec_cli.memory import return_freed_memory
from codec_cli.pictures.alpha import check_alpha, decode_alpha
from codec_cli.pictures.rows import RowPicture, band_rows, open_rows
from codec_cli.tiles import ArraySource, Source, StreamSource
from codec_cli.transforms import Pixels

if TYPE_CHECKING:
    from codec_cli.codec import Codec

__all__ = ["RowFile", "ms_ssim_by_rows", "psnr_by_rows"]


class RowFile:
    """A compressed file whose pixels are decoded as they are needed.

    Args:
        codec: Finds the model.
        parsed: The file, from :meth:`codec_cli.Codec.open`.
        name: Of the file, for messages.
        region: The part of the image to decode; by default all of it.
    """

    def __init__(self, codec: Codec, parsed: Container, name: str, region: Region | None = None) -> None:
        return_freed_memory()
        self._parsed, self._name = parsed, name
        self._region = region or Region.whole(parsed.header)
        self._tiles = codec.tiles(parsed.header, parsed.tiles)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what is decoded, without alpha."""
        return self._region.height, self._region.width, 1 if self._parsed.header.gray else 3

    @property
    def alpha(self) -> bool:
        """Whether there is an alpha plane."""
        return self._parsed.header.alpha

    def transparent(self) -> bool:
        """Whether there is alpha that is not opaque everywhere; raises :class:`FormatError`."""
        if self._parsed.metadata.alpha_png is None:
            return False
        return any((alpha < 255).any() for _, alpha in self._alpha_rows())

    def bands(self, alpha: bool = False) -> Iterator[Pixels]:
        """Decodes a row of tiles at a time.

        Args:
            alpha: Whether the alpha plane follows the colours.

        Yields:
            uint8 (rows, width, channels) from top to bottom.

        Raises:
            FormatError: The file is damaged.
        """
        bands = self._tiles.bands(self._region)
        if not alpha:
            yield from bands
            return
        plane, top = self._alpha(), self._region.top
        for band in bands:
            rows = plane.cut(top, self._region.left, top + len(band), self._region.right)
            yield np.concatenate([band, rows], 2)
            top += len(band)

    def same_pixels(self, picture: RowPicture) -> bool:
        """Whether the colours are exactly those of a picture of the same shape."""
        source, top = picture.source(), 0
        for band in self.bands():
            if not np.array_equal(band, source.cut(top, 0, top + len(band), picture.shape[1])):
                return False
            top += len(band)
        return True

    def same_alpha(self, picture: RowPicture) -> bool:
        """Whether the alpha plane is exactly that of a picture."""
        other = StreamSource((*picture.shape[:2], 1), picture.alpha_bands())
        return all(
            np.array_equal(rows, other.cut(top, 0, top + len(rows), picture.shape[1]))
            for top, rows in self._alpha_rows()
        )

    def _alpha_rows(self) -> Iterator[tuple[int, Pixels]]:
        """(row, uint8 (rows, width, 1)) of the alpha plane within the region."""
        plane, region = self._alpha(), self._region
        rows = band_rows(region.width, 1)
        for top in range(region.top, region.bottom, rows):
            yield top, plane.cut(top, region.left, min(top + rows, region.bottom), region.right)

    def _alpha(self) -> Source:
        header, png = self._parsed.header, self._parsed.metadata.alpha_png
        shape = (header.height, header.width, 1)
        if png is None:
            rows = band_rows(header.width, 1)
            opaque = np.full((rows, header.width, 1), 255, np.uint8)
            count = -(-header.height // rows)
            return StreamSource(shape, (opaque for _ in range(count)))
        check_alpha(png, header)
        try:
            opened = open_rows(
                png,
                self._name,
                header.height * header.width,
                keep_metadata=False,
                min_pixels=0,
                formats=("PNG",),
            )
        except ImageError as error:
            raise FormatError("damaged: the alpha plane is not decodable") from error
        if opened is None:
            return ArraySource(decode_alpha(png, header, self._name)[:, :, None])
        if opened.shape != shape or opened.alpha:
            raise FormatError("damaged: the alpha plane does not fit the image")
        return StreamSource(shape, _refused_as_damage(opened.bands()))


def psnr_by_rows(codec: Codec, picture: RowPicture, parsed: Container) -> float:
    """PSNR in dB of a compressed file against its source, over all samples of the colours.

    Args:
        codec: Finds the model.
        picture: The source.
        parsed: The file, an image of the same shape.
    """
    from codec_cli.evaluation.metrics import decibels

    total = 0
    for wanted, made in _pairs(codec, picture, parsed):
        total += int(np.square(made.astype(np.int32) - wanted).sum(dtype=np.int64))
    return decibels(total / math.prod(picture.shape))


def ms_ssim_by_rows(codec: Codec, picture: RowPicture, parsed: Container) -> float:
    """MS-SSIM (0 to 1) of a compressed file against its source; arguments as of :func:`psnr_by_rows`."""
    from codec_cli.evaluation.by_rows import MultiScale

    measured = MultiScale(picture.shape)
    for wanted, made in _pairs(codec, picture, parsed):
        measured.add(wanted, made)
    return measured.finish()


def _pairs(codec: Codec, picture: RowPicture, parsed: Container) -> Iterator[tuple[Pixels, Pixels]]:
    """The same few rows of the source and of what it became, from top to bottom."""
    source, top = picture.source(), 0
    for band in RowFile(codec, parsed, picture.name).bands():
        rows = band_rows(4 * band.shape[1], band.shape[2])
        for start in range(0, len(band), rows):
            made = band[start : start + rows]
            yield source.cut(top, 0, top + len(made), band.shape[1]), made
            top += len(made)


def _refused_as_damage(bands: Iterable[Pixels]) -> Iterator[Pixels]:
    try:
        yield from bands
    except ImageError as error:
        raise FormatError("damaged: the alpha plane is not decodable") from error
