"""Range coding: what goes in comes out, at the size that the tables say, and damage is noticed."""

import io

import independent_decoder
import numpy as np
import pytest
from helpers import (
    CONTEXT,
    FACTORIZED,
    KINDS,
    copy_model,
    entropy_of,
    info_of,
    random_symbols,
    rewrite,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codec_cli.bitstream.entropy import SYMBOL_MAX, SYMBOL_MIN, TOTAL, Decoder, Encoder, Tables
from codec_cli.codec import Codec
from codec_cli.errors import FormatError, ModelError
from codec_cli.loading import load_entropy_model
from codec_cli.zoo import read_info

EXTREMES = (-32768, -32767, -512, -1, 0, 1, 511, 32766, 32767)


def ints(values):
    return np.asarray(values, np.int32).reshape(-1)


def table(weights):
    """Counts that sum to 2^16, every one at least 1, roughly as the weights say."""
    weights = np.asarray(weights, np.float64) + 1e-9
    counts = 1 + np.floor(weights / weights.sum() * (TOTAL - len(weights))).astype(np.int64)
    counts[np.argmax(counts)] += TOTAL - counts.sum()
    return counts


def make_tables(*tables):
    """:class:`Tables` of (offset, counts) pairs."""
    return Tables(
        ints([offset for offset, _ in tables]),
        ints([len(counts) for _, counts in tables]),
        np.concatenate([counts for _, counts in tables]).astype(np.uint16),
    )


def coded(passes):
    """The segment of some passes, each (tables, index, centre, symbols)."""
    encoder = Encoder()
    for tables, index, centre, symbols in passes:
        encoder.put(tables, index, centre, symbols)
    return encoder.finish()


def decoded(segment, passes):
    decoder = Decoder(segment)
    out = [decoder.get(tables, index, centre) for tables, index, centre, _ in passes]
    decoder.finish()
    return out


def round_trip(passes):
    segment = coded(passes)
    for symbols, expected in zip(decoded(segment, passes), [part[3] for part in passes], strict=True):
        assert symbols.dtype == np.int32
        assert np.array_equal(symbols, expected)
    return segment


@st.composite
def some_tables(draw):
    """One to five tables of any size, anywhere in the symbols' range, flat to extremely skewed."""
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        length = draw(st.integers(2, 12) | st.integers(2, 700))
        offset = draw(st.integers(-20, 5) | st.integers(SYMBOL_MIN, SYMBOL_MAX - length))
        rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
        power = draw(st.sampled_from([0, 1, 5, 60]))
        parts.append((offset, table(rng.random(length) ** power)))
    return make_tables(*parts)


@st.composite
def some_pass(draw):
    tables = draw(some_tables())
    number = len(tables.offsets)
    size = draw(st.integers(0, 40))
    symbol = st.sampled_from(EXTREMES) | st.integers(-6, 6) | st.integers(SYMBOL_MIN, SYMBOL_MAX)
    index = ints(draw(st.lists(st.integers(0, number - 1), min_size=size, max_size=size)))
    centre = ints(draw(st.lists(st.integers(-512, 511), min_size=size, max_size=size)))
    symbols = ints(draw(st.lists(symbol, min_size=size, max_size=size)))
    if draw(st.booleans()):  # Near the tables' values, as in use.
        symbols = np.clip(
            symbols % (tables.lengths[index] + 2) + tables.offsets[index] + centre, SYMBOL_MIN, SYMBOL_MAX
        ).astype(np.int32)
    return tables, index, centre, symbols


class TestRoundTrip:
    @settings(deadline=None, max_examples=150)
    @given(st.lists(some_pass(), min_size=1, max_size=4))
    def test_any_passes(self, passes):
        round_trip(passes)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.sampled_from(EXTREMES), max_size=60), st.integers(-512, 511))
    @example([SYMBOL_MIN], 511)
    @example([SYMBOL_MAX], -512)
    def test_escapes(self, symbols, centre):
        tables = make_tables((-1, table([1, 5, 1, 0])))
        symbols = ints(symbols)
        nothing = np.zeros_like(symbols)
        segment = round_trip([(tables, nothing, nothing + centre, symbols)])
        assert round_trip([(tables, nothing, nothing + centre, symbols)]) == segment

    @pytest.mark.parametrize("offset", [SYMBOL_MIN, SYMBOL_MAX - 3])
    def test_tables_at_the_ends_of_the_range(self, offset):
        tables = make_tables((offset, table([1, 2, 3])))
        symbols = np.arange(offset - 4, offset + 7, dtype=np.int32)
        symbols = symbols[(symbols >= SYMBOL_MIN) & (symbols <= SYMBOL_MAX)]
        for centre in (-512, 0, 511):
            round_trip([(tables, np.zeros_like(symbols), np.full_like(symbols, centre), symbols)])

    def test_certain_symbols_cost_nearly_nothing(self):
        tables = make_tables((0, np.array([TOTAL - 1, 1])))
        zeros = np.zeros(50_000, np.int32)
        assert len(round_trip([(tables, zeros, zeros, zeros)])) <= 8

    def test_many_tables(self):
        """More than 256 of them, each used once in an order that has nothing to do with their numbers."""
        rng = np.random.default_rng(3)
        tables = make_tables(*[(int(o), table(rng.random(5))) for o in rng.integers(-9, 9, 1000)])
        index = rng.permutation(1000).astype(np.int32)
        symbols = (tables.offsets[index] + rng.integers(0, 6, 1000)).astype(np.int32)
        round_trip([(tables, index, np.zeros_like(index), symbols)])

    def test_size_is_what_the_tables_say(self):
        """Within 64 bits: reported bits are bytes on disk."""
        rng = np.random.default_rng(4)
        tables = make_tables(
            (-30, table(np.exp(-np.abs(np.arange(61) - 30) / 3))), (-2, table([1, 9, 70, 9, 1]))
        )
        index = rng.integers(0, 2, 20_000).astype(np.int32)
        symbols = np.rint(rng.laplace(0, np.where(index == 0, 3, 0.4))).astype(np.int32)
        segment = round_trip([(tables, index, np.zeros_like(index), symbols)])
        entry = symbols - tables.offsets[index]
        escape = tables.lengths[index] - 1
        escaped = (entry < 0) | (entry >= escape)
        entry = np.where(escaped, escape, entry)
        bits = tables.bits[tables.starts[index] + entry].astype(np.float64).sum()
        assert escaped.any()
        # The coder's own probabilities differ from the counts by 2^-24 an entry.
        assert bits - 8 <= 8 * len(segment) <= bits * 1.001 + 64

    def test_medians(self):
        """At or below the median half of what is not escaped lies, below it less."""
        rng = np.random.default_rng(5)
        made = [(int(o), table(rng.random(n) ** 4)) for o, n in zip(range(-9, 9), range(2, 20), strict=True)]
        found = make_tables(*made).medians
        for (offset, counts), median in zip(made, found, strict=True):
            place, values = median - offset, counts[:-1]
            assert 2 * values[:place].sum() < values.sum() <= 2 * values[: place + 1].sum()

    def test_same_bytes_every_time(self):
        """Bytes that were written once; tests/data/golden has more."""
        tables = make_tables((-2, np.array([8000, 20000, 20000, 17000, 536])), (0, np.array([65535, 1])))
        index = ints([0, 1, 0, 0, 1, 0, 0, 0, 1])
        centre = ints([0, 0, 3, 0, -7, 511, -512, 0, 0])
        symbols = ints([-2, 0, 2, 1, -7, 32767, -32768, 0, 5])
        assert round_trip([(tables, index, centre, symbols)]).hex() == "3efd450da4ae7dcd9a107079"


