from pathlib import Path

import numpy as np
import pytest

from codec_cli.codec import Codec
from codec_cli.errors import TargetError
from codec_cli.evaluation.metrics import psnr
from codec_cli.pictures.images import Picture
from codec_cli.target import MS_SSIM, PSNR, SIZE, Target, encode_to


@pytest.fixture(scope="module")
def codec():
    return Codec("tiny", models_dir=Path(__file__).parent / "data" / "models")


@pytest.fixture(scope="module")
def picture():
    rows, columns = np.indices((192, 208))
    waves = [128 + 90 * np.sin(rows / (7 + c) + columns / (11 - c)) for c in range(3)]
    noise = np.random.default_rng(5).normal(0, 6, (192, 208, 3))
    return Picture(np.clip(np.stack(waves, 2) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def files(codec, picture):
    return [codec.encode_picture(picture, level=level) for level in range(codec.info.levels)]


def test_size_is_never_exceeded_and_is_the_best_within(codec, picture, files):
    sizes = [len(file) for file in files]
    assert sizes == sorted(sizes)
    for limit in (sizes[0], sizes[0] + 1, sizes[3] - 1, sizes[3], sizes[-1] + 1000):
        data = encode_to(codec, picture, Target(SIZE, limit))
        assert len(data) == max(size for size in sizes if size <= limit)


def test_size_below_the_smallest_is_refused(codec, picture, files):
    with pytest.raises(TargetError, match=f"{len(files[0])} bytes"):
        encode_to(codec, picture, Target(SIZE, len(files[0]) - 1))


def test_psnr_gives_the_smallest_file_that_has_it(codec, picture, files):
    qualities = [psnr(picture.pixels, codec.decode(file)) for file in files]
    wanted = (qualities[2] + qualities[3]) / 2
    assert encode_to(codec, picture, Target(PSNR, wanted)) == files[3]
    assert encode_to(codec, picture, Target(PSNR, 1.0)) == files[0]


def test_ms_ssim_is_reached(codec, picture, files):
    assert encode_to(codec, picture, Target(MS_SSIM, 0.1)) == files[0]


def test_quality_beyond_the_model_is_refused(codec, picture):
    with pytest.raises(TargetError, match="does not reach psnr"):
        encode_to(codec, picture, Target(PSNR, 90))


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("kind", [SIZE, PSNR])
def test_refined_files_decide_at_the_highest_efforts(codec, picture, monkeypatch, kind, shift):
    """Whatever level they are as good as, the best that meets the target is found."""
    plain = [codec.encode_picture(picture, level=level, effort=1) for level in range(codec.info.levels)]
    top = len(plain) - 1
    tried = []

    def refined(_picture, *, level, effort):
        assert effort == 7
        tried.append(level)
        return plain[min(max(level + shift, 0), top)]

    monkeypatch.setattr(codec, "encode_picture", refined)
    values = [len(data) if kind == SIZE else psnr(picture.pixels, codec.decode(data)) for data in plain]
    assert encode_to(codec, picture, Target(kind, values[3]), effort=7) == plain[3]
    assert len(tried) == len(set(tried)) <= 2 + abs(shift)


def test_targets_that_refined_files_miss_are_met_without(codec, picture, files, monkeypatch):
    large = codec.encode_picture(picture, level=codec.info.levels - 1)
    monkeypatch.setattr(codec, "encode_picture", lambda *_args, **_kwargs: large)
    assert encode_to(codec, picture, Target(SIZE, len(files[1])), effort=7) == files[1]
    with pytest.raises(TargetError, match="smallest possible"):
        encode_to(codec, picture, Target(SIZE, 10), effort=7)
