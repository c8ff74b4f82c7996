"""The codecs that Pillow writes and reads, by itself or with a plugin: one class, and a table of options."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile, features
from PIL import __version__ as _pillow_version

from codec_cli.errors import CodecError
from codec_cli.evaluation.others.base import INSTALL, OtherCodec, Pixels, check_pixels, one_line
from codec_cli.pictures.modern import load_heif, load_jxl

__all__ = ["PILLOW_CODECS"]

_AVIF_SPEED = 4
_JXL_EFFORT = 8
_NOT_INSTALLED = "not installed"


def _bundled(name: str, feature: str) -> Callable[[], str]:
    """Tells the version of a library that Pillow brings."""
    return lambda: f"{name} {features.version(feature) or _NOT_INSTALLED}"


def _libjpeg() -> str:
    turbo = features.version_feature("libjpeg_turbo")
    return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"


@dataclass(frozen=True)
class _Plugin:
    """A package that teaches Pillow a format.

    Attributes:
        package: Its name on PyPI.
        load: Imports and registers it; raises ImportError where it is missing.
        libraries: Versions of what it brings, after loading.
    """

    package: str
    load: Callable[[], None]
    libraries: Callable[[], str]

    def version(self) -> str:
        try:
            self.load()
            return f"{self.libraries()}{self.package} {importlib.metadata.version(self.package)}"
        except ImportError:
            return _NOT_INSTALLED


def _heif_libraries() -> str:
    info = importlib.import_module("pillow_heif").libheif_info()
    return f"libheif {info['libheif']}, {info['HEIF']}, "


# pillow-jxl-plugin tells no version of its libjxl; each release is built with one (1.3.8: libjxl 0.12.0).
_JXL = _Plugin("pillow-jxl-plugin", load_jxl, lambda: "")
_HEIF = _Plugin("pillow-heif", load_heif, _heif_libraries)


@dataclass(frozen=True)
class _PillowCodec(OtherCodec):
    """A format of Pillow with options.

    Attributes:
        pillow_format: What Pillow calls it.
        sweep: The settings of :meth:`settings`.
        options: Arguments of ``Image.save`` for a setting.
        library: Tells the version of the library.
        plugin: The package that brings the format; None where Pillow has it.
    """

    name: str
    description: str
    pillow_format: str
    scale: range
    sweep: tuple[int, ...]
    options: Callable[[int], dict[str, Any]]
    library: Callable[[], str]
    plugin: _Plugin | None = None

    def settings(self) -> list[int]:
        return list(self.sweep)

    def encode(self, pixels: Pixels, setting: int) -> bytes:
        check_pixels(pixels)
        file = io.BytesIO()
        try:
            self._load()
            with _large_buffer(pixels):
                Image.fromarray(pixels).save(file, self.pillow_format, **self.options(setting))
        # KeyError: a format that Pillow does not know; RuntimeError: what plugins raise.
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise CodecError(
                f"{self.name} can't encode this image (Pillow {_pillow_version}): {one_line(error)}"
            ) from error
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        try:
            self._load()
            with Image.open(io.BytesIO(data), formats=[self.pillow_format]) as image:
                return np.array(image.convert("RGB"))
        except (
            OSError,
            ValueError,
            KeyError,
            RuntimeError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:
            raise CodecError(
                f"{self.name} can't decode this file (Pillow {_pillow_version}): {one_line(error)}"
            ) from error

    def available(self) -> str | None:
        try:
            self._load()
        except CodecError as error:
            return str(error)
        # A trial says more than Pillow's feature flags: a library may be built without its encoder.
        try:
            self.decode(self.encode(np.zeros((16, 16, 3), np.uint8), self.sweep[0]))
        except CodecError as error:
            reason = one_line(error.__cause__)
            return f"this Pillow ({_pillow_version}) has no working {self.pillow_format}: {reason}"
        return None

    def version(self) -> str:
        return f"{self.library()}, Pillow {_pillow_version}"

    @property
    def identity(self) -> str:
        # The options at both ends stand for those at all settings.
        low, high = (sorted(self.options(setting).items()) for setting in (self.scale[0], self.scale[-1]))
        return f"{self.name} {low} {high} [{self.version()}]"

    def _load(self) -> None:
        if self.plugin is None:
            return
        try:
            self.plugin.load()
        except ImportError as error:
            raise CodecError(f"needs the package {self.plugin.package}: {INSTALL}") from error


@contextmanager
def _large_buffer(pixels: Pixels) -> Iterator[None]:
    """Room for all of an optimised JPEG, written at once: Pillow's own buffer is too small for noise."""
    before = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = max(before, 2 * pixels.size + 4096)
    try:
        yield
    finally:
        ImageFile.MAXBLOCK = before


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


