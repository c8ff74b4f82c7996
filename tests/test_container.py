"""The file format: what is written can be read, and nothing else can (not even by a hostile writer)."""

import contextlib
import dataclasses
import tracemalloc
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codec_cli.bitstream import container
from codec_cli.bitstream.container import (
    Container,
    Header,
    Metadata,
    layout,
    parse,
    peek,
    serialize,
    tile_count,
)
from codec_cli.errors import CodecError, FormatError, LimitError, VersionError

TILE = 1024
NO_LIMIT = 1 << 60
HEADER = Header(b"abcd", 3, False, False, 5, 4)

# Files put together by hand, without our code: what these mean must never change.
GOLDEN = "c0dc01deadbeef0207ac0202030401fe00ff0003010203041e6808"
GOLDEN_CONTAINER = Container(
    Header(bytes.fromhex("deadbeef"), 2, True, True, 300, 2),
    Metadata(alpha_png=b"\x01\xfe\x00\xff"),
    (b"\x01\x02\x03",),
)
# Only read, as not every build of zlib makes the same bytes of a text.
GOLDEN_METADATA = (
    "c0dc0100010203ff0481080101"
    "0f78da4b4bcc4ecd4c4e06000b2602c7021078da4badc84c4b492c4904000ee8034700"
    "01aa006667bd73"
)
GOLDEN_METADATA_CONTAINER = Container(
    Header(b"\x00\x01\x02\x03", 255, False, False, 1025, 1),
    Metadata(b"fakeicc", b"exifdata"),
    (b"\xaa", b""),
)
# CRC-32 of aa01ff is 0x1fb7df68, of nothing 0.
GOLDEN_TILES = "c0dc020001020307008108010368dfb71f0000000000" + "e5603c55" + "aa01ff" + "85f9091f"
GOLDEN_TILES_CONTAINER = Container(
    Header(b"\x00\x01\x02\x03", 7, False, False, 1025, 1), Metadata(), (b"\xaa\x01\xff", b"")
)


def varint(value):
    """LEB128 on its own, so that a mistake in the module can't hide in the test."""
    encoded = []
    while True:
        value, low = value >> 7, value & 127
        encoded.append(low | (128 if value else 0))
        if not value:
            return bytes(encoded)


def sealed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def build(flags=0, size=b"\x05\x04", rest=b"\x00", level=3):
    """A file with a valid checksum, whatever the parts are."""
    return sealed(b"\xc0\xdc\x01abcd" + bytes([level, flags]) + size + rest)


def section(kind, body):
    return bytes([kind]) + varint(len(body)) + body


def deflated(raw, wbits):
    """A raw or gzip stream (``zlib.compress`` takes ``wbits`` from Python 3.11 on)."""
    deflater = zlib.compressobj(wbits=wbits)
    return deflater.compress(raw) + deflater.flush()


def refuse(data, error=FormatError, tile_pixels=TILE, max_pixels=NO_LIMIT, match=None):
    """Both readers refuse ``data``, with one line of text."""
    for read in (parse, layout):
        with pytest.raises(error, match=match) as caught:
            read(data, tile_pixels, max_pixels)
        assert isinstance(caught.value, CodecError)
        assert str(caught.value)
        assert "\n" not in str(caught.value)


def try_parse(data, tile_pixels=TILE, max_pixels=1 << 30):
    """Either a container, which is then the only reading of ``data``, or an expected failure."""
    try:
        result = parse(data, tile_pixels, max_pixels)
    except CodecError:
        return None
    assert parse(serialize(result, tile_pixels), tile_pixels, max_pixels) == result
    if result.metadata.icc is None and result.metadata.exif is None:
        assert serialize(result, tile_pixels, data[2]) == data
    assert peek(data) == result.header
    return result


@st.composite
def containers(draw):
    """Every field, and grids of up to some tiles: (container, tile_pixels)."""
    tile_pixels = draw(st.sampled_from([1, 16, 64, 1024]))
    columns, rows = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    width, height = (
        draw(st.integers((number - 1) * tile_pixels + 1, number * tile_pixels)) for number in (columns, rows)
    )
    alpha = draw(st.booleans())
    raw = st.none() | st.binary(max_size=300)
    header = Header(
        draw(st.binary(min_size=4, max_size=4)),
        draw(st.integers(0, 255)),
        draw(st.booleans()),
        alpha,
        width,
        height,
    )
    metadata = Metadata(draw(raw), draw(raw), draw(raw) if alpha else None)
    count = columns * rows
    tiles = draw(st.lists(st.binary(max_size=200), min_size=count, max_size=count))
    return Container(header, metadata, tuple(tiles)), tile_pixels


