"""Integer tables and range coding: symbols -> bytes -> the same symbols on every machine.

A table is a run of counts that sum to 2^16. Entry ``i`` of ``n`` codes the value ``offset + i``; the last
entry is the escape, for values outside. Symbols of a pass are coded table by table, in rising table index,
each table's symbols in the order in which they stand; then escaped symbols follow, in order, as two bytes.
docs/FORMAT.md specifies this byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from codec_cli.errors import FormatError, ModelError

PRECISION = 16
TOTAL = 1 << PRECISION
SYMBOL_MIN, SYMBOL_MAX = -(1 << 15), (1 << 15) - 1

Ints = npt.NDArray[np.int32]


def _categorical(counts: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - constriction is untyped
    # `perfect=False` and exact multiples of 2^-16 are part of the format: other settings give other bytes.
    return constriction.stream.model.Categorical(counts.astype(np.float64) / TOTAL, perfect=False)


_BYTE = _categorical(np.full(256, TOTAL // 256))


@dataclass
class Tables:
    """A set of integer tables, stored flat.

    Attributes:
        offsets: int32 (n,), value of each table's first entry.
        lengths: int32 (n,), number of entries, escape included, at least 2.
        counts: uint16 (sum of lengths,), every one at least 1; each table sums to 2^16.

    Raises:
        ModelError: A table is not well formed.
    """

    offsets: Ints
    lengths: Ints
    counts: npt.NDArray[np.uint16]
    _models: dict[int, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        self._check()

    def _check(self) -> None:
        good = (
            self.offsets.dtype == self.lengths.dtype == np.int32
            and self.counts.dtype == np.uint16
            and self.offsets.ndim == self.lengths.ndim == self.counts.ndim == 1
            and len(self.offsets) == len(self.lengths) > 0
            and bool((self.lengths >= 2).all())
            and self._starts[-1] == len(self.counts)
            and bool((self.counts >= 1).all())
            and bool((np.add.reduceat(self.counts.astype(np.int64), self._starts[:-1]) == TOTAL).all())
            and bool((self.offsets >= SYMBOL_MIN).all())
            and bool((self.offsets + self.lengths <= SYMBOL_MAX).all())
        )
        if not good:
            raise ModelError("malformed entropy tables")

    def model(self, index: int) -> Any:  # noqa: ANN401
        """The range coder's model of one table, built at its first use."""
        model = self._models.get(index)
        if model is None:
            start = self._starts[index]
            model = _categorical(self.counts[start : start + self.lengths[index]])
            self._models[index] = model
        return model

    @cached_property
    def bits(self) -> npt.NDArray[np.float32]:
        """Cost in bits of every entry, flat like ``counts``; an escape's includes its two bytes."""
        cost = (PRECISION - np.log2(self.counts.astype(np.float32))).astype(np.float32)
        cost[self._starts[1:] - 1] += 16
        return cost

    @cached_property
    def medians(self) -> Ints:
        """Median value of every table, escapes aside, int32 (n,)."""
        sums = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        # Of the entries of a table, the first at which the sums have come half of the way.
        half_twice = sums[self._starts[:-1]] + sums[self._starts[1:] - 1]
        entries = np.searchsorted(2 * sums[1:], half_twice) - self._starts[:-1]
        medians: Ints = (self.offsets + entries).astype(np.int32)
        return medians

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Index of each table's first entry in ``counts``, and the end."""
        return self._starts


@dataclass(frozen=True)
class _Sorted:
    """The symbols of a pass in coding order: by rising table, in each table as they stand.

    Attributes:
        order: (n,), the place of each symbol in coding order.
        runs: (table, begin, end) of every table that occurs, in coding order.
    """

    order: npt.NDArray[np.intp]
    runs: list[tuple[int, int, int]]

    @classmethod
    def of(cls, index: Ints) -> _Sorted:
        # uint16 keys take numpy's radix sort.
        if not len(index):
            return cls(np.empty(0, np.intp), [])
        keys = index.astype(np.uint16)
        order = np.argsort(keys, kind="stable")
        ranked = keys[order]
        edges = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
        begins = [0, *edges.tolist()]
        ends = [*begins[1:], len(ranked)]
        return cls(order, list(zip(ranked[begins].tolist(), begins, ends, strict=True)))


