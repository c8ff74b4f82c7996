"""`codec finish`: from a model or a run to a run with every level trained."""

import pytest
from conftest import error_line
from training_helpers import MODELS, write_pictures

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

from codec_cli.errors import ModelError, TrainingError
from codec_cli.training import checkpoint

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
        assert not (tmp_path / "run" / checkpoint.FILE).exists()


def test_a_run_in_the_way_stays(run, tmp_path):
    images = write_pictures(tmp_path / "images")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoint.FILE).write_bytes(b"weeks of work")
    result = run("finish", MODELS / "tiny-1", tmp_path / "run", "--data", images, *SHORT)
    assert result.exit_code == TrainingError.exit_code
    assert "holds a run already" in error_line(result)
    assert (tmp_path / "run" / checkpoint.FILE).read_bytes() == b"weeks of work"