class TestRoundTrip:
    @settings(deadline=None)
    @given(containers())
    def test_all_fields(self, case):
        original, tile_pixels = case
        data = serialize(original, tile_pixels)
        assert parse(data, tile_pixels, NO_LIMIT) == original
        assert peek(data) == original.header
        assert peek(data[: container.HEADER_MAX_SIZE].ljust(container.MIN_SIZE)) == original.header

    @settings(deadline=None)
    @given(containers())
    def test_earlier_version(self, case):
        """Releases before version 2 wrote any number of tiles as version 1."""
        original, tile_pixels = case
        data = serialize(original, tile_pixels, 1)
        assert data[2] == 1
        assert parse(data, tile_pixels, NO_LIMIT) == original
        assert serialize(original, tile_pixels)[2] == (1 if len(original.tiles) == 1 else 2)

    @settings(deadline=None)
    @given(containers())
    def test_layout_adds_up(self, case):
        original, tile_pixels = case
        data = serialize(original, tile_pixels)
        sizes = layout(data, tile_pixels, NO_LIMIT)
        total = sizes.pop("total")
        assert total == len(data) == sum(sizes.values())
        assert sizes["payload"] == sum(len(tile) for tile in original.tiles)
        assert sizes["crc"] == 4
        metadata = original.metadata
        present = {"icc": metadata.icc, "exif": metadata.exif, "alpha": metadata.alpha_png}
        names = {name for name, raw in present.items() if raw is not None}
        assert set(sizes) == {"header", "tile_framing", "payload", "crc"} | names

    @pytest.mark.parametrize("length", [0, 127, 128, 16383, 16384, (1 << 21) - 1, 1 << 21])
    def test_segment_lengths_at_varint_borders(self, length):
        original = Container(HEADER, Metadata(), (bytes(length),))
        data = serialize(original, TILE)
        assert parse(data, TILE, NO_LIMIT) == original
        assert len(data) == 9 + 2 + len(varint(length)) + length + 4

    @pytest.mark.parametrize("size", [(1 << 24, 1), (1, 1 << 24), (1 << 24, 1 << 24)])
    def test_largest_size(self, size):
        header = dataclasses.replace(HEADER, width=size[0], height=size[1])
        original = Container(header, Metadata(), (b"x",))
        data = serialize(original, 1 << 24)
        assert parse(data, 1 << 24, NO_LIMIT) == original
        assert peek(data[: container.HEADER_MAX_SIZE]) == header

    def test_largest_metadata(self):
        original = Container(HEADER, Metadata(icc=bytes(container.MAX_METADATA), exif=b""), (b"x",))
        assert parse(serialize(original, TILE), TILE, NO_LIMIT) == original

    def test_metadata_is_deflated_but_not_the_png(self):
        raw = bytes(range(256)) * 40
        header = dataclasses.replace(HEADER, alpha=True)
        data = serialize(Container(header, Metadata(raw, raw, raw), (b"x",)), TILE)
        stream = zlib.compress(raw, 9)
        assert data[11:-6] == section(1, stream) + section(2, stream) + section(3, raw) + b"\x00"

    def test_opaque_alpha_costs_nothing(self):
        opaque = Container(dataclasses.replace(HEADER, alpha=True), Metadata(), (b"x",))
        data = serialize(opaque, TILE)
        assert parse(data, TILE, NO_LIMIT) == opaque
        assert len(data) == len(serialize(Container(HEADER, Metadata(), (b"x",)), TILE))

    def test_overhead_is_twenty_bytes(self):
        header = dataclasses.replace(HEADER, width=768, height=512)
        for length in (1 << 14, (1 << 21) - 1):
            data = serialize(Container(header, Metadata(), (bytes(length),)), TILE)
            assert len(data) == length + 20
            assert layout(data, TILE, NO_LIMIT) == {
                "header": 13,
                "tile_framing": 3,
                "payload": length,
                "crc": 4,
                "total": length + 20,
            }


