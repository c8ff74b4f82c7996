"""Residual blocks with GDN, attention and sub-pixel upsampling: transforms for images of any size."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from training_helpers import cache, one_line, picture, pictures, settings

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf
import tensorflow_compression as tfc

from codec_cli.codec import Codec
from codec_cli.errors import TrainingError
from codec_cli.tiles import ArraySource, Grid
from codec_cli.training import (
    checkpoint,
    data,
    export,
    formats,
    gdn,
    layers,
    lite,
    loop,
    model,
    networks,
    schedule,
    step,
)
from codec_cli.training.config import Convolutional, Layer, load_config
from codec_cli.training.shapes import reach
from codec_cli.transforms import Session, analyse, synthesise

NAME = "residual-attention"
PACKAGED = json.loads((resources.files("codec_cli") / "configs" / f"{NAME}.json").read_text())
# The packaged configuration's layers, with fewer channels.
NARROW = {32: 6, 48: 8, 96: 10, 128: 12, 3: 3}


def narrow(layers):
    return [
        {
            **layer,
            **({"filters": NARROW[layer["filters"]]} if "filters" in layer else {}),
            **({"layers": narrow(layer["layers"])} if "layers" in layer else {}),
        }
        for layer in layers
    ]


def small(**more):
    """The packaged configuration, narrow, with a loss that needs neither weights nor large crops."""
    transforms = PACKAGED["transforms"]
    values = {
        **{f"transforms__{side}": narrow(transforms[side]) for side in ("analysis", "synthesis")},
        "losses": [{"name": "mae", "weight": 0.4}],
        "data__crop": 64,
        "data__batch": 4,
        "data__cache_patches": 60,
        "run__validation_images": 2,
        "optimizer__learning_rate": 2e-3,
        **more,
    }
    return load_config(NAME, settings(**values))


def moved(params, seed=3):
    """Parameters unlike the initial ones: every beta and gamma takes part."""
    rng = np.random.default_rng(seed)
    return {
        name: value + (0.05 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in params.items()
    }


@pytest.fixture(scope="module")
def config():
    return small()


@pytest.fixture(scope="module")
def params(config):
    return moved(model.init_params(config, pictures(4, 96)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 60 steps."""
    folder = tmp_path_factory.mktemp("attention") / "run"
    config = small(run__steps=60, run__validate_steps=20, optimizer__cycle_steps=40, optimizer__ema=0.9)
    loop.train(config, folder, cache_dir=cache(), quiet=True)
    return folder


@pytest.fixture(scope="module")
def exported(run):
    return export.export_run(run, run.parent / "attention-1", cache_dir=cache(), table_patches=8, quiet=True)


def test_the_packaged_configuration_is_the_published_architecture():
    config = load_config(NAME)
    assert isinstance(config.transforms, Convolutional)
    assert config.transforms.stride == 16
    for side, norm, far in (("analysis", "gdn", "conv"), ("synthesis", "igdn", "subpixel")):
        layers = getattr(config.transforms, side)
        ops = [layer.op for layer in layers]
        assert (ops.count("residual"), ops.count("attention"), ops.count(far)) == (6, 2, 2)
        assert len(ops) == 10
        for block in (layer.layers for layer in layers if layer.op == "residual"):
            assert [layer.op for layer in block[1::2]] == [norm, norm]
            assert {layer.op for layer in block[::2]} <= {"conv", far}
            assert {layer.kernel for layer in block[::2]} == {3}
            assert block[1].activation == "leaky_relu"
    assert config.entropy.kind == "factorized"
    assert config.levels.lambdas == [0.1]
    assert [loss.name for loss in config.losses] == ["mae", "ms_ssim", "lpips"]
    assert (config.data.crop, config.data.batch) == (256, 8)
    assert config.run.decoder_rounding == 1  # Noise to the end.
    rates = [float(schedule.scalars(config.model_dump(), n)["learning_rate"]) for n in range(2001)]
    assert (min(rates), max(rates)) == pytest.approx((1e-5, 1e-4))


