"""Archives: what is written can be read, and nothing else can; arrays in, arrays out; golden archives."""

import contextlib
import dataclasses
import json
import tracemalloc
import zlib

import numpy as np
import pytest
from helpers import (
    CONTEXT,
    FACTORIZED,
    KINDS,
    MODELS,
    checksum,
    codec_of,
    copy_model,
    info_of,
    resealed,
    rewrite,
    texture,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from make_golden import ARCHIVES, GOLDEN_ARCHIVES, file_of_image
from PIL import Image

from codec_cli import Codec
from codec_cli.bitstream import archive, container
from codec_cli.bitstream.archive import (
    Archive,
    check_names,
    check_sum,
    is_archive,
    layout,
    numbered,
    parse,
    peek,
    serialize,
)
from codec_cli.bitstream.container import Header
from codec_cli.errors import CodecError, FormatError, ImageError, LimitError, ModelError, VersionError
from codec_cli.packing import Packer, Unpacker, pack_arrays, unpack_arrays
from codec_cli.pictures.images import Picture
from codec_cli.zoo import read_info

TILE = 1024
NO_LIMIT = 1 << 80
HEADER = Header(b"abcd", 3, False, False, 5, 4)
START = b"\xc0\xda\x01abcd"


def varint(value):
    """LEB128 on its own, so that a mistake in the module can't hide in the test."""
    encoded = []
    while True:
        value, low = value >> 7, value & 127
        encoded.append(low | (128 if value else 0))
        if not value:
            return bytes(encoded)


def build(flags=0, size=(5, 4, 1), rest=b"\0", level=3):
    """An archive with a valid checksum, whatever the parts are."""
    return resealed(START + bytes([level, flags]) + b"".join(map(varint, size)) + rest + bytes(4))


def named(raw, count=2):
    """An archive of empty segments with these names, as they are before deflating."""
    stream = zlib.compress(raw)
    return build(2, (5, 4, count), varint(len(stream)) + stream + bytes(count))


def refuse(data, error=FormatError, tile_pixels=TILE, max_pixels=NO_LIMIT, match=None):
    """Both readers refuse ``data``, with one line of text."""
    for read in (parse, layout):
        with pytest.raises(error, match=match) as caught:
            read(data, tile_pixels, max_pixels)
        assert isinstance(caught.value, CodecError)
        assert str(caught.value)
        assert str(caught.value).isprintable()


def try_parse(data, tile_pixels=TILE, max_pixels=1 << 30):
    """Either an archive, which is then the only reading of ``data``, or an expected failure."""
    try:
        result = parse(data, tile_pixels, max_pixels)
    except CodecError:
        return None
    assert parse(serialize(result, tile_pixels), tile_pixels, max_pixels) == result
    if result.names is None:
        assert serialize(result, tile_pixels) == data
    assert peek(data) == (result.header, len(result.images))
    return result


NAME = st.text(
    st.characters(exclude_characters="/\\\x7f", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60
)


@st.composite
def archives(draw):
    """Every field, and images of up to some tiles: (archive, tile_pixels)."""
    tile_pixels = draw(st.sampled_from([1, 16, 1024]))
    columns, rows, count = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    width, height = (
        draw(st.integers((number - 1) * tile_pixels + 1, number * tile_pixels)) for number in (columns, rows)
    )
    mark = draw(st.binary(min_size=4, max_size=4))
    header = Header(mark, draw(st.integers(0, 255)), draw(st.booleans()), False, width, height)
    names = None
    if draw(st.booleans()):
        names = tuple(
            draw(
                st.lists(
                    NAME.filter(lambda n: n not in (".", "..")), unique=True, min_size=count, max_size=count
                )
            )
        )
    image = st.lists(st.binary(max_size=200), min_size=columns * rows, max_size=columns * rows).map(tuple)
    return Archive(header, names, tuple(draw(image) for _ in range(count))), tile_pixels


class TestRoundTrip:
    @settings(deadline=None)
    @given(archives())
    def test_all_fields(self, case):
        original, tile_pixels = case
        data = serialize(original, tile_pixels)
        assert parse(data, tile_pixels, NO_LIMIT) == original
        assert is_archive(data)
        expected = original.header, len(original.images)
        assert peek(data) == expected
        assert peek(data[: archive.HEADER_MAX_SIZE].ljust(archive.MIN_SIZE)) == expected
        check_sum(data)

    @settings(deadline=None)
    @given(archives())
    def test_layout_adds_up(self, case):
        original, tile_pixels = case
        data = serialize(original, tile_pixels)
        content, sizes = layout(data, tile_pixels, NO_LIMIT)
        assert content == original
        total = sizes.pop("total")
        assert total == len(data) == sum(sizes.values())
        assert sizes["payload"] == sum(len(segment) for image in original.images for segment in image)
        assert set(sizes) == {"header", "lengths", "payload", "crc"} | (
            {"names"} if original.names else set()
        )

    @pytest.mark.parametrize("length", [0, 127, 128, 16383, 16384, (1 << 21) - 1, 1 << 21])
    def test_segment_lengths_at_varint_borders(self, length):
        original = Archive(HEADER, None, ((bytes(length),), (b"x",)))
        data = serialize(original, TILE)
        assert parse(data, TILE, NO_LIMIT) == original
        assert len(data) == 9 + 3 + len(varint(length)) + 1 + length + 1 + 4

    @pytest.mark.parametrize("count", [1, 2, 127, 1000])
    def test_overhead_is_a_byte_an_image(self, count):
        data = serialize(Archive(HEADER, None, ((b"x" * 20,),) * count), TILE)
        assert len(data) == 15 + len(varint(count)) + count * (20 + 1)

    def test_largest_images(self):
        header = dataclasses.replace(HEADER, width=1 << 24, height=1 << 24)
        original = Archive(header, None, ((b"x",),))
        data = serialize(original, 1 << 24)
        assert parse(data, 1 << 24, NO_LIMIT) == original
        assert peek(data[: archive.HEADER_MAX_SIZE])[0] == header

    def test_header_at_its_largest(self):
        data = build(0, (1 << 24, 1 << 24, 1 << 24))
        assert peek(data[: archive.HEADER_MAX_SIZE]) == (
            dataclasses.replace(HEADER, width=1 << 24, height=1 << 24), 1 << 24
        )  # fmt: skip


class TestByHand:
    """Archives put together by hand, without our code: what these mean must never change."""

    def test_read_and_written(self):
        expected = Archive(
            Header(bytes.fromhex("deadbeef"), 2, True, False, 300, 2), None, ((b"",), (b"\1\2\3\4",))
        )
        data = resealed(bytes.fromhex("c0da01deadbeef0201ac020202" + "0004" + "01020304" + "00000000"))
        assert parse(data, TILE, NO_LIMIT) == expected
        assert serialize(expected, TILE) == data

    def test_names_and_tiles(self):
        stream = zlib.compress(b"a\0\xc5\xbe")
        body = bytes.fromhex("c0da0100010203ff02810801" + "02") + bytes([len(stream)]) + stream
        data = resealed(body + b"\1\0\2\1" + b"\xaa\xbb\xbc\xcc" + bytes(4))
        expected = Archive(
            Header(b"\0\1\2\3", 255, False, False, 1025, 1),
            ("a", "ž"),
            ((b"\xaa", b""), (b"\xbb\xbc", b"\xcc")),
        )
        assert parse(data, TILE, NO_LIMIT) == expected
        assert layout(data, TILE, NO_LIMIT)[1] == {
            "header": 13, "names": 1 + len(stream), "lengths": 4, "payload": 4, "crc": 4, "total": len(data),
        }  # fmt: skip

    def test_constants(self):
        assert bytes.fromhex("c0da") == archive.MAGIC != container.MAGIC
        assert archive.VERSION == 1


class TestSerializeRefuses:
    @pytest.mark.parametrize(
        "change",
        [
            {"fingerprint": b"abc"},
            {"level": -1},
            {"level": 256},
            {"width": 0},
            {"height": -5},
            {"width": (1 << 24) + 1},
            {"alpha": True},
        ],
    )
    def test_header(self, change):
        with pytest.raises(ValueError, match=r"fingerprint|level|size|alpha"):
            serialize(Archive(dataclasses.replace(HEADER, **change), None, ((b"x",),)), 1 << 25)

    @pytest.mark.parametrize("images", [(), ((),), ((b"x", b"y"),), ((b"x",), ())])
    def test_wrong_number_of_images_or_tiles(self, images):
        with pytest.raises(ValueError, match=r"images|tiles"):
            serialize(Archive(HEADER, None, images), TILE)

    @pytest.mark.parametrize("names", [(), ("a",), ("a", "b", "c"), ("a", "a"), ("a", ""), ("a", "x/y")])
    def test_names(self, names):
        with pytest.raises(ValueError, match="name"):
            serialize(Archive(HEADER, names, ((b"x",), (b"y",))), TILE)

    def test_names_beyond_all_measure(self):
        names = tuple(f"{i:0255}" for i in range(1 << 16))
        with pytest.raises(ValueError, match="bytes, more than 16777216"):
            serialize(Archive(HEADER, (*names, "x"), ((b"",),) * ((1 << 16) + 1)), TILE)


class TestNames:
    @pytest.mark.parametrize(
        "name", ["a", "...", "a b", "ž🐎", "x" * 255, "€" * 85, "a:b", "-", " ", "a.tar"]
    )
    def test_good(self, name):
        check_names([name])
        assert parse(named(f"{name}\0other".encode()), TILE, NO_LIMIT).names == (name, "other")

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a/b", "/", "a\\b", "a\nb", "\x1f", "\x7f", "x" * 256, "€" * 86, "../a"]
    )
    def test_bad(self, name):
        with pytest.raises(ValueError, match="name"):
            check_names([name])
        refuse(named(f"{name}\0other".encode()), match="^damaged: .* is no possible name$")

    def test_nothing_that_utf8_cannot_hold(self):
        with pytest.raises(ValueError, match="is no text"):
            check_names(["\udc80"])
        for raw in (b"a\0\x80", b"a\0\xc0\xaf", b"a\0\xed\xa0\x80"):
            refuse(named(raw), match="no UTF-8")

    def test_twice(self):
        refuse(named(b"a\0a"), match="comes twice")
        assert parse(named(b"a\0A"), TILE, NO_LIMIT).names == ("a", "A")

    @pytest.mark.parametrize("raw", [b"", b"a", b"a\0b\0", b"a\0b\0c", b"\0a\0b"])
    def test_number(self, raw):
        refuse(named(raw), match="there are not 2 names")

    def test_stream(self):
        stream = zlib.compress(b"a\0b")
        for bad in (stream[:-1], stream + b"\0", b"", b"plain", stream * 2):
            refuse(build(2, (5, 4, 2), varint(len(bad)) + bad + bytes(2)), match="section names")

    def test_numbers(self):
        assert numbered(2) == ("00000", "00001")
        assert numbered(100_000)[-1] == "99999"
        assert numbered(100_001)[-1] == "100000"
        assert numbered(100_001)[0] == "000000"

    def test_a_bomb_stops_early(self):
        data = named(b"a\0" + bytes(1 << 27))
        assert len(data) < 1 << 18
        tracemalloc.start()
        refuse(data, match="inflates to more than 16 MiB")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 80 << 20


class TestDamage:
    FILE = serialize(
        Archive(
            Header(b"abcd", 3, True, False, 1030, 7),
            ("one", "two"),
            ((b"first", b"second"), (b"third", b"fourth")),
        ),
        TILE,
    )
    PLAIN = serialize(Archive(HEADER, None, ((b"first",), (b"",), (b"third",))), TILE)

    @pytest.mark.parametrize("file", [FILE, PLAIN])
    def test_every_byte_changed(self, file):
        for index in range(len(file)):
            for value in set(range(256)) - {file[index]}:
                damaged = bytearray(file)
                damaged[index] = value
                with pytest.raises(FormatError):
                    parse(bytes(damaged), TILE, NO_LIMIT)

    @pytest.mark.parametrize("file", [FILE, PLAIN])
    def test_every_byte_changed_and_checksum_repaired(self, file):
        for index in range(len(file) - 4):
            for value in {0, 1, 2, 127, 128, 255, file[index] ^ 1, file[index] ^ 128}:
                damaged = bytearray(file)
                damaged[index] = value
                try_parse(resealed(bytes(damaged)))

    @pytest.mark.parametrize("file", [FILE, PLAIN])
    def test_every_truncation(self, file):
        for length in range(len(file)):
            refuse(file[:length])
        for length in range(len(file) - 4):
            refuse(resealed(file[:length] + bytes(4)))

    @pytest.mark.parametrize("appended", [b"\0", b"\n", b"1234", bytes(1000)])
    def test_appended_bytes(self, appended):
        refuse(self.FILE + appended, match="checksum")
        refuse(resealed(self.FILE[:-4] + appended + bytes(4)), match="the segments need")
        refuse(resealed(self.FILE + appended + bytes(4)), match="the segments need")

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=200))
    @example(b"")
    @example(b"\xc0\xda")
    def test_random_bytes(self, data):
        for candidate in (data, b"\xc0\xda" + data, b"\xc0\xda\x01" + data):
            assert try_parse(candidate) is None
            with contextlib.suppress(CodecError):
                assert isinstance(peek(candidate)[0], Header)

    @settings(deadline=None, max_examples=500)
    @given(
        st.sampled_from([b"", b"\xc0\xda", b"\xc0\xda\x01", START + b"\x03"])
        | st.integers(0, 3).map(lambda flags: START + bytes([3, flags]))
        | st.integers(0, 3).map(lambda flags: START + bytes([3, flags]) + b"\5\4\2"),
        st.lists(st.binary(max_size=30) | st.integers(0, 1 << 36).map(varint), max_size=6).map(b"".join),
        st.sampled_from([1, 1024]),
    )
    def test_random_bytes_with_a_repaired_checksum(self, start, rest, tile_pixels):
        try_parse(resealed(start + rest + bytes(4)), tile_pixels)

    @settings(deadline=None, max_examples=500)
    @given(st.integers(0, len(FILE) - 4), st.integers(0, 6), st.binary(max_size=6))
    def test_spliced_bytes_with_a_repaired_checksum(self, at, removed, inserted):
        body = self.FILE[:-4]
        try_parse(resealed(body[:at] + inserted + body[at + removed :] + bytes(4)))


