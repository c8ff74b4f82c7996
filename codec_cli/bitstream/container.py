"""The file format: a header, optional metadata, one segment per tile and a CRC-32.

Conventions and the care for hostile bytes are those of :mod:`codec_cli.bitstream.wire`. A file is, in this
order:

* magic (2 bytes ``C0 DC``), version (1), model fingerprint (4), quality level (1), flags (1);
* width and height, two varints;
* with flag bit 2: sections of type (1), length (varint) and bytes, types rising, closed by type 0;
* version 1: for each tile in raster order: length (varint) and the bytes of the range coder;
* version 2: for each tile its length (varint) and the CRC-32 of its bytes (4), the inverted CRC-32 of all of
  the above (4), and then the bytes of all tiles;
* the CRC-32 of all of the above (4).

Version 1 is written where there is one tile, version 2 where there are several: there damage is confined to
a tile (:mod:`codec_cli.salvage`), and one tile is found without reading the others. Earlier releases wrote
version 1 in any case.
"""

import struct
import zlib
from dataclasses import dataclass

from codec_cli.bitstream.wire import CRC_SIZE, MAX_METADATA, Reader, crc, inflate, require_match, varint
from codec_cli.errors import FormatError, LimitError, VersionError

MAGIC = b"\xc0\xdc"
VERSION_ONE_TILE, VERSION_TILES = 1, 2
VERSION = VERSION_TILES
"""The highest that we read."""
FINGERPRINT_SIZE = 4
MAX_DIMENSION = 1 << 24
FLAG_GRAY, FLAG_ALPHA, FLAG_METADATA = 1, 2, 4
SECTION_END, SECTION_ICC, SECTION_EXIF, SECTION_ALPHA = 0, 1, 2, 3
SECTION_NAMES = {SECTION_ICC: "icc", SECTION_EXIF: "exif", SECTION_ALPHA: "alpha"}

_FIXED = struct.Struct(f"<2sB{FINGERPRINT_SIZE}sBB")  # magic, version, fingerprint, level, flags
HEADER_MAX_SIZE = _FIXED.size + 4 + 4  # MAX_DIMENSION is a varint of 4 bytes
MIN_SIZE = _FIXED.size + 1 + 1 + 1 + CRC_SIZE  # width, height and one empty tile


@dataclass(frozen=True)
class Header:
    """What a decoder has to know before it can load a model.

    Attributes:
        fingerprint: The 4 bytes that identify the model.
        level: Index of the model's quality level, 0 to 255.
        gray: The image has one channel; otherwise it is R'G'B'.
        alpha: The image has an alpha plane.
        width: Pixels per row.
        height: Rows.
    """

    fingerprint: bytes
    level: int
    gray: bool
    alpha: bool
    width: int
    height: int


@dataclass(frozen=True)
class Metadata:
    """What a file holds beside the colors; ``None`` where there is nothing.

    Attributes:
        icc: The ICC profile.
        exif: The EXIF block.
        alpha_png: The alpha plane as an 8-bit grayscale PNG file, not checked here. ``None`` in an image
            with alpha means that the plane is opaque (all 255).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    alpha_png: bytes | None = None


@dataclass(frozen=True)
class Container:
    """The content of one file.

    Attributes:
        header: Size and kind of the image, and its model.
        metadata: ICC profile, EXIF and alpha plane.
        tiles: The range coder's segment for each tile, in raster order.
    """

    header: Header
    metadata: Metadata
    tiles: tuple[bytes, ...]


def tile_count(width: int, height: int, tile_pixels: int) -> int:
    """Return how many square tiles of side ``tile_pixels`` cover an image."""
    if tile_pixels < 1:
        raise ValueError(f"tile_pixels must be at least 1, got {tile_pixels}")
    return -(-width // tile_pixels) * -(-height // tile_pixels)


def serialize(container: Container, tile_pixels: int, version: int | None = None) -> bytes:
    """Write a container as the bytes of a file.

    Args:
        container: What to write.
        tile_pixels: Side of a tile in pixels.
        version: Of the format; by default 1 for one tile and 2 for several. 1 does for any number: so wrote
            earlier releases.

    Raises:
        ValueError: The container can't be written, or not so that it could be read again.
    """
    _check(container, tile_pixels)
    usual = VERSION_ONE_TILE if len(container.tiles) == 1 else VERSION_TILES
    version = usual if version is None else version
    if version not in (usual, VERSION_ONE_TILE):
        raise ValueError(f"version {version} does not fit {len(container.tiles)} tiles")
    header, metadata = container.header, container.metadata
    sections = b""
    for kind, raw in enumerate((metadata.icc, metadata.exif, metadata.alpha_png), SECTION_ICC):
        if raw is not None:
            stored = raw if kind == SECTION_ALPHA else zlib.compress(raw, 9)
            sections += bytes([kind]) + varint(len(stored)) + stored
    if sections:
        sections += bytes([SECTION_END])
    flags = FLAG_GRAY * bool(header.gray) | FLAG_ALPHA * bool(header.alpha) | FLAG_METADATA * bool(sections)
    start = _FIXED.pack(MAGIC, version, header.fingerprint, header.level, flags)
    head = b"".join([start, varint(header.width), varint(header.height), sections])
    if version == VERSION_TILES:
        head += b"".join(varint(len(tile)) + crc(tile) for tile in container.tiles)
        body = b"".join([head, head_sum(head), *container.tiles])
    else:
        body = b"".join([head, *(part for tile in container.tiles for part in (varint(len(tile)), tile))])
    return body + crc(body)


def peek(data: bytes) -> Header:
    """Read the header alone, to find the model; the checksum is not looked at.

    The first :data:`HEADER_MAX_SIZE` bytes of a file are enough.

    Raises:
        FormatError: This is no file of ours, or its header is damaged.
        VersionError: A later version of the format.
    """
    _check_start(data)
    return _read_header(Reader(data))[0]


def head_sum(head: bytes) -> bytes:
    """The checksum after the table of version 2: a file that is cut there must not look like a whole one."""
    return bytes(byte ^ 0xFF for byte in crc(head))


def version_of(data: bytes) -> int:
    """The format's version, as a file says; nothing is checked."""
    return data[len(MAGIC)]


