"""Draws the documents' pictures and prints the README's tables.

From docs/kodak.json and the demo photograph; with ``--perceptual KODAK`` from Kodak's images instead: what
the perceptual model keeps, invents and loses; with ``--triplets KODAK MODEL`` the middle of four images, at
the rates of a model that has one rate.
"""

from __future__ import annotations

import argparse
import functools
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

Panel = tuple[str, np.ndarray]

ROOT = Path(__file__).resolve().parents[1]
# Beside ours in the curves: what this kind of model reached first, and what we are after.
BESIDE = ("factorized", "bpg", "vtm")
TABLE = ("factorized", "jpeg", "webp", "bpg", "mean-hyperprior", "vtm")
# The comparison shows the best of these at equal size.
RIVALS = ("jpeg", "webp", "avif", "jxl", "heic")
# Details of Kodak's images that show what low rates do to faces, to text and to texture: left, top.
DETAILS = {"kodim04": (190, 330), "kodim08": (530, 270), "kodim20": (210, 225), "kodim13": (60, 330)}
# Of the images that triplets begin with, the middle.
MIDDLES = {f"kodim{number}": (264, 176) for number in ("04", "13", "21", "24")} | {"kodim04": (136, 304)}
DETAIL_SIZE = (240, 160)
DETAIL_BPP = 0.23


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
    ours_decoded = codec.decode(ours)
    row: list[Panel] = [("original", original)]
    for name, pixels, count in (("codec", ours_decoded, len(ours)), (best, *decoded[best])):
        row.append((f"{name}: {count} bytes, {psnr(original, pixels):.1f} dB", pixels))
    draw_panels(target, [[(text, pixels[0:300, 90:390]) for text, pixels in row]])
    print(f"{target.name}: quality {quality}, codec: {len(ours)} bytes, {_quality(original, ours_decoded)}")


def draw_panels(target: Path, rows: list[list[Panel]]) -> None:
    """Pictures in rows, each under its text; all of one size."""
    gap, head = 10, 30
    height, width = rows[0][0][1].shape[:2]
    font = ImageFont.load_default(size=14)
    size = (len(rows[0]) * (width + gap) - gap, len(rows) * (height + head))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for r, row in enumerate(rows):
        for c, (text, pixels) in enumerate(row):
            place = (c * (width + gap), r * (height + head))
            canvas.paste(Image.fromarray(pixels), (place[0], place[1] + head))
            draw.text((place[0] + 4, place[1] + 8), text, "black", font)
    canvas.save(target, optimize=True)


def draw_perceptual(
    target: Path, kodak: Path, models: tuple[str, str], details: dict[str, tuple[int, int]]
) -> None:
    """Details at one rate: original, two models, and HEIC at the same size."""
    heic = next(iter(others(("heic",))))
    rows = []
    for name, (left, top) in details.items():
        original = np.asarray(Image.open(kodak / f"{name}.png").convert("RGB"))
        wanted = round(DETAIL_BPP * original.shape[0] * original.shape[1] / 8)
        shown: list[Panel] = [(name, original)]
        for model in models:
            codec = Codec(model)
            _, file = SizeSearch(functools.partial(codec.encode, original), range(1, 101)).nearest(wanted)
            shown.append((f"{codec.info.name}: {len(file)} bytes", codec.decode(file)))
            wanted = len(file)
        _, file = SizeSearch(functools.partial(heic.encode, original), heic.scale).nearest(wanted)
        shown.append((f"heic: {len(file)} bytes", heic.decode(file)))
        width, height = DETAIL_SIZE
        rows.append([(text, pixels[top : top + height, left : left + width]) for text, pixels in shown])
    draw_panels(target, rows)


def _quality(original: np.ndarray, pixels: np.ndarray) -> str:
    return f"PSNR {psnr(original, pixels):.2f} dB, MS-SSIM {to_db(ms_ssim(original, pixels)):.2f} dB"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "kodak.json")
    parser.add_argument("--quality", type=int, default=25, help="of the comparison picture")
    parser.add_argument("--perceptual", type=Path, metavar="KODAK", help="draw docs/perceptual.png alone")
    parser.add_argument(
        "--triplets", nargs=2, metavar=("KODAK", "MODEL"), help="draw docs/triplets.png alone"
    )
    arguments = parser.parse_args()
    if arguments.perceptual is not None:
        models = ("photo-1", "photo-perceptual-1")  # Those of the card that shows it.
        draw_perceptual(ROOT / "docs" / "perceptual.png", arguments.perceptual, models, DETAILS)
        return
    if arguments.triplets is not None:
        kodak, model = arguments.triplets
        draw_perceptual(ROOT / "docs" / "triplets.png", Path(kodak), (model, "photo-perceptual"), MIDDLES)
        return
    draw_comparison(ROOT / "docs" / "comparison.png", arguments.quality)
    report = json.loads(arguments.report.read_text())
    draw_curves(report, ROOT / "docs" / "kodak.png")
    print_tables(report)


if __name__ == "__main__":
    main()
