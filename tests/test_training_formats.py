"""Networks for other programs: SavedModel, Keras and LiteRT files against the training code."""

import json

import numpy as np
import pytest
from conftest import error_line
from training_helpers import one_line, pictures, settings, tiny, trained

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.commands import export as command
from codec_cli.errors import TrainingError
from codec_cli.training import checkpoint, formats, keras_layers, levels, model
from codec_cli.training.config import Listed
from codec_cli.training.step import init_state

# Every kind of layer and of activation.
EVERY = {
    "kind": "layers",
    "channels": 1,
    "size": 16,
    "analysis": [
        {"op": "space_to_depth", "factor": 2, "activation": "none"},
        {"op": "conv", "filters": 6, "kernel": 5, "stride": 2, "activation": "leaky_relu"},
        {
            "op": "residual",
            "layers": [
                {"op": "conv", "filters": 8, "activation": "relu"},
                {"op": "conv", "filters": 8, "kernel": 1},
            ],
            "activation": "prelu",
        },
        {"op": "residual", "layers": [{"op": "conv", "filters": 8, "activation": "tanh"}, {"op": "gdn"}]},
        {"op": "attention"},
        {"op": "residual", "layers": [{"op": "conv", "filters": 8, "stride": 2}]},
        {"op": "flatten"},
        {"op": "dense", "filters": 9, "activation": "prelu"},
    ],
    "synthesis": [
        {"op": "dense", "filters": 32, "activation": "leaky_relu"},
        {"op": "reshape", "shape": [4, 4, 2]},
        {"op": "conv_transpose", "filters": 4, "kernel": 5, "stride": 2, "activation": "prelu"},
        {"op": "upsample", "factor": 2},
        {"op": "space_to_depth", "factor": 2},
        {"op": "residual", "layers": [{"op": "igdn"}, {"op": "subpixel", "filters": 4}]},
        {"op": "space_to_depth", "factor": 2},
        {"op": "subpixel", "filters": 1, "kernel": 3, "factor": 2, "activation": "sigmoid"},
    ],
}
MAP = {
    "kind": "layers",
    "channels": 1,
    "size": 16,
    "analysis": [{"op": "conv", "filters": 4, "kernel": 5, "stride": 4}],
    "synthesis": [{"op": "subpixel", "filters": 1, "factor": 4}],
}


