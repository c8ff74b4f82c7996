"""HEIC, AVIF and JPEG XL: which plugin of Pillow reads them, and what it does not pass on.

Pillow's plugins tell neither the depth of samples nor the colour space that a file names by numbers; that for
JPEG XL decodes a whole file to tell its size. So the headers are read here: the boxes of ISO/IEC 14496-12 and
23008-12, the codestream header of ISO/IEC 18181-1, and the chunk cICP of PNG.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from PIL import Image
from PIL import __version__ as _pillow_version

__all__ = ["SUFFIXES", "Facts", "load_heif", "load_jxl", "plugin_for", "read_facts"]

SUFFIXES = (".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jxl")
"""What such files are called."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JXL_CODESTREAM = b"\xff\x0a"
_JXL_BOX = b"\0\0\0\x0cJXL \r\n\x87\n"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_MAX_META = 16 << 20
_BOXES = 4096  # More are nobody's picture.


@dataclass(frozen=True)
class Facts:
    """What a file says of its picture.

    Attributes:
        kind: ``HEIC``, ``AVIF``, ``JPEG XL`` or ``PNG``.
        size: Width and height where they have to be known before the plugin sees the file, else (0, 0).
        bits: Bits per sample.
        animated: There is more than one frame, of which the plugin gives the last and says nothing.
        nclx: Colour primaries and transfer characteristics, numbers of ITU-T H.273; None if none are given.
        packed: Names of metadata that are compressed in a way that the plugin can't read.
    """

    kind: str
    size: tuple[int, int] = (0, 0)
    bits: int = 8
    animated: bool = False
    nclx: tuple[int, int] | None = None
    packed: tuple[str, ...] = ()


def load_jxl() -> None:
    """Teaches Pillow JPEG XL; raises ImportError where pillow-jxl-plugin is missing."""
    importlib.import_module("pillow_jxl")


def load_heif() -> None:
    """Teaches Pillow HEIC; raises ImportError where pillow-heif is missing."""
    plugin = importlib.import_module("pillow_heif")
    if "HEIF" not in Image.SAVE:
        plugin.register_heif_opener()


def plugin_for(kind: str) -> str:
    """Makes Pillow read a kind of file, and returns its name for the format.

    Raises:
        ValueError: That can't be; the text says what to install.
    """
    try:
        if kind == "JPEG XL":
            load_jxl()
            return "JXL"
        if kind == "HEIC":
            load_heif()
            return "HEIF"
    except ImportError as error:
        package = "pillow-heif" if kind == "HEIC" else "pillow-jxl-plugin"
        raise ValueError(f"{kind} needs the package {package}: pip install {package}") from error
    Image.init()
    if "AVIF" not in Image.SAVE:  # It says that it opens AVIF even where it was built without.
        raise ValueError(f"Pillow {_pillow_version} has no AVIF: pip install --upgrade pillow")
    return "AVIF"


def read_facts(stream: IO[bytes]) -> Facts | None:
    """The facts of a HEIC, AVIF or JPEG XL file, or of a PNG with cICP; None for all others.

    Raises:
        ValueError: The header of a JPEG XL file is cut short or none.
    """
    stream.seek(0)
    start = stream.read(64)
    if start.startswith(_PNG):
        return _png_facts(stream)
    if start.startswith(_JXL_CODESTREAM):
        return _jxl_facts(start, ())
    if start.startswith(_JXL_BOX):
        return _jxl_container(stream)
    if start[4:8] != b"ftyp":
        return None
    brands = [start[i : i + 4] for i in range(8, min(int.from_bytes(start[:4], "big"), 64), 4)]
    for kind, known in (("AVIF", _AVIF_BRANDS), ("HEIC", _HEIC_BRANDS)):
        if any(brand in known for brand in brands):
            return _heif_facts(kind, stream)
    return None


def _png_facts(stream: IO[bytes]) -> Facts | None:
    position = len(_PNG)
    for _ in range(_BOXES):
        stream.seek(position)
        header = stream.read(10)
        if len(header) < 10 or header[4:8] == b"IDAT":  # What we look for precedes the pixels.
            return None
        if header[4:8] == b"cICP":
            return Facts("PNG", nclx=(header[8], header[9]))
        position += 12 + int.from_bytes(header[:4], "big")
    return None


