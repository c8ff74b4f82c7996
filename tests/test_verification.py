"""codec_cli.verification: what is verified, and when a picture is worth a warning."""

import math
from io import BytesIO

import numpy as np
import pytest
from helpers import CONTEXT, LEVELS, codec_of, copy_model, info_of, rewrite, texture
from PIL import Image

from codec_cli.errors import FormatError, ModelError
from codec_cli.pictures.images import Picture
from codec_cli.verification import (
    FAR,
    JPEG_LEAD,
    PNG_FACTOR,
    WORSE,
    Rivals,
    advice,
    needs_rivals,
    rivals,
    verify,
    warning,
)
from codec_cli.zoo import read_info

SIZE = 10_000
WEAK = Rivals(png_bytes=100 * SIZE, jpeg_db=10.0)


def warned(achieved, promised, png=100 * SIZE, jpeg=None):
    return warning(achieved, promised, SIZE, Rivals(png, jpeg))


def test_no_warning_near_the_promise():
    strong = Rivals(png_bytes=1, jpeg_db=99.0)
    assert warning(35 - WORSE, 35.0, SIZE, strong) is None
    assert warning(math.inf, 35.0, SIZE, strong) is None
    assert warning(35 - WORSE - 0.01, 35.0, SIZE, strong) is not None


def test_below_the_promise_alone_is_no_reason():
    assert warned(25.0, 35.0) is None
    assert warned(35 - FAR, 35.0) is None
    assert warned(35 - FAR - 0.01, 35.0).endswith("; another format may serve better")


def test_a_better_jpeg():
    assert warned(30.0, 35.0, jpeg=30 + JPEG_LEAD) is None
    assert warned(30.0, 35.0, jpeg=32.5) == (
        "30.0 dB, the model's card promises about 35 dB at this quality: unusual content; "
        "a JPEG of this size has 32.5 dB"
    )


def test_a_small_png_goes_before_a_jpeg():
    limit = int(PNG_FACTOR * SIZE)
    assert warned(30.0, 35.0, png=limit + 1) is None
    assert warned(30.0, 35.0, png=limit, jpeg=60.0).endswith("; a PNG is exact at 2 times the size")
    assert warned(30.0, 35.0, png=123).endswith("; a PNG is exact at 0.012 times the size")


def test_without_a_card_other_formats_count_alone():
    assert warned(1.0, None) is None
    assert warned(30.0, None, jpeg=33.0) == "30.0 dB: unusual content; a JPEG of this size has 33.0 dB"


def test_others_are_tried_only_for_bad_pictures(monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr("codec_cli.verification.rivals", fail)
    assert advice(texture(8, 8), SIZE, 34.0, 35.0) is None
    assert not needs_rivals(34.0, 35.0)
    assert needs_rivals(99.0, None)


@pytest.mark.parametrize("channels", [1, 3])
def test_rivals(channels):
    pixels = texture(64, 80, channels)
    assert rivals(pixels, 50).jpeg_db is None
    some, more = (rivals(pixels, size).jpeg_db for size in (2500, 5000))
    assert 15 < some < more < 60
    assert rivals(np.full((64, 64, channels), 9, np.uint8), 5000).png_bytes < 250


@pytest.mark.filterwarnings("error")
def test_rivals_of_noise_say_nothing_on_standard_error(capfd):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    assert rivals(noise, 10**6).jpeg_db > 20
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1, 1), (3, 2, 3), (1, 65536, 1)])
def test_rivals_of_odd_sizes(shape):
    found = rivals(np.zeros(shape, np.uint8), 10**6)
    assert found.png_bytes > 60
    assert (found.jpeg_db is None) == (max(shape) > 65535)


def test_a_photograph_that_was_a_jpeg_does_not_look_unusual(monkeypatch):
    """A JPEG of the same blocks would give the very file it came from."""
    stream = BytesIO()
    Image.fromarray(texture(128, 128)).save(stream, "JPEG", quality=75, subsampling="4:4:4")
    with Image.open(stream) as image:
        pixels = np.asarray(image)
    fair = rivals(pixels, stream.tell() + 100).jpeg_db
    monkeypatch.setattr("codec_cli.verification._SHIFT", 8)
    assert rivals(pixels, stream.tell() + 100).jpeg_db > fair + 5


def test_verify():
    codec = codec_of(CONTEXT)
    picture = Picture(texture(40, 50), np.full((40, 50), 255, np.uint8), b"profile", b"")
    data = codec.encode_picture(picture, 50)
    assert 5 < verify(codec, picture, data, 2000) < 60
    with pytest.raises(FormatError, match=r"^verification failed: it does not decode \(.*limit.*\); nothing"):
        verify(codec, picture, data, 1999)
    with pytest.raises(FormatError, match="50x40 RGB, not 40x50 gray"):
        verify(codec, Picture(texture(50, 40, 1)), data, 2000)
    with pytest.raises(FormatError, match="alpha"):
        verify(codec, Picture(picture.pixels, icc=b"profile"), data, 2000)


def test_memory_is_another_matter(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    codec = codec_of(CONTEXT)
    monkeypatch.setattr(codec, "decode_picture", fail)
    with pytest.raises(MemoryError):
        verify(codec, Picture(texture(8, 8)), b"", 100)


def test_what_cards_promise():
    info = info_of(CONTEXT)
    promises = [info.promised(level) for level in range(LEVELS)]
    assert promises == sorted(promises)
    assert info.promised(LEVELS) is None


@pytest.mark.parametrize(
    "rows",
    [
        ...,
        None,
        7,
        [],
        [3],
        [{"level": 1}],
        [{"level": 1, "psnr_rgb_db": "x"}],
    ],
    ids=repr,
)
def test_cards_without_promises(tmp_path, rows):
    folder = copy_model(tmp_path / "mine-1")
    rewrite(folder, facts={"validation": rows})
    assert read_info(folder).promised(1) is None


def test_a_card_of_infinite_quality_is_refused(tmp_path):
    """JSON has no infinity."""
    folder = copy_model(tmp_path / "mine-1")
    rewrite(folder, facts={"validation": [{"level": 1, "psnr_rgb_db": math.inf}]})
    with pytest.raises(ModelError):
        read_info(folder)