def check_sum(data: bytes) -> None:
    """Refuse what is no file of ours or does not match its checksum; raises as :func:`parse`."""
    _check_start(data)
    require_match(data, "file")


def parse(data: bytes, tile_pixels: int, max_pixels: int) -> Container:
    """Read a whole file.

    Args:
        data: All bytes of the file.
        tile_pixels: Side of a tile in pixels.
        max_pixels: The most pixels that the image may claim to have.

    Raises:
        FormatError: This is no file of ours, or it is damaged.
        VersionError: A later version of the format.
        LimitError: The image is larger than ``max_pixels``.
    """
    return _read(data, tile_pixels, max_pixels)[0]


def read_start(reader: Reader, max_pixels: int, lost: list[str]) -> Metadata:
    """Read what precedes the tiles of a damaged file, and leave out sections that do not inflate.

    Args:
        reader: At the start of the file; afterwards at the tiles.
        max_pixels: The most pixels that the image may claim to have.
        lost: Gets a line for each section that is left out.

    Raises:
        FormatError: The tiles can't be found.
        LimitError: The image is larger than ``max_pixels``.
    """
    header, has_sections = _read_header(reader)
    _check_pixels(header, max_pixels)
    return _read_sections(reader, header.alpha, {}, lost) if has_sections else Metadata()


def layout(data: bytes, tile_pixels: int, max_pixels: int) -> dict[str, int]:
    """Count the bytes of each part of a file; takes and raises the same as :func:`parse`.

    The keys are ``header``, the :data:`SECTION_NAMES` that are there (each with its type and length, the
    last one also with the closing byte), ``tile_framing``, ``payload``, ``crc`` and their sum ``total``.
    """
    return _read(data, tile_pixels, max_pixels)[1]


def _check(container: Container, tile_pixels: int) -> None:
    header, metadata = container.header, container.metadata
    tiles, expected = len(container.tiles), tile_count(header.width, header.height, tile_pixels)
    sides = header.width, header.height
    longest = max(len(raw or b"") for raw in (metadata.icc, metadata.exif))
    for valid, problem in (
        (len(header.fingerprint) == FINGERPRINT_SIZE, f"a fingerprint has {FINGERPRINT_SIZE} bytes"),
        (0 <= header.level <= 255, f"level {header.level} is not one byte"),
        (1 <= min(sides) <= max(sides) <= MAX_DIMENSION, f"{sides[0]} x {sides[1]} is no possible size"),
        (header.alpha or metadata.alpha_png is None, "an alpha plane in an image without alpha"),
        (longest <= MAX_METADATA, f"ICC profile or EXIF has {longest} bytes, more than {MAX_METADATA}"),
        (tiles == expected, f"{tiles} tiles in an image of {expected}"),
    ):
        if not valid:
            raise ValueError(problem)


def _check_start(data: bytes) -> None:
    """Refuse what is no file of ours, or not one of this version."""
    if len(data) < MIN_SIZE:
        raise FormatError(f"not a codec file, or cut short (only {len(data)} bytes)")
    if not data.startswith(MAGIC):
        raise FormatError("not a codec file (wrong magic bytes)")
    version = version_of(data)
    if version > VERSION:
        raise VersionError(f"format {version} was written by a later version of codec; upgrade")
    if version < VERSION_ONE_TILE:
        raise FormatError(f"damaged: there is no format version {version}")


