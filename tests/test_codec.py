"""The spine, end to end: arrays in, bytes, arrays out, and whatever else may be in those bytes."""

import hashlib
import io
import os
import subprocess
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from helpers import (
    CONTEXT,
    FACTORIZED,
    KINDS,
    LEVELS,
    MODELS,
    ROOT,
    codec_of,
    copy_model,
    entropy_of,
    info_of,
    random_symbols,
    resealed,
    rewrite,
    texture,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codec_cli import Codec, CodecError, loading
from codec_cli.bitstream import container
from codec_cli.bitstream.container import Container, Header, Metadata
from codec_cli.errors import FormatError, ImageError, LimitError, ModelError, VersionError
from codec_cli.pictures.images import Picture
from codec_cli.zoo import read_info

CHANNELS = (1, 2, 3, 4)  # gray, gray and alpha, R'G'B', R'G'B' and alpha
SIZES = [(1, 1), (1, 17), (17, 1), (2, 3), (13, 29), (16, 16), (47, 31), (64, 48), (3, 127)]


def smooth(height, width, channels):
    """Something that even a model of a few hundred steps codes well; alpha is noise."""
    rows, columns = np.mgrid[:height, :width]
    planes = [128 + 60 * np.sin(rows / 19 + c) + 40 * np.cos(columns / 23 - c) for c in range(channels)]
    pixels = np.stack(planes, 2).astype(np.uint8)
    if channels in (2, 4):
        pixels[:, :, -1] = np.random.default_rng([height, width]).integers(0, 256, (height, width))
    return pixels


def file_of(width, height, tiles=(b"",), level=0, gray=False, alpha=False, model=CONTEXT, metadata=None):
    """A file with a right checksum, whatever it claims."""
    info = info_of(model)
    header = Header(info.fingerprint, level, gray, alpha, width, height)
    count = container.tile_count(width, height, info.tile_pixels)
    filled = (*tiles, *[b""] * (count - len(tiles)))
    return container.serialize(Container(header, metadata or Metadata(), filled), info.tile_pixels)


@pytest.mark.parametrize("name", KINDS)
class TestRoundTrip:
    @pytest.mark.parametrize("channels", CHANNELS)
    @pytest.mark.parametrize("size", SIZES)
    def test_shapes(self, name, size, channels):
        pixels = smooth(*size, channels)
        kept = pixels.copy()
        data = codec_of(name).encode(pixels, 100)
        decoded = codec_of(name).decode(data)
        assert isinstance(data, bytes)
        assert (decoded.shape, decoded.dtype) == ((*size, channels), np.uint8)
        assert np.array_equal(pixels, kept)
        colours = 1 if channels < 3 else 3
        error = decoded[:, :, :colours].astype(float) - pixels[:, :, :colours]
        assert np.sqrt((error**2).mean()) < 16
        if channels > colours:
            assert np.array_equal(decoded[:, :, -1], pixels[:, :, -1])

    def test_two_dimensions_are_gray(self, name):
        pixels = smooth(20, 30, 1)
        assert codec_of(name).encode(pixels[:, :, 0], 50) == codec_of(name).encode(pixels, 50)

    def test_gray_stays_gray(self, name):
        decoded = codec_of(name).decode(codec_of(name).encode(smooth(20, 30, 1)))
        assert decoded.shape == (20, 30, 1)

    def test_views(self, name):
        """Neither strides nor byte order of the array matter."""
        pixels = texture(40, 60)
        expected = codec_of(name).encode(pixels[::2, ::3].copy(), 80)
        assert codec_of(name).encode(pixels[::2, ::3], 80) == expected
        assert codec_of(name).encode(np.asfortranarray(pixels[::2, ::3]), 80) == expected
        read_only = pixels[::2, ::3].copy()
        read_only.setflags(write=False)
        assert codec_of(name).encode(read_only, 80) == expected
        turned = np.rot90(pixels)
        assert codec_of(name).encode(turned, 80) == codec_of(name).encode(turned.copy(), 80)

    def test_same_bytes_every_time(self, name):
        """Whatever was coded before, and in a new object."""
        pixels = texture(33, 44, 4)
        data = codec_of(name).encode(pixels, 70)
        codec_of(name).encode(texture(90, 20), 10)
        assert codec_of(name).encode(pixels, 70) == data
        assert Codec(info_of(name)).encode(pixels, 70) == data
        assert np.array_equal(Codec(info_of(name)).decode(data), codec_of(name).decode(data))

    def test_results_are_ones_own(self, name):
        """They can be written to, and stay when the codec goes on."""
        data = codec_of(name).encode(smooth(20, 20, 3))
        first = codec_of(name).decode(data)
        kept = first.copy()
        codec_of(name).decode(codec_of(name).encode(texture(20, 20)))
        assert np.array_equal(first, kept)
        first[:] = 0
        assert np.array_equal(codec_of(name).decode(data), kept)

    def test_bytes_like(self, name):
        data = codec_of(name).encode(smooth(20, 20, 3))
        expected = codec_of(name).decode(data)
        assert np.array_equal(codec_of(name).decode(bytes(bytearray(data))), expected)

    def test_symbols(self, name):
        data = codec_of(name).encode(texture(50, 1030), 100)
        tiles = codec_of(name).symbols(data)
        assert [tile.shape for tile in tiles] == [(4, 64, 24), (4, 1, 24)]
        assert all(tile.dtype == np.int16 for tile in tiles)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(CHANNELS),
    st.integers(1, 100),
    st.integers(0, 99),
)
def test_any_array(name, height, width, channels, quality, seed):
    pixels = texture(height, width, channels, seed)
    decoded = codec_of(name).decode(codec_of(name).encode(pixels, quality))
    assert (decoded.shape, decoded.dtype) == (pixels.shape, np.uint8)
    if channels in (2, 4):
        assert np.array_equal(decoded[:, :, -1], pixels[:, :, -1])