class TestGolden:
    def test_written(self):
        assert serialize(GOLDEN_CONTAINER, TILE).hex() == GOLDEN

    def test_read(self):
        assert parse(bytes.fromhex(GOLDEN), TILE, NO_LIMIT) == GOLDEN_CONTAINER

    def test_layout(self):
        assert layout(bytes.fromhex(GOLDEN), TILE, NO_LIMIT) == {
            "header": 12,
            "alpha": 7,
            "tile_framing": 1,
            "payload": 3,
            "crc": 4,
            "total": 27,
        }

    def test_metadata_read(self):
        assert parse(bytes.fromhex(GOLDEN_METADATA), TILE, NO_LIMIT) == GOLDEN_METADATA_CONTAINER

    def test_constants(self):
        assert bytes.fromhex("c0dc") == container.MAGIC
        assert container.VERSION == 2

    def test_tiles_written(self):
        assert serialize(GOLDEN_TILES_CONTAINER, TILE).hex() == GOLDEN_TILES

    def test_tiles_read(self):
        assert parse(bytes.fromhex(GOLDEN_TILES), TILE, NO_LIMIT) == GOLDEN_TILES_CONTAINER

    def test_tiles_layout(self):
        assert layout(bytes.fromhex(GOLDEN_TILES), TILE, NO_LIMIT) == {
            "header": 12,
            "tile_framing": 14,
            "payload": 3,
            "crc": 4,
            "total": 33,
        }


class TestSerializeRefuses:
    @pytest.mark.parametrize(
        "change",
        [
            {"fingerprint": b"abc"},
            {"fingerprint": b"abcde"},
            {"level": -1},
            {"level": 256},
            {"width": 0},
            {"height": 0},
            {"width": -5},
            {"width": -5, "height": -4},
            {"width": (1 << 24) + 1},
            {"height": (1 << 24) + 1},
        ],
    )
    def test_header(self, change):
        with pytest.raises(ValueError, match=r"fingerprint|level|size"):
            serialize(Container(dataclasses.replace(HEADER, **change), Metadata(), (b"x",)), 1 << 25)

    def test_alpha_plane_without_alpha(self):
        with pytest.raises(ValueError, match="without alpha"):
            serialize(Container(HEADER, Metadata(alpha_png=b"png"), (b"x",)), TILE)

    @pytest.mark.parametrize("field", ["icc", "exif"])
    def test_large_metadata(self, field):
        metadata = Metadata(**{field: bytes(container.MAX_METADATA + 1)})
        with pytest.raises(ValueError, match="16777217"):
            serialize(Container(HEADER, metadata, (b"x",)), TILE)

    @pytest.mark.parametrize("count", [0, 2])
    def test_wrong_number_of_tiles(self, count):
        with pytest.raises(ValueError, match="tiles"):
            serialize(Container(HEADER, Metadata(), (b"x",) * count), TILE)

    def test_segment_beyond_a_varint(self):
        class Huge(bytes):
            def __len__(self):
                return 1 << 32

        with pytest.raises(ValueError, match="varint"):
            serialize(Container(HEADER, Metadata(), (Huge(),)), TILE)

    @pytest.mark.parametrize(("tiles", "version"), [(1, 2), (1, 0), (2, 3), (2, 0)])
    def test_version(self, tiles, version):
        with pytest.raises(ValueError, match=f"version {version} does not fit {tiles} tiles"):
            serialize(Container(HEADER, Metadata(), (b"x",) * tiles), 5 if tiles == 1 else 4, version)

    @pytest.mark.parametrize("tile_pixels", [0, -1])
    def test_tile_size(self, tile_pixels):
        with pytest.raises(ValueError, match="tile_pixels"):
            serialize(Container(HEADER, Metadata(), (b"x",)), tile_pixels)
        with pytest.raises(ValueError, match="tile_pixels"):
            parse(build(), tile_pixels, NO_LIMIT)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), 1), ((1024, 1024), 1), ((1025, 1024), 2), ((1025, 1025), 4), ((3000, 10), 3)],
)
def test_tile_count(size, expected):
    assert tile_count(*size, TILE) == expected


TWO_TILES = Container(
    Header(b"abcd", 3, True, True, 1030, 7), Metadata(b"icc", b"exif", b"png"), (b"first", b"second")
)


