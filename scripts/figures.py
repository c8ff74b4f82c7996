"""Draws the README's pictures and prints its tables, from docs/kodak.json and the demo photograph."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codec_cli import Codec
from codec_cli.evaluation import plots, published
from codec_cli.evaluation.bdrate import bd_rate
from codec_cli.evaluation.equal import SizeSearch
from codec_cli.evaluation.metrics import ms_ssim, psnr, to_db
from codec_cli.evaluation.others import others

ROOT = Path(__file__).resolve().parents[1]
# Beside ours in the curves: what this kind of model reached first, and what we are after.
BESIDE = ("factorized", "bpg", "vtm")
TABLE = ("factorized", "jpeg", "webp", "bpg", "mean-hyperprior", "vtm")
# The comparison shows the best of these at equal size.
RIVALS = ("jpeg", "webp", "avif", "jxl", "heic")


def draw_curves(report: dict, target: Path) -> None:
    """Rate-distortion curves over PSNR and MS-SSIM: measured solid, published dashed."""
    drawn = plots.draw(
        report,
        target.suffix,
        published=published.select(BESIDE),
        metrics=("psnr_rgb_db", "ms_ssim_db"),
        timing=False,
        title="Kodak, mean over 24 images",
    )
    target.write_bytes(drawn)


def print_tables(report: dict) -> None:
    """The README's tables as Markdown."""
    ours = next(row["codec"] for row in report["means"] if row["codec"].startswith("codec:"))
    rows = [row for row in report["means"] if row["codec"] == ours]
    rates, qualities = ([row[field] for row in rows] for field in ("bpp", "psnr_rgb_db"))
    found = {(entry["test"], entry["anchor"], entry["metric"]): entry for entry in report["bd_rate"]}
    print("| against | BD-rate, PSNR | BD-rate, MS-SSIM |\n|---|---:|---:|")
    for name in dict.fromkeys(row["codec"] for row in report["means"]):
        if name != ours:
            cells = [
                f"{found[ours, name, metric]['percent']:+.1f} %" for metric in ("psnr_rgb_db", "ms_ssim_db")
            ]
            print(f"| {name}: {report['about']['codecs'][name]} | {' | '.join(cells)} |")
    for entry in published.select(TABLE):
        print(
            f"| {entry.label}, published | {bd_rate(entry.bpp, entry.psnr_rgb_db, rates, qualities):+.1f} % |"
        )
    print("\n| quality | bits per pixel | PSNR, dB | MS-SSIM, dB |\n|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {row['setting']} | {row['bpp']:.3f} | {row['psnr_rgb_db']:.2f} | {row['ms_ssim_db']:.2f} |")


def draw_comparison(target: Path, quality: int) -> None:
    """Original, ours, and the best other codec (by PSNR) at the size nearest to ours."""
    from skimage import data

    original = data.astronaut()
    codec = Codec()
    ours = codec.encode(original, quality=quality)
    decoded = {}
    for rival in others(RIVALS):
        if rival.available() is None:
            search = SizeSearch(lambda setting, rival=rival: rival.encode(original, setting), rival.scale)
            _, file = search.nearest(len(ours))
            decoded[rival.name] = (rival.decode(file), len(file))
    for name, (pixels, size) in decoded.items():
        print(f"{name}: {size} bytes, {_quality(original, pixels)}")
    best = max(decoded, key=lambda name: psnr(original, decoded[name][0]))
    panels = (
        ("original", original, None),
        ("codec", codec.decode(ours), len(ours)),
        (best, *decoded[best]),
    )
    top, left, size, gap = 0, 90, 300, 10
    font = ImageFont.load_default(size=14)
    canvas = Image.new("RGB", (len(panels) * (size + gap) - gap, size + 30), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (name, pixels, count) in enumerate(panels):
        canvas.paste(Image.fromarray(pixels[top : top + size, left : left + size]), (i * (size + gap), 30))
        text = name if count is None else f"{name}: {count} bytes, {psnr(original, pixels):.1f} dB"
        draw.text((i * (size + gap) + 4, 5), text, "black", font)
    canvas.save(target, optimize=True)
    print(f"{target.name}: quality {quality}, codec: {len(ours)} bytes, {_quality(original, panels[1][1])}")


def _quality(original: np.ndarray, pixels: np.ndarray) -> str:
    return f"PSNR {psnr(original, pixels):.2f} dB, MS-SSIM {to_db(ms_ssim(original, pixels)):.2f} dB"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "kodak.json")
    parser.add_argument("--quality", type=int, default=25, help="of the comparison picture")
    arguments = parser.parse_args()
    draw_comparison(ROOT / "docs" / "comparison.png", arguments.quality)
    report = json.loads(arguments.report.read_text())
    draw_curves(report, ROOT / "docs" / "kodak.png")
    print_tables(report)


if __name__ == "__main__":
    main()
