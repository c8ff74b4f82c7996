"""Whatever happens to a file on its way is noticed: any byte changed, any length cut. Bombs are refused."""

import re
import struct
import tracemalloc
import zlib

import pytest
from helpers import CONTEXT, FACTORIZED, GOLDEN, codec_of, golden_file, info_of, texture
from PIL import Image

from codec_cli.bitstream import archive, container
from codec_cli.codec import DEFAULT_MAX_PIXELS
from codec_cli.errors import CodecError, FormatError, LimitError, ModelError
from codec_cli.integrity import check
from codec_cli.packing import Unpacker
from codec_cli.salvage import salvage
from codec_cli.streaming import RowFile

# One of each kind: metadata and alpha, a single position, several tiles in both versions, an archive.
FILES = {
    "context-rgba-metadata": golden_file("context-rgba-metadata"),
    "factorized-1x1": golden_file("factorized-1x1"),
    "factorized-two-tiles": golden_file("factorized-two-tiles"),
    "factorized-tiles-gray": golden_file("factorized-tiles-gray"),
    "context-rgb.pack": (GOLDEN.with_name("golden-archives") / "context-rgb.pack").read_bytes(),
}


def read(data):
    """As the tool does: whatever begins like an archive is read as one, and all of its images."""
    if archive.is_archive(data):
        unpacker = Unpacker(data, codec_of(CONTEXT))
        return [unpacker[index] for index in range(len(unpacker))]
    return codec_of(CONTEXT).decode(data)


def verify(data):
    """As `codec verify` does."""
    check(codec_of(CONTEXT), data, decode=False, max_pixels=DEFAULT_MAX_PIXELS)


def refused(data):
    """Whether both end in an error of ours."""
    for look in (read, verify):
        with pytest.raises(CodecError) as caught:
            look(data)
        assert str(caught.value)
        assert "\n" not in str(caught.value)
    return True


def test_versions():
    """The files are what the list says."""
    assert [data[2] for data in FILES.values()] == [1, 1, 1, 2, 1]


@pytest.mark.parametrize("name", FILES)
class TestGoldenFiles:
    def test_read(self, name):
        read(FILES[name])

    def test_every_bit(self, name):
        """And with it every byte: in each, each of its eight bits."""
        data = bytearray(FILES[name])
        for place in range(len(data)):
            for bit in range(8):
                data[place] ^= 1 << bit
                assert refused(bytes(data)), (place, bit)
                data[place] ^= 1 << bit
        assert data == FILES[name]

    def test_every_length(self, name):
        data = FILES[name]
        for length in range(len(data)):
            assert refused(data[:length]), length

    def test_bytes_too_many(self, name):
        data = FILES[name]
        for more in (b"\0", b"\n", b"\0" * 512, data[-4:], data):
            assert refused(data + more), more[:8]
            assert refused(more + data), more[:8] if more != data else "twice"

    def test_zeros_and_exchanged_blocks(self, name):
        """As disks and transfers do it: 16 bytes that never arrived, or that came in another order."""
        data = FILES[name]
        for start in range(0, len(data) - 16, 16):
            zeroed = data[:start] + bytes(16) + data[start + 16 :]
            swapped = (
                data[:start] + data[start + 8 : start + 16] + data[start : start + 8] + data[start + 16 :]
            )
            for damaged in (zeroed, swapped):
                assert damaged == data or refused(damaged), start


class TestSalvage:
    """What saves damaged files never takes one for intact."""

    @pytest.mark.parametrize("version", [1, 2])
    def test_every_byte(self, version):
        codec = codec_of(FACTORIZED)
        whole = codec.encode(texture(2, 1040), 30)
        parsed = container.parse(whole, info_of(FACTORIZED).tile_pixels, DEFAULT_MAX_PIXELS)
        whole = container.serialize(parsed, info_of(FACTORIZED).tile_pixels, version)
        assert salvage(codec, whole, DEFAULT_MAX_PIXELS).intact
        saved = 0
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            try:
                found = salvage(codec, bytes(damaged), 4096)
            except (FormatError, ModelError, LimitError):
                continue
            assert not found.intact, place
            assert found.report()
            saved += 1
        assert saved > len(whole) / 2  # Most of the file is tiles, and the other tile is there.


def sealed(body):
    return body + container.crc(body)


def file_of(width, height, *, tiles=1, alpha=None, icc=None, version=1, missing=0):
    """A file with right checksums, whatever it claims.

    Its tiles are empty; in version 2 they have a byte each, and the last ``missing`` of them are only listed.
    """
    flags = (2 if alpha is not None else 0) | (4 if alpha is not None or icc is not None else 0)
    head = b"\xc0\xdc" + bytes([version]) + info_of(CONTEXT).fingerprint + bytes([0, flags])
    head += container.varint(width) + container.varint(height)
    for kind, body in ((1, icc), (3, alpha)):
        if body is not None:
            head += bytes([kind]) + container.varint(len(body)) + body
    head += b"\0" * bool(flags)
    if version == 2:
        head += (b"\1" + container.crc(b"x")) * tiles
        return sealed(head + container.head_sum(head) + b"x" * (tiles - missing))
    return sealed(head + b"\0" * tiles)


def png(width, height, depth=8, colour=0, idat=b"", before=()):
    """A PNG with right checksums of its chunks, of one IDAT chunk."""
    size = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", size), *before, (b"IDAT", idat), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


