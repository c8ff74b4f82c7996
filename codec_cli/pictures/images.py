"""Pictures in and out: whatever image Pillow reads becomes plain 8-bit samples, and back."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from codec_cli.errors import CodecError, ImageError, LimitError, OutputError
from codec_cli.pictures import modern
from codec_cli.pictures.colour import to_rgb
from codec_cli.pictures.contents import check_first, dropped
from codec_cli.pictures.metadata import (
    FACTS,
    ORIENTATION,
    kept_exif,
    kept_icc,
    printable,
    save_options,
)

__all__ = [
    "OUTPUT_SUFFIXES",
    "Picture",
    "input_suffixes",
    "load_picture",
    "opened_image",
    "output_format",
    "save_picture",
]

Array = npt.NDArray[np.uint8]
Source = Path | str | bytes | bytearray | memoryview | IO[bytes]

# Measured on Kodak: 28, 30, 42, 56 ms and 694, 690, 681, 693 kB a picture for levels 1 to 4 (zlib's default,
# 6: 113 ms, 680 kB). Level 2 is where more time stops to buy anything worth waiting for.
PNG_LEVEL = 2

_WRITERS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".avif": "AVIF",
}
OUTPUT_SUFFIXES = tuple(_WRITERS)
_NO_ALPHA = ("JPEG", "BMP", "PPM")
_NO_METADATA = ("BMP", "PPM")
REDUCED_NOTE = "16-bit input reduced to 8 bits"

# Tried first: Image.preinit() registers these, and importing the other plugins takes a while.
_COMMON_FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF")
# What to call files whose beginning is known, but whose kind Pillow knows nothing of.
_PARTLY_READ = {b"8BPS": "PSD", b"P7": "PAM", b"PF": "PFM", b"II": "TIFF", b"MM": "TIFF"}
# Other programs (Ghostscript, the operating system) render these, or no one does.
_REFUSED_FORMATS = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture in 8-bit samples. Treat the arrays as read-only.

    Attributes:
        pixels: uint8 (height, width, channels), C-contiguous; 1 channel is gray, 3 are R'G'B'.
        alpha: uint8 (height, width), C-contiguous, 0 transparent to 255 opaque, not premultiplied; None
            where the file has no transparency. An alpha channel that is opaque everywhere is kept.
        icc: The ICC profile of ``pixels``, or None.
        exif: The EXIF block from its TIFF header on (``II*`` or ``MM``; without the ``Exif`` and two zero
            bytes that precede it in a JPEG), without thumbnail and with orientation 1; or None.
        warnings: What was lost on the way here, one short line each.
    """

    pixels: Array
    alpha: Array | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    warnings: tuple[str, ...] = ()


def load_picture(
    source: Source,
    name: str,
    max_pixels: int,
    keep_metadata: bool = True,
    formats: tuple[str, ...] | None = None,
) -> Picture:
    """Reads an image in any format that Pillow reads, upright and reduced to 8 bits.

    16-bit gray is divided by 257 and rounded; Pillow itself reduces 16-bit colour, to the upper byte.
    Floating-point samples are 0 to 1 if none exceeds 1, else 0 to 255; what lies outside is clipped. CMYK is
    converted to sRGB by its profile. Of several frames the first is taken. Each of these gives a warning, and
    so does the loss of XMP and IPTC. docs/INPUTS.md has a table of all kinds of input.

    Args:
        source: The file, its bytes, or a binary stream (read from its start, and left open).
        name: What messages call the image.
        max_pixels: The most pixels (width * height) to accept, checked before pixels are decoded.
        keep_metadata: Whether to keep the ICC profile and EXIF. The EXIF orientation is always applied.
        formats: Pillow's names of the only formats to try; None for all that it reads.

    Returns:
        The picture; see :class:`Picture` for shapes and ranges.

    Raises:
        ImageError: The source can't be read, is not an image, or is damaged or truncated.
        LimitError: The image has more than ``max_pixels`` pixels.
    """
    with opened_image(source, name, max_pixels, formats) as image:
        return _read(image, name, max_pixels, keep_metadata)


