"""The catalogue of quality metrics, and their measurement on a pair of images.

:data:`METRICS` says what there is; :class:`Measure` gives all of it for an original and what a codec made of
it. Reports, tables and the JSON take keys, titles and digits from here, so that a metric is added in one
place (and as a field of ``runner.Point`` and ``runner.Mean``). Definitions at length: docs/EVALUATION.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codec_cli.evaluation import metrics
from codec_cli.evaluation.lpips import Lpips

__all__ = ["METRICS", "Measure", "Metric"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        key: Its name in JSON, CSV and as a field of ``runner.Point``.
        title: For people, without the unit.
        unit: ``dB``, or empty.
        digits: After the point, in tables.
        higher_better: False for distances.
        definition: One line.
    """

    key: str
    title: str
    unit: str
    digits: int
    higher_better: bool
    definition: str

    @property
    def heading(self) -> str:
        """Title and unit, as a column's heading."""
        return f"{self.title} {self.unit}".rstrip()


METRICS: tuple[Metric, ...] = (
    Metric(
        "psnr_rgb_db",
        "PSNR RGB",
        "dB",
        2,
        True,
        "10 log10(255² / MSE), the mean square error over all R'G'B' samples together",
    ),
    Metric("psnr_luma_db", "PSNR Y", "dB", 2, True, "the same over BT.601 luma, full range, not rounded"),
    Metric(
        "ssim",
        "SSIM",
        "",
        4,
        True,
        "structural similarity (Wang et al. 2004), Gaussian window 11x11, mean over R', G', B'; "
        "not for sides under 11 pixels",
    ),
    Metric(
        "ms_ssim",
        "MS-SSIM",
        "",
        4,
        True,
        "multi-scale SSIM (Wang et al. 2003), five scales, mean over R', G', B'; not under 176 pixels",
    ),
    Metric("ms_ssim_db", "MS-SSIM", "dB", 2, True, "-10 log10(1 - MS-SSIM)"),
    Metric(
        "lpips",
        "LPIPS",
        "",
        4,
        False,
        "distance in the features of AlexNet (Zhang et al. 2018), v0.1; not for sides under 31 pixels; "
        "only where its weights are given",
    ),
)
"""All metrics, in the order of columns."""


@dataclass
class Measure:
    """Measures all of :data:`METRICS`. Can be pickled.

    Attributes:
        lpips_weights: File with LPIPS's weights, loaded on first use; None leaves LPIPS out.
    """

    lpips_weights: Path | None = None
    _lpips: Lpips | None = field(default=None, init=False, repr=False)

    def prepare(self) -> None:
        """Loads the weights now rather than on first use.

        Raises:
            CodecError: Their file is missing, damaged or holds something else.
        """
        if self.lpips_weights is not None and self._lpips is None:
            self._lpips = Lpips.load(self.lpips_weights)

    def __call__(self, original: Pixels, decoded: Pixels) -> dict[str, float | None]:
        """Compares a decoded image with its original.

        Args:
            original: uint8, ``(height, width, channels)``, channels R'G'B' or one gray.
            decoded: As `original`, of the same shape.

        Returns:
            A value for every key of :data:`METRICS`; None where it is infinite (equal images), not defined
            for a size this small, or its weights are not given.

        Raises:
            ValueError: The arrays are not uint8, differ in shape, are empty or have 2 or over 3 channels.
            CodecError: As for :meth:`prepare`.
        """
        ssim, ms_ssim = metrics.ssim_and_ms_ssim(original, decoded)
        return {
            "psnr_rgb_db": _finite(metrics.psnr(original, decoded)),
            "psnr_luma_db": _finite(metrics.psnr_luma(original, decoded)),
            "ssim": ssim,
            "ms_ssim": ms_ssim,
            "ms_ssim_db": None if ms_ssim is None else _finite(metrics.to_db(ms_ssim)),
            "lpips": self._distance(original, decoded),
        }

    def _distance(self, original: Pixels, decoded: Pixels) -> float | None:
        self.prepare()
        try:
            return None if self._lpips is None else self._lpips(original, decoded)
        except metrics.NotDefined:
            return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
