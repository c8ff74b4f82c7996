"""A second decoder, written from docs/FORMAT.md alone: a file or archive and its model -> the latent symbols.

It shares nothing with the tool (no ``codec_cli``, no ``constriction``) and prefers plain integers to speed:
if it agrees with the tool, the document says everything that a decoder has to know. Section numbers are
those of docs/FORMAT.md. Run it to see a file laid open::

    python tests/independent_decoder.py FILE MODEL_FOLDER
"""

import bisect
import hashlib
import json
import sys
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np

MAGIC, ARCHIVE_MAGIC = b"\xc0\xdc", b"\xc0\xda"
ONE_TILE, TILES = VERSIONS = 1, 2
ARCHIVE_VERSION = 1
SMALLEST_FILE, SMALLEST_ARCHIVE = 16, 17
MAX_COUNT = 2**24
MAX_NAME = 255
NAMES = 2
MAX_SIDE = 2**24
MAX_METADATA = 2**24
MAX_PIXELS = 2**28  # a reader's own choice, like its default in the tool
GRAY, ALPHA, METADATA = 1, 2, 4
END, ICC, EXIF, ALPHA_PLANE = 0, 1, 2, 3
TILE = 64
WORD, STATE = 2**32, 2**64
SYMBOL_MIN, SYMBOL_MAX = -(2**15), 2**15 - 1
FINGERPRINT_FIELDS = (
    "kind", "stride", "channels", "latent_channels", "levels", "trained_levels", "groups", "synthesis_halo",
)  # fmt: skip

Header = namedtuple("Header", "fingerprint level flags width height")
ArchiveHeader = namedtuple("ArchiveHeader", (*Header._fields, "count"))
Part = namedtuple("Part", "start stop meaning")  # of a file, for people who read it
Table = namedtuple("Table", "offset lefts")  # lefts: the left edge of each entry, and 2^24


class RefusedError(Exception):
    """What FORMAT.md says must be refused."""


def require(condition, problem):
    if not condition:
        raise RefusedError(problem)


# Section 2: the container.


class Bytes:
    """Reads a file's body from front to back, and notes what each part was."""

    def __init__(self, data):
        self.data, self.position, self.parts = data, 0, []

    def take(self, count, meaning):
        require(count <= len(self.data) - self.position, f"{meaning}: the file ends too early")
        start, self.position = self.position, self.position + count
        self.parts.append(Part(start, self.position, meaning))
        return self.data[start : self.position]

    def byte(self, meaning):
        return self.take(1, meaning)[0]

    def varint(self, meaning):
        start, value, shift = self.position, 0, 0
        while True:
            byte = self.take(1, meaning)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            require(shift < 35, f"{meaning}: more than 5 bytes")
        require(byte or shift == 7, f"{meaning}: not the shortest form")
        require(value < 2**32, f"{meaning}: 2^32 or more")
        del self.parts[-(self.position - start) :]
        self.parts.append(Part(start, self.position, f"{meaning}: {value}"))
        return value


def inflated(stream):
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(stream, MAX_METADATA + 1)
    except zlib.error:
        raise RefusedError("not a zlib stream") from None
    require(len(raw) <= MAX_METADATA, "metadata too large")
    require(inflater.eof and not inflater.unused_data, "not exactly one zlib stream")
    return raw


