"""The integer networks that export makes of trained float ones: how close, and how surely exact."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_helpers import MODELS, one_line, picture, tiny

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.bitstream.context import ACTIVATION_MAX, EXACT, MEAN_MAX, Layer
from codec_cli.bitstream.walk import FRACTIONS, INPUT_CLIP, Walk
from codec_cli.errors import ModelError, TrainingError
from codec_cli.loading import load_entropy_model
from codec_cli.training import context, integer, levels, networks, tables
from codec_cli.training.config import Config
from codec_cli.zoo import ModelInfo, read_info

MODEL = MODELS / "tiny-1"


@pytest.fixture(scope="module")
def trained():
    """The frozen tiny model's configuration and weights."""
    facts = json.loads((MODEL / "model.json").read_text())
    with np.load(MODEL / "weights.npz") as archive:
        return Config.model_validate(facts["config"]), {
            name: archive[name].astype(np.float32) for name in archive.files
        }


@pytest.fixture(scope="module")
def quantized(trained):
    """The run-time's model with networks made of the weights above."""
    info = read_info(MODEL)
    other = ModelInfo(info.name, info.path, info.facts)
    other.__dict__["tables"] = {**info.tables, **integer.quantize_networks(*trained)}
    return load_entropy_model(other)


@pytest.fixture(scope="module")
def symbols(trained):
    """Symbols of a picture at every usable level, int (level, height, width, channel)."""
    config, params = trained
    image = tf.constant(picture(5, 320, 256)[None], tf.float32) / 255
    constants = {name: tf.constant(value) for name, value in params.items()}
    latents = networks.analysis(constants, config.transforms, image).numpy()[0]
    return np.rint(latents * levels.gains(config, params)[0][:, None, None, :]).astype(np.int16)


def float_network(trained, coded, level):
    """Yields (group, half, mean, log2 scale) of every pass by the network of training."""
    config, params = trained
    constants = {name: tf.constant(value) for name, value in params.items()}
    starts = np.concatenate([[0], np.cumsum(config.entropy.context.groups)])
    known_symbols = tf.constant(coded[None], tf.float32)
    even = context.checkerboard(*coded.shape[:2])
    share = tf.constant(levels.hat_weights(config)[level][None])
    for g, h in context.passes(config):
        known = [context.features(known_symbols[..., : starts[g]])] if g else []
        if h:
            known.append(context.features(known_symbols[..., starts[g] : starts[g + 1]] * even))
        mean, scale = context.network(constants, f"context/pass-{g}-{h}", tf.concat(known, -1), share)
        yield g, h, mean.numpy()[0], scale.numpy()[0]


