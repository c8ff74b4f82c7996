"""Pictures of an evaluation: what is drawn, and that equal figures give equal files."""

import io
import re

import pytest
from PIL import Image

from codec_cli.errors import CodecError, OutputError
from codec_cli.evaluation import published

pytest.importorskip("matplotlib", reason="matplotlib (extra `eval`) draws")

from codec_cli.evaluation import plots

METRICS = ("psnr_rgb_db", "ms_ssim_db", "ssim", "lpips")


def figures(codecs=("codec:photo-1", "jpeg"), missing=()):
    """Figures as ``figures.report`` gives them, of two settings."""
    rows = [
        {
            "codec": codec,
            "setting": setting,
            "bpp": setting / 50,
            "encode_s": 0.5,
            "decode_s": 0.25,
            "width": 500,
            "height": 1000,
            **{metric: None if metric in missing else setting / (i + 2) for metric in METRICS},
        }
        for i, codec in enumerate(codecs)
        for setting in (10, 50, 90)
    ]
    rates = [
        {"test": a, "anchor": b, "metric": "psnr_rgb_db", "percent": -20.0}
        for a in codecs
        for b in codecs
        if a != b
    ]
    return {"means": rows, "results": rows, "bd_rate": rates}


def texts(svg):
    """What is written in an SVG: matplotlib draws letters as shapes and notes the text beside."""
    return re.findall(r"<!-- (.*?) -->", svg.decode())


def test_png():
    with Image.open(io.BytesIO(plots.draw(figures(), ".png"))) as image:
        assert image.format == "PNG"
        assert image.width > 1000


def test_axes_and_legends():
    found = texts(plots.draw(figures(), ".svg", title="Photographs"))
    assert "Photographs" in found
    assert "bits per pixel (bytes on disk)" in found
    assert {"PSNR RGB, dB", "MS-SSIM, dB", "SSIM", "LPIPS (lower is better)"} <= set(found)
    assert "seconds a megapixel (filled: decoding, hollow: encoding)" in found
    assert "BD-rate against jpeg, % (PSNR)" in found
    assert {"photo-1 (ours)", "jpeg"} <= set(found)


def test_published_curves_are_marked_and_where_they_exist():
    drawn = plots.draw(figures(missing=("lpips", "ssim")), ".svg", published=published.select(["bpg"]))
    assert texts(drawn).count("BPG 4:4:4, published") == 1


def test_metrics_without_values_are_left_out():
    assert "LPIPS (lower is better)" not in texts(plots.draw(figures(missing=("lpips",)), ".svg"))
    with pytest.raises(CodecError, match="nothing to draw"):
        plots.draw(figures(missing=METRICS), ".svg")


def test_one_codec_has_nothing_to_be_compared_with():
    assert not any("BD-rate" in text for text in texts(plots.draw(figures(("codec:photo-1",)), ".svg")))


def test_chosen_metrics_only():
    found = texts(plots.draw(figures(), ".svg", metrics=["psnr_rgb_db"], timing=False))
    assert "PSNR RGB, dB" in found
    assert not any("MS-SSIM" in text or "BD-rate" in text for text in found)


@pytest.mark.parametrize("suffix", plots.FORMATS)
def test_equal_figures_give_equal_files(suffix):
    assert plots.draw(figures(), suffix) == plots.draw(figures(), suffix.upper())


def test_unknown_suffix():
    with pytest.raises(OutputError, match=r"choose one of \.png, \.svg, \.pdf"):
        plots.draw(figures(), ".gif")


def test_more_codecs_than_colours():
    names = ["codec:photo-1", *(f"other-{i}" for i in range(9))]
    assert set(names[1:]) <= set(texts(plots.draw(figures(names), ".svg")))
