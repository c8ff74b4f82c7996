"""The training loop: runs, checkpoints, resumption, interruptions, fine-tuning; and the schedule."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from training_helpers import (
    MODELS,
    ROOT,
    SMALL,
    TINY,
    cache,
    interrupt_at,
    one_line,
    pictures,
    settings,
    tiny,
    trained,
)

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

import tensorflow as tf

from codec_cli.errors import ModelError, TrainingError
from codec_cli.training import checkpoint, data, export, loop, model, schedule
from codec_cli.training.step import init_state


def train(run, *overrides, **more):
    """Trains on the shared pictures, with options of :func:`loop.train`."""
    return loop.train(tiny(*settings(), *overrides), run, cache_dir=cache(), quiet=True, **more)


def same_state(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for part, arrays in one.items():
        assert arrays.keys() == other[part].keys()
        for name, value in arrays.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(
                other[part][name], value, rtol=tolerance, atol=tolerance * scale, err_msg=f"{part}/{name}"
            )


def log_of(run):
    return [json.loads(line) for line in (run / loop.LOG).read_text().splitlines()]


# What a run leaves


def test_a_run_writes_everything():
    run = trained()
    state, step, seconds = checkpoint.load(run)
    assert step == 24
    assert 0 < seconds < 600
    assert set(state) == {"params", "m", "v", "ema"}
    assert all(value.dtype == np.float32 for arrays in state.values() for value in arrays.values())
    start = loop.initial_params(tiny(*settings()), data.load_patches(tiny(*settings()), cache(), True), None)
    assert start.keys() == state["params"].keys() == state["ema"].keys()
    assert all(np.any(state["params"][name] != value) for name, value in start.items())
    assert checkpoint.load_run_config(run) == tiny(*settings())
    assert {path.name for path in run.iterdir()} == {
        checkpoint.FILE,
        checkpoint.CONFIG,
        loop.LOG,
        "tensorboard",
        "train.jsonl",
        "curves.png",
        "metrics.json",
        "architecture.txt",
    }


def test_the_log_holds_validations():
    (entry,) = log_of(trained())
    assert entry["step"] == 24
    assert len(entry["bpp"]) == len(entry["psnr"]) == 3
    assert entry["psnr"] == sorted(set(entry["psnr"]))
    assert entry["loss"] > 0


def test_tensorboard_events():
    from tensorflow.core.util import event_pb2

    tags: dict[str, list[int]] = {}
    for path in (trained() / "tensorboard").iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append(event.step)
    for name in ("train/loss", "train/grad_norm", "train/bpp/0", "train/psnr/2"):
        assert tags[name] == [10, 20]
    for name in ("validation/loss", "validation/bpp/2", "validation/psnr/0", "validation/decoded"):
        assert tags[name] == [24]


def test_validation_is_of_the_averaged_weights():
    run = trained()
    state, _, _ = checkpoint.load(run)
    config = checkpoint.load_run_config(run)
    result = loop.validate(config, state["ema"], data.validation_crops(config))
    (entry,) = log_of(run)
    assert {name: entry[name] for name in result} == {
        name: pytest.approx(value, rel=1e-4) for name, value in result.items()
    }


def test_validate_steps_and_progress(tmp_path, capsys):
    result = loop.train(
        tiny(*settings(), *SMALL, "run.steps=20", "run.validate_steps=10"),
        tmp_path / "run",
        cache_dir=cache(),
    )
    assert [entry["step"] for entry in log_of(tmp_path / "run")] == [10, 20]  # The last one once only.
    assert result == log_of(tmp_path / "run")[-1]
    bar = capsys.readouterr().err
    for text in ("loss", "bpp", "dB", "Mpixel/s"):
        assert text in bar


# In the way


def test_a_run_is_not_overwritten():
    before = (trained() / checkpoint.FILE).read_bytes()
    with pytest.raises(TrainingError, match="continue it with --resume") as error:
        train(trained())
    assert one_line(error).startswith(str(trained()))
    assert (trained() / checkpoint.FILE).read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"PK\3\4 cut off"])
def test_resuming_what_is_no_run(tmp_path, content):
    run = tmp_path / "run"
    run.mkdir()
    checkpoint.save_run_config(run, tiny(*settings()))
    if content is not None:
        (run / checkpoint.FILE).write_bytes(content)
    with pytest.raises(TrainingError, match="no readable checkpoint") as error:
        train(run, resume=True)
    one_line(error)


def test_a_damaged_checkpoint(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained(), run)
    whole = (run / checkpoint.FILE).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5000] + bytes(100) + whole[5100:]):
        (run / checkpoint.FILE).write_bytes(damaged)
        with pytest.raises(TrainingError, match="no readable checkpoint") as error:
            checkpoint.load(run)
        one_line(error)
    np.savez(run / checkpoint.FILE, **{"!step": 3, "!seconds": 4})
    with pytest.raises(TrainingError, match="holds no weights"):
        checkpoint.load(run)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    state = init_state({"a/b": np.ones(3, np.float32)})
    checkpoint.save(tmp_path, state, 7, 1.5)

    def full(stream, **arrays):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, state, 8, 2.5)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]
    loaded, step, seconds = checkpoint.load(tmp_path)
    assert (step, seconds) == (7, 1.5)
    same_state(state, loaded, 0)


# Interruptions


def test_ctrl_c_and_exact_resumption(run, tmp_path, monkeypatch):
    """A run that is stopped and resumed ends with the weights of the unbroken one."""
    changes = [part for text in settings() for part in ("--set", text)]
    command = ["train", tmp_path / "run", "--config", TINY, "--cache-dir", cache(), "--quiet", *changes]
    with monkeypatch.context() as patched:
        interrupt_at(patched, 12)
        result = run(*command)
    assert result.exit_code == TrainingError.exit_code
    _, stopped, _ = checkpoint.load(tmp_path / "run")
    assert 1 <= stopped <= 12  # Batches are made a little ahead.
    assert result.stderr == (
        f"codec: {tmp_path / 'run'}: stopped at step {stopped} with a checkpoint; continue with --resume\n"
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    result = run("train", tmp_path / "run", "--resume", "--cache-dir", cache())
    assert result.exit_code == 0
    assert "24 steps, validation loss" in result.stderr
    resumed, step, seconds = checkpoint.load(tmp_path / "run")
    assert step == 24
    unbroken, _, _ = checkpoint.load(trained())
    same_state(unbroken, resumed)
    assert [entry["step"] for entry in log_of(tmp_path / "run")] == [stopped, 24]
    assert log_of(tmp_path / "run")[-1]["loss"] == pytest.approx(log_of(trained())[-1]["loss"], rel=1e-4)
    assert log_of(tmp_path / "run")[-1]["seconds"] == pytest.approx(seconds, abs=0.1)


def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path, environment):
    run = tmp_path / "run"
    changes = [
        part
        for text in (*settings(), *SMALL, "run.steps=1000000", "run.checkpoint_minutes=0.002")
        for part in ("--set", text)
    ]
    command = [
        sys.executable,
        "-m",
        "codec_cli",
        "train",
        run,
        "--config",
        TINY,
        "--cache-dir",
        cache(),
        *changes,
    ]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output, cwd=ROOT)
        try:
            step, end = 0, time.monotonic() + 100
            while step < 10:
                assert process.poll() is None, (tmp_path / "output").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
                if (run / checkpoint.FILE).exists():
                    _, step, _ = checkpoint.load(run)  # Readable at any time.
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -signal.SIGKILL
    killed, step, seconds = checkpoint.load(run)
    assert step >= 10

    result = train(run, resume=True, overrides=(f"run.steps={step + 3}",))
    assert result["step"] == step + 3
    after, final, spent = checkpoint.load(run)
    assert final == step + 3
    assert spent > seconds
    assert checkpoint.load_run_config(run).run.steps == step + 3
    for name, value in killed["params"].items():
        # Three steps of Adam move a weight by little more than thrice the learning rate.
        assert np.abs(after["params"][name] - value).max() < 5 * 0.001


def test_resuming_with_changes(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained(), run)
    with pytest.raises(TrainingError, match="keeps its transforms") as error:
        train(run, resume=True, overrides=("transforms.slope=0.2",))
    one_line(error)
    with pytest.raises(TrainingError, match="keeps its transforms"):
        train(run, resume=True, overrides=("entropy.kind=factorized",))
    with pytest.raises(TrainingError, match=r"run\.steps"):
        train(run, resume=True, overrides=("run.steps=0",))
    assert checkpoint.load_run_config(run) == tiny(*settings())
    # A run that is over stays as it is.
    before, _, _ = checkpoint.load(run)
    assert train(run, resume=True)["step"] == 24
    same_state(before, checkpoint.load(run)[0], 0)


def test_weights_without_moments_resume(tmp_path):
    """What other machines trained comes back without the optimiser's state."""
    run = tmp_path / "run"
    state, _, _ = checkpoint.load(trained("factorized"))
    run.mkdir()
    config = tiny(*settings(entropy__kind="factorized"))
    np.savez(run / "weights-0.npz", **{f"ema/{name}": value for name, value in state["ema"].items()}, step=21)
    checkpoint.collect(config, [run / "weights-0.npz"], run)
    loaded, step, _ = checkpoint.load(run)
    assert step == 21
    assert set(loaded) == {"params", "ema"}
    same_state({"ema": state["ema"]}, {"ema": loaded["params"]}, 0)
    assert train(run, resume=True)["step"] == 24
    assert set(checkpoint.load(run)[0]) == {"params", "m", "v", "ema"}


