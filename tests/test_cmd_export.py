"""`codec export`: from a run to a model that the codec uses."""

import json
import shutil

import numpy as np
import pytest
from conftest import error_line
from PIL import Image
from training_helpers import SMALL, cache, photos, picture, scratch, settings, tiny, trained

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.bitstream.context import ContextModel
from codec_cli.bitstream.entropy import TOTAL
from codec_cli.codec import Codec
from codec_cli.errors import TrainingError
from codec_cli.loading import load_entropy_model
from codec_cli.training import checkpoint, data, export, levels, lite, loop, networks
from codec_cli.zoo import read_info

KINDS = ("context", "factorized")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def exported(kind):
    """A model folder of a short run."""
    target = scratch() / "models" / f"short-{kind}-1"
    if not target.exists():
        export.export_run(
            trained(kind), target, cache_dir=cache(), provenance={"hardware": "two cores"}, quiet=True
        )
    return target


# The command


def test_train_export_compress_decompress(run, tmp_path):
    folder, target, source = tmp_path / "run", tmp_path / "models" / "mine-1", tmp_path / "a.png"
    shutil.copytree(trained(), folder)
    result = run(
        "export", folder, target, "--cache-dir", cache(), "--note", "data=my own", "--table-patches", "20"
    )
    assert result.exit_code == 0, result.stderr
    info = read_info(target)
    assert f"{target}: 7 levels" in result.stdout
    assert f"fingerprint {info.fingerprint.hex()}" in result.stdout
    assert info.facts["training"]["data"] == "my own"
    assert [path.name for path in target.parent.iterdir()] == ["mine-1"]

    Image.fromarray(picture(55, 100, 70)).save(source)
    models = ("--models-dir", target.parent)
    result = run("compress", source, tmp_path / "a.bin", "--model", "mine", *models)
    assert result.exit_code == 0, result.stderr
    result = run("decompress", tmp_path / "a.bin", tmp_path / "b.png", *models)
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (100, 70)


def test_quiet(run, tmp_path):
    result = run(
        "export", trained(), tmp_path / "a-1", "--cache-dir", cache(), "--quiet", "--table-patches", "1"
    )
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_an_existing_target_is_refused(run, tmp_path):
    target = tmp_path / "a-1"
    target.mkdir()
    (target / "precious").write_text("stay")
    for name in (target, target / "precious"):
        result = run("export", trained(), name, "--cache-dir", cache())
        assert result.exit_code == TrainingError.exit_code
        assert "released models never change" in error_line(result)
    assert [path.name for path in tmp_path.rglob("*")] == ["a-1", "precious"]


def test_what_is_no_run(run, tmp_path):
    result = run("export", tmp_path / "missing", tmp_path / "a-1")
    assert result.exit_code == 2
    result = run("export", tmp_path, tmp_path / "a-1")
    assert result.exit_code == TrainingError.exit_code
    assert "no readable checkpoint" in error_line(result)
    shutil.copy(trained() / checkpoint.FILE, tmp_path)
    assert "holds no run" in error_line(run("export", tmp_path, tmp_path / "a-1"))


