"""Bjøntegaard deltas against published figures and their own algebra."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_cli.errors import CodecError
from codec_cli.evaluation import bdrate
from codec_cli.evaluation.bdrate import NoOverlap, bd_psnr, bd_rate, frontier

ANCHORS = Path(__file__).parents[2] / "shared" / "anchors" / "kodak_rd.json"

# Kodak means of 24 images, bits per pixel and PSNR R'G'B' in dB, from InterDigitalInc/CompressAI@869a9f5
# results/image/kodak: bpg_444_x265_ycbcr.json, compressai-bmshj2018-factorized_mse_cpu.json and webp.json
# (of its 19 points every third).
BPG = (
    [0.06777, 0.16102, 0.35155, 0.6847, 1.19967, 1.92971, 3.05788, 4.70314],
    [26.19513, 28.68155, 31.59466, 34.85747, 38.25989, 41.47887, 44.70311, 47.63252],
)
FACTORIZED = (
    [0.12262, 0.18853, 0.28781, 0.44038, 0.64813, 0.96698, 1.35116, 1.83327],
    [26.90879, 28.21793, 29.61691, 31.2771, 32.95613, 35.38095, 37.39694, 39.62131],
)
WEBP = (
    [0.23442, 0.40705, 0.56741, 0.72182, 0.87403, 1.21631, 2.92848],
    [28.32842, 30.40698, 31.93596, 33.23755, 34.32818, 36.36905, 41.75925],
)


@pytest.fixture(autouse=True, scope="module")
def _scipy():
    pytest.importorskip("scipy", reason="scipy (extra `eval`) interpolates the curves")


def test_published_curves():
    assert bd_rate(*BPG, *FACTORIZED) == pytest.approx(32.5, abs=1)
    assert bd_rate(*BPG, *WEBP) == pytest.approx(44.2, abs=1)


def test_same_as_the_bjontegaard_package():
    # bjontegaard 1.3.0: bd_rate and bd_psnr with method="pchip", require_matching_points=False.
    assert bd_rate(*BPG, *FACTORIZED) == pytest.approx(32.54918872534287, abs=1e-9)
    assert bd_psnr(*BPG, *FACTORIZED) == pytest.approx(-1.3297595674286034, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "percent"), [("webp", 44.2), ("bmshj2018-factorized_mse_cpu", 32.5), ("bpg_444_x265_ycbcr", 0)]
)
def test_published_figures(name, percent):
    if not ANCHORS.exists():
        pytest.skip(f"the published figures are not here ({ANCHORS})")
    series = json.loads(ANCHORS.read_text())["series"]
    anchor, test = series["bpg_444_x265_ycbcr"], series[name]
    value = bd_rate(anchor["bpp"], anchor["psnr_rgb_db"], test["bpp"], test["psnr_rgb_db"])
    assert value == pytest.approx(percent, abs=1)


@pytest.mark.parametrize("delta", [bd_rate, bd_psnr])
def test_curves_apart_may_differ_in_length(delta):
    with pytest.raises(NoOverlap, match="share no range"):
        delta([1, 2, 3], [30, 31, 32], [10, 20], [50, 51])


def test_order_does_not_matter():
    expected = bd_rate(*BPG, *FACTORIZED)
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    assert bd_rate(*BPG, *(np.array(v)[order] for v in FACTORIZED)) == pytest.approx(expected)


@st.composite
def curves(draw):
    """Rates and qualities that rise together, all crossing the same middle."""
    count = draw(st.integers(2, 8))
    steps = st.lists(st.floats(0.05, 1), min_size=count - 1, max_size=count - 1)
    levels = 30 + 10 * np.cumsum([0, *draw(steps)]) - draw(st.floats(0, 0.4))
    rates = 0.1 * np.exp(np.cumsum([0, *draw(steps)]))
    return rates, levels


@settings(max_examples=40, deadline=None)
@given(curves(), st.floats(0.2, 5))
def test_a_scaled_rate_is_its_own_percentage(curve, factor):
    rates, levels = curve
    assert bd_rate(rates, levels, factor * rates, levels) == pytest.approx((factor - 1) * 100, abs=1e-6)
    assert bd_rate(rates, levels, rates, levels) == 0


@settings(max_examples=40, deadline=None)
@given(curves(), st.floats(-3, 3))
def test_a_shifted_quality_is_its_own_delta(curve, shift):
    rates, levels = curve
    assert bd_psnr(rates, levels, rates, levels + shift) == pytest.approx(shift, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(curves(), curves())
def test_there_and_back(one, other):
    if max(one[1][0], other[1][0]) < min(one[1][-1], other[1][-1]):
        there, back = bd_rate(*one, *other), bd_rate(*other, *one)
        assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)
    if min(one[0][-1], other[0][-1]) > max(one[0][0], other[0][0]):
        assert bd_psnr(*one, *other) == pytest.approx(-bd_psnr(*other, *one))


def test_straight_curves_by_hand():
    # Log-rates are parallel lines over quality: at 32 dB the anchor needs 2**0.5, the test 2.
    anchor, test = ([1, 2], [30, 34]), ([2, 4], [32, 36])
    assert bd_rate(*anchor, *test) == pytest.approx((2**0.5 - 1) * 100)
    with pytest.raises(NoOverlap, match=r"no range of rate: anchor 1 to 2, test 2 to 4"):
        bd_psnr(*anchor, *test)


def test_dominated_points_are_dropped():
    rates, levels = [0.1, 0.2, 0.3, 0.4, 0.4, 0.8], [30, 32, 31, 34, 33, 36]
    kept = frontier(rates, levels)
    assert [v.tolist() for v in kept] == [[0.1, 0.2, 0.4, 0.8], [30, 32, 34, 36]]
    assert bd_rate(*BPG, rates, levels) == bd_rate(*BPG, *kept)


def test_lossless_points_are_dropped():
    rates, levels = frontier([0.1, 5, 0.2], [30, math.inf, 31])
    assert [rates.tolist(), levels.tolist()] == [[0.1, 0.2], [30, 31]]


def test_frontier_of_nothing():
    assert [v.size for v in frontier([], [])] == [0, 0]


def test_no_overlap():
    with pytest.raises(NoOverlap, match=r"no range of quality: anchor 30 to 34, test 35 to 36") as caught:
        bd_rate([1, 2], [30, 34], [1, 2], [35, 36])
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CodecError)
    with pytest.raises(NoOverlap):  # they only touch
        bd_rate([1, 2], [30, 34], [1, 2], [34, 36])


@pytest.mark.parametrize(
    ("bpp", "quality", "text"),
    [
        ([], [], "test curve has 0 usable of 0"),
        ([1], [30], "test curve has 1 usable of 1"),
        ([1, 2], [32, 31], "test curve has 1 usable of 2"),
        ([1, 2], [32, math.inf], "test curve has 1 usable of 2"),
    ],
)
def test_too_few_points(bpp, quality, text):
    for delta in (bd_rate, bd_psnr):
        with pytest.raises(NoOverlap, match=text):
            delta(*BPG, bpp, quality)
    with pytest.raises(NoOverlap, match=text.replace("test", "anchor")):
        bd_rate(bpp, quality, *BPG)


@pytest.mark.parametrize(
    ("bpp", "quality", "text"),
    [
        ([1, 2, 3], [30, 31], "one length"),
        ([[1, 2]], [[30, 31]], "one length"),
        ([0, 1], [30, 31], "above 0"),
        ([1, math.nan], [30, 31], "above 0"),
        ([1, math.inf], [30, 31], "above 0"),
        ([1, 2], [30, math.nan], "must be numbers"),
        ([1, 2], [-math.inf, 30], "must be numbers"),
    ],
)
def test_refuses_what_is_no_curve(bpp, quality, text):
    with pytest.raises(ValueError, match=text):
        bd_rate(*BPG, bpp, quality)


def test_says_how_to_get_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
    with pytest.raises(CodecError, match=r"pip install .codec-cli\[eval\]"):
        bdrate.bd_rate(*BPG, *FACTORIZED)
