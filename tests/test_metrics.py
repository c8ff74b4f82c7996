"""The metrics against TensorFlow's (the reference of published figures) and against plain definitions."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_cli.errors import CodecError
from codec_cli.evaluation import metrics

SSIM_SHAPES = [(11, 11, 3), (16, 37, 1), (97, 64, 3)]
MULTISCALE_SHAPES = [(176, 176, 3), (177, 191, 3), (181, 240, 1), (208, 335, 3)]


def pair(shape, seed=0, noise=12.0):
    """A smooth picture with texture, and a noisy copy."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = [np.sin(x / (3 + 5 * i) + i) + np.cos(y / (4 + 3 * i)) for i in range(shape[2])]
    original = 128 + 45 * np.stack(waves, axis=2) + rng.normal(0, 6, shape)
    damaged = original * 0.95 + rng.normal(0, noise, shape)
    return tuple(np.clip(np.rint(v), 0, 255).astype(np.uint8) for v in (original, damaged))


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="TensorFlow (extra `train`) is the oracle here")


@pytest.mark.parametrize("shape", [*SSIM_SHAPES, *MULTISCALE_SHAPES])
@pytest.mark.parametrize("noise", [2.0, 40.0])
def test_as_tensorflow(tf, shape, noise):
    a, b = pair(shape, noise=noise)
    assert metrics.psnr(a, b) == pytest.approx(float(tf.image.psnr(a, b, 255)), abs=1e-4)
    # TensorFlow's float32 is the coarser one: up to 2.4e-5 from the definition on one 11x11 window.
    assert metrics.ssim(a, b) == pytest.approx(float(tf.image.ssim(a, b, 255)), abs=5e-5)
    if shape in MULTISCALE_SHAPES:
        assert metrics.ms_ssim(a, b) == pytest.approx(float(tf.image.ssim_multiscale(a, b, 255)), abs=1e-5)


def test_negative_terms_count_as_zero_as_in_tensorflow(tf):
    a, _ = pair((176, 180, 3))
    assert metrics.ssim(a, 255 - a) < 0
    assert metrics.ms_ssim(a, 255 - a) == 0
    assert float(tf.image.ssim_multiscale(a, 255 - a, 255)) == 0


