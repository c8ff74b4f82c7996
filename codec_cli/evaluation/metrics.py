"""Full-reference quality metrics of 8-bit images: PSNR, SSIM and MS-SSIM.

All take two uint8 arrays of the same shape ``(height, width, channels)``; ``(height, width)`` is read as
one channel. Channels are taken as they come (R'G'B' for colour), without a colour transform, as published
figures of learned codecs do.

References:
    Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility
    to structural similarity", IEEE Transactions on Image Processing 13(4), 2004.

    Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multiscale structural similarity for image quality
    assessment", Asilomar Conference on Signals, Systems and Computers, 2003.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError

Pixels = npt.NDArray[np.uint8]
_Plane = npt.NDArray[np.float32]

_PEAK = 255.0
C1 = (0.01 * _PEAK) ** 2
C2 = (0.03 * _PEAK) ** 2
WINDOW = 11
_SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_MULTISCALE = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
_LUMA = (0.299, 0.587, 0.114)
# Variances do not depend on the mean, but E[x²] - E[x]² in float32 loses digits with its size: the
# planes are kept centred, which makes float32 (twice as fast as float64) accurate to about 1e-6.
CENTRE = 128.0
# Pixels filtered at a time: what stays in a core's cache, and bounds the memory for large images.
_STRIP_PIXELS = 50_000


def _gaussian() -> tuple[float, ...]:
    offsets = np.arange(WINDOW) - (WINDOW - 1) / 2
    taps = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    return tuple(float(tap) for tap in taps / taps.sum())


TAPS = _gaussian()


class NotDefined(CodecError, ValueError):  # noqa: N818 - a state of the input that callers expect
    """The metric is not defined for images this small."""


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio over all channels together.

    Args:
        a: uint8, ``(height, width, channels)``, values 0 to 255.
        b: As `a`, of the same shape.

    Returns:
        ``10 log10(255² / MSE)`` in dB, the mean square error taken over all samples of all channels
        (R'G'B' for colour); ``inf`` when the images are equal.

    Raises:
        ValueError: The arrays are not uint8, differ in shape or are empty.
    """
    a, b = _pair(a, b)
    return decibels(_mean_square(a, b, None))