# Loss that is not finite


def test_divergence_keeps_the_last_good_checkpoint(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="the loss is not finite at step") as error:
        train(run, *SMALL, "optimizer.learning_rate=1e9", "optimizer.warmup_steps=0")
    text = one_line(error)
    assert text.startswith(str(run))
    assert "optimizer.learning_rate" in text
    assert "--resume" in text
    state, step, _ = checkpoint.load(run)
    assert step == 0
    assert all(np.isfinite(value).all() for arrays in state.values() for value in arrays.values())
    # As the message says.
    result = train(run, resume=True, overrides=("optimizer.learning_rate=1e-4", "run.steps=2"))
    assert result["step"] == 2
    assert np.isfinite(result["loss"])


@pytest.mark.parametrize("where", ["total", "params"])
def test_a_nan_in_mid_run_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, where):
    run, good = tmp_path / "run", loop.train_step

    def poisoned(config, state, images, noise, scalars):
        new, metrics = good(config, state, images, noise, scalars)
        # The bias correction tells the step: the 14th is the first bad one.
        bad = tf.where(scalars["correction1"] > 1 - 0.9**13.5, np.nan, 0.0)
        if where == "total":
            metrics["total"] += bad
        else:
            new["params"]["gain/forward"] += bad
        return new, metrics

    monkeypatch.setattr(loop, "train_step", poisoned)
    with pytest.raises(TrainingError, match="not finite at step 14") as error:
        train(run, *SMALL, "run.checkpoint_minutes=1e-9")  # A checkpoint after every step.
    one_line(error)
    state, step, _ = checkpoint.load(run)
    assert step == 13
    assert all(np.isfinite(value).all() for arrays in state.values() for value in arrays.values())


