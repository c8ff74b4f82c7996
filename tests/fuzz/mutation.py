"""Changes files so that they stay nearly right: parts are changed, lengths and check sums made right again.

A random change of a file's bytes ends at its CRC-32. Here a file is taken apart, a part or a few are changed,
and it is put together with checksums that match, so that most changes get to what reads the parts.
"""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from codec_cli.bitstream import archive, container
from codec_cli.bitstream.wire import CRC_SIZE, MAX_VARINT, Reader, crc, varint
from codec_cli.errors import CodecError
from fuzz.folders import is_model, mutate_model

ByteMutator = Callable[[bytes, int], bytes]
"""Takes bytes and the most that may come back."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TILE_PIXELS = 1024  # of both models of the tests
SIDES = (1, 2, 8, 15, 16, 17, 31, 32, 33, 40, 48)
ODD_NUMBERS = (0, 127, 128, 1023, 1024, 1025, 1040, 2049, 4096, 1 << 14, 1 << 21, 1 << 24, MAX_VARINT)
HEAD = struct.Struct("<2sB4sBB")  # magic, version, fingerprint, level, flags

# For libFuzzer, and for our own engine.
DICTIONARY = (
    container.MAGIC + b"\x01",
    container.MAGIC + b"\x02",
    archive.MAGIC + b"\x01",
    PNG_SIGNATURE,
    *(b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fdAT"),
    *(b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b\x08"),
    *(varint(number) for number in ODD_NUMBERS),
    *(b"\x80\x00", b"\x80\x80\x80\x80\x10", b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff"),
    *(b"II*\x00", b"MM\x00*", b"acsp", b"PK\x03\x04", b"\x93NUMPY", b".", b"/", b"\xed\xa0\x80"),
)  # fmt: skip


def random_bytes(rng: random.Random) -> ByteMutator:
    """A mutator without a guide: a few of the changes that libFuzzer makes, too."""

    def mutate(data: bytes, limit: int) -> bytes:
        out = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
            place = rng.randrange(len(out) + 1)
            end = min(len(out), place + rng.choice((1, 2, 4, 8, 32)))
            action = rng.randrange(8)
            if action == 0 and out:
                out[place % len(out)] ^= 1 << rng.randrange(8)
            elif action == 1 and out:
                out[place % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            elif action == 2:
                out[place:end] = b""
            elif action == 3:
                out[place:place] = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
            elif action == 4:
                out[place:place] = out[place:end] * rng.choice((1, 2, 5))
            elif action == 5:
                token = rng.choice(DICTIONARY)
                out[place : place + rng.choice((0, len(token)))] = token
            elif action == 6:
                out[place:end] = bytes([rng.choice((0, 0xFF))]) * (end - place)
            else:
                del out[place:]
        return bytes(out[:limit])

    return mutate


@dataclass
class Parts:
    """A file or an archive in parts, whether they fit together or not.

    Attributes:
        head: Magic, version, fingerprint, level, flags.
        sizes: Width and height; of an archive also the number of images.
        sections: Types and bodies; of an archive its names, as one section of type 0.
        segments: Of all tiles.
    """

    head: list[bytes | int]
    sizes: list[int]
    sections: list[tuple[int, bytes]] = field(default_factory=list)
    segments: list[bytes] = field(default_factory=list)

    @property
    def packed(self) -> bool:
        """Whether this is an archive."""
        return self.head[0] == archive.MAGIC


def taken_apart(data: bytes) -> Parts | None:
    """The parts of a file or an archive, or None where it is too broken for that. Checksums do not matter."""
    reader = Reader(data[:-CRC_SIZE])
    with contextlib.suppress(CodecError):
        parts = Parts(list(HEAD.unpack(reader.take(HEAD.size, ""))), [])
        parts.sizes = [reader.varint("") for _ in range(3 if parts.packed else 2)]
        tiles = -(-parts.sizes[0] // TILE_PIXELS) * -(-parts.sizes[1] // TILE_PIXELS)
        flags = parts.head[4]
        if parts.packed:
            if flags & archive.FLAG_NAMES:
                parts.sections = [(0, reader.take(reader.varint(""), ""))]
            tiles *= parts.sizes[2]
        elif flags & container.FLAG_METADATA:
            while kind := reader.take(1, "")[0]:
                parts.sections.append((kind, reader.take(reader.varint(""), "")))
        if tiles > reader.left:
            return None
        if parts.packed:
            lengths = [reader.varint("") for _ in range(tiles)]
            parts.segments = [reader.take(length, "") for length in lengths]
        elif parts.head[1] == container.VERSION_TILES:
            lengths = [(reader.varint(""), reader.take(CRC_SIZE, ""))[0] for _ in range(tiles)]
            reader.take(CRC_SIZE, "")
            parts.segments = [reader.take(length, "") for length in lengths]
        else:
            parts.segments = [reader.take(reader.varint(""), "") for _ in range(tiles)]
        return parts
    return None


def put_together(parts: Parts) -> bytes:
    """The file of some parts, with lengths and check sums of what they are."""
    start = HEAD.pack(*parts.head) + b"".join(map(varint, parts.sizes))
    lengths = [varint(len(segment)) for segment in parts.segments]
    if parts.packed:
        names = [varint(len(body)) + body for _, body in parts.sections]
        body = b"".join([start, *names, *lengths, *parts.segments])
        return body + crc(body)
    sections = b"".join(bytes([kind]) + varint(len(body)) + body for kind, body in parts.sections)
    start += sections + b"\0" * bool(parts.sections)
    if parts.head[1] == container.VERSION_TILES:
        sums = (length + crc(segment) for length, segment in zip(lengths, parts.segments, strict=True))
        start += b"".join(sums)
        body = b"".join([start, container.head_sum(start), *parts.segments])
    else:
        pairs = (part for pair in zip(lengths, parts.segments, strict=True) for part in pair)
        body = b"".join([start, *pairs])
    return body + crc(body)


class Mutator:
    """Changes a file, an archive or a model (see :mod:`fuzz.folders`), and repairs it.

    Args:
        rng: Decides everything.
        mutate: Changes bytes; :func:`random_bytes` if none is given.
        marks: Fingerprints that there are models of; the last one's are decoded fastest, and preferred.
        seeds: Take the place of most files that are too broken to be taken apart, so that enough of the
            time goes to what decodes.
    """

    def __init__(
        self,
        rng: random.Random,
        mutate: ByteMutator | None = None,
        marks: tuple[bytes, ...] = (),
        seeds: Sequence[bytes] = (),
    ) -> None:
        self._rng, self._marks, self._seeds = rng, marks, seeds
        self._mutate = mutate or random_bytes(rng)

    def __call__(self, data: bytes, limit: int) -> bytes:
        """Something like ``data``, of at most ``limit`` bytes."""
        rng = self._rng
        if any(map(is_model, self._seeds)) and (not is_model(data) or rng.random() < 0.7):
            data = rng.choice(self._seeds)  # One change after another leaves nothing that loads.
        if is_model(data):
            return mutate_model(data, rng, self._mutate, limit)
        luck = rng.random()
        parts = taken_apart(data)
        if parts is None and self._seeds and luck > 0.25:
            parts = taken_apart(rng.choice(self._seeds))
        if parts is None or luck < 0.04:
            changed = self._mutate(data, limit)
            return changed if luck < 0.01 else changed[:-CRC_SIZE] + crc(changed[:-CRC_SIZE])
        if rng.random() < 0.75:
            self._mend(parts)
        if self._marks and rng.random() < 0.4:
            parts.head[2] = self._marks[-1]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            self._change(parts, limit)
        return put_together(parts)[:limit]

    def _mend(self, parts: Parts) -> None:
        """Makes a header possible again: what was changed before is not to hide what is changed now."""
        rng = self._rng
        if parts.head[2] not in self._marks and self._marks:
            parts.head[2] = rng.choice(self._marks)
        parts.head[3] = int(parts.head[3]) % 7
        gray = int(parts.head[4]) & 1
        if parts.packed:
            parts.head[4] = gray | archive.FLAG_NAMES * bool(parts.sections)
        else:
            parts.sections = sorted(
                {kind: (kind, body) for kind, body in parts.sections if 1 <= kind <= 3}.values()
            )
            alpha = container.FLAG_ALPHA * (
                any(kind == 3 for kind, _ in parts.sections) or int(parts.head[4]) & 2 > 0
            )
            parts.head[4] = gray | alpha | container.FLAG_METADATA * bool(parts.sections)
        parts.sizes = [size if 1 <= size <= 48 else rng.choice(SIDES) for size in parts.sizes]
        if parts.packed:
            parts.sizes[2] = min(parts.sizes[2], 4)
        several = not parts.packed and len(parts.segments) > 1
        if several:
            parts.sizes = [rng.randrange(1025, 1060), rng.choice((1, 2, 5))]
        parts.head[1] = rng.choice((1, 2)) if several else 1
        self._fill(parts)

    def _change(self, parts: Parts, limit: int) -> None:
        rng = self._rng
        if rng.random() < 0.8 and parts.segments:
            place = rng.randrange(len(parts.segments))
            parts.segments[place] = self._mutate(parts.segments[place], limit)
        elif rng.random() < 0.5 and parts.sections:
            self._change_sections(parts, limit)
        else:
            self._change_head(parts)

    def _change_head(self, parts: Parts) -> None:
        """Sizes, level, flags and so on; mostly to others that are possible."""
        rng = self._rng
        what = rng.randrange(10)
        if what < 4:
            place = rng.randrange(len(parts.sizes))
            likely = rng.random() < 0.95
            parts.sizes[place] = (
                rng.choice((1, 2, 3) if place == 2 else SIDES) if likely else rng.choice(ODD_NUMBERS)
            )
            self._fill(parts)
        elif what < 6:
            parts.head[3] = rng.randrange(7) if rng.random() < 0.9 else rng.randrange(256)
        elif what == 6:
            likely = rng.random() < 0.9 and self._marks
            parts.head[2] = rng.choice(self._marks) if likely else rng.randbytes(4)
        elif what == 7:
            parts.head[4] = rng.randrange(8) if rng.random() < 0.9 else rng.randrange(256)  # type: ignore[operator]
        elif what == 8:
            parts.head[1] = rng.choice((1, 2)) if rng.random() < 0.9 else rng.randrange(256)
            if parts.head[1] == container.VERSION_TILES and not parts.packed:  # It is for several tiles.
                parts.sizes[:2] = rng.choice(((1040, 1), (1, 1040), (1025, 3), (2049, 1)))
                self._fill(parts)
        elif parts.segments and len(parts.segments) < 64:
            place = rng.randrange(len(parts.segments))
            parts.segments[place : place + rng.randrange(2)] = rng.choices(parts.segments, k=rng.randrange(3))

    def _fill(self, parts: Parts) -> None:
        """As many segments as the sizes need, if that is not too many."""
        count = -(-parts.sizes[0] // TILE_PIXELS) * -(-parts.sizes[1] // TILE_PIXELS)
        count *= parts.sizes[2] if parts.packed else 1
        if count <= 16 and self._rng.random() < 0.95:
            more = self._rng.choices(parts.segments or [b""], k=count)
            parts.segments = (parts.segments + more)[:count]

    def _change_sections(self, parts: Parts, limit: int) -> None:
        rng = self._rng
        place = rng.randrange(len(parts.sections))
        kind, body = parts.sections[place]
        what = rng.randrange(8)
        if what == 0:
            parts.sections[place : place + 1] = [] if rng.random() < 0.5 else [(kind, body)] * 2
        elif what == 1:
            parts.sections[place] = (rng.randrange(5), body)
        elif what == 2:
            parts.sections[place] = (kind, self._mutate(body, limit))
        elif body.startswith(PNG_SIGNATURE):
            parts.sections[place] = (kind, self._change_png(body, limit))
        else:
            parts.sections[place] = (kind, self._reinflated(body, limit))

    def _reinflated(self, stream: bytes, limit: int) -> bytes:
        """A zlib stream of changed content."""
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(stream, 1 << 16)
        except zlib.error:
            return self._mutate(stream, limit)
        return zlib.compress(self._mutate(content, limit))

    def _change_png(self, png: bytes, limit: int) -> bytes:
        """A PNG with a chunk changed, added or gone, and the check sums of chunks made right."""
        rng = self._rng
        chunks, position = [], len(PNG_SIGNATURE)
        while position + 12 <= len(png):
            size = int.from_bytes(png[position : position + 4], "big")
            chunks.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + size]))
            position += size + 12
        place = rng.randrange(len(chunks)) if chunks else 0
        if chunks and rng.random() < 0.7:
            kind, body = chunks[place]
            deflated = kind == b"IDAT" and rng.random() < 0.7
            chunks[place] = (kind, self._reinflated(body, limit) if deflated else self._mutate(body, limit))
        elif chunks and rng.random() < 0.3:
            chunks[place : place + 1] = rng.choice(([], [chunks[place]] * 2))
        else:
            kind = rng.choice([token for token in DICTIONARY if len(token) == 4 and token.isalpha()])
            chunks.insert(place + 1, (kind, self._mutate(rng.choice(DICTIONARY), limit)))
        return PNG_SIGNATURE + b"".join(
            len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
            for kind, body in chunks
        )
