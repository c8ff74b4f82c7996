"""`codec train`: options, errors, and runs through the command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import error_line
from training_helpers import ROOT, SMALL, TINY, cache, photos, settings, tiny, trained, write_pictures

from codec_cli.errors import ModelError, TrainingError


@pytest.fixture
def tensorflow():
    """Skips a test where the extra `train` is not installed."""
    pytest.importorskip("pydantic", reason="needs the extra `train`")
    pytest.importorskip("tensorflow", reason="needs the extra `train`")
    pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")


def sets(*changes):
    return [part for text in changes for part in ("--set", text)]


# Without the extra


@pytest.mark.parametrize("missing", ["tensorflow", "tensorflow_compression", "pydantic"])
@pytest.mark.parametrize("command", ["train", "export"])
def test_without_the_extra_it_says_how_to_install_it(environment, tmp_path, command, missing):
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "from codec_cli.main import main\n"
        "sys.argv = ['codec', *sys.argv[1:]]\n"
        "main()\n"
    )
    arguments = [str(tmp_path / "run")] if command == "train" else [str(tmp_path), str(tmp_path / "model")]
    # Others may be missing here; the first missing one is named.
    result = subprocess.run(
        [sys.executable, "-c", code, command, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert result.returncode == TrainingError.exit_code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("codec: this needs TensorFlow (")
    assert "pip install '.[train]'" in line
    assert not (tmp_path / "run").exists()


# Options


@pytest.fixture
def asked(monkeypatch, tensorflow):
    """What the command asks the loop to do, instead of doing it."""
    calls = []

    def record(config, folder, **options):
        calls.append((config, folder, options))
        return {"step": 7, "loss": 1.25}

    monkeypatch.setattr("codec_cli.training.loop.train", record)
    return calls


def test_defaults(run, asked, tmp_path):
    from codec_cli.training.config import load_config

    result = run("train", tmp_path / "run")
    assert result.exit_code == 0
    assert result.stderr == f"{tmp_path / 'run'}: 7 steps, validation loss 1.2500\n"
    assert result.stdout == ""
    config, folder, options = asked[0]
    assert config == load_config("photo")
    assert folder == tmp_path / "run"
    assert options == {
        "resume": False,
        "overrides": (),
        "minutes": None,
        "start_from": None,
        "cache_dir": None,
        "quiet": False,
    }


def test_every_option_arrives(run, asked, tmp_path):
    result = run(
        "train", tmp_path / "run", "--config", TINY, "--data", "2024", "--validation", "null",
        "--steps", "77", "--minutes", "1.5", "--from", "photo", "--cache-dir", tmp_path / "cache", "--quiet",
        *sets("optimizer.learning_rate=1e-5", "run.steps=3"),
    )  # fmt: skip
    assert result.exit_code == 0
    assert result.stderr == ""
    config, _, options = asked[0]
    # Names of directories stay text, and options win over --set.
    assert (config.data.path, config.data.validation, config.run.steps) == ("2024", "null", 77)
    assert config.optimizer.learning_rate == 1e-5
    assert options["minutes"] == 1.5
    assert options["start_from"] == "photo"
    assert options["cache_dir"] == tmp_path / "cache"
    assert options["quiet"]


def test_a_data_set_by_name(run, asked, tmp_path):
    result = run("train", tmp_path / "run", "--dataset", "tfds:mnist", "--data-dir", "größe")
    assert result.exit_code == 0
    assert asked[0][0].data.dataset == "tfds:mnist"
    assert asked[0][0].data.data_dir == "größe"


def test_resuming_keeps_the_runs_configuration(run, asked, tmp_path):
    from codec_cli.training import checkpoint

    checkpoint.save_run_config(tmp_path, tiny("run.steps=41", "seed=9"))
    result = run("train", tmp_path, "--resume", "--data", "elsewhere", *sets("optimizer.learning_rate=1e-6"))
    assert result.exit_code == 0
    config, _, options = asked[0]
    assert (config.name, config.seed, config.run.steps) == ("tiny", 9, 41)
    assert options["resume"]
    assert options["overrides"] == ("optimizer.learning_rate=1e-6", 'data.path="elsewhere"')
    assert config == tiny("run.steps=41", "seed=9", *options["overrides"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--steps", "0"],
        ["--minutes", "0"],
        ["--minutes", "-3"],
        ["--steps", "many"],
        ["--collect", "no/such/file"],
        ["--resume", "--from", "tiny"],
        ["--resume", "--lower", "bundle"],
        ["--no-such-option"],
    ],
)
def test_a_wrong_command_line(run, asked, tmp_path, arguments):
    result = run("train", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert "Usage: codec train" in result.stderr
    assert not asked
    assert not (tmp_path / "run").exists()


# Errors, each in one line


def failing(run, tmp_path, *arguments, code=TrainingError.exit_code):
    result = run("train", tmp_path / "run", "--quiet", *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    return error_line(result)


def test_configuration_errors(run, tensorflow, tmp_path):
    assert "no such configuration" in failing(run, tmp_path, "--config", "nothing")
    assert "run.step: Extra inputs" in failing(run, tmp_path, *sets("run.step=4"))
    assert "write it as section.field=value" in failing(run, tmp_path, *sets("steps"))
    assert not (tmp_path / "run").exists()


def test_data_errors(run, tensorflow, tmp_path):
    assert "give --data DIR or --dataset tfds:NAME" in failing(run, tmp_path)
    missing = tmp_path / "missing"
    assert str(missing) in failing(run, tmp_path, "--data", missing)
    (tmp_path / "empty").mkdir()
    assert "no images in this directory" in failing(run, tmp_path, "--data", tmp_path / "empty")
    folder = write_pictures(tmp_path / "pictures")
    (folder / "1.jpg").write_bytes(b"nothing")
    assert str(folder / "1.jpg") in failing(run, tmp_path, "--config", TINY, "--data", folder)


def test_runs_in_the_way_and_runs_that_are_not_there(run, tensorflow, tmp_path):
    result = run("train", trained(), "--config", TINY, "--quiet", *sets(*settings()))
    assert result.exit_code == TrainingError.exit_code
    assert "continue it with --resume" in error_line(result)
    assert "holds no run" in failing(run, tmp_path, "--resume")


def test_a_model_that_is_not_there(run, tensorflow, tmp_path):
    arguments = ("--config", TINY, "--cache-dir", cache(), *sets(*settings()))
    assert "no such model" in failing(
        run, tmp_path, *arguments, "--from", "nothing", code=ModelError.exit_code
    )
    misfit = (*arguments, *sets("transforms.analysis.0.width=14"))
    assert "does not fit" in failing(run, tmp_path, *misfit, "--from", "tiny")


def test_an_unwritable_place(run, tensorflow, tmp_path):
    (tmp_path / "file").write_text("here")
    result = run("train", tmp_path / "file" / "run", "--config", TINY, "--quiet", *sets(*settings()))
    assert result.exit_code != 0
    assert "file" in error_line(result)


# Runs


def test_a_run_from_the_command_line(run, tensorflow, tmp_path):
    from codec_cli.training import checkpoint

    folder = tmp_path / "run"
    arguments = ["--config", TINY, "--data", photos(), "--cache-dir", cache(), "--steps", "2"]
    result = run("train", folder, *arguments, *sets(*SMALL, "run.precision=float32"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert f"{folder}: 2 steps, validation loss " in result.stderr.splitlines()[-1]
    _, step, _ = checkpoint.load(folder)
    assert step == 2
    assert json.loads((folder / "config.json").read_text())["data"]["path"] == str(photos())


def test_training_by_minutes_and_fine_tuning(run, tensorflow, tmp_path):
    from codec_cli.training import checkpoint

    folder = tmp_path / "run"
    changes = sets(*settings(run__steps=10**6), "entropy.kind=factorized", "optimizer.learning_rate=1e-6")
    arguments = ["--config", TINY, "--cache-dir", cache(), "--minutes", "0.04", "--from", "tiny-factorized"]
    result = run("train", folder, *arguments, "--quiet", *changes)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    state, step, seconds = checkpoint.load(folder)
    assert 0 < step < 10**6
    assert seconds >= 2.4
    with np.load(ROOT / "tests" / "data" / "models" / "tiny-factorized-1" / "weights.npz") as archive:
        for name in archive.files:
            np.testing.assert_allclose(state["params"][name], archive[name], atol=1e-3)


# For other devices


def test_lower_and_collect(run, tensorflow, tmp_path):
    from codec_cli.training import checkpoint

    changes = ("--config", TINY, "--cache-dir", cache(), *sets(*settings(), *SMALL))
    result = run("train", tmp_path / "run", *changes, "--lower", tmp_path / "bundle", "--quiet")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {"step.hlo", "bundle.json", "state.npz"}
    assert (tmp_path / "bundle" / "step.hlo").stat().st_size > 10000
    assert not (tmp_path / "run" / "checkpoint.npz").exists()

    # What the other machine brings back.
    with np.load(tmp_path / "bundle" / "state.npz") as archive:
        averaged = {name.replace("params/", "ema/"): archive[name] + 1 for name in archive.files}
    names = sorted(averaged)
    (tmp_path / "out").mkdir()
    for i in range(2):
        part = {name: averaged[name] for name in names[i::2]}
        np.savez(tmp_path / "out" / f"weights-{i}.npz", **part, step=np.asarray(4321))
    parts = [word for i in range(2) for word in ("--collect", tmp_path / "out" / f"weights-{i}.npz")]
    for target, collected in (("a", parts), ("b", ["--collect", tmp_path / "out"])):
        result = run("train", tmp_path / target, *changes, *collected)
        assert result.exit_code == 0, result.stderr
        state, step, _ = checkpoint.load(tmp_path / target)
        assert step == 4321
        for name, value in state["ema"].items():
            np.testing.assert_array_equal(value, averaged[f"ema/{name}"])
        assert checkpoint.load_run_config(tmp_path / target) == tiny(*settings(), *SMALL)
    result = run("train", tmp_path / "c", *changes, *parts[:2])
    assert result.exit_code == TrainingError.exit_code
    assert "are all parts there?" in error_line(result)


def test_help_documents_the_extra_and_the_examples(run):
    text = " ".join(run("train", "--help").stdout.split())
    assert "codec train runs/mine --data photos/" in text
    assert "codec train runs/mine --resume" in text
    assert "Ctrl-C" in text
