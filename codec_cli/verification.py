"""``codec compress --verify``: is the file what it should be, and would another format have served better?

A learned codec keeps what looks like its training images, and can fail on the rest: saturated text, line
art, dithering. PSNR alone does not tell: between photographs it differs by 15 dB at one level. What does tell
is that an ordinary format does better with about the same bytes, or that PSNR is below the card's by more
than it is for any photograph. ``docs/ROBUSTNESS.md`` has the measurements behind the thresholds,
``scripts/unusual.py`` repeats them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from codec_cli.errors import CodecError, FormatError, ImageError
from codec_cli.evaluation.metrics import psnr
from codec_cli.pictures.rows import RowPicture
from codec_cli.streaming import RowFile, psnr_by_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from codec_cli.bitstream.container import Metadata
    from codec_cli.codec import Codec
    from codec_cli.pictures.images import Picture

__all__ = [
    "ALPHA_DIFFERS",
    "FAR",
    "JPEG_LEAD",
    "PNG_FACTOR",
    "WORSE",
    "Rivals",
    "advice",
    "advice_untried",
    "needs_rivals",
    "rivals",
    "same_alpha",
    "shape_text",
    "verify",
    "warning",
]

WORSE = 3.0
"""Up to this many dB under the card's mean is what the card promises: 3 dB is twice the squared error."""
PNG_FACTOR = 2.0
"""A PNG of up to this many times the bytes is the better choice; of photographs it has 3.8 times or more."""
JPEG_LEAD = 2.0
"""A JPEG of no more bytes is the better choice if it is better by more than this, in dB."""
FAR = 15.0
"""So many dB under the card's mean are unusual in any case: photographs are within 11, thumbnails in 15."""

ALPHA_DIFFERS = "the alpha plane differs"
"""What is wrong where alpha is not what it was: it is kept exactly, always."""

_JPEG_QUALITIES = range(1, 96)
_SHIFT = 4


@dataclass(frozen=True)
class Rivals:
    """What ordinary formats make of the same pixels.

    Attributes:
        png_bytes: Size of a PNG.
        jpeg_db: PSNR of the best JPEG that is no larger than our file; None if none is that small.
    """

    png_bytes: int
    jpeg_db: float | None


def verify(codec: Codec, picture: Picture | RowPicture, data: bytes, max_pixels: int) -> float:
    """Decodes a file just made and compares it with its source.

    Args:
        codec: Made the file.
        picture: The source; if it is read by rows, neither image is held in memory.
        data: The whole file.
        max_pixels: As for decoding.

    Returns:
        PSNR over R'G'B', or over gray; ``inf`` where all pixels are equal. Alpha has no part in it.

    Raises:
        FormatError: It does not decode, or to something of another size, mode, alpha plane or metadata.
    """
    try:
        if isinstance(picture, RowPicture):
            return _verify_rows(codec, picture, data, max_pixels)
        decoded = codec.decode_picture(data, max_pixels=max_pixels)
    except (MemoryError, ImageError, _RefusedError):
        raise
    except Exception as error:  # Whatever it is, the user's picture is not in this file.
        reason = str(error) if isinstance(error, CodecError) else f"{type(error).__name__}: {error}"
        raise _failed(f"it does not decode ({reason})") from error
    _check(picture, decoded, picture.pixels.shape, decoded.pixels.shape)
    if not same_alpha(picture.alpha, decoded.alpha):
        raise _failed(ALPHA_DIFFERS)
    return psnr(picture.pixels, decoded.pixels)


def _verify_rows(codec: Codec, picture: RowPicture, data: bytes, max_pixels: int) -> float:
    """As :func:`verify`, without either image in memory."""
    codec.forget_transforms()
    parsed = codec.open(data, max_pixels)
    made = RowFile(codec, parsed, picture.name)
    _check(picture, parsed.metadata, picture.shape, made.shape)
    if parsed.header.alpha != picture.alpha or (picture.alpha and not made.same_alpha(picture)):
        raise _failed(ALPHA_DIFFERS)
    return psnr_by_rows(codec, picture, parsed)