def plain_ssim(a, b):
    """The definition, window by window, in float64: (mean SSIM, mean contrast-structure)."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    views = [np.lib.stride_tricks.sliding_window_view(v, (11, 11)) for v in (a, b)]
    mean_a, mean_b = [np.einsum("yxij,ij->yx", v, window) for v in views]
    a0, b0 = (v - m[..., None, None] for v, m in zip(views, (mean_a, mean_b), strict=True))
    var_a, var_b, cov = [np.einsum("yxij,ij->yx", v, window) for v in (a0 * a0, b0 * b0, a0 * b0)]
    structure = (2 * cov + 58.5225) / (var_a + var_b + 58.5225)
    luminance = (2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025)
    return (luminance * structure).mean(), structure.mean()


@pytest.mark.parametrize("flat", [False, True])
def test_ssim_as_its_definition(flat):
    a, b = pair((40, 53, 1))
    if flat:  # bright and almost without variance: where float32 loses digits
        a, b = (250 + v // 128 for v in (a, b))
    expected, _ = plain_ssim(a[..., 0].astype(float), b[..., 0].astype(float))
    assert metrics.ssim(a, b) == pytest.approx(expected, abs=2e-6)


def test_ms_ssim_as_its_definition():
    a, b = pair((177, 179, 1))
    x, y = (v[..., 0].astype(float) for v in (a, b))
    expected = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        similarity, structure = plain_ssim(x, y)
        expected *= (similarity if scale == 4 else structure) ** weight
        x, y = (np.pad(v, [(0, n % 2) for n in v.shape], mode="edge") for v in (x, y))
        x, y = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2).mean(axis=(1, 3)) for v in (x, y))
    assert metrics.ms_ssim(a, b) == pytest.approx(expected, abs=2e-6)


def test_strips_do_not_show(monkeypatch):
    a, b = pair((190, 201, 3))
    values = []
    for pixels in (1, 7000, 10**9):
        monkeypatch.setattr(metrics, "_STRIP_PIXELS", pixels)
        values.append([f(a, b) for f in (metrics.psnr, metrics.psnr_luma, metrics.ssim, metrics.ms_ssim)])
    np.testing.assert_allclose(values[0], values[2], rtol=1e-6)
    np.testing.assert_allclose(values[1], values[2], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_psnr_as_its_definition(height, width, channels, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 256, (height, width, channels), dtype=np.uint8) for _ in range(2))
    error = np.mean((a.astype(float) - b) ** 2)
    expected = math.inf if error == 0 else 10 * math.log10(255**2 / error)
    assert metrics.psnr(a, b) == pytest.approx(expected)
    assert metrics.psnr(a, b) == metrics.psnr(b, a)
    assert metrics.psnr(a, a) == math.inf


def test_psnr_of_known_errors():
    black, white = np.zeros((5, 4, 3), np.uint8), np.full((5, 4, 3), 255, np.uint8)
    assert metrics.psnr(black, white) == 0
    assert metrics.psnr(black, black + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)


def test_luma():
    a, b = pair((30, 41, 3))
    weights = np.array([0.299, 0.587, 0.114])
    error = np.mean((a @ weights - b @ weights) ** 2)
    assert metrics.psnr_luma(a, b) == pytest.approx(10 * math.log10(255**2 / error))
    gray = a[..., :1], b[..., :1]
    assert metrics.psnr_luma(*gray) == metrics.psnr(*gray)
    assert metrics.psnr_luma(a, a) == math.inf
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        metrics.psnr_luma(a[..., :2], b[..., :2])


@pytest.mark.parametrize("level", [0, 7, 255])
def test_equal_images_score_one(level):
    a, _ = pair((176, 183, 3), seed=level)
    for image in (a, np.full_like(a, level)):
        assert metrics.ssim(image, image) == 1
        assert metrics.ms_ssim(image, image) == 1


def test_two_dimensions_are_one_channel():
    a, b = pair((176, 178, 1))
    for metric in (metrics.psnr, metrics.psnr_luma, metrics.ssim, metrics.ms_ssim):
        assert metric(a[..., 0], b[..., 0]) == metric(a, b)


def test_channels_are_averaged():
    a, b = pair((176, 178, 3))
    for metric in (metrics.ssim, metrics.ms_ssim):
        each = [metric(a[..., i], b[..., i]) for i in range(3)]
        assert metric(a, b) == pytest.approx(np.mean(each))


def test_layout_does_not_matter():
    a, b = pair((176, 178, 3))
    turned = [v.transpose(1, 0, 2) for v in (a, b)]
    for metric in (metrics.psnr, metrics.ssim, metrics.ms_ssim):
        assert metric(*turned) == pytest.approx(metric(a, b), abs=1e-6)


@pytest.mark.parametrize("shape", [(175, 400, 3), (400, 175, 3), (1, 1, 3)])
def test_ms_ssim_of_small_images_is_not_defined(shape):
    image = np.zeros(shape, np.uint8)
    with pytest.raises(metrics.NotDefined, match=f"at least 176 .* {shape[1]}x{shape[0]}") as caught:
        metrics.ms_ssim(image, image)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CodecError)


def test_ssim_of_smaller_images_is_not_defined():
    image = np.zeros((10, 50, 3), np.uint8)
    with pytest.raises(metrics.NotDefined, match="at least 11"):
        metrics.ssim(image, image)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.psnr_luma, metrics.ssim, metrics.ms_ssim])
@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8), "differ in shape"),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), "must be uint8"),
        (np.zeros((4, 0, 3), np.uint8), np.zeros((4, 0, 3), np.uint8), "not an image"),
        (np.zeros(4, np.uint8), np.zeros(4, np.uint8), "not an image"),
    ],
)
def test_refuses_what_is_no_pair_of_images(metric, a, b, text):
    with pytest.raises(ValueError, match=text):
        metric(a, b)


def test_to_db():
    assert metrics.to_db(0.9) == pytest.approx(10)
    assert metrics.to_db(0.99) == pytest.approx(20)
    assert metrics.to_db(0) == 0
    assert metrics.to_db(1) == math.inf
    for wrong in (1.01, math.nan):
        with pytest.raises(ValueError, match="at most 1"):
            metrics.to_db(wrong)


def test_needs_numpy_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    a, b = pair((176, 176, 3))
    assert 0 < metrics.ms_ssim(a, b) < 1