@contextlib.contextmanager
def opened_image(
    source: Source, name: str, max_pixels: int, formats: tuple[str, ...] | None = None
) -> Iterator[Image.Image]:
    """Opens an image as :func:`load_picture` does (arguments and errors are the same) without its pixels.

    Yields:
        What Pillow knows from the header, of at most ``max_pixels`` pixels. Whatever the ``with`` block
        raises is told as a failure to read the image.
    """
    try:
        with (
            _pillow_settings(max_pixels),
            _opened(source) as stream,
            _identify(stream, name, max_pixels, formats) as image,
        ):
            _check_size(image.size, name, max_pixels)
            yield image
    except CodecError:
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\((\d+) pixels\)", str(error))
        raise _too_large(name, f"{count[1]} pixels" if count else "its size", max_pixels) from error
    except Exception as error:  # Pillow's plugins let anything from IndexError to zlib.error through.
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{name}: cannot read: {error.strerror}") from error
        raise ImageError(f"{name}: not an image that can be read ({_reason(error)})") from error


def save_picture(
    picture: Picture,
    suffix: str,
    quality: int | None = None,
    *,
    name: str | None = None,
    compress_level: int = PNG_LEVEL,
) -> bytes:
    """Encodes a picture as an ordinary image file.

    PNG, TIFF, BMP and PNM are lossless, and so is WebP unless a quality is given. JPEG has quality 95 and
    AVIF 90 by default, both without chroma subsampling. ICC and EXIF go into all formats but BMP and PNM
    (a TIFF with EXIF gets the tags that describe the picture, and is not compressed).

    Args:
        picture: What to encode.
        suffix: One of :data:`OUTPUT_SUFFIXES`, in any case, with or without the dot; "" is PNG.
        quality: 1 to 100, for JPEG, WebP and AVIF; the others ignore it.
        name: What messages call the file.
        compress_level: zlib's level for PNG, 0 to 9.

    Returns:
        The bytes of the file.

    Raises:
        OutputError: The suffix is unknown, or the format can't hold this picture (alpha that is not opaque
            everywhere in JPEG, BMP or PNM, colour in ``.pgm``, too many pixels for JPEG or WebP).
    """
    pixels, alpha = picture.pixels, picture.alpha
    transparent = alpha is not None and alpha.min(initial=255) < 255
    suffix, kind = output_format(suffix, pixels.shape[2], transparent, name)
    label = f"{name}: " if name else ""
    if quality is not None and not 1 <= quality <= 100:
        raise OutputError(f"{label}quality {quality} is not within 1 to 100")
    if kind in _NO_ALPHA:
        alpha = None
    if suffix == ".ppm" and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    options: dict[str, Any] = {
        "PNG": {"compress_level": compress_level},
        "JPEG": {"quality": quality or 95, "subsampling": 0},
        "WEBP": {"quality": quality} if quality else {"lossless": True, "exact": True},
        "TIFF": {"compression": "tiff_adobe_deflate"},
        "AVIF": {"quality": quality or 90, "subsampling": "4:4:4"},
    }.get(kind, {})
    try:
        with _pillow_settings(0):
            Image.preinit()
            if kind not in _COMMON_FORMATS:
                Image.init()
            if kind not in Image.SAVE:
                raise OutputError(f"{label}this Pillow cannot write {suffix}; choose .png")
            if kind not in _NO_METADATA:
                options |= save_options(picture.icc, picture.exif, kind)
            planes = pixels if alpha is None else np.dstack([pixels, alpha])
            file = io.BytesIO()
            Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes).save(file, kind, **options)
    except CodecError:
        raise
    except Exception as error:  # Pillow has no common type for what a format can't hold.
        raise OutputError(f"{label}cannot be written as {suffix} ({_reason(error)}); choose .png") from error
    return file.getvalue()


def output_format(suffix: str, channels: int, transparent: bool, name: str | None = None) -> tuple[str, str]:
    """Checks that a format can hold a picture.

    Args:
        suffix: As for :func:`save_picture`.
        channels: 1 (gray) or 3.
        transparent: Whether there is alpha that is not opaque everywhere.
        name: What messages call the file.

    Returns:
        The suffix in lower case with its dot, and Pillow's name of the format.

    Raises:
        OutputError: See :func:`save_picture`.
    """
    suffix = ".png" if suffix in ("", ".") else "." + suffix.lower().lstrip(".")
    label = f"{name}: " if name else ""
    kind = _WRITERS.get(suffix)
    if kind is None:
        raise OutputError(f"{label}unknown image suffix {suffix}; choose one of {', '.join(OUTPUT_SUFFIXES)}")
    if transparent and kind in _NO_ALPHA:
        raise OutputError(f"{label}{suffix} cannot hold alpha; choose .png")
    if suffix == ".pgm" and channels != 1:
        raise OutputError(f"{label}.pgm cannot hold colour; choose .ppm or .png")
    return suffix, kind


