"""What a run leaves to look at: logs of its steps, curves, its architecture, figures."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from training_helpers import cache, scratch, settings, tiny, trained, write_pictures

pytest.importorskip("pydantic", reason="needs the extra `train`")
pytest.importorskip("tensorflow", reason="needs the extra `train`")
pytest.importorskip("tensorflow_compression", reason="needs the extra `train`")

from codec_cli.training import checkpoint, loop, model, pictures

TRANSFORMS = {
    "kind": "layers",
    "channels": 3,
    "size": 16,
    "analysis": [
        {
            "op": "residual",
            "layers": [{"op": "conv", "filters": 4, "kernel": 1, "activation": "relu"}],
        },
        {"op": "conv", "filters": 8, "stride": 4, "kernel": 5, "activation": "leaky_relu"},
        {"op": "flatten"},
        {"op": "dense", "filters": 7},
    ],
    "synthesis": [
        {"op": "dense", "filters": 128},
        {"op": "reshape", "shape": [4, 4, 8]},
        {"op": "subpixel", "filters": 3, "factor": 4},
    ],
}
DISCRIMINATOR = {"layers": [{"op": "conv", "filters": 2, "stride": 2}], "start": 0.5}


def test_a_line_after_one_that_was_cut_off(tmp_path):
    path = tmp_path / "log.jsonl"
    pictures.append(path, {"step": 1})
    pictures.append(path, {"step": 2})
    path.write_bytes(path.read_bytes()[:-4])
    pictures.append(path, {"step": 3})
    assert pictures.read_log(path) == [{"step": 1}, {"step": 3}]


def listed(*overrides):
    """A small plain autoencoder with a discriminator."""
    folder = scratch() / "small pictures"
    if not folder.exists():
        write_pictures(folder, ((16, 16),) * 12)
    changes = settings(
        transforms=TRANSFORMS, data__crop=16, entropy__kind="none", data__path=str(folder),
        adversarial=DISCRIMINATOR, run__steps=40, run__validate_steps=20,
    )  # fmt: skip
    return tiny(*changes, *overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "run"
    loop.train(listed(), folder, cache_dir=cache(), quiet=True)
    return folder


@pytest.fixture
def result():
    return {"step": 40, "seconds": 2.0, "bpp": [0.0] * 3, "psnr": [20.0] * 3, "loss": 3.0}


def test_figures_of_a_run(run):
    figures = json.loads((run / pictures.METRICS).read_text())
    last = pictures.read_log(run / loop.LOG)[-1]
    assert figures["name"] == "tiny"
    assert figures["steps"] == 40
    assert figures["validation"] == {name: last[name] for name in ("bpp", "psnr", "loss")}
    assert figures["parameters"] == {
        "analysis": 3 * 4 + 4 + 3 * 4 + 4 + 5 * 5 * 4 * 8 + 8 + 128 * 7 + 7,
        "synthesis": 7 * 128 + 128 + 9 * 8 * 48 + 48,
        "discriminator": 9 * 3 * 2 + 2,
        "total": sum(count for name, count in figures["parameters"].items() if name != "total"),
    }
    rate = figures["throughput"]
    assert rate["megapixels_per_second"] == pytest.approx(
        rate["steps_per_second"] * 6 * 16 * 16 / 1e6, abs=1e-3
    )


def test_without_any_time(result):
    params = model.init_params(tiny(), np.zeros((1, 64, 64, 3), np.uint8))
    figures = pictures.metrics(tiny(), params, {**result, "seconds": 0.0})
    assert figures["throughput"] == {"steps_per_second": None, "megapixels_per_second": None}
    assert set(figures["parameters"]) == {"analysis", "synthesis", "gain", "prior", "context", "total"}


def test_curves(run):
    with Image.open(run / pictures.CURVES) as picture:
        # Loss, PSNR and the discriminator; there is no rate.
        assert picture.width == pytest.approx(3 * 4.8 * 110, abs=3)
    with Image.open(trained("factorized") / pictures.CURVES) as picture:
        assert picture.width == pytest.approx(3 * 4.8 * 110, abs=3)  # Loss, rate, PSNR.


def test_the_log_of_steps(run, tmp_path):
    entries = pictures.read_log(run / pictures.TRAIN_LOG)
    assert [entry["step"] for entry in entries] == [10, 20, 30, 40]
    assert set(entries[0]) == {"step", "loss", "grad_norm", "bpp", "psnr", "adversarial", "discriminator"}
    assert len(entries[0]["psnr"]) == 3
    (tmp_path / "log").write_text('{"step": 10}\n{"step": 20, "a": 1}\n{"step": 30}\n{"step": 20}\n{"st')
    assert pictures.read_log(tmp_path / "log") == [{"step": 10}, {"step": 20}]
    assert pictures.read_log(tmp_path / "nothing") == []


def test_the_architecture_of_listed_layers(run):
    text = (run / "architecture.txt").read_text()
    table = {words[0]: words for words in (line.split() for line in text.splitlines()[2:])}
    assert table["analysis/0"][1:] == ["residual", "16x16x4", "32"]
    assert table["analysis/0/0"][1:] == ["conv", "1x1,", "relu", "16x16x4", "16"]
    assert table["analysis/1"][1:] == ["conv", "5x5,", "stride", "4,", "leaky_relu", "4x4x8", "808"]
    assert table["analysis/2"][1:] == ["flatten", "128"]
    assert table["synthesis/2"][1:] == ["subpixel", "3x3,", "factor", "4", "16x16x3", "3,504"]
    assert table["discriminator/0"][-2:] == ["8x8x2", "56"]
    total = json.loads((run / pictures.METRICS).read_text())["parameters"]["total"]
    assert text.startswith(f"tiny: {total:,} parameters\n")


def test_the_architecture_of_stages():
    run = trained("factorized")
    text = (run / "architecture.txt").read_text()
    table = {words[0]: words for words in (line.split() for line in text.splitlines()[2:])}
    assert table["analysis/stage0"][-2] == "16x16x12"
    assert table["analysis/stage1"][-2] == "4x4x24"
    assert table["synthesis/stage1"][-2] == "4x4x24"
    assert table["synthesis/stage0"][-2] == "16x16x12"
    assert table["synthesis"][-2] == "64x64x3"
    # Every parameter is in one row of the second level or below.
    counts = json.loads((run / pictures.METRICS).read_text())["parameters"]
    for part in ("analysis", "synthesis"):
        rows = [
            int(words[-1].replace(",", "")) for name, words in table.items() if name.startswith(f"{part}/")
        ]
        assert sum(rows) == counts[part]


def test_pictures_of_the_architecture(run):
    pytest.importorskip("pydot", reason="needs the extra `train`")
    if shutil.which("dot") is None:
        pytest.skip("needs Graphviz")
    for name in ("architecture.png", "discriminator.png"):
        with Image.open(run / name) as picture:
            assert picture.format == "PNG"
            assert picture.height > 200


@pytest.fixture
def bare(run, tmp_path):
    """A run without pictures; its configuration and parameters."""
    for name in (loop.LOG, pictures.TRAIN_LOG):
        shutil.copy(run / name, tmp_path / name)
    return tmp_path, checkpoint.load_run_config(run), checkpoint.load(run)[0]["params"]


def test_without_matplotlib_or_pydot(bare, result, monkeypatch):
    folder, config, params = bare
    for name in ("matplotlib", "pydot"):
        monkeypatch.setitem(sys.modules, name, None)
    notes = pictures.save(folder, config, params, result)
    assert [note.split()[0] for note in notes] == ["curves.png", "architecture.png"]
    assert all("pip install" in note and "\n" not in note for note in notes)
    assert {path.suffix for path in folder.iterdir()} == {".jsonl", ".json", ".txt"}


def test_without_graphviz(bare, result, monkeypatch):
    pytest.importorskip("pydot", reason="needs the extra `train`")
    folder, config, params = bare
    monkeypatch.setenv("PATH", str(folder))
    (note,) = pictures.save(folder, config, params, result)
    assert "needs Graphviz" in note
    # A program of that name that fails does not end a run either.
    (folder / "dot").write_text("#!/bin/sh\necho no >&2\nexit 3\n")
    (folder / "dot").chmod(0o755)
    (note,) = pictures.save(folder, config, params, result)
    assert "could not be drawn" in note
    assert "\n" not in note
    assert not list(folder.glob("*architecture*.png"))


def test_a_note_is_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "pydot", None)
    loop.train(listed("run.validate_steps=10", "run.steps=20"), tmp_path / "run", cache_dir=cache())
    assert capsys.readouterr().err.count("curves.png needs matplotlib") == 1