class TestDamage:
    FILE = serialize(TWO_TILES, TILE, 1)
    both_versions = pytest.mark.parametrize("version", [1, 2])

    @both_versions
    def test_every_byte_changed_to_every_value(self, version):
        data = serialize(TWO_TILES, TILE, version)
        for index in range(len(data)):
            for value in set(range(256)) - {data[index]}:
                damaged = bytearray(data)
                damaged[index] = value
                with pytest.raises(FormatError):
                    parse(bytes(damaged), TILE, NO_LIMIT)

    @both_versions
    def test_every_byte_changed_and_checksum_repaired(self, version):
        data = serialize(TWO_TILES, TILE, version)
        for index in range(len(data) - 4):
            for value in set(range(256)) - {data[index]}:
                damaged = bytearray(data[:-4])
                damaged[index] = value
                try_parse(sealed(bytes(damaged)))

    @both_versions
    def test_every_truncation(self, version):
        data = serialize(TWO_TILES, TILE, version)
        for length in range(len(data)):
            refuse(data[:length])
        for length in range(len(data) - 4):
            refuse(sealed(data[:length]))

    def test_tiles_have_checksums(self):
        """Each part of a file of several tiles is checked by itself, whatever the whole's checksum says."""
        good = serialize(TWO_TILES, TILE)
        body = bytearray(good[:-4])
        body[-1] ^= 1
        refuse(sealed(bytes(body)), match="checksum of tile 2")
        body = bytearray(good[:-4])
        body[-len(b"first" + b"second")] ^= 1
        refuse(sealed(bytes(body)), match="checksum of tile 1")
        head = len(good) - len(b"first" + b"second") - 4
        for index in range(7, head):
            body = bytearray(good[:-4])
            body[index] ^= 1
            refuse(sealed(bytes(body)))
        refuse(sealed(good[: head - 4] + bytes(4) + good[head:-4]), match="header's checksum")
        refuse(sealed(good[:-4] + b"x"), match="1 bytes too many after the last tile")

    def test_one_tile_is_never_version_2(self):
        head = build()[:-5].replace(b"\xc0\xdc\x01", b"\xc0\xdc\x02") + b"\x01" + sealed(b"x")[1:]
        refuse(sealed(head + container.head_sum(head) + b"x"), match="one tile in a file of version 2")

    def test_no_part_of_a_file_looks_whole(self):
        """Not even the part up to a checksum that is inside."""
        data = serialize(TWO_TILES, TILE)
        for length in range(container.MIN_SIZE, len(data)):
            with pytest.raises(FormatError, match="checksum does not match"):
                container.check_sum(data[:length])

    @pytest.mark.parametrize("appended", [b"\0", b"\n", b"1234", bytes(1000)])
    def test_appended_bytes(self, appended):
        refuse(self.FILE + appended, match="checksum")
        refuse(sealed(self.FILE[:-4] + appended), match="after the last tile")
        # A file with its own checksum in it, and a matching one after that.
        refuse(sealed(self.FILE + appended), match="after the last tile")

    def test_two_files_in_one(self):
        refuse(self.FILE * 2)

    def test_layout_of_all_sections(self):
        assert set(layout(self.FILE, TILE, NO_LIMIT)) == {
            "header", "icc", "exif", "alpha", "tile_framing", "payload", "crc", "total",
        }  # fmt: skip

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=200))
    @example(b"")
    @example(b"\xc0\xdc")
    def test_random_bytes(self, data):
        for candidate in (data, b"\xc0\xdc" + data, b"\xc0\xdc\x01" + data):
            assert try_parse(candidate) is None
            with contextlib.suppress(CodecError):
                assert isinstance(peek(candidate), Header)

    @settings(deadline=None, max_examples=500)
    @given(
        st.sampled_from([b"", b"\xc0\xdc", b"\xc0\xdc\x01", b"\xc0\xdc\x01abcd\x03"])
        | st.integers(0, 7).map(lambda flags: b"\xc0\xdc\x01abcd\x03" + bytes([flags]))
        | st.integers(0, 7).map(lambda flags: b"\xc0\xdc\x01abcd\x03" + bytes([flags]) + b"\x05\x04"),
        st.lists(st.binary(max_size=30) | st.integers(0, 1 << 36).map(varint), max_size=6).map(b"".join),
        st.sampled_from([1, 1024]),
    )
    def test_random_bytes_with_a_repaired_checksum(self, start, rest, tile_pixels):
        try_parse(sealed(start + rest), tile_pixels)

    @settings(deadline=None, max_examples=500)
    @given(st.integers(0, len(FILE) - 4), st.integers(0, 6), st.binary(max_size=6))
    def test_spliced_bytes_with_a_repaired_checksum(self, at, removed, inserted):
        body = self.FILE[:-4]
        try_parse(sealed(body[:at] + inserted + body[at + removed :]))


