"""Draws the README's pictures and prints its tables, from docs/kodak.json and the demo photograph."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codec_cli import Codec
from codec_cli.evaluation.bdrate import bd_rate
from codec_cli.evaluation.metrics import psnr

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "codec_cli" / "evaluation" / "published.json"
# Okabe and Ito's palette: told apart with any colour vision.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def curves(report: dict) -> dict[str, list[dict]]:
    """Mean points of each codec, by name, in order of rate."""
    out: dict[str, list[dict]] = {}
    for row in report["means"]:
        out.setdefault(row["codec"], []).append(row)
    return {name: sorted(rows, key=lambda row: row["bpp"]) for name, rows in out.items()}


def draw_curves(report: dict, target: Path) -> None:
    """Rate-distortion curves: measured solid, published dotted."""
    mpl.rcParams.update({"font.size": 10, "axes.grid": True, "grid.alpha": 0.3})
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for colour, (name, rows) in zip(COLOURS, curves(report).items(), strict=False):
        ours = name.startswith("codec:")
        axes.plot(
            [row["bpp"] for row in rows],
            [row["psnr_rgb_db"] for row in rows],
            color=colour,
            marker="o",
            markersize=4,
            linewidth=2.4 if ours else 1.4,
            label=name.removeprefix("codec:") + (" (ours)" if ours else ", measured"),
            zorder=3 if ours else 2,
        )
    series = json.loads(PUBLISHED.read_text())["series"]
    for style, key in zip(
        (":", "--", "-."), ("bmshj2018-factorized_mse_cpu", "bpg_444_x265_ycbcr", "vtm"), strict=True
    ):
        values = series[key]
        axes.plot(
            values["bpp"], values["psnr_rgb_db"], style, color="0.45", label=f"{values['label']}, published"
        )
    axes.set(
        xlabel="bits per pixel (bytes on disk)",
        ylabel="PSNR over R'G'B', dB",
        title="Kodak, mean over 24 images",
        xlim=(0, 2.6),
        ylim=(25, 44),
    )
    axes.legend(loc="lower right", fontsize=8.5)
    figure.savefig(target, dpi=130)


def print_tables(report: dict) -> None:
    """The README's tables as Markdown."""
    by_name = curves(report)
    ours = next(name for name in by_name if name.startswith("codec:"))
    rates, qualities = ([row[field] for row in by_name[ours]] for field in ("bpp", "psnr_rgb_db"))
    print("| against | BD-rate |\n|---|---:|")
    for entry in report["bd_rate"]:
        if entry["test"] == ours and entry["metric"] == "psnr_rgb_db":
            print(f"| {entry['anchor']}, measured | {entry['percent']:+.1f} % |")
    for values in json.loads(PUBLISHED.read_text())["series"].values():
        percent = bd_rate(values["bpp"], values["psnr_rgb_db"], rates, qualities)
        print(f"| {values['label']}, published | {percent:+.1f} % |")
    print("\n| quality | bits per pixel | PSNR, dB | MS-SSIM, dB |\n|---:|---:|---:|---:|")
    for row in by_name[ours]:
        print(f"| {row['setting']} | {row['bpp']:.3f} | {row['psnr_rgb_db']:.2f} | {row['ms_ssim_db']:.2f} |")


def at_least(original: np.ndarray, size: int, kind: str, **options: object) -> tuple[np.ndarray, int]:
    """(decoded, bytes) at the lowest quality whose file is not below a size."""
    for setting in range(1, 101):
        stream = io.BytesIO()
        Image.fromarray(original).save(stream, kind, quality=setting, **options)
        if stream.tell() >= size:
            break
    with Image.open(stream) as image:
        return np.asarray(image.convert("RGB")), stream.tell()


def draw_comparison(target: Path, quality: int) -> None:
    """Original, JPEG, WebP and ours side by side, the others at the first size that is not below ours."""
    from skimage import data

    original = data.astronaut()
    codec = Codec()
    ours = codec.encode(original, quality=quality)
    top, left, size = 0, 110, 260
    font = ImageFont.load_default(size=14)
    panels = (
        ("original", original, None),
        ("JPEG", *at_least(original, len(ours), "JPEG", optimize=True)),
        ("WebP", *at_least(original, len(ours), "WEBP", method=6)),
        ("codec", codec.decode(ours), len(ours)),
    )
    canvas = Image.new("RGB", (len(panels) * (size + 10) - 10, size + 30), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (name, pixels, count) in enumerate(panels):
        canvas.paste(Image.fromarray(pixels[top : top + size, left : left + size]), (i * (size + 10), 30))
        text = name if count is None else f"{name}, {count} bytes, {psnr(original, pixels):.1f} dB"
        draw.text((i * (size + 10) + 4, 5), text, "black", font)
    canvas.save(target, optimize=True)
    print(
        f"{target}: quality {quality},", ", ".join(f"{name} {count} bytes" for name, _, count in panels[1:])
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "kodak.json")
    parser.add_argument("--quality", type=int, default=25, help="of the comparison picture")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text())
    draw_curves(report, ROOT / "docs" / "kodak.png")
    draw_comparison(ROOT / "docs" / "comparison.png", arguments.quality)
    print_tables(report)


if __name__ == "__main__":
    main()
