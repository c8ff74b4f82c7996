"""Images in by rows, for those too large to hold in memory: PNG, JPEG and TIFF by libvips, PNM as it is.

Pillow reads the headers, so that metadata and colours are what :mod:`codec_cli.pictures.images` makes of
them; what it would convert in other ways than by taking samples as they are (palettes, CMYK, ...) is not read
by rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_cli.bitstream.container import Metadata
from codec_cli.errors import ImageError
from codec_cli.memory import return_freed_memory
from codec_cli.pictures.contents import dropped
from codec_cli.pictures.images import REDUCED_NOTE, opened_image
from codec_cli.pictures.metadata import ORIENTATION, kept_exif, kept_icc
from codec_cli.spool import turned
from codec_cli.tiles import StreamSource
from codec_cli.transforms import Pixels

__all__ = ["MIN_PIXELS", "RowPicture", "band_rows", "have_vips", "open_rows", "vips"]

MIN_PIXELS = 32_000_000
"""Images of at least so many pixels are streamed."""

_BAND_SAMPLES = 2 << 20  # Fetched at a time.
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_METADATA_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")


@dataclass(frozen=True)
class RowPicture:
    """A picture whose rows are read as they are needed, as often as they are needed.

    Attributes:
        name: What messages call it.
        shape: (height, width, channels) of the upright image; 1 channel is gray, 3 are R'G'B'.
        alpha: Whether there is an alpha plane.
        icc: See :class:`codec_cli.pictures.images.Picture`.
        exif: See :class:`codec_cli.pictures.images.Picture`.
        warnings: See :class:`codec_cli.pictures.images.Picture`.
    """

    name: str
    shape: tuple[int, int, int]
    alpha: bool
    icc: bytes | None
    exif: bytes | None
    warnings: tuple[str, ...]
    _read: Callable[[], Iterator[Pixels]]

    def source(self) -> StreamSource:
        """The pixels without alpha, from the first row on."""
        return StreamSource(self.shape, self.bands())

    def bands(self) -> Iterator[Pixels]:
        """uint8 (rows, width, channels), all rows of the upright image; raises :class:`ImageError`."""
        return (np.ascontiguousarray(band[:, :, : self.shape[2]]) for band in self._read())

    def alpha_bands(self) -> Iterator[Pixels]:
        """uint8 (rows, width, 1), all rows of the alpha plane; raises :class:`ImageError`."""
        return (np.ascontiguousarray(band[:, :, self.shape[2] :]) for band in self._read())

    @cached_property
    def metadata(self) -> Metadata:
        """What a compressed file keeps beside the colours."""
        return Metadata(self.icc, self.exif, self._alpha_png() if self.alpha else None)

    def _alpha_png(self) -> bytes | None:
        from codec_cli.pictures.writing import png_bytes

        if all((band == 255).all() for band in self.alpha_bands()):
            return None
        return png_bytes((*self.shape[:2], 1), self.alpha_bands())


def have_vips() -> bool:
    """Whether pyvips is installed (the extra ``large``)."""
    return find_spec("pyvips") is not None


def vips() -> Any:  # noqa: ANN401 - a module
    """The module pyvips, made silent."""
    import logging

    logger = logging.getLogger("pyvips")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    import pyvips

    pyvips.cache_set_max(0)  # It would hold on to files.
    return pyvips


def band_rows(width: int, channels: int) -> int:
    """Rows to work on at a time."""
    return max(1, min(256, _BAND_SAMPLES // (width * channels)))


def open_rows(
    source: Path | bytes,
    name: str,
    max_pixels: int,
    keep_metadata: bool = True,
    min_pixels: int | None = None,
    formats: tuple[str, ...] | None = None,
) -> RowPicture | None:
    """Opens a large image to be read by rows.

    Args:
        source: The file, or its bytes.
        name: What messages call the image.
        max_pixels: The most pixels (width * height) to accept.
        keep_metadata: Whether to keep the ICC profile and EXIF.
        min_pixels: Smaller images are none to be read by rows; by default :data:`MIN_PIXELS`.
        formats: Pillow's names of the only formats to try; None for all that it reads.

    Returns:
        The picture; or None where :func:`codec_cli.pictures.images.load_picture` has to do it: it is smaller,
        pyvips is not installed, or it is not an image of samples that can be taken as they are.

    Raises:
        ImageError: The source can't be read, is not an image, or is damaged.
        LimitError: The image has more than ``max_pixels`` pixels.
    """
    with opened_image(source, name, max_pixels, formats) as image:
        width, height = image.size
        if width * height < (MIN_PIXELS if min_pixels is None else min_pixels):
            return None
        samples = _samples_of(image)
        if samples is None or (image.format != "PPM" and not have_vips()):
            return None
        notes = dropped(image) + [REDUCED_NOTE] * samples.wide
        if image.format == "PNG" and not _take_late_exif(image):
            return None
        orientation = _orientation(image)
        if image.format == "TIFF" and orientation != 1:
            return None  # Pillow may have swapped the sides already.
        icc = kept_icc(image, samples.channels, notes) if keep_metadata else None
        exif = kept_exif(image, notes) if keep_metadata else None
        read: Callable[[], Iterator[Pixels]]
        if image.format == "PPM":
            offset = int(_tile(image)[2])
            shape = (height, width, samples.channels)
            read = lambda: _pnm_bands(source, name, offset, shape)  # noqa: E731 - one of two
        else:
            if not samples.fit(_open_vips(source, name)):
                return None
            read = lambda: _vips_bands(source, name, samples)  # noqa: E731
    return_freed_memory()
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    rows = band_rows(width, samples.channels)
    return RowPicture(
        name,
        (height, width, samples.channels),
        samples.alpha,
        icc,
        exif,
        tuple(notes),
        lambda: turned(read(), orientation, rows),
    )


@dataclass(frozen=True)
class _Samples:
    """How a file stores its samples.

    Attributes:
        channels: 1 or 3.
        alpha: Whether alpha follows them.
        wide: Whether samples have 16 bits.
    """

    channels: int
    alpha: bool
    wide: bool

    def fit(self, image: Any) -> bool:  # noqa: ANN401 - of pyvips
        """Whether libvips sees them in the same way."""
        wanted = "ushort" if self.wide else "uchar"
        return bool(image.bands == self.channels + self.alpha and image.format == wanted)

    def narrow(self, band: npt.NDArray[Any]) -> Pixels:
        """To 8 bits, by the rules of :func:`codec_cli.pictures.images.load_picture`."""
        if self.wide and self.channels == 1 and not self.alpha:
            band = (band.astype(np.uint32) * 255 + 32767) // 65535
        elif self.wide:
            band = band >> 8
        return band.astype(np.uint8, copy=False)


def _samples_of(image: Image.Image) -> _Samples | None:
    """What the header says of the samples; None for those that can't be taken as they are."""
    tile = _tile(image)
    if tile is None or image.format not in ("PNG", "JPEG", "MPO", "TIFF", "PPM"):
        return None
    layout = tile[3] if isinstance(tile[3], str) else tile[3][0]
    found = re.fullmatch(r"(I|LA|L|RGBA|RGB)(;16[BLN]?)?", layout)
    if found is None or "transparency" in image.info or image.info.get("interlace"):
        return None
    if image.format in ("JPEG", "MPO", "PPM") and (found[2] or image.mode not in ("L", "RGB")):
        return None
    if image.format == "PPM" and tile[0] != "raw":
        return None
    if image.format == "TIFF" and _tiff_tags(image) not in ((1, 0), (2, 0), (1, 2), (2, 2)):
        return None
    return _Samples(3 if "RGB" in found[1] else 1, found[1].endswith("A"), bool(found[2]))


