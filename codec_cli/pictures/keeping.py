"""What of an image file no compressed file keeps, even if nobody is warned of it: a reason not to delete it.

Nothing is taken for kept that is not on a list here. Resolution, dates of the file, histograms, thumbnails
and hints for displays count as worthless.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from codec_cli.errors import ImageError
from codec_cli.pictures.images import opened_image

__all__ = ["unkept"]

_PNG_CHUNKS = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP cICP eXIf bKGD hIST pHYs sBIT tIME".split()
)
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Kept, or warned of: see metadata.py.
_PNG_KNOWN_TEXTS = (
    b"Raw profile type exif\0",
    b"Raw profile type xmp\0",
    b"Raw profile type iptc\0",
    b"XML:com.adobe.xmp\0",
)
_WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ")
_JPEG_SEGMENTS = {
    0xE0: (b"JFIF\0", b"JFXX\0"),
    0xE1: (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"),
    0xE2: (b"ICC_PROFILE\0",),
    0xEC: (b"Ducky",),  # The quality of Photoshop's "save for web".
    0xEE: (b"Adobe",),
}
_JPEG_NEEDED = (*range(0xC0, 0xD0), *range(0xDA, 0xDF))
_JPEG_COMMENT, _JPEG_PHOTOSHOP, _JPEG_END = 0xFE, 0xED, 0xD9
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# The layout of a file, and the meaning of its samples.
_TIFF_LAYOUT = (
    "254 255 256 257 258 259 262 263 264 265 266 273 274 277 278 279 280 281 282 283 284 288 289 292 293 296 "
    "297 317 320 322 323 324 325 332 334 338 339 347 512 513 514 515 517 518 519 520 521 529 530 531 532"
)
# What describes the picture: kept or warned of, see metadata.py.
_TIFF_DESCRIPTIVE = (
    "270 271 272 305 306 315 316 700 18246 18249 33432 33723 34665 34675 34853 40091 40092 40093 40094 40095"
)
_TIFF_TAGS = frozenset(map(int, f"{_TIFF_LAYOUT} {_TIFF_DESCRIPTIVE}".split()))

_Loss = tuple[str, bool]
"""What is lost, and whether ``--strip`` asks for it."""


def unkept(source: Path, name: str, max_pixels: int, strip: bool) -> tuple[str, ...]:
    """What of an image file is lost without a warning, when it is compressed.

    Args:
        source: The file, which can be read as an image.
        name: What messages call it.
        max_pixels: The largest image to accept.
        strip: Whether metadata are to be left out, so that comments are no loss.

    Returns:
        A line for each kind of loss.

    Raises:
        ImageError: It can't be read.
        LimitError: It has more than ``max_pixels`` pixels.
    """
    with opened_image(source, name, max_pixels) as image:
        try:
            with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                losses = list(_losses(image, data))
        except (OSError, IndexError) as error:
            raise ImageError(f"{name}: cannot read: {error}") from error
    return tuple(dict.fromkeys(f"{what} not kept" for what, stripped in losses if not (strip and stripped)))


def _losses(image: Image.Image, data: mmap.mmap) -> Iterator[_Loss]:
    if image.format == "PNG":
        yield from _of_png(data)
    elif image.format in ("JPEG", "MPO"):
        yield from _of_jpeg(data)
    elif image.format == "WEBP":
        yield from _of_webp(data)
    elif image.format == "TIFF":
        tags: Iterable[int] = getattr(image, "tag_v2", {})
        yield from ((f"TIFF tag {tag} is", False) for tag in tags if tag not in _TIFF_TAGS)
    elif image.format != "PPM" or not _is_plain_pnm(image, data):
        yield f"what a file of this kind ({image.format}) may hold beside its picture is", False


def _of_png(data: mmap.mmap) -> Iterator[_Loss]:
    position = 8
    while position + 12 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        start = data[position + 8 : position + 8 + min(size, 80)]
        if kind in _PNG_TEXTS:
            if not start.startswith(_PNG_KNOWN_TEXTS):
                yield "text chunks are", True
        elif kind not in _PNG_CHUNKS:
            yield f"PNG chunk {kind.decode('ascii', 'replace')} is", False
        position += 12 + size
        if kind == b"IEND":
            break
    yield from _behind(data, position)


def _of_webp(data: mmap.mmap) -> Iterator[_Loss]:
    position, end = 12, 8 + int.from_bytes(data[4:8], "little")
    while position + 8 <= min(end, len(data)):
        kind, size = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        if kind not in _WEBP_CHUNKS:
            yield f"WebP chunk {kind.decode('ascii', 'replace')} is", False
        position += 8 + size + size % 2
    yield from _behind(data, end)


def _of_jpeg(data: mmap.mmap) -> Iterator[_Loss]:
    position = 2
    while (found := _JPEG_MARKER.search(data, position)) is not None:
        position, code = found.end(), data[found.end() - 1]
        if code == _JPEG_END:
            break
        size = int.from_bytes(data[position : position + 2], "big")
        start = data[position + 2 : position + 2 + min(size, 64)]
        if code == _JPEG_COMMENT:
            yield "comments are", True
        elif code not in _JPEG_NEEDED and not start.startswith(_JPEG_SEGMENTS.get(code, ())):
            name = f"APP{code - 0xE0}" if 0xE0 <= code < 0xF0 else f"{code:02X}"
            yield f"JPEG segment {name} is", code == _JPEG_PHOTOSHOP
        position += size
    yield from _behind(data, position)


def _behind(data: mmap.mmap, position: int) -> Iterator[_Loss]:
    """What follows the picture: the film of a motion photo, another picture."""
    count = len(data[position:].strip(b"\0"))
    if count:
        yield f"{count} bytes behind the picture are", False


def _is_plain_pnm(image: Image.Image, data: mmap.mmap) -> bool:
    """Whether there are just pixels, and neither comments nor a second picture."""
    codec, _, offset, _ = getattr(image, "tile")[0]  # noqa: B009 - Pillow's types don't know it
    width, height = image.size
    size = offset + width * height * len(image.getbands())
    if image.mode not in ("L", "RGB") or codec != "raw":
        return False
    return len(data) == size and b"#" not in data[:offset]
