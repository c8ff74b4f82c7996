"""Training against a discriminator: both losses, who moves which weights, the start, resumption."""

import functools
import json
import os
import signal

import numpy as np
import pytest
from training_helpers import MODELS, cache, one_line, pictures, scratch, settings, tiny, write_pictures

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.errors import TrainingError
from codec_cli.training import adversarial, checkpoint, data, export, loop, lower, model, schedule, step
from codec_cli.training import pictures as shown
from codec_cli.zoo import read_info

LAYERS = [
    {"op": "conv", "filters": 8, "stride": 4, "kernel": 5, "activation": "leaky_relu"},
    {"op": "conv", "filters": 1, "stride": 4, "kernel": 5},
]
# Small enough to be traced in a second.
TRANSFORMS = {
    "kind": "layers",
    "channels": 3,
    "size": 16,
    "analysis": [{"op": "conv", "filters": 8, "stride": 4, "kernel": 5}],
    "synthesis": [{"op": "subpixel", "filters": 3, "factor": 4}],
}
SHAPE = (6, 4, 4, 8)
LOSSES = ("non-saturating", "hinge")


@functools.cache
def small_pictures():
    return write_pictures(scratch() / "small", ((16, 16),) * 12)


def plain(*overrides):
    """A small autoencoder without a discriminator."""
    changes = settings(
        transforms=TRANSFORMS, data__crop=16, entropy__kind="factorized", data__path=str(small_pictures())
    )
    return tiny(*changes, *overrides)


def judged(*overrides, **more):
    """The same with one."""
    section = {"layers": LAYERS, "learning_rate": 0.002, **more}
    return plain(f"adversarial={json.dumps(section)}", *overrides)


def own(names):
    return {name for name in names if name.startswith(adversarial.PREFIX)}


@pytest.fixture(scope="module")
def patches():
    return pictures(12, 16)


def start(config, patches):
    state = adversarial.fit(config, step.init_state(model.init_params(config, patches)))
    return tf.nest.map_structure(tf.constant, state)


def steps(config, patches, count, state=None, first=0):
    """Some train steps on the same batch; the state and the metrics of each."""

    @tf.function(autograph=False)
    def one(state, images, noise, scalars):
        return step.train_step(config, state, images, noise, scalars)

    state = start(config, patches) if state is None else state
    history = []
    for number in range(first, first + count):
        scalars = schedule.scalars(config.model_dump(), number)
        noise = tf.random.stateless_uniform(SHAPE, (1, number), -0.5, 0.5)
        scalars = {name: tf.constant(value) for name, value in scalars.items()}
        state, metrics = one(state, tf.constant(patches[:6]), noise, scalars)
        history.append({name: value.numpy() for name, value in metrics.items()})
    return state, history


# The configuration


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("adversarial={}", "adversarial.layers"),
        ("adversarial.loss=wasserstein", "adversarial.loss"),
        ("adversarial.weight=0", "adversarial.weight"),
        ("adversarial.start=1.5", "adversarial.start"),
        ("adversarial.r1=-1", "adversarial.r1"),
        ("adversarial.layers=[]", "adversarial.layers"),
        (
            'adversarial.layers.1={"op": "dense", "filters": 1}',
            "adversarial.layers.1 (dense): needs a vector",
        ),
    ],
)
def test_a_wrong_section_names_its_field(change, named):
    with pytest.raises(TrainingError) as error:
        judged(change)
    assert named in one_line(error)


def test_without_a_section_there_is_no_discriminator(patches):
    state = start(plain(), patches)
    assert not own(state["params"])
    assert set(schedule.scalars(tiny().model_dump(), 0)) == set(schedule.NAMES)
    assert tiny().adversarial is None


def test_parameters_of_the_model_do_not_depend_on_it(patches):
    with_one, without = start(judged(), patches), start(plain(), patches)
    assert own(with_one["params"]) == own(with_one["m"]) == own(with_one["v"])
    assert own(with_one["params"]) == {
        f"discriminator/{name}" for name in ("0/kernel", "0/bias", "1/kernel", "1/bias", "updates")
    }
    assert not own(with_one["ema"])
    for name, value in without["params"].items():
        np.testing.assert_array_equal(with_one["params"][name], value)


# Losses


