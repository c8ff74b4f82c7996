"""A small report, for the tests of the page."""

import json
import re

import numpy as np

from codec_cli.evaluation.page import Comparison, Shown, write_report

SCRIPT_NAME = "photos/<script>alert(1)</script>.png"
QUOTED_NAME = 'photos/a&b "c".png'
RIVALS = ("jpeg", "webp<b>")
NAMES = (SCRIPT_NAME, QUOTED_NAME)
OURS = "codec:tiny-1"
CODECS = (OURS, *RIVALS)
PUBLISHED = {
    "about": "From <elsewhere>.",
    "series": {"vtm": {"label": "VTM", "source": "a&b", "bpp": [0.2, 0.9], "psnr_rgb_db": [31.0, 38.0]}},
}


def row(codec, setting):
    place, better = setting / 100, 2 - CODECS.index(codec)
    return {
        "codec": codec,
        "setting": setting,
        "bytes": 1000 * setting,
        "bpp": place,
        "psnr_rgb_db": 28 + 10 * place + better,
        "psnr_luma_db": 29 + 10 * place + better,
        "ms_ssim": None,
        "ms_ssim_db": None,
        "lpips": 0.3 - place / 5 - better / 50,
        "encode_s": 0.5,
        "decode_s": 0.25,
    }


def figures():
    means = [row(codec, setting) for codec in CODECS for setting in (20, 50, 80)]
    rate = {"test": OURS, "percent": -12.34, "reason": None}
    return {
        "schema": 1,
        "results": [{"image": image, "width": 64, "height": 48, **mean} for image in NAMES for mean in means],
        "means": [{"images": 2, **mean} for mean in means],
        "bd_rate": [
            {**rate, "anchor": "jpeg", "metric": "psnr_rgb_db"},
            {**rate, "anchor": "jpeg", "metric": "ms_ssim_db", "percent": None, "reason": "no <range>"},
            {**rate, "test": "jpeg", "anchor": OURS, "metric": "psnr_rgb_db", "percent": 98.76},
        ],
        "skipped": [{"image": "<img src=x>", "error": "not an image & more"}],
    }


def noise(seed, width=96, height=64, channels=3):
    """Pixels that no lossy file could give back."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def comparisons():
    for number, image in enumerate(NAMES):
        channels = 1 if number else 3
        rates = [
            [
                Shown(
                    codec,
                    10 * rate,
                    1000 * rate + index,
                    rate / 2,
                    metrics(index),
                    noise((number, rate, index)),
                )
                for index, codec in enumerate(CODECS)
            ]
            for rate in (1, 2)
        ]
        yield Comparison(image, noise(number, channels=channels), rates, ("avif is left out: <too large>",))


def metrics(index):
    return {"psnr_rgb_db": 30.0 + index, "ms_ssim": None if index else 0.9, "lpips": 0.1 + index / 10}


def make(folder, **changes):
    options = {"published": PUBLISHED, "title": "Tests <&>", "force": False, **changes}
    data = options.pop("figures", None) or figures()
    shown = options.pop("comparisons", None)
    write_report(folder, data, comparisons() if shown is None else shown, **options)
    return folder


def embedded(page):
    """The data that the scripts read."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)