@functools.lru_cache(maxsize=1)
def input_suffixes() -> frozenset[str]:
    """The suffixes (".png", lower case) of all image files that :func:`load_picture` may be able to read."""
    readable = {"MPO", *_allowed_formats()}
    known = {suffix.lower() for suffix, kind in Image.EXTENSION.items() if kind in readable}
    return frozenset(known.union(modern.SUFFIXES))  # Rather an error that says what to install than silence.


def _allowed_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in Image.ID if kind in Image.OPEN and kind not in _REFUSED_FORMATS)


# Pillow's settings are global to the process, so calls that overlap in time share one change of them: the
# first one in makes it, the last one out reverts it.
_settings_lock = threading.Lock()
_settings_limits: list[int] = []
_settings_restore = contextlib.ExitStack()


@contextlib.contextmanager
def _pillow_settings(max_pixels: int) -> Iterator[None]:
    """Makes Pillow strict about truncation, silent, and use our pixel limit instead of its own."""
    # Pillow also checks what is no image size (tiles of a TIFF): a very small limit must not refuse those.
    limit = max(max_pixels, 1 << 20)
    with _settings_lock:
        if not _settings_limits:
            _settings_restore.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            _settings_restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            truncated = ImageFile.LOAD_TRUNCATED_IMAGES
            _settings_restore.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", truncated)
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _settings_limits.append(limit)
        Image.MAX_IMAGE_PIXELS = max(_settings_limits)
    try:
        yield
    finally:
        with _settings_lock:
            _settings_limits.remove(limit)
            if _settings_limits:
                Image.MAX_IMAGE_PIXELS = max(_settings_limits)
            else:
                _settings_restore.close()


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[IO[bytes]]:
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file, _opened(file) as stream:
            yield stream
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    else:
        yield source if source.seekable() else io.BytesIO(source.read())


def _identify(stream: IO[bytes], name: str, max_pixels: int, formats: tuple[str, ...] | None) -> Image.Image:
    Image.preinit()
    if stream.seek(0, os.SEEK_END) == 0:
        raise ValueError("the file is empty")
    stream.seek(0)
    start = stream.read(16)
    facts = modern.read_facts(stream)
    if facts and any(facts.size):
        _check_size(facts.size, name, max_pixels)
    try:
        image: Image.Image = Image.open(stream, formats=formats or _COMMON_FORMATS)
    except UnidentifiedImageError:
        if formats is not None:
            raise
        image = _identify_rare(stream, facts)
    if facts:
        image.info[FACTS] = facts
    tags = getattr(image, "tag_v2", {})
    try:
        check_first(image, start)
        if tags.get(284) == 2 and max(tags.get(258, (1,))) > 8:  # Pillow would take bytes for samples.
            raise ValueError("more than 8 bits in separate planes are not supported; convert it to PNG")
    except ValueError:
        image.close()
        raise
    return image


def _identify_rare(stream: IO[bytes], facts: modern.Facts | None) -> Image.Image:
    if facts and facts.animated:
        raise ValueError("an animated JPEG XL is not supported; convert a frame of it to PNG")
    if facts and facts.kind != "PNG":
        return Image.open(stream, formats=(modern.plugin_for(facts.kind),))
    try:
        return Image.open(stream, formats=[f for f in _allowed_formats() if f not in _COMMON_FORMATS])
    except UnidentifiedImageError as error:
        stream.seek(0)
        start = stream.read(4)
        for magic, kind in _PARTLY_READ.items():
            if start.startswith(magic):
                raise ValueError(f"a kind of {kind} that Pillow does not read; convert it to PNG") from error
        raise


