"""`codec finish`: from a model or a run to a run with every level trained."""

import os
import shutil
import signal

import numpy as np
import pytest
from conftest import error_line
from training_helpers import MODELS, interrupt_at, trained, write_pictures

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

from codec_cli.errors import ModelError, TrainingError
from codec_cli.training import checkpoint
from codec_cli.training.pictures import read_log

SHORT = ("--minutes", "0.02", "--crop", "64", "--batch", "1", "--quiet")


def test_a_model_and_then_its_run(run, tmp_path):
    images = write_pictures(tmp_path / "images")
    result = run("finish", MODELS / "tiny-1", tmp_path / "run", "--data", images, *SHORT)
    assert result.exit_code == 0, result.stderr
    title, *rows = result.stdout.splitlines()
    assert title.startswith("level   bits per pixel, before and after")
    assert [int(row.split()[0]) for row in rows] == list(range(7))
    config = checkpoint.load_run_config(tmp_path / "run")
    assert (config.levels.between, len(config.levels.lambdas)) == (0, 7)
    assert config.data.path == str(images)
    # What is finished already stays what it is, and can learn on.
    result = run("finish", tmp_path / "run", tmp_path / "more", *SHORT)
    assert result.exit_code == 0, result.stderr
    assert checkpoint.load_run_config(tmp_path / "more").levels == config.levels
    result = run("export", tmp_path / "more", tmp_path / "more-1", "--table-patches", 8, "--quiet")
    assert result.exit_code == 0, result.stderr
    result = run("compress", images / "0.png", tmp_path / "0.bin", "--model", tmp_path / "more-1")
    assert result.exit_code == 0, result.stderr


def test_groups_that_are_split_are_coded_so(run, tmp_path):
    images = write_pictures(tmp_path / "images")
    split = ("--groups", "1,3,8,12")
    result = run("finish", MODELS / "tiny-1", tmp_path / "run", "--data", images, *split, *SHORT)
    assert result.exit_code == 0, result.stderr
    assert checkpoint.load_run_config(tmp_path / "run").entropy.context.groups == [1, 3, 8, 12]
    result = run("export", tmp_path / "run", tmp_path / "finer-1", "--table-patches", 8, "--quiet")
    assert result.exit_code == 0, result.stderr
    model = ("--model", tmp_path / "finer-1")
    result = run("compress", images / "0.png", tmp_path / "0.bin", *model)
    assert result.exit_code == 0, result.stderr
    result = run("decompress", tmp_path / "0.bin", tmp_path / "0.png", "--models-dir", tmp_path)
    assert result.exit_code == 0, result.stderr


def test_ctrl_c_and_resumption(run, tmp_path, monkeypatch):
    images = write_pictures(tmp_path / "images")
    command = (
        "finish",
        MODELS / "tiny-1",
        tmp_path / "run",
        "--data",
        images,
        "--groups",
        "1,3,8,12",
        *SHORT,
    )
    with monkeypatch.context() as patched:
        interrupt_at(patched, 2)
        result = run(*command, "--minutes", 10)
    assert result.exit_code == TrainingError.exit_code
    message = f"codec: {tmp_path / 'run'}: stopped at step 3 with a checkpoint; continue with --resume"
    assert error_line(result) == message
    stopped, step, seconds = checkpoint.load(tmp_path / "run")
    assert step == 3
    config = checkpoint.load_run_config(tmp_path / "run")

    result = run(*command)
    assert result.exit_code == TrainingError.exit_code
    assert "holds a run already; continue it with --resume" in error_line(result)
    # The time that is over counts; all else is as it was.
    command = ("finish", MODELS / "tiny-1", tmp_path / "run", "--resume", "--quiet")
    minutes = ("--minutes", str(seconds / 60 + 0.05))
    result = run(*command, *minutes)
    assert result.exit_code == 0, result.stderr
    resumed, more, longer = checkpoint.load(tmp_path / "run")
    assert more > step
    assert seconds + 3 <= longer < seconds + 60
    assert checkpoint.load_run_config(tmp_path / "run") == config
    assert not np.array_equal(resumed["ema"]["synthesis/out/bias"], stopped["ema"]["synthesis/out/bias"])
    # Before and after, of the whole run: in the log and in the table.
    log = [entry for entry in read_log(tmp_path / "run" / "finish.jsonl") if "rows" in entry]
    assert [entry["step"] for entry in log] == [0, more]
    assert (log[0]["minutes"], log[0]["batch"]) == (10, 1)
    for row, line in zip(zip(*(entry["rows"] for entry in log), strict=True), result.stdout.splitlines()[1:],
                         strict=True):  # fmt: skip
        wanted = [row[0]["level"], *(part[name] for name in ("bpp", "psnr", "loss") for part in row)]
        assert [float(word) for word in line.split()] == pytest.approx(wanted, abs=6e-4)

    # The time is up: nothing more is learned.
    result = run(*command, *minutes)
    assert result.exit_code == 0, result.stderr
    assert checkpoint.load(tmp_path / "run")[1] == more
    # `codec train` may go on from here, with its own logs.
    settings = ("--set", "data.batch=7", "--steps", more + 1, "--set", "run.rdoq=0")
    result = run("train", tmp_path / "run", "--resume", *settings, "--quiet")
    assert result.exit_code == 0, result.stderr