class TestStart:
    @pytest.mark.parametrize("data", [b"", b"\xc0", b"\xc0\xdc", b"\xc0\xdc\x01" + bytes(12), b"hello"])
    def test_too_short(self, data):
        refuse(data, match="not a codec file, or cut short")
        with pytest.raises(FormatError, match="cut short"):
            peek(data)

    @pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(50), sealed(b"\xdc\xc0\x01" + bytes(50))])
    def test_magic(self, data):
        refuse(data, match=r"^not a codec file \(wrong magic bytes\)$")
        with pytest.raises(FormatError, match="magic"):
            peek(data)

    def test_later_version(self):
        for version in range(3, 256):
            data = b"\xc0\xdc" + bytes([version]) + bytes(13)  # what follows is not ours to check
            refuse(data, VersionError, match="written by a later version of codec; upgrade")
            with pytest.raises(VersionError, match="upgrade"):
                peek(data)

    def test_version_zero(self):
        data = sealed(b"\xc0\xdc\x00" + build()[3:-4])
        refuse(data, match="version 0")
        with pytest.raises(FormatError) as caught:
            peek(data)
        assert not isinstance(caught.value, VersionError)

    def test_checksum_comes_before_the_header(self):
        expected = r"^damaged: checksum does not match \(the file is truncated or was changed\)$"
        refuse(build(flags=0xFF)[:-4] + b"none", match=expected)

    def test_peek_ignores_the_checksum(self):
        assert peek(build()[:-4] + b"none") == HEADER

    @pytest.mark.parametrize("bit", range(3, 8))
    def test_unknown_flags(self, bit):
        refuse(build(flags=1 << bit), match="flags")
        with pytest.raises(FormatError, match="flags"):
            peek(build(flags=1 << bit))


class TestSize:
    @pytest.mark.parametrize(
        "size", [(0, 1), (1, 0), ((1 << 24) + 1, 1), (1, (1 << 24) + 1), (1, (1 << 32) - 1)]
    )
    def test_impossible(self, size):
        data = build(size=varint(size[0]) + varint(size[1]))
        refuse(data, match=f"{size[0]} x {size[1]}")
        with pytest.raises(FormatError, match="size"):
            peek(data)

    def test_limit(self):
        data = build(size=varint(1000) + varint(3000))
        refuse(
            data, LimitError, max_pixels=2_999_999, match=r"1000 x 3000 = 3000000 .* 2999999 .*--max-pixels"
        )
        assert peek(data).width == 1000
        refuse(data, FormatError, max_pixels=3_000_000, match="tiles do not fit")

    def test_limit_comes_before_the_sections(self):
        refuse(build(flags=4, rest=b"\xff" * 9), LimitError, max_pixels=19)

    @pytest.mark.parametrize("number", [b"\x80\x00", b"\x85\x00", b"\x85\x80\x00", b"\x85\x80\x80\x80\x00"])
    def test_not_minimal(self, number):
        refuse(build(size=number + b"\x04"), match="width is not in its shortest form")
        refuse(build(size=b"\x05" + number), match="height is not in its shortest form")
        refuse(build(rest=number + bytes(5)), match="length is not in its shortest form")
        refuse(build(flags=4, rest=b"\x01" + number + bytes(9)), match="icc is not in its shortest form")

    @pytest.mark.parametrize(
        "number",
        [
            b"\x80\x80\x80\x80\x10",
            b"\xff\xff\xff\xff\x7f",
            b"\x80\x80\x80\x80\x80\x01",
            b"\xff" * 9 + b"\x01",
        ],
    )
    def test_beyond_32_bits(self, number):
        refuse(build(size=number + b"\x04"), match="too large")
        refuse(build(rest=number + bytes(5)), match="too large")


