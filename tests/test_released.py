"""Models that were released never change, and do what their cards promise."""

import itertools
import json
import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from helpers import golden_index
from PIL import Image

from codec_cli.codec import Codec
from codec_cli.evaluation.metrics import psnr
from codec_cli.pictures.images import Picture
from codec_cli.zoo import Zoo, installed_models_dir

RELEASED = json.loads((Path(__file__).parent / "data" / "released.json").read_text())
REPOSITORY = (Path(__file__).parents[1] / ".github").is_dir()
VALIDATION = Path(os.environ.get("CODEC_VALIDATION_IMAGES", "../shared/data/validation"))


@pytest.fixture(autouse=True)
def only_installed_models(monkeypatch, tmp_path):
    monkeypatch.delenv("CODEC_MODELS_DIR", raising=False)
    monkeypatch.setattr("codec_cli.zoo.user_models_dir", lambda: tmp_path / "none")


def test_every_installed_model_is_recorded():
    assert Zoo().names() == sorted(RELEASED)


def test_every_one_has_golden_files():
    """tests/test_golden.py decodes them, under other arithmetic and processors too."""
    assert {entry["model"] for entry in golden_index().values()} >= set(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_files_are_what_was_released(name):
    folder = installed_models_dir() / name
    there = {f: digest for f, digest in RELEASED[name].items() if REPOSITORY or (folder / f).exists()}
    assert RELEASED[name].keys() - there.keys() <= {"weights.npz"}  # Packages leave older ones out.
    assert {f: sha256((folder / f).read_bytes()).hexdigest() for f in there} == there
    Zoo().info(name).verify()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 30_000_000


def test_photo_is_the_newest_and_covers_the_range():
    info = Zoo().info("photo")
    assert info.levels >= 32
    rows = info.facts["validation"]
    assert abs(rows[info.level_of_quality(info.default_quality)]["bpp"] - 0.6) < 0.05
    for field in ("bpp", "psnr_rgb_db"):
        values = [row[field] for row in rows]
        assert all(a < b for a, b in itertools.pairwise(values)), field


def test_photo_at_equal_size_is_better_than_jpeg():
    data = pytest.importorskip("skimage.data", reason="the photograph comes with scikit-image")
    import io

    pixels = data.astronaut()
    codec = Codec("photo")
    ours = codec.encode(pixels)
    stream = io.BytesIO()
    for quality in range(1, 96):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() >= len(ours):
            break
    with Image.open(stream) as image:
        jpeg = np.asarray(image)
    assert psnr(pixels, codec.decode(ours)) > psnr(pixels, jpeg) + 1.5


@pytest.mark.slow
@pytest.mark.skipif(
    not VALIDATION.is_dir(), reason="no validation images; name a directory in CODEC_VALIDATION_IMAGES"
)
def test_mean_size_and_psnr_rise_with_every_level():
    """With the default effort."""
    codec = Codec("photo")
    images = [np.asarray(Image.open(p).convert("RGB")) for p in sorted(VALIDATION.glob("*.png"))[::3]]
    latents = [list(codec.latents(image)) for image in images]
    means = []
    for level in range(codec.info.levels):
        files = [codec.pack(Picture(i), y, level) for i, y in zip(images, latents, strict=True)]
        quality = [psnr(i, codec.decode(f)) for i, f in zip(images, files, strict=True)]
        means.append((np.mean([len(f) for f in files]), np.mean(quality)))
    sizes, qualities = zip(*means, strict=True)
    assert all(np.diff(sizes) > 0)
    assert all(np.diff(qualities) > 0)
