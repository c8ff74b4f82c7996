"""Figures of an evaluation: points, their means over the images, Bjøntegaard deltas, and all as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from codec_cli.errors import CodecError
from codec_cli.evaluation import bdrate

__all__ = [
    "BD_METRICS",
    "SCHEMA",
    "BdRate",
    "Mean",
    "Point",
    "bd_rates",
    "curve",
    "means",
    "report",
    "rounded",
]

SCHEMA = 1
"""Version of :func:`report`'s layout."""

BD_METRICS = ("psnr_rgb_db", "ms_ssim_db")
"""What Bjøntegaard deltas are computed over."""


@dataclass(frozen=True)
class Point:
    """One image at one setting; quality is that of :class:`codec_cli.evaluation.quality.Measure`.

    A figure of quality is None where it is infinite, not defined (MS-SSIM below 176 pixels) or not measured
    (LPIPS without weights).

    Attributes:
        image: Path of the image.
        codec: Name of the subject.
        setting: Quality, or the other codec's setting.
        bytes: Size of the complete file.
        bpp: Bits per pixel.
        psnr_rgb_db: Over R'G'B' samples (over gray ones for gray images).
        psnr_luma_db: Over BT.601 luma.
        ssim: -1 to 1.
        ms_ssim: 0 to 1.
        ms_ssim_db: The same, ``-10 log10(1 - x)``.
        lpips: A distance, 0 for equal images.
        encode_s: Seconds from pixels to bytes, model loaded.
        decode_s: Seconds from bytes to pixels, model loaded.
        width: In pixels.
        height: In pixels.
    """

    image: str
    codec: str
    setting: int
    bytes: int
    bpp: float
    psnr_rgb_db: float | None
    psnr_luma_db: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    lpips: float | None
    encode_s: float
    decode_s: float
    width: int
    height: int


@dataclass(frozen=True)
class Mean:
    """Arithmetic means over the images, of the figures as they are in :class:`Point` (dB, not MSE).

    A mean is None where it is so for one of the images: means over different images don't compare.
    """

    codec: str
    setting: int
    images: int
    bytes: float
    bpp: float
    psnr_rgb_db: float | None
    psnr_luma_db: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    lpips: float | None
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class BdRate:
    """A Bjøntegaard delta: bits that ``test`` needs more than ``anchor`` at equal quality.

    Attributes:
        test: Name of a subject.
        anchor: Name of the subject that it is compared with.
        metric: One of :data:`BD_METRICS`.
        percent: BD-rate: -20 is 20 % fewer bits; None where there is nothing to compare.
        delta_db: BD-PSNR and its like: by how many dB ``test`` is better at equal rate; None likewise.
        reason: Why ``percent`` is None.
    """

    test: str
    anchor: str
    metric: str
    percent: float | None
    delta_db: float | None = None
    reason: str | None = None


def means(points: Iterable[Point]) -> list[Mean]:
    """Means over the images, for every codec and setting, in the order of their first points."""
    groups: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        groups.setdefault((point.codec, point.setting), []).append(point)
    averaged = [field.name for field in fields(Mean) if field.name not in ("codec", "setting", "images")]
    return [
        Mean(codec, setting, len(group), **{name: _mean(group, name) for name in averaged})  # type: ignore[arg-type]
        for (codec, setting), group in groups.items()
    ]


def bd_rates(means: Sequence[Mean], tests: Sequence[str], anchors: Sequence[str]) -> list[BdRate]:
    """Bjøntegaard deltas between mean curves, over each of :data:`BD_METRICS`.

    Args:
        means: Of all codecs.
        tests: Names of the codecs under test.
        anchors: Names of the codecs that each of them is compared with (never with itself).
    """
    pairs = [(test, anchor) for test in tests for anchor in anchors if test != anchor]
    return [_bd_rate(means, test, anchor, metric) for test, anchor in pairs for metric in BD_METRICS]


def report(
    points: Sequence[Point],
    rates: Sequence[BdRate],
    skipped: Mapping[str, str],
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything as plain values for JSON, as docs/EVALUATION.md describes it.

    The layout (``schema`` 1): ``about`` says what was measured with, ``results`` has the fields of
    :class:`Point`, ``means`` those of :class:`Mean`, ``bd_rate`` those of :class:`BdRate`, ``skipped`` has
    ``image`` and ``error``.

    Args:
        points: Of all images and codecs.
        rates: From :func:`bd_rates`.
        skipped: Why an image was skipped, by its path.
        about: Versions of everything that took part.
    """
    return {
        "schema": SCHEMA,
        "about": dict(about or {}),
        "results": [rounded(asdict(point)) for point in points],
        "means": [rounded(asdict(mean)) for mean in means(points)],
        "bd_rate": [rounded(asdict(rate)) for rate in rates],
        "skipped": [{"image": image, "error": error} for image, error in skipped.items()],
    }


def rounded(facts: dict[str, Any]) -> dict[str, Any]:
    """The same with six digits after the point, which is more than any of the figures means."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in facts.items()}


def curve(means: Iterable[Mean], codec: str, metric: str) -> tuple[list[float], list[float]]:
    """Rates and qualities of a codec's means, where the quality is defined.

    Args:
        means: Of all codecs.
        codec: Its name.
        metric: A field of :class:`Mean`.

    Returns:
        Bits per pixel, and values of the metric.
    """
    known = [
        (mean.bpp, value)
        for mean in means
        if mean.codec == codec and (value := getattr(mean, metric)) is not None
    ]
    return [bpp for bpp, _ in known], [value for _, value in known]


def _bd_rate(means: Sequence[Mean], test: str, anchor: str, metric: str) -> BdRate:
    curves = (*curve(means, anchor, metric), *curve(means, test, metric))
    try:
        percent = bdrate.bd_rate(*curves)
    except CodecError as error:
        return BdRate(test, anchor, metric, None, None, str(error))
    try:
        return BdRate(test, anchor, metric, percent, bdrate.bd_psnr(*curves))
    except bdrate.NoOverlap:  # Qualities overlap, rates do not.
        return BdRate(test, anchor, metric, percent)


def _mean(points: Sequence[Point], name: str) -> float | None:
    values = [getattr(point, name) for point in points]
    return None if None in values else math.fsum(values) / len(values)
