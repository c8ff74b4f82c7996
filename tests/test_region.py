"""Parts of images: equal to the crop of the whole, from no more tiles than they need."""

import numpy as np
import pytest
from conftest import error_line
from helpers import CONTEXT, KINDS, codec_of, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codec_cli import decoding
from codec_cli.decoding import Region, TileDecoder
from codec_cli.errors import CodecError

HEIGHT, WIDTH = 1100, 2100  # 2 by 3 tiles.


@pytest.fixture(scope="module")
def files():
    return {name: codec_of(name).encode(texture(HEIGHT, WIDTH, 4), 60) for name in KINDS}


@pytest.fixture(scope="module")
def images(files):
    return {name: codec_of(name).decode(data) for name, data in files.items()}


def crop(image, region):
    return image[region.top : region.bottom, region.left : region.right]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "region",
    [
        Region(0, 0, WIDTH, HEIGHT),
        Region(0, 0, 1, 1),
        Region(WIDTH - 1, HEIGHT - 1, 1, 1),
        Region(1000, 1000, 50, 60),
        Region(1023, 0, 2, HEIGHT),
        Region(0, 1024, WIDTH, 76),
        Region(500, 1023, 1600, 1),
    ],
    ids=str,
)
def test_equals_the_crop(files, images, name, region):
    picture = codec_of(name).decode_picture(files[name], region=region)
    assert np.array_equal(picture.pixels, crop(images[name], region)[:, :, :3])
    assert np.array_equal(picture.alpha, crop(images[name], region)[:, :, 3])
    assert picture.alpha.flags.c_contiguous


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_any_region(files, images, data):
    left, top = data.draw(st.integers(0, WIDTH - 1)), data.draw(st.integers(0, HEIGHT - 1))
    region = Region(
        left, top, data.draw(st.integers(1, WIDTH - left)), data.draw(st.integers(1, HEIGHT - top))
    )
    picture = codec_of(CONTEXT).decode_picture(files[CONTEXT], region=region)
    assert np.array_equal(picture.pixels, crop(images[CONTEXT], region)[:, :, :3])


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (Region(0, 0, 16, 16), {(0, 0), (0, 1), (1, 0), (1, 1)}),
        (Region(2090, 1090, 5, 5), {(1, 2), (1, 1), (0, 2), (0, 1)}),
        (Region(0, 0, WIDTH, 1), {(r, c) for r in range(2) for c in range(3)}),
    ],
    ids=str,
)
def test_decodes_what_it_needs_once(files, monkeypatch, region, expected):
    seen, decode = [], TileDecoder.symbols
    monkeypatch.setattr(
        TileDecoder,
        "symbols",
        lambda self, row, column: seen.append((row, column)) or decode(self, row, column),
    )
    codec_of(CONTEXT).decode_picture(files[CONTEXT], region=region)
    assert set(seen) == expected
    assert len(seen) == len(set(seen))


def test_memory_holds_about_a_row_of_tiles(monkeypatch):
    """Of four rows of three tiles, one and three tiles at a time, and rows of others that a halo reaches."""
    data = codec_of(CONTEXT).encode(texture(4096, 3072), 1)
    most, leave = [0], decoding._Plane.leave

    def watched(self, row, column):
        most[0] = max(most[0], sum(symbols.size for _, symbols in self._kept.values()))
        leave(self, row, column)

    monkeypatch.setattr(decoding._Plane, "leave", watched)
    codec_of(CONTEXT).decode(data)
    tile = 64 * 64 * 24
    assert 2 * tile < most[0] < 6.5 * tile


def test_symbols_of_any_size(monkeypatch):
    """Whether or not they fit a byte, and where tiles that do and do not meet."""
    header = codec_of(CONTEXT).open(codec_of(CONTEXT).encode(texture(40, 2100))).header
    rng = np.random.default_rng(0)
    for largest in (100, 127, 128, 400):
        tiles = {c: rng.integers(-3, 4, (3, 64 if c < 2 else 4, 24)).astype(np.int16) for c in range(3)}
        tiles[1][2, 5, 7], tiles[1][1, 1, 1] = largest, -largest - 1
        monkeypatch.setattr(TileDecoder, "symbols", lambda self, row, column, tiles=tiles: tiles[column])
        decoder = codec_of(CONTEXT).tiles(header, (b"", b"", b""))
        plane = decoding._Plane(decoder, np.ones(24, np.float32), 3)
        assert np.array_equal(plane.latents(0, 0, 3, 132), np.concatenate([tiles[c] for c in range(3)], 1))


@pytest.mark.parametrize(
    "region",
    [
        Region(0, 0, WIDTH + 1, 1),
        Region(0, HEIGHT, 1, 1),
        Region(5, 5, 0, 1),
        Region(5, 5, 1, 0),
        Region(-1, 0, 5, 5),
    ],
    ids=str,
)
def test_outside(files, region):
    with pytest.raises(CodecError, match=r"does not lie within the image of 2100x1100 pixels"):
        codec_of(CONTEXT).decode_picture(files[CONTEXT], region=region)


class TestCommand:
    @pytest.fixture
    def packed(self, files, tmp_path):
        path = tmp_path / "x.bin"
        path.write_bytes(files[CONTEXT])
        return path

    @pytest.mark.parametrize("by_rows", [False, True])
    def test_region(self, run, packed, images, monkeypatch, by_rows):
        if by_rows:
            pytest.importorskip("pyvips", reason="pyvips (the extra `large`) is not installed")
            monkeypatch.setattr("codec_cli.pictures.rows.MIN_PIXELS", 1)
        target = packed.with_name("part.png")
        result = run("decompress", packed, target, "--region", "1000, 900,300,150")
        assert result.exit_code == 0, result.stderr
        assert "45000 px" in result.stdout
        assert "bpp" not in result.stdout  # Of the bytes of all, and the pixels of a part.
        with Image.open(target) as image:
            assert np.array_equal(np.asarray(image), images[CONTEXT][900:1050, 1000:1300])

    @pytest.mark.parametrize(
        "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,3,-4", "1;2;3;4", "1.5,2,3,4"]
    )
    def test_nonsense(self, run, packed, text):
        result = run("decompress", packed, "--region", text)
        assert result.exit_code == 2
        assert "--region" in result.stderr

    def test_outside(self, run, packed):
        result = run("decompress", packed, "--region", "2000,1000,101,100")
        assert result.exit_code == 1
        assert error_line(result).startswith(f"codec: {packed}: the region 2000,1000,101,100")
        assert not packed.with_suffix(".png").exists()