def integer_network(model, coded, level):
    """Yields (group, half, rows, columns, mean in eighths, scale index) of every pass at run-time."""
    walk = Walk(model, coded.shape[0], coded.shape[1], level)
    group = -1
    for rows, columns, channels, used, table, centre in walk:
        half = int((rows[0] + columns[0]) % 2)
        group += 1 - half
        values = coded[rows, columns, channels].astype(np.int32)
        if used is model.bank:
            shape = values.shape
            mean = (centre * FRACTIONS + table % FRACTIONS).reshape(shape)
            yield group, half, rows, columns, mean, (table // FRACTIONS).reshape(shape)
        walk.fill(values)


@pytest.mark.parametrize("level", range(7))
def test_integer_networks_agree_with_float_networks(trained, quantized, symbols, level):
    coded = symbols[level]
    assert np.abs(coded).max() > (2 if level < 2 else 8)
    close = total = 0
    exact_means = []
    pairs = zip(float_network(trained, coded, level), integer_network(quantized, coded, level), strict=True)
    for (g, h, mean, log2_scale), (group, half, rows, columns, whole, index) in pairs:
        assert (g, h) == (group, half)
        wanted = (log2_scale[rows, columns] - tables.SCALE_FIRST) * tables.SCALE_STEPS
        wanted = np.clip(np.floor(wanted + 0.5), 0, tables.SCALES - 1)
        mean = np.clip(mean[rows, columns], -MEAN_MAX / FRACTIONS, (MEAN_MAX - 1) / FRACTIONS)
        good = (np.abs(mean - whole / FRACTIONS) <= 1 / 8) & (np.abs(wanted - index) <= 1)
        close += good.sum()
        total += good.size
        exact_means.append(np.abs(mean - whole / FRACTIONS) <= 1 / 16 + 1e-6)
    assert total == coded.size - quantized.groups[0] * ((coded.shape[0] * coded.shape[1] + 1) // 2)
    assert close / total >= 0.99
    # Most means are even rounded to the nearest step.
    assert np.mean(np.concatenate([part.ravel() for part in exact_means])) > 0.8


def test_quantization_costs_little(trained, quantized, symbols):
    """Bits under the run-time's own tables, against the float networks' continuous densities."""
    spent = least = 0.0
    bank_bits = 16 - np.log2(quantized.bank.counts.astype(float))
    for level in (1, 3, 6):
        coded = symbols[level]
        floats = float_network(trained, coded, level)
        for (g, _, mean, scale), (_, _, rows, columns, whole, index) in zip(
            floats, integer_network(quantized, coded, level), strict=True
        ):
            begin = sum(quantized.groups[:g])
            values = coded[rows, columns, begin : begin + quantized.groups[g]].astype(float)
            table = index * FRACTIONS + whole % FRACTIONS
            entry = values - whole // FRACTIONS - quantized.bank.offsets[table]
            escape = quantized.bank.lengths[table] - 1
            inside = (entry >= 0) & (entry < escape)
            place = quantized.bank.starts[table] + np.where(inside, entry, escape).astype(int)
            spent += float(np.sum(bank_bits[place] + 16 * ~inside))
            bits = context.logistic_bits(
                *(tf.constant(x, tf.float32) for x in (values, mean[rows, columns], scale[rows, columns]))
            )
            least += float(np.sum(np.minimum(bits.numpy(), 40)))
    assert spent < 1.03 * least


def test_exported_networks_are_those_of_the_weights(trained):
    """The frozen model's own integers, from before its weights were rounded to fp16 for fine-tuning."""
    own, again = read_info(MODEL).tables, integer.quantize_networks(*trained)
    assert {name for name in own if name.startswith("pass-")} == set(again)
    for name, value in again.items():
        assert value.dtype == own[name].dtype
        assert value.shape == own[name].shape
        if not name.endswith("shift"):
            shift = f"{name.rpartition('/')[0]}/shift"
            real = [arrays[name] * 2.0 ** -arrays[shift].astype(float) for arrays in (own, again)]
            step = 2.0 ** -np.minimum(own[shift], again[shift]).astype(float)
            # What fp16 makes of a scale's bias of 5 octaves, in quarter octaves.
            slack = 0.02 if name.endswith("layer2/bias") else 0
            assert (np.abs(real[0] - real[1]) <= 2 * step + 1e-3 * np.abs(real[0]) + slack).all()
    np.testing.assert_array_equal(own["magnitude"], integer.magnitude_table())


def test_magnitude_table():
    table = integer.magnitude_table()
    assert table.dtype == np.int32
    assert table.tolist() == [round(16 * np.log2(1 + n)) for n in range(256)]
    # In steps, what the network of training sees as float.
    floats = context.features(tf.reshape(tf.range(256.0), (1, 1, 256, 1))).numpy()[0, 0]
    np.testing.assert_allclose(table / context.MAGNITUDE_UNIT, floats[:, 1], atol=0.5 / 16 + 1e-5)
    np.testing.assert_allclose(np.arange(256) / context.SYMBOL_UNIT, floats[:, 0])


def test_units_of_training_are_those_of_the_run_time():
    assert context.INPUT_CLIP == INPUT_CLIP
    assert context.ACTIVATION_MAX == ACTIVATION_MAX
    assert tables.SCALE_FIRST + tables.SCALES / tables.SCALE_STEPS == context.LOG2_SCALE_MAX


# Bounds


def test_bounds_are_proven(quantized):
    quantized.check_bounds()


def test_outgrown_weights_fail_the_proof(trained, quantized):
    for (g, h), network in quantized.networks.items():
        kernel = network.layers[0].kernel.copy()
        kernel[:] = 32767
        grown = Layer(kernel, network.layers[0].bias, network.layers[0].scale)
        with pytest.raises(ModelError, match=r"beyond 2\^24"):
            grown.check_bound(np.full(len(kernel), 255.0), f"pass-{g}-{h}")


@pytest.mark.parametrize("part", ["layer0/kernel", "layer1/bias", "layer2/kernel"])
def test_weights_that_are_too_large_are_refused(trained, part):
    config, params = trained
    name = f"context/pass-1-0/{part}"
    with pytest.raises(TrainingError, match="weights too large for exact integer evaluation") as error:
        integer.quantize_networks(config, {**params, name: params[name] * 1e6 + 1e6})
    assert one_line(error).startswith(f"pass-1-0/{part.partition('/')[0]}: ")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_layers_are_exact_at_their_largest_sums(data):
    inputs, outputs = data.draw(st.integers(1, 300), "inputs"), data.draw(st.integers(1, 4), "outputs")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))
    size = 2.0 ** data.draw(st.floats(-20, 6), "log2 size")
    kernel = rng.normal(0, size, (inputs, outputs))
    bias = rng.normal(0, size * 50, (2, outputs))
    largest = rng.choice([127.0, 255.0], inputs)
    try:
        made = integer.quantize_layer(kernel, bias, largest, "layer")
    except TrainingError:
        assert (largest @ np.abs(np.rint(kernel)) + np.abs(np.rint(bias + 0.5)).max(0)).max() >= EXACT
        return
    assert [made[name].dtype for name in ("kernel", "bias", "shift")] == [np.int16, np.int32, np.int8]
    assert ((made["shift"] >= 0) & (made["shift"] <= integer.MAX_SHIFT)).all()
    layer = Layer(
        made["kernel"].astype(np.float32),
        made["bias"].astype(np.float32),
        np.exp2(-made["shift"].astype(np.float32)),
    )
    layer.check_bound(largest, "layer")
    # The worst inputs there are, for every output and both signs, and some others.
    worst = np.concatenate([np.sign(kernel.T) * largest, -np.sign(kernel.T) * largest])
    some = np.rint(rng.uniform(-1, 1, (20, inputs)) * largest)
    values = np.concatenate([worst, some]).astype(np.float32)
    for level in (0, 1):
        sums = values.astype(np.int64) @ made["kernel"].astype(np.int64) + made["bias"][level].astype(
            np.int64
        )
        exact = sums >> made["shift"].astype(np.int64)
        order = rng.permutation(inputs)
        shuffled = Layer(layer.kernel[order], layer.bias, layer.scale)
        np.testing.assert_array_equal(layer(values, level), exact)
        np.testing.assert_array_equal(shuffled(np.ascontiguousarray(values[:, order]), level), exact)
        # As near to the real numbers as 16-bit weights allow.
        real = values.astype(float) @ kernel + bias[level]
        slack = (largest.sum() / 2 + 1) * 2.0 ** -made["shift"].astype(float) + 0.5
        assert (np.abs(exact - real) <= slack + 1e-6 * np.abs(real)).all()