class TestStart:
    @pytest.mark.parametrize("data", [b"", b"\xc0", b"\xc0\xda", b"\xc0\xda\x01" + bytes(13), b"hello"])
    def test_too_short(self, data):
        refuse(data, match="not a codec archive, or cut short")
        with pytest.raises(FormatError, match="cut short"):
            peek(data)

    def test_magic(self):
        refuse(b"\x89PNG\r\n\x1a\n" + bytes(50), match=r"^not a codec archive \(wrong magic bytes\)$")

    def test_a_file_is_no_archive(self):
        data = codec_of(FACTORIZED).encode(texture(9, 9))
        refuse(data, match="use `codec decompress`")
        assert not is_archive(data)
        with pytest.raises(FormatError, match="wrong magic bytes"):
            container.parse(build(), TILE, NO_LIMIT)

    def test_versions(self):
        for version in range(2, 256):
            data = b"\xc0\xda" + bytes([version]) + bytes(14)
            refuse(data, VersionError, match="written by a later version of codec; upgrade")
        refuse(resealed(b"\xc0\xda\0" + build()[3:]), match="no archive format 0")

    def test_checksum_comes_before_the_header(self):
        refuse(build(flags=0xFF)[:-4] + b"none", match="^damaged: checksum does not match")
        assert peek(build()[:-4] + b"none") == (HEADER, 1)

    @pytest.mark.parametrize("bit", range(2, 8))
    def test_unknown_flags(self, bit):
        refuse(build(flags=1 << bit), match="unknown flags")

    @pytest.mark.parametrize("size", [(0, 1, 1), (1, 0, 1), ((1 << 24) + 1, 1, 1), (1, 1 << 25, 1)])
    def test_impossible_sizes(self, size):
        refuse(build(size=size), match="size .* is not possible")

    @pytest.mark.parametrize("count", [0, (1 << 24) + 1, (1 << 32) - 1])
    def test_impossible_numbers(self, count):
        refuse(build(size=(1, 1, count)), match="images are not possible")

    def test_varints(self):
        for bad in (b"\x80\0", b"\x85\x80\0", b"\xff\xff\xff\xff\x10", b"\x80\x80\x80\x80\x80\x01"):
            for before in (b"", b"\5", b"\5\4", b"\5\4\1"):
                refuse(resealed(START + b"\3\0" + before + bad + bytes(9)), match="shortest form|too large")