def _jxl(setting: int) -> dict[str, Any]:
    return {"quality": setting, "effort": _JXL_EFFORT, "lossless": False}


def _heic(setting: int) -> dict[str, Any]:
    # BT.601, full range: what the file says and the decoder uses; a mismatch would cost some 10 dB.
    return {"quality": setting, "subsampling": "4:4:4", "matrix_coefficients": 6, "full_range_flag": 1}


PILLOW_CODECS: tuple[OtherCodec, ...] = (
    _PillowCodec(
        "jpeg",
        "baseline JPEG, 4:2:0, optimised Huffman tables; setting: libjpeg quality",
        "JPEG",
        range(1, 96),
        (5, 10, 20, 35, 55, 75, 88, 94),
        _jpeg("4:2:0"),
        _libjpeg,
    ),
    _PillowCodec(
        "jpeg444",
        "baseline JPEG, 4:4:4, optimised Huffman tables; setting: libjpeg quality",
        "JPEG",
        range(1, 96),
        (4, 10, 20, 35, 55, 75, 86, 91),
        _jpeg("4:4:4"),
        _libjpeg,
    ),
    _PillowCodec(
        "jpeg2000",
        "JPEG 2000 codestream, 9/7 wavelet, YCbCr 4:4:4; setting: hundredths of a bit per pixel",
        "JPEG2000",
        range(1, 2401),
        (10, 20, 35, 55, 85, 125, 180, 250),
        _jpeg2000,
        _bundled("OpenJPEG", "jpg_2000"),
    ),
    _PillowCodec(
        "webp",
        "WebP, lossy (4:2:0), method 6; setting: libwebp quality",
        "WEBP",
        range(101),
        (0, 5, 20, 40, 60, 78, 88, 95),
        _webp,
        _bundled("libwebp", "webp"),
    ),
    _PillowCodec(
        "avif",
        f"AVIF, 4:2:0, speed {_AVIF_SPEED}; setting: libavif quality",
        "AVIF",
        range(101),
        (5, 20, 35, 50, 60, 70, 82, 92),
        _avif("4:2:0"),
        _bundled("libavif", "avif"),
    ),
    _PillowCodec(
        "avif444",
        f"AVIF, 4:4:4, speed {_AVIF_SPEED}; setting: libavif quality",
        "AVIF",
        range(101),
        (5, 20, 35, 50, 60, 70, 82, 90),
        _avif("4:4:4"),
        _bundled("libavif", "avif"),
    ),
    _PillowCodec(
        "jxl",
        f"JPEG XL, lossy (XYB), effort {_JXL_EFFORT}; setting: libjxl quality",
        "JXL",
        range(100),
        (0, 10, 30, 50, 70, 80, 88, 93),
        _jxl,
        _JXL.version,
        _JXL,
    ),
    _PillowCodec(
        "heic",
        "HEIC, HEVC intra by x265, 4:4:4, 8 bits; setting: libheif quality",
        "HEIF",
        range(101),
        (14, 20, 26, 32, 40, 48, 56, 64),
        _heic,
        _HEIF.version,
        _HEIF,
    ),
)
"""In the order of :data:`codec_cli.evaluation.others.KNOWN`."""
