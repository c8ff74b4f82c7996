"""What is left of damaged files: intact tiles (exactly, but for pixels beside lost ones), the rest named."""

import tracemalloc
import zlib

import numpy as np
import pytest
from helpers import CONTEXT, codec_of, golden_file, golden_index, info_of, resealed, texture
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_cli.bitstream import container
from codec_cli.bitstream.container import Container, Header, Metadata
from codec_cli.decoding import Region
from codec_cli.errors import CodecError, FormatError, LimitError, VersionError
from codec_cli.pictures.images import Picture
from codec_cli.salvage import GRAY, read, salvage

LIMIT = 1 << 28
SIX = "context-tiles-six"  # 1025 rows, 2049 columns: 2 x 3 tiles
TILE = info_of(CONTEXT).tile_pixels
REACH = int(info_of(CONTEXT).facts["synthesis_halo"]) * info_of(CONTEXT).stride

HEADER = Header(b"abcd", 3, False, False, 2500, 1030)
TILES = tuple(bytes([65 + i]) * (i * 40 + 5) for i in range(6))
FILE = container.serialize(Container(HEADER, Metadata(b"icc", b"exif"), TILES), TILE)
TABLE = 6 * (1 + 4) + (sum(len(tile) > 127 for tile in TILES))
HEAD = len(FILE) - 4 - sum(map(len, TILES))


def places(data=FILE):
    """Where each tile's segment lies: (start, stop)."""
    ends = HEAD + np.cumsum([len(tile) for tile in TILES])
    return [(end - len(tile), end) for end, tile in zip(ends, TILES, strict=True)]


def flipped(data, index):
    return data[:index] + bytes([data[index] ^ 0x10]) + data[index + 1 :]


class TestRead:
    def test_whole(self):
        remains = read(FILE, TILE, LIMIT)
        assert (remains.header, remains.tiles, remains.notes) == (HEADER, TILES, ())
        assert remains.metadata == Metadata(b"icc", b"exif")

    @pytest.mark.parametrize("index", range(6))
    def test_one_tile(self, index):
        start, stop = places()[index]
        for place in range(start, stop):
            remains = read(flipped(FILE, place), TILE, LIMIT)
            assert remains.tiles == tuple(None if i == index else tile for i, tile in enumerate(TILES))
            assert remains.notes == ()
            assert remains.checked

    def test_every_truncation_keeps_what_is_there(self):
        for length in range(HEAD, len(FILE)):
            remains = read(FILE[:length], TILE, LIMIT)
            there = [stop <= length for _, stop in places()]
            expected = [tile if kept else None for tile, kept in zip(TILES, there, strict=True)]
            # The last tile may be found from the end by chance only: never here.
            assert list(remains.tiles) == expected
            assert remains.tiles.count(None) or remains.notes == (
                "the file's checksum does not match; its parts do",
            )

    def test_appended_bytes(self):
        remains = read(FILE + b"xyz", TILE, LIMIT)
        assert remains.tiles == TILES
        assert len(remains.notes) == 1

    def test_a_part_torn_out(self):
        """Tiles before the gap are found from the start, those after it from the end."""
        start, stop = places()[2]
        remains = read(FILE[: start + 3] + FILE[stop - 2 :], TILE, LIMIT)
        assert remains.tiles == (*TILES[:2], None, *TILES[3:])

    def test_damaged_table(self):
        """A wrong checksum or length costs one tile at most."""
        lost = []
        for place in range(HEAD - TABLE - 4, HEAD):
            try:
                remains = read(flipped(FILE, place), TILE, LIMIT)
            except FormatError:  # A varint that never ends, or is not in its shortest form.
                continue
            assert "header is damaged" in remains.notes[0]
            assert remains.header == HEADER
            lost.append(remains.tiles.count(None))
        assert len(lost) > TABLE * 3 // 4
        assert sorted(set(lost)) == [0, 1]

    def test_damaged_sections(self):
        start = FILE.index(zlib.compress(b"icc", 9)) + 2
        remains = read(flipped(FILE, start), TILE, LIMIT)
        assert remains.metadata == Metadata(None, b"exif")
        assert remains.tiles == TILES
        assert remains.notes[0] == "ICC is damaged and left out"

    def test_version_1(self):
        data = container.serialize(Container(HEADER, Metadata(), TILES), TILE, 1)
        remains = read(data[:-4] + bytes(4), TILE, LIMIT)
        assert remains.tiles == TILES
        assert not remains.checked
        for length in range(len(data) - 4):
            if length < container.MIN_SIZE:
                continue
            found = read(data[:length], TILE, LIMIT).tiles
            assert len(found) == 6
            whole = [tile for tile in found if tile is not None]
            assert tuple(whole) == TILES[: len(whole)]

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"", FormatError),
            (b"hello" * 9, FormatError),
            (FILE[:2] + b"\x07" + FILE[3:], VersionError),
            (FILE[:9] + b"\xff" * 5 + FILE[14:], FormatError),
        ],
    )
    def test_nothing_to_save(self, data, error):
        with pytest.raises(error):
            read(data, TILE, LIMIT)

    def test_limit(self):
        for data in (FILE, flipped(FILE, len(FILE) - 1)):
            with pytest.raises(LimitError):
                read(data, TILE, 1000)

    def test_memory(self):
        """Tiles that can't be there take no memory."""
        size = b"\x80\x80\x80\x08"
        tracemalloc.start()
        try:
            for version in (1, 2):
                with pytest.raises(CodecError):
                    read(b"\xc0\xdc" + bytes([version]) + b"abcd\x03\x00" + size * 2 + bytes(900), 1, LIMIT)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20

    @settings(deadline=None, max_examples=300)
    @given(
        st.integers(0, len(FILE)), st.integers(0, 40), st.binary(max_size=40), st.sampled_from([TILE, 64, 1])
    )
    def test_any_damage(self, at, removed, inserted, tile_pixels):
        """Ends in what is left or in an expected error; and a tile that is given out is the tile."""
        data = FILE[:at] + inserted + FILE[at + removed :]
        try:
            remains = read(data, tile_pixels, LIMIT)
        except CodecError:
            return
        if tile_pixels == TILE and remains.header == HEADER:
            for tile, original in zip(remains.tiles, TILES, strict=True):
                assert tile in (None, original)