def _read(image: Image.Image, name: str, max_pixels: int, keep_metadata: bool) -> Picture:
    notes = dropped(image)
    layout = repr((getattr(image, "tile", None) or [])[:4])  # Gone once the pixels are there.
    image.load()
    _check_size(image.size, name, max_pixels)  # An icon's or animation's true size may appear only now.
    pixels, alpha = _samples(to_rgb(image, notes), layout, notes)
    orientation = _orientation(image)
    icc = kept_icc(image, pixels.shape[2], notes) if keep_metadata else None
    exif = kept_exif(image, notes) if keep_metadata else None
    pixels = _upright(pixels, orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    return Picture(pixels, alpha, icc, exif, tuple(notes))


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _too_large(name, f"{width}x{height} = {width * height} pixels", max_pixels)
    if width < 1 or height < 1:
        raise ValueError("it has no pixels")


def _too_large(name: str, size: str, max_pixels: int) -> LimitError:
    return LimitError(f"{name}: {size} is above the limit of {max_pixels}; raise it with --max-pixels")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"  # Pillow's text holds the address of an object.
    if isinstance(error, MemoryError):
        return "not enough memory"
    return printable(str(error))[:200] or type(error).__name__


def _samples(image: Image.Image, layout: str, notes: list[str]) -> tuple[Array, Array | None]:
    """The pixels (height, width, 1 or 3) and alpha (height, width) of a loaded image, both uint8.

    ``layout`` is Pillow's description of how the file stores them, such as "... 'RGB;16B')".
    """
    mode = image.mode
    # A PNG without alpha channel may name one gray level or colour that is transparent.
    key = image.info.get("transparency") if mode in ("1", "L", "RGB") or mode.startswith("I") else None
    maximum = re.search(r"', (\d+)\)", layout) if image.format == "PPM" else None
    bits = _bits(image)
    # "BGR;16" is a BMP's 5, 6 and 5 bits.
    deep = re.search(r"(?<!BGR);1[26]|SGI16", layout) or (maximum and int(maximum[1]) > 255)
    if mode == "F":
        notes.append("floating-point input reduced to 8 bits")
        return _float_samples(image), None
    if bits > 8:
        notes.append(f"{bits}-bit input reduced to 8 bits")
    elif mode.startswith("I") or deep:
        notes.append(REDUCED_NOTE)
    if mode.startswith("I"):
        values = np.asarray(image)
        if bits == 32:
            values = values.view(np.uint32) >> 16
        if values.min() < 0 or values.max() > 65535:
            notes.append("samples outside 0 to 65535 clipped")
            values = values.clip(0, 65535)
        white = 4095 if ";12" in layout else 65535
        table = ((np.arange(65536) * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
        return table[values][..., None], _key_alpha(values[..., None], (key,))
    if mode in ("1", "L"):
        gray = _planes(image, "L")[..., None]
        if isinstance(key, int):
            # Pillow widens samples below 8 bits, but not (or not in all versions) the transparent level.
            step = 85 if "L;2" in layout else 17 if "L;4" in layout else 1
            key = 255 * bool(key) if mode == "1" else key * step
        return gray, _key_alpha(gray, (key,))
    if mode in ("LA", "La"):
        planes = _planes(image, "LA")
        return planes[..., :1], planes[..., 1]
    if mode != "RGB" and image.has_transparency_data:
        planes = _planes(image, "RGBA")
        # Pillow reads 16-bit gray with alpha as colour.
        return planes[..., : 1 if "LA;16" in layout else 3], planes[..., 3]
    colour = _planes(image, "RGB")
    if isinstance(key, tuple) and ";16" in layout:
        key = tuple(level >> 8 for level in key)
    return colour, _key_alpha(colour, key)


def _bits(image: Image.Image) -> int:
    """Bits of a sample where something other than Pillow's mode and layout tells; else 0."""
    facts = image.info.get(FACTS)
    if isinstance(facts, modern.Facts):
        return facts.bits
    tags = getattr(image, "tag_v2", {})
    # Pillow takes them for signed.
    return 32 if image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,) else 0


def _planes(image: Image.Image, mode: str) -> Array:
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _float_samples(image: Image.Image) -> Array:
    values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=np.inf, neginf=-np.inf)
    peak = values.max(where=np.isfinite(values), initial=0.0)
    samples: Array = np.rint(np.clip(values * 255 if peak <= 1 else values, 0, 255)).astype(np.uint8)
    return samples[..., None]


def _key_alpha(values: npt.NDArray[Any], key: Any) -> Array | None:  # noqa: ANN401 - what Pillow found
    """Alpha (height, width) that is 0 where ``values`` (height, width, channels) equal ``key``."""
    if not isinstance(key, tuple) or len(key) != values.shape[2] or not all(isinstance(k, int) for k in key):
        return None
    return np.where((values == np.array(key)).all(axis=2), 0, 255).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # The file says it elsewhere, and its decoder has seen to it; of a packed JPEG it has not.
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Damaged EXIF is no reason to refuse the pixels.
        return 1
    return value if isinstance(value, int) else 1


def _upright(array: Array, orientation: int) -> Array:
    """Applies an EXIF orientation (1 to 8; others count as 1) to an array (height, width, ...)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
