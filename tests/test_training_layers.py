"""Transforms listed layer by layer: shapes, what each layer computes, configurations that do not fit."""

import numpy as np
import pytest
from training_helpers import tiny

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.errors import TrainingError
from codec_cli.training import layers, model, networks
from codec_cli.training.config import Layer, Listed, load_config
from codec_cli.training.shapes import output_shape

KERAS = tf.keras.layers


def listed(analysis, synthesis=None, size=8, **options):
    """Listed transforms; by default the synthesis turns any latent of 2x2x3 into an image."""
    back = synthesis or [{"op": "upsample", "factor": 4}, {"op": "conv", "filters": 1}]
    return Listed(kind="layers", size=size, analysis=analysis, synthesis=back, **options)


def run(layer, shape=(6, 4, 3), activation_slope=0.2):
    """A layer's parameters, a random input and its output."""
    rng = np.random.default_rng(2)
    arrays: dict[str, np.ndarray] = {}
    layers.init([Layer(**layer)], "analysis", shape, rng, arrays)
    x = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    params = {name: tf.constant(value) for name, value in arrays.items()}
    out = layers.apply([Layer(**layer)], "analysis", params, tf.constant(x), activation_slope).numpy()
    assert out.shape[1:] == output_shape([Layer(**layer)], "analysis", shape)
    return arrays, x, out


def keras(layer, arrays, x, name="analysis/0"):
    layer.build(x.shape)
    layer.set_weights([arrays[f"{name}/kernel"], arrays[f"{name}/bias"]])
    return layer(x).numpy()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (1, 1), (4, 2), (1, 2), (1, 3)])
def test_convolutions_are_those_of_keras(kernel, stride):
    options = {"filters": 5, "kernel": kernel, "stride": stride}
    arrays, x, out = run({"op": "conv", **options})
    expected = keras(KERAS.Conv2D(5, kernel, stride, padding="same"), arrays, x)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    arrays, x, out = run({"op": "conv_transpose", **options})
    expected = keras(KERAS.Conv2DTranspose(5, kernel, stride, padding="same"), arrays, x)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize("kernel", [1, 2])
def test_no_gradient_is_of_a_strided_1x1_kernel(op, kernel):
    """oneDNN corrupts memory there, so that a process dies later, somewhere else."""
    layer = Layer(op=op, filters=5, kernel=kernel, stride=2)
    arrays: dict[str, np.ndarray] = {}
    layers.init([layer], "x", (6, 4, 3), np.random.default_rng(2), arrays)

    @tf.function
    def gradients(x, params):
        with tf.GradientTape() as tape:
            tape.watch(params)
            total = tf.reduce_sum(layers.apply([layer], "x", params, x, 0.2) ** 2)
        return tape.gradient(total, params)

    x = tf.ones((2, 6, 4, 3))
    params = {name: tf.constant(value) for name, value in arrays.items()}
    graph = gradients.get_concrete_function(x, params).graph
    strides = {
        tuple(op.get_attr("strides")) for op in graph.get_operations() if op.type == "Conv2DBackpropFilter"
    }
    assert strides == {(1, kernel, kernel, 1)}
    assert all(np.any(value != 0) for value in gradients(x, params).values())


def test_dense_is_that_of_keras():
    arrays, x, out = run({"op": "dense", "filters": 7}, (12,))
    np.testing.assert_allclose(out, keras(KERAS.Dense(7), arrays, x), rtol=1e-4, atol=1e-5)


def test_upsampling_repeats():
    _, x, out = run({"op": "upsample", "factor": 3})
    np.testing.assert_array_equal(out, KERAS.UpSampling2D(3)(x).numpy())


def test_subpixel_is_a_convolution_and_depth_to_space():
    arrays, x, out = run({"op": "subpixel", "filters": 2, "factor": 2})
    inner = keras(KERAS.Conv2D(8, 3, padding="same"), arrays, x)
    np.testing.assert_allclose(out, tf.nn.depth_to_space(inner, 2).numpy(), rtol=1e-4, atol=1e-5)


def test_flatten_and_reshape():
    _, x, out = run({"op": "flatten"})
    np.testing.assert_array_equal(out, x.reshape(2, -1))
    _, x, out = run({"op": "reshape", "shape": [2, 2, 3]}, (12,))
    np.testing.assert_array_equal(out, x.reshape(2, 2, 2, 3))


