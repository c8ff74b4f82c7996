"""The losses against the metrics that they are named after, and their gradients against differences."""

from pathlib import Path

import numpy as np
import pytest
from training_helpers import picture, tiny

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.errors import TrainingError
from codec_cli.evaluation import lpips, metrics
from codec_cli.training import losses
from codec_cli.training.config import Loss

SHARED = Path(__file__).parents[2] / "shared" / "data" / "lpips"


@pytest.fixture(scope="module")
def pair():
    """A picture and a noisy copy, odd in size; uint8 (177, 211, 3)."""
    clean = picture(3, 211, 177)
    noisy = clean + np.random.default_rng(0).normal(0, 15, clean.shape)
    return clean, np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of made-up weights of LPIPS."""
    rng = np.random.default_rng(5)
    arrays = {}
    for name, shape in lpips.names_and_shapes().items():
        fan = np.prod(shape[:3])
        values = rng.normal(0, (2 / fan) ** 0.5, shape) if "AlexNet" in name else rng.random(shape) / fan
        arrays[name] = values.astype(np.float32)
    path = tmp_path_factory.mktemp("lpips") / "made-up.npz"
    np.savez(path, **arrays)
    return path


def value(name, a, b, path=None, dtype=None):
    loss = Loss(name=name, weights=None if path is None else str(path))
    batches = [tf.constant(image[None] / np.float32(255)) for image in (a, b)]
    (result,) = losses.LOSSES[name](loss, *batches, dtype or tf.float32).numpy()
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_the_metric(pair, channels):
    a, b = (image[..., :channels] for image in pair)
    assert value("ssim", a, b) == pytest.approx(1 - metrics.ssim(a, b), abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_ms_ssim_is_the_metric(pair, channels):
    a, b = (image[..., :channels] for image in pair)
    assert value("ms_ssim", a, b) == pytest.approx(1 - metrics.ms_ssim(a, b), abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_the_metric(pair, weights, channels):
    a, b = (image[..., :channels] for image in pair)
    expected = lpips.Lpips.load(weights)(a, b)
    assert expected > 0
    assert value("lpips", a, b, weights) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("name", "distance"), [("ex_p0.png", 0.722), ("ex_p1.png", 0.138)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lpips_of_the_published_examples(name, distance, dtype):
    if not SHARED.exists():
        pytest.skip(f"the weights and examples of LPIPS are not here ({SHARED})")
    from PIL import Image

    a, b = (np.asarray(Image.open(SHARED / file).convert("RGB")) for file in ("ex_ref.png", name))
    path = SHARED / "lpips_alexnet.npz"
    assert value("lpips", a, b, path, tf.as_dtype(dtype)) == pytest.approx(distance, abs=1e-3)


@pytest.mark.parametrize(("name", "expected"), [("mse", lambda d: d**2), ("mae", np.abs)])
def test_errors_are_on_255(pair, name, expected):
    difference = pair[0].astype(float) - pair[1]
    assert value(name, *pair) == pytest.approx(np.mean(expected(difference)), rel=1e-5)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_equal_images_cost_nothing_and_give_finite_gradients(pair, weights, name):
    original = tf.constant(pair[0][None] / np.float32(255))
    loss = Loss(name=name, weights=str(weights) if name == "lpips" else None)
    with tf.GradientTape() as tape:
        tape.watch(original)
        result = losses.LOSSES[name](loss, tf.stop_gradient(original), original, tf.float32)
    assert result.numpy() == pytest.approx(0, abs=1e-5)
    assert np.isfinite(tape.gradient(result, original).numpy()).all()


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
@pytest.mark.parametrize("flat", [0.0, 0.5])
def test_flat_images_give_finite_gradients(weights, name, flat):
    """Black is what rectified features and contrast terms vanish on."""
    loss = Loss(name=name, weights=str(weights) if name == "lpips" else None)
    decoded = tf.constant(np.random.default_rng(1).random((1, 176, 176, 3), np.float32))
    with tf.GradientTape() as tape:
        tape.watch(decoded)
        result = losses.LOSSES[name](loss, tf.fill(decoded.shape, flat), decoded, tf.float32)
    assert np.isfinite(tape.gradient(result, decoded).numpy()).all()


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_gradients_are_those_of_the_function(pair, weights, name):
    loss = Loss(name=name, weights=str(weights) if name == "lpips" else None)
    original, decoded = (tf.constant(image[None] / np.float32(255)) for image in pair)
    with tf.GradientTape() as tape:
        tape.watch(decoded)
        result = losses.LOSSES[name](loss, original, decoded, tf.float32)
    gradient = tape.gradient(result, decoded).numpy()
    step = gradient / np.linalg.norm(gradient) * 0.05
    sides = [
        losses.LOSSES[name](loss, original, decoded + sign * step, tf.float32).numpy()[0] for sign in (1, -1)
    ]
    assert sides[0] - sides[1] == pytest.approx(2 * np.sum(gradient * step), rel=0.02)


def test_distortion_is_the_weighted_sum_of_its_terms(pair):
    config = tiny('losses=[{"name": "mse", "weight": 2}, {"name": "mae", "weight": 3}]')
    batches = [np.stack([a, b]) / np.float32(255) for a, b in (pair, pair[::-1])]
    result = losses.distortion(config, *map(tf.constant, batches), tf.float32).numpy()
    assert result == pytest.approx(2 * value("mse", *pair) + 3 * value("mae", *pair), rel=1e-5)
    assert result.shape == (2,)


def test_lpips_without_weights_says_where_to_get_them(pair, monkeypatch):
    monkeypatch.delenv(lpips.VARIABLE, raising=False)
    losses._lpips_weights.cache_clear()
    with pytest.raises(TrainingError, match=r"fetch_lpips\.py"):
        value("lpips", *pair)


def test_lpips_by_the_environment(pair, weights, monkeypatch):
    monkeypatch.setenv(lpips.VARIABLE, str(weights))
    losses._lpips_weights.cache_clear()
    assert value("lpips", *pair) == value("lpips", *pair, weights)
    losses._lpips_weights.cache_clear()