def _tile(image: Image.Image) -> Any:  # noqa: ANN401
    """Pillow's description (codec, box, offset, arguments) of how the first part of the pixels is stored."""
    return (getattr(image, "tile", None) or [None])[0]


def _tiff_tags(image: Any) -> tuple[int, int]:  # noqa: ANN401
    """Photometric interpretation, and the kind of the last extra sample (0 without one)."""
    extra = image.tag_v2.get(338) or (0,)
    return image.tag_v2.get(262, -1), extra[-1]


def _take_late_exif(image: Image.Image) -> bool:
    """Adds the EXIF that stands behind the pixels of a PNG to what Pillow has read of it so far.

    Returns:
        Whether that was possible; it is not for EXIF and XMP in text chunks.
    """
    stream: IO[bytes] = getattr(image, "fp")  # noqa: B009 - Pillow's types don't know it
    place = stream.tell()
    try:
        end = stream.seek(0, os.SEEK_END)
        position, behind = 8, False
        while position + 8 <= end:
            stream.seek(position)
            head = stream.read(8)
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            behind |= kind == b"IDAT"
            if behind and kind == b"eXIf":
                image.info.setdefault("exif", stream.read(size))
            if behind and kind in _PNG_TEXTS and stream.read(21).startswith(_PNG_METADATA_TEXTS):
                return False
            position += size + 12
        return True
    finally:
        stream.seek(place)


def _orientation(image: Image.Image) -> int:
    try:
        # Not PngImageFile's own method, which would decode all pixels to see what is behind them.
        value = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # Damaged EXIF is no reason to refuse the pixels.
        return 1
    return value if isinstance(value, int) else 1


def _open_vips(source: Path | bytes, name: str) -> Any:  # noqa: ANN401
    pyvips = vips()
    try:
        if isinstance(source, bytes):
            return pyvips.Image.new_from_buffer(source, "", access="sequential", fail_on="error")
        # Bytes: a name need not be UTF-8. And a source does not look for options in it, such as [page=1].
        file = pyvips.Source.new_from_file(os.fsencode(source))
        return pyvips.Image.new_from_source(file, "", access="sequential", fail_on="error")
    except pyvips.Error as error:
        raise _unreadable(name, error) from error


def _vips_bands(source: Path | bytes, name: str, samples: _Samples) -> Iterator[Pixels]:
    pyvips, image = vips(), _open_vips(source, name)
    region = pyvips.Region.new(image)
    rows = band_rows(image.width, image.bands)
    dtype = np.uint16 if samples.wide else np.uint8
    for top in range(0, image.height, rows):
        try:
            data = region.fetch(0, top, image.width, min(rows, image.height - top))
        except pyvips.Error as error:
            raise _unreadable(name, error) from error
        yield samples.narrow(np.frombuffer(data, dtype).reshape(-1, image.width, image.bands))


def _pnm_bands(source: Path | bytes, name: str, offset: int, shape: tuple[int, int, int]) -> Iterator[Pixels]:
    import io

    height, width, channels = shape
    rows = band_rows(width, channels)
    try:
        stream: IO[bytes]
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            stream.seek(offset)
            for top in range(0, height, rows):
                count = min(rows, height - top) * width * channels
                data = stream.read(count)
                if len(data) < count:
                    raise ImageError(f"{name}: not an image that can be read (truncated)")
                yield np.frombuffer(data, np.uint8).reshape(-1, width, channels)
    except OSError as error:
        raise ImageError(f"{name}: cannot read: {error.strerror}") from error


def _unreadable(name: str, error: Exception) -> ImageError:
    from codec_cli.pictures.metadata import printable

    lines = [line for line in str(error).splitlines() if line.strip()]
    return ImageError(
        f"{name}: not an image that can be read ({printable(lines[-1])[:200] if lines else ''})"
    )