def test_optimised_symbols_are_the_cheaper_ones(trained, symbols):
    """Every symbol, given those that its context sees: the rule of the encoder, with the float networks."""
    config, params = trained
    constants = {name: tf.constant(value) for name, value in params.items()}
    rng = np.random.default_rng(3)
    usable = range(0, config.levels.usable, config.levels.between + 1)
    wanted = (symbols[usable] + rng.uniform(-0.5, 0.5, symbols[usable].shape)).astype(np.float32)
    worth = rng.uniform(0.5, 8, (len(usable), wanted.shape[-1])).astype(np.float32)
    found, bits = context.optimised(constants, config, tf.constant(wanted[None]), tf.constant(worth))
    # Of several crops a level, each is coded by itself.
    several = np.stack([wanted[:, ::-1], wanted])
    both, both_bits = context.optimised(constants, config, tf.constant(several), tf.constant(worth))
    np.testing.assert_array_equal(both[1], found[0])
    np.testing.assert_allclose(both_bits[1], bits[0], rtol=1e-5)
    assert not np.array_equal(both[0], both[1])
    starts = np.concatenate([[0], np.cumsum(config.entropy.context.groups)])
    moved = 0
    for i, level in enumerate(usable):
        chosen = found[0, i].numpy()
        for g, h, mean, log2_scale in float_network(trained, chosen, level):
            part = slice(starts[g], starts[g + 1])
            plain = np.rint(wanted[i, :, :, part])
            other = plain - np.sign(plain - np.rint(mean))
            cost = [
                context.logistic_bits(value, mean, np.clip(log2_scale, -8, 8)).numpy()
                + worth[i, part] * np.square(wanted[i, :, :, part] - value)
                for value in (plain, other)
            ]
            here = (np.add(*np.indices(plain.shape[:2])) % 2 == h)[:, :, None] & (
                np.abs(cost[0] - cost[1]) > 1e-3
            )
            cheaper = np.where(cost[1] < cost[0], other, plain)
            np.testing.assert_array_equal(chosen[..., part][here], cheaper[here])
            moved += (cheaper != plain)[here].sum()
    assert moved > 200


def test_an_error_that_is_worth_everything_gives_plain_rounding(trained, symbols):
    config, params = trained
    constants = {name: tf.constant(value) for name, value in params.items()}
    count, level = len(config.levels.lambdas), 3
    scaled = tf.constant(np.repeat(symbols[level][None, None], count, 1) + np.float32(0.3))
    worth = tf.fill((count, scaled.shape[-1]), 1e9)
    found, bits = context.optimised(constants, config, scaled, worth)
    np.testing.assert_array_equal(found, tf.round(scaled))
    np.testing.assert_allclose(bits, context.rate_bits(constants, config, found, found), rtol=1e-4)


def test_the_finest_shift_that_fits_is_taken():
    kernel = np.array([[1.0, 1000.0, 3e-6]])
    made = integer.quantize_layer(kernel, np.zeros((1, 3)), np.array([255.0]), "layer")
    assert made["kernel"].tolist() == [[16384, 32000, 1]]
    assert made["shift"].tolist() == [14, 5, 18]


def test_only_what_is_decoded_has_rows():
    config = tiny()
    shapes = {
        name.removesuffix("/layer0/kernel"): value.shape
        for name, value in read_info(MODEL).tables.items()
        if name.endswith("/layer0/kernel")
    }
    groups = config.entropy.context.groups
    for g, h in context.passes(config):
        rows = 9 * 2 * sum(groups[:g]) + (4 * 2 * groups[g] if h else 0)
        assert shapes[f"pass-{g}-{h}"] == (rows, 16)