# Length


def test_minutes_bound_a_run(tmp_path):
    run, began = tmp_path / "run", time.monotonic()
    result = train(run, *SMALL, "run.steps=1000000", minutes=0.06)
    assert time.monotonic() - began < 30
    assert 0 < result["step"] < 1000000
    assert 3.6 <= result["seconds"] < 30
    # The bound is one over all resumptions.
    again = train(run, resume=True, minutes=0.06)
    assert again["step"] == result["step"]


# Fine-tuning


@pytest.fixture(scope="module")
def weights():
    with np.load(MODELS / "tiny-1" / "weights.npz") as archive:
        return {name: archive[name].astype(np.float32) for name in archive.files}


@pytest.mark.parametrize("name", ["tiny", "tiny-1", str(MODELS / "tiny-1")])
def test_fine_tuning_starts_from_a_models_weights(environment, weights, name):
    params = loop.initial_params(tiny(), pictures(4), name)
    assert params.keys() == weights.keys()
    for key, value in params.items():
        np.testing.assert_array_equal(value, weights[key])
        assert value.dtype == np.float32


def test_weights_of_other_levels_go_by_lambda(monkeypatch):
    """A finished model has every usable level trained; a configuration takes those that it names."""
    from codec_cli import zoo
    from codec_cli.training.spread import spread

    info = zoo.Zoo(MODELS).info("tiny")
    given = {name: value.astype(np.float32) for name, value in info.arrays(zoo.WEIGHTS).items()}
    config, wide = spread(tiny(), given)
    section = config.data.model_copy(update={"batch": config.levels.usable})
    monkeypatch.setitem(info.facts, "config", config.model_copy(update={"data": section}).model_dump())
    monkeypatch.setattr(zoo.Zoo, "info", lambda *_: info)
    monkeypatch.setattr(loop.checkpoint, "read_arrays", lambda *_: wide)
    params = loop.initial_params(tiny(), pictures(4), "tiny")
    step = tiny().levels.between + 1
    for name in ("gain/forward", "context/pass-1-0/layer0/bias", "synthesis/stage0/block0/level_scale"):
        assert np.array_equal(params[name], wide[name][::step])
    size = tiny().entropy.context.groups[0]
    prior = wide["prior/matrix_0"].reshape(-1, size, 3, 1)[::step]
    assert np.array_equal(params["prior/matrix_0"].reshape(prior.shape), prior)
    assert np.allclose(params["prior/bias_1"], given["prior/bias_1"])
    # And the nearest ones, by ratio, where none is the same.
    params = loop.initial_params(tiny("levels.lambdas=[0.016, 0.25]"), pictures(4), "tiny")
    assert np.array_equal(params["gain/forward"], wide["gain/forward"][[step, 2 * step]])