def read_container(data, stride, max_pixels=MAX_PIXELS):
    """Returns the header, the sections (by type), the tiles' segments and all parts of the file."""
    require(len(data) >= SMALLEST_FILE, "too short")
    require(data[:2] == MAGIC, "wrong magic")
    require(data[2] in VERSIONS, "another version")
    require(int.from_bytes(data[-4:], "little") == zlib.crc32(data[:-4]), "wrong checksum")
    body = Bytes(data[:-4])
    body.take(2, "magic")
    body.byte("version")
    fingerprint = body.take(4, "model fingerprint")
    level = body.byte("level")
    flags = body.byte("flags")
    require(flags < 8, "unknown flags")
    width, height = body.varint("width"), body.varint("height")
    require(1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE, "impossible size")
    require(width * height <= max_pixels, "more pixels than this reader takes")

    sections, last = {}, 0
    while flags & METADATA:
        kind = body.byte("section type")
        if kind == END:
            break
        require(last < kind <= ALPHA_PLANE, "unknown section, or out of order")
        require(kind != ALPHA_PLANE or flags & ALPHA, "alpha plane without alpha")
        stored = body.take(body.varint("section length"), "section")
        sections[kind] = stored if kind == ALPHA_PLANE else inflated(stored)
        last = kind
    require(bool(sections) == bool(flags & METADATA), "metadata without sections")

    side = TILE * stride
    tiles = -(-width // side) * -(-height // side)
    if data[2] == ONE_TILE:
        segments = [body.take(body.varint("tile length"), "tile") for _ in range(tiles)]
    else:
        segments = read_tiles(body, tiles)
    require(body.position == len(body.data), "bytes too many")
    parts = [*body.parts, Part(len(data) - 4, len(data), "CRC-32")]
    return Header(fingerprint, level, flags, width, height), sections, segments, parts


def read_tiles(body, tiles):
    """The segments of a file of version 2, each checked."""
    require(tiles > 1, "one tile in version 2")
    require(tiles * 5 <= len(body.data) - body.position, "more tiles than bytes")
    table = [(body.varint("tile length"), body.take(4, "CRC-32 of a tile")) for _ in range(tiles)]
    head = (zlib.crc32(body.data[: body.position]) ^ 0xFFFFFFFF).to_bytes(4, "little")
    require(body.take(4, "inverted CRC-32 of the head") == head, "wrong checksum of the head")
    segments = [body.take(length, "tile") for length, _ in table]
    for segment, (_, expected) in zip(segments, table, strict=True):
        require(zlib.crc32(segment).to_bytes(4, "little") == expected, "wrong checksum of a tile")
    return segments


# Section 11: archives.


def read_archive(data, stride, max_pixels=MAX_PIXELS):
    """Returns the header, the names, the segments of every image and all parts of the archive."""
    require(len(data) >= SMALLEST_ARCHIVE, "too short")
    require(data[:2] == ARCHIVE_MAGIC, "wrong magic")
    require(data[2] == ARCHIVE_VERSION, "another version")
    require(int.from_bytes(data[-4:], "little") == zlib.crc32(data[:-4]), "wrong checksum")
    body = Bytes(data[:-4])
    body.take(2, "magic")
    body.byte("version")
    fingerprint = body.take(4, "model fingerprint")
    level = body.byte("level")
    flags = body.byte("flags")
    require(flags < 4, "unknown flags")
    width, height = body.varint("width"), body.varint("height")
    require(1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE, "impossible size")
    count = body.varint("number of images")
    require(1 <= count <= MAX_COUNT, "impossible number of images")
    require(width * height * count <= max_pixels, "more pixels than this reader takes")
    if flags & NAMES:
        names = read_names(body.take(body.varint("length of the names"), "names"), count)
    else:
        digits = max(5, len(str(count - 1)))
        names = [str(i).zfill(digits) for i in range(count)]

    side = TILE * stride
    tiles = -(-width // side) * -(-height // side)
    require(tiles * count <= len(body.data) - body.position, "more segments than bytes")
    lengths = [[body.varint(f"image {i}: length of a segment") for _ in range(tiles)] for i in range(count)]
    require(sum(map(sum, lengths)) == len(body.data) - body.position, "the lengths don't add up")
    images = [[body.take(n, f"image {i}: segment") for n in lengths[i]] for i in range(count)]
    parts = [*body.parts, Part(len(data) - 4, len(data), "CRC-32")]
    return ArchiveHeader(fingerprint, level, flags, width, height, count), names, images, parts


def read_names(stream, count):
    raw = inflated(stream)
    require(raw.count(0) == count - 1, "not a name for each image")
    names = raw.split(b"\0")
    require(len(set(names)) == count, "a name comes twice")
    for name in names:
        require(1 <= len(name) <= MAX_NAME and name not in (b".", b".."), "not a name")
        require(not any(byte < 0x20 or byte in b"\x7f/\\" for byte in name), "not a name")
    try:
        return [name.decode("utf-8", "strict") for name in names]
    except UnicodeDecodeError:
        raise RefusedError("a name is no UTF-8") from None


# Section 3: the model folder.


def fingerprint(folder):
    """SHA-256 of what decoding depends on; a compressed file carries its first four bytes."""
    facts = json.loads((folder / "model.json").read_text())
    values = json.dumps([facts[name] for name in FINGERPRINT_FIELDS], separators=(",", ":"))
    message = b"codec-model-1\0" + values.encode()
    arrays = load_arrays(folder)
    for name in sorted(arrays):
        array = arrays[name]
        sizes = "".join(f"{size}, " for size in array.shape)
        sizes = sizes[:-1] if array.ndim == 1 else sizes[:-2]
        message += f"\0{name}\0{array.dtype.str}\0({sizes})\0".encode() + array.tobytes()
    message += b"\0synthesis\0" + (folder / "synthesis.tflite").read_bytes()
    return hashlib.sha256(message).digest()


def load_arrays(folder):
    with np.load(folder / "tables.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def tables(arrays, prefix, first=0, count=None):
    """The tables number ``first`` to ``first + count`` of a set, ready for the range decoder (section 5)."""
    offsets, lengths, counts = (
        arrays[f"{prefix}/{part}"].tolist() for part in ("offsets", "lengths", "counts")
    )
    out, start = [], 0
    for i, (offset, n) in enumerate(zip(offsets, lengths, strict=True)):
        if i >= first and (count is None or i < first + count):
            out.append(Table(offset, left_edges(counts[start : start + n])))
        start += n
    return out


def left_edges(counts):
    n, before, lefts = len(counts), 0, []
    for i, count in enumerate(counts):
        lefts.append((before * (2**24 - n) >> 16) + i)
        before += count
    require(before == 2**16, "malformed table")
    return [*lefts, 2**24]


# Section 5: the range coder.


class RangeDecoder:
    def __init__(self, segment):
        self.trimmed = not segment.endswith(b"\0")
        segment += bytes(-len(segment) % 4)
        self.words = [int.from_bytes(segment[i : i + 4], "little") for i in range(0, len(segment), 4)]
        self.next = 0
        self.lower, self.range = 0, STATE - 1
        self.point = self.word() << 32
        self.point |= self.word()

    def word(self):
        self.next += 1
        return self.words[self.next - 1] if self.next <= len(self.words) else 0

    def get(self, lefts):
        scale = self.range >> 24
        quantile = (self.point - self.lower) % STATE // scale
        require(quantile < 2**24, "no encoder writes this")
        entry = bisect.bisect_right(lefts, quantile) - 1
        self.lower = (self.lower + scale * lefts[entry]) % STATE
        self.range = scale * (lefts[entry + 1] - lefts[entry])
        if self.range < WORD:
            self.range <<= 32
            self.lower = (self.lower << 32) % STATE
            self.point = (self.point << 32) % STATE | self.word()
        return entry

    def finish(self):
        used_up = len(self.words) <= self.next and self.point % WORD == 0
        require(self.trimmed and used_up, "the segment is longer than what was encoded")
        require((self.point - self.lower) % STATE < WORD, "the segment ends in another way than it should")


class RangeEncoder:
    """The other direction: not needed to decode, but it says what a segment is."""

    def __init__(self):
        self.words, self.lower, self.range = [], 0, STATE - 1

    def put(self, lefts, entry):
        scale = self.range >> 24
        self.add(scale * lefts[entry])
        self.range = scale * (lefts[entry + 1] - lefts[entry])
        if self.range < WORD:
            self.words.append(self.lower >> 32)
            self.lower = (self.lower << 32) % STATE
            self.range <<= 32

    def add(self, amount):
        carry, self.lower = divmod(self.lower + amount, STATE)
        if carry:
            i = len(self.words) - 1
            while self.words[i] == WORD - 1:
                self.words[i] = 0
                i -= 1
            self.words[i] += 1

    def finish(self):
        self.add(WORD - 1)
        words = [*self.words, self.lower >> 32]
        return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")


ONE_BYTE = left_edges([256] * 256)


def decode_pass(decoder, choices, index, centre):
    """Section 5.4: the symbols of one pass, table by table, then what escaped."""
    places = {table: [] for table in sorted(set(index))}
    for place, table in enumerate(index):
        places[table].append(place)
    entries = [0] * len(index)
    for table in places:
        for place in places[table]:
            entries[place] = decoder.get(choices[table].lefts)
    symbols = []
    for place, entry in enumerate(entries):
        table = choices[index[place]]
        if entry == len(table.lefts) - 2:
            high = decoder.get(ONE_BYTE)
            symbols.append((high << 8) + decoder.get(ONE_BYTE) + SYMBOL_MIN)
        else:
            symbols.append(table.offset + entry + centre[place])
    require(all(SYMBOL_MIN <= symbol <= SYMBOL_MAX for symbol in symbols), "a symbol is out of range")
    return symbols


# Section 6: the two kinds of model.


class FactorizedModel:
    def __init__(self, facts, arrays, level):
        self.channels = facts["latent_channels"]
        self.first = tables(arrays, "first", level * self.channels, self.channels)

    def decode(self, segment, height, width):
        decoder = RangeDecoder(segment)
        index = list(range(self.channels)) * (height * width)
        symbols = decode_pass(decoder, self.first, index, [0] * len(index))
        decoder.finish()
        return np.array(symbols, np.int64).reshape(height, width, self.channels)


class ContextModel:
    def __init__(self, facts, arrays, level):
        self.groups, self.arrays, self.level = facts["groups"], arrays, level
        self.first = tables(arrays, "first", level * self.groups[0], self.groups[0])
        self.bank = tables(arrays, "bank")

    def decode(self, segment, height, width):
        decoder = RangeDecoder(segment)
        rows, columns = np.mgrid[:height, :width]
        odd = (rows + columns) % 2
        known = [np.zeros((height, width, size), np.int64) for size in self.groups]
        for g, size in enumerate(self.groups):
            for h in (0, 1):
                places = odd == h
                count = int(places.sum())
                if not count:
                    continue
                if (g, h) == (0, 0):
                    choices, index, centre = self.first, list(range(size)) * count, [0] * (size * count)
                else:
                    choices = self.bank
                    index, centre = self.predict(g, h, self.neighbourhoods(known, g, h)[places])
                symbols = decode_pass(decoder, choices, index, centre)
                known[g][places] = np.array(symbols).reshape(count, size)
        decoder.finish()
        return np.concatenate(known, 2)

    def neighbourhoods(self, known, g, h):
        """The inputs of pass (g, h) at every position, int64 (height, width, inputs)."""
        padded = []
        for symbols in known[: g + 1]:
            clipped = np.clip(symbols, -255, 255)
            magnitude = self.arrays["magnitude"].astype(np.int64)[abs(clipped)]
            padded.append(np.pad(np.concatenate([clipped, magnitude], 2), ((1, 1), (1, 1), (0, 0))))
        height, width = known[0].shape[:2]
        parts = []
        for dy in (0, 1, 2):
            for dx in (0, 1, 2):
                parts += [plane[dy : dy + height, dx : dx + width] for plane in padded[:g]]
        if h == 1:
            for dy, dx in ((0, 1), (1, 0), (1, 2), (2, 1)):
                parts.append(padded[g][dy : dy + height, dx : dx + width])
        return np.concatenate(parts, 2)

    def predict(self, g, h, values):
        """Table and centre of every symbol of pass (g, h), from the inputs, int64 (positions, inputs)."""
        for i in range(3):
            kernel, bias, shift = (
                self.arrays[f"pass-{g}-{h}/layer{i}/{part}"].astype(np.int64)
                for part in ("kernel", "bias", "shift")
            )
            values = (values @ kernel + bias[self.level]) >> shift  # an arithmetic shift: rounds down
            if i < 2:
                values = np.clip(values, 0, 255)
        size = self.groups[g]
        mean = np.clip(values[:, :size], -4096, 4095)
        scale = np.clip(values[:, size:], 0, len(self.bank) // 8 - 1)
        return (8 * scale + (mean & 7)).reshape(-1).tolist(), (mean >> 3).reshape(-1).tolist()


# Section 4: the grid of tiles.


def tile_grid(width, height, stride):
    """(top, left, bottom, right) of every tile in latent positions, in the order of the file."""
    rows, columns = -(-height // stride), -(-width // stride)
    return [
        (top, left, min(top + TILE, rows), min(left + TILE, columns))
        for top in range(0, rows, TILE)
        for left in range(0, columns, TILE)
    ]


def decode(data, folder):
    """The symbols of every tile, int64 (height, width, latent_channels)."""
    stride = json.loads((folder / "model.json").read_text())["stride"]
    header, _, segments, _ = read_container(data, stride)
    return decode_image(header, segments, folder)


def decode_archive(data, folder, only=None):
    """For every image (or those of the indices ``only``) the symbols of every tile."""
    stride = json.loads((folder / "model.json").read_text())["stride"]
    header, _, images, _ = read_archive(data, stride)
    chosen = range(header.count) if only is None else only
    return [decode_image(header, images[i], folder) for i in chosen]


def decode_image(header, segments, folder):
    facts = json.loads((folder / "model.json").read_text())
    require(header.fingerprint == bytes.fromhex(facts["fingerprint"])[:4], "another model")
    require(header.level < facts["levels"], "the model has no such level")
    kind = {"factorized": FactorizedModel, "context": ContextModel}[facts["kind"]]
    model = kind(facts, load_arrays(folder), header.level)
    tiles = tile_grid(header.width, header.height, facts["stride"])
    return [
        model.decode(segment, bottom - top, right - left)
        for segment, (top, left, bottom, right) in zip(segments, tiles, strict=True)
    ]


def describe(data, folder):
    """A file's or archive's parts and symbols as lines of text."""
    stride = json.loads((folder / "model.json").read_text())["stride"]
    is_archive = data[:2] == ARCHIVE_MAGIC
    header, _, _, parts = (read_archive if is_archive else read_container)(data, stride)
    lines = []
    for part in parts:
        for start in range(part.start, max(part.stop, part.start + 1), 16):
            hexadecimal = data[start : min(start + 16, part.stop)].hex(" ")
            lines.append(
                f"{start:04x}  {hexadecimal:<47}  {part.meaning if start == part.start else ''}".rstrip()
            )
    tiles = tile_grid(header.width, header.height, stride)
    images = decode_archive(data, folder) if is_archive else [decode(data, folder)]
    for i, image in enumerate(images):
        start = f"image {i}, " if is_archive else ""
        for (top, left, *_), tile in zip(tiles, image, strict=True):
            for y, x in np.ndindex(tile.shape[:2]):
                lines.append(f"{start}position ({top + y}, {left + x}): {' '.join(map(str, tile[y, x]))}")
    return lines


if __name__ == "__main__":
    print("\n".join(describe(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]))))
