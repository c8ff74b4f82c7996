"""Latent channels that say what an image shows: labels beside images, and training that heeds them."""

import numpy as np
import pytest
from training_helpers import one_line

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.bitstream.container import parse
from codec_cli.codec import Codec
from codec_cli.errors import TrainingError
from codec_cli.sampling import draw_plane
from codec_cli.training import checkpoint, data, export, inputs, loop, lower, model, networks
from codec_cli.training.config import load_config

BITS = 3
# Overrides to a latent of 2x2 positions.
SQUARE = (
    'transforms.analysis.4={"op": "reshape", "shape": [2, 2, 6]};transforms.synthesis.0={"op": "flatten"};'
    "entropy.context.groups=[1, 1, 1, 3]"
)


def bars(count, seed):
    """A bar at one of six heights, which is its class, uint8 (n, 28, 28) and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, count)
    images = rng.integers(0, 40, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 4 * label : 5 + 4 * label, 4:24] = 230
    return images, labels


def small(path, *overrides):
    """The packaged configuration with fewer channels."""
    return load_config(
        "mnist-classes",
        [
            f"data.path={path}",
            "transforms.analysis.0.filters=6",
            "transforms.analysis.1.filters=8",
            "transforms.analysis.3.filters=24",
            "transforms.analysis.4.filters=8",
            "transforms.synthesis.0.filters=24",
            "transforms.synthesis.1.filters=392",
            "transforms.synthesis.2.shape=[7, 7, 8]",
            "transforms.synthesis.3.filters=6",
            f"labels.bits={BITS}",
            "entropy.context.groups=[1, 1, 1, 5]",
            "entropy.context.hidden=8",
            "data.batch=32",
            "data.cache_patches=300",
            "optimizer.warmup_steps=10",
            "run.steps=250",
            "run.validate_steps=125",
            "run.validation_images=20",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    (x, y), (z, w) = bars(300, 1), bars(50, 2)
    np.savez(path, x_train=x, y_train=y, x_test=z, y_test=w)
    return path


@pytest.fixture(scope="module")
def finished(source):
    """A finished run and its configuration."""
    run, config = source.parent / "run", small(source)
    loop.train(config, run, cache_dir=source.parent / "cache", quiet=True)
    return run, config


def test_labels_belong_to_the_images_of_the_batch(source, tmp_path):
    config = small(source)
    patches = data.load_patches(config, tmp_path, quiet=True)
    labels = inputs.labels(config, len(patches))
    np.testing.assert_array_equal(labels, np.load(source)["y_train"])
    known = {patch.tobytes(): label for patch, label in zip(patches, labels, strict=True)}
    for step in (0, 7, 100_000):
        bits = data.labels_at(config, patches, labels, step)
        assert (bits.shape, bits.dtype) == ((32, BITS), np.float32)
        wanted = [known[image.tobytes()] for image in data.batch_at(config, patches, step)]
        np.testing.assert_array_equal(bits @ (1 << np.arange(BITS)), wanted)


def test_labels_of_a_tensorflow_data_set():
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra `train`")
    config = load_config("mnist-classes", ["data.dataset=tfds:mnist"])
    with tfds.testing.mock_data(num_examples=20):
        labels = inputs.labels(config, 12)
        wanted = [
            int(label) for _, label in tfds.as_numpy(tfds.load("mnist", split="train", as_supervised=True))
        ]
    assert labels.tolist() == wanted[:12]


@pytest.mark.parametrize("kind", ["npz", "directory"])
def test_images_without_labels_are_told(tmp_path, kind):
    images, _ = bars(30, 1)
    if kind == "npz":
        np.savez(tmp_path / "a.npz", x_train=images, x_test=images)
        config = small(tmp_path / "a.npz")
    else:
        from PIL import Image

        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{i}.png")
        config = small(tmp_path)
    with pytest.raises(TrainingError, match="has no labels") as error:
        loop.train(config, tmp_path / "run", quiet=True)
    one_line(error)


def test_more_classes_than_bits(source):
    config = small(source, "labels.bits=2")
    with pytest.raises(TrainingError, match=r"labels\.bits=2: too few for labels of 0 to 5"):
        inputs.labels(config, 300)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("entropy.kind=factorized", "labels is for"),
        ("entropy.context.groups=[1, 1, 2, 4]", "labels is for"),
        ("labels.bits=4", "labels is for"),
        (SQUARE, "labels is for"),
        ("run.rdoq=0.2", "set one of them"),
    ],
)
def test_labels_that_do_not_fit_the_model(source, change, message):
    with pytest.raises(TrainingError, match=message) as error:
        small(source, *change.split(";"))
    one_line(error)


def test_labels_have_the_same_symbols_at_every_level(source):
    params = model.init_params(small(source), bars(300, 1)[0][..., None])
    assert (params["gain/forward"][:, :BITS] == 0).all()
    assert (np.diff(params["gain/forward"][:, BITS:], axis=0) > 0).all()


def test_the_loss_is_the_squared_error_of_the_symbols(source):
    config = small(source)
    images, labels = bars(8, 4)
    params = model.init_params(config, images[..., None])
    levels = len(config.levels.lambdas)
    params["gain/forward"][:, :BITS] = np.log(np.arange(1, 1 + levels))[:, None]
    constants = {name: tf.constant(value) for name, value in params.items()}
    bits = (labels[:, None] >> np.arange(BITS) & 1).astype(np.float32)
    found = model.label_loss(constants, config, tf.constant(images[..., None]), tf.constant(bits))
    latents = networks.analysis(constants, config.transforms, images[..., None] / np.float32(255)).numpy()
    symbols = latents[:, 0, 0, :BITS] * np.tile(np.arange(1, 1 + levels), 8 // levels)[:, None]
    assert float(found) == pytest.approx(np.mean(np.sum((symbols - bits) ** 2, 1)), rel=1e-5)


def test_symbols_become_labels(finished):
    run, config = finished
    params = checkpoint.load(run)[0]["ema"]
    images, labels = bars(60, 9)
    latents = networks.analysis(params, config.transforms, images[..., None] / np.float32(255)).numpy()
    for gain in np.exp(params["gain/forward"]):
        symbols = np.rint(latents[:, 0, 0, :BITS] * gain[:BITS])
        assert np.mean(symbols @ (1 << np.arange(BITS)) == labels) > 0.9


def test_the_model_is_one_like_any_other(finished, tmp_path):
    """Its files hold the label as they hold all else, and its samples say what they show."""
    run, _ = finished
    info = export.export_run(run, tmp_path / "bars-1", cache_dir=run.parent / "cache", quiet=True)
    codec = Codec(info)
    image, label = bars(1, 12)
    symbols = codec.symbols(codec.encode(image[0]))[0][0, 0]
    assert symbols[:BITS] @ (1 << np.arange(BITS)) == label[0]
    rng = np.random.default_rng(1)
    model = codec.loaded_for(parse(codec.encode(image[0]), info.tile_pixels, 1 << 20).header)
    drawn = np.stack([draw_plane(model, 0, 1, 1, rng)[0, 0, :BITS] for _ in range(300)])
    sane = ((drawn >= 0) & (drawn <= 1)).all(1)
    # Of eight combinations six are labels.
    assert np.mean(sane & (drawn @ (1 << np.arange(BITS)) < 6)) > 0.8


def test_it_does_not_lower(source, tmp_path):
    config = small(source)
    params = model.init_params(config, bars(300, 1)[0][..., None])
    with pytest.raises(TrainingError, match=r"section labels can't be lowered.*--set labels=null") as error:
        lower.lower(config, params, tmp_path)
    one_line(error)