def test_fine_tuning_runs(environment, weights, tmp_path):
    result = train(tmp_path / "run", "run.steps=2", "optimizer.learning_rate=1e-5", start_from="tiny")
    assert result["step"] == 2
    state, _, _ = checkpoint.load(tmp_path / "run")
    for name, value in state["params"].items():
        np.testing.assert_allclose(value, weights[name], atol=2e-5)


def test_fine_tuning_of_another_run(tmp_path):
    """Its averaged weights, without exporting them first."""
    first = trained()
    train(tmp_path / "run", "run.steps=1", "optimizer.learning_rate=1e-9", start_from=str(first))
    given, mine = (checkpoint.load(run)[0] for run in (first, tmp_path / "run"))
    for name, value in given["ema"].items():
        np.testing.assert_allclose(mine["params"][name], value, atol=1e-6)


def test_training_with_optimised_symbols(environment, weights, tmp_path):
    """Entropy model and synthesis learn from what the encoder would send; the analysis stays."""
    settings = ["run.rdoq=0.2", "run.steps=30", "run.validate_steps=10", "optimizer.learning_rate=2e-4"]
    train(tmp_path / "run", *settings, start_from="tiny")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    state, _, _ = checkpoint.load(tmp_path / "run")
    shape = weights["gain/forward"].shape
    for part in ("params", "ema"):
        values = dict(state[part])
        worth = values.pop("encoder/distortion_weight")
        assert worth.shape == shape
        assert (worth > 0).all()
        for name, value in values.items():
            still = name.startswith(("analysis/", "gain/forward"))
            assert np.array_equal(value, weights[name]) == still, name


def test_optimised_symbols_come_and_go_on_resumption(environment, tmp_path):
    run, name = tmp_path / "run", "encoder/distortion_weight"
    train(run, "run.steps=2", start_from="tiny")
    train(run, resume=True, overrides=("run.rdoq=0.2", "run.steps=4"))
    worth = checkpoint.load(run)[0]["params"][name]
    train(run, resume=True, overrides=("run.steps=5",))
    np.testing.assert_array_equal(checkpoint.load(run)[0]["params"][name], worth)
    lambdas = [2 * value for value in tiny().levels.lambdas]
    train(run, resume=True, overrides=(f"levels.lambdas={lambdas}", "run.steps=6"))
    np.testing.assert_allclose(checkpoint.load(run)[0]["params"][name], 2 * worth, rtol=0.3)
    # No part of the model.
    info = export.export_run(run, tmp_path / "tiny-9", cache_dir=cache(), table_patches=2, quiet=True)
    with np.load(info.path / "weights.npz") as archive, np.load(MODELS / "tiny-1" / "weights.npz") as before:
        assert set(archive.files) == set(before.files)
    train(run, resume=True, overrides=("run.rdoq=0", "run.steps=7"))
    assert name not in checkpoint.load(run)[0]["params"]


