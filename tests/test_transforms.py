"""Transforms tile by tile: the same as over the whole image, with no more halo than declared."""

import functools

import numpy as np
import pytest
from helpers import CHANNELS, CONTEXT, FACTORIZED, KINDS, codec_of, copy_model, info_of, texture

from codec_cli.errors import ModelError
from codec_cli.tiles import ArraySource, Grid
from codec_cli.transforms import TILE, Session, analyse, available_threads, latent_size, synthesise
from codec_cli.zoo import ANALYSIS, SYNTHESIS

STRIDE = 16
ANALYSIS_HALO, SYNTHESIS_HALO = (
    int(info_of(CONTEXT).facts[name]) for name in ("analysis_halo", "synthesis_halo")
)


@functools.cache
def session(part, name=CONTEXT, threads=1):
    return open_session(info_of(name).path / part, threads)


def open_session(path, threads=1):
    return Session(path.read_bytes(), path, threads)


@functools.cache
def arrays(name=CONTEXT):
    return info_of(name).tables


def whole_latents(pixels, name=CONTEXT):
    """One pass of the analysis over the whole image, its last pixels repeated up to the stride."""
    padding = [(0, -size % STRIDE) for size in pixels.shape[:2]]
    padded = np.pad(pixels, [*padding, (0, 0)], mode="edge")
    return session(ANALYSIS, name)(padded.astype(np.float32)[None] * np.float32(1 / 255))[0]


def whole_samples(latents, level, name=CONTEXT):
    """One pass of the synthesis over all latents: float32 samples, about 0 to 1."""
    return session(SYNTHESIS, name)(latents[None], arrays(name)["level_weights"][level][None])[0]


def to_pixels(samples):
    return np.clip(samples * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)


def tiles_of(height, width):
    return [*Grid((height, width)).tiles()]


def random_latents(height, width, level=6, seed=0):
    """What a decoder feeds to the synthesis: symbols times gains."""
    symbols = np.rint(np.random.default_rng(seed).laplace(0, 4, (height, width, CHANNELS)))
    return symbols.astype(np.float32) * arrays()["inverse_gain"][level]


