"""Other image codecs behind one interface, as far as the installed Pillow has them.

Options are chosen so that each codec shows what it can do rather than what its defaults give. Sweeps are
eight points that cover about 0.1 to 2.5 bits per pixel on photographs (JPEG has nothing usable under 0.15).
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import __version__ as _pillow_version

from codec_cli.errors import CodecError

Pixels = npt.NDArray[np.uint8]

_AVIF_SPEED = 4


class OtherCodec(ABC):
    """A codec to compare with.

    Attributes:
        name: What :func:`others` knows it by.
        description: One line on its options, for reports.
        scale: Every setting that the codec knows, rising in rate.
    """

    name: str
    description: str
    scale: range

    @abstractmethod
    def settings(self) -> list[int]:
        """A sweep for a rate-distortion curve: eight settings on the codec's own scale, rising in rate."""

    @abstractmethod
    def encode(self, pixels: Pixels, setting: int) -> bytes:
        """Compress.

        Args:
            pixels: uint8, ``(height, width, 3)``, sRGB.
            setting: One of :meth:`settings`, or another value on that scale.

        Returns:
            A complete file without metadata; its length is the rate.

        Raises:
            ValueError: `pixels` is of another type or shape.
            CodecError: The codec is not available, or can't encode this image (too large).
        """

    @abstractmethod
    def decode(self, data: bytes) -> Pixels:
        """Decompress what :meth:`encode` returned.

        Args:
            data: The file.

        Returns:
            uint8, ``(height, width, 3)``, sRGB.

        Raises:
            CodecError: The codec is not available, or the file is damaged.
        """

    @abstractmethod
    def available(self) -> str | None:
        """None when the codec can be used here, else the reason in one line."""


@dataclass(frozen=True)
class _PillowCodec(OtherCodec):
    name: str
    description: str
    pillow_format: str
    scale: range
    sweep: tuple[int, ...]
    options: Callable[[int], dict[str, Any]]

    def settings(self) -> list[int]:
        return list(self.sweep)

    def encode(self, pixels: Pixels, setting: int) -> bytes:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"needs uint8 of (height, width, 3), not {pixels.dtype} of {pixels.shape}")
        file = io.BytesIO()
        try:
            Image.fromarray(pixels).save(file, self.pillow_format, **self.options(setting))
        except (OSError, ValueError, KeyError) as error:  # KeyError: a format that Pillow does not know
            raise CodecError(
                f"{self.name} can't encode this image (Pillow {_pillow_version}): {error}"
            ) from error
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        try:
            with Image.open(io.BytesIO(data), formats=[self.pillow_format]) as image:
                return np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CodecError(
                f"{self.name} can't decode this file (Pillow {_pillow_version}): {error}"
            ) from error

    def available(self) -> str | None:
        # A trial says more than Pillow's feature flags: a library may be built without its encoder.
        try:
            self.decode(self.encode(np.zeros((16, 16, 3), np.uint8), self.sweep[0]))
        except CodecError as error:
            return f"this Pillow ({_pillow_version}) has no working {self.pillow_format}: {error.__cause__}"
        return None


def _jpeg(subsampling: str) -> Callable[[int], dict[str, Any]]:
    return lambda setting: {"quality": setting, "subsampling": subsampling, "optimize": True}


def _webp(setting: int) -> dict[str, Any]:
    return {"quality": setting, "method": 6, "lossless": False}


def _avif(subsampling: str) -> Callable[[int], dict[str, Any]]:
    return lambda setting: {"quality": setting, "speed": _AVIF_SPEED, "subsampling": subsampling}


def _jpeg2000(setting: int) -> dict[str, Any]:
    return {
        "quality_mode": "rates",
        "quality_layers": [24 * 100 / setting],
        "irreversible": True,
        # Off by Pillow's default, which codes R, G and B apart: 3.5 to 6 dB worse at 1.25 bpp.
        "mct": 1,
        "no_jp2": True,
    }


_CODECS = {
    codec.name: codec
    for codec in (
        _PillowCodec(
            "jpeg",
            "baseline JPEG, 4:2:0, optimised Huffman tables; setting: libjpeg quality",
            "JPEG",
            range(1, 96),
            (5, 10, 20, 35, 55, 75, 88, 94),
            _jpeg("4:2:0"),
        ),
        _PillowCodec(
            "jpeg444",
            "baseline JPEG, 4:4:4, optimised Huffman tables; setting: libjpeg quality",
            "JPEG",
            range(1, 96),
            (4, 10, 20, 35, 55, 75, 86, 91),
            _jpeg("4:4:4"),
        ),
        _PillowCodec(
            "webp",
            "WebP, lossy (4:2:0), method 6; setting: libwebp quality",
            "WEBP",
            range(101),
            (0, 5, 20, 40, 60, 78, 88, 95),
            _webp,
        ),
        _PillowCodec(
            "avif",
            f"AVIF, 4:2:0, speed {_AVIF_SPEED}; setting: libavif quality",
            "AVIF",
            range(101),
            (5, 20, 35, 50, 60, 70, 82, 92),
            _avif("4:2:0"),
        ),
        _PillowCodec(
            "avif444",
            f"AVIF, 4:4:4, speed {_AVIF_SPEED}; setting: libavif quality",
            "AVIF",
            range(101),
            (5, 20, 35, 50, 60, 70, 82, 90),
            _avif("4:4:4"),
        ),
        _PillowCodec(
            "jpeg2000",
            "JPEG 2000 codestream, 9/7 wavelet, YCbCr 4:4:4; setting: hundredths of a bit per pixel",
            "JPEG2000",
            range(1, 2401),
            (10, 20, 35, 55, 85, 125, 180, 250),
            _jpeg2000,
        ),
    )
}

KNOWN: tuple[str, ...] = tuple(_CODECS)
"""Names that :func:`others` takes."""


def others(names: Iterable[str]) -> list[OtherCodec]:
    """Look codecs up by name.

    Args:
        names: Some of :data:`KNOWN`; repeated names count once.

    Returns:
        The codecs, in the order of the names. They may be unavailable here (:meth:`OtherCodec.available`).

    Raises:
        CodecError: A name is unknown.
    """
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in _CODECS]
    if unknown:
        raise CodecError(f"unknown codec {', '.join(unknown)}: known are {', '.join(KNOWN)}")
    return [_CODECS[name] for name in wanted]
