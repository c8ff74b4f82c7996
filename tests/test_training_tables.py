"""Integer entropy tables: counts, densities, and what export builds of both."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from training_helpers import pictures, tiny

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf
from scipy.stats import logistic

from codec_cli.bitstream.context import FRACTIONS
from codec_cli.bitstream.entropy import TOTAL, Decoder, Encoder, Tables
from codec_cli.training import levels, model, prior, tables

MASSES = hnp.arrays(
    np.float64,
    st.one_of(st.integers(1, 40), st.integers(3000, 5000)),
    elements=st.one_of(st.just(0.0), st.floats(1e-300, 1e6)),
    fill=st.one_of(st.just(0.0), st.floats(1e-300, 1e6)),
)


# Scaling to integers


@settings(deadline=None)
@given(MASSES, st.floats(1e-12, 1e3))
@example(np.zeros(1), 1.0)
@example(np.zeros(4000), 1e-9)
@example(np.ones(4000), 1e-9)
@example(np.eye(1, 3001, 1500)[0], 1e-12)
@example(np.array([1.0]), 1e-12)
@example(np.full(65535, 1.0), 1.0)
@example(np.append(np.zeros(65000), 1e6), 1e-12)
@example(np.array([0.5, 0.5]), 1e-12)
@example(np.full(7, 1e300), 1e-12)
def test_integer_table(mass, escape):
    counts = tables.integer_table(mass, escape)
    assert counts.dtype == np.uint16
    assert len(counts) == len(mass) + 1
    assert counts.min() >= 1
    assert int(counts.sum(dtype=np.int64)) == TOTAL
    # Every entry but the largest, which takes up what rounding leaves, gets its share (at least 1).
    share = np.append(mass, escape)
    share = share / share.sum()
    rest = np.arange(len(counts)) != np.argmax(np.floor(share * TOTAL))
    if len(counts) < np.floor(share.max() * TOTAL):
        assert (np.abs(counts[rest] - np.maximum(1, share[rest] * TOTAL)) < 1 + 1e-6).all()


def test_integer_table_is_accurate_and_keeps_order():
    mass = np.exp(-np.abs(np.arange(-300, 301)) / 40)
    counts = tables.integer_table(mass, 1e-3 * mass.sum()).astype(float)
    share = np.append(mass, 1e-3 * mass.sum())
    share = share / share.sum()
    wasted = np.sum(share * np.log2(share * TOTAL / counts))
    assert 0 <= wasted < 2e-3
    assert (np.diff(counts[:300]) >= 0).all()


# Densities


@pytest.mark.parametrize("log2_scale", [-5, -2.25, 0, 3.5, 7.75])
@pytest.mark.parametrize("mean", [0, 0.125, 0.875, 0.5])
def test_logistic_mass(log2_scale, mean):
    mass = tables.logistic_mass(log2_scale, mean, 1500)
    assert mass.shape == (3001,)
    assert (mass >= 0).all()
    scale = 2.0**log2_scale
    outside = logistic.cdf(-1500.5, mean, scale) + logistic.sf(1500.5, mean, scale)
    assert mass.sum() + outside == pytest.approx(1, abs=1e-12)
    values = np.arange(-1500, 1501)
    # Above the mean the difference of the tails is the one that keeps its digits.
    below = logistic.cdf(values + 0.5, mean, scale) - logistic.cdf(values - 0.5, mean, scale)
    above = logistic.sf(values - 0.5, mean, scale) - logistic.sf(values + 0.5, mean, scale)
    expected = np.where(values > mean, above, below)
    np.testing.assert_allclose(mass, expected, rtol=1e-9, atol=1e-290)


def test_bank_densities_cover_all_scales_and_fractions():
    densities = tables.bank_densities(50)
    assert len(densities) == tables.SCALES * FRACTIONS
    np.testing.assert_array_equal(densities[0], tables.logistic_mass(-5, 0, 50))
    np.testing.assert_array_equal(densities[-1], tables.logistic_mass(7.75, 7 / 8, 50))
    index = 23 * FRACTIONS + 3
    np.testing.assert_array_equal(densities[index], tables.logistic_mass(-5 + 23 / 4, 3 / 8, 50))


@pytest.fixture(scope="module")
def trained_prior():
    """A configuration, parameters whose priors differ per level and channel, and its gains."""
    config = tiny("entropy.kind=factorized")
    params = model.init_params(config, pictures(6, 64))
    rng = np.random.default_rng(0)
    for name in params:
        if name.startswith(("prior/", "gain/")):
            params[name] = (params[name] + rng.normal(0, 0.1, params[name].shape)).astype(np.float32)
    return config, params, levels.gains(config, params)[0]


def test_prior_densities_at_trained_levels_are_the_priors_own(trained_prior):
    config, params, gains = trained_prior
    given_tensors = {name: tf.constant(value) for name, value in params.items()}
    centre = 400
    densities = tables.prior_densities(config, given_tensors, gains, 24, centre)
    assert len(densities) == 7
    assert all(len(level) == 24 for level in densities)
    built = prior.build_prior(given_tensors, (3, 24), config.entropy)
    values = np.arange(-centre, centre + 1, dtype=np.float32)
    own = built.prob(np.broadcast_to(values[:, None, None], (len(values), 3, 24))).numpy()
    for i, level in enumerate((0, 3, 6)):
        got = np.stack(densities[level], 1)
        # Float32 differences of a distribution function: good to its rounding.
        np.testing.assert_allclose(got, own[:, i], rtol=1e-3, atol=3e-7)


def test_prior_densities_between_trained_levels(trained_prior):
    config, params, gains = trained_prior
    given_tensors = {name: tf.constant(value) for name, value in params.items()}
    densities = tables.prior_densities(config, given_tensors, gains, 24, 1500)
    values = np.arange(-1500, 1501)
    widths = []
    for level in densities:
        for mass in level:
            assert mass.sum() == pytest.approx(1, abs=2e-3)
            assert (mass >= 0).all()
        spread = [np.sqrt(np.sum(m * values**2) - np.sum(m * values) ** 2) for m in level]
        widths.append(spread)
    # A symbol is as much wider as its level's gain is larger than that of the trained level nearby.
    for level, nearest in ((1, 0), (2, 3), (4, 3), (5, 6)):
        ratio = gains[level] / gains[nearest]
        wide = (np.array(widths[level]) > 4) & (np.array(widths[level]) < 150)
        assert wide.any()
        np.testing.assert_allclose((np.array(widths[level]) / widths[nearest])[wide], ratio[wide], rtol=0.03)


# Tables


def parts(built, i):
    """Values and probabilities of one table, without its escape; and the escape's probability."""
    counts = built.counts[built.starts[i] : built.starts[i + 1]] / TOTAL
    return built.offsets[i] + np.arange(len(counts) - 1), counts[:-1], counts[-1]