def psnr_luma(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of the luma.

    Luma is ITU-R BT.601, full range: ``Y' = 0.299 R' + 0.587 G' + 0.114 B'``, not rounded. For one
    channel it is the channel itself, and the result that of :func:`psnr`.

    Args:
        a: uint8, ``(height, width, 3)`` in the order R'G'B', or ``(height, width, 1)``.
        b: As `a`, of the same shape.

    Returns:
        dB; ``inf`` when the lumas are equal.

    Raises:
        ValueError: As for :func:`psnr`, or the images have neither one nor three channels.
    """
    a, b = _pair(a, b)
    channels = a.shape[2]
    if channels not in (1, 3):
        raise ValueError(f"luma needs 1 or 3 channels, not {channels}")
    return decibels(_mean_square(a, b, np.array(_LUMA) if channels == 3 else None))


def ssim(a: Pixels, b: Pixels) -> float:
    """Structural similarity (Wang et al. 2004), the mean over the channels.

    Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, range 255, biased (co)variances, only
    windows that lie within the image: as the authors' code and ``tf.image.ssim`` have it.

    Args:
        a: uint8, ``(height, width, channels)``, both sides at least 11.
        b: As `a`, of the same shape.

    Returns:
        -1 to 1, linear; exactly 1 when the images are equal.

    Raises:
        NotDefined: A side is under 11 pixels.
        ValueError: The arrays are not uint8, differ in shape or are empty.
    """
    a, b = _pair(a, b)
    require_side(a.shape, WINDOW, "SSIM")
    return float(np.mean([similarity(_plane(a, i), _plane(b, i))[0] for i in range(a.shape[2])]))


def ms_ssim(a: Pixels, b: Pixels) -> float:
    """Multi-scale structural similarity (Wang et al. 2003), the mean over the channels.

    Five scales with the published weights (0.0448, 0.2856, 0.3001, 0.2363, 0.1333). Between scales, 2x2
    means; an odd side is first extended by repeating its last row or column. Contrast-structure terms
    under 0 count as 0. This is what ``tf.image.ssim_multiscale`` computes, to float32 rounding.

    Args:
        a: uint8, ``(height, width, channels)``, both sides at least 176.
        b: As `a`, of the same shape.

    Returns:
        0 to 1, linear (:func:`to_db` spreads the upper end); exactly 1 when the images are equal.

    Raises:
        NotDefined: A side is under 176 pixels: the 11x11 window does not fit into the coarsest scale.
        ValueError: The arrays are not uint8, differ in shape or are empty.
    """
    a, b = _pair(a, b)
    require_side(a.shape, SMALLEST_MULTISCALE, "MS-SSIM")
    return float(np.mean([_multiscale(_plane(a, i), _plane(b, i))[1] for i in range(a.shape[2])]))


def ssim_and_ms_ssim(a: Pixels, b: Pixels) -> tuple[float | None, float | None]:
    """Both :func:`ssim` and :func:`ms_ssim` for the time of the latter, whose finest scale is the former.

    Args:
        a: uint8, ``(height, width, channels)``.
        b: As `a`, of the same shape.

    Returns:
        SSIM and MS-SSIM, exactly as from the two functions; None where the image is too small.

    Raises:
        ValueError: The arrays are not uint8, differ in shape or are empty.
    """
    a, b = _pair(a, b)
    side = min(a.shape[:2])
    if side < WINDOW:
        return None, None
    if side < SMALLEST_MULTISCALE:
        return ssim(a, b), None
    both = [_multiscale(_plane(a, i), _plane(b, i)) for i in range(a.shape[2])]
    return float(np.mean([fine for fine, _ in both])), float(np.mean([multi for _, multi in both]))


def to_db(ms_ssim: float) -> float:
    """MS-SSIM on the logarithmic scale of published figures: ``-10 log10(1 - x)``.

    Args:
        ms_ssim: Linear MS-SSIM (or SSIM), at most 1.

    Returns:
        dB; ``inf`` for 1.

    Raises:
        ValueError: The value is above 1 or not a number.
    """
    if not ms_ssim <= 1:
        raise ValueError(f"a structural similarity is at most 1, not {ms_ssim}")
    return math.inf if ms_ssim == 1 else -10 * math.log10(1 - ms_ssim)


def _pair(a: Pixels, b: Pixels) -> tuple[Pixels, Pixels]:
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"images must be uint8, not {a.dtype} and {b.dtype}")
    if a.shape != b.shape:
        raise ValueError(f"images differ in shape: {a.shape} and {b.shape}")
    if a.ndim not in (2, 3) or a.size == 0:
        raise ValueError(f"not an image of (height, width, channels): {a.shape}")
    return (a, b) if a.ndim == 3 else (a[:, :, None], b[:, :, None])


def require_side(shape: tuple[int, ...], side: int, metric: str) -> None:
    """Raises :class:`NotDefined` for images ``(height, width, ...)`` with a side under ``side`` pixels."""
    height, width = shape[:2]
    if min(height, width) < side:
        raise NotDefined(
            f"{metric} needs at least {side} pixels on each side, this image is {width}x{height}"
        )


def _mean_square(a: Pixels, b: Pixels, weights: npt.NDArray[np.float64] | None) -> float:
    """Mean square of the difference, or of its weighted sum over the channels (luma is linear)."""
    height, width, channels = a.shape
    rows = max(1, _STRIP_PIXELS // width)
    total = 0.0
    for top in range(0, height, rows):
        difference = a[top : top + rows].astype(np.float64) - b[top : top + rows]
        if weights is not None:
            difference = difference @ weights
        total += float(np.square(difference).sum())
    return total / (a.size if weights is None else a.size // channels)


def decibels(mean_square: float) -> float:
    """PSNR of a mean square error; ``inf`` for 0."""
    return math.inf if mean_square == 0 else 10 * math.log10(_PEAK**2 / mean_square)


def _plane(image: Pixels, channel: int) -> _Plane:
    plane = image[:, :, channel].astype(np.float32)
    plane -= CENTRE
    return plane


def _multiscale(x: _Plane, y: _Plane) -> tuple[float, float]:
    """SSIM (the finest scale's) and MS-SSIM of two centred planes."""
    product, finest = 1.0, math.nan
    last = len(SCALE_WEIGHTS) - 1
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            x, y = halve(x), halve(y)
        full, contrast_structure = similarity(x, y)
        if scale == 0:
            finest = full
        # Luminance counts on the coarsest scale only.
        product *= max(0.0, full if scale == last else contrast_structure) ** weight
    return finest, product


def halve(x: _Plane) -> _Plane:
    """Means of 2x2, of a plane ``(height, width)``; an odd last row or column is repeated first."""
    height, width = x.shape
    x = np.pad(x, ((0, height % 2), (0, width % 2)), mode="edge")
    rows = x[::2] + x[1::2]
    halved: _Plane = rows[:, ::2] + rows[:, 1::2]
    halved *= 0.25
    return halved


def similarity(x: _Plane, y: _Plane) -> tuple[float, float]:
    """Mean SSIM and mean contrast-structure term of two centred planes."""
    height, width = x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1
    rows = max(WINDOW, _STRIP_PIXELS // x.shape[1])
    full = contrast_structure = 0.0
    for top in range(0, height, rows):
        p = x[top : top + rows + WINDOW - 1]
        q = y[top : top + rows + WINDOW - 1]
        mean_p, mean_q, squares, product = _blur(np.stack((p, q, p * p + q * q, p * q)))
        structure = (2 * (product - mean_p * mean_q) + C2) / (
            squares - (mean_p * mean_p + mean_q * mean_q) + C2
        )
        contrast_structure += float(structure.sum(dtype=np.float64))
        mean_p += CENTRE
        mean_q += CENTRE
        structure *= (2 * mean_p * mean_q + C1) / (mean_p * mean_p + mean_q * mean_q + C1)
        full += float(structure.sum(dtype=np.float64))
    return full / (height * width), contrast_structure / (height * width)


def _blur(planes: _Plane) -> _Plane:
    """Gaussian means of `planes` ``(n, height, width)``, ten pixels smaller each way (valid region)."""
    return _blur_rows(_blur_rows(planes).swapaxes(1, 2)).swapaxes(1, 2)


def _blur_rows(planes: _Plane) -> _Plane:
    size = planes.shape[2] - WINDOW + 1
    middle = WINDOW // 2
    total = planes[..., middle : middle + size] * TAPS[middle]
    term = np.empty_like(total)
    for i in range(middle):  # the window is symmetric: both taps at once
        np.add(planes[..., i : i + size], planes[..., WINDOW - 1 - i : WINDOW - 1 - i + size], out=term)
        term *= TAPS[i]
        total += term
    return total