class TestGrid:
    @pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 64), (64, 65), (130, 200), (1, 1000), (63, 127)])
    def test_covers_once(self, size):
        count = np.zeros(size, int)
        for top, left, bottom, right in tiles_of(*size):
            assert 0 < bottom - top <= TILE
            assert 0 < right - left <= TILE
            count[top:bottom, left:right] += 1
        assert (count == 1).all()

    def test_raster_order(self):
        tiles = tiles_of(100, 130)
        assert tiles == sorted(tiles)
        assert [tile[:2] for tile in tiles] == [(y, x) for y in (0, 64) for x in (0, 64, 128)]

    @pytest.mark.parametrize(
        ("size", "expected"),
        [((1, 1), (1, 1)), ((16, 17), (1, 2)), ((0, 5), (0, 1)), ((1024, 1025), (64, 65))],
    )
    def test_latent_size(self, size, expected):
        assert latent_size(*size, STRIDE) == expected


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(80, 1100), (1100, 50), (1045, 1061), (21, 2100)])
class TestTiles:
    """Images of several tiles: what tiles see of their neighbours suffices."""

    def test_analysis(self, name, size):
        pixels = texture(*size)
        whole = whole_latents(pixels, name)
        halo = int(info_of(name).facts["analysis_halo"])
        assert whole.shape == (*latent_size(*size, STRIDE), CHANNELS)
        tiles = tiles_of(*whole.shape[:2])
        assert len(tiles) > 1
        for tile in tiles:
            part = analyse(
                session(ANALYSIS, name), ArraySource(pixels).cut, size, tile, STRIDE, halo, CHANNELS
            )
            expected = whole[tile[0] : tile[2], tile[1] : tile[3]]
            assert part.shape == expected.shape
            assert np.abs(part - expected).max() < 1e-4

    def test_synthesis(self, name, size):
        rows, columns = latent_size(*size, STRIDE)
        halo = int(info_of(name).facts["synthesis_halo"])
        for level in (0, 6):
            latents = random_latents(rows, columns, level)
            whole = to_pixels(whole_samples(latents, level, name))
            assert whole.std() > 5
            for tile in tiles_of(rows, columns):
                part = synthesise(
                    session(SYNTHESIS, name),
                    lambda top, left, bottom, right, plane=latents: plane[top:bottom, left:right],
                    tile,
                    (rows, columns),
                    STRIDE,
                    halo,
                    arrays(name)["level_weights"][level][None],
                    3,
                )
                top, left, bottom, right = (STRIDE * edge for edge in tile)
                expected = whole[top:bottom, left:right]
                assert part.shape == expected.shape
                assert part.dtype == np.uint8
                assert np.abs(part.astype(int) - expected).max() <= 1

    def test_codec(self, name, size):
        """End to end: what ``decode`` gives is one synthesis pass over the decoded symbols of all tiles."""
        codec = codec_of(name)
        pixels = texture(*size)
        data = codec.encode(pixels, 100)
        rows, columns = latent_size(*size, STRIDE)
        plane = np.empty((rows, columns, CHANNELS), np.float32)
        for (top, left, bottom, right), tile in zip(
            tiles_of(rows, columns), codec.symbols(data), strict=True
        ):
            plane[top:bottom, left:right] = tile
        wanted = whole_latents(pixels, name) * arrays(name)["gain"][6]
        # Of equal symbols there are nearly all: sums that end within 1e-4 of a half may round either way.
        assert (np.rint(wanted) == plane).mean() > 0.999
        assert np.abs(wanted - plane).max() < 0.501
        whole = to_pixels(whole_samples(plane * arrays(name)["inverse_gain"][6], 6, name))
        decoded = codec.decode(data)
        assert decoded.shape == pixels.shape
        assert np.abs(decoded.astype(int) - whole[: size[0], : size[1]]).max() <= 1

    def test_latents_of_the_codec(self, name, size):
        pixels = texture(*size)
        whole = whole_latents(pixels, name)
        tiles = tiles_of(*whole.shape[:2])
        for tile, part in zip(tiles, codec_of(name).latents(pixels), strict=True):
            assert np.abs(part - whole[tile[0] : tile[2], tile[1] : tile[3]]).max() < 1e-4


def test_without_a_halo_there_would_be_seams():
    """So the tests above do see the halo."""
    pixels = texture(80, 1100)
    whole = whole_latents(pixels)
    part = analyse(session(ANALYSIS), ArraySource(pixels).cut, (80, 1100), (0, 0, 5, 64), STRIDE, 0, CHANNELS)
    assert np.abs(part - whole[:, :64]).max() > 1e-3
    latents = random_latents(5, 69)
    part = synthesise(
        session(SYNTHESIS),
        lambda top, left, bottom, right: latents[top:bottom, left:right],
        (0, 0, 5, 64),
        (5, 69),
        STRIDE,
        0,
        arrays()["level_weights"][6][None],
        3,
    )
    assert np.abs(part.astype(int) - to_pixels(whole_samples(latents, 6))[:, : 64 * STRIDE]).max() > 1


