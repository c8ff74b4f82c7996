"""The model in training: transforms, priors, contexts, the loss and the train step."""

import math

import numpy as np
import pytest
from training_helpers import SMALL, picture, pictures, tiny

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf
import tensorflow_compression as tfc

from codec_cli.training import context, levels, loop, model, networks, prior, schedule, step
from codec_cli.training.config import Entropy

KINDS = ("factorized", "context")
EXACT = "run.precision=float32"


@pytest.fixture(scope="module")
def patches():
    return pictures(24, 96)


@pytest.fixture(scope="module")
def params(patches):
    """Initial parameters of the tiny context model."""
    return model.init_params(tiny(), patches)


def tensors(arrays):
    return {name: tf.constant(value) for name, value in arrays.items()}


def batch_of(config, patches, seed=0):
    """Images and noise of one step."""
    rng = np.random.default_rng(seed)
    crop, count = config.data.crop, config.data.batch
    side = crop // config.transforms.stride
    noise = rng.uniform(-0.5, 0.5, (count, side, side, config.transforms.latent_channels))
    return tf.constant(patches[:count, :crop, :crop]), tf.constant(noise, tf.float32)


def steering(config, number=0):
    return {name: tf.constant(value) for name, value in schedule.scalars(config.model_dump(), number).items()}


# The linear path


def test_pca_is_orthonormal_and_sorted(patches):
    basis, deviation = model.block_pca(patches, 16, 768)
    np.testing.assert_allclose(basis.T @ basis, np.eye(768), atol=1e-5)
    assert (np.diff(deviation) <= 1e-7).all()
    few, first = model.block_pca(patches, 16, 24)
    np.testing.assert_array_equal(few, basis[:, :24])
    np.testing.assert_array_equal(first, deviation[:24])


def test_pca_describes_the_latents_of_the_linear_path(patches):
    basis, deviation = model.block_pca(patches, 16, 24)
    blocks = tf.nn.space_to_depth(tf.constant(patches, tf.float32) / 255 - 0.5, 16).numpy()
    latents = blocks.reshape(-1, 768) @ basis
    np.testing.assert_allclose(np.sqrt(np.mean(latents**2, 0)), deviation, rtol=1e-3, atol=1e-6)
    moment = latents.T @ latents / len(latents)
    np.testing.assert_allclose(moment - np.diag(np.diag(moment)), 0, atol=1e-3 * moment.max())