class TestQuality:
    def test_levels(self):
        """Size and quality rise with the level; the level is in the file."""
        pixels = smooth(128, 160, 3)
        sizes, errors = [], []
        for level in range(LEVELS):
            data = codec_of(CONTEXT).encode_picture(Picture(pixels), level=level)
            assert container.peek(data).level == level
            sizes.append(len(data))
            errors.append(((codec_of(CONTEXT).decode(data).astype(float) - pixels) ** 2).mean())
        assert sizes == sorted(sizes)
        assert errors[-1] < errors[0]

    @pytest.mark.parametrize(("quality", "level"), [(1, 0), (100, LEVELS - 1), (50, 3), (51, 3), (None, 6)])
    def test_quality_is_a_level(self, quality, level):
        data = codec_of(CONTEXT).encode(smooth(20, 20, 3), quality)
        assert container.peek(data).level == level

    @pytest.mark.parametrize("quality", [0, -1, 101, 1000, float("nan"), float("inf")])
    def test_out_of_range(self, quality):
        with pytest.raises(ValueError, match="quality"):
            codec_of(CONTEXT).encode(smooth(8, 8, 3), quality)

    @pytest.mark.parametrize("level", [-1, LEVELS, 255, 1000])
    def test_no_such_level(self, level):
        with pytest.raises(ValueError, match="level"):
            codec_of(CONTEXT).encode_picture(Picture(smooth(8, 8, 3)), level=level)

    @pytest.mark.parametrize("effort", [0, -1, 100])
    def test_no_such_effort(self, effort):
        with pytest.raises(ValueError, match="effort"):
            codec_of(CONTEXT).encode_picture(Picture(smooth(8, 8, 3)), effort=effort)

    def test_effort_without_what_it_needs(self):
        """A model without measured sensitivities codes the same at all efforts that there are."""
        picture = Picture(texture(40, 50))
        files = {codec_of(CONTEXT).encode_picture(picture, 80, effort=effort) for effort in (1, 3, 5, 6)}
        assert len(files) == 1

    def test_effort(self, tmp_path):
        """Fewer bytes; the decoder needs to know nothing, so the model's fingerprint stays the same."""
        folder = copy_model(tmp_path / "model-1")
        weights = np.full((LEVELS, 24), 0.2, np.float32)
        np.savez(folder / "encoder.npz", distortion_weight=weights)
        describe_file(folder, "encoder.npz")
        able = Codec(read_info(folder))
        assert able.info.fingerprint == info_of(CONTEXT).fingerprint
        picture = Picture(texture(80, 100))
        plain = codec_of(CONTEXT).encode_picture(picture, 100)
        assert able.encode_picture(picture, 100, effort=1) == plain
        optimised = able.encode_picture(picture, 100, effort=5)
        assert len(optimised) < len(plain)
        assert np.array_equal(codec_of(CONTEXT).decode(optimised), able.decode(optimised))

    @pytest.mark.parametrize("weights", [np.zeros((LEVELS, 23)), np.zeros(24), np.zeros((0, 24)), None])
    def test_damaged_sensitivities(self, weights, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        np.savez(
            folder / "encoder.npz",
            **({"other": np.zeros(3)} if weights is None else {"distortion_weight": weights}),
        )
        describe_file(folder, "encoder.npz")
        with pytest.raises(ModelError, match="encoder"):
            Codec(read_info(folder)).encode(texture(9, 9))
        data = codec_of(CONTEXT).encode(texture(9, 9))
        assert Codec(read_info(folder)).decode(data).shape == (9, 9, 3)


def describe_file(folder, name):
    files = dict(read_info(folder).facts["files"])
    files[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    rewrite(folder, facts={"files": files})


class TestArrays:
    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((4, 4, 3), np.uint16),
            np.zeros((4, 4, 3), np.int8),
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 4, 3), bool),
            np.zeros((4, 4, 3), object),
            np.zeros((4, 4, 5), np.uint8),
            np.zeros((4, 4, 0), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((4, 0), np.uint8),
            np.zeros(4, np.uint8),
            np.zeros((), np.uint8),
            np.zeros((1, 4, 4, 3), np.uint8),
            [[1, 2], [3, 4]],
            "picture.png",
            None,
        ],
        ids=lambda array: f"{getattr(array, 'dtype', array)}{getattr(array, 'shape', '')}",
    )
    def test_refused(self, array):
        with pytest.raises(ImageError):
            codec_of(CONTEXT).encode(array)

    def test_gray_model(self, monkeypatch, tmp_path):
        """A model of one channel codes gray images, and refuses colour."""
        folder = copy_model(tmp_path / "gray-1")
        rewrite(folder, facts={"channels": 1})
        gray = Codec(read_info(folder))
        with pytest.raises(ImageError, match="gray"):
            gray.encode(smooth(20, 30, 3))
        with pytest.raises(ImageError, match="gray"):
            gray.encode(smooth(20, 30, 4))
        monkeypatch.setattr(loading, "Session", OneChannel)
        for channels in (1, 2):
            decoded = gray.decode(gray.encode(smooth(20, 30, channels), 100))
            assert decoded.shape == (20, 30, channels)
            assert np.abs(decoded[:, :, 0] - smooth(20, 30, 1)[:, :, 0].astype(float)).mean() < 20
        # A file that claims colour of such a model has three equal channels.
        data = bytearray(gray.encode(smooth(20, 30, 1), 100))
        data[8] &= ~container.FLAG_GRAY
        decoded = gray.decode(resealed(bytes(data)))
        assert decoded.shape == (20, 30, 3)
        assert (decoded == decoded[:, :, :1]).all()

    def test_gray_of_a_colour_model_is_the_mean(self):
        data = bytearray(codec_of(CONTEXT).encode(texture(30, 40), 100))
        colour = codec_of(CONTEXT).decode(bytes(data)).astype(int)
        data[8] |= container.FLAG_GRAY
        gray = codec_of(CONTEXT).decode(resealed(bytes(data)))
        assert np.array_equal(gray[:, :, 0], np.floor(colour.sum(2) / 3 + 0.5).astype(int))