def _check(
    source: Picture | RowPicture, made: Picture | Metadata, wanted: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    """Raises :class:`FormatError` unless shape and metadata are those of the source."""
    if shape != wanted:
        raise _failed(f"it decodes to {shape_text(shape)}, not {shape_text(wanted)}")
    for name in ("icc", "exif"):
        if (getattr(source, name) or None) != (getattr(made, name) or None):
            raise _failed(f"{name.upper()} differs")


def advice(pixels: npt.NDArray[np.uint8], size: int, achieved: float, promised: float | None) -> str | None:
    """A warning to print about a picture that came out badly, or None.

    Args:
        pixels: The source, uint8 (height, width, 1 or 3).
        size: Bytes of our file without alpha plane and metadata, which the others would have to keep too.
        achieved: PSNR of our file.
        promised: Mean PSNR of the level by the model's card; None if it has none.
    """
    if not needs_rivals(achieved, promised):
        return None
    return warning(achieved, promised, size, rivals(pixels, size))


def advice_untried(achieved: float, promised: float | None) -> str | None:
    """As :func:`advice`, for a picture that is too large to be tried in other formats."""
    if promised is None or not needs_rivals(achieved, promised):
        return None
    return (
        f"{achieved:.1f} dB, the model's card promises about {promised:.0f} dB at this quality: perhaps "
        "unusual content; too large to try other formats"
    )


def needs_rivals(achieved: float, promised: float | None) -> bool:
    """Whether a picture is bad enough to try other formats: what is as good as promised needs no warning."""
    return promised is None or achieved < promised - WORSE


def warning(achieved: float, promised: float | None, size: int, others: Rivals) -> str | None:
    """The rule; see :func:`advice`. Without a promise only the other formats count."""
    if not needs_rivals(achieved, promised):
        return None
    if others.png_bytes <= PNG_FACTOR * size:
        remedy = f"a PNG is exact at {others.png_bytes / size:.2g} times the size"
    elif others.jpeg_db is not None and others.jpeg_db > achieved + JPEG_LEAD:
        remedy = f"a JPEG of this size has {others.jpeg_db:.1f} dB"
    elif promised is not None and achieved < promised - FAR:
        remedy = "another format may serve better"
    else:
        return None
    card = "" if promised is None else f", the model's card promises about {promised:.0f} dB at this quality"
    return f"{achieved:.1f} dB{card}: unusual content; {remedy}"


def rivals(pixels: npt.NDArray[np.uint8], size: int) -> Rivals:
    """Tries other formats.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        size: Bytes that a JPEG may have.
    """
    stream = io.BytesIO()
    _image(pixels).save(stream, "PNG")
    found = [_jpeg(pixels, size, kind) for kind in (("4:2:0", "4:4:4") if pixels.shape[2] == 3 else ("",))]
    return Rivals(stream.tell(), max((score for score in found if score is not None), default=None))


def _jpeg(pixels: npt.NDArray[np.uint8], size: int, subsampling: str) -> float | None:
    """PSNR of the best JPEG of at most ``size`` bytes; None if there is none."""
    # Off the grid of 8x8 blocks: a photograph that has been a JPEG would come back as that file, which says
    # nothing of its content.
    image = _image(np.pad(pixels, ((_SHIFT, 0), (_SHIFT, 0), (0, 0)), "edge"))
    # Without optimised Huffman tables: Pillow has too small a buffer for them where noise meets high quality,
    # and libjpeg then writes to standard error. It costs JPEG some percent: the benefit of the doubt is ours.
    options = {"subsampling": subsampling} if subsampling else {}
    best: bytes | None = None
    low, high = _JPEG_QUALITIES.start, _JPEG_QUALITIES.stop
    while low < high:
        quality = (low + high) // 2
        stream = io.BytesIO()
        try:
            image.save(stream, "JPEG", quality=quality, **options)
        except OSError:  # A side of more than 65535 pixels, or whatever else JPEG can't do.
            return None
        if stream.tell() <= size:
            best, low = stream.getvalue(), quality + 1
        else:
            high = quality
    if best is None:
        return None
    with Image.open(io.BytesIO(best), formats=["JPEG"]) as decoded:
        made = np.asarray(decoded)[_SHIFT:, _SHIFT:]
    return psnr(pixels, made.reshape(pixels.shape))


def _image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


class _RefusedError(FormatError):
    """It decodes, but to something else."""


def _failed(reason: str) -> _RefusedError:
    return _RefusedError(f"verification failed: {reason}; nothing was written")


def shape_text(shape: tuple[int, ...]) -> str:
    """Size and mode of an image (height, width, channels), for people."""
    height, width, channels = shape
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"


def same_alpha(a: npt.NDArray[np.uint8] | None, b: npt.NDArray[np.uint8] | None) -> bool:
    """Whether two alpha planes are equal; None is equal to None alone."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)