class TestIndependentDecoder:
    """The decoder that was written from docs/FORMAT.md reads what we write, and notices the same damage."""

    @staticmethod
    def read(segment, passes):
        decoder = independent_decoder.RangeDecoder(segment)
        out = []
        for tables, index, centre, _ in passes:
            starts = tables.starts.tolist()
            choices = [
                independent_decoder.Table(
                    int(offset), independent_decoder.left_edges(tables.counts[a:b].tolist())
                )
                for offset, a, b in zip(tables.offsets, starts[:-1], starts[1:], strict=True)
            ]
            out.append(independent_decoder.decode_pass(decoder, choices, index.tolist(), centre.tolist()))
        decoder.finish()
        return out

    @settings(deadline=None, max_examples=50)
    @given(st.lists(some_pass(), min_size=1, max_size=3))
    def test_any_passes(self, passes):
        assert self.read(coded(passes), passes) == [part[3].tolist() for part in passes]

    @settings(deadline=None, max_examples=200)
    @given(some_pass(), st.binary(max_size=9), st.integers(0, 9))
    def test_any_bytes(self, part, more, cut):
        segment = coded([part])
        segment = segment[: len(segment) - cut] + more
        try:
            expected = self.read(segment, [part])
        except independent_decoder.RefusedError:
            with pytest.raises(FormatError):
                decoded(segment, [part])
        else:
            assert [symbols.tolist() for symbols in decoded(segment, [part])] == expected