def test_moved_data(run, tmp_path):
    """A run of another machine names directories that are not here; --set says where they are now."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(trained() / checkpoint.FILE, folder)
    checkpoint.save_run_config(folder, tiny(*settings(data__path="/not/here")))
    result = run("export", folder, tmp_path / "a-1", "--quiet")
    assert result.exit_code == TrainingError.exit_code
    assert "/not/here" in error_line(result)
    place = f"data.path={json.dumps(str(photos()))}"
    result = run("export", folder, tmp_path / "a-1", "--quiet", "--set", place, "--cache-dir", cache())
    assert result.exit_code == 0, result.stderr
    assert "/not/here" not in (tmp_path / "a-1" / "model.json").read_text()


def test_disagreement_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        export, "compare_with_tensorflow", lambda *_: {"equal_symbols": 0.99, "pixel_difference": 0.0}
    )
    result = run("export", trained(), tmp_path / "a-1", "--cache-dir", cache(), "--quiet")
    assert result.exit_code == TrainingError.exit_code
    assert "differs from TensorFlow" in error_line(result)
    assert not list(tmp_path.iterdir())


def test_weights_that_integers_can_not_hold(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained(), folder)
    state, step, seconds = checkpoint.load(folder)
    state["ema"]["context/pass-1-1/layer0/kernel"] += 1e5
    checkpoint.save(folder, state, step, seconds)
    result = run("export", folder, tmp_path / "a-1", "--cache-dir", cache(), "--quiet")
    assert result.exit_code == TrainingError.exit_code
    assert "pass-1-1/layer0: weights too large" in error_line(result)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# The model


def test_a_model_folder_is_whole(exported, kind):
    info = read_info(exported)
    info.verify()
    assert {path.name for path in exported.iterdir()} == {"model.json", "README.md", *info.facts["files"]}
    assert {"analysis.tflite", "synthesis.tflite", "tables.npz", "weights.npz"} <= set(info.facts["files"])
    facts = info.facts
    assert facts["kind"] == kind
    assert (facts["levels"], facts["trained_levels"], facts["stride"], facts["latent_channels"]) == (
        7,
        3,
        16,
        24,
    )
    assert facts["groups"] == ([4, 8, 12] if kind == "context" else [])
    assert facts["training"]["steps"] == 24
    assert facts["training"]["hardware"] == "two cores"
    config = {**facts["config"], "data": {**facts["config"]["data"], "path": str(photos())}}
    assert config == checkpoint.load_run_config(trained(kind)).model_dump(mode="json")
    # Nothing of this machine.
    assert str(scratch()) not in (exported / "model.json").read_text()
    assert str(scratch()) not in (exported / "README.md").read_text()


def test_export_agrees_with_tensorflow(exported):
    agreement = read_info(exported).facts["agreement"]
    assert agreement["equal_symbols"] >= 0.999
    assert agreement["pixel_difference"] <= 1 / 255


def test_the_card_tells_what_was_measured(exported, kind):
    card, facts = (exported / "README.md").read_text(), read_info(exported).facts
    assert card.startswith(f"# short-{kind}-1\n")
    assert "24 steps" in card
    assert "hardware: two cores" in card
    assert "% equal symbols" in card
    assert "nan" not in card
    assert len(facts["validation"]) == 7
    for row in facts["validation"]:
        assert f"| {row['level']} | {row['bpp']:.3f} | {row['psnr_rgb_db']:.2f} |" in card
    rates = [row["bpp"] for row in facts["validation"]]
    assert rates == sorted(set(rates))
    assert facts["default_level"] == int(np.argmin(np.abs(np.array(rates) - 0.6)))


def test_tables(exported, kind):
    info = read_info(exported)
    model = load_entropy_model(info)
    assert isinstance(model, ContextModel) == (kind == "context")
    assert len(model.first) == 7
    for tables in (*model.first, *([model.bank] if kind == "context" else [])):
        sums = np.add.reduceat(tables.counts.astype(np.int64), tables.starts[:-1])
        assert (sums == TOTAL).all()
        assert tables.counts.min() >= 1
        assert ((tables.offsets <= 0) & (tables.offsets + tables.lengths - 1 > 0)).all()
    if kind == "context":
        assert len(model.bank.lengths) == 52 * 8
        model.check_bounds()
    # A level's tables are its own, those of interpolated levels too.
    assert len({tables.counts.tobytes() for tables in model.first}) == 7


def test_gains_and_shares(exported, kind):
    arrays, config = read_info(exported).tables, checkpoint.load_run_config(trained(kind))
    forward, inverse = levels.gains(config, checkpoint.load(trained(kind))[0]["ema"])
    np.testing.assert_array_equal(arrays["gain"], forward)
    np.testing.assert_array_equal(arrays["inverse_gain"], inverse)
    np.testing.assert_array_equal(arrays["level_weights"], levels.hat_weights(config))


def test_the_exported_model_codes_at_every_level(exported):
    codec = Codec(read_info(exported))
    for width, height in ((96, 80), (1, 1), (17, 33)):
        image = picture(66, width, height)
        sizes = []
        for quality in (1, 17, 34, 50, 67, 84, 100):
            encoded = codec.encode(image, quality)
            decoded = codec.decode(encoded)
            assert decoded.shape == image.shape
            sizes.append(len(encoded))
        if width > 90:
            assert sizes == sorted(sizes)
            assert np.mean((decoded.astype(float) - image) ** 2) < 200


def test_tables_pay(exported, kind):
    """Bits by the exported integer tables are near those of the model's continuous density."""
    config = checkpoint.load_run_config(trained(kind))
    state, _, _ = checkpoint.load(trained(kind))
    image = data.load_image(data.split(config)[1][0], 3)[:128, :128]
    result = loop.validate(config, state["ema"], image[None])
    info = read_info(exported)
    model = load_entropy_model(info)
    weights = {name: tf.constant(value) for name, value in lite.round_half(state["ema"]).items()}
    latents = networks.analysis(
        weights, config.transforms, tf.constant(image[None] / np.float32(255))
    ).numpy()[0]
    for trained_level, level in enumerate((0, 3, 6)):
        symbols = np.rint(latents * info.tables["gain"][level]).astype(np.int16)
        spent = 8 * len(model.encode(symbols, level)) / (128 * 128)
        assert spent < 1.1 * result["bpp"][trained_level] + 0.01


