"""What :mod:`codec_cli.study.decoders` writes: tables, pictures and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from codec_cli.study import pictures
from codec_cli.study.finetune import history
from codec_cli.study.folder import Folder
from codec_cli.study.images import Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from codec_cli.study.decoders import Point

__all__ = ["write"]

_FULL = (
    ("decoder", "decoder", ""),
    ("train_loss", "training loss", ".1f"),
    ("test_loss", "validation loss", ".1f"),
    ("mse", "MSE", ".5f"),
    ("psnr_db", "PSNR, dB", ".2f"),
    ("ssim", "SSIM", ".4f"),
    ("parameters", "parameters", ".0f"),
    ("steps", "steps", ".0f"),
    ("seconds", "training, s", ".0f"),
)
_ALONE = (
    ("decoder", "decoder", ""),
    ("alone_train_loss", "training loss", ".1f"),
    ("alone_test_loss", "validation loss", ".1f"),
    ("alone_mse", "MSE", ".5f"),
    ("alone_psnr_db", "PSNR, dB", ".2f"),
    ("alone_ssim", "SSIM", ".4f"),
    ("decoder_parameters", "parameters", ".0f"),
    ("decoder_multiplications", "multiplications", ".0f"),
    ("decode_us", "decoding, µs an image", ".0f"),
)


def write(folder: Folder, points: Sequence[Point], others: Sequence[Point], best: str, split: Split) -> None:
    """Fills the folder.

    Args:
        folder: Of the results.
        points: All decoders at one latent, with the figures of the decoder alone.
        others: The best decoder at other latents.
        best: Its name.
        split: The images.
    """
    from codec_cli.study.decoders import DECODERS

    latent = points[0].latent
    names = list(dict.fromkeys(point.name for point in points))
    seeds = len({point.row["seed"] for point in points})
    rows = [_mean(points, name) for name in names]
    folder.say("# Decoders behind one encoder")
    folder.say(
        f"{len(split.train)} training and {len(split.test)} test images of {len(split.classes)} classes, a "
        f"latent of {latent} dimensions, {seeds} seed(s). The encoder is of strided convolutions in all of "
        "them. Losses are the configuration's (training: on 5000 training images; validation: on the test "
        "images, which are never trained on); MSE is on [0, 1]; PSNR and SSIM are means over the test images "
        "of 8-bit pixels. One command wrote all of this: `codec study decoders`."
    )
    folder.say(*(f"- **{name}**: {DECODERS[name]}" for name in names))
    folder.csv("runs", list(points[0].row), [point.row for point in (*points, *others)])
    folder.say("## Full autoencoders")
    folder.table("full", _FULL, rows)
    folder.say("## Decoders alone")
    folder.say(
        f"The encoder is that of `{names[0]}`, frozen; each decoder is trained anew on its latents, so that "
        "all have the same input. Parameters, multiplications and time are the decoder's (batches of 100 on "
        "the machine that wrote this)."
    )
    folder.table("alone", _ALONE, rows)
    folder.picture("comparison", _comparison(points, rows), "Validation loss; PSNR and SSIM by decoder")
    folder.picture("reconstructions", _grid(points, names, split), "Originals and reconstructions")
    if others:
        folder.say("## Other latents")
        sizes = [latent, *dict.fromkeys(point.latent for point in others)]
        mine = [point for point in points if point.name == best] + list(others)
        other_rows = [_mean([p for p in mine if p.latent == size], best) for size in sizes]
        folder.say(f"The decoder with the highest PSNR, `{best}`, at other latents.")
        folder.table("latents", (("latent", "dimensions", ".0f"), *_FULL[1:]), other_rows)


def _mean(points: Sequence[Point], name: str) -> dict[str, Any]:
    """Figures of one decoder, averaged over the seeds."""
    mine = [point.row for point in points if point.name == name]
    keys = [key for key in mine[0] if key != "decoder" and all(key in row for row in mine)]
    return {"decoder": name, **{key: float(np.mean([row[key] for row in mine])) for key in keys}}


def _grid(points: Sequence[Point], names: Sequence[str], split: Split) -> dict[str, bytes]:
    places = split.examples(min(12, len(split.test)))
    rows: dict[str, Any] = {"original": split.test[places]}
    for name in names:
        rows[name] = next(point for point in points if point.name == name).decoded[places]
    return pictures.grid(rows)


def _comparison(points: Sequence[Point], rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    firsts = [next(point for point in points if point.name == row["decoder"]) for row in rows]

    def draw(axes: Sequence[Axes]) -> None:
        batches = [_batches(point) for point in firsts]
        pictures.lines(axes[0], batches, xlabel="step", ylabel="training loss (batches)", yscale="log")
        curves = [history(point.name, point.trained) for point in firsts]
        pictures.lines(
            axes[1], curves, xlabel="step", ylabel="validation loss (averaged weights)", yscale="log"
        )
        _dots(axes[2], rows, "psnr_db", "PSNR, dB")
        _dots(axes[3], rows, "ssim", "SSIM")

    return pictures.panels(4, draw, size=(4.6, 3.5))


def _batches(point: Point) -> pictures.Line:
    """Training loss over steps, as means of thirty parts of the run: single batches are too noisy."""
    parts = np.array_split(np.arange(len(point.trained.batches)), 30)
    chosen = [[point.trained.batches[i] for i in part] for part in parts if len(part)]
    means = [[float(np.mean([row[key] for row in part])) for part in chosen] for key in ("step", "loss")]
    return pictures.Line(point.name, means[0], means[1])


def _dots(panel: Axes, rows: Sequence[Mapping[str, Any]], key: str, title: str) -> None:
    """A figure of full autoencoders and of decoders alone, over the decoder's parameters."""
    for i, row in enumerate(rows):
        look: dict[str, Any] = {
            "color": pictures.COLOURS[i % len(pictures.COLOURS)],
            "marker": pictures.MARKERS[i % len(pictures.MARKERS)],
            "markersize": 8,
            "linestyle": "none",
        }
        size = row["decoder_parameters"] / 1000
        panel.plot([size], [row[key]], **look, label=row["decoder"])
        panel.plot([size], [row[f"alone_{key}"]], **{**look, "markerfacecolor": "white"})
    panel.set(
        xlabel="parameters of the decoder, thousands\n(filled: full, hollow: decoder alone)", ylabel=title
    )
    panel.legend(fontsize=8)
