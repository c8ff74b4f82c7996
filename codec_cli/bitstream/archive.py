"""The archive format, version 1: many images of one size and mode under one header.

A file of a small image is mostly header and checksum. An archive has these once, and a byte or two for each
image: the length of its segment. Conventions and the care for hostile bytes are those of
:mod:`codec_cli.bitstream.wire`. An archive is, in this order:

* magic (2 bytes ``C0 DA``), version (1), model fingerprint (4), quality level (1), flags (1);
* width and height of every image and the number of images, three varints;
* with flag bit 1: length (varint) and bytes of a zlib stream with the images' names;
* the length of every segment, a varint each: the tiles of the first image in raster order, of the second...;
* the segments themselves, in the same order, as in the file of one image;
* the CRC-32 of all of the above (4).

All lengths precede all segments, so that one image is found without reading the others.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from codec_cli.bitstream.container import FINGERPRINT_SIZE, MAX_DIMENSION, Header, tile_count
from codec_cli.bitstream.container import MAGIC as FILE_MAGIC
from codec_cli.bitstream.wire import CRC_SIZE, MAX_METADATA, Reader, crc, inflate, require_match, varint
from codec_cli.errors import FormatError, LimitError, VersionError

MAGIC = b"\xc0\xda"
VERSION = 1
MAX_COUNT = 1 << 24
MAX_NAME = 255  # bytes: what file systems take
FLAG_GRAY, FLAG_NAMES = 1, 2
SEPARATOR = "\0"

_FIXED = struct.Struct(f"<2sB{FINGERPRINT_SIZE}sBB")  # magic, version, fingerprint, level, flags
HEADER_MAX_SIZE = _FIXED.size + 4 + 4 + 4  # MAX_DIMENSION and MAX_COUNT are varints of 4 bytes
MIN_SIZE = _FIXED.size + 1 + 1 + 1 + 1 + CRC_SIZE  # width, height, count, and one empty segment

_UNFIT = re.compile(r"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True)
class Archive:
    """The content of an archive.

    Attributes:
        header: What a file of each of the images would have as its header; never with alpha.
        names: Of the images, in their order, each good for :func:`check_names`; None for numbers instead.
        images: For every image the segments of its tiles, in raster order.
    """

    header: Header
    names: tuple[str, ...] | None
    images: tuple[tuple[bytes, ...], ...]


def is_archive(data: bytes) -> bool:
    """Whether bytes begin like an archive, of whatever version."""
    return data.startswith(MAGIC)


def numbered(count: int) -> tuple[str, ...]:
    """The names of images that have none: 00000, 00001 and so on."""
    digits = max(5, len(str(count - 1)))
    return tuple([f"{index:0{digits}}" for index in range(count)])


def check_names(names: Sequence[str]) -> None:
    """Makes sure that names can stand in an archive, and be the names of files in one folder.

    Raises:
        ValueError: A name is empty, ``.`` or ``..``, has a path separator or a control character, can't be
            written as UTF-8 or not in 255 bytes, or comes twice.
    """
    seen: set[str] = set()
    for name in names:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise ValueError(f"the name {name!r} is no text") from None
        if not 1 <= size <= MAX_NAME or name in (".", "..") or _UNFIT.search(name):
            raise ValueError(f"{name!r} is no possible name")
        if name in seen:
            raise ValueError(f"the name {name!r} comes twice")
        seen.add(name)


def serialize(archive: Archive, tile_pixels: int) -> bytes:
    """Write an archive as the bytes of a file.

    Args:
        archive: What to write.
        tile_pixels: Side of a tile in pixels.

    Raises:
        ValueError: The archive can't be written, or not so that it could be read again.
    """
    _check(archive, tile_pixels)
    header, names = archive.header, b""
    if archive.names is not None:
        stream = zlib.compress(SEPARATOR.join(archive.names).encode(), 9)
        names = varint(len(stream)) + stream
    flags = FLAG_GRAY * bool(header.gray) | FLAG_NAMES * bool(names)
    start = _FIXED.pack(MAGIC, VERSION, header.fingerprint, header.level, flags)
    numbers = (header.width, header.height, len(archive.images))
    segments = [segment for image in archive.images for segment in image]
    lengths = [varint(len(segment)) for segment in segments]
    body = b"".join([start, *map(varint, numbers), names, *lengths, *segments])
    return body + crc(body)


def peek(data: bytes) -> tuple[Header, int]:
    """Read the header of the images and their number alone; the checksum is not looked at.

    The first :data:`HEADER_MAX_SIZE` bytes of an archive are enough.

    Raises:
        FormatError: This is no archive, or its header is damaged.
        VersionError: A later version of the format.
    """
    _check_start(data)
    header, count, _ = _read_header(Reader(data))
    return header, count


def check_sum(data: bytes) -> None:
    """Refuse what is no archive or does not match its checksum; raises as :func:`parse`."""
    _check_start(data)
    require_match(data, "archive")


def parse(data: bytes, tile_pixels: int, max_pixels: int) -> Archive:
    """Read a whole archive.

    Args:
        data: All bytes of the archive.
        tile_pixels: Side of a tile in pixels.
        max_pixels: The most pixels that all images together may claim to have.

    Raises:
        FormatError: This is no archive, or it is damaged.
        VersionError: A later version of the format.
        LimitError: The images have more than ``max_pixels`` pixels.
    """
    return _read(data, tile_pixels, max_pixels)[0]


def layout(data: bytes, tile_pixels: int, max_pixels: int) -> tuple[Archive, dict[str, int]]:
    """As :func:`parse`, and count the bytes of each part of the archive.

    The keys are ``header``, ``names`` if there are any, ``lengths``, ``payload``, ``crc`` and their sum
    ``total``.
    """
    return _read(data, tile_pixels, max_pixels)


def _check(archive: Archive, tile_pixels: int) -> None:
    header, count = archive.header, len(archive.images)
    sides = header.width, header.height
    if not 1 <= min(sides) <= max(sides) <= MAX_DIMENSION:
        raise ValueError(f"{sides[0]} x {sides[1]} is no possible size")
    tiles = tile_count(*sides, tile_pixels)
    names = archive.names
    for valid, problem in (
        (len(header.fingerprint) == FINGERPRINT_SIZE, f"a fingerprint has {FINGERPRINT_SIZE} bytes"),
        (0 <= header.level <= 255, f"level {header.level} is not one byte"),
        (not header.alpha, "an archive has no alpha planes"),
        (1 <= count <= MAX_COUNT, f"{count} images are not within 1 to {MAX_COUNT}"),
        (all(len(image) == tiles for image in archive.images), f"not {tiles} tiles in every image"),
        (names is None or len(names) == count, f"not {count} names"),
    ):
        if not valid:
            raise ValueError(problem)
    if names is not None:
        check_names(names)
        size = len(SEPARATOR.join(names).encode())
        if size > MAX_METADATA:
            raise ValueError(f"the names have {size} bytes, more than {MAX_METADATA}")


def _check_start(data: bytes) -> None:
    """Refuse what is no archive, or not one of this version."""
    if len(data) < MIN_SIZE:
        raise FormatError(f"not a codec archive, or cut short (only {len(data)} bytes)")
    if data.startswith(FILE_MAGIC):
        raise FormatError("not a codec archive, but a file of one image; use `codec decompress`")
    if not data.startswith(MAGIC):
        raise FormatError("not a codec archive (wrong magic bytes)")
    version = data[len(MAGIC)]
    if version > VERSION:
        raise VersionError(f"archive format {version} was written by a later version of codec; upgrade")
    if version < VERSION:
        raise FormatError(f"damaged: there is no archive format {version}")


def _read_header(reader: Reader) -> tuple[Header, int, bool]:
    """Return the images' header, their number, and whether names follow."""
    _, _, fingerprint, level, flags = _FIXED.unpack(reader.take(_FIXED.size, "the header"))
    if flags & ~(FLAG_GRAY | FLAG_NAMES):
        raise FormatError(f"damaged: unknown flags 0x{flags:02x}")
    width, height = reader.varint("the width"), reader.varint("the height")
    if not 1 <= min(width, height) <= max(width, height) <= MAX_DIMENSION:
        raise FormatError(f"damaged: the size {width} x {height} is not possible")
    count = reader.varint("the number of images")
    if not 1 <= count <= MAX_COUNT:
        raise FormatError(f"damaged: {count} images are not possible")
    header = Header(fingerprint, level, bool(flags & FLAG_GRAY), False, width, height)
    return header, count, bool(flags & FLAG_NAMES)


