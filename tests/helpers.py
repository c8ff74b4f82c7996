"""What the tests of the run-time core share: the frozen models, pictures, check sums."""

import contextlib
import functools
import hashlib
import json
import shutil
import zlib
from pathlib import Path

import numpy as np

from codec_cli.bitstream.container import parse
from codec_cli.codec import Codec
from codec_cli.loading import load_entropy_model
from codec_cli.zoo import TABLES, ModelInfo, fingerprint, installed_models_dir, read_info

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "tests" / "data" / "models"
GOLDEN = ROOT / "tests" / "data" / "golden"
CONTEXT, FACTORIZED = "tiny-1", "tiny-factorized-1"
KINDS = (CONTEXT, FACTORIZED)
LEVELS = 7
CHANNELS = 24  # of the latents
# Models that came with the tool, and levels of their golden files.
RELEASED = {
    "photo-1": (28,),
    "photo-2": (28,),
    "photo-3": (0, 14, 28, 49),
    "photo-perceptual-1": (28,),
    "mnist-1": (6,),
    "mnist-2": (6,),
    "mnist-3": (0, 12),
}
MANY_PIXELS = 1 << 28


@functools.cache
def info_of(name: str) -> ModelInfo:
    """A frozen model of the tests, or a released one."""
    frozen = MODELS / name
    return read_info(frozen if frozen.is_dir() else installed_models_dir() / name)


@functools.cache
def entropy_of(name: str):
    return load_entropy_model(info_of(name))


@functools.cache
def codec_of(name: str) -> Codec:
    """One codec for all tests (the tests run in one thread)."""
    return Codec(info_of(name), models_dir=MODELS)


def texture(height, width, channels=3, seed=0):
    """uint8 (height, width, channels): slopes, edges and noise, so that all latents have work to do."""
    rng = np.random.default_rng([seed, height, width, channels])
    rows, columns = np.mgrid[:height, :width]
    slopes = np.stack([rows * (2 + c) + columns * (3 - c) for c in range(channels)], 2) % 256
    edges = np.where((rows // 7 + columns // 11) % 2, 70, -70)[:, :, None]
    return np.clip(slopes + edges + rng.normal(0, 20, slopes.shape), 0, 255).astype(np.uint8)


def random_symbols(height, width, seed=0, spread=1.5):
    """int16 (height, width, CHANNELS), Laplacian, with an escape here and there."""
    rng = np.random.default_rng([seed, height, width])
    symbols = rng.laplace(0, spread, (height, width, CHANNELS))
    symbols = np.where(rng.random(symbols.shape) < 0.002, symbols * 4000, symbols)
    return np.clip(np.rint(symbols), -32768, 32767).astype(np.int16)


def checksum(tiles):
    """SHA-256 in hex of the symbols of all tiles, and of their shapes."""
    digest = hashlib.sha256()
    for tile in tiles:
        assert tile.dtype == np.int16
        digest.update(np.array(tile.shape, "<u4").tobytes())
        digest.update(tile.astype("<i2").tobytes())
    return digest.hexdigest()


def resealed(data):
    """The file with its CRC-32 made right again."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def copy_model(target, name=CONTEXT):
    """A copy of a frozen model's folder that a test may spoil."""
    return Path(shutil.copytree(MODELS / name, target))


def rewrite(folder, facts=None, tables=None, refresh=True):
    """Changes a model folder as its author could: check sums and fingerprint are made right again.

    Args:
        folder: Of the model.
        facts: Fields of ``model.json`` to set; a field set to ``...`` is removed.
        tables: Arrays of ``tables.npz`` to set, or the bytes of the whole file.
        refresh: Whether to make the check sum of the tables and the fingerprint right.
    """
    path = folder / "model.json"
    described = json.loads(path.read_text())
    if isinstance(tables, bytes):
        (folder / TABLES).write_bytes(tables)
    elif tables is not None:
        with np.load(folder / TABLES) as archive:
            arrays = {name: archive[name] for name in archive.files}
        np.savez(folder / TABLES, **{**arrays, **tables})
    if refresh:
        described["files"][TABLES] = hashlib.sha256((folder / TABLES).read_bytes()).hexdigest()
    described |= facts or {}
    described = {name: value for name, value in described.items() if value is not ...}
    if refresh and not isinstance(tables, bytes) and not set(facts or {}) & {"fingerprint", "files"}:
        with np.load(folder / TABLES) as archive:
            arrays = {name: archive[name] for name in archive.files}
        with contextlib.suppress(KeyError, TypeError):  # Of a field that was removed, or is nonsense.
            synthesis = (folder / "synthesis.tflite").read_bytes()
            described["fingerprint"] = fingerprint(described, arrays, synthesis)
    path.write_text(json.dumps(described))


def golden_index():
    """What ``make_golden.py`` wrote down: facts of each golden file, by name."""
    return json.loads((GOLDEN / "golden.json").read_text())


def golden_file(name):
    return (GOLDEN / f"{name}.bin").read_bytes()


def golden_symbols():
    """Of every golden file: the check sum of its symbols, and whether they give its segments again."""
    facts = {}
    for name, entry in golden_index().items():
        data = golden_file(name)
        tiles = codec_of(entry["model"]).symbols(data)
        segments = parse(data, info_of(entry["model"]).tile_pixels, 1 << 28).tiles
        again = tuple(entropy_of(entry["model"]).encode(tile, entry["level"]) for tile in tiles)
        facts[name] = [checksum(tiles), again == segments]
    return facts


def write_weighted(folder, worth=0.5):
    """The tiny model with an encoder.npz, as exports have it; returns its folder."""
    shutil.copytree(MODELS / "tiny-1", folder)
    np.savez(folder / "encoder.npz", distortion_weight=np.full((7, 24), worth, np.float32))
    facts = json.loads((folder / "model.json").read_text())
    facts["files"]["encoder.npz"] = hashlib.sha256((folder / "encoder.npz").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(facts))
    return folder