def test_optimised_symbols_need_a_model(environment, tmp_path):
    with pytest.raises(TrainingError, match="--from"):
        train(tmp_path / "run", "run.rdoq=0.2")


def test_another_entropy_model_on_known_transforms(environment, weights):
    params = loop.initial_params(tiny("entropy.kind=factorized"), pictures(4), "tiny")
    fresh = model.init_params(tiny("entropy.kind=factorized"), pictures(4))
    assert params.keys() == fresh.keys()
    for name, value in params.items():
        known = not name.startswith("prior/")  # The context model's prior has fewer channels.
        np.testing.assert_array_equal(value, (weights if known else fresh)[name])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["transforms.latent_channels=32", "entropy.context.groups=[4, 12, 16]"], "analysis/linear/kernel"),
        (["transforms.analysis.0.width=14"], "analysis/stage0"),
        (["transforms.channels=1"], "analysis/"),
        (["transforms.synthesis.0.blocks=2"], "synthesis/stage0/block1"),
        # A part of the model's transforms is no fit either, though all that is needed is there.
        (["transforms.analysis.1.blocks=0"], "analysis/stage1/block0"),
    ],
)
def test_fine_tuning_refuses_a_misfit(environment, change, named):
    with pytest.raises(TrainingError, match="does not fit this configuration") as error:
        loop.initial_params(tiny(*change), pictures(4), "tiny")
    text = one_line(error)
    assert text.startswith("--from tiny: ")
    assert named in text


def test_fine_tuning_from_what_is_not_there(environment, tmp_path):
    with pytest.raises(ModelError, match="no such model") as error:
        loop.initial_params(tiny(), pictures(4), "nothing")
    one_line(error)
    shutil.copytree(MODELS / "tiny-1", tmp_path / "tiny-2")
    for content in (None, b"PK\3\4 nothing", b""):
        (tmp_path / "tiny-2" / "weights.npz").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "tiny-2" / "weights.npz").write_bytes(content)
        with pytest.raises(TrainingError, match="no weights to start from") as missing:
            loop.initial_params(tiny(), pictures(4), str(tmp_path / "tiny-2"))
        assert ("packages leave those of older models out" in one_line(missing)) == (content is None)


def test_fine_tuning_from_what_another_version_made(environment, tmp_path):
    folder = shutil.copytree(MODELS / "tiny-1", tmp_path / "tiny-2")
    facts = json.loads((folder / "model.json").read_text())
    facts["config"]["colour"] = "blue"
    (folder / "model.json").write_text(json.dumps(facts))
    with pytest.raises(
        TrainingError, match="tiny-2: its configuration is not one of this version's"
    ) as error:
        loop.initial_params(tiny(), pictures(4), str(folder))
    one_line(error)


# Weights from elsewhere


