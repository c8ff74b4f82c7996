"""What is shown of one image, and its pictures as files that every browser shows."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Comparison", "Packed", "Shown", "pack"]

Pixels = npt.NDArray[np.uint8]

_WEBP_SIDE = 16383
# kodim05 so: 587 kB in 0.13 s; with method 4 and quality 75: 571 kB in 0.47 s; as PNG: 799 kB in 0.07 s.
_WEBP = {"lossless": True, "method": 2, "quality": 20, "exact": True}
_THUMBNAIL = (176, 112)


@dataclass(frozen=True, eq=False)
class Shown:
    """What one codec made of one image.

    Attributes:
        codec: Name of the codec, as in the figures.
        setting: What it was encoded with.
        bytes: Size of the complete file.
        bpp: Bits per pixel.
        metrics: Figures by the keys of :data:`codec_cli.evaluation.quality.METRICS`; None where not defined.
        pixels: The decoded picture, uint8 ``(height, width, 1 or 3)``.
    """

    codec: str
    setting: int
    bytes: int
    bpp: float
    metrics: Mapping[str, float | None]
    pixels: Pixels


@dataclass(frozen=True, eq=False)
class Comparison:
    """One image, at one or more rates, by several codecs.

    Attributes:
        image: Its name, as in the figures.
        original: uint8 ``(height, width, 1 or 3)``.
        rates: For each rate, rising, what is shown; the first is ours, the others are of equal size.
        notes: What the reader should know about this image, one line each.
    """

    image: str
    original: Pixels
    rates: Sequence[Sequence[Shown]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Packed:
    """A comparison whose pictures are encoded: small enough to wait in a queue between processes.

    Attributes:
        facts: For the page; where a file is meant, ``file`` is an index into ``files``.
        files: The pictures, each the last part of a file name (``original.webp``) and its bytes.
    """

    facts: dict[str, Any]
    files: tuple[tuple[str, bytes], ...]


def pack(comparison: Comparison) -> Packed:
    """Encodes the pictures of a comparison, without loss.

    Args:
        comparison: With pictures of one size.

    Returns:
        The same, smaller.

    Raises:
        ValueError: A picture is not uint8 of 1 or 3 channels, or not of the original's size.
    """
    height, width = comparison.original.shape[:2]
    files = [
        _named("original", comparison.original),
        ("thumbnail.webp", _thumbnail(comparison.original)),
    ]
    rates = []
    for number, rate in enumerate(comparison.rates, 1):
        shown = []
        for index, one in enumerate(rate):
            if one.pixels.shape[:2] != (height, width):
                raise ValueError(
                    f"{one.codec}: {one.pixels.shape[:2]} pixels decoded of {(height, width)} originally"
                )
            shown.append({**_facts(one), "file": len(files)})
            files.append(_named(f"rate{number}-{index}", one.pixels))
        rates.append(shown)
    facts = {
        "image": comparison.image,
        "width": width,
        "height": height,
        "original": 0,
        "thumbnail": 1,
        "rates": rates,
        "notes": list(comparison.notes),
    }
    return Packed(facts, tuple(files))


def _facts(shown: Shown) -> dict[str, Any]:
    return {
        "codec": shown.codec,
        "setting": int(shown.setting),
        "bytes": int(shown.bytes),
        "bpp": round(float(shown.bpp), 6),
        "metrics": {key: _number(value) for key, value in shown.metrics.items()},
    }


def _number(value: float | None) -> float | None:
    """JSON knows no infinity; like in the figures, it is not defined."""
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def _image(pixels: Pixels) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"needs uint8 of (height, width, 1 or 3), not {pixels.dtype} of {pixels.shape}")
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _named(name: str, pixels: Pixels) -> tuple[str, bytes]:
    stream = io.BytesIO()
    image = _image(pixels)
    if max(image.size) <= _WEBP_SIDE:
        image.convert("RGB").save(stream, "WEBP", **_WEBP)
        return f"{name}.webp", stream.getvalue()
    image.save(stream, "PNG", compress_level=2)
    return f"{name}.png", stream.getvalue()


def _thumbnail(pixels: Pixels) -> bytes:
    """A small picture for choosing by; the only one with losses."""
    stream = io.BytesIO()
    image = _image(pixels).convert("RGB")
    image.thumbnail(_THUMBNAIL)
    image.save(stream, "WEBP", quality=80)
    return stream.getvalue()