class TestLimits:
    def test_pixels_of_all_images(self):
        data = build(size=(5, 4, 3), rest=bytes(3))
        assert len(parse(data, TILE, 60).images) == 3
        refuse(data, LimitError, max_pixels=59, match=r"3 images of 5 x 4, 60 pixels .*--max-pixels")

    def test_claims_without_bytes_cost_nothing(self):
        for size in ((1 << 24, 1 << 24, 1 << 24), (1, 1, 1 << 24), (1 << 24, 1, 1)):
            tracemalloc.start()
            refuse(build(size=size), match="segments do not fit")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 1 << 20
            refuse(build(size=size), LimitError, max_pixels=(1 << 24) - 1)

    @pytest.mark.parametrize("rest", [b"\2\1ab", b"\2\1abcd", b"\xff\xff\xff\xff\x0f\0ab", b"\0\0a", b"\1\0"])
    def test_lengths_that_do_not_add_up(self, rest):
        refuse(build(size=(5, 4, 2), rest=rest), match="the segments need|is too large|shortest")

    def test_names_the_archive_ends_within(self):
        refuse(build(2, (5, 4, 2), b"\x7fabc"), match="the names needs 127 bytes")


def shifted(count, height, width, channels=3):
    return np.stack([texture(height, width, channels, seed=seed) for seed in range(count)])