def malformed():
    """Arguments of :class:`Tables`, each wrong in one way."""
    good = {"offsets": ints([-1, 0]), "lengths": ints([3, 2]), "counts": [30000, 30000, 5536, 65535, 1]}
    for name, change in {
        "sum too small": {"counts": [30000, 30000, 5535, 65535, 1]},
        "sum too large": {"counts": [30000, 30000, 5537, 65535, 1]},
        "sums only together": {"counts": [30000, 30000, 5535, 65535, 2]},
        "a count of zero": {"counts": [30000, 35536, 0, 65535, 1]},
        "a single entry": {"offsets": ints([0, 0, 0]), "lengths": ints([3, 1, 1])},
        "no entries": {"offsets": ints([0, 0, 0]), "lengths": ints([3, 2, 0])},
        "negative length": {"lengths": ints([7, -2])},
        "too long": {"lengths": ints([3, 3])},
        "too short": {"lengths": ints([3])},
        "more offsets than lengths": {"offsets": ints([0, 0, 0])},
        "none": {"offsets": ints([]), "lengths": ints([]), "counts": []},
        "offset too low": {"offsets": ints([-32769, 0])},
        "values too high": {"offsets": ints([32766, 0])},
        "two-dimensional": {"offsets": ints([-1, 0])[None]},
        "counts two-dimensional": {"counts": [[30000, 30000, 5536, 65535, 1]]},
    }.items():
        yield pytest.param({**good, **change}, id=name)


class TestMalformedTables:
    @pytest.mark.parametrize("arguments", list(malformed()))
    def test_refused(self, arguments):
        counts = np.array(arguments["counts"], np.uint16)
        with pytest.raises(ModelError):
            Tables(arguments["offsets"], arguments["lengths"], counts)

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("part", ["offsets", "lengths", "counts"])
    def test_other_types(self, name, part, tmp_path):
        """As a hostile model could have them. Either they are refused, or they are as good."""
        folder = copy_model(tmp_path / "model-1", name)
        original = read_info(folder).tables[f"first/{part}"]
        symbols = random_symbols(2, 3)
        expected = entropy_of(name).encode(symbols, 0)
        for kind in (np.float64, np.str_, np.int64, np.uint64, np.complex64):
            rewrite(folder, tables={f"first/{part}": original.astype(kind)})
            try:
                model = load_entropy_model(read_info(folder))
            except ModelError:
                continue
            assert model.encode(symbols, 0) == expected
            assert np.array_equal(model.decode(expected, 2, 3, 0), symbols)

    @pytest.mark.parametrize(
        ("name", "prefix"), [(CONTEXT, "first"), (CONTEXT, "bank"), (FACTORIZED, "first")]
    )
    def test_refused_when_a_model_is_loaded(self, name, prefix, tmp_path):
        folder = copy_model(tmp_path / "model-1", name)
        counts = read_info(folder).tables[f"{prefix}/counts"].copy()
        counts[0] ^= 1
        rewrite(folder, tables={f"{prefix}/counts": counts})
        with pytest.raises(ModelError, match="tables"):
            load_entropy_model(read_info(folder))
        with pytest.raises(ModelError):
            Codec(read_info(folder)).encode(np.zeros((3, 3, 3), np.uint8))

    @pytest.mark.parametrize("name", KINDS)
    def test_missing_parts(self, name, tmp_path):
        tables = dict(info_of(name).tables)
        for left_out in tables:
            if left_out in ("gain", "inverse_gain", "level_weights"):
                continue
            folder = copy_model(tmp_path / left_out.replace("/", "-"), name)
            stream = io.BytesIO()
            np.savez(stream, **{key: value for key, value in tables.items() if key != left_out})
            rewrite(folder, tables=stream.getvalue())
            with pytest.raises(ModelError):
                load_entropy_model(read_info(folder))


