"""Data on their way through an unnamed file, where memory would not hold them."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError
from codec_cli.transforms import Pixels

__all__ = ["Spool", "turned"]

Array = npt.NDArray[Any]


class Spool:
    """Arrays in a temporary file, to be had again in any order; the file goes with the object.

    Args:
        arrays: To write at once; more can be added.
    """

    def __init__(self, arrays: Iterable[Array] = ()) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="codec-")  # noqa: SIM115 - closed below
        weakref.finalize(self, self._file.close)
        self._places: list[tuple[int, tuple[int, ...], np.dtype[Any]]] = []
        for array in arrays:
            self.add(array)

    def add(self, array: Array) -> None:
        """Appends an array; raises :class:`CodecError` when the disk is full."""
        try:
            place = self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise CodecError(
                f"no room for intermediate data in {folder} ({error.strerror}); name another folder in TMPDIR"
            ) from error
        self._places.append((place, array.shape, array.dtype))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Array]:
        return (self.read(index) for index in range(len(self)))

    def read(self, index: int, begin: int = 0, end: int | None = None) -> Array:
        """One of the arrays, or its rows ``begin`` to ``end`` along the first axis."""
        place, shape, dtype = self._places[index]
        begin, end, _ = slice(begin, end).indices(shape[0])
        out = np.empty((end - begin, *shape[1:]), dtype)
        self._file.seek(place + begin * (out[:1].nbytes or 1))
        self._file.readinto(out.data)  # type: ignore[attr-defined]
        return out


def turned(bands: Iterable[Pixels], orientation: int, rows: int) -> Iterator[Pixels]:
    """Bands of an image that lies on its side, head or back, as bands of the upright image.

    Args:
        bands: uint8 (rows, width, channels), from top to bottom of the image as it lies in its file.
        orientation: Of EXIF, 1 to 8; others count as 1.
        rows: Of the upright image, to give at a time.

    Yields:
        uint8 (rows, width, channels), from top to bottom.
    """
    mirrored = orientation in (2, 3, 6, 7)
    if orientation not in (3, 4, 5, 6, 7, 8):
        yield from (np.ascontiguousarray(band[:, ::-1]) if mirrored else band for band in bands)
        return
    if orientation in (3, 4):
        spool = Spool(bands)
        for index in reversed(range(len(spool))):
            band = spool.read(index)[::-1]
            yield np.ascontiguousarray(band[:, ::-1] if mirrored else band)
        return
    # Each band's columns become rows at once, so that a row of the result is a few pieces of the file.
    spool = Spool(np.ascontiguousarray(band.swapaxes(0, 1)) for band in bands)
    height = len(spool.read(0))
    starts = range(0, height, rows)
    for start in reversed(starts) if orientation in (7, 8) else starts:
        pieces = [spool.read(index, start, start + rows) for index in range(len(spool))]
        band = np.concatenate(pieces, 1)
        band = band[::-1] if orientation in (7, 8) else band
        yield np.ascontiguousarray(band[:, ::-1] if mirrored else band)