def test_collecting(tmp_path):
    config = tiny()
    params = model.init_params(config, pictures(4))
    names = sorted(params)
    out, run = tmp_path / "out", tmp_path / "run"
    out.mkdir()
    for i in range(3):
        np.savez(out / f"weights-{i}.npz", **{f"ema/{name}": params[name] for name in names[i::3]}, step=1234)
    np.savez(out / "metrics.npz", bpp=np.zeros(3))
    for files in ([out], sorted(out.glob("weights-*.npz"))):
        checkpoint.collect(config, files, run, {"seconds": 99.0})
        state, step, seconds = checkpoint.load(run)
        assert (step, seconds) == (1234, 99)
        same_state({"params": params, "ema": params}, state, 0)
        assert checkpoint.load_run_config(run) == config

    with pytest.raises(TrainingError, match="do not fit the configuration") as error:
        checkpoint.collect(config, [out / "weights-0.npz"], tmp_path / "other")
    one_line(error)
    with pytest.raises(TrainingError, match="do not fit the configuration"):
        checkpoint.collect(tiny("entropy.context.hidden=8"), [out], tmp_path / "other")
    (out / "weights-1.npz").write_bytes(b"PK\3\4")
    with pytest.raises(TrainingError, match="no readable weights"):
        checkpoint.collect(config, [out], tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="no averaged weights"):
        checkpoint.collect(config, [tmp_path / "empty"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


# The schedule


def steered(step, progress=None, **more):
    changes = [f"{name.replace('__', '.')}={value}" for name, value in more.items()]
    config = tiny("run.steps=1000", "optimizer.final_learning_rate=1e-5", *changes)
    return {
        name: float(value) for name, value in schedule.scalars(config.model_dump(), step, progress).items()
    }


def test_learning_rate():
    rates = [steered(step, optimizer__decay_start=0.5)["learning_rate"] for step in range(1000)]
    np.testing.assert_allclose(rates[:20], 0.001 * np.arange(1, 21) / 20, rtol=1e-6)
    np.testing.assert_allclose(rates[20:500], 0.001, rtol=1e-6)
    assert (np.diff(rates[501:]) < 0).all()
    assert rates[750] == pytest.approx((0.001 + 1e-5) / 2, rel=1e-3)
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)
    assert steered(5000)["learning_rate"] == pytest.approx(1e-5)
    assert steered(500, optimizer__decay_start=1)["learning_rate"] == pytest.approx(0.001)


def test_cyclic_learning_rate():
    cycle = {"optimizer__cycle_steps": 40, "optimizer__warmup_steps": 0}
    rates = np.array([steered(step, **cycle)["learning_rate"] for step in range(161)])
    np.testing.assert_allclose(rates[::40], 1e-5, rtol=1e-6)
    np.testing.assert_allclose(rates[20::40], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.diff(rates)), (1e-3 - 1e-5) / 20, rtol=1e-3)
    # Neither the end of a run nor where the decay would start changes anything.
    assert steered(10**6 + 20, 1.0, **cycle)["learning_rate"] == pytest.approx(1e-3)
    # A warm-up comes before.
    warming = steered(9, **{**cycle, "optimizer__warmup_steps": 20})["learning_rate"]
    assert warming == pytest.approx(rates[9] / 2, rel=1e-5)


def test_a_tree_of_before_cycles_has_the_same_schedule():
    """Bundles for ``scripts/train_xla.py`` hold configurations as they were written."""
    tree = tiny().model_dump()
    expected = schedule.scalars(tree, 150)
    del tree["optimizer"]["cycle_steps"]
    assert schedule.scalars(tree, 150) == expected


def test_progress_by_time():
    assert steered(100, 1.0)["learning_rate"] == pytest.approx(1e-5)
    assert steered(100, 0.5) == {**steered(100), "learning_rate": steered(500)["learning_rate"]}


def test_other_scalars():
    assert list(schedule.scalars(tiny().model_dump(), 0)) == list(schedule.NAMES)
    assert steered(0)["ema"] == pytest.approx(0.1)
    assert steered(10**6)["ema"] == pytest.approx(0.999)
    assert steered(0)["correction1"] == pytest.approx(0.1)
    assert steered(2)["correction2"] == pytest.approx(1 - 0.98**3)
    assert [steered(step, run__decoder_rounding=0.7)["hard"] for step in (0, 699, 700, 999)] == [0, 0, 1, 1]
    assert steered(999)["hard"] == 0


def test_the_scalar_of_a_discriminator():
    section = json.dumps({"layers": [{"op": "conv", "filters": 1}], "start": 0.25})
    scalars = [
        schedule.scalars(tiny("run.steps=1000", f"adversarial={section}").model_dump(), step)
        for step in (0, 249, 250, 999)
    ]
    assert list(scalars[0]) == [*schedule.NAMES, "adversarial"]
    assert [float(values["adversarial"]) for values in scalars] == [0, 0, 1, 1]