@pytest.mark.parametrize("name", KINDS)
class TestArrays:
    @pytest.mark.parametrize(
        ("channels", "size"), [(1, (28, 28)), (3, (20, 31)), (3, (1, 1)), (1, (8, 1030))]
    )
    def test_images_come_out_as_from_files(self, name, channels, size):
        codec, images = codec_of(name), shifted(3, *size, channels)
        data = pack_arrays(codec, images, 4, effort=5)
        decoded = unpack_arrays(data, codec)
        assert (decoded.dtype, decoded.shape) == (np.uint8, images.shape)
        parsed = parse(data, info_of(name).tile_pixels, NO_LIMIT)
        for index, image in enumerate(images):
            file = codec.encode_picture(Picture(image), level=4, effort=5)
            assert file == file_of_image(name, parsed, index)
            assert np.array_equal(decoded[index], codec.decode(file))

    def test_gray_without_channels(self, name):
        images = shifted(2, 12, 12, 1)
        assert pack_arrays(codec_of(name), images[..., 0], 2) == pack_arrays(codec_of(name), images, 2)

    def test_one_image_alone(self, name):
        images = shifted(4, 20, 20)
        data = pack_arrays(codec_of(name), images, 3, names=["a", "b.x", "3", "0"])
        unpacker = Unpacker(data, codec_of(name))
        everything = unpack_arrays(data, codec_of(name))
        assert len(unpacker) == 4
        for wanted, index in [
            ("a", 0),
            ("b.x", 1),
            ("b.x.png", 1),
            ("3", 2),
            ("0", 3),
            ("1", 1),
            ("a.png", 0),
        ]:
            assert unpacker.find(wanted) == index
            assert np.array_equal(unpacker[index], everything[index])
        for wanted in ("c", "4", "-1", "", "1.5", "\u0661", "9" * 40):
            with pytest.raises(CodecError, match=r"no image .* 4, by index .*: a, b.x, 3, \.\.\."):
                unpacker.find(wanted)

    def test_a_damaged_segment_spoils_its_image_only(self, name):
        images = shifted(3, 20, 20)
        data = pack_arrays(codec_of(name), images, 3)
        parsed = parse(data, TILE, NO_LIMIT)
        broken = dataclasses.replace(parsed, images=(parsed.images[0], (b"\xff" * 3,), parsed.images[2]))
        unpacker = Unpacker(serialize(broken, TILE), codec_of(name))
        whole = unpack_arrays(data, codec_of(name))
        assert np.array_equal(unpacker[0], whole[0])
        assert np.array_equal(unpacker[2], whole[2])
        with pytest.raises(FormatError, match="damaged"):
            unpacker[1]
        with pytest.raises(FormatError, match="damaged"):
            unpack_arrays(serialize(broken, TILE), codec_of(name))


