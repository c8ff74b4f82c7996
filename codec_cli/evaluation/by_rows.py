"""MS-SSIM of images that come by rows, for those too large to hold in memory."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from codec_cli.evaluation.metrics import (
    CENTRE,
    SCALE_WEIGHTS,
    SMALLEST_MULTISCALE,
    WINDOW,
    Pixels,
    halve,
    require_side,
    similarity,
)

__all__ = ["MultiScale"]

_Planes = npt.NDArray[np.float32]  # (2, rows, width): the same rows of both images


class MultiScale:
    """Adds up :func:`codec_cli.evaluation.metrics.ms_ssim` as rows come; equal to it up to rounding.

    Args:
        shape: (height, width, channels) of both images.

    Raises:
        NotDefined: A side is under 176 pixels.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        require_side(shape, SMALLEST_MULTISCALE, "MS-SSIM")
        self._channels = [[_Scale() for _ in SCALE_WEIGHTS] for _ in range(shape[2])]

    def add(self, a: Pixels, b: Pixels) -> None:
        """Takes the next rows of both images, uint8 (rows, width, channels)."""
        for channel, scales in enumerate(self._channels):
            planes = np.stack([a[:, :, channel], b[:, :, channel]]).astype(np.float32) - np.float32(CENTRE)
            _add(scales, planes)

    def finish(self) -> float:
        """The mean over the channels, 0 to 1, after the last rows."""
        products = []
        for scales in self._channels:
            for index, scale in enumerate(scales[:-1]):
                # An odd last row stands for two.
                if scale.odd is not None:
                    _add(scales[index + 1 :], scale.halved(scale.odd))
            terms = [scale.contrast_structure / scale.windows for scale in scales[:-1]]
            terms.append(scales[-1].full / scales[-1].windows)
            products.append(math.prod(max(0.0, t) ** w for t, w in zip(terms, SCALE_WEIGHTS, strict=True)))
        return float(np.mean(products))


class _Scale:
    """Sums over the windows of one scale of one channel, and the rows that later ones still need."""

    def __init__(self) -> None:
        self.full = self.contrast_structure = 0.0
        self.windows = 0
        self.odd: _Planes | None = None
        self._last: _Planes | None = None

    def add(self, planes: _Planes) -> _Planes:
        """Counts all windows that end in these rows, and returns the rows of the next scale."""
        seen = planes if self._last is None else np.concatenate([self._last, planes], 1)
        self._last = seen[:, max(0, seen.shape[1] - WINDOW + 1) :].copy()
        if seen.shape[1] >= WINDOW:
            full, contrast_structure = similarity(seen[0], seen[1])
            windows = (seen.shape[1] - WINDOW + 1) * (seen.shape[2] - WINDOW + 1)
            self.full += full * windows
            self.contrast_structure += contrast_structure * windows
            self.windows += windows
        paired = planes if self.odd is None else np.concatenate([self.odd, planes], 1)
        even = paired.shape[1] // 2 * 2
        self.odd = paired[:, even:].copy() if even < paired.shape[1] else None
        return self.halved(paired[:, :even])

    @staticmethod
    def halved(planes: _Planes) -> _Planes:
        """Rows of the next scale."""
        return np.stack([halve(planes[0]), halve(planes[1])])


def _add(scales: list[_Scale], planes: _Planes) -> None:
    for scale in scales:
        if not planes.shape[1]:
            return
        planes = scale.add(planes)
