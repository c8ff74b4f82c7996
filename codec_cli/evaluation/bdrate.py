"""Bjøntegaard deltas: the mean distance between two rate-distortion curves.

Curves are interpolated by piecewise cubic Hermite polynomials (PCHIP), which can't overshoot, as the
JCT-VC and JVET common test conditions do since JCTVC-L1100; results equal those of the PyPI package
``bjontegaard`` with ``method="pchip"`` (not used itself, because it brings matplotlib).

References:
    G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001.

    F. N. Fritsch, R. E. Carlson, "Monotone piecewise cubic interpolation", SIAM Journal on Numerical
    Analysis 17(2), 1980.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError

Values = Sequence[float] | npt.NDArray[np.float64]
_Array = npt.NDArray[np.float64]


class NoOverlap(CodecError, ValueError):  # noqa: N818 - a state of the input that callers expect
    """The curves have too few points or no common range: there is nothing to compare."""


def bd_rate(anchor_bpp: Values, anchor_quality: Values, test_bpp: Values, test_quality: Values) -> float:
    """Mean difference in rate at equal quality (BD-rate).

    The logarithm of the rate is interpolated over quality and averaged over the range of quality that
    both curves cover. Points are taken through :func:`frontier` first. Two points a curve are enough to
    compute, four or more are recommended.

    Args:
        anchor_bpp: Rates of the reference codec, any unit proportional to bits, above 0, any order.
        anchor_quality: Its quality, larger is better, on a scale where differences mean the same
            everywhere: PSNR in dB, or MS-SSIM in dB (``metrics.to_db``).
        test_bpp: Rates of the codec under test, in the anchor's unit.
        test_quality: Its quality, on the anchor's scale.

    Returns:
        Percent: -20 says that the codec under test needs 20 % fewer bits than the anchor.

    Raises:
        NoOverlap: A curve has fewer than two points left, or the curves share no range of quality.
        ValueError: Lengths differ, a rate is not above 0, or a value is not a number.
        CodecError: scipy is not installed.
    """
    anchor_rate, anchor_level = _curve(anchor_bpp, anchor_quality, "anchor")
    test_rate, test_level = _curve(test_bpp, test_quality, "test")
    gap = _mean_gap(anchor_level, np.log(anchor_rate), test_level, np.log(test_rate), "quality")
    return math.expm1(gap) * 100


def bd_psnr(anchor_bpp: Values, anchor_quality: Values, test_bpp: Values, test_quality: Values) -> float:
    """Mean difference in quality at equal rate (BD-PSNR for PSNR).

    The counterpart of :func:`bd_rate`: quality is interpolated over the logarithm of the rate and
    averaged over the range of log-rate that both curves cover.

    Args:
        anchor_bpp: As for :func:`bd_rate`.
        anchor_quality: As for :func:`bd_rate`.
        test_bpp: As for :func:`bd_rate`.
        test_quality: As for :func:`bd_rate`.

    Returns:
        In the unit of quality (dB): positive when the codec under test is better.

    Raises:
        NoOverlap: A curve has fewer than two points left, or the curves share no range of rates.
        ValueError: Lengths differ, a rate is not above 0, or a value is not a number.
        CodecError: scipy is not installed.
    """
    anchor_rate, anchor_level = _curve(anchor_bpp, anchor_quality, "anchor")
    test_rate, test_level = _curve(test_bpp, test_quality, "test")
    return _mean_gap(np.log(anchor_rate), anchor_level, np.log(test_rate), test_level, "rate")


def frontier(bpp: Values, quality: Values) -> tuple[_Array, _Array]:
    """The points of a sweep that make up its rate-distortion curve.

    Sorted by rate; a point that is no better than a cheaper one is dropped (nobody would choose it, and
    interpolation needs rate and quality to rise together), and so is one of infinite quality (lossless:
    it lies beyond any range that could be compared).

    Args:
        bpp: Rates, above 0.
        quality: Quality of each, larger is better.

    Returns:
        Rates and qualities, float64 of one length, both strictly rising. Compare the length with the
        input's to learn how many were dropped.

    Raises:
        ValueError: Lengths differ, a rate is not finite and above 0, or a quality is NaN or -inf.
    """
    rates, levels = np.asarray(bpp, np.float64), np.asarray(quality, np.float64)
    if rates.ndim != 1 or rates.shape != levels.shape:
        raise ValueError(
            f"rates and qualities must be two lists of one length: {rates.shape}, {levels.shape}"
        )
    if not np.all(np.isfinite(rates) & (rates > 0)):
        raise ValueError(f"rates must be finite and above 0: {rates.tolist()}")
    if np.any(np.isnan(levels) | np.isneginf(levels)):
        raise ValueError(f"qualities must be numbers: {levels.tolist()}")
    finite = np.isfinite(levels)
    rates, levels = rates[finite], levels[finite]
    order = np.lexsort((-levels, rates))  # at equal rates the best comes first and drops the others
    rates, levels = rates[order], levels[order]
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(levels)[:-1])) if levels.size else levels
    better = levels > best_before
    return rates[better], levels[better]


def _curve(bpp: Values, quality: Values, name: str) -> tuple[_Array, _Array]:
    rates, levels = frontier(bpp, quality)
    if rates.size < 2:
        raise NoOverlap(
            f"the {name} curve has {rates.size} usable of {len(bpp)} points: 2 are needed, 4 recommended "
            "(points no better than a cheaper one do not count)"
        )
    return rates, levels


def _mean_gap(x1: _Array, y1: _Array, x2: _Array, y2: _Array, axis: str) -> float:
    """Mean of ``y2 - y1`` over the common range of x."""
    low, high = max(x1[0], x2[0]), min(x1[-1], x2[-1])
    if not low < high:
        ranges = [x if axis == "quality" else np.exp(x) for x in (x1, x2)]
        spans = [f"{x[0]:.4g} to {x[-1]:.4g}" for x in ranges]
        raise NoOverlap(f"the curves share no range of {axis}: anchor {spans[0]}, test {spans[1]}")
    interpolator = _interpolator()
    area = interpolator(x2, y2).integrate(low, high) - interpolator(x1, y1).integrate(low, high)
    return float(area / (high - low))


def _interpolator() -> Any:  # noqa: ANN401 - scipy ships no types
    try:
        from scipy.interpolate import PchipInterpolator
    except ImportError as error:
        raise CodecError("Bjøntegaard deltas need scipy: pip install 'codec-cli[eval]'") from error
    return PchipInterpolator
