"""Other codecs through Pillow: their sweeps, round trips and refusals."""

import io

import numpy as np
import pytest
from PIL import Image

from codec_cli.errors import CodecError
from codec_cli.evaluation import metrics
from codec_cli.evaluation.others import KNOWN, OtherCodec, others

# What a sweep has to span on a photograph, in bits per pixel.
LOWEST, HIGHEST = 0.3, 1.2


def picture(height=96, width=112):
    """Smooth colour, edges and grain: near enough to a photograph."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    shade = np.stack([128 + 90 * np.sin(x / 31 + i) * np.cos(y / 23 - i / 2) for i in range(3)], axis=2)
    shade[(x - 60) ** 2 + (y - 40) ** 2 < 400] = (220, 60, 40)
    shade += rng.normal(0, 3, (height, width, 1))
    return np.clip(shade, 0, 255).astype(np.uint8)


@pytest.fixture(params=KNOWN)
def codec(request):
    (codec,) = others([request.param])
    reason = codec.available()
    if reason:
        pytest.skip(reason)
    return codec


def test_rate_and_quality_rise_over_the_sweep(codec):
    pixels = picture(224, 256)  # large enough for headers not to weigh
    settings = codec.settings()
    files = [codec.encode(pixels, setting) for setting in settings]
    decoded = [codec.decode(file) for file in files]
    assert len(settings) == 8
    assert settings == sorted(settings)
    rates = [len(file) * 8 / (pixels.shape[0] * pixels.shape[1]) for file in files]
    quality = [metrics.psnr(pixels, result) for result in decoded]
    assert rates == sorted(set(rates))
    assert quality[0] < quality[3] < quality[-1]
    assert rates[0] < LOWEST < HIGHEST < rates[-1]
    assert quality[-1] > 34
    for result in decoded:
        assert result.dtype == np.uint8
        assert result.shape == pixels.shape
        assert result.flags.writeable


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (17, 1), (33, 40)])
def test_any_size(codec, shape):
    pixels = picture(*shape)
    for setting in (codec.settings()[0], codec.settings()[-1]):
        assert codec.decode(codec.encode(pixels, setting)).shape == pixels.shape


def test_is_deterministic(codec):
    pixels, setting = picture(), codec.settings()[3]
    assert codec.encode(pixels, setting) == codec.encode(pixels, setting)


def test_the_sweep_lies_on_the_scale(codec):
    assert set(codec.settings()) <= set(codec.scale)
    pixels = picture(64, 64)
    for setting in (codec.scale[0], codec.scale[-1]):
        assert codec.decode(codec.encode(pixels, setting)).shape == pixels.shape


def test_settings_are_the_callers_own(codec):
    codec.settings().clear()
    assert len(codec.settings()) == 8


def test_takes_any_memory_layout(codec):
    pixels, setting = picture()[::2, ::-1], codec.settings()[3]
    assert codec.encode(pixels, setting) == codec.encode(np.ascontiguousarray(pixels), setting)


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)]
)
def test_refuses_other_arrays(codec, wrong):
    with pytest.raises(ValueError, match="needs uint8 of"):
        codec.encode(wrong, codec.settings()[0])


def test_damaged_files(codec):
    file = codec.encode(picture(), codec.settings()[3])
    png = io.BytesIO()
    Image.fromarray(picture()).save(png, "PNG")
    for data in (b"", b"nothing", file[:20], png.getvalue()):
        with pytest.raises(CodecError, match=f"{codec.name} can't decode"):
            codec.decode(data)


@pytest.mark.parametrize(("name", "factors"), [("jpeg", b"\x22\x11\x11"), ("jpeg444", b"\x11\x11\x11")])
def test_chroma_of_jpeg(name, factors):
    (codec,) = others([name])
    file = codec.encode(picture(), 50)
    frame = file.index(b"\xff\xc0")  # baseline; components of three bytes follow: id, factors, table
    assert file[frame + 11 : frame + 19 : 3] == factors


def test_jpeg2000_transforms_colours():
    (codec,) = others(["jpeg2000"])
    if codec.available():
        pytest.skip(codec.available())
    file = codec.encode(picture(), 100)
    style = file.index(b"\xff\x52")
    assert file[style + 8] == 1  # multiple component transformation
    assert file[style + 13] == 0  # wavelet: 0 is 9/7
    assert len(file) * 8 / picture()[..., 0].size == pytest.approx(1, rel=0.1)


def test_lookup():
    assert [codec.name for codec in others(["webp", "jpeg", "webp"])] == ["webp", "jpeg"]
    assert {"jpeg", "jpeg444", "webp", "avif", "jpeg2000"} <= set(KNOWN)
    for codec in others(KNOWN):
        assert isinstance(codec, OtherCodec)
        assert codec.description


def test_unknown_names():
    with pytest.raises(CodecError, match="unknown codec gif, bpg: known are jpeg, "):
        others(["jpeg", "gif", "bpg"])


@pytest.mark.parametrize("error", [OSError("encoder not available"), KeyError("WEBP")])
def test_what_pillow_lacks_is_reported(monkeypatch, error):
    def save(*_, **__):
        raise error

    monkeypatch.setattr(Image.Image, "save", save)
    (codec,) = others(["webp"])
    assert "no working WEBP" in codec.available()
    with pytest.raises(CodecError, match="webp can't encode"):
        codec.encode(picture(), 50)