def _read_header(reader: Reader) -> tuple[Header, bool]:
    """Return the header and whether sections follow it."""
    _, _, fingerprint, level, flags = _FIXED.unpack(reader.take(_FIXED.size, "the header"))
    if flags & ~(FLAG_GRAY | FLAG_ALPHA | FLAG_METADATA):
        raise FormatError(f"damaged: unknown flags 0x{flags:02x}")
    width, height = reader.varint("the width"), reader.varint("the height")
    if not 1 <= min(width, height) <= max(width, height) <= MAX_DIMENSION:
        raise FormatError(f"damaged: the size {width} x {height} is not possible")
    gray, alpha, has_sections = (bool(flags & bit) for bit in (FLAG_GRAY, FLAG_ALPHA, FLAG_METADATA))
    return Header(fingerprint, level, gray, alpha, width, height), has_sections


def _read(data: bytes, tile_pixels: int, max_pixels: int) -> tuple[Container, dict[str, int]]:
    check_sum(data)
    body = data[:-CRC_SIZE]
    reader = Reader(body)
    header, has_sections = _read_header(reader)
    sizes = {"header": reader.position}
    _check_pixels(header, max_pixels)
    metadata = _read_sections(reader, header.alpha, sizes) if has_sections else Metadata()
    tiles_start = reader.position
    count = tile_count(header.width, header.height, tile_pixels)
    tiles = _read_table(reader, count) if version_of(data) == VERSION_TILES else _read_tiles(reader, count)
    if reader.left:
        raise FormatError(f"damaged: {reader.left} bytes too many after the last tile")
    payload = sum(map(len, tiles))
    sizes |= {"tile_framing": len(body) - tiles_start - payload, "payload": payload, "crc": CRC_SIZE}
    return Container(header, metadata, tiles), {**sizes, "total": len(data)}


def _check_pixels(header: Header, max_pixels: int) -> None:
    pixels = header.width * header.height
    if pixels > max_pixels:
        size = f"{header.width} x {header.height} = {pixels} pixels"
        raise LimitError(f"the image claims {size}, the limit is {max_pixels} (--max-pixels raises it)")


def _fit(reader: Reader, count: int, least: int) -> None:
    """Don't start on tiles that can't be there: each takes ``least`` bytes at least."""
    if count * least > reader.left:
        raise FormatError(f"damaged: {count} tiles do not fit the {reader.left} bytes that are left")


def _read_tiles(reader: Reader, count: int) -> tuple[bytes, ...]:
    """Version 1: each tile after its length."""
    _fit(reader, count, 1)
    return tuple([reader.take(reader.varint("a tile's length"), "a tile") for _ in range(count)])


def _read_table(reader: Reader, count: int) -> tuple[bytes, ...]:
    """Version 2: all lengths and checksums, then all tiles."""
    if count == 1:
        raise FormatError(f"damaged: one tile in a file of version {VERSION_TILES}")
    table = read_table(reader, count)
    if head_sum(reader.data[: reader.position]) != reader.take(CRC_SIZE, "the header's checksum"):
        raise FormatError("damaged: the header's checksum does not match")
    tiles = tuple([reader.take(length, "a tile") for length, _ in table])
    for number, (tile, (_, sum_)) in enumerate(zip(tiles, table, strict=True), 1):
        if crc(tile) != sum_:
            raise FormatError(f"damaged: the checksum of tile {number} does not match")
    return tiles


def read_table(reader: Reader, count: int) -> list[tuple[int, bytes]]:
    """The length and the checksum of every tile; raises FormatError where they can't be there."""
    _fit(reader, count, 1 + CRC_SIZE)
    what = "a tile's length"
    return [(reader.varint(what), reader.take(CRC_SIZE, "a tile's checksum")) for _ in range(count)]


def _read_sections(
    reader: Reader, alpha: bool, sizes: dict[str, int], lost: list[str] | None = None
) -> Metadata:
    """Read all sections and enter what each of them takes into ``sizes``.

    With ``lost``, sections that do not inflate are left out and named there.
    """
    bodies: dict[int, bytes] = {}
    last = SECTION_END
    while (kind := reader.take(1, "a section's type")[0]) != SECTION_END:
        start = reader.position - 1
        if kind not in SECTION_NAMES or kind <= last:
            raise FormatError(f"damaged: section {kind} is unknown or out of order")
        if kind == SECTION_ALPHA and not alpha:
            raise FormatError("damaged: an alpha plane in an image without alpha")
        name = SECTION_NAMES[kind]
        body = reader.take(reader.varint(f"the length of section {name}"), f"section {name}")
        try:
            bodies[kind] = body if kind == SECTION_ALPHA else inflate(body, name)
        except FormatError:
            if lost is None:
                raise
            lost.append(f"{name.upper()} is damaged and left out")
        sizes[name] = reader.position - start
        last = kind
    if last == SECTION_END:
        raise FormatError("damaged: metadata is announced, but there is none")
    sizes[SECTION_NAMES[last]] += 1  # the closing byte
    return Metadata(bodies.get(SECTION_ICC), bodies.get(SECTION_EXIF), bodies.get(SECTION_ALPHA))