@pytest.mark.parametrize("filters", [3, 5])
def test_residual_adds_its_input(filters):
    """Through a 1x1 convolution where the channels change."""
    inside = [{"op": "conv", "filters": filters, "activation": "relu"}, {"op": "conv", "filters": filters}]
    arrays, x, out = run({"op": "residual", "layers": inside, "activation": "relu"})
    inner = tf.nn.relu(keras(KERAS.Conv2D(filters, 3, padding="same"), arrays, x, "analysis/0/0"))
    inner = keras(KERAS.Conv2D(filters, 3, padding="same"), arrays, inner, "analysis/0/1")
    skip = x
    assert ("analysis/0/skip/kernel" in arrays) == (filters != 3)
    if filters != 3:
        skip = keras(KERAS.Conv2D(filters, 1), arrays, x, "analysis/0/skip")
    np.testing.assert_allclose(out, np.maximum(inner + skip, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("none", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x)),
        ("prelu", lambda x: np.where(x > 0, x, 0.1 * x)),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
    ],
)
def test_activations(activation, function):
    _, _, plain = run({"op": "conv", "filters": 4})
    _, _, out = run({"op": "conv", "filters": 4, "activation": activation})
    np.testing.assert_allclose(out, function(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["conv", "conv_transpose", "dense", "subpixel"])
def test_fresh_layers_keep_the_size_of_signals(op):
    """With a rectifier behind: He's initialisation."""
    shape = (256,) if op == "dense" else (24, 24, 32)
    _, x, out = run({"op": op, "filters": 512, "kernel": 4, "stride": 2, "activation": "relu"}, shape)
    inner = out if op == "dense" else out[:, 4:-4, 4:-4]
    assert 0.75 < np.mean(inner**2) / np.mean(x**2) < 1.33


def test_latent_shapes():
    dense = listed(
        [{"op": "flatten"}, {"op": "dense", "filters": 9}],
        [{"op": "dense", "filters": 64}, {"op": "reshape", "shape": [8, 8, 1]}],
    )
    assert (dense.latent_shape, dense.latent_channels, dense.stride) == ((1, 1, 9), 9, 8)
    spatial = listed([{"op": "conv", "filters": 3, "stride": 4}])
    assert (spatial.latent_shape, spatial.latent_channels, spatial.stride) == ((2, 2, 3), 3, 4)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_there_and_back(dtype):
    config = listed(
        [{"op": "conv", "filters": 4, "stride": 2}, {"op": "flatten"}, {"op": "dense", "filters": 9}],
        [{"op": "dense", "filters": 64}, {"op": "reshape", "shape": [8, 8, 1]}],
    )
    params = layers.init_transforms(config, np.random.default_rng(0))
    latents = networks.analysis(params, config, tf.zeros((5, 8, 8, 1)), dtype)
    assert latents.shape == (5, 1, 1, 9)
    image = networks.synthesis(params, config, latents, tf.ones((5, 2)), dtype)
    assert image.shape == (5, 8, 8, 1)
    assert image.dtype == tf.float32
    assert networks.halo(config) == (0, 0)


@pytest.mark.parametrize(
    ("analysis", "synthesis", "message"),
    [
        ([{"op": "dense", "filters": 4}], None, "analysis.0 (dense): needs a vector"),
        ([{"op": "flatten"}, {"op": "conv", "filters": 4}], None, "analysis.1 (conv): needs an image"),
        ([{"op": "conv", "filters": 4, "stride": 3}], None, "3x3 positions, which do not divide"),
        ([{"op": "space_to_depth", "factor": 3}], None, "8x8 is no multiple of 3"),
        (
            [{"op": "flatten"}, {"op": "reshape", "shape": [2, 2, 9]}],
            None,
            "analysis.1 (reshape): 64 values do not fill [2, 2, 9]",
        ),
        (
            [{"op": "residual", "layers": [{"op": "flatten"}]}],
            None,
            "only the channels may change, and the resolution by a whole factor",
        ),
        (
            [{"op": "conv", "filters": 4, "stride": 4}],
            [{"op": "conv", "filters": 1}],
            "not an image of (8, 8, 1)",
        ),
        ([{"op": "conv"}], None, "conv needs `filters`"),
        (
            [
                {
                    "op": "residual",
                    "layers": [{"op": "conv", "filters": 1, "stride": 2}, {"op": "upsample", "factor": 3}],
                }
            ],
            None,
            "2x2 to 3x3: no whole factor",
        ),
        ([{"op": "residual"}], None, "residual needs `layers`"),
        ([{"op": "reshape"}], None, "reshape needs `shape`"),
    ],
)
def test_what_does_not_fit_is_named(analysis, synthesis, message):
    with pytest.raises(ValueError, match="Value error") as error:
        listed(analysis, synthesis)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.crop=32", "data.crop must be the transforms' size 28"),
        ("entropy.kind=context", "groups must sum to transforms.latent_channels"),
        ("transforms.analysis.0.op=pool", "transforms.analysis.0.op: "),
        ("transforms.analysis.3.filters=-1", "transforms.analysis.3.filters: "),
        ("transforms.size=30", "transforms: "),
    ],
)
def test_problems_of_a_configuration_are_named(override, message):
    with pytest.raises(TrainingError) as error:
        load_config("mnist", [override])
    assert message in str(error.value)


def test_a_fresh_prior_knows_how_wide_the_latents_are():
    """Whatever the last layer's gain is."""
    patches = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), np.uint8)
    spent = []
    for gain in (0.3, 3):
        config = load_config("mnist", [f"transforms.analysis.4.gain={gain}"])
        params = model.init_params(config, patches)
        _, metrics = model.forward(params, config, tf.constant(patches), None, 1.0)
        spent.append(metrics["bpp"].numpy())
    assert np.all(np.abs(spent[1] - spent[0]) < 50 / 784 * np.log2(10) * 1.3)


def test_a_plain_autoencoder_has_no_rate():
    config = load_config("mnist", ["entropy.kind=none", "levels.lambdas=[1.0]"])
    patches = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), np.uint8)
    params = model.init_params(config, patches)
    assert {name.split("/")[0] for name in params} == {"analysis", "synthesis"}
    loss, metrics = model.forward(params, config, tf.constant(patches), None, 1.0)
    assert metrics["bpp"].numpy() == [0]
    assert loss == metrics["mse"].numpy()[0]
    again = model.reconstruct(params, config, patches, 0).numpy()
    error = np.mean((again * 255 - patches) ** 2)
    assert error == pytest.approx(float(loss), rel=1e-4)


def test_stages_are_the_usual_kind():
    assert tiny().transforms.kind == "stages"