class OneChannel(loading.Session):
    """A stand-in for the transforms of a gray model, of which there is none small enough to keep."""

    def __call__(self, image, extra=None):
        if extra is None:
            return super().__call__(np.repeat(image, 3, 3))
        return super().__call__(image, extra).mean(3, keepdims=True).astype(np.float32)


class TestAlpha:
    @pytest.mark.parametrize("channels", [2, 4])
    def test_opaque(self, channels):
        """An opaque plane takes no bytes, and is there again."""
        pixels = texture(40, 50, channels)
        pixels[:, :, -1] = 255
        data = codec_of(CONTEXT).encode(pixels, 50)
        assert len(data) == len(codec_of(CONTEXT).encode(pixels[:, :, :-1], 50))
        decoded = codec_of(CONTEXT).decode(data)
        assert decoded.shape == pixels.shape
        assert (decoded[:, :, -1] == 255).all()

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (77, 5), (130, 1100)])
    def test_lossless(self, size):
        alpha = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
        for plane in (
            alpha,
            alpha // 255,
            np.zeros_like(alpha),
            np.where(alpha > 200, alpha, 255).astype(np.uint8),
        ):
            pixels = np.concatenate([texture(*size), plane[:, :, None]], 2)
            assert np.array_equal(codec_of(CONTEXT).decode(codec_of(CONTEXT).encode(pixels))[:, :, 3], plane)

    def png(self, pixels, **options):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", **options)
        return stream.getvalue()

    def alpha_file(self, png, width=20, height=10):
        """A file of a picture whose alpha plane is any bytes."""
        data = codec_of(CONTEXT).encode(smooth(height, width, 3))
        parsed = container.parse(data, 1024, 1 << 20)
        header = Header(parsed.header.fingerprint, parsed.header.level, False, True, width, height)
        return container.serialize(Container(header, Metadata(alpha_png=png), parsed.tiles), 1024)

    def test_any_proper_png(self):
        """Of another writer: other compression, filters, and chunks that say nothing about samples."""
        plane = smooth(10, 20, 2)[:, :, 1]
        for options in ({}, {"compress_level": 0}, {"dpi": (72, 72)}):
            decoded = codec_of(CONTEXT).decode(self.alpha_file(self.png(plane, **options)))
            assert np.array_equal(decoded[:, :, 3], plane)

    def test_wrong_planes(self):
        plane = np.zeros((10, 20), np.uint8)
        good = self.png(plane)
        noisy = self.png(smooth(10, 20, 2)[:, :, 1])
        for png in (
            b"",
            b"\x89PNG\r\n\x1a\n",
            good[:40],
            noisy[: len(noisy) // 2],
            self.png(np.zeros((20, 10), np.uint8)),
            self.png(np.zeros((11, 20), np.uint8)),
            self.png(np.zeros((10, 20, 3), np.uint8)),
            self.png(np.zeros((10, 20, 4), np.uint8)),
            self.png(np.zeros((10, 20), np.uint16)),
            self.png(np.zeros((10, 20), bool)),
            self.png(plane, transparency=3),
            good.replace(b"IDAT", b"IDAX"),
            b"GIF89a" + good,
        ):
            with pytest.raises(FormatError):
                codec_of(CONTEXT).decode(self.alpha_file(png))

    def test_every_byte_of_a_plane(self):
        png = self.png(smooth(10, 20, 2)[:, :, 1])
        for place in range(len(png)):
            changed = bytearray(png)
            changed[place] ^= 0x55
            answer(self.alpha_file(bytes(changed)), (10, 20, 4))
            answer(self.alpha_file(png[:place]), (10, 20, 4))

    def test_a_plane_that_claims_to_be_huge(self):
        plane = bytearray(self.png(np.zeros((10, 20), np.uint8)))
        plane[16:24] = (60000).to_bytes(4, "big") * 2
        plane[29:33] = zlib.crc32(plane[12:29]).to_bytes(4, "big")
        tracemalloc.start()
        with pytest.raises(FormatError, match="alpha"):
            codec_of(CONTEXT).decode(self.alpha_file(bytes(plane)))
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
        tracemalloc.stop()


class TestMetadata:
    @pytest.mark.parametrize("name", KINDS)
    def test_kept(self, name):
        icc, exif = np.random.default_rng(0).bytes(700), b"II*\0" + bytes(40)
        for picture in (
            Picture(smooth(20, 30, 3), None, icc, exif),
            Picture(smooth(20, 30, 1), None, None, exif),
            Picture(smooth(20, 30, 3), texture(20, 30, 1)[:, :, 0], icc, None),
        ):
            decoded = codec_of(name).decode_picture(codec_of(name).encode_picture(picture))
            assert (decoded.icc, decoded.exif) == (picture.icc, picture.exif)
            if picture.alpha is None:
                assert decoded.alpha is None
            else:
                assert np.array_equal(decoded.alpha, picture.alpha)

    def test_no_effect_on_pixels(self):
        pixels = smooth(20, 30, 3)
        plain = codec_of(CONTEXT).encode(pixels, 60)
        rich = codec_of(CONTEXT).encode_picture(Picture(pixels, None, b"profile", b"II*\0"), 60)
        assert np.array_equal(codec_of(CONTEXT).decode(plain), codec_of(CONTEXT).decode(rich))

    def test_frugal(self):
        """At most 20 bytes beside the range coder's, without metadata."""
        info = info_of(CONTEXT)
        for size in ((8, 8), (300, 500), (1000, 1000)):
            data = codec_of(CONTEXT).encode(texture(*size), 100)
            payload = sum(map(len, container.parse(data, info.tile_pixels, 1 << 20).tiles))
            assert len(data) - payload <= 20


def answer(data, shape=None, model=CONTEXT):
    """Decodes in bounded time to an array of the claimed size, or fails as it should: (array or None)."""
    started = time.perf_counter()
    try:
        decoded = codec_of(model).decode(data, max_pixels=1 << 20)
    except CodecError as error:
        message = str(error)
        decoded = None
    else:
        message = "fine"
    assert time.perf_counter() - started < 10
    assert message
    assert "\n" not in message
    if decoded is not None:
        header = container.peek(data)
        channels = (1 if header.gray else 3) + header.alpha
        assert (decoded.shape, decoded.dtype) == ((header.height, header.width, channels), np.uint8)
        assert shape is None or decoded.shape == shape
    return decoded


def small_file(name, metadata=True):
    icc = b"a profile" if metadata else None
    picture = Picture(smooth(20, 24, 3), smooth(20, 24, 2)[:, :, 1] if metadata else None, icc, icc)
    return codec_of(name).encode_picture(picture, 30)


@pytest.mark.parametrize("name", KINDS)
class TestDamage:
    def test_every_byte(self, name):
        """Damage by accident: never anything but an error."""
        data = small_file(name)
        rng = np.random.default_rng(0)
        for place in range(len(data)):
            for value in {1, 0x80, 0xFF, int(rng.integers(1, 256))}:
                changed = bytearray(data)
                changed[place] ^= value
                with pytest.raises(CodecError):
                    codec_of(name).decode(bytes(changed))
        assert codec_of(name).decode(data).shape == (20, 24, 4)

    def test_every_length(self, name):
        data = small_file(name)
        for length in range(len(data)):
            with pytest.raises(FormatError):
                codec_of(name).decode(data[:length])
        for more in (b"\0", b"\n", data):
            with pytest.raises(FormatError):
                codec_of(name).decode(data + more)

    def test_every_byte_by_an_expert(self, name):
        """With the checksum made right: an error, or an image of the size that the file claims."""
        data = small_file(name, metadata=False)
        found = {True: 0, False: 0}
        for place in range(3, len(data) - 4):
            for value in (1, 0x10, 0xFF):
                changed = bytearray(data)
                changed[place] ^= value
                found[answer(resealed(bytes(changed)), model=name) is not None] += 1
        assert found[False] > found[True] > 0

    def test_every_byte_of_metadata_by_an_expert(self, name):
        data = small_file(name)
        for place in range(3, len(data) - 4, 3):
            changed = bytearray(data)
            changed[place] ^= 1 + place % 255
            answer(resealed(bytes(changed)), model=name)

    def test_every_length_by_an_expert(self, name):
        data = small_file(name)
        for length in range(container.MIN_SIZE, len(data)):
            assert answer(resealed(data[:length]), model=name) is None
        for more in (b"\0", b"\1", bytes(100)):
            assert answer(resealed(data[:-4] + more + bytes(4)), model=name) is None

    def test_garbage_by_an_expert(self, name):
        """Random segments in a proper container."""
        rng = np.random.default_rng(0)
        for size in (1, 3, 4, 8, 30, 90, 400):
            for level in (0, 6):
                answer(file_of(30, 40, (rng.bytes(size),), level, model=name), model=name)

    @settings(deadline=None, max_examples=60)
    @given(body=st.binary(max_size=60))
    def test_any_bytes(self, name, body):
        start = b"\xc0\xdc\1" + info_of(name).fingerprint
        for data in (body, start + body, resealed(start + body + bytes(4))):
            answer(data, model=name)


def test_forgetting_the_transforms_changes_nothing():
    codec, pixels = Codec(info_of(CONTEXT)), texture(40, 50)
    codec.forget_transforms()
    data = codec.encode(pixels)
    codec.forget_transforms()
    decoded = codec.decode(data)
    codec.forget_transforms()
    assert codec.encode(pixels) == data
    assert np.array_equal(codec.decode(data), decoded)


class TestForeignFiles:
    def test_other_model_of_the_directory(self):
        """A file finds its model, whatever the codec encodes with."""
        for writer in KINDS:
            data = codec_of(writer).encode(smooth(20, 30, 3))
            for reader in KINDS:
                decoded = codec_of(reader).decode(data)
                assert np.array_equal(decoded, codec_of(writer).decode(data))

    def test_unknown_model(self):
        data = resealed(b"\xc0\xdc\1\x0b\xad\xca\xfe" + codec_of(CONTEXT).encode(smooth(20, 30, 3))[7:])
        with pytest.raises(ModelError, match="0badcafe"):
            codec_of(CONTEXT).decode(data)

    def test_damage_is_not_taken_for_another_model(self):
        data = b"\xc0\xdc\1\x0b\xad\xca\xfe" + codec_of(CONTEXT).encode(smooth(20, 30, 3))[7:]
        with pytest.raises(FormatError, match="checksum"):
            codec_of(CONTEXT).decode(data)

    def test_model_that_is_nowhere_else(self, tmp_path):
        """What a codec wrote it reads, even if its model is not installed."""
        folder = copy_model(tmp_path / "mine-1")
        rewrite(folder, tables={"gain": info_of(CONTEXT).tables["gain"] * np.float32(1.01)})
        mine = Codec(read_info(folder), models_dir=MODELS)
        data = mine.encode(smooth(20, 30, 3))
        assert mine.decode(data).shape == (20, 30, 3)
        by_path = Codec(str(folder), models_dir=MODELS)
        assert by_path.encode(smooth(20, 30, 3)) == data
        assert np.array_equal(by_path.decode(data), mine.decode(data))
        with pytest.raises(ModelError):
            codec_of(CONTEXT).decode(data)

    @pytest.mark.parametrize("version", [3, 4, 255])
    def test_later_version(self, version):
        """Whether or not the rest is anything that we understand."""
        data = codec_of(CONTEXT).encode(smooth(20, 30, 3))
        for file in (
            resealed(data[:2] + bytes([version]) + data[3:]),
            data[:2] + bytes([version]) + bytes(99),
        ):
            with pytest.raises(VersionError, match="later version"):
                codec_of(CONTEXT).decode(file)

    @pytest.mark.parametrize("level", [LEVELS, 100, 255])
    def test_level_of_another_model(self, level):
        with pytest.raises(FormatError, match="level"):
            codec_of(CONTEXT).decode(file_of(16, 16, level=level))

    def test_no_file_of_ours(self):
        stream = io.BytesIO()
        Image.new("RGB", (20, 20)).save(stream, "PNG")
        for data in (stream.getvalue(), b"", b"\xc0", bytes(1000), b"hello, world, and all who live there"):
            with pytest.raises(FormatError):
                codec_of(CONTEXT).decode(data)


class TestHugeClaims:
    @pytest.mark.parametrize(
        ("size", "error"),
        [
            ((1 << 24, 1 << 24), LimitError),
            ((1 << 24, 17), LimitError),
            ((16385, 16384), LimitError),
            ((1 << 24, 16), FormatError),
            ((16384, 16384), FormatError),
            ((1, 1 << 24), FormatError),
        ],
    )
    def test_refused_fast(self, size, error):
        """Before anything is allocated, by the limit or because so many tiles need more bytes."""
        body = container.serialize(
            Container(Header(info_of(CONTEXT).fingerprint, 0, False, False, 1, 1), Metadata(), (b"x",)), 1024
        )[:9]
        for number in size:
            encoded = b""
            while number >= 128:
                encoded, number = encoded + bytes([number & 127 | 128]), number >> 7
            body += encoded + bytes([number])
        data = resealed(body + b"\1x" + bytes(4))
        started = time.perf_counter()
        tracemalloc.start()
        for read in (codec_of(CONTEXT).decode, codec_of(CONTEXT).symbols):
            with pytest.raises(error):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
        assert time.perf_counter() - started < 1

    def test_limit(self):
        data = codec_of(CONTEXT).encode(smooth(20, 30, 3))
        assert codec_of(CONTEXT).decode(data, max_pixels=600).shape == (20, 30, 3)
        with pytest.raises(LimitError, match="599"):
            codec_of(CONTEXT).decode(data, max_pixels=599)

    def test_first_bad_tile_ends_it(self):
        """A large image of nonsense fails with its first tile, not after its last."""
        data = file_of(16000, 16000, (b"\xff" * 40,))
        started = time.perf_counter()
        with pytest.raises(FormatError):
            codec_of(CONTEXT).decode(data)
        assert time.perf_counter() - started < 2


class TestModels:
    def test_default(self, monkeypatch):
        """The alias ``photo`` of what is installed; nothing is loaded before it is needed."""
        monkeypatch.setenv("CODEC_MODELS_DIR", str(MODELS))
        assert Codec("tiny").info.name == "tiny-1"
        assert Codec("tiny-factorized").info.name == "tiny-factorized-1"
        with pytest.raises(ModelError):
            Codec("no-such-model").encode(smooth(8, 8, 3))

    def test_decoding_needs_no_default_model(self, monkeypatch, tmp_path):
        """Whoever has only the model of a file can read it."""
        copy_model(tmp_path / "some-9")
        monkeypatch.setattr("codec_cli.zoo.user_models_dir", lambda: tmp_path / "none")
        monkeypatch.setattr("codec_cli.zoo.installed_models_dir", lambda: tmp_path / "none")
        reader = Codec(models_dir=tmp_path)
        assert reader.decode(codec_of(CONTEXT).encode(smooth(20, 30, 3))).shape == (20, 30, 3)
        with pytest.raises(ModelError, match="photo"):
            reader.encode(smooth(8, 8, 3))

    def test_missing_directory(self, tmp_path):
        with pytest.raises(ModelError, match="nowhere"):
            Codec(models_dir=tmp_path / "nowhere")

    def test_fields_and_segments_of_both_kinds(self):
        """Equal transforms, other entropy coders: a file of one kind is none of the other."""
        segment = container.parse(codec_of(CONTEXT).encode(smooth(40, 40, 3), 100), 1024, 1 << 20).tiles[0]
        with pytest.raises(FormatError):
            codec_of(FACTORIZED).decode(file_of(40, 40, (segment,), 6, model=FACTORIZED), max_pixels=1 << 20)


PROGRAM = """
import sys, numpy
from codec_cli import Codec
from pathlib import Path
for name in ("tiny-1", "tiny-factorized-1"):
    codec = Codec(name, models_dir=Path(sys.argv[1]), threads=1)
    pixels = numpy.arange(40 * 50 * 4, dtype=numpy.uint8).reshape(40, 50, 4)
    assert codec.decode(codec.encode(pixels)).shape == pixels.shape
heavy = ("tensorflow", "tensorflow_compression", "tensorflow_datasets", "keras", "jax", "torch", "scipy",
         "pydantic", "skimage", "matplotlib", "codec_cli.training", "codec_cli.evaluation")
print([name for name in sys.modules if name in heavy])
"""


def test_light_imports():
    """A fresh interpreter encodes and decodes without TensorFlow or anything else of training."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(MODELS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == "[]\n"
    assert process.stderr == ""


def test_package_is_lazy():
    """``import codec_cli`` alone loads nothing heavy, not even numpy."""
    code = "import sys, codec_cli; print([n for n in ('numpy', 'PIL', 'constriction') if n in sys.modules])"
    output = subprocess.check_output(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert output == b"[]\n"


def test_random_symbols_as_files():
    """Files that no encoder of ours would write, with extreme symbols, decode to an image."""
    extremes = np.where(random_symbols(3, 3) > 0, 32767, -32768).astype(np.int16)
    for symbols in (extremes, random_symbols(3, 3, spread=900)):
        for name in KINDS:
            segment = entropy_of(name).encode(symbols, 6)
            data = file_of(48, 41, (segment,), 6, model=name)
            assert np.array_equal(codec_of(name).symbols(data)[0], symbols)
            assert answer(data, (41, 48, 3), name) is not None