@pytest.mark.parametrize("name", KINDS)
class TestDamage:
    """The CRC finds damage; this is the second line. A range coder takes most bytes for *something*.

    Whatever decodes must then be what an encoder could have written: decoding another way, or with other
    bytes left over, is refused. About one in twenty cuts is a proper segment of other symbols in itself.
    """

    HEIGHT, WIDTH, LEVEL = 5, 6, 6

    def read(self, name, segment):
        """The symbols, or None if the segment is refused."""
        try:
            symbols = entropy_of(name).decode(segment, self.HEIGHT, self.WIDTH, self.LEVEL)
        except FormatError:
            return None
        assert symbols.shape == (self.HEIGHT, self.WIDTH, 24)
        assert symbols.dtype == np.int16
        return symbols

    def check(self, name, segments, original):
        """Returns how many were refused; the others stand for themselves."""
        refused = 0
        for segment in segments:
            symbols = self.read(name, segment)
            if symbols is None:
                refused += 1
            else:
                assert not np.array_equal(symbols, original)
        return refused

    def segment(self, name, seed=0):
        symbols = random_symbols(self.HEIGHT, self.WIDTH, seed)
        return symbols, entropy_of(name).encode(symbols, self.LEVEL)

    def test_every_cut(self, name):
        symbols, segment = self.segment(name)
        assert np.array_equal(self.read(name, segment), symbols)
        refused = self.check(name, [segment[:length] for length in range(len(segment))], symbols)
        assert refused >= 0.9 * len(segment)

    def test_extended(self, name):
        symbols, segment = self.segment(name)
        rng = np.random.default_rng(0)
        longer = [segment + bytes([value]) * count for value in (0, 1, 128, 255) for count in range(1, 13)]
        longer += [segment + rng.bytes(count) for count in range(1, 100)]
        assert self.check(name, longer, symbols) == len(longer)

    def test_changed_bytes(self, name):
        symbols, segment = self.segment(name)
        rng = np.random.default_rng(0)
        changed = []
        for place in range(len(segment)):
            flipped = bytearray(segment)
            flipped[place] ^= int(rng.integers(1, 256))
            changed.append(bytes(flipped))
        assert self.check(name, changed, symbols) >= 0.9 * len(changed)

    def test_garbage(self, name):
        symbols, _ = self.segment(name)
        rng = np.random.default_rng(0)
        garbage = [rng.bytes(int(size)) for size in rng.integers(0, 800, 300)]
        garbage += [bytes([value]) * size for value in (1, 127, 255) for size in (1, 4, 5, 64, 1000)]
        assert self.check(name, garbage, symbols) >= 0.9 * len(garbage)

    def test_trailing_zeros_belong_to_no_segment(self, name):
        for seed in range(20):
            symbols, segment = self.segment(name, seed)
            assert not segment.endswith(b"\0")
            assert self.read(name, segment + b"\0") is None
            assert np.array_equal(self.read(name, segment), symbols)

    def test_empty(self, name):
        """An empty segment decodes to something or not, but quickly, and never to a wrong shape."""
        self.read(name, b"")


class TestEmptySegment:
    def test_nothing_coded(self):
        assert Encoder().finish() == b""
        Decoder(b"").finish()
        with pytest.raises(FormatError):
            Decoder(b"\1").finish()

    def test_empty_pass(self):
        tables = make_tables((0, table([1, 1])))
        nothing = ints([])
        assert round_trip([(tables, nothing, nothing, nothing)]) == b""

    def test_symbols_that_need_no_bytes(self):
        """The lowest entry again and again leaves only zeros, which are trimmed."""
        tables = make_tables((0, table([1, 1])))
        few = np.zeros(3, np.int32)
        segment = round_trip([(tables, few, few, few)])
        assert len(segment) <= 4

    def test_all_lengths_of_trailing_zeros(self):
        """Segments that end within a word are padded on reading."""
        tables = make_tables((0, table([1] * 17)))
        rng = np.random.default_rng(0)
        lengths = set()
        for count in range(1, 200):
            symbols = rng.integers(0, 16, count).astype(np.int32)
            zeros = np.zeros_like(symbols)
            lengths.add(len(round_trip([(tables, zeros, zeros, symbols)])) % 4)
        assert 0 in lengths


def test_symbols_out_of_range_are_refused():
    """A hostile file can make a sum of table entry and centre that is no int16."""
    tables = make_tables((SYMBOL_MAX - 3, table([1, 1, 1])))
    one = np.zeros(1, np.int32)
    segment = coded([(tables, one, one, one + SYMBOL_MAX - 2)])
    decoder = Decoder(segment)
    with pytest.raises(FormatError, match="out of range"):
        decoder.get(tables, one, one + 511)


def test_no_panic_reaches_the_caller():
    """Whatever the Rust library raises on bytes that it does not like, we say FormatError."""
    tables = make_tables((0, table([1, 1])))
    for segment in (b"\xff" * 8, b"\xff" * 7, b"\xff" * 16, b"\xff\xff\xff\xff"):
        decoder = Decoder(segment)
        try:
            decoder.get(tables, np.zeros(200, np.int32), np.zeros(200, np.int32))
            decoder.finish()
        except FormatError:
            continue
        raise AssertionError("an encoder never writes this")