class TestArraysRefused:
    @pytest.mark.parametrize(
        "images",
        [
            np.zeros((2, 4, 4, 2), np.uint8),
            np.zeros((2, 4, 4, 4), np.uint8),
            np.zeros((2, 4, 4), np.float32),
            np.zeros((4, 4), np.uint8),
            np.zeros((0, 4, 4), np.uint8),
            np.zeros((2, 0, 4), np.uint8),
        ],
    )
    def test_shapes_and_types(self, images):
        with pytest.raises(ImageError):
            pack_arrays(codec_of(FACTORIZED), images, 0)

    @pytest.mark.parametrize("level", [-1, 7])
    def test_levels(self, level):
        with pytest.raises(ValueError, match="level"):
            pack_arrays(codec_of(FACTORIZED), shifted(1, 4, 4), level)

    def test_images_that_differ(self):
        packer = Packer(codec_of(FACTORIZED), 0)
        packer.add(texture(20, 30))
        for other, kind in ((texture(30, 20), "20x30 RGB"), (texture(20, 30, 1), "30x20 gray")):
            with pytest.raises(ImageError, match=f"is {kind}, the first image 30x20 RGB; an archive"):
                packer.add(other)
        assert np.array_equal(unpack_arrays(packer.finish(), codec_of(FACTORIZED))[0].shape, (20, 30, 3))

    def test_names_that_do_not_fit(self):
        for names in (["a"], ["a", "a"], ["a", "../b"]):
            with pytest.raises(ValueError, match="name"):
                pack_arrays(codec_of(FACTORIZED), shifted(2, 4, 4), 0, names=names)

    def test_names_that_are_numbers_take_no_room(self):
        images = shifted(3, 4, 4)
        plain = pack_arrays(codec_of(FACTORIZED), images, 0)
        assert pack_arrays(codec_of(FACTORIZED), images, 0, names=numbered(3)) == plain
        assert Unpacker(plain, codec_of(FACTORIZED)).names == numbered(3)
        assert len(pack_arrays(codec_of(FACTORIZED), images, 0, names=["0", "1", "2"])) > len(plain)

    def test_too_many_pixels(self):
        data = pack_arrays(codec_of(FACTORIZED), shifted(3, 4, 5), 0)
        assert len(unpack_arrays(data, codec_of(FACTORIZED), max_pixels=60)) == 3
        with pytest.raises(LimitError):
            unpack_arrays(data, codec_of(FACTORIZED), max_pixels=59)

    def test_the_model(self, monkeypatch, tmp_path):
        data = pack_arrays(codec_of(FACTORIZED), shifted(2, 4, 5), 0)
        monkeypatch.setenv("CODEC_MODELS_DIR", str(MODELS))
        assert np.array_equal(unpack_arrays(data), unpack_arrays(data, codec_of(FACTORIZED)))
        monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path))
        with pytest.raises(ModelError, match="which is not installed"):
            unpack_arrays(data)
        with pytest.raises(FormatError, match="checksum"):  # Not: a foreign model.
            unpack_arrays(data[:3] + b"zzzz" + data[7:])
        with pytest.raises(FormatError, match="level 7 of a model with 7"):
            unpack_arrays(resealed(data[:7] + b"\7" + data[8:]), codec_of(FACTORIZED))

    def test_a_model_of_one_size(self, tmp_path):
        folder = copy_model(tmp_path / "small-1", FACTORIZED)
        free = pack_arrays(codec_of(FACTORIZED), shifted(2, 16, 32), 0)
        rewrite(folder, facts={"size": 32})
        codec = Codec(read_info(folder))
        assert unpack_arrays(pack_arrays(codec, shifted(2, 32, 32), 0), codec).shape == (2, 32, 32, 3)
        with pytest.raises(ImageError, match="images of 32x32 only"):
            pack_arrays(codec, shifted(2, 16, 32), 0)
        with pytest.raises(FormatError, match="images of 32x32 only"):
            Unpacker(resealed(free[:3] + codec.info.fingerprint + free[7:]), codec)


