"""codec models: list, verify, add, path."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import error_line

from codec_cli.zoo import Zoo


@pytest.fixture
def copy(models_dir, tmp_path):
    """A model folder that tests may damage, in a models directory of its own."""
    return Path(shutil.copytree(models_dir / "tiny-1", tmp_path / "models" / "mine-2"))


def listed(run, *arguments, code=0):
    result = run("models", *arguments, "--json")
    assert result.exit_code == code
    return {model["name"]: model for model in json.loads(result.stdout)["models"]}


@pytest.mark.parametrize("command", [["models"], ["models", "list"]])
def test_list(run, models_dir, command):
    result = run(*command)
    assert result.exit_code == 0
    info = Zoo(models_dir).info("tiny")
    for text in (
        "tiny-1 (also: tiny)",
        "tiny-factorized-1",
        info.kind,
        info.fingerprint.hex(),
        f"{info.levels}, ",
    ):
        assert text in result.stdout


def test_list_json(run, models_dir):
    info = Zoo(models_dir).info("tiny-1")
    model = listed(run)["tiny-1"]
    assert model == listed(run, "list")["tiny-1"]
    assert model["alias"] == "tiny"
    assert (model["kind"], model["levels"]) == (info.kind, info.levels)
    assert model["bytes"] == info.size_bytes()
    assert model["fingerprint"] == info.fingerprint.hex()
    assert model["path"] == str(info.path)


def test_only_the_newest_has_the_alias(run, copy):
    shutil.copytree(copy, copy.with_name("mine-10"))
    models = listed(run, "--models-dir", copy.parent)
    assert (models["mine-2"]["alias"], models["mine-10"]["alias"]) == (None, "mine")
    assert [name for name in models if name.startswith("mine")] == ["mine-2", "mine-10"]


def test_facts_of_the_card(run, copy):
    path = copy / "model.json"
    card = {"trained_on": ["A", "B"], "kodak": {"bd_rate_jpeg": -41.5}, "curve": [[1, 2]], "none": None}
    path.write_text(json.dumps({**json.loads(path.read_text()), "card": card}))
    text = run("models", "--models-dir", copy.parent).stdout
    assert re.search(r"trained on +A, B", text)
    assert re.search(r"kodak bd rate jpeg +-41.5", text)
    assert re.search(r"measured +quality 1: \d\.\d+ bpp, \d+\.\d dB; ", text)
    assert re.search(r"trained steps +300", text)
    assert "curve" not in text
    assert listed(run, "--models-dir", copy.parent)["mine-2"]["card"].items() >= card.items()


def test_a_broken_model_is_named_and_the_others_listed(run, copy):
    (copy / "model.json").write_text("{")
    result = run("models", "--models-dir", copy.parent)
    assert result.exit_code == 6
    assert "mine-2" in error_line(result)
    models = listed(run, "--models-dir", copy.parent, code=6)
    assert "error" in models["mine-2"]


def test_no_models(run, monkeypatch, tmp_path):
    monkeypatch.setattr(Zoo, "names", lambda _: [])
    assert "no models are installed" in run("models").stdout


def test_verify(run, copy):
    result = run("models", "verify", "--models-dir", copy.parent)
    assert result.exit_code == 0
    assert "mine-2: ok\n" in result.stdout
    (copy / "weights.npz").unlink()
    result = run("models", "verify", "--models-dir", copy.parent)
    assert result.exit_code == 0
    assert "mine-2: ok, without weights.npz\n" in result.stdout
    weights = copy / "analysis.tflite"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    for arguments in (
        ["models", "verify", "--models-dir", copy.parent],
        ["models", "--models-dir", copy.parent, "verify"],
    ):
        result = run(*arguments)
        assert result.exit_code == 6
        assert "analysis.tflite: damaged" in error_line(result)
        assert "mine-2: FAILED" in result.stdout
    report = run("models", "--json", "verify", "mine", "--models-dir", copy.parent)
    assert report.exit_code == 6
    (model,) = json.loads(report.stdout)["models"]
    assert (model["name"], model["ok"]) == ("mine", False)
    assert run("models", "verify", "nothing").exit_code == 6


def test_add(run, copy, write_photo, tmp_path):
    result = run("models", "add", copy)
    assert result.exit_code == 0
    target = Path(os.environ["XDG_DATA_HOME"]) / "codec" / "models" / "mine-2"
    assert result.stdout.startswith("mine-2 -> ")
    assert (target / "model.json").is_file()
    assert run("compress", write_photo(tmp_path / "a.png"), "--model", "mine").exit_code == 0
    again = run("models", "add", copy)
    assert again.exit_code == 6
    assert "--force" in error_line(again)
    assert run("models", "add", copy, "--force").exit_code == 0


def test_add_refuses_the_name_of_a_model_that_comes_with_the_tool(run, copy):
    named = copy.rename(copy.parent / "photo-1")
    result = run("models", "add", named)
    assert result.exit_code == 6
    assert "photo-1 comes with codec; rename the folder" in error_line(result)
    assert run("models", "path", "photo-1").stdout.strip() != str(named)
    assert run("models", "add", named, "--force").exit_code == 0


def test_add_refuses_what_is_no_model_or_damaged(run, copy, tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "none"):
        result = run("models", "add", path)
        assert result.exit_code == 6
        assert "not a model folder" in error_line(result)
    (copy / "tables.npz").write_bytes(b"")
    assert run("models", "add", copy).exit_code == 6
    assert not (Path(os.environ["XDG_DATA_HOME"]) / "codec" / "models" / "mine-2").exists()


def test_path(run, models_dir):
    assert run("models", "path", "tiny").stdout == f"{models_dir / 'tiny-1'}\n"
    lines = run("models", "path").stdout.splitlines()
    assert lines[0] == str(models_dir)
    assert lines[1] == os.path.join(os.environ["XDG_DATA_HOME"], "codec", "models")  # noqa: PTH118
    assert run("models", "path", "nothing").exit_code == 6


def test_missing_models_dir(run, tmp_path):
    result = run("models", "--models-dir", tmp_path / "none")
    assert result.exit_code == 6
    assert "no such models directory" in error_line(result)