def test_losses_by_hand(patches):
    images = tf.constant(patches[:6], tf.float32) / 255.0
    decoded = images[::-1] * 0.5
    for name in LOSSES:
        config = judged(loss=name)
        params = start(config, patches)["params"]
        real, false = (adversarial.logits(params, config.adversarial, x).numpy() for x in (images, decoded))
        assert real.shape == (6,)
        fooling = adversarial.generator_loss(params, config, decoded, tf.float32).numpy()
        telling = float(adversarial.discriminator_loss(params, config, images, decoded, tf.float32))
        if name == "hinge":
            np.testing.assert_allclose(fooling, -false, rtol=1e-5)
            wanted = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + false).mean()
        else:
            np.testing.assert_allclose(fooling, np.log1p(np.exp(-false)), rtol=1e-5)
            wanted = np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(false)).mean()
        assert telling == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_penalty_by_differences(patches):
    config, with_penalty = judged(), judged(r1=3.0)
    params = start(config, patches)["params"]
    images = tf.constant(patches[:2], tf.float32) / 255.0
    without, penalised = (
        float(adversarial.discriminator_loss(params, c, images, images, tf.float32))
        for c in (config, with_penalty)
    )
    # The logit is piecewise linear: along its gradient a short step shows the gradient's norm.
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = tf.reduce_sum(adversarial.logits(params, config.adversarial, images))
    slope = tape.gradient(score, images)
    moved = adversarial.logits(params, config.adversarial, images + 1e-3 * slope)
    before = adversarial.logits(params, config.adversarial, images)
    squares = (moved - before).numpy() / 1e-3
    assert penalised - without == pytest.approx(1.5 * squares.mean(), rel=0.02)


# Training


@pytest.mark.parametrize(("loss", "more"), [("hinge", {}), ("non-saturating", {}), ("hinge", {"r1": 0.1})])
def test_the_discriminator_learns(patches, loss, more):
    _, history = steps(judged(loss=loss, **more), patches, 40)
    told = [entry["discriminator"] for entry in history]
    assert np.isfinite(told).all()
    assert np.mean(told[-5:]) < 0.9 * told[0]
    for entry in history:
        assert set(entry) == {"bpp", "mse", "loss", "total", "grad_norm", "adversarial", "discriminator"}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_generator_learns_to_fool(patches, loss):
    """Against a discriminator that stands still, decoded images look more and more like originals."""
    config = judged("optimizer.learning_rate=0.005", loss=loss, learning_rate=1e-12, weight=1e6)
    _, history = steps(config, patches, 40)
    assert history[-1]["adversarial"] < history[0]["adversarial"]


def test_nobody_moves_the_others_weights(patches):
    """The discriminator's gradient does not reach the model, nor the model's the discriminator."""
    config = judged()
    state = start(config, patches)
    scalars = {k: tf.constant(v) for k, v in schedule.scalars(config.model_dump(), 0).items()}
    arguments = (tf.constant(patches[:6]), tf.zeros(SHAPE), scalars)
    reference, _ = step.train_step(config, state, *arguments)
    # The model's step does not know the discriminator's rate, loss of its own or penalty.
    other, _ = step.train_step(judged(learning_rate=0.1, r1=5.0, beta1=0.9), state, *arguments)
    for part in ("params", "m", "v", "ema"):
        for name in reference[part].keys() - own(reference[part]):
            np.testing.assert_array_equal(reference[part][name], other[part][name])
    assert any(np.any(reference["params"][n] != other["params"][n]) for n in own(state["params"]))
    # Nor the discriminator's the model's weight, rate or lambdas.
    other, _ = step.train_step(
        judged("optimizer.learning_rate=0.1", "levels.lambdas=[0.1, 0.2, 0.3]", weight=50.0),
        state,
        *arguments,
    )
    for part in ("params", "m", "v"):
        for name in own(reference[part]):
            np.testing.assert_array_equal(reference[part][name], other[part][name])
    assert any(np.any(reference["params"][n] != other["params"][n]) for n in state["ema"])


def test_the_weight_is_that_of_a_distortion(patches):
    config = judged(weight=7.0)
    state = start(config, patches)
    scalars = {k: tf.constant(v) for k, v in schedule.scalars(config.model_dump(), 0).items()}
    images = tf.constant(patches[:6])
    _, metrics = step.train_step(config, state, images, tf.zeros(SHAPE), scalars)
    original, decoded, bpp = model.transmit(state["params"], config, images, tf.zeros(SHAPE), 0.0)
    alone, _ = model.rate_distortion(config, original, decoded, bpp, tf.float32)
    fooling = adversarial.generator_loss(state["params"], config, decoded, tf.float32).numpy()
    shares = np.tile(model.level_weights(config) * config.levels.lambdas, 2)
    assert float(metrics["total"] - alone) == pytest.approx(7 * np.mean(fooling * shares), rel=1e-3)
    assert float(metrics["adversarial"]) == pytest.approx(fooling.mean(), rel=1e-5)


def test_it_switches_on_at_the_start(patches):
    config, without = judged("run.steps=20", start=0.5), plain("run.steps=20")
    begun = start(config, patches)
    before, history = steps(config, patches, 10)
    alone, _ = steps(without, patches, 10)
    assert all(entry["discriminator"] == entry["adversarial"] == 0 for entry in history)
    for part in ("params", "m", "v"):
        for name in own(begun["params"]):
            np.testing.assert_array_equal(before[part][name], begun[part][name])
        for name in alone[part]:
            np.testing.assert_allclose(before[part][name], alone[part][name], rtol=1e-4, atol=1e-6)
    after, history = steps(config, patches, 1, before, 10)
    assert history[0]["discriminator"] > 0
    assert float(after["params"][adversarial.UPDATES]) == 1
    # The first step of Adam moves by the rate whatever the gradient: its moments are corrected from here on.
    moved = np.abs(after["params"]["discriminator/0/kernel"] - begun["params"]["discriminator/0/kernel"])
    assert np.median(moved) == pytest.approx(0.002, rel=0.01)


