"""The catalogue of metrics and what is measured with it."""

import pickle
from dataclasses import fields

import numpy as np
import pytest

from codec_cli.evaluation import figures, metrics
from codec_cli.evaluation.quality import METRICS, Measure


def pair(photo, width, height, channels=3):
    original = photo(width, height)[..., :channels]
    noise = np.random.default_rng(1).normal(0, 6, original.shape)
    return original, np.clip(original + noise, 0, 255).astype(np.uint8)


def test_catalogue():
    keys = [metric.key for metric in METRICS]
    assert keys[:6] == ["psnr_rgb_db", "psnr_luma_db", "ssim", "ms_ssim", "ms_ssim_db", "lpips"]
    assert len({metric.heading for metric in METRICS}) == len(METRICS)
    assert [metric.key for metric in METRICS if not metric.higher_better] == ["lpips"]
    for part in (figures.Point, figures.Mean):
        assert [field.name for field in fields(part) if field.name in keys] == keys


@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_those_of_the_metrics(photo, channels):
    a, b = pair(photo, 190, 177, channels)
    assert Measure()(a, b) == {
        "psnr_rgb_db": metrics.psnr(a, b),
        "psnr_luma_db": metrics.psnr_luma(a, b),
        "ssim": metrics.ssim(a, b),
        "ms_ssim": metrics.ms_ssim(a, b),
        "ms_ssim_db": metrics.to_db(metrics.ms_ssim(a, b)),
        "lpips": None,
    }


@pytest.mark.parametrize(
    ("side", "none"),
    [(10, {"ssim", "ms_ssim", "ms_ssim_db"}), (11, {"ms_ssim", "ms_ssim_db"}), (176, set())],
)
def test_none_where_not_defined(photo, side, none):
    values = Measure()(*pair(photo, side, side + 3))
    assert {key for key, value in values.items() if value is None} - {"lpips"} == none
    assert list(values) == [metric.key for metric in METRICS]


def test_none_where_infinite(photo):
    image = photo(180, 180)
    values = Measure()(image, image)
    assert values == {**dict.fromkeys(values), "ssim": 1, "ms_ssim": 1}


def test_can_be_pickled(photo):
    a, b = pair(photo, 20, 20)
    measure = pickle.loads(pickle.dumps(Measure()))
    assert measure(a, b) == Measure()(a, b)
