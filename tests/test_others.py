"""Other codecs: their sweeps, round trips and refusals; BPG's programs are played by scripts."""

import dataclasses
import io
import os
import sys

import numpy as np
import pytest
from conftest import ROOT
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
    places = [codec.scale.index(setting) for setting in settings]
    assert places == sorted(places)
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


def test_noise(codec):
    """The largest files there are."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    assert codec.decode(codec.encode(noise, codec.scale[-1])).shape == noise.shape


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
    assert {"jpeg", "jpeg444", "webp", "avif", "avif444", "jpeg2000", "jxl", "heic", "bpg"} == set(KNOWN)
    for codec in others(KNOWN):
        assert isinstance(codec, OtherCodec)
        assert codec.description


def test_unknown_names():
    with pytest.raises(CodecError, match="unknown codec gif, png: known are jpeg, "):
        others(["jpeg", "gif", "png"])


@pytest.mark.parametrize("error", [OSError("encoder not available"), KeyError("WEBP")])
def test_what_pillow_lacks_is_reported(monkeypatch, error):
    def save(*_, **__):
        raise error

    monkeypatch.setattr(Image.Image, "save", save)
    (codec,) = others(["webp"])
    assert "no working WEBP" in codec.available()
    with pytest.raises(CodecError, match="webp can't encode"):
        codec.encode(picture(), 50)


@pytest.mark.parametrize(("name", "package"), [("jxl", "pillow_jxl"), ("heic", "pillow_heif")])
def test_missing_packages_are_named(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    (codec,) = others([name])
    reason = codec.available()
    assert reason == f"needs the package {codec.plugin.package}: pip install 'codec-cli[eval]'"
    assert codec.version().startswith("not installed")
    for call in (lambda: codec.encode(picture(), 50), lambda: codec.decode(b"")):
        with pytest.raises(CodecError, match="needs the package"):
            call()


@pytest.mark.parametrize("name", ["avif444", "jpeg444", "heic"])
def test_colours_come_back(name):
    """Without subsampling and at the best quality: another matrix or range would cost 10 dB and more."""
    (codec,) = others([name])
    if codec.available():
        pytest.skip(codec.available())
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    assert metrics.psnr(pixels, codec.decode(codec.encode(pixels, codec.scale[-1]))) > 40


def test_chroma_of_heic():
    (codec,) = others(["heic"])
    if codec.available():
        pytest.skip(codec.available())
    file = codec.encode(picture(), 50)
    box = file.index(b"hvcC") + 4
    assert file[box + 16] & 3 == 3  # chromaFormat: 4:4:4
    colours = file.index(b"nclx") + 4
    assert file[colours + 4 : colours + 7] == b"\x00\x06\x80"  # BT.601, full range


def test_identities(codec):
    """What a cache of results keys on."""
    identity = codec.identity
    assert identity == codec.identity
    assert identity.startswith(f"{codec.name} ")
    assert codec.version() in identity
    assert "\n" not in identity
    assert "not installed" not in identity
    assert any(character.isdigit() for character in codec.version())


def test_identities_tell_codecs_and_options_apart():
    every = others(KNOWN)
    assert len({codec.identity for codec in every}) == len(every)
    (webp,) = others(["webp"])
    changed = dataclasses.replace(webp, options=lambda setting: {**webp.options(setting), "method": 4})
    assert changed.identity != webp.identity
    # Words and the sweep change no file.
    same = dataclasses.replace(webp, description="better words", sweep=(1, 2))
    assert same.identity == webp.identity


def test_the_document_states_the_sweeps():
    text = (ROOT / "docs" / "EVALUATION.md").read_text()
    for codec in others(KNOWN):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{codec.name}` |")]
        assert f"| {', '.join(map(str, codec.settings()))} |" in row
        assert {str(codec.scale[0]), str(codec.scale[-1])} <= set(row.split("|")[4].split())


# BPG, whose programs are rarely installed: scripts that take the same arguments and write JPEG instead.

ENCODER = """
import sys
from PIL import Image
arguments = sys.argv[1:]
if not arguments:
    print("BPG Image Encoder version 0.9.8\\nusage: ...")
    sys.exit(1)
options = dict(zip(arguments[:-1:2], arguments[1:-1:2]))
assert options["-f"] == "444" and arguments[-1].endswith(".png"), arguments
image = Image.open(arguments[-1])
assert image.format == "PNG" and image.mode == "RGB"
if image.width > 200:
    sys.exit("too large\\nfor me")
image.save(options["-o"], "JPEG", quality=100 - int(options["-q"]), subsampling="4:4:4")
"""
DECODER = """
import sys
from PIL import Image
option, target, source = sys.argv[1:]
assert option == "-o" and source.endswith(".bpg")
try:
    Image.open(source, formats=["JPEG"]).save(target, "PNG")
except OSError:
    sys.exit("not one of mine")
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function that puts programs on the PATH; returns the codec that runs them."""
    if os.name != "posix":
        pytest.skip("needs scripts that can be executed")

    def write(bpgenc=ENCODER, bpgdec=DECODER):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, text in (("bpgenc", bpgenc), ("bpgdec", bpgdec)):
            if text is not None:
                (folder / name).write_text(f"#!{sys.executable} -S\n" + PATHS + text)
                (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        (codec,) = others(["bpg"])
        return codec

    return write


PATHS = f"import sys; sys.path[:] = {sys.path!r}\n"


def test_bpg(programs, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    codec = programs()
    assert codec.available() is None
    assert codec.version() == "BPG Image Encoder version 0.9.8"
    assert "-f 444" in codec.identity
    pixels = picture(64, 80)
    files = [codec.encode(pixels, setting) for setting in (codec.scale[0], 30, codec.scale[-1])]
    assert [len(file) for file in files] == sorted({len(file) for file in files})
    result = codec.decode(files[-1])
    assert metrics.psnr(pixels, result) > 38
    assert result.flags.writeable
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]  # Nothing is left behind.


def test_bpg_is_missing(programs):
    codec = programs(None, None)
    reason = codec.available()
    assert reason == "bpgenc and bpgdec are not on the PATH; build them from https://bellard.org/bpg/"
    assert codec.version() == "not installed"
    with pytest.raises(CodecError, match="bpg can't encode this image: bpgenc is not on the PATH"):
        codec.encode(picture(), 30)
    assert programs(bpgdec=None).available().startswith("bpgdec is not on the PATH")


def test_bpg_fails(programs):
    codec = programs()
    with pytest.raises(CodecError, match=r"bpg can't encode this image: bpgenc: too large for me$"):
        codec.encode(picture(16, 300), 30)
    with pytest.raises(CodecError, match="bpg can't decode this file: bpgdec: not one of mine"):
        codec.decode(b"nothing")
    assert "exit code 3" in programs(bpgenc="sys.exit(3)").available()
    wrong = programs(bpgdec="open(sys.argv[2], 'w').write('no image')")
    assert "bpgdec wrote no PNG" in wrong.available()


def test_bpg_takes_too_long(programs):
    codec = dataclasses.replace(programs(bpgenc="import time; time.sleep(60)"), timeout=0.2)
    with pytest.raises(CodecError, match=r"bpgenc took over 0.2 s"):
        codec.encode(picture(), 30)