ZEROS = zlib.compress(bytes(64 << 20), 9)
"""64 MiB in 65 kB."""


class TestBombs:
    """Sizes are claims: nothing is allocated for them before there is known to be something to decode."""

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(file_of(1 << 24, 1 << 24), id="largest size"),
            pytest.param(file_of(1 << 24, 16), id="as many pixels as the limit, one tile"),
            pytest.param(file_of(1 << 14, 1 << 14, tiles=255), id="a tile too few"),
            pytest.param(file_of(1 << 14, 1 << 14, tiles=257), id="a tile too many"),
            pytest.param(file_of(1 << 14, (1 << 14) + 1, tiles=272), id="more pixels than the limit"),
            pytest.param(file_of(9, 9, icc=ZEROS), id="zlib bomb in a section"),
            pytest.param(file_of(9, 9, alpha=png(1 << 14, 1 << 14, idat=ZEROS)), id="larger alpha"),
            pytest.param(
                file_of(
                    9,
                    9,
                    alpha=png(
                        9, 9, before=[(b"IHDR", struct.pack(">IIBBBBB", 1 << 14, 1 << 14, 8, 0, 0, 0, 0))]
                    ),
                ),
                id="second header in the alpha",
            ),
            pytest.param(
                file_of(9, 9, alpha=png(9, 9, before=[(b"iCCP", b"x\0\0" + ZEROS)])),
                id="profile in the alpha",
            ),
            pytest.param(
                file_of(9, 9, alpha=png(9, 9, before=[(b"zTXt", b"x\0\0" + ZEROS)] * 50)),
                id="texts in the alpha",
            ),
        ],
    )
    def test_file(self, data):
        self.refused(data)

    def refused(self, data, reason=""):
        """Without the memory that it asks for."""
        codec_of(CONTEXT).decode(golden_file("context-rgba"))  # Whatever is loaded once is.
        tracemalloc.start()
        try:
            with pytest.raises(CodecError) as caught:
                codec_of(CONTEXT).decode(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "\n" not in str(caught.value)
        assert re.search(reason, str(caught.value))
        # The largest section that is allowed, and copies of the file.
        assert peak < 3 * container.MAX_METADATA + 16 * len(data)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            # The checksum is read as the last entry, which may make no sense.
            (file_of(1 << 14, 1 << 14, tiles=255, version=2), "a tile's length|the header's checksum"),
            (file_of(1 << 14, 1 << 14, tiles=257, version=2), "the header's checksum does not match"),
            (
                file_of(1 << 14, 1 << 14, tiles=256, version=2, missing=1),
                "a tile needs 1 bytes, but 0 are left",
            ),
            (file_of(1 << 14, 1 << 14, tiles=1, version=2), "256 tiles do not fit"),
        ],
        ids=["an entry too few", "an entry too many", "a tile too few", "a table too short"],
    )
    def test_table(self, data, reason):
        """Tables of version 2 that do not fit the size: each gets as far as it is meant to."""
        self.refused(data, reason)

    def test_alpha_is_png_and_nothing_else(self, monkeypatch):
        """What is damaged after its header is not shown to all of Pillow's decoders, of files or rows."""
        whole = png(9, 9, idat=zlib.compress(bytes(90)))
        data = file_of(9, 9, alpha=whole[:29] + b"????" + whole[33:])  # The header's checksum.
        monkeypatch.setattr(Image, "init", lambda: pytest.fail("other formats are tried"))
        with pytest.raises(FormatError, match="alpha"):
            codec_of(CONTEXT).decode(data)
        parsed = codec_of(CONTEXT).open(data)
        with pytest.raises(FormatError, match="alpha"):
            list(RowFile(codec_of(CONTEXT), parsed, "file").bands(alpha=True))

    def test_rows_that_are_not_there(self):
        """What follows the last row of an alpha plane is never inflated."""
        segments = codec_of(CONTEXT).segments(texture(9, 9), 0)
        plain = file_of(9, 9, alpha=png(9, 9, idat=ZEROS))
        data = sealed(plain[:-5] + container.varint(len(segments[0])) + segments[0])
        tracemalloc.start()
        try:
            decoded = codec_of(CONTEXT).decode(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert not decoded[:, :, 3].any()
        assert peak < (8 << 20) + 16 * len(data)

    def test_pixel_limit_comes_first(self):
        """Before the sections are inflated, and before tiles are looked for."""
        with pytest.raises(LimitError, match="max-pixels"):
            codec_of(CONTEXT).decode(file_of(1 << 14, 1 << 15, icc=b"no zlib stream"))

    @pytest.mark.parametrize("count", [1 << 24, 1 << 12])
    def test_archive(self, count):
        """Of many images, or with names that inflate to too much."""
        start = archive.MAGIC + b"\1" + info_of(CONTEXT).fingerprint + b"\0"
        sizes = b"".join(map(container.varint, (16, 16, count)))
        names = container.varint(len(ZEROS)) + ZEROS
        tracemalloc.start()
        try:
            for data in (
                sealed(start + b"\0" + sizes + b"\0"),
                sealed(start + b"\2" + sizes + names + b"\0"),
            ):
                with pytest.raises((FormatError, LimitError)):
                    Unpacker(data, codec_of(CONTEXT))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3 * container.MAX_METADATA + 16 * len(ZEROS)