def _boxes(stream: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, first byte and end of the content of each box between two places of a stream."""
    for _ in range(_BOXES):
        stream.seek(start)
        header = stream.read(16)
        size, skip = int.from_bytes(header[:4], "big"), 8
        if size == 1:
            size, skip = int.from_bytes(header[8:16], "big"), 16
        stop = start + size if size else end
        if len(header) < 8 or stop > end or stop < start + skip:
            return
        yield header[4:8], start + skip, stop
        start = stop


def _heif_facts(kind: str, stream: IO[bytes]) -> Facts:
    """Of the first picture's properties: a picture of tiles has the same for all of them."""
    bits, nclx = 0, None
    places = [(0, stream.seek(0, os.SEEK_END), b"meta")]
    for start, end, wanted in places:  # Grows as we go.
        for name, first, stop in _boxes(stream, start, end):
            if name == wanted:
                skip = 4 if name == b"meta" else 0  # Its version and flags.
                following = {b"meta": b"iprp", b"iprp": b"ipco"}.get(name, b"")
                places.append((first + skip, stop, following))
                break
            if wanted or stop - first > _MAX_META:
                continue
            stream.seek(first)
            content = stream.read(stop - first)
            if name == b"colr" and content[:4] == b"nclx" and nclx is None:
                nclx = int.from_bytes(content[4:6], "big"), int.from_bytes(content[6:8], "big")
            if name == b"pixi" and not bits:
                bits = max(content[5:], default=0)
            if name == b"av1C" and len(content) > 2 and not bits:
                bits = (8, 10, 10, 12)[content[2] >> 5 & 3]
            if name == b"hvcC" and len(content) > 17 and not bits:
                bits = 8 + (content[17] & 7)
    return Facts(kind, bits=bits or 8, nclx=nclx)


def _jxl_container(stream: IO[bytes]) -> Facts:
    packed, codestream = [], b""
    for name, first, stop in _boxes(stream, 0, stream.seek(0, os.SEEK_END)):
        stream.seek(first)
        if name in (b"jxlc", b"jxlp") and not codestream:
            content = stream.read(min(stop - first, 64))
            codestream = content[4:] if name == b"jxlp" else content
        elif name == b"brob":
            packed.append({b"Exif": "EXIF", b"xml ": "XMP"}.get(stream.read(4), ""))
    return _jxl_facts(codestream, tuple(filter(None, packed)))


class _Bits:
    """Bits of a JPEG XL codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._rest, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header is cut short")
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        self._left -= count
        return value

    def choose(self, *choices: tuple[int, int]) -> int:
        """U32 of the standard: one of four (constant, bits), the sum of both."""
        constant, bits = choices[self.take(2)]
        return constant + self.take(bits)


def _jxl_size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if small else bits.choose((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return side(), height
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * over // under, height


def _jxl_facts(codestream: bytes, packed: tuple[str, ...]) -> Facts:
    if not codestream.startswith(_JXL_CODESTREAM):
        raise ValueError("no picture in a JPEG XL file")
    bits = _Bits(codestream[2:])
    size, depth, animated = _jxl_size(bits), 8, False
    if not bits.take(1):  # Else the defaults: 8 bits, upright, one frame.
        if bits.take(1):
            turned = bits.take(3) >= 4
            size = size[::-1] if turned else size
            if bits.take(1):
                _jxl_size(bits)  # Of the screen it was made for.
            if bits.take(1):  # A preview, whose header ends our reading: no encoder writes one.
                return Facts("JPEG XL", size, packed=packed)
            animated = bool(bits.take(1))
            if animated:
                bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
                bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
                bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
                bits.take(1)
        floating = bits.take(1)
        depth = bits.choose(
            *(((32, 0), (16, 0), (24, 0)) if floating else ((8, 0), (10, 0), (12, 0))), (1, 6)
        )
    return Facts("JPEG XL", size, depth, animated, packed=packed)
