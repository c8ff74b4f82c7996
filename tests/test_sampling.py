"""Pictures drawn from a model's prior."""

import numpy as np
import pytest
from helpers import CHANNELS, CONTEXT, FACTORIZED, KINDS, LEVELS, codec_of, copy_model, info_of, rewrite

from codec_cli.bitstream.entropy import TOTAL, Tables
from codec_cli.errors import LimitError
from codec_cli.loading import Loaded
from codec_cli.sampling import GAP, GAP_SHADE, draw, draw_plane, draw_samples, grid, sample
from codec_cli.zoo import read_info


def pictures(name, count, **more):
    return np.stack(list(sample(info_of(name), count, **more)))


# Symbols


def tables_of(*counts, offsets):
    lengths = np.array([len(each) for each in counts], np.int32)
    return Tables(np.array(offsets, np.int32), lengths, np.concatenate(counts).astype(np.uint16))


def test_symbols_have_the_probabilities_of_their_table():
    # The escape takes half of the second table.
    tables = tables_of([TOTAL - 1, 1], [TOTAL // 8, TOTAL // 8, TOTAL // 4, TOTAL // 2], offsets=[5, -1])
    index = np.tile(np.array([1, 0], np.int32), 20_000)
    symbols = draw(tables, index, np.zeros(len(index), np.int32), np.random.default_rng(1))
    assert symbols.dtype == np.int32
    assert set(symbols[1::2]) == {5}
    shares = [(symbols[::2] == value).mean() for value in (-1, 0, 1)]
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.02)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature(temperature):
    counts = np.array([TOTAL // 8, TOTAL // 8, TOTAL // 4, TOTAL // 2])
    tables = tables_of([TOTAL - 1, 1], counts, offsets=[5, -1])
    index = np.tile(np.array([1, 0], np.int32), 20_000)
    symbols = draw(tables, index, np.zeros(len(index), np.int32), np.random.default_rng(1), temperature)
    assert set(symbols[1::2]) == {5}
    expected = counts[:3] ** (1 / temperature)
    shares = [(symbols[::2] == value).mean() for value in (-1, 0, 1)]
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.02)


@pytest.mark.parametrize("name", KINDS)
def test_cold_pictures_are_the_likeliest(name):
    """Near zero every symbol is the likeliest one given those before: no chance is left."""
    cold = pictures(name, 2, seed=1, temperature=1e-3)
    np.testing.assert_array_equal(cold[0], cold[1])
    assert not np.array_equal(cold[0], pictures(name, 1, seed=1)[0])


@pytest.mark.parametrize("escape", [0, 1])
def test_the_ends_of_a_table(escape, monkeypatch):
    tables = tables_of([1, 2, TOTAL - 3], [3, 1, TOTAL - 4], offsets=[0, 10])
    index = np.array([0, 1], np.int32)

    class Extreme:
        def integers(self, low, high):
            return high - 1 if escape else np.zeros_like(high)

    symbols = draw(tables, index, np.array([100, -5], np.int32), Extreme())
    assert symbols.tolist() == ([101, 6] if escape else [100, 5])


def test_symbols_stay_in_range():
    tables = tables_of([TOTAL - 1, 1], offsets=[32_765])
    symbols = draw(
        tables, np.zeros(3, np.int32), np.array([0, 9, -70_000], np.int32), np.random.default_rng(0)
    )
    assert symbols.tolist() == [32_765, 32_767, -32_768]


@pytest.mark.parametrize("name", KINDS)
def test_planes_are_what_the_coder_codes_without_escapes(name):
    model = Loaded(info_of(name), 1)
    plane = draw_plane(model, 3, 5, 4, np.random.default_rng(2))
    assert plane.shape == (5, 4, CHANNELS)
    segment = model.entropy.encode(plane, 3)
    np.testing.assert_array_equal(model.entropy.decode(segment, 5, 4, 3), plane)
    # Drawn from the prior, symbols are cheap: far below the 16 bits of an escape.
    assert len(segment) * 8 < 4 * plane.size


# Pictures


@pytest.mark.parametrize("name", KINDS)
def test_the_same_seed_gives_the_same_pictures(name):
    first = pictures(name, 3, seed=5)
    assert first.shape == (3, 64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, pictures(name, 3, seed=5))
    np.testing.assert_array_equal(first[:2], pictures(name, 2, seed=5))
    assert not np.array_equal(first, pictures(name, 3, seed=6))
    assert not np.array_equal(first[0], first[1])


def test_samples_as_one_array():
    samples = draw_samples(codec_of(FACTORIZED), 2, level=1, seed=3, positions=2)
    np.testing.assert_array_equal(samples, pictures(FACTORIZED, 2, level=1, seed=3, positions=2))
    assert samples.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("positions", [1, 3])
def test_area(positions):
    assert pictures(FACTORIZED, 1, positions=positions).shape[1:3] == (16 * positions, 16 * positions)


def test_a_model_for_images_of_one_size(tmp_path):
    folder = copy_model(tmp_path / "small-1", FACTORIZED)
    rewrite(folder, facts={"size": 32})
    (picture,) = sample(read_info(folder), 1)
    assert picture.shape == (32, 32, 3)


def test_levels_differ():
    info = info_of(FACTORIZED)
    assert not np.array_equal(pictures(FACTORIZED, 1, level=0), pictures(FACTORIZED, 1, level=LEVELS - 1))
    default = pictures(FACTORIZED, 1, level=int(info.facts["default_level"]))
    np.testing.assert_array_equal(pictures(FACTORIZED, 1), default)


@pytest.mark.parametrize(
    "wrong", [{"level": -1}, {"level": LEVELS}, {"positions": 0}, {"positions": 65}, {"temperature": 0}]
)
def test_out_of_range(wrong):
    with pytest.raises(ValueError, match="must be"):
        pictures(CONTEXT, 1, **wrong)


# Grid


def test_grid():
    images = [np.full((2, 3, 1), shade, np.uint8) for shade in (10, 20, 30)]
    out = grid(images, columns=2, scale=2)
    assert out.shape == (3 * GAP + 8, 3 * GAP + 12, 1)
    for shade, (top, left) in zip((10, 20, 30), ((0, 0), (0, 1), (1, 0)), strict=True):
        y, x = GAP + top * (4 + GAP), GAP + left * (6 + GAP)
        assert (out[y : y + 4, x : x + 6] == shade).all()
    assert (out == GAP_SHADE).sum() == out.size - 3 * 24


@pytest.mark.parametrize(
    ("count", "columns", "shape"), [(1, None, (1, 1)), (5, None, (2, 3)), (9, None, (3, 3)), (3, 9, (1, 3))]
)
def test_columns(count, columns, shape):
    out = grid([np.zeros((4, 4, 3), np.uint8)] * count, columns)
    assert out.shape == (shape[0] * (4 + GAP) + GAP, shape[1] * (4 + GAP) + GAP, 3)


def test_a_grid_that_is_too_large():
    with pytest.raises(LimitError, match="lower the number or the scale"):
        grid([np.zeros((100, 100, 1), np.uint8)] * 64, scale=64)