class TestSalvage:
    def test_whole(self):
        saved = salvage(codec_of(CONTEXT), golden_file(SIX), LIMIT)
        assert saved.intact
        assert saved.report() == ()
        assert np.array_equal(saved.picture.pixels, codec_of(CONTEXT).decode(golden_file(SIX)))

    def test_lost_tile(self):
        """Everything out of the lost tile's reach comes out as always; the tile is gray and named."""
        data = golden_file(SIX)
        expected = codec_of(CONTEXT).decode(data)
        tiles = container.parse(data, TILE, LIMIT).tiles
        start = data.index(tiles[1])
        saved = salvage(codec_of(CONTEXT), flipped(data, start + 9), LIMIT)
        assert saved.lost == (Region(1024, 0, 1024, 1024),)
        assert saved.report() == (
            "5 of 6 tiles saved, the others are gray",
            "lost: columns 1024 to 2047 of rows 0 to 1023",
            f"pixels within {REACH} rows and columns of a lost tile may differ from those of the whole file",
        )
        pixels = saved.picture.pixels
        assert pixels.shape == expected.shape
        assert (pixels[:1024, 1024:2048] == GRAY).all()
        kept = np.ones(pixels.shape[:2], bool)
        kept[: 1024 + REACH, 1024 - REACH : 2048 + REACH] = False
        assert kept.sum() > 900_000
        assert np.array_equal(pixels[kept], expected[kept])
        assert (pixels[:1024, 1024 - REACH : 1024] != expected[:1024, 1024 - REACH : 1024]).any()

    def test_cut_file(self):
        data = golden_file(SIX)
        tiles = container.parse(data, TILE, LIMIT).tiles
        saved = salvage(codec_of(CONTEXT), data[: data.index(tiles[4]) + 3], LIMIT)
        assert saved.lost == (Region(1024, 1024, 1024, 1), Region(2048, 1024, 1, 1))
        assert (saved.picture.pixels[1024:, :1024] != GRAY).any()

    def test_nothing_intact(self):
        data = golden_file("context-rgb-level3")
        with pytest.raises(FormatError, match="nothing could be saved"):
            salvage(codec_of(CONTEXT), data[:-20], LIMIT)

    def test_version_1_is_not_trusted(self):
        data = golden_file("context-two-tiles")
        assert container.version_of(data) == 1
        saved = salvage(codec_of(CONTEXT), data[:-1] + bytes([data[-1] ^ 1]), LIMIT)
        assert saved.lost == ()
        assert "no checksums" in saved.report()[-1]
        assert np.array_equal(saved.picture.pixels, codec_of(CONTEXT).decode(data))

    def test_version_1_with_a_lost_tile_is_not_trusted(self):
        """The tile that is there might have been damaged, too."""
        data = golden_file("context-two-tiles")[:-1]
        saved = salvage(codec_of(CONTEXT), data, LIMIT)
        assert len(saved.lost) == 1
        assert "no checksums" in saved.report()[-1]

    def test_alpha(self):
        source = Picture(texture(20, 1100), texture(20, 1100, 1)[:, :, 0])
        data = codec_of(CONTEXT).encode_picture(source, level=2)
        assert container.version_of(data) == 2
        saved = salvage(codec_of(CONTEXT), flipped(data, data.index(b"IDAT") + 50), LIMIT)
        assert saved.lost == ()
        assert "the alpha plane is damaged, the image is opaque" in saved.report()
        assert (saved.picture.alpha == 255).all()
        assert np.array_equal(saved.picture.pixels, codec_of(CONTEXT).decode(data)[:, :, :3])

    @pytest.mark.parametrize("name", [name for name in golden_index() if "tiles" in name])
    def test_repaired_checksums_of_a_damaged_segment(self, name):
        """A segment that has the right checksum and does not decode is lost too, not an error."""
        entry = golden_index()[name]
        data = golden_file(name)
        codec = codec_of(entry["model"])
        parsed = container.parse(data, TILE, LIMIT)
        tiles = (parsed.tiles[0] + b"\x01", *parsed.tiles[1:])
        bad = container.serialize(Container(parsed.header, parsed.metadata, tiles), TILE)
        with pytest.raises(FormatError):
            codec.decode(bad)
        saved = salvage(codec, bad, LIMIT)
        assert [place.left for place in saved.lost] == [0]
        assert resealed(bad) == bad