class TestSections:
    ICC = section(1, zlib.compress(b"icc"))
    EXIF = section(2, zlib.compress(b"exif"))
    ALPHA = section(3, b"png")

    def refused(self, sections, match, flags=6):
        refuse(build(flags=flags, rest=sections + b"\x00"), match=match)

    def test_accepted(self):
        data = build(flags=6, rest=self.ICC + self.EXIF + self.ALPHA + b"\x00" + b"\x01x")
        assert parse(data, TILE, NO_LIMIT).metadata == Metadata(b"icc", b"exif", b"png")

    @pytest.mark.parametrize("compression", range(10))
    def test_any_zlib_stream_is_accepted(self, compression):
        data = build(flags=4, rest=section(1, zlib.compress(b"icc" * 100, compression)) + b"\x00\x00")
        assert parse(data, TILE, NO_LIMIT).metadata.icc == b"icc" * 100

    def test_none(self):
        self.refused(b"\x00", match="there is none")

    def test_order(self):
        for sections in (self.EXIF + self.ICC, self.ALPHA + self.EXIF, self.ICC * 2, self.ALPHA * 2):
            self.refused(sections + b"\x00", match="out of order")

    def test_unknown(self):
        for kind in range(4, 256):
            self.refused(self.ICC + section(kind, b"x") + b"\x00", match=f"section {kind} is unknown")

    def test_alpha_plane_without_alpha(self):
        self.refused(self.ALPHA + b"\x00", match="without alpha", flags=4)

    def test_no_end(self):
        refuse(build(flags=6, rest=self.ICC), match="type")
        refuse(build(flags=6, rest=b""), FormatError)

    @pytest.mark.parametrize("length", [4, 5, 1000, (1 << 32) - 1])
    def test_length_beyond_the_file(self, length):
        self.refused(b"\x03" + varint(length) + b"pn", match=f"alpha needs {length} bytes")

    @pytest.mark.parametrize(
        "stream",
        [
            b"",
            b"x",
            b"not zlib",
            zlib.compress(b"abc" * 50)[:-1],
            zlib.compress(b"abc" * 50)[:-5],
            zlib.compress(b"abc") + b"\x00",
            zlib.compress(b"abc") * 2,
            zlib.compress(b"abc")[:-1] + b"\x00",
            deflated(b"abc", -15),
            deflated(b"abc", 31),
            bytes.fromhex("78bb00000001") + b"needs a dictionary",
        ],
    )
    def test_no_single_zlib_stream(self, stream):
        for kind, name in ((1, "icc"), (2, "exif")):
            self.refused(section(kind, stream) + b"\x00", match=f"section {name} is")


class TestHostile:
    """Time and memory stay within what the real length of the file warrants."""

    @pytest.mark.parametrize("size", [(16 << 20) + 1, 64 << 20])
    def test_zip_bomb(self, size):
        bomb = zlib.compress(bytes(size), 9)
        data = build(flags=4, rest=section(1, bomb) + b"\x00\x00")
        tracemalloc.start()
        try:
            refuse(data, match="icc inflates to more than 16 MiB")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3 * container.MAX_METADATA

    @pytest.mark.parametrize("length", [2, 5, 127, 128, 16384, 1 << 31, (1 << 32) - 1])
    def test_segment_beyond_the_file(self, length):
        refuse(build(rest=varint(length) + b"x"), match=f"a tile needs {length} bytes, but 1 are left")

    def test_table_that_can_not_be_there(self):
        start = b"\xc0\xdc\x02abcd\x03\x00"
        tracemalloc.start()
        try:
            refuse(sealed(start + varint(1 << 24) * 2 + bytes(1000)), match="268435456 tiles do not fit")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20
        table = (varint((1 << 32) - 1) + bytes(4)) * 2
        head = start + varint(1025) + b"\x01" + table
        refuse(sealed(head + container.head_sum(head) + b"xyz"), match="needs 4294967295 bytes")

    def test_second_segment_takes_the_checksum(self):
        size = varint(2000) + varint(4)
        refuse(build(size=size, rest=b"\x01x\x04"), match="needs 4 bytes, but 0 are left")
        refuse(build(size=size, rest=b"\x03xyz"), match="needs 1 bytes, but 0 are left")

    def test_tiles_that_can_not_be_there(self):
        largest = varint(1 << 24)
        tracemalloc.start()
        try:
            refuse(build(size=largest * 2, rest=bytes(1000)), tile_pixels=1, match="281474976710656 tiles")
            refuse(build(size=largest * 2, rest=bytes(1000)), tile_pixels=TILE, match="268435456 tiles")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20

    def test_missing_and_surplus_segments(self):
        refuse(build(rest=b""), FormatError)
        refuse(build(size=varint(1025) + b"\x01", rest=b"\x00"), match="2 tiles do not fit the 1 bytes")
        refuse(build(rest=b"\x00\x00"), match="1 bytes too many")