class TestReach:
    """How far a change spreads, in one pass over the whole image."""

    @pytest.mark.parametrize("where", [(0, 0), (47, 48), (100, 120), (159, 191), (80, 15)])
    def test_of_a_pixel(self, where):
        pixels = texture(160, 192)
        changed = pixels.copy()
        changed[where] = 255 - changed[where]
        differs = (whole_latents(changed) != whole_latents(pixels)).any(2)
        rows, columns = np.nonzero(differs)
        assert len(rows)
        assert np.abs(rows - where[0] // STRIDE).max() <= ANALYSIS_HALO
        assert np.abs(columns - where[1] // STRIDE).max() <= ANALYSIS_HALO

    def test_of_a_block_of_pixels(self):
        """As the analysis of a tile relies on it: whole blocks change, rows and columns away stay."""
        pixels = texture(160, 272)
        changed = pixels.copy()
        changed[:, : 5 * STRIDE] = 0
        differs = (whole_latents(changed) != whole_latents(pixels)).any((0, 2))
        assert differs[:5].all()
        assert not differs[5 + ANALYSIS_HALO :].any()

    @pytest.mark.parametrize("where", [(0, 0), (4, 5), (9, 11), (7, 0)])
    def test_of_a_latent(self, where):
        latents = random_latents(10, 12)
        changed = latents.copy()
        changed[where] += 3
        differs = (whole_samples(changed, 6) != whole_samples(latents, 6)).any(2)
        rows, columns = np.nonzero(differs)
        assert len(rows)
        for place, along in zip(where, (rows, columns), strict=True):
            assert along.min() >= (place - SYNTHESIS_HALO) * STRIDE
            assert along.max() < (place + SYNTHESIS_HALO + 1) * STRIDE

    def test_of_a_half_of_the_latents(self):
        latents = random_latents(10, 30)
        changed = latents.copy()
        changed[:, :15] = 0
        differs = (whole_samples(changed, 6) != whole_samples(latents, 6)).any((0, 2))
        assert differs[: 15 * STRIDE].mean() > 0.99
        assert not differs[(15 + SYNTHESIS_HALO) * STRIDE :].any()


class TestSizes:
    @pytest.mark.parametrize("size", [(1, 1), (1, 16), (17, 1), (15, 33), (31, 7), (64, 101), (2, 1025)])
    def test_edges_repeat(self, size):
        """An image is analysed as if its last pixels went on up to the stride."""
        pixels = texture(*size)
        padded = np.pad(pixels, ((0, -size[0] % STRIDE), (0, -size[1] % STRIDE), (0, 0)), mode="edge")
        for one, other in zip(
            codec_of(CONTEXT).latents(pixels), codec_of(CONTEXT).latents(padded), strict=True
        ):
            assert np.array_equal(one, other)

    def test_one_session_at_changing_sizes(self):
        """Whatever ran before in a session leaves no trace."""
        runner = open_session(info_of(CONTEXT).path / ANALYSIS)
        images = [texture(*size).astype(np.float32)[None] / 255 for size in ((16, 16), (48, 80), (16, 32))]
        first = [runner(image) for image in images]
        for image, expected in [*zip(images, first, strict=True)][::-1]:
            assert np.array_equal(runner(image), expected)
            assert np.array_equal(open_session(info_of(CONTEXT).path / ANALYSIS)(image), expected)

    def test_results_stay(self):
        """A result is no view of memory that the next run overwrites."""
        image = texture(32, 32).astype(np.float32)[None] / 255
        result = session(ANALYSIS)(image)
        kept = result.copy()
        session(ANALYSIS)(1 - image)
        assert np.array_equal(result, kept)


class TestSessions:
    @pytest.mark.parametrize("name", KINDS)
    def test_threads(self, name):
        """More threads may sum in another order, no more."""
        pixels = texture(130, 150).astype(np.float32)[None, :128, :144] / 255
        one, two = (session(ANALYSIS, name, threads)(pixels) for threads in (1, 2))
        assert np.abs(one - two).max() < 1e-4

    def test_level_weights_count(self):
        latents = random_latents(3, 3)
        assert not np.array_equal(whole_samples(latents, 0), whole_samples(latents, 6))

    def test_models_differ(self):
        latents = random_latents(3, 3)
        assert not np.array_equal(whole_samples(latents, 0), whole_samples(latents, 0, FACTORIZED))

    @pytest.mark.parametrize(
        "content", [b"", b"no model", b"\x1c\0\0\0TFL3" + bytes(100)], ids=["", "text", "start"]
    )
    def test_damaged(self, content, tmp_path):
        path = tmp_path / ANALYSIS
        path.write_bytes(content)
        with pytest.raises(ModelError, match=ANALYSIS):
            open_session(path)

    def test_cut(self, tmp_path):
        path = copy_model(tmp_path / "model-1") / SYNTHESIS
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ModelError, match=SYNTHESIS):
            open_session(path)

    def test_quiet(self, capfd):
        """LiteRT would announce its delegate on the standard error."""
        open_session(info_of(CONTEXT).path / ANALYSIS)(np.zeros((1, 16, 16, 3), np.float32))
        assert capfd.readouterr().err == ""

    def test_available_threads(self):
        assert available_threads() >= 1
