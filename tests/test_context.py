"""The context model: what it codes it decodes, and its arithmetic is exact in any order and any type."""

import dataclasses
import json

import independent_decoder
import numpy as np
import pytest
from helpers import (
    CHANNELS,
    CONTEXT,
    KINDS,
    LEVELS,
    MODELS,
    checksum,
    codec_of,
    copy_model,
    entropy_of,
    golden_file,
    golden_index,
    info_of,
    random_symbols,
    resealed,
    rewrite,
    texture,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_cli.bitstream import walk
from codec_cli.bitstream.container import parse
from codec_cli.bitstream.context import EXACT
from codec_cli.bitstream.walk import INPUT_CLIP, Walk
from codec_cli.codec import Codec
from codec_cli.errors import FormatError, ModelError
from codec_cli.loading import load_entropy_model
from codec_cli.zoo import read_info

SIZES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (1, 64),
    (64, 1),
    (2, 2),
    (3, 5),
    (7, 4),
    (13, 13),
    (31, 2),
    (63, 64),
    (64, 64),
]


def structured(what, height, width):
    """Symbols that are anything but random."""
    rows, columns, channels = np.indices((height, width, CHANNELS))
    planes = {
        "zero": np.zeros((height, width, CHANNELS)),
        "lowest": np.full((height, width, CHANNELS), -32768),
        "highest": np.full((height, width, CHANNELS), 32767),
        "alternating extremes": np.where((rows + columns + channels) % 2, 32767, -32768),
        "beyond the inputs' clip": np.where((rows + columns) % 2, 256, -300) + channels,
        "slope": 9 * rows - 7 * columns + channels,
        "one": (rows == height // 2) & (columns == width // 2) & (channels == 5),
    }
    return planes[what].astype(np.int16)


def walk_of(model, symbols, level):
    """All passes of a tile: (part, its symbols)."""
    walk = Walk(model, symbols.shape[0], symbols.shape[1], level)
    for part in walk:
        values = symbols[part.rows, part.columns, part.channels].astype(np.int32)
        yield part, values
        walk.fill(values)


@pytest.mark.parametrize("name", KINDS)
class TestRoundTrip:
    @pytest.mark.parametrize("size", SIZES)
    def test_sizes(self, name, size):
        for level in (0, 3, 6) if size[0] * size[1] < 1000 else (6,):
            symbols = random_symbols(*size, seed=level)
            segment = entropy_of(name).encode(symbols, level)
            decoded = entropy_of(name).decode(segment, *size, level)
            assert decoded.dtype == np.int16
            assert np.array_equal(decoded, symbols)

    @pytest.mark.parametrize(
        "what",
        ["zero", "lowest", "highest", "alternating extremes", "beyond the inputs' clip", "slope", "one"],
    )
    def test_structured(self, name, what):
        for size in ((1, 1), (5, 6), (16, 9)):
            symbols = structured(what, *size)
            for level in (0, 6):
                segment = entropy_of(name).encode(symbols, level)
                assert np.array_equal(entropy_of(name).decode(segment, *size, level), symbols)

    @settings(deadline=None, max_examples=40)
    @given(
        st.integers(1, 20),
        st.integers(1, 20),
        st.integers(0, LEVELS - 1),
        st.integers(0, 1 << 30),
        st.sampled_from([0.1, 1, 20, 400, 20000]),
    )
    def test_any(self, name, height, width, level, seed, spread):
        symbols = random_symbols(height, width, seed, spread)
        segment = entropy_of(name).encode(symbols, level)
        assert np.array_equal(entropy_of(name).decode(segment, height, width, level), symbols)

    @pytest.mark.parametrize("weight", [-1, 0, 0.3, 1e9])
    def test_optimised(self, name, weight):
        """The decoder does not know: any choice of symbols decodes to itself. At most one step off."""
        rng = np.random.default_rng(1)
        scaled = rng.laplace(0, 3, (9, 10, CHANNELS)).astype(np.float32)
        weights = np.full(CHANNELS, weight, np.float32)
        segment = entropy_of(name).encode_optimised(scaled, 4, weights)
        symbols = entropy_of(name).decode(segment, 9, 10, 4)
        plain = np.rint(scaled).astype(np.int16)
        assert np.abs(symbols.astype(int) - plain).max() <= 1
        assert entropy_of(name).encode(symbols, 4) == segment
        if weight == 0.3:
            assert len(segment) < len(entropy_of(name).encode(plain, 4))
            assert (symbols != plain).any()
        else:  # Plain rounding, or an error that nothing is worth.
            assert np.array_equal(symbols, plain)

    def test_optimised_extremes(self, name):
        scaled = np.array([-1e9, -32768.4, -32767.6, 0, 32766.7, 32767.4, 1e9, 255.5], np.float32)
        scaled = np.resize(scaled, (3, 4, CHANNELS))
        for weight in (0, 1e-9, 1):
            segment = entropy_of(name).encode_optimised(scaled, 2, np.full(CHANNELS, weight, np.float32))
            symbols = entropy_of(name).decode(segment, 3, 4, 2)
            plain = np.clip(np.rint(scaled), -32768, 32767)
            assert np.abs(symbols - plain).max() <= 1


class TestWhatIsSeen:
    """Of other symbols: only those that are decoded before, at most one position away, of the same tile."""

    HEIGHT, WIDTH = 5, 6

    def test_every_symbol_is_coded_once(self):
        count = np.zeros((self.HEIGHT, self.WIDTH, CHANNELS), int)
        symbols = random_symbols(self.HEIGHT, self.WIDTH)
        for part, values in walk_of(entropy_of(CONTEXT), symbols, 0):
            count[part.rows, part.columns, part.channels] += 1
            assert len(part.table) == len(part.centre) == values.size
        assert (count == 1).all()

    def test_causal_and_local(self):
        """Change one symbol: which later passes look at it, and where."""
        model = entropy_of(CONTEXT)
        symbols = random_symbols(self.HEIGHT, self.WIDTH)
        before = list(walk_of(model, symbols, 3))
        rng = np.random.default_rng(0)
        seen = 0
        for _ in range(60):
            row, column = rng.integers(self.HEIGHT), rng.integers(self.WIDTH)
            channel = rng.integers(CHANNELS)
            changed = symbols.copy()
            changed[row, column, channel] += 9
            passed = False
            for (old, values), (new, others) in zip(before, walk_of(model, changed, 3), strict=True):
                shape = values.shape
                differs = (old.table != new.table).reshape(shape) | (old.centre != new.centre).reshape(shape)
                far = (np.abs(old.rows - row) > 1) | (np.abs(old.columns - column) > 1)
                assert not differs[far].any()
                if not passed:  # Up to its own pass, which must not see it either.
                    assert not differs.any()
                passed = passed or not np.array_equal(values, others)
                seen += differs.sum()
            assert passed
        assert seen

    def test_the_factorized_pass_comes_first(self):
        parts = [part for part, _ in walk_of(entropy_of(CONTEXT), random_symbols(4, 4), 5)]
        assert parts[0].tables is entropy_of(CONTEXT).first[5]
        assert all(part.tables is entropy_of(CONTEXT).bank for part in parts[1:])
        assert [(part.channels.start, part.channels.stop) for part in parts] == [
            pair for pair in [(0, 4), (4, 12), (12, 24)] for _ in range(2)
        ]
        for part in parts:
            parity = set(((part.rows + part.columns) % 2).tolist())
            assert len(parity) == 1

    @pytest.mark.parametrize("name", KINDS)
    def test_tiles_are_independent(self, name):
        """A far change in the first tile leaves the second one's bytes alone, and each decodes on its own."""
        codec, info = codec_of(name), info_of(name)
        pixels = texture(40, 1100)
        other = pixels.copy()
        other[:, :900] = texture(40, 900, seed=1)
        first, second = (
            parse(codec.encode(image, 100), info.tile_pixels, 1 << 20).tiles for image in (pixels, other)
        )
        assert len(first) == len(second) == 2
        assert first[0] != second[0]
        assert first[1] == second[1]
        tiles = codec.symbols(codec.encode(pixels, 100))
        assert [tile.shape for tile in tiles] == [(3, 64, CHANNELS), (3, 5, CHANNELS)]
        for tile, segment in zip(tiles, first, strict=True):
            level = info.level_of_quality(100)
            assert entropy_of(name).encode(tile, level) == segment
            assert np.array_equal(entropy_of(name).decode(segment, *tile.shape[:2], level), tile)

    def test_levels_differ(self):
        """The level is an input of the network; a wrong one decodes to something else."""
        symbols = random_symbols(6, 6)
        segments = {entropy_of(CONTEXT).encode(symbols, level) for level in range(LEVELS)}
        assert len(segments) == LEVELS


class TestIndependentDecoder:
    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("what", ["random", "alternating extremes", "beyond the inputs' clip", "slope"])
    def test_reads_what_we_write(self, name, what):
        info = info_of(name)
        kinds = {
            "context": independent_decoder.ContextModel,
            "factorized": independent_decoder.FactorizedModel,
        }
        for level, (height, width) in enumerate([(1, 1), (1, 2), (3, 4), (5, 3)]):
            symbols = random_symbols(height, width) if what == "random" else structured(what, height, width)
            segment = entropy_of(name).encode(symbols, level)
            reader = kinds[info.kind](info.facts, info.tables, level)
            assert np.array_equal(reader.decode(segment, height, width), symbols)


def with_network(model, change):
    """The model with every network replaced by ``change(network)``."""
    return dataclasses.replace(model, networks={key: change(value) for key, value in model.networks.items()})


def with_layer(model, key, number, **parts):
    network = model.networks[key]
    layers = list(network.layers)
    layers[number] = dataclasses.replace(layers[number], **parts)
    return dataclasses.replace(
        model, networks={**model.networks, key: dataclasses.replace(network, layers=tuple(layers))}
    )


LAYERS = [(key, number) for key in entropy_of(CONTEXT).networks for number in range(3)]


class TestBounds:
    MODEL = entropy_of(CONTEXT)

    def test_shipped_model(self):
        self.MODEL.check_bounds()

    def test_installed_models(self):
        """Every context model that comes with the tool holds the bound that its export promised."""
        from codec_cli.zoo import installed_models_dir

        for description in sorted(installed_models_dir().glob("*/model.json")):
            info = read_info(description.parent)
            if info.kind == "context":
                load_entropy_model(info).check_bounds()

    @pytest.mark.parametrize(("key", "number"), LAYERS)
    def test_large_weight_refused(self, key, number):
        layer = self.MODEL.networks[key].layers[number]
        kernel = layer.kernel.copy()
        place = (len(kernel) // 2, 1)
        # Whatever the other weights do, 2^24 / (largest input) for one of them is too much, of either sign.
        for sign in (1, -1):
            kernel[place] = sign * (EXACT // 16)
            with pytest.raises(ModelError, match=r"2\^24"):
                with_layer(self.MODEL, key, number, kernel=kernel).check_bounds()

    @pytest.mark.parametrize(("key", "number"), LAYERS)
    def test_large_bias_refused_at_any_level(self, key, number):
        layer = self.MODEL.networks[key].layers[number]
        for level in (0, LEVELS - 1):
            bias = layer.bias.copy()
            bias[level, 0] = -EXACT
            with pytest.raises(ModelError, match=r"2\^24"):
                with_layer(self.MODEL, key, number, bias=bias).check_bounds()

    def test_the_bound_is_where_it_should_be(self):
        """One less than 2^24 is accepted, 2^24 refused; the bias counts."""
        key, number = (0, 1), 2
        layer = self.MODEL.networks[key].layers[number]
        kernel = np.zeros_like(layer.kernel)
        kernel[0, 0] = 60000
        bias = np.zeros_like(layer.bias)
        for extra, good in ((EXACT - 1 - 255 * 60000, True), (EXACT - 255 * 60000, False)):
            bias[2, 0] = extra
            changed = with_layer(self.MODEL, key, number, kernel=kernel, bias=bias)
            if good:
                changed.check_bounds()
            else:
                with pytest.raises(ModelError):
                    changed.check_bounds()

    def test_magnitudes_count(self):
        model = dataclasses.replace(self.MODEL, magnitude=self.MODEL.magnitude * np.float32(1 << 16))
        with pytest.raises(ModelError):
            model.check_bounds()

    @pytest.mark.parametrize("part", ["kernel", "bias"])
    def test_fractions_refused(self, part):
        layer = self.MODEL.networks[1, 1].layers[0]
        changed = getattr(layer, part).copy()
        changed[0, 0] += np.float32(0.5)
        with pytest.raises(ModelError, match="integers"):
            with_layer(self.MODEL, (1, 1), 0, **{part: changed}).check_bounds()

    @pytest.mark.parametrize("value", [0.3, 3])
    def test_scales_are_powers_of_two(self, value):
        scale = self.MODEL.networks[1, 1].layers[0].scale.copy()
        scale[3] = value
        with pytest.raises(ModelError, match="powers of two"):
            with_layer(self.MODEL, (1, 1), 0, scale=scale).check_bounds()

    @pytest.mark.parametrize(("key", "number"), LAYERS)
    def test_wrong_number_of_inputs(self, key, number):
        kernel = self.MODEL.networks[key].layers[number].kernel
        for changed in (kernel[:-1], np.concatenate([kernel, kernel[:1]])):
            with pytest.raises(ModelError):
                with_layer(self.MODEL, key, number, kernel=changed).check_bounds()

    def test_not_a_number(self):
        kernel = self.MODEL.networks[2, 0].layers[1].kernel.copy()
        kernel[0, 0] = np.nan
        with pytest.raises(ModelError):
            with_layer(self.MODEL, (2, 0), 1, kernel=kernel).check_bounds()

    def test_no_inputs_reach_the_bound(self):
        """The worst inputs that there are, output by output, in exact integers."""
        for (g, h), network in self.MODEL.networks.items():
            first = network.layers[0]
            limit = worst_inputs(self.MODEL, g, h)
            for layer, largest in ((first, limit), *((other, None) for other in network.layers[1:])):
                kernel, bias = layer.kernel.astype(np.int64), layer.bias.astype(np.int64)
                top = np.full(len(kernel), 255) if largest is None else largest
                reach = (np.abs(kernel) * top[:, None]).sum(0) + np.abs(bias).max(0)
                assert reach.max() < EXACT


def worst_inputs(model, g, h):
    """The largest magnitude of every input of a pass, by the definition of the inputs."""
    magnitude = int(model.magnitude.max())
    known = [limit for n in model.groups[:g] for limit in [INPUT_CLIP] * n + [magnitude] * n]
    own = [INPUT_CLIP] * model.groups[g] + [magnitude] * model.groups[g]
    return np.array(known * 9 + (own * 4 if h else []))


# Products of float32 integer matrices in other types and orders.


def in_int64(inputs, kernel):
    return inputs.astype(np.int64) @ kernel.astype(np.int64)


def in_int32(inputs, kernel):
    return inputs.astype(np.int32) @ kernel.astype(np.int32)


def in_float64(inputs, kernel):
    return inputs.astype(np.float64) @ kernel.astype(np.float64)


def shuffled(inputs, kernel):
    order = np.random.default_rng(0).permutation(len(kernel))
    return np.ascontiguousarray(inputs[:, order]) @ np.ascontiguousarray(kernel[order])


def one_by_one(inputs, kernel):
    """Each addition rounded to float32, in a random order."""
    total = np.zeros((len(inputs), kernel.shape[1]), np.float32)
    for i in np.random.default_rng(1).permutation(len(kernel)):
        total += inputs[:, i, None] * kernel[i]
    return total


def largest_first(inputs, kernel):
    """Positive products first, then negative ones: partial sums as large as they get, in float32."""
    products = np.sort(inputs[:, :, None] * kernel[None], axis=1)[:, ::-1]
    assert products.dtype == np.float32
    return np.cumsum(products, axis=1, dtype=np.float32)[:, -1] if len(kernel) else 0


def in_halves(inputs, kernel):
    """As a processor with several accumulators does it."""
    return sum(inputs[:, i::7] @ kernel[i::7] for i in range(7))


PRODUCTS = [in_int64, in_int32, in_float64, shuffled, one_by_one, largest_first, in_halves]


def other_arithmetic(product):
    """What ``Network`` does, with another product and, for whole numbers, an arithmetic shift."""

    def wrap(network):
        def evaluate(parts, chosen, level, scales):
            hidden = np.concatenate(list(parts), 1)[chosen]
            for number, layer in enumerate(network.layers):
                total = product(np.ascontiguousarray(hidden, np.float32), layer.kernel)
                shift = np.rint(-np.log2(layer.scale)).astype(np.int64)
                total = (total + layer.bias[level].astype(total.dtype)).astype(np.int64) >> shift
                hidden = np.clip(total, 0, 255) if number < 2 else total
            channels = hidden.shape[1] // 2
            mean, scale = hidden[:, :channels].clip(-4096, 4095), hidden[:, channels:].clip(0, scales - 1)
            centre, fraction = np.divmod(mean, 8)
            table = scale * 8 + fraction
            return table.astype(np.int32).reshape(-1), centre.astype(np.int32).reshape(-1)

        return evaluate

    return wrap


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.__name__)
class TestExactness:
    def test_networks(self, product):
        """Random inputs up to the limits, and the worst ones for every output."""
        model = entropy_of(CONTEXT)
        rng = np.random.default_rng(2)
        scales = len(model.bank.lengths) // 8
        for (g, h), network in model.networks.items():
            limit = worst_inputs(model, g, h)
            signs = np.sign(network.layers[0].kernel.T)
            inputs = np.concatenate(
                [
                    rng.integers(-limit, limit + 1, (200, len(limit))),
                    np.rint(rng.laplace(0, 2, (50, len(limit)))).clip(-limit, limit),
                    signs * limit,
                    -signs * limit,
                    np.zeros((1, len(limit))),
                ]
            ).astype(np.float32)
            parts, chosen = np.array_split(inputs, 3, axis=1), np.arange(len(inputs))
            for level in (0, 3, LEVELS - 1):
                expected = network(parts, chosen, level, scales)
                found = other_arithmetic(product)(network)([inputs], chosen, level, scales)
                for one, other in zip(expected, found, strict=True):
                    assert one.dtype == np.int32
                    assert np.array_equal(one, other)

    def test_golden_files(self, product):
        """Other arithmetic, the same symbols."""
        for name, entry in golden_index().items():
            if entry["model"] not in (CONTEXT, "photo-3") or name == "context-four-tiles":
                continue
            used = entry["model"]
            model = with_network(entropy_of(used), other_arithmetic(product))
            parsed = parse(golden_file(name), info_of(used).tile_pixels, 1 << 30)
            expected = codec_of(used).symbols(golden_file(name))
            tiles = [
                model.decode(segment, *tile.shape[:2], entry["level"])
                for segment, tile in zip(parsed.tiles, expected, strict=True)
            ]
            assert checksum(tiles) == entry["symbols"]


@pytest.mark.parametrize("size", [(1, 1), (16, 8), (13, 17), (64, 1), (33, 64), (64, 64)])
def test_any_number_of_threads_gives_the_same(size):
    """Each takes a share of the positions, of which small tiles have too few for all."""
    symbols = random_symbols(*size, seed=4)
    model = entropy_of(CONTEXT)
    expected = model.encode(symbols, 5)
    for threads in (2, 3, 16):
        other = dataclasses.replace(model, threads=threads)
        assert other.encode(symbols, 5) == expected
        assert np.array_equal(other.decode(expected, *size, 5), symbols)


def blas_threads():
    from threadpoolctl import threadpool_info

    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_threads_leave_the_product_library_as_it_was(monkeypatch):
    """While they share a pass it has one thread; also where two tiles overlap, the first one ending first."""
    model = dataclasses.replace(entropy_of(CONTEXT), threads=2)
    before, inside = blas_threads(), []
    share = Walk._share
    monkeypatch.setattr(Walk, "_share", lambda *given: (inside.append(blas_threads()), share(*given))[1])
    segment = model.encode(random_symbols(32, 32, seed=4), 5)
    with pytest.raises(FormatError):
        model.decode(segment[:-8], 32, 32, 5)
    assert inside
    assert all(set(threads) == {1} for threads in inside)
    assert blas_threads() == before
    limit = walk._single_threaded_blas
    limit.__enter__()
    limit.__enter__()
    limit.__exit__()
    assert set(blas_threads()) == {1}
    limit.__exit__()
    assert blas_threads() == before


def test_the_exactness_test_would_notice():
    """Sums beyond 2^24 do depend on the order, so the bound is what makes the tests above pass."""
    kernel = entropy_of(CONTEXT).networks[2, 1].layers[0].kernel * 4096 + 1
    inputs = np.random.default_rng(0).integers(-255, 256, (500, len(kernel))).astype(np.float32)
    exact = in_int64(inputs, kernel)
    assert np.abs(exact).max() > EXACT
    for product in (shuffled, one_by_one, largest_first, in_halves):
        assert not np.array_equal(product(inputs, kernel), exact)


class TestHostileModels:
    """Models whose parts do not fit together are refused, at the latest when they are used."""

    @pytest.mark.parametrize(
        "groups",
        [
            *(
                [],
                [24],
                [4, 8],
                [4, 8, 11],
                [4, 8, 13],
                [4, 8, 0, 12],
                [4, 8, -12],
                [0, 12, 12],
                [4, 8, 12, 4],
            ),
            *([4, 8, "12"], [4, 8, None], [4, 8, 12.5], [[4], [8], [12]], {"4": 8}, "4812", None, 24, True),
            *([10**9, 8, 12], [4, 8, 10**9], [4, 10**30, 12]),
        ],
        ids=str,
    )
    def test_groups(self, groups, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={"groups": groups})
        self.refused(folder)

    @pytest.mark.parametrize(
        ("array", "change"),
        [
            ("pass-1-0/layer0/kernel", lambda a: a[:-1]),
            ("pass-1-0/layer1/kernel", lambda a: a.reshape(-1)),
            ("pass-1-0/layer2/kernel", lambda a: a[:, :-1]),
            ("pass-1-0/layer2/kernel", lambda a: a[:, :2]),
            ("pass-2-1/layer0/bias", lambda a: a[:1]),
            ("pass-2-1/layer0/bias", lambda a: a[:, :3]),
            ("pass-2-1/layer2/bias", lambda a: a[0]),
            ("pass-2-1/layer1/shift", lambda a: a[:5]),
            ("magnitude", lambda a: a[:20]),
            ("magnitude", lambda a: a[:, None]),
            ("bank/offsets", lambda a: a[:-1]),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_shapes(self, array, change, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables={array: change(read_info(folder).tables[array])})
        self.refused(folder)

    @pytest.mark.parametrize("count", [3, 5, 8])
    def test_small_banks(self, count, tmp_path):
        """Fewer than a table for each fraction is no bank; a whole scale is."""
        folder = copy_model(tmp_path / "model-1")
        tables = read_info(folder).tables
        lengths = tables["bank/lengths"][:count]
        cut = {"offsets": tables["bank/offsets"][:count], "lengths": lengths}
        cut["counts"] = tables["bank/counts"][: lengths.sum()]
        rewrite(folder, tables={f"bank/{part}": value for part, value in cut.items()})
        if count == 8:
            self.works(folder)
        else:
            self.refused(folder)

    @staticmethod
    def works(folder):
        codec = Codec(read_info(folder), models_dir=MODELS)
        assert codec.decode(codec.encode(texture(40, 50), 100)).shape == (40, 50, 3)

    @staticmethod
    def refused(folder):
        """Neither encodes nor decodes."""
        with pytest.raises(ModelError):
            Codec(read_info(folder), models_dir=MODELS).encode(texture(40, 50), 100)
        data = codec_of(CONTEXT).encode(texture(40, 50), 100)
        mark = bytes.fromhex(json.loads((folder / "model.json").read_text())["fingerprint"])[:4]
        with pytest.raises(ModelError):
            Codec(read_info(folder), models_dir=MODELS).decode(resealed(data[:3] + mark + data[7:]))