def _segment(coder: Any) -> bytes:  # noqa: ANN401
    return bytes(coder.get_compressed().astype("<u4").tobytes()).rstrip(b"\0")


class Encoder:
    """Range encoder of one segment (one tile)."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def put(self, tables: Tables, index: Ints, centre: Ints, symbols: Ints) -> None:
        """Codes the symbols of a pass.

        Args:
            tables: The tables that ``index`` points into.
            index: int32 (n,), table of each symbol.
            centre: int32 (n,), subtracted from each symbol before it is coded.
            symbols: int32 (n,), within [-32768, 32767].
        """
        entry = symbols - centre - tables.offsets[index]
        escape = tables.lengths[index] - 1
        escaped = (entry < 0) | (entry >= escape)
        np.copyto(entry, escape, where=escaped)
        ranked = _Sorted.of(index)
        entry = entry[ranked.order].astype(np.int32, copy=False)
        for table, begin, end in ranked.runs:
            self._coder.encode(entry[begin:end], tables.model(table))
        if escaped.any():
            raw = (symbols[escaped] - SYMBOL_MIN).astype(np.int32)
            self._coder.encode(np.stack([raw >> 8, raw & 255], 1).reshape(-1).astype(np.int32), _BYTE)

    def finish(self) -> bytes:
        """The segment: 32-bit words, little-endian, without trailing zero bytes."""
        return _segment(self._coder)


class Decoder:
    """Range decoder of one segment, the mirror of :class:`Encoder`.

    Raises:
        FormatError: From :meth:`get` or :meth:`finish`, when the segment can't be what an encoder wrote.
    """

    def __init__(self, segment: bytes) -> None:
        self._segment = segment
        words = np.frombuffer(segment + b"\0" * (-len(segment) % 4), "<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._mirror = constriction.stream.queue.RangeEncoder()

    def get(self, tables: Tables, index: Ints, centre: Ints) -> Ints:
        """Decodes the symbols of a pass; arguments and result as in :meth:`Encoder.put`."""
        ranked = _Sorted.of(index)
        symbols = np.empty(len(index), np.int32)
        try:
            parts = [self._next(tables.model(table), end - begin) for table, begin, end in ranked.runs]
            if parts:
                entry, lengths = np.concatenate(parts), [len(part) for part in parts]
                # A run's table is looked up once, not for every symbol.
                used = [table for table, _, _ in ranked.runs]
                escaped = entry == np.repeat(tables.lengths[used] - 1, lengths)
                entry += np.repeat(tables.offsets[used], lengths)
                symbols[ranked.order] = entry
                symbols += centre
                if escaped.any():
                    raw = self._next(_BYTE, 2 * int(escaped.sum())).reshape(-1, 2)
                    places = np.sort(ranked.order[escaped])
                    symbols[places] = (raw[:, 0] << 8) + raw[:, 1] + SYMBOL_MIN
        except BaseException as error:
            # A panic in the Rust library is no `Exception`; nothing but an interruption may pass.
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise FormatError("damaged: the range-coded data is not decodable") from error
        if len(symbols) and (symbols.min() < SYMBOL_MIN or symbols.max() > SYMBOL_MAX):
            raise FormatError("damaged: a symbol is out of range")
        return symbols

    def _next(self, model: Any, count: int) -> Ints:  # noqa: ANN401
        entries = self._coder.decode(model, count)
        self._mirror.encode(entries, model)
        return entries  # type: ignore[no-any-return]

    def finish(self) -> None:
        """Requires that the segment was used up exactly.

        A cut or extended stream decodes silently in a range coder. What was decoded is therefore coded
        again, which is fast, and must give the same bytes.
        """
        if _segment(self._mirror) != self._segment:
            raise FormatError("damaged: a range-coded segment does not end where it should")
