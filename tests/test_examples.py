"""The example scripts, one per command, each on a tiny setting."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from training_helpers import ROOT, TINY, cache, photos, picture, trained

EXAMPLES = ROOT / "scripts" / "examples"
COMMANDS = ("train", "export", "compress", "decompress", "eval", "info", "models")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def example(environment, tmp_path, monkeypatch):
    """A function that runs an example in an empty directory, with this source tree's `codec` on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "codec"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m codec_cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("MODEL", "tiny")
    work = tmp_path / "work"
    work.mkdir()

    def start(name, *arguments, code=0, **variables):
        result = subprocess.run(
            [EXAMPLES / f"{name}.sh", *map(str, arguments)],
            cwd=work,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == code, result.stderr
        return result

    start.work = work
    return start


@pytest.fixture
def tensorflow():
    for name in ("pydantic", "tensorflow", "tensorflow_compression"):
        pytest.importorskip(name, reason="needs the extra `train`")


def write(path, seed=1, width=64, height=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, width, height)).save(path)
    return path


def test_every_command_has_an_example():
    assert {path.stem for path in EXAMPLES.iterdir()} >= set(COMMANDS)
    for path in EXAMPLES.iterdir():
        assert os.access(path, os.X_OK), path
        assert "set -euo pipefail" in path.read_text()
        assert f"scripts/examples/{path.name}" in path.read_text()


def test_compress_info_decompress(example):
    """With their default arguments, one after the other."""
    write(example.work / "photo.png")
    assert "dB" in example("compress").stdout
    lines = example("info").stdout
    assert json.loads(lines[lines.index("{") :])
    example("decompress")
    with Image.open(example.work / "photo-decoded.png") as decoded:
        assert decoded.size == (64, 48)
    example("decompress", "photo.bin", "other.webp")
    assert (example.work / "other.webp").exists()
    assert example("info", "nothing.bin", code=4).stdout == ""


def test_eval(example):
    pytest.importorskip("scipy", reason="needs the extra `eval`")
    for i in range(2):
        write(example.work / "images" / f"{i}.png", i, 200, 150)
    result = example("eval", QUALITIES="1,50,100")
    assert "jpeg" in result.stdout
    figures = json.loads((example.work / "figures.json").read_text())
    assert {row["codec"] for row in figures["results"]} == {"codec:tiny-1", "jpeg"}


def test_models(example):
    assert "tiny-1" in example("models").stdout


def test_export_of_a_model(example, tensorflow):
    shutil.copytree(trained("factorized"), example.work / "run")
    shutil.copytree(cache(), example.work / "run" / "cache")
    example("export", "run", "models/mine-1", FORMATS="model")
    assert (example.work / "models" / "mine-1" / "analysis.tflite").exists()


def test_training_by_a_json_file(example, tensorflow):
    settings = "data.batch=3 data.cache_patches=8 data.crop=32 run.precision=float32 entropy.kind=factorized"
    example("train", photos(), "run", TINY, STEPS="2", SETTINGS=settings)
    assert json.loads((example.work / "run" / "metrics.json").read_text())["steps"] == 2


def test_from_json_to_export(example, tensorflow):
    """One command trains the digits example against its discriminator and exports it."""
    rng = np.random.default_rng(2)
    digits = rng.integers(0, 256, (40, 28, 28)).astype(np.uint8)
    np.savez(example.work / "digits.npz", x_train=digits, x_test=digits[:8])
    settings = "data.batch=8 data.cache_patches=16 run.validation_images=2 adversarial.start=0.5"
    example("pipeline", "digits.npz", STEPS="20", SETTINGS=settings)

    run, networks = example.work / "runs" / "digits", example.work / "networks" / "digits"
    entries = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert entries[0]["discriminator"] == 0 < entries[1]["discriminator"]
    assert (run / "curves.png").exists() == (importlib.util.find_spec("matplotlib") is not None)
    assert {path.suffix for path in networks.iterdir()} == {
        ".savedmodel",
        ".keras",
        ".tflite",
        ".json",
        ".md",
    }

    import tensorflow as tf

    from codec_cli.training import checkpoint, formats, model

    state, config = checkpoint.load(run)[0], checkpoint.load_run_config(run)
    tensors = {name: tf.constant(value) for name, value in state["ema"].items()}
    images = digits[:1, :, :, None]
    wanted = np.clip(model.reconstruct(tensors, config, images, 0).numpy(), 0, 1)
    value = images.astype(np.float32) / 255
    for name, tolerance in (("savedmodel", 1e-5), ("keras", 1e-5), ("tflite", 1e-3)):
        encoder, decoder = (formats.load(networks / f"{n}.{name}", name) for n in ("encoder", "decoder"))
        # The exported decoder alone, on the exported encoder's latents, is the full model.
        np.testing.assert_allclose(decoder(encoder(value)), wanted, atol=tolerance)