def test_in_half_precision(patches):
    _, history = steps(judged("run.precision=bfloat16", r1=0.1), patches, 3)
    assert all(np.isfinite(entry["discriminator"]) for entry in history)


# Runs


def train(run, config, **more):
    return loop.train(config, run, cache_dir=cache(), quiet=True, **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "adversarial"
    return run, train(run, judged("run.steps=20", "run.validate_steps=10", start=0.5))


def test_a_run_and_its_logs(finished):
    run, result = finished
    state, _, _ = checkpoint.load(run)
    assert own(state["params"])
    assert not own(state["ema"])
    entries = shown.read_log(run / shown.TRAIN_LOG)
    assert [entry["step"] for entry in entries] == [10, 20]
    assert entries[0]["discriminator"] == 0 < entries[1]["discriminator"]
    # What is validated is the model alone.
    config = checkpoint.load_run_config(run)
    alone = loop.validate(config, state["ema"], data.validation_crops(config))
    assert alone["loss"] == pytest.approx(result["loss"], rel=1e-4)
    figures = json.loads((run / shown.METRICS).read_text())
    assert figures["parameters"]["discriminator"] == 5 * 5 * 3 * 8 + 8 + 5 * 5 * 8 + 1


def test_tensorboard_and_progress(finished, tmp_path, capsys):
    from tensorflow.core.util import event_pb2

    tags = set()
    for path in (finished[0] / "tensorboard").iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
    assert {"train/adversarial", "train/discriminator", "train/loss"} <= tags
    loop.train(judged("run.steps=10"), tmp_path / "run", cache_dir=cache())
    bar = capsys.readouterr().err
    assert "adversarial" in bar
    assert "discriminator" in bar


def test_exact_resumption(finished, tmp_path, monkeypatch):
    make = data.batch_at

    def batch_at(config, patches, number):
        if number == 15:
            os.kill(os.getpid(), signal.SIGINT)
        return make(config, patches, number)

    config = judged("run.steps=20", "run.validate_steps=10", start=0.5)
    with monkeypatch.context() as patched:
        patched.setattr(data, "batch_at", batch_at)
        with pytest.raises(TrainingError, match="continue with --resume"):
            train(tmp_path / "run", config)
    assert 10 <= checkpoint.load(tmp_path / "run")[1] <= 15
    train(tmp_path / "run", config, resume=True)
    wanted, found = checkpoint.load(finished[0])[0], checkpoint.load(tmp_path / "run")[0]
    for part, arrays in wanted.items():
        assert arrays.keys() == found[part].keys()
        for name, value in arrays.items():
            np.testing.assert_allclose(
                found[part][name], value, rtol=1e-5, atol=1e-5 * np.abs(value).max(), err_msg=f"{part}/{name}"
            )
    assert found["params"][adversarial.UPDATES] == 10


def test_a_resumed_run_may_take_one_on_and_drop_it(tmp_path):
    run = tmp_path / "run"
    train(run, plain("run.steps=2"))
    section = json.dumps({"layers": LAYERS})
    train(run, tiny(), resume=True, overrides=("run.steps=4", f"adversarial={section}"))
    state, _, _ = checkpoint.load(run)
    assert state["params"][adversarial.UPDATES] == 2
    train(run, tiny(), resume=True, overrides=("run.steps=5", "adversarial=null"))
    assert not own(checkpoint.load(run)[0]["params"])


def test_fine_tuning_a_model_starts_a_fresh_one(environment, tmp_path):
    section = json.dumps({"layers": LAYERS})
    config = tiny(*settings(run__steps=1), "entropy.kind=factorized", f"adversarial={section}")
    train(tmp_path / "run", config, start_from=str(MODELS / "tiny-factorized-1"))
    state, _, _ = checkpoint.load(tmp_path / "run")
    assert state["params"][adversarial.UPDATES] == 1


def test_exported_models_have_none(finished, tmp_path):
    export.export_run(finished[0], tmp_path / "a-1", cache_dir=cache(), table_patches=4, quiet=True)
    info = read_info(tmp_path / "a-1")
    with np.load(info.path / "weights.npz") as archive:
        assert not own(archive.files)


def test_it_does_not_lower(patches, tmp_path):
    config = judged()
    with pytest.raises(TrainingError, match="can't be lowered") as error:
        lower.lower(config, model.init_params(config, patches), tmp_path)
    one_line(error)


def test_the_packaged_example():
    from codec_cli.training.config import load_config

    config = load_config("digits-adversarial")
    assert config.adversarial is not None
    assert {loss.name for loss in config.losses} == {"ssim", "mae"}