def test_weights_are_for_fine_tuning(exported, kind, environment):
    config = checkpoint.load_run_config(trained(kind))
    state, _, _ = checkpoint.load(trained(kind))
    params = loop.initial_params(config, np.stack([picture(1)] * 2), str(exported))
    assert params.keys() == state["ema"].keys()
    for name, value in params.items():
        np.testing.assert_allclose(value, state["ema"][name], rtol=1e-3, atol=1e-6)


def test_transforms_are_rounded_to_half_precision():
    state, _, _ = checkpoint.load(trained())
    rounded = lite.round_half(state["ema"])
    for name, value in rounded.items():
        assert value.dtype == np.float32
        if name.startswith(("analysis/", "synthesis/")):
            np.testing.assert_array_equal(value, state["ema"][name].astype(np.float16))
        else:
            np.testing.assert_array_equal(value, state["ema"][name])


def test_a_gray_model(tmp_path):
    config = tiny(*settings(), *SMALL, "transforms.channels=1", "run.steps=2")
    loop.train(config, tmp_path / "run", cache_dir=cache(), quiet=True)
    info = export.export_run(tmp_path / "run", tmp_path / "gray-1", cache_dir=cache(), quiet=True)
    assert info.channels == 1
    image = picture(4, 50, 40, 1)
    codec = Codec(info)
    decoded = codec.decode(codec.encode(image, 90))
    assert decoded.shape == image.shape
    assert np.mean((decoded.astype(float) - image) ** 2) < 300
    assert codec.decode(codec.encode(image[..., 0], 90)).shape == image.shape


def test_a_single_level_and_tiny_validation_images(tmp_path):
    photos_here, held_out = tmp_path / "photos", tmp_path / "held out"
    shutil.copytree(photos(), photos_here)
    held_out.mkdir()
    for i, size in enumerate([(9, 40), (1, 1), (40, 33)]):
        Image.fromarray(picture(i, *size)).save(held_out / f"{i}.png")
    changes = settings(data__path=str(photos_here), data__validation=str(held_out), run__validation_images=3)
    config = tiny(*changes, *SMALL, "levels.lambdas=[0.05]", "data.batch=2", "run.steps=1")
    loop.train(config, tmp_path / "run", cache_dir=cache(), quiet=True)
    info = export.export_run(tmp_path / "run", tmp_path / "one-1", cache_dir=cache(), quiet=True)
    assert info.levels == 1
    assert len(info.facts["validation"]) == 1
    assert "nan" not in (tmp_path / "one-1" / "README.md").read_text()
    image = picture(8, 70, 50)
    codec = Codec(info)
    assert codec.encode(image, 1) == codec.encode(image, 100)
    assert codec.decode(codec.encode(image)).shape == image.shape


def test_a_run_on_a_tensorflow_data_set(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra `train`")
    place = ("data.path=null", "data.dataset=tfds:mnist", f"data.data_dir={tmp_path}")
    config = tiny(*settings(), *SMALL, *place, "transforms.channels=1", "run.steps=1")
    with tfds.testing.mock_data(num_examples=12):
        loop.train(config, tmp_path / "run", cache_dir=tmp_path / "cache", quiet=True)
        info = export.export_run(
            tmp_path / "run", tmp_path / "digits-1", cache_dir=tmp_path / "cache", quiet=True
        )
    assert info.facts["config"]["data"]["dataset"] == "tfds:mnist"
    assert str(tmp_path) not in (tmp_path / "digits-1" / "model.json").read_text()
    # Measured on the data set's tail.
    assert info.facts["agreement"]["equal_symbols"] >= 0.999
    assert len(info.facts["validation"]) == 7