def histogram_of(symbols, centre):
    return np.bincount(symbols + centre, minlength=2 * centre + 1).astype(float)


def test_tables_follow_counts_and_densities():
    centre, rng = 600, np.random.default_rng(0)
    scales = [0.0, 1.0, 3.0, 6.0]
    densities = [tables.logistic_mass(scale, 0, centre) for scale in scales]
    symbols = [
        np.rint(logistic.rvs(0, 2.0**s, 50000, random_state=rng)).astype(int).clip(-centre, centre)
        for s in scales
    ]
    histograms = [histogram_of(values, centre) for values in symbols]
    built = tables.build(histograms, densities, centre)
    assert isinstance(built, Tables)
    for i, (values, density) in enumerate(zip(symbols, densities, strict=True)):
        entries, probabilities, _ = parts(built, i)
        inside = (values >= entries[0]) & (values <= entries[-1])
        assert inside.mean() > 0.999
        spent = -np.log2(probabilities[values[inside] - entries[0]]).mean()
        entropy = -np.sum(density[density > 0] * np.log2(density[density > 0]))
        assert spent < entropy + 0.02
    # Without any count, the density alone.
    empty = tables.build([np.zeros(2 * centre + 1)] * 4, densities, centre)
    for i, density in enumerate(densities):
        entries, probabilities, escape = parts(empty, i)
        rest = np.arange(len(entries)) != np.argmax(probabilities)  # It takes up what rounding leaves.
        np.testing.assert_allclose(
            probabilities[rest], density[entries + centre][rest], rtol=0.01, atol=1 / TOTAL
        )
        assert escape < 2e-3


def test_rare_counts_hardly_move_a_table():
    centre = 100
    density = tables.logistic_mass(1, 0, centre)
    before = tables.build([np.zeros(201)], [density], centre)
    after = tables.build([histogram_of(np.array([3]), centre)], [density], centre)
    entries, first, _ = parts(before, 0)
    others, second, _ = parts(after, 0)
    np.testing.assert_array_equal(entries, others)
    np.testing.assert_allclose(second[entries == 3], first[entries == 3] * 64 / 65 + 1 / 65, rtol=0.01)


@settings(deadline=None)
@given(st.data())
def test_every_table_is_well_formed(data):
    centre = data.draw(st.sampled_from([3, 50, 1500]), "centre")
    count = data.draw(st.integers(1, 4), "tables")
    histograms, densities = [], []
    for _ in range(count):
        places = data.draw(st.lists(st.tuples(st.integers(0, 2 * centre), st.integers(0, 10**7)), max_size=6))
        histogram = np.zeros(2 * centre + 1)
        for place, times in places:
            histogram[place] += times
        histograms.append(histogram)
        shape = data.draw(st.sampled_from(["logistic", "zero", "spike at the end", "flat", "outside"]))
        scale = data.draw(st.floats(-8, 8))
        density = tables.logistic_mass(scale, {"outside": 3.0 * centre}.get(shape, 0.0), centre)
        if shape in ("zero", "flat"):
            density = np.full(2 * centre + 1, 0.0 if shape == "zero" else 1 / (2 * centre + 1))
        if shape == "spike at the end":
            density = np.eye(1, 2 * centre + 1, 2 * centre)[0]
        densities.append(density)
    built = tables.build(histograms, densities, centre)  # Checks itself.
    for i in range(count):
        entries, _, escape = parts(built, i)
        assert entries[0] <= 0 <= entries[-1]
        assert len(entries) <= 2 * tables.LARGEST + 1
        assert escape > 0
    merged = tables.flat([built, built])
    assert Tables(merged["offsets"], merged["lengths"], merged["counts"]).counts.sum() == 2 * count * TOTAL
    assert {name: value.dtype for name, value in merged.items()} == {
        "offsets": np.int32,
        "lengths": np.int32,
        "counts": np.uint16,
    }


def test_what_a_table_leaves_out_is_escaped():
    centre = 1500
    density = tables.logistic_mass(7.75, 0, centre)
    built = tables.build([np.zeros(3001)], [density], centre)
    entries, _, escape = parts(built, 0)
    assert (entries[0], entries[-1]) == (-tables.LARGEST, tables.LARGEST)
    assert escape == pytest.approx(1 - density[centre - 700 : centre + 701].sum(), abs=0.01)
    symbols = np.array([0, 700, -700, 701, -1500, 32767, -32768], np.int32)
    index = np.zeros(len(symbols), np.int32)
    encoder = Encoder()
    encoder.put(built, index, index, symbols)
    decoder = Decoder(encoder.finish())
    np.testing.assert_array_equal(decoder.get(built, index, index), symbols)
    decoder.finish()
