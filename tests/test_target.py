import numpy as np
import pytest
from helpers import write_weighted

import codec_cli.target as target_module
from codec_cli.codec import Codec
from codec_cli.errors import TargetError
from codec_cli.evaluation.metrics import ms_ssim, psnr
from codec_cli.pictures.images import Picture
from codec_cli.target import FINER, FITS, LEVEL_STEP, MS_SSIM, PSNR, SIZE, Target, encode_to


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return Codec(str(write_weighted(tmp_path_factory.mktemp("models") / "weighted-1", worth=1.0)))


@pytest.fixture(scope="module")
def picture():
    rows, columns = np.indices((192, 208))
    waves = [128 + 90 * np.sin(rows / (7 + c) + columns / (11 - c)) for c in range(3)]
    noise = np.random.default_rng(5).normal(0, 6, (192, 208, 3))
    return Picture(np.clip(np.stack(waves, 2) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def files(codec, picture):
    return [codec.encode_picture(picture, level=level) for level in range(codec.info.levels)]


@pytest.fixture(scope="module")
def rungs(codec, picture):
    """By level, its files with symbols optimised harder than usual, by rising size."""
    latents = list(codec.latents(picture.pixels))
    return [
        [codec.pack(picture, latents, level, strength=strength) for strength in FINER]
        for level in range(codec.info.levels)
    ]


def test_size_is_never_exceeded_and_is_the_best_within(codec, picture, files, rungs):
    sizes = [len(file) for file in files]
    assert sizes == sorted(sizes)
    between = [len(file) for file in rungs[4]]
    assert between == sorted(between)
    assert sizes[3] < between[2] < between[3] < sizes[4]
    for limit, wanted in (
        (sizes[0], files[0]),
        (sizes[4], files[4]),
        (sizes[-1] + 1000, files[-1]),
        (between[2], rungs[4][2]),
        (between[3] - 1, rungs[4][2]),
        (sizes[4] - 1, rungs[4][-1]),
        (len(rungs[0][1]), rungs[0][1]),
    ):
        assert encode_to(codec, picture, Target(SIZE, limit)) == wanted


def test_what_fits_of_the_next_level_may_be_smaller_than_the_level_that_fits(codec, picture, monkeypatch):
    monkeypatch.setattr(
        codec, "pack", lambda _picture, _latents, level, _effort, strength: bytes(
            100 * (level + 1) - round(500 * ((strength or 0.2) - 0.2))
        ),
    )  # fmt: skip
    assert len(codec.pack(None, None, 1, None, FINER[0])) == 50
    assert len(encode_to(codec, picture, Target(SIZE, 100))) == 100
    assert len(encode_to(codec, picture, Target(SIZE, 119))) == 115


def test_size_below_the_smallest_is_refused(codec, picture, rungs):
    smallest = len(rungs[0][0])
    assert encode_to(codec, picture, Target(SIZE, smallest)) == rungs[0][0]
    with pytest.raises(TargetError, match=f"{smallest} bytes"):
        encode_to(codec, picture, Target(SIZE, smallest - 1))


@pytest.mark.parametrize("kind", [PSNR, MS_SSIM])
def test_a_quality_gives_the_smallest_file_that_has_it(codec, picture, files, rungs, kind):
    metric = {PSNR: psnr, MS_SSIM: ms_ssim}[kind]

    def quality(file):
        return metric(picture.pixels, codec.decode(file))

    assert quality(files[2]) < quality(rungs[3][2]) < quality(rungs[3][3]) < quality(files[3])
    for wanted, file in (
        (quality(files[3]), files[3]),
        (quality(rungs[3][3]), rungs[3][3]),
        ((quality(rungs[3][2]) + quality(rungs[3][3])) / 2, rungs[3][3]),
        ((quality(rungs[3][-1]) + quality(files[3])) / 2, files[3]),
        (quality(rungs[0][0]) / 2, rungs[0][0]),
    ):
        assert encode_to(codec, picture, Target(kind, wanted)) == file


def test_plain_rounding_has_levels_only(codec, picture):
    plain = [codec.encode_picture(picture, level=level, effort=1) for level in (2, 3)]
    assert encode_to(codec, picture, Target(SIZE, len(plain[1]) - 1), effort=1) == plain[0]


def test_models_whose_symbols_are_not_optimised_have_levels_only(codec, picture, monkeypatch):
    monkeypatch.setattr(Codec, "optimises", False)
    files = [codec.encode_picture(picture, level=level) for level in (2, 3)]
    assert encode_to(codec, picture, Target(SIZE, len(files[1]) - 1)) == files[0]
    assert encode_to(codec, picture, Target(PSNR, psnr(picture.pixels, codec.decode(files[1])))) == files[1]


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

    def refined(_picture, *, level, effort, weight):
        assert (effort, weight) == (7, 1)
        tried.append(level)
        return plain[min(max(level + shift, 0), top)]

    monkeypatch.setattr(codec, "encode_picture", refined)
    values = [len(data) if kind == SIZE else psnr(picture.pixels, codec.decode(data)) for data in plain]
    assert encode_to(codec, picture, Target(kind, values[3]), effort=7, finer=()) == plain[3]
    assert len(tried) == len(set(tried)) <= 2 + abs(shift)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.48, 0.52, 0.7, 0.9])
@pytest.mark.parametrize("slope", [0.5, 1, 2])
@pytest.mark.parametrize("kind", [SIZE, PSNR])
def test_refined_files_come_between_levels(codec, picture, monkeypatch, kind, slope, share):
    """By the weight of distortion at the better level, whatever exactly that does; in a few more files."""
    plain = codec.encode_picture(picture, level=3, effort=1)
    first, step = {SIZE: (10.0, 0.06), PSNR: (30.0, 0.3)}[kind]
    weights, place = [], 0.0

    def refined(_picture, *, level, effort, weight):
        nonlocal place
        assert effort == 7
        if weight != 1:
            weights.append((level, weight))
        place = first + step * (level + slope * np.log(weight) / LEVEL_STEP)
        return bytes(round(np.exp(place))) if kind == SIZE else plain

    monkeypatch.setattr(codec, "encode_picture", refined)
    monkeypatch.setattr(target_module, "_metric", lambda *_: lambda _: place)
    monkeypatch.setattr(target_module, "encode_to", lambda *_: plain)
    wish = first + step * (3 + share)
    if kind == SIZE:
        data = target_module._refined(codec, picture, Target(SIZE, np.exp(wish)), 7, FITS)
        assert wish - 0.005 < np.log(len(data)) <= wish
    else:
        target_module._refined(codec, picture, Target(PSNR, wish), 7, FITS)
        assert wish <= place < wish + 0.005
    assert {level for level, _ in weights} == {4}
    assert len(weights) <= FITS


def test_targets_that_refined_files_miss_are_met_without(codec, picture, files, monkeypatch):
    large = codec.encode_picture(picture, level=codec.info.levels - 1)
    monkeypatch.setattr(codec, "encode_picture", lambda *_args, **_kwargs: large)
    assert encode_to(codec, picture, Target(SIZE, len(files[1])), effort=7) == files[1]
    with pytest.raises(TargetError, match="smallest possible"):
        encode_to(codec, picture, Target(SIZE, 10), effort=7)
