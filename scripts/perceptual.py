"""Prints what a model card says of perceptual quality, from figures of ``codec eval --json``.

The figures need both models, and other codecs, with LPIPS: see the card of the model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from codec_cli.evaluation import published
from codec_cli.evaluation.bdrate import NoOverlap, bd_rate
from codec_cli.evaluation.metrics import to_db


def curve(figures: dict, codec: str, metric: str, rates: tuple[float, float]) -> tuple[list, list]:
    """Rates and values of a codec's means, cut to a range of rates (interpolated at its ends).

    MS-SSIM in dB is that of the mean, as published curves have it.
    """
    rows = sorted((row["bpp"], row) for row in figures["means"] if row["codec"] == codec)
    bpp = np.array([rate for rate, _ in rows])
    key = "ms_ssim" if metric == "ms_ssim_db" else metric
    values = np.array([row[key] for _, row in rows])
    return cut(bpp, values, metric, rates)


def cut(bpp: np.ndarray, values: np.ndarray, metric: str, rates: tuple[float, float]) -> tuple[list, list]:
    """The part of a curve within a range of rates."""
    if metric == "ms_ssim_db":
        values = np.array([to_db(value) for value in values])
    low, high = max(rates[0], bpp.min()), min(rates[1], bpp.max())
    inside = bpp[(bpp > low) & (bpp < high)]
    places = np.array([low, *inside, high])
    return places.tolist(), np.interp(np.log(places), np.log(bpp), values).tolist()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("--test", default="codec:photo-perceptual-1")
    parser.add_argument("--rates", type=float, nargs=2, default=(0.15, 0.4), metavar="BPP")
    arguments = parser.parse_args()
    figures = json.loads(arguments.figures.read_text())
    rates = tuple(arguments.rates)
    names = list(dict.fromkeys(row["codec"] for row in figures["means"]))
    tested = {m: curve(figures, arguments.test, m, rates) for m in ("ms_ssim_db", "psnr_rgb_db")}
    print(f"BD-rate of {arguments.test}, {rates[0]} to {rates[1]} bits per pixel:")
    for metric in tested:
        others = {name: curve(figures, name, metric, rates) for name in names if name != arguments.test}
        for entry in published.select(["bpg"]):
            values = np.array(entry.ms_ssim if metric == "ms_ssim_db" else entry.psnr_rgb_db)
            others[f"{entry.label}, published"] = cut(np.array(entry.bpp), values, metric, rates)
        for name, other in others.items():
            try:
                print(f"  {metric:12} against {name}: {bd_rate(*other, *tested[metric]):+.1f} %")
            except NoOverlap as error:
                print(f"  {metric:12} against {name}: none ({error})")
    places = (0.15, 0.2, 0.3, 0.4, 0.6)
    print("LPIPS at bits per pixel:", *places)
    for name in names:
        rows = sorted((row["bpp"], row["lpips"]) for row in figures["means"] if row["codec"] == name)
        bpp, values = np.array(rows).T
        cells = [
            f"{np.interp(np.log(p), np.log(bpp), values):.3f}" if bpp[0] <= p <= bpp[-1] else "-"
            for p in places
        ]
        print(f"  {name}:", *cells)


if __name__ == "__main__":
    main()