def test_the_linear_path_alone_reconstructs_with_all_components(patches):
    config = tiny("transforms.latent_channels=768", "entropy.kind=factorized")
    arrays = model.init_params(config, patches)
    images = tf.constant(np.stack([picture(77, 64, 48), picture(78, 64, 48)]), tf.float32) / 255
    shares = tf.constant([[1.0, 0, 0], [0, 0.5, 0.5]])

    def round_trip(given):
        latents = networks.analysis(given, config.transforms, images)
        assert latents.shape == (2, 3, 4, 768)
        return networks.synthesis(given, config.transforms, latents, shares)

    # At the start the branches hardly matter ...
    error = tf.reduce_mean(tf.square(round_trip(tensors(arrays)) - images)).numpy()
    assert 10 * math.log10(1 / error) > 30
    # ... and without them the round trip is exact.
    for name in ("analysis/out/kernel", "synthesis/out/kernel"):
        arrays[name] = np.zeros_like(arrays[name])
    np.testing.assert_allclose(round_trip(tensors(arrays)), images, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_initial_gains_are_the_optimum_of_a_uniform_quantiser(channels):
    config = tiny(f"transforms.channels={channels}")
    arrays = model.init_params(config, pictures(4, 64, channels))
    np.testing.assert_allclose(arrays["gain/forward"], -arrays["gain/inverse"])
    size = 255 / np.exp(arrays["gain/forward"][:, 0].astype(float))
    # High-rate theory: bits fall by log2 of the step in each channel, distortion grows as step^2 / 12.
    for lam, at in zip(config.levels.lambdas, size, strict=True):

        def cost(scale, lam=lam):
            return -channels * np.log2(scale) + lam * scale**2 / 12

        assert cost(at) < min(cost(at * 1.05), cost(at / 1.05))


# Transforms


def receptive_field(function, shape, position):
    """Largest distance (rows, columns) from ``position`` at which the input has influence."""
    inputs = tf.constant(np.random.default_rng(3).normal(0, 1, shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = function(inputs)[position]
    gradient = np.abs(tape.gradient(out, inputs).numpy()[0]).max(-1)
    return np.argwhere(gradient > 1e-7 * gradient.max())


@pytest.mark.parametrize(
    "change",
    [
        [],
        ["transforms.analysis.0.blocks=2", "transforms.synthesis.1.blocks=2"],
        ["transforms.analysis.1.blocks=0", "transforms.synthesis.0.blocks=0"],
        [
            'transforms.analysis=[{"stride":4,"width":8,"blocks":1},{"stride":2,"width":8,"blocks":2},'
            '{"stride":2,"width":8,"blocks":1}]',
            'transforms.synthesis=[{"stride":2,"width":8,"blocks":3},{"stride":8,"width":8,"blocks":1}]',
        ],
    ],
    ids=["tiny", "deeper", "shallow", "three stages"],
)
def test_halo_covers_the_receptive_field(change, patches):
    config = tiny("entropy.kind=factorized", *change)
    transforms = config.transforms
    rng = np.random.default_rng(1)
    given = {
        name: tf.constant(rng.normal(0, 0.3, value.shape), tf.float32)
        for name, value in model.init_params(config, patches[:4]).items()
    }
    analysis_halo, synthesis_halo = networks.halo(transforms)
    side, middle, stride = 15, 7, transforms.stride
    places = receptive_field(
        lambda x: tf.reduce_sum(networks.analysis(given, transforms, x), -1),
        (1, side * stride, side * stride, 3),
        (0, middle, middle),
    )
    assert np.abs(places // stride - middle).max() in (analysis_halo, analysis_halo - 1)

    # The corners of a block of pixels reach furthest.
    reach = 0
    for corner in (middle * stride, middle * stride + stride - 1):
        places = receptive_field(
            lambda x: tf.reduce_sum(
                networks.synthesis(given, transforms, x, tf.constant([[0.3, 0.3, 0.4]])), -1
            ),
            (1, side, side, 24),
            (0, corner, corner),
        )
        reach = max(reach, np.abs(places - middle).max())
    assert reach in (synthesis_halo, synthesis_halo - 1)


def test_macs_per_pixel_by_hand(params):
    config = tiny().transforms
    fine, coarse = 4**2, 16**2
    analysis = (
        (9 * 48 * 12 + 2 * 9 * 12 * 12) / fine
        + (12 * 16 * 24 + 2 * 9 * 24 * 24 + 9 * 24 * 24) / coarse
        + 768 * 24 / coarse
    )
    synthesis = (
        (24 * 24 + 2 * 9 * 24 * 24 + 24 * (12 * 16)) / coarse
        + (12 * 12 + 2 * 9 * 12 * 12 + 9 * 12 * 48) / fine
        + 24 * 768 / coarse
    )
    macs = networks.macs_per_pixel(params, config)
    assert macs == pytest.approx({"analysis": analysis, "synthesis": synthesis})


def test_transforms_run_at_any_multiple_of_the_stride(params):
    config, given = tiny().transforms, tensors(params)
    for height, width in ((1, 1), (1, 5), (6, 2)):
        latents = networks.analysis(given, config, tf.zeros((1, 16 * height, 16 * width, 3)))
        assert latents.shape == (1, height, width, 24)
        image = networks.synthesis(given, config, latents, tf.constant([[1.0, 0, 0]]))
        assert image.shape == (1, 16 * height, 16 * width, 3)


def test_bfloat16_stays_near_float32(params, patches):
    config, given = tiny().transforms, tensors(params)
    image = tf.constant(patches[:2], tf.float32) / 255
    exact = networks.analysis(given, config, image)
    short = networks.analysis(given, config, image, tf.bfloat16)
    assert short.dtype == tf.float32
    np.testing.assert_allclose(short, exact, atol=0.02)


# Levels


def test_level_weights():
    weights = model.level_weights(tiny())
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], [1, 10**-0.5, 0.1], rtol=1e-5)
    np.testing.assert_array_equal(model.level_weights(tiny("levels.weight_power=0")), 1)


def test_usable_levels_interpolate_gains_geometrically(params):
    config = tiny()
    hats = levels.hat_weights(config)
    assert hats.shape == (7, 3)
    np.testing.assert_allclose(hats.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(hats[[0, 3, 6]], np.eye(3))
    forward, inverse = levels.gains(config, params)
    assert forward.shape == inverse.shape == (7, 24)
    trained = np.exp(params["gain/forward"].astype(float))
    np.testing.assert_allclose(forward[[0, 3, 6]], trained, rtol=1e-6)
    np.testing.assert_allclose(forward[1], trained[0] ** (2 / 3) * trained[1] ** (1 / 3), rtol=1e-6)
    assert (np.diff(forward, axis=0) > 0).all()
    np.testing.assert_allclose(forward * inverse, 1, rtol=1e-5)


def test_one_level():
    config = tiny("levels.lambdas=[0.02]", "data.batch=2", EXACT)
    np.testing.assert_array_equal(levels.hat_weights(config), [[1]])
    arrays = model.init_params(config, pictures(4, 64))
    loss, metrics = model.forward(tensors(arrays), config, *batch_of(config, pictures(2, 64)), 0.0)
    assert np.isfinite(loss)
    assert metrics["bpp"].shape == (1,)


def test_image_i_is_coded_at_level_i_modulo_levels(params):
    config = tiny(EXACT)
    images = np.full((6, 64, 64, 3), 128, np.uint8)
    images[[1, 4]] = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    flat = tf.fill((6, 64, 64, 3), np.uint8(128))
    _, plain = model.forward(tensors(params), config, flat, None, 1.0)
    _, metrics = model.forward(tensors(params), config, tf.constant(images), None, 1.0)
    bpp, mse = metrics["bpp"].numpy(), metrics["mse"].numpy()
    np.testing.assert_array_equal(bpp[[0, 2]], plain["bpp"].numpy()[[0, 2]])
    np.testing.assert_array_equal(mse[[0, 2]], plain["mse"].numpy()[[0, 2]])
    assert bpp[1] > 1.1 * plain["bpp"][1]
    assert mse[1] > 10 * plain["mse"][1]
    lambdas = np.array(config.levels.lambdas)
    np.testing.assert_allclose(metrics["loss"], bpp + lambdas * mse, rtol=1e-5)


def test_hard_rounding_reaches_the_synthesis_only(params, patches):
    config, given = tiny(EXACT), tensors(params)
    images, noise = batch_of(config, patches)
    soft, hard = (model.forward(given, config, images, noise, value)[1] for value in (0.0, 1.0))
    np.testing.assert_array_equal(soft["bpp"], hard["bpp"])
    assert not np.array_equal(soft["mse"], hard["mse"])
    used = model.forward(given, config, images, None, 1.0)[1]
    np.testing.assert_allclose(used["mse"], hard["mse"], rtol=1e-5)


# Entropy models


@pytest.mark.parametrize("filters", [[3, 3], [4], []])
def test_build_prior_has_exactly_the_given_parameters(filters):
    rng = np.random.default_rng(0)
    given = tensors(prior.init_prior(np.full((2, 5), 3, np.float32), Entropy(filters=filters), rng))
    built = prior.build_prior(given, (2, 5), Entropy(filters=filters))
    base = built.base
    parts = {"matrix": base._matrices, "bias": base._biases, "factor": base._factors}
    found = {f"prior/{part}_{i}": value for part, values in parts.items() for i, value in enumerate(values)}
    assert found.keys() == given.keys()
    assert all(found[name] is given[name] for name in given)
    assert built.batch_shape == (2, 5)
    assert not built.trainable_variables

    # The same numbers in variables of TensorFlow Compression's own.
    own = tfc.NoisyDeepFactorized(batch_shape=(2, 5), num_filters=tuple(filters))
    for variable in own.base.trainable_variables:
        variable.assign(given[f"prior/{variable.name.rpartition('/')[2].partition(':')[0]}"])
    symbols = tf.constant(rng.normal(0, 4, (7, 2, 5)), tf.float32)
    np.testing.assert_array_equal(built.log_prob(symbols), own.log_prob(symbols))


def test_prior_bits_and_their_order():
    given = tensors(
        prior.init_prior(np.array([[1, 30], [5, 2]], np.float32), Entropy(), np.random.default_rng(0))
    )
    built = prior.build_prior(given, (2, 2), Entropy())
    noisy = np.random.default_rng(1).normal(0, 3, (4, 2, 3, 5, 2)).astype(np.float32)
    bits = prior.bits(built, tf.constant(noisy))
    assert bits.shape == (4, 3, 5, 2, 2)
    expected = -np.log2(built.prob(noisy.transpose(0, 2, 3, 1, 4)).numpy().astype(float))
    np.testing.assert_allclose(bits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [0.5, 3, 40])
@pytest.mark.parametrize("family", ["deep", "normal", "logistic"])
def test_a_fresh_prior_is_as_wide_as_its_symbols(family, scale):
    rng, config = np.random.default_rng(0), Entropy(prior=family)
    given = tensors(prior.init_prior(np.full((1, 50), scale, np.float32), config, rng))
    symbols = rng.normal(0, scale, (400, 50)) + rng.uniform(-0.5, 0.5, (400, 50))
    built = prior.build_prior(given, (1, 50), config)
    assert family == "deep" or set(given) == {"prior/loc", "prior/log_scale"}
    spent = -np.mean(built.log_prob(tf.constant(symbols[:, None], tf.float32))) / math.log(2)
    least = 0.5 * math.log2(2 * math.pi * math.e * (scale**2 + 1 / 12))
    assert least - 0.05 < spent < least + 0.5


def test_logistic_bits_are_those_of_the_distribution_function():
    rng = np.random.default_rng(0)
    symbols, mean = rng.uniform(-30, 30, 20000), rng.uniform(-20, 20, 20000)
    log2_scale = rng.uniform(-3, 8, 20000)
    got = context.logistic_bits(*(tf.constant(x, tf.float32) for x in (symbols, mean, log2_scale))).numpy()
    # What float32 sees, then float64; the tail that is near 0, not near 1.
    symbols, mean, log2_scale = (x.astype(np.float32).astype(float) for x in (symbols, mean, log2_scale))
    centred = -np.abs(symbols - mean)
    with np.errstate(over="ignore"):
        upper, lower = (1 / (1 + np.exp(-(centred + half) * 2**-log2_scale)) for half in (0.5, -0.5))
    good = upper - lower > 1e-250
    assert good.mean() > 0.9
    np.testing.assert_allclose(got[good], -np.log2((upper - lower)[good]), rtol=2e-5, atol=2e-4)
    assert np.isfinite(got).all()
    assert (got >= -1e-4).all()


def test_logistic_bits_stay_finite_at_the_bounds():
    symbols = tf.constant([0.0, 0.4, 300.0, -32768.0])
    for log2_scale in (context.LOG2_SCALE_MIN, context.LOG2_SCALE_MAX):
        with tf.GradientTape() as tape:
            inputs = [symbols, tf.zeros(4), tf.fill([4], log2_scale)]
            tape.watch(inputs)
            bits = context.logistic_bits(*inputs)
        assert np.isfinite(bits).all()
        assert all(np.isfinite(gradient).all() for gradient in tape.gradient(bits, inputs))


@pytest.fixture(scope="module")
def random_contexts(params):
    """Parameters with strong contexts (fresh ones are too weak to show), first channels, side of a tile."""
    rng = np.random.default_rng(0)
    given = {
        name: rng.normal(0, 0.3, value.shape).astype(np.float32) if name.startswith("context/") else value
        for name, value in params.items()
    }
    return tensors(given), [0, 4, 12, 24], 6


@pytest.mark.parametrize(("group", "half"), context.passes(tiny()))
def test_a_pass_sees_only_what_is_decoded_before(random_contexts, group, half):
    config, given, starts, side = tiny(EXACT), *random_contexts
    name = f"context/pass-{group}-{half}/"
    given = {
        # The other passes ignore what they see.
        key: value if key.startswith(name) or not key.endswith("layer2/kernel") else tf.zeros_like(value)
        for key, value in given.items()
    }
    first = context.checkerboard(side, side)[0, :, :, 0].astype(bool)
    symbols = np.round(np.random.default_rng(2).normal(0, 6, (1, 3, side, side, 24))).astype(np.float32)
    rounded = tf.constant(symbols)
    with tf.GradientTape() as tape:
        tape.watch(rounded)
        total = context.rate_bits(given, config, tf.constant(symbols), rounded)
    places = np.argwhere(tape.gradient(total, rounded).numpy()[0] != 0)
    seen = {
        (int(np.searchsorted(starts, channel, "right")) - 1, int(not first[y, x]))
        for _, y, x, channel in places
    }
    assert seen == {(g, h) for g in range(3) for h in (0, 1) if g < group or (g == group and h < half)}


def test_rate_of_contexts_is_the_sum_of_its_passes(random_contexts):
    config, given, starts, side = tiny(EXACT), *random_contexts
    rng = np.random.default_rng(1)
    noisy = rng.normal(0, 6, (2, 3, side, side, 24)).astype(np.float32)
    rounded = np.round(noisy)
    total = context.rate_bits(given, config, tf.constant(noisy), tf.constant(rounded))
    assert total.shape == (2, 3)

    even = context.checkerboard(side, side)
    density = prior.build_prior(given, (3, 4), config.entropy)
    expected = np.einsum("bhwlc,hw->bl", prior.bits(density, tf.constant(noisy[..., :4])), even[0, :, :, 0])
    for level in range(3):
        share = tf.one_hot([level, level], 3)
        for g, h in context.passes(config):
            begin, end = starts[g : g + 2]
            known = [context.features(tf.constant(rounded[:, level, ..., :begin]))] if g else []
            if h:
                known.append(context.features(tf.constant(rounded[:, level, ..., begin:end] * even)))
            mean, scale = context.network(given, f"context/pass-{g}-{h}", tf.concat(known, -1), share)
            scale = np.clip(scale, context.LOG2_SCALE_MIN, context.LOG2_SCALE_MAX)
            bits = context.logistic_bits(
                tf.constant(noisy[:, level, ..., begin:end]), mean, tf.constant(scale)
            )
            expected[:, level] += np.sum(bits.numpy() * (1 - even if h else even), (1, 2, 3))
    np.testing.assert_allclose(total, expected, rtol=1e-4)

    # No pass follows the last one: what it codes is nobody's context.
    last = rounded.copy()
    last[..., starts[-2] :] += 5 * (1 - even)
    np.testing.assert_array_equal(
        context.rate_bits(given, config, tf.constant(noisy), tf.constant(last)), total
    )


# The train step


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


def warm_state(config, patches):
    """A state in mid-training: fresh moments would turn the sign of rounding errors into whole steps."""
    arrays = step.init_state(model.init_params(config, patches))
    rng = np.random.default_rng(5)
    for name, value in arrays["params"].items():
        arrays["m"][name] = rng.normal(0, 1e-3, value.shape).astype(np.float32)
        arrays["v"][name] = rng.uniform(1e-4, 1e-3, value.shape).astype(np.float32)
    return tf.nest.map_structure(tf.constant, arrays)


def check_compiled(config, patches, jit):
    state, (images, noise), scalars = (
        warm_state(config, patches),
        batch_of(config, patches),
        steering(config, 30),
    )
    compiled = tf.function(lambda *args: step.train_step(config, *args), jit_compile=jit, autograph=False)
    for one, other in zip(
        tf.nest.flatten(step.train_step(config, state, images, noise, scalars)),
        tf.nest.flatten(compiled(state, images, noise, scalars)),
        strict=True,
    ):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-6)


def test_the_step_is_the_same_eager_and_as_a_function(kind, patches):
    check_compiled(tiny(EXACT, f"entropy.kind={kind}"), patches, jit=False)


def test_the_step_is_the_same_under_xla(patches):
    # XLA compiles every operation: few of them here, all in the slow test.
    check_compiled(tiny(EXACT, *SMALL, "entropy.filters=[3]"), patches, jit=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_step_is_the_same_under_xla(kind, patches):
    check_compiled(tiny(EXACT, f"entropy.kind={kind}"), patches, jit=True)


def test_every_parameter_gets_a_finite_gradient(kind, patches):
    config = tiny(EXACT, f"entropy.kind={kind}")
    state = tf.nest.map_structure(tf.constant, step.init_state(model.init_params(config, patches)))
    new, metrics = step.train_step(config, state, *batch_of(config, patches), steering(config))
    assert all(np.isfinite(value).all() for value in tf.nest.flatten(new) + tf.nest.flatten(metrics))
    assert metrics["grad_norm"] > 0
    assert not [name for name, value in new["m"].items() if not np.any(value)]
    assert {part: list(values) for part, values in new.items()} == {
        part: sorted(state["params"]) for part in new
    }


def test_the_step_is_clipped_adam_with_an_average(patches):
    config = tiny(
        EXACT, "entropy.kind=factorized", 'optimizer.multipliers={"gain/": 3}', "optimizer.clip_norm=0.01"
    )
    state, (images, noise), scalars = (
        warm_state(config, patches),
        batch_of(config, patches),
        steering(config, 30),
    )
    new, metrics = step.train_step(config, state, images, noise, scalars)
    assert metrics["grad_norm"] > 0.01
    optimizer, total = config.optimizer, 0.0
    for name, before in state["params"].items():
        m, v = new["m"][name].numpy(), new["v"][name].numpy()
        gradient = (m - optimizer.beta1 * state["m"][name]) / (1 - optimizer.beta1)
        total += float(np.sum(np.square(gradient, dtype=float)))
        np.testing.assert_allclose(
            v, optimizer.beta2 * state["v"][name] + (1 - optimizer.beta2) * gradient**2, rtol=1e-3
        )
        corrected = m / (1 - optimizer.beta1**31) / (np.sqrt(v / (1 - optimizer.beta2**31)) + 1e-8)
        rate = float(scalars["learning_rate"]) * (3 if name.startswith("gain/") else 1)
        np.testing.assert_allclose(new["params"][name], before - rate * corrected, rtol=1e-4, atol=1e-6)
        decay = float(scalars["ema"])
        expected = decay * state["ema"][name] + (1 - decay) * new["params"][name]
        np.testing.assert_allclose(new["ema"][name], expected, rtol=1e-5, atol=1e-7)
    assert math.sqrt(total) == pytest.approx(0.01, rel=1e-3)


def test_the_loss_falls(kind, patches):
    config = tiny(f"entropy.kind={kind}", "run.steps=60", "optimizer.warmup_steps=5")  # In bfloat16.
    arrays = model.init_params(config, patches)
    state = tf.nest.map_structure(tf.constant, step.init_state(arrays))
    compiled = tf.function(lambda *args: step.train_step(config, *args), autograph=False)
    tree, rng = config.model_dump(), np.random.default_rng(0)
    for number in range(60):
        chosen = patches[rng.permutation(len(patches))[:6]]
        scalars = {name: tf.constant(value) for name, value in schedule.scalars(tree, number).items()}
        state, metrics = compiled(state, *batch_of(config, chosen, number), scalars)
    assert np.isfinite(metrics["total"])
    unseen = np.stack([picture(900 + i, 128, 128) for i in range(3)])
    before, after = (loop.validate(config, given, unseen) for given in (arrays, state["params"]))
    assert after["loss"] < 0.9 * before["loss"]
    assert loop.validate(config, state["ema"], unseen)["loss"] < 0.95 * before["loss"]
    # More bits and more quality with every level.
    assert (np.diff(after["bpp"]) > 0).all()
    assert (np.diff(after["psnr"]) > 0).all()
