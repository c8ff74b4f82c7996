"""What the tests of training share: a tiny configuration and pictures to train it on."""

import atexit
import functools
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "data" / "configs" / "tiny.json"
MODELS = ROOT / "tests" / "data" / "models"
# What makes the tiny configuration compile fast.
SMALL = ("entropy.kind=factorized", "transforms.analysis.0.blocks=0", "transforms.synthesis.0.blocks=0")
SIZES = ((200, 150), (160, 224), (130, 120), (96, 160), (240, 128), (144, 144), (150, 110), (128, 192))


def tiny(*overrides):
    """The tiny configuration, with ``section.field=value`` texts applied."""
    from codec_cli.training.config import load_config

    return load_config(str(TINY), overrides)


def picture(seed, width=96, height=96, channels=3):
    """Something like a photograph: soft shapes, an edge and noise; uint8 (height, width, channels)."""
    rng = np.random.default_rng(seed)
    out = np.zeros((height, width, channels))
    for cells, strength in ((3, 90), (8, 45), (24, 20)):
        for c in range(channels):
            grid = Image.fromarray(rng.normal(0, strength, (cells, cells)).astype(np.float32))
            out[..., c] += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
    out = out.mean(2, keepdims=True) * 0.7 + out * 0.3
    y, x = np.mgrid[:height, :width]
    out[(x - width / 2) * rng.normal() + (y - height / 2) * rng.normal() > width / 5] += rng.normal(0, 50)
    return np.clip(128 + out + rng.normal(0, 2, out.shape), 0, 255).astype(np.uint8)


def pictures(count=24, side=96, channels=3):
    """Patches as the cache holds them, uint8 (count, side, side, channels)."""
    return np.stack([picture(seed, side, side, channels) for seed in range(count)])


def write_pictures(folder, sizes=SIZES, suffix=".png", start=0):
    """Writes a directory of images, some of them in a folder of its own; returns the directory."""
    for i, (width, height) in enumerate(sizes):
        path = folder / ("deeper" if i % 2 else "") / f"{i + start}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i + start, width, height)).save(path)
    return folder


def interrupt_at(monkeypatch, number):
    """Sends SIGINT while the batch of a step is made."""
    from codec_cli.training import data

    make = data.batch_at

    def batch_at(config, patches, step):
        if step == number:
            os.kill(os.getpid(), signal.SIGINT)
        return make(config, patches, step)

    monkeypatch.setattr(data, "batch_at", batch_at)


@functools.cache
def scratch() -> Path:
    """A directory that lives as long as the tests."""
    folder = Path(tempfile.mkdtemp(prefix="codec-training-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def photos() -> Path:
    """A directory of training images."""
    return write_pictures(scratch() / "photos")


def settings(**more):
    """Overrides of a reproducible run on the images of :func:`photos`; patches are cached once for all."""
    values = {"data.path": str(photos()), "run.precision": "float32", "run.steps": 24, **more}
    return [f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]


def cache() -> Path:
    return scratch() / "cache"


def trained(kind="context") -> Path:
    """A finished run of 24 steps; copy it before changing anything in it."""
    return _trained(kind)


@functools.cache
def _trained(kind) -> Path:
    from codec_cli.training.loop import train

    run = scratch() / f"run-{kind}"
    train(tiny(*settings(entropy__kind=kind)), run, cache_dir=cache(), quiet=True)
    return run


def one_line(error):
    """The text of an error, which must be one line."""
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text