def test_an_impatient_second_ctrl_c_does_not_stop_the_checkpoint(run, tmp_path, monkeypatch):
    images = write_pictures(tmp_path / "images")
    save = checkpoint.save

    def slow(folder, state, step, seconds):
        if step:
            os.kill(os.getpid(), signal.SIGINT)
        save(folder, state, step, seconds)

    interrupt_at(monkeypatch, 1)
    monkeypatch.setattr(checkpoint, "save", slow)
    result = run("finish", MODELS / "tiny-1", tmp_path / "run", "--data", images, *SHORT, "--minutes", 10)
    assert "stopped at step 2 with a checkpoint" in error_line(result)
    assert checkpoint.load(tmp_path / "run")[1] == 2


def test_what_can_not_be_resumed(run, tmp_path):
    command = ("finish", MODELS / "tiny-1", tmp_path / "run", "--resume")
    result = run(*command)
    assert result.exit_code == TrainingError.exit_code
    assert f"{tmp_path / 'run'}: holds no run" in error_line(result)
    for option in (("--groups", "4,20"), ("--data", tmp_path), ("--crop", 64), ("--batch", 2)):
        result = run(*command, *option)
        assert result.exit_code == 2
        assert "it takes no options of the training" in result.stderr
    # A run of `codec train`; and one whose log was lost, or cut at its start.
    shutil.copytree(trained(), tmp_path / "run")
    for log in (None, "", '{"step": 0, "ro\n', '{"step": 0, "ro\n{"step": 10, "loss": 1.0}\n'):
        if log is not None:
            (tmp_path / "run" / "finish.jsonl").write_text(log)
        result = run(*command)
        assert result.exit_code == TrainingError.exit_code
        assert "no run that `codec finish` can resume" in error_line(result)


@pytest.mark.parametrize("groups", ["4;8", "4,,8", "0,24", "-1,25", "four"])
def test_groups_are_numbers(run, tmp_path, groups):
    result = run("finish", MODELS / "tiny-1", tmp_path / "run", "--groups", groups)
    assert result.exit_code == 2
    assert "numbers of channels, with commas between them" in result.stderr


def test_what_can_not_be_finished(run, tmp_path):
    images = write_pictures(tmp_path / "images")
    for arguments, message, code in (
        (
            (MODELS / "tiny-factorized-1", tmp_path / "run"),
            "only context models of transforms of kind stages can be finished",
            None,
        ),
        (
            (MODELS / "tiny-1", tmp_path / "run", "--groups", "5,19", "--crop", "64"),
            "groups of 5, 19 channels do not split those of 4, 8, 12",
            None,
        ),
        (("nothing-there", tmp_path / "run"), "nothing-there", ModelError.exit_code),
        ((MODELS / "tiny-1", tmp_path / "run", "--crop", "65"), "multiples of 16 pixels", None),
    ):
        result = run("finish", *arguments, "--data", images, "--quiet")
        assert result.exit_code == (code or TrainingError.exit_code)
        assert message in error_line(result)
        assert not (tmp_path / "run").exists()  # Known before photographs are decoded.


def test_a_run_in_the_way_stays(run, tmp_path):
    images = write_pictures(tmp_path / "images")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoint.FILE).write_bytes(b"weeks of work")
    result = run("finish", MODELS / "tiny-1", tmp_path / "run", "--data", images, *SHORT)
    assert result.exit_code == TrainingError.exit_code
    assert "holds a run already" in error_line(result)
    assert (tmp_path / "run" / checkpoint.FILE).read_bytes() == b"weeks of work"