INDEX = json.loads((GOLDEN_ARCHIVES / "golden.json").read_text())


class TestGolden:
    def test_complete(self):
        """No archive without an entry, no entry without an archive."""
        files = {path.name for path in GOLDEN_ARCHIVES.iterdir()}
        assert files == {f"{name}.{suffix}" for name in INDEX for suffix in ("pack", "png")} | {"golden.json"}
        assert set(INDEX) == set(ARCHIVES)
        assert all(
            (GOLDEN_ARCHIVES / f"{n}.pack").stat().st_size == entry["bytes"] for n, entry in INDEX.items()
        )

    @pytest.mark.parametrize("name", INDEX)
    def test_archives(self, name):
        entry, data = INDEX[name], (GOLDEN_ARCHIVES / f"{name}.pack").read_bytes()
        codec, count = codec_of(entry["model"]), entry["shape"][0]
        unpacker = Unpacker(data, codec)
        assert list(unpacker.names) == (entry["names"] or list(numbered(count)))
        files = [file_of_image(entry["model"], unpacker.archive, index) for index in range(count)]
        assert [checksum(codec.symbols(file)) for file in files] == entry["symbols"]
        if entry["names"] is None:  # Not every build of zlib makes the same bytes of names.
            assert serialize(unpacker.archive, codec.info.tile_pixels) == data
        decoded = unpack_arrays(data, codec)
        assert list(decoded.shape) == entry["shape"]
        with Image.open(GOLDEN_ARCHIVES / f"{name}.png") as image:
            expected = np.asarray(image).reshape(decoded.shape)
        assert np.abs(decoded.astype(int) - expected).max() <= 1

    def test_what_they_cover(self):
        headers = [peek((GOLDEN_ARCHIVES / f"{name}.pack").read_bytes()) for name in INDEX]
        assert {header.gray for header, _ in headers} == {False, True}
        assert max(header.width for header, _ in headers) > 1024
        assert {entry["model"] for entry in INDEX.values()} == {CONTEXT, FACTORIZED}