def test_shapes_of_any_size(config, params):
    for height, width in ((16, 16), (48, 80)):
        latents = networks.analysis(params, config.transforms, tf.zeros((2, height, width, 3)))
        assert latents.shape == (2, height // 16, width // 16, 12)
        image = networks.synthesis(params, config.transforms, latents, tf.ones((2, 1)))
        assert image.shape == (2, height, width, 3)
        assert image.dtype == tf.float32
    low = networks.analysis(params, config.transforms, tf.zeros((1, 32, 32, 3)), tf.bfloat16)
    assert low.dtype == tf.float32


# GDN


def reference(x, beta, gamma, inverse):
    pool = np.einsum("bhwj,ji->bhwi", np.abs(x), gamma) + beta
    return x * pool if inverse else x / pool


@pytest.fixture(scope="module")
def normalisation():
    """Stored parameters, some of them below what is allowed, and an input."""
    rng = np.random.default_rng(1)
    arrays = {
        "a/beta": np.array([-0.2, 0.3, 0.6, 1.0, 1.5], np.float32),
        "a/gamma": rng.uniform(-0.5, 0.8, (5, 5)).astype(np.float32),
    }
    return arrays, rng.normal(0, 2, (2, 4, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_its_formula_and_that_of_tfc(normalisation, inverse):
    arrays, x = normalisation
    beta, gamma = (gdn.value(part, arrays[f"a/{part}"]) for part in ("beta", "gamma"))
    assert beta.min() == pytest.approx(1e-6, rel=1e-3)
    assert gamma.min() == 0
    out = gdn.apply(arrays, "a", tf.constant(x), inverse=inverse).numpy()
    np.testing.assert_allclose(out, reference(x, beta, gamma, inverse), rtol=2e-4, atol=1e-5)

    layer = tfc.GDN(inverse=inverse)  # With variables of its own.
    layer.build(x.shape)
    layer.beta_parameter.variable.assign(arrays["a/beta"])
    layer.gamma_parameter.variable.assign(arrays["a/gamma"])
    np.testing.assert_array_equal(out, layer(x).numpy())


def test_gdn_starts_as_that_of_tfc():
    arrays: dict[str, np.ndarray] = {}
    gdn.init(arrays, "a", 6)
    layer = tfc.GDN()
    layer.build((None, None, None, 6))
    np.testing.assert_allclose(arrays["a/beta"], layer.beta_parameter.variable, rtol=1e-6)
    np.testing.assert_allclose(arrays["a/gamma"], layer.gamma_parameter.variable, rtol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_reach_beta_and_gamma(normalisation, inverse):
    given, x = normalisation
    arrays = {name: np.abs(value) + np.float32(0.1) for name, value in given.items()}  # Off the bounds.
    probe = np.random.default_rng(2).normal(0, 1, x.shape)

    @tf.function(autograph=False)
    def value(params):
        return tf.reduce_sum(gdn.apply(params, "a", tf.constant(x), inverse=inverse) * probe)

    params = {name: tf.constant(array) for name, array in arrays.items()}
    with tf.GradientTape() as tape:
        tape.watch(params)
        total = value(params)
    for name, gradient in tape.gradient(total, params).items():
        direction = gradient.numpy() / np.linalg.norm(gradient)
        sides = []
        for sign in (1, -1):
            stored = {**arrays, name: arrays[name].astype(float) + sign * 1e-3 * direction}
            beta, gamma = (np.square(stored[f"a/{part}"], dtype=float) for part in ("beta", "gamma"))
            sides.append(float(np.sum(reference(x.astype(float), beta, gamma, inverse) * probe)))
        assert (sides[0] - sides[1]) / 2e-3 == pytest.approx(np.linalg.norm(gradient), rel=1e-2)


def test_gdn_never_becomes_negative():
    """Gradients that would lead further below a bound vanish; those that lead back do not."""
    stored = {"a/beta": tf.constant([-0.5]), "a/gamma": tf.constant([[-0.5]])}
    x = tf.constant([[[[2.0]]]])
    for sign in (1.0, -1.0):
        with tf.GradientTape() as tape:
            tape.watch(stored)
            out = sign * tf.reduce_sum(gdn.apply(stored, "a", x, inverse=True))
        gradients = tape.gradient(out, stored)
        # A step against the gradient: with sign -1 it leads up.
        assert all((gradient.numpy() < 0).all() == (sign < 0) for gradient in gradients.values())
        assert all((gradient.numpy() <= 0).all() for gradient in gradients.values())


def test_rounding_to_half_precision_rounds_the_values(params):
    names = [name for name in params if gdn.is_parameter(name)]
    assert len(names) == 2 * 2 * 12
    rounded = lite.round_half(params)
    for name in names:
        exact = gdn.value(name, params[name]).astype(np.float16)
        np.testing.assert_array_equal(gdn.value(name, rounded[name]).astype(np.float16), exact)
        np.testing.assert_allclose(
            gdn.value(name, rounded[name]), exact.astype(np.float32), rtol=1e-6, atol=1e-11
        )


# Receptive fields and tiles


@pytest.mark.parametrize(
    "listed",
    [
        [{"op": "conv", "filters": 2, "kernel": 5, "stride": 2}, {"op": "conv", "filters": 2, "kernel": 4}],
        [{"op": "conv", "filters": 2, "kernel": 2, "stride": 4}, {"op": "attention", "kernel": 5}],
        [
            {"op": "subpixel", "filters": 2, "factor": 3},
            {"op": "gdn"},
            {"op": "conv", "filters": 2, "kernel": 7},
        ],
        [{"op": "space_to_depth"}, {"op": "residual", "layers": [{"op": "subpixel", "filters": 1}]}],
        [{"op": "residual", "layers": [{"op": "conv", "filters": 3, "kernel": 1, "stride": 2}]}],
    ],
)
def test_reach_is_what_gradients_see(listed):
    listing = [Layer(**layer) for layer in listed]
    arrays: dict[str, np.ndarray] = {}
    layers.init(listing, "x", (48, 48, 2), np.random.default_rng(0), arrays)
    x = tf.constant(np.random.default_rng(1).normal(0, 1, (1, 48, 48, 2)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layers.apply(listing, "x", arrays, x, 0.1)
        middle = out.shape[1] // 2
        total = tf.reduce_sum(out[:, middle : middle + 3])
    seen = np.flatnonzero(np.abs(tape.gradient(total, x).numpy()).sum((0, 2, 3)))
    assert reach(listing, middle, middle + 2) == (seen[0], seen[-1])


def test_the_halo_covers_what_transforms_see(config, params):
    halos = networks.halo(config.transforms)
    assert halos == (6, 6)
    image = tf.constant(picture(1, 16 * 17, 16 * 17)[None] / np.float32(255))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(image)
        latents = networks.analysis(params, config.transforms, image)
        total = tf.reduce_sum(latents[:, 8])
    seen = np.flatnonzero(np.abs(tape.gradient(total, image).numpy()).sum((0, 2, 3))) // 16
    assert max(8 - seen[0], seen[-1] - 8) == halos[0]
    with tf.GradientTape() as tape:
        tape.watch(latents)
        decoded = networks.synthesis(params, config.transforms, latents, tf.ones((1, 1)))
        total = tf.reduce_sum(decoded[:, 8 * 16 : 9 * 16])
    seen = np.flatnonzero(np.abs(tape.gradient(total, latents).numpy()).sum((0, 2, 3)))
    assert max(8 - seen[0], seen[-1] - 8) == halos[1]


@pytest.mark.parametrize("size", [(1090, 40), (33, 1041)])
def test_tiles_are_the_whole(config, params, size):
    first, last = (Session(data, Path("tflite"), 1) for data in lite.convert(config, lite.round_half(params)))
    pixels = picture(5, size[1], size[0])
    halos = networks.halo(config.transforms)
    rows, columns = (-(-n // 16) for n in size)
    tiles = [*Grid((rows, columns)).tiles()]
    assert len(tiles) == 2
    padded = np.pad(pixels, ((0, rows * 16 - size[0]), (0, columns * 16 - size[1]), (0, 0)), mode="edge")
    whole = first(padded[None].astype(np.float32) * np.float32(1 / 255))[0]
    share = np.ones((1, 1), np.float32)
    image = last(whole[None], share)[0]
    for top, left, bottom, right in tiles:
        cut = ArraySource(pixels).cut
        tile = analyse(first, cut, size, (top, left, bottom, right), 16, halos[0], 12)
        np.testing.assert_allclose(tile, whole[top:bottom, left:right], rtol=1e-4, atol=1e-5)
        part = synthesise(
            last,
            lambda a, b, c, d: np.ascontiguousarray(whole[a:c, b:d]),
            (top, left, bottom, right), (rows, columns), 16, halos[1], share, 3,
        )  # fmt: skip
        expected = np.clip(image[top * 16 : bottom * 16, left * 16 : right * 16] * 255 + 0.5, 0, 255)
        assert np.abs(part - expected.astype(np.uint8).astype(int)).max() <= 1


# Training and export


def test_every_parameter_gets_a_finite_gradient(config, params):
    state = tf.nest.map_structure(tf.constant, step.init_state(params))
    images = tf.constant(pictures(4, 64))
    noise = tf.random.stateless_uniform((4, 4, 4, 12), (1, 2), -0.5, 0.5)
    scalars = {name: tf.constant(value) for name, value in schedule.scalars(config.model_dump(), 0).items()}
    new, metrics = step.train_step(config, state, images, noise, scalars)
    assert all(np.isfinite(value).all() for value in tf.nest.flatten(new) + tf.nest.flatten(metrics))
    assert not [name for name, value in new["m"].items() if not np.any(value)]


def test_the_loss_of_a_run_falls(run):
    config = checkpoint.load_run_config(run)
    fresh = model.init_params(config, np.asarray(data.load_patches(config, cache(), True)))
    before = loop.validate(config, fresh, data.validation_crops(config))["loss"]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [20, 40, 60]
    losses = [before, *(entry["loss"] for entry in log)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    text = (run / "architecture.txt").read_text()
    assert "igdn" in text
    assert "attention 3x3" in text


def test_the_exported_model_is_that_of_tensorflow(exported):
    assert exported.levels == 1
    agreement = exported.facts["agreement"]
    assert agreement["equal_symbols"] > 0.999
    assert agreement["pixel_difference"] < 1e-3
    assert (exported.facts["analysis_halo"], exported.facts["synthesis_halo"]) == (6, 6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (37, 53), (1040, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_any_size_come_back(exported, height, width, channels):
    codec = Codec(exported)
    pixels = picture(2, width, height, channels)
    data = codec.encode(pixels)
    decoded = codec.decode(data)
    assert decoded.shape == pixels.shape
    # The symbols that the file holds, through the networks in one piece.
    assert np.array_equal(codec.decode(codec.encode(pixels)), decoded)
    loaded = codec._load(exported)
    (plane, *_) = symbols = codec.symbols(data)
    if len(symbols) == 2:
        plane = np.concatenate(symbols)
    restored = plane[None].astype(np.float32) * loaded.inverse_gain[0]
    image = loaded.synthesis(restored, loaded.level_weights[:1])[0, :height, :width]
    expected = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    if channels == 3:
        assert np.abs(decoded.astype(int) - expected).max() <= 1


def test_networks_for_other_programs(run, tmp_path):
    facts = formats.export_formats(run, tmp_path / "networks", formats=["tflite", "savedmodel"])
    assert set(facts["networks"]) == {"encoder", "decoder", "autoencoder"}
    for name in ("encoder", "decoder"):
        assert facts["networks"][name]["tflite"]["difference"] < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            'transforms.analysis.0={"op": "conv_transpose", "filters": 32}',
            "conv_transpose is for images of one size",
        ),
        ('transforms.analysis.9={"op": "flatten"}', "flatten is for images of one size"),
        ('transforms.synthesis.0={"op": "conv", "filters": 96}', "not an image of (16, 16, 3)"),
        ("transforms.size=64", "transforms.size"),
        ("data.crop=250", "multiple of the stride 16"),
        ("optimizer.cycle_steps=1", "optimizer.cycle_steps"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(TrainingError) as error:
        load_config(NAME, [change])
    assert message in one_line(error)


# The start


def test_a_fresh_model_is_a_transform_codec(config):
    """Before any training it gives pictures back, as a linear transform would; others do not."""
    images = pictures(8, 64)
    fresh = model.init_params(config, images)
    decoded = model.reconstruct(
        {name: tf.constant(value) for name, value in fresh.items()}, config, images, 0
    )
    error = np.mean(np.square(decoded.numpy() - images / np.float32(255)))
    assert 10 * np.log10(np.var(images / 255) / error) > 6
    # Nothing but the linear path is set: every other weight is as drawn.
    drawn = layers.init_transforms(config.transforms, np.random.default_rng(config.seed))
    changed = {name for name in drawn if not np.array_equal(drawn[name], fresh[name])}
    assert {name.rpartition("/")[0] for name in changed} == {
        "analysis/0", "analysis/1/skip", "analysis/5/skip", "analysis/9",
        "synthesis/0", "synthesis/4/skip", "synthesis/8/skip", "synthesis/9",
    }  # fmt: skip


def test_components_are_those_of_blocks(config):
    images = pictures(8, 64)
    fresh = model.init_params(config, images)
    kernel = fresh["analysis/0/kernel"]
    basis, _ = model.block_pca(images, 2, 6)
    np.testing.assert_array_equal(kernel[[0, 3, 4]][..., :6], 0)
    leading = kernel[1:3, 1:3].reshape(12, -1)[:, :6]
    np.testing.assert_allclose(np.abs(basis.T @ leading), np.eye(6), atol=2e-3)


def test_a_synthesis_that_does_not_mirror_starts_as_drawn():
    listing = [{"op": "subpixel", "filters": 3, "factor": 4}, {"op": "subpixel", "filters": 3, "factor": 4}]
    config = small(transforms__synthesis=listing)
    drawn = layers.init_transforms(config.transforms, np.random.default_rng(config.seed))
    fresh = model.init_params(config, pictures(4, 64))
    assert all(np.array_equal(drawn[name], fresh[name]) for name in drawn if name.startswith("synthesis/"))