def _read(data: bytes, tile_pixels: int, max_pixels: int) -> tuple[Archive, dict[str, int]]:
    check_sum(data)
    body = data[:-CRC_SIZE]
    reader = Reader(body)
    header, count, has_names = _read_header(reader)
    sizes = {"header": reader.position}
    pixels = header.width * header.height * count
    if pixels > max_pixels:
        claim = f"{count} images of {header.width} x {header.height}, {pixels} pixels together"
        raise LimitError(f"the archive claims {claim}; the limit is {max_pixels} (--max-pixels raises it)")
    names = None
    if has_names:
        names = _read_names(reader.take(reader.varint("the length of the names"), "the names"), count)
        sizes["names"] = reader.position - sizes["header"]
    lengths_start = reader.position
    tiles = tile_count(header.width, header.height, tile_pixels)
    if tiles * count > reader.left:  # each length takes a byte at least: don't start on what can't be there
        raise FormatError(f"damaged: {tiles * count} segments do not fit the {reader.left} bytes left")
    lengths = [reader.varint("a segment's length") for _ in range(tiles * count)]
    payload = sum(lengths)
    if payload != reader.left:
        raise FormatError(f"damaged: the segments need {payload} bytes, but {reader.left} are left")
    sizes |= {"lengths": reader.position - lengths_start, "payload": payload, "crc": CRC_SIZE}
    segments = [reader.take(length, "a segment") for length in lengths]
    images = tuple([tuple(segments[i : i + tiles]) for i in range(0, len(segments), tiles)])
    return Archive(header, names, images), {**sizes, "total": len(data)}


def _read_names(stream: bytes, count: int) -> tuple[str, ...]:
    raw = inflate(stream, "names")
    if raw.count(SEPARATOR.encode()) != count - 1:  # before millions of names are taken apart
        raise FormatError(f"damaged: there are not {count} names")
    try:
        names = tuple(raw.decode().split(SEPARATOR))
        check_names(names)
    except UnicodeDecodeError:
        raise FormatError("damaged: a name is no UTF-8") from None
    except ValueError as error:
        raise FormatError(f"damaged: {error}") from None
    return names
