"""The order in which a tile's symbols are coded, and what the context networks see of those before.

Symbols lie in a grid with zeros around it. Its rows are an odd number of cells long, so that the halves of
the checkerboard are the even and the odd cells, which are kept apart: the neighbours of all positions of a
half at one place of the 3x3 window are then a run of consecutive rows in one of two arrays. Nothing is
gathered.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.entropy import Ints, Tables

if TYPE_CHECKING:
    from codec_cli.bitstream.context import ContextModel

INPUT_CLIP = 255
FRACTIONS = 8

ALL_TAPS = tuple((dy, dx) for dy in range(3) for dx in range(3))
# The neighbours in the other half of the checkerboard.
CROSS_TAPS = ((0, 1), (1, 0), (1, 2), (2, 1))

# Fewer positions are not worth a thread.
_SHARE = 64

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


class Pass(NamedTuple):
    """What codes one pass of a tile; positions in raster order, channels fastest."""

    rows: Places
    columns: Places
    channels: slice
    tables: Tables
    table: Ints
    centre: Ints


class Walk:
    """Iterates over a tile's passes; the caller hands each pass's symbols back with :meth:`fill`."""

    def __init__(self, model: ContextModel, height: int, width: int, level: int) -> None:
        self._model = model
        self._level = level
        # One column of zeros is the right border of its row and the left one of the next.
        self._row_length = (width + 1) | 1
        cells = (height + 2) * self._row_length + 2
        channels = sum(model.groups)
        self._features = [np.zeros((cells // 2 + 1, 2 * channels), np.float32) for _ in range(2)]
        grid_rows, grid_columns = np.indices((height, width))
        even = (grid_rows + grid_columns) % 2 == 0
        self._halves = [np.nonzero(even), np.nonzero(~even)]
        # Of each position, its place among the cells of its half.
        self._places = [((rows + 1) * self._row_length + columns + 1) // 2 for rows, columns in self._halves]
        self._scales = len(model.bank.lengths) // FRACTIONS
        self._current = (0, 0, 0)

    def __iter__(self) -> Iterator[Pass]:
        begin = 0
        # Threads that take a share of the positions each are faster than those of BLAS, product by product.
        shares = max(1, min(self._model.threads, len(self._places[0]) // _SHARE))
        with ThreadPoolExecutor(max(1, shares - 1)) as pool:
            for g, size in enumerate(self._model.groups):
                for h, (rows, columns) in enumerate(self._halves):
                    if len(rows) == 0:
                        continue
                    self._current = (g, h, 2 * begin)
                    if (g, h) == (0, 0):
                        tables = self._model.first[self._level]
                        index = np.tile(np.arange(size, dtype=np.int32), len(rows))
                        centre = np.zeros(len(index), np.int32)
                    else:
                        tables = self._model.bank
                        index, centre = self._evaluated(pool, shares)
                    yield Pass(rows, columns, slice(begin, begin + size), tables, index, centre)
                begin += size

    def _evaluated(self, pool: ThreadPoolExecutor, shares: int) -> tuple[Ints, Ints]:
        """Table and centre of each symbol of the current pass."""
        places = self._places[self._current[1]]
        if shares == 1:
            return self._share(places)
        with _single_threaded_blas:
            first, *others = np.array_split(places, shares)
            waiting = [pool.submit(self._share, part) for part in others]
            parts = [self._share(first), *(future.result() for future in waiting)]
        index, centre = (np.concatenate(part) for part in zip(*parts, strict=True))
        return index, centre

    def _share(self, places: Places) -> tuple[Ints, Ints]:
        """:meth:`_evaluated` of some of the half's places, which are in order."""
        g, h, _ = self._current
        begin, end = int(places[0]), int(places[-1]) + 1
        network = self._model.networks[g, h]
        return network(self._seen(begin, end), places - begin, self._level, self._scales)

    def _seen(self, begin: int, end: int) -> Iterator[Floats]:
        """Neighbours of a run of the current half's cells: tap by tap, earlier groups before their own."""
        g, h, start = self._current
        size = self._model.groups[g]
        sources = [(slice(0, start), ALL_TAPS)] if g else []
        sources += [(slice(start, start + 2 * size), CROSS_TAPS)] if h else []
        for columns, taps in sources:
            for dy, dx in taps:
                # Cell 2 * place + half, moved.
                moved = h + (dy - 1) * self._row_length + dx - 1
                half, shift = moved % 2, moved // 2
                yield self._features[half][begin + shift : end + shift, columns]

    def fill(self, symbols: Ints) -> None:
        """Makes the current pass's symbols, int32 (positions, channels), known to later passes."""
        _, h, start = self._current
        size = symbols.shape[1]
        clipped = np.clip(symbols, -INPUT_CLIP, INPUT_CLIP)
        features, places = self._features[h], self._places[h]
        features[places, start : start + size] = clipped
        features[places, start + size : start + 2 * size] = self._model.magnitude[np.abs(clipped)]


class _SingleThreadedBlas:
    """BLAS with one thread while anybody is inside: it is set for the process, where tiles may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._controller: Any = None
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = self._found().limit(limits=1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()

    def _found(self) -> Any:  # noqa: ANN401
        if self._controller is None:
            from threadpoolctl import ThreadpoolController

            # Looking for the libraries takes milliseconds, setting them microseconds.
            self._controller = ThreadpoolController().select(user_api="blas")
        return self._controller


_single_threaded_blas = _SingleThreadedBlas()