def made(folder, transforms, kind):
    """A run of no steps, with weights unlike the initial ones; returns it and its configuration."""
    config = tiny(*settings(transforms=transforms, data__crop=16, entropy__kind=kind))
    params = model.init_params(config, pictures(8, 16, 1))
    rng = np.random.default_rng(8)
    params = {
        name: value + (0.1 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in params.items()
    }
    folder.mkdir()
    checkpoint.save_run_config(folder, config)
    checkpoint.save(folder, init_state(params), 7, 1.0)
    return folder, config, params


@pytest.fixture(scope="module", params=[(EVERY, "none"), (EVERY, "factorized"), (MAP, "factorized")])
def exported(request, tmp_path_factory):
    """A run with its networks in all formats at trained level 2; target, configuration, parameters."""
    folder = tmp_path_factory.mktemp("formats")
    run, config, params = made(folder / "run", *request.param)
    level = 2 * (config.levels.between + 1)
    formats.export_formats(run, folder / "out", formats=formats.FORMATS, level=level)
    return folder / "out", config, params


def outputs(folder, network, name, value):
    """What other programs get from a file, image by image."""
    run = formats.load(folder / f"{network}.{name}", name)
    return np.concatenate([run(np.ascontiguousarray(one[None])) for one in value])


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_gives_what_the_training_code_gives(exported, name):
    folder, config, params = exported
    images = pictures(5, 16, 1)
    tensors = {key: tf.constant(value) for key, value in params.items()}
    wanted = np.clip(model.reconstruct(tensors, config, images, 2).numpy(), 0, 1)
    tolerance = 1e-3 if name == "tflite" else 1e-5
    value = images.astype(np.float32) / 255
    latents = outputs(folder, "encoder", name, value)
    assert latents.shape == (5, *config.transforms.latent_shape)
    symbols = latents if config.entropy.kind == "none" else np.rint(latents)
    # The decoder alone reproduces the full model.
    np.testing.assert_allclose(outputs(folder, "decoder", name, symbols), wanted, atol=tolerance)
    np.testing.assert_allclose(outputs(folder, "autoencoder", name, value), wanted, atol=tolerance)
    if config.entropy.kind != "none":
        gain = levels.gains(config, params)[0][2 * (config.levels.between + 1)]
        plain = model.networks.analysis(tensors, config.transforms, tf.constant(value)).numpy()
        np.testing.assert_allclose(latents, plain * gain, rtol=1e-3, atol=1e-3)


def test_what_lies_in_the_folder(exported):
    folder, config, _ = exported
    names = {f"{n}.{f}" for n in ("encoder", "decoder", "autoencoder") for f in formats.FORMATS}
    assert {path.name for path in folder.iterdir()} == {*names, "networks.json", "README.md"}
    facts = json.loads((folder / formats.FACTS).read_text())
    latents = [None, *config.transforms.latent_shape]
    assert facts["networks"]["encoder"]["input"] == [None, 16, 16, 1]
    assert facts["networks"]["encoder"]["output"] == facts["networks"]["decoder"]["input"] == latents
    assert facts["level"] == 6
    for entry in facts["networks"].values():
        for name in formats.FORMATS:
            assert entry[name]["difference"] < 1e-2
    card = (folder / formats.CARD).read_text()
    assert "any x 16 x 16 x 1" in card
    assert ("Round the encoder's latents" in card) == (config.entropy.kind != "none")


def test_files_load_in_batches_and_without_this_package(exported):
    folder, _, _ = exported
    value = tf.constant(pictures(3, 16, 1), tf.float32) / 255.0
    served = tf.saved_model.load(str(folder / "autoencoder.savedmodel")).signatures["serving_default"]
    (batch,) = served(input=value).values()
    loaded = tf.keras.models.load_model(folder / "autoencoder.keras", compile=False)
    np.testing.assert_allclose(batch, loaded(value), atol=1e-5)
    # Nothing of the package is named in what Keras reads.
    assert "codec_cli" not in loaded.to_json()


def test_transforms_of_stages(tmp_path):
    """They run at any size; Keras has no layers for them."""
    run = trained("factorized")
    formats.export_formats(run, tmp_path / "out", formats=("savedmodel", "tflite"))
    state, _, _ = checkpoint.load(run)
    config = checkpoint.load_run_config(run)
    tensors = {key: tf.constant(value) for key, value in state["ema"].items()}
    images = np.stack([pictures(2, 96)[i][:80] for i in range(2)])
    wanted = np.clip(model.reconstruct(tensors, config, images, 1).numpy(), 0, 1)
    value = images.astype(np.float32) / 255
    for name, tolerance in (("savedmodel", 1e-5), ("tflite", 1e-3)):
        symbols = np.rint(outputs(tmp_path / "out", "encoder", name, value))
        assert symbols.shape == (2, 5, 6, 24)
        np.testing.assert_allclose(
            outputs(tmp_path / "out", "decoder", name, symbols), wanted, atol=tolerance
        )
    with pytest.raises(TrainingError, match="listed by layers") as error:
        formats.export_formats(run, tmp_path / "other", formats=("keras",))
    assert one_line(error).startswith(str(run))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    run, _, _ = made(tmp_path / "run", MAP, "none")
    good = keras_layers.model
    monkeypatch.setattr(keras_layers, "model", lambda config, name, *_: good(config, name))
    with pytest.raises(TrainingError, match="differs from the training code") as error:
        formats.export_formats(run, tmp_path / "out", formats=("keras",), part="encoder")
    one_line(error)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_discriminator_as_a_model(tmp_path):
    section = {"layers": [{"op": "conv", "filters": 2, "stride": 2}, {"op": "flatten"}]}
    config = tiny(*settings(transforms=MAP, data__crop=16, entropy__kind="none", adversarial=section))
    assert isinstance(config.transforms, Listed)
    assert keras_layers.model(config, "discriminator").output_shape == (None, 128)


# The command


def test_the_command_knows_the_formats():
    assert command.FORMATS == formats.FORMATS
    assert command.PARTS == formats.PARTS


def test_the_command(run, tmp_path):
    folder, _, _ = made(tmp_path / "run", MAP, "factorized")
    result = run(
        "export", folder, tmp_path / "new" / "out", "--format", "tflite", "--format", "tflite",
        "--part", "decoder", "--level", "0", "--note", "data=my own",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'new' / 'out'}: decoder as tflite, level 0\n"
    facts = json.loads((tmp_path / "new" / "out" / "networks.json").read_text())
    assert facts["training"]["data"] == "my own"
    assert facts["training"]["steps"] == 7
    assert list(facts["networks"]) == ["decoder"]
    for arguments, text in (
        ((folder, tmp_path / "new" / "out", "--format", "tflite"), "exists"),
        ((folder, tmp_path / "x", "--format", "tflite", "--level", "7"), "levels 0 to 6"),
        ((trained("factorized"), tmp_path / "x", "--format", "keras"), "take savedmodel or tflite"),
    ):
        result = run("export", *arguments)
        assert result.exit_code == TrainingError.exit_code
        assert text in error_line(result)
    for arguments in (["--part", "decoder"], ["--level", "1"], ["--format", "onnx"]):
        assert run("export", folder, tmp_path / "x", *arguments).exit_code == 2
    assert not (tmp_path / "x").exists()
