"""What :mod:`codec_cli.study.latents` writes: tables, pictures and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from codec_cli.study import pictures
from codec_cli.study.folder import Folder
from codec_cli.study.images import Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from codec_cli.study.latents import Layout, Point

__all__ = ["write"]

Rows = Sequence[Mapping[str, Any]]
# Sizes at which errors by class are told in words and drawn: the two hardest.
_HARDEST = 2


def write(
    folder: Folder,
    rise: float,
    points: Sequence[Point],
    digits: Rows,
    apart: Rows,
    layouts: Mapping[int, Layout],
    split: Split,
) -> None:
    """Fills the folder.

    Args:
        folder: Of the results.
        rise: Allowed rise of the MSE by rounding.
        points: All sizes and seeds.
        digits: Error by class, all sizes and seeds.
        apart: Divergence by class.
        layouts: t-SNE by size.
        split: The images.
    """
    sizes = list(dict.fromkeys(point.size for point in points))
    seeds = len({point.seed for point in points})
    pixels = split.test[0].size
    folder.say("# Size of the latent against error and bits")
    folder.say(
        f"Plain autoencoders (mean square error), {seeds} seed(s) for each size, {len(split.train)} training "
        f"and {len(split.test)} test images of {pixels} pixels. Errors are on the test images, on [0, 1]; "
        "± is the standard deviation over the seeds. One command wrote all of this: `codec study latents`."
    )
    means = [_mean_row(points, size) for size in sizes]
    folder.csv("runs", list(points[0].row), [point.row for point in points])
    folder.table("sizes", _SIZES, means)
    folder.picture("reconstructions", _grid(points, sizes, split), "Originals and reconstructions")
    folder.picture("curve", _curve(means), "Error against reduction of dimensions, and against bits")
    _coding(folder, rise, means, pixels)
    _by_class(folder, digits, sizes)
    folder.say("## Originals and reconstructions as sets")
    folder.say(
        "t-SNE of both together, in pixels (perplexity 30, first seed): originals blue, reconstructions red."
    )
    folder.picture("tsne", _tsne(layouts, pixels), "t-SNE of originals (blue) and reconstructions (red)")
    folder.say(
        "Energy coefficient of originals against reconstructions by class (0: alike in distribution, 1: "
        "nothing in common), in pixels over up to 1000 images of a class, and in the plane above; and how "
        "far an original lies from its own reconstruction in the plane."
    )
    folder.csv("divergence", list(apart[0]), apart)
    folder.table("divergence-pixels", _wide(sizes, ".4f"), _pivot(apart, "energy_pixels"))
    folder.table("divergence-plane", _wide(sizes, ".4f"), _pivot(apart, "energy_plane"))
    folder.table("shift-plane", _wide(sizes, ".2f"), _pivot(apart, "shift_plane"))


_SIZES = (
    ("size", "dimensions", "d"),
    ("reduction", "reduction, %", ".0f"),
    ("mse", "MSE", ".5f"),
    ("mse_sd", "±", ".5f"),
    ("psnr_db", "PSNR, dB", ".2f"),
    ("ssim", "SSIM", ".4f"),
    ("train_mse", "MSE, training images", ".5f"),
    ("parameters", "parameters", ".0f"),
    ("steps", "steps", ".0f"),
    ("seconds", "training, s", ".0f"),
)
_BITS = (
    ("size", "dimensions", "d"),
    ("reduction", "reduction of dimensions, %", ".0f"),
    ("float_bits", "as float32, bits", ".0f"),
    ("bits", "coded, bits an image", ".1f"),
    ("bits_sd", "±", ".1f"),
    ("bits_alone", "each image a file of its own", ".1f"),
    ("bits_each", "bits a dimension", ".2f"),
    ("active", "dimensions in use", ".0f"),
    ("true_reduction", "reduction of bits, %", ".1f"),
    ("mse_rounded", "MSE, rounded", ".5f"),
    ("rise", "rise of MSE, %", ".1f"),
)


def _mean_row(points: Sequence[Point], size: int) -> dict[str, Any]:
    from codec_cli.study.latents import seeds_mean

    mine = [point for point in points if point.size == size]
    row: dict[str, Any] = {}
    for key in mine[0].row:
        row[key], row[f"{key}_sd"] = seeds_mean(points, size, key)
    pixels = mine[0].decoded[0].size
    row.update(
        size=size,
        float_bits=32 * size,
        bits_each=row["bits"] / size,
        true_reduction=100 * (1 - row["bits"] / (8 * pixels)),
        rise=100 * (row["mse_rounded"] / row["mse"] - 1),
    )
    return row


def _coding(folder: Folder, rise: float, means: Rows, pixels: int) -> None:
    folder.say("## What the dimensions hide: bits")
    folder.say(
        f"An image has {pixels} pixels of 8 bits, {8 * pixels} bits. Latents are rounded at the coarsest "
        f"steps that raise the MSE of training images by at most {100 * rise:g} %, and coded with a table "
        "for each dimension and the codec's range coder; bits are those of the bytes, which were decoded "
        "again. Tables and networks are not counted."
    )
    folder.table("bits", _BITS, means)


def _grid(points: Sequence[Point], sizes: Sequence[int], split: Split) -> dict[str, bytes]:
    places = split.examples(min(10, len(split.test)))
    rows: dict[str, Any] = {"original": split.test[places]}
    for size in sizes:
        first = next(point for point in points if point.size == size)
        rows[f"{size} ({first.reduction:.0f} %)"] = first.decoded[places]
    return pictures.grid(rows)


def _curve(means: Rows) -> dict[str, bytes]:
    def draw(axes: Sequence[Axes]) -> None:
        error = [row["mse"] for row in means]
        spread = None if means[0]["mse_sd"] is None else [row["mse_sd"] for row in means]
        pictures.lines(
            axes[0],
            [pictures.Line("MSE", [row["reduction"] for row in means], error, spread)],
            xlabel="reduction of dimensions, %",
            ylabel="MSE of test images",
            yscale="log",
        )
        after = [row["mse_rounded"] for row in means]
        pictures.lines(
            axes[1],
            [
                pictures.Line("latents as float32", [row["float_bits"] for row in means], error),
                pictures.Line("rounded and range coded", [row["bits"] for row in means], after),
            ],
            xlabel="bits an image",
            ylabel="MSE of test images",
            xscale="log",
            yscale="log",
        )

    return pictures.panels(2, draw)


def _by_class(folder: Folder, digits: Rows, sizes: Sequence[int]) -> None:
    hardest = sorted(sizes)[:_HARDEST][::-1]
    folder.say("## Error by class")
    folder.say(
        "Means over the seeds. Ink is the mean brightness of a class's pixels; normalised by ink, the error "
        "is squared error for each unit of ink."
    )
    folder.csv("classes", list(digits[0]), digits)
    rows = []
    for label in dict.fromkeys(row["class"] for row in digits):
        mine = [row for row in digits if row["class"] == label]
        line: dict[str, Any] = {"class": label, "ink": mine[0]["ink"]}
        for size in hardest:
            for key in ("mse", "mse_by_ink"):
                line[f"{key}_{size}"] = float(np.mean([row[key] for row in mine if row["size"] == size]))
        rows.append(line)
    columns = [("class", "class", "d"), ("ink", "ink", ".4f")]
    for size in hardest:
        columns += [(f"mse_{size}", f"MSE, {size}", ".5f"), (f"mse_by_ink_{size}", f"by ink, {size}", ".5f")]
    folder.table("classes-hardest", columns, rows)
    folder.say(
        *(
            f"- {size} dimensions, {words}, worst first: "
            + ", ".join(str(row["class"]) for row in sorted(rows, key=lambda row: -row[f"{key}_{size}"]))
            for size in hardest
            for key, words in (("mse", "by MSE"), ("mse_by_ink", "by MSE over ink"))
        )
    )
    folder.picture("classes", _bars(rows, hardest), "Error by class, plain and normalised by ink")


def _bars(rows: Rows, sizes: Sequence[int]) -> dict[str, bytes]:
    def draw(axes: Sequence[Axes]) -> None:
        for panel, (key, title) in zip(
            axes, (("mse", "MSE"), ("mse_by_ink", "MSE normalised by ink")), strict=True
        ):
            for i, size in enumerate(sizes):
                places = np.arange(len(rows)) + 0.8 * (i - (len(sizes) - 1) / 2) / len(sizes)
                heights = [row[f"{key}_{size}"] for row in rows]
                panel.bar(
                    places, heights, 0.8 / len(sizes), color=pictures.COLOURS[i], label=f"{size} dimensions"
                )
            panel.set_xticks(range(len(rows)), [str(row["class"]) for row in rows])
            panel.set(xlabel="class", ylabel=title)
            panel.legend(fontsize=8)

    return pictures.panels(2, draw)


def _tsne(layouts: Mapping[int, Layout], pixels: int) -> dict[str, bytes]:
    def draw(axes: Sequence[Axes]) -> None:
        for panel, (size, (before, after, _)) in zip(axes, layouts.items(), strict=True):
            panel.scatter(
                before[:, 0], before[:, 1], s=4, color=pictures.BLUE, label="originals", linewidths=0
            )
            panel.scatter(
                after[:, 0], after[:, 1], s=4, color=pictures.RED, label="reconstructions", linewidths=0
            )
            panel.set_title(f"{size} dimensions ({100 * (1 - size / pixels):.0f} % less)", fontsize=10)
            panel.set_xticks([])
            panel.set_yticks([])
        axes[0].legend(fontsize=8, markerscale=3)

    return pictures.panels(len(layouts), draw, size=(3.6, 3.4), suffixes=(".png",))


def _wide(sizes: Sequence[int], form: str) -> list[tuple[str, str, str]]:
    return [("class", "class", "d"), *((str(size), f"{size} dimensions", form) for size in sizes)]


def _pivot(rows: Rows, key: str) -> list[dict[str, Any]]:
    lines: dict[int, dict[str, Any]] = {}
    for row in rows:
        lines.setdefault(row["class"], {"class": row["class"]})[str(row["size"])] = row[key]
    return list(lines.values())
