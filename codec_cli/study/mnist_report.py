"""What the study of MNIST shows: tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.codec import Codec
from codec_cli.sampling import draw_samples
from codec_cli.study import measure, pictures, runs
from codec_cli.study.classifier import train_judge
from codec_cli.study.folder import Folder
from codec_cli.training import model, prior
from codec_cli.training.sources import Labelled
from codec_cli.zoo import ModelInfo

__all__ = ["latents", "rates", "reconstructions", "samples"]

Images = npt.NDArray[np.uint8]
_SHOWN = 16
_CONFIDENT = 0.9
TEMPERATURES = (1.0, 0.8, 0.6)
"""Of generated digits; at 1 they are drawn from the prior as it is."""


def rates(
    folder: Folder, curves: dict[str, list[dict[str, Any]]], trained: Mapping[str, runs.Trained]
) -> None:
    """Rate and PSNR of every level, as a table and curves; ``trained`` names the learned ones."""
    folder.say("## Rate and quality")
    rows = [{"codec": name, **row} for name, curve in curves.items() for row in curve]
    folder.table(
        "rates",
        [
            ("codec", "codec", ""),
            ("level", "level", "d"),
            ("payload", "payload, bytes", ".2f"),
            ("file", "file, bytes", ".2f"),
            ("psnr", "mean PSNR, dB", ".2f"),
            ("psnr_of_mse", "PSNR of the mean MSE, dB", ".2f"),
        ],
        rows,
    )
    lines = [
        pictures.Line(name, [row["payload"] for row in curve], [row["psnr_of_mse"] for row in curve])
        for name, curve in curves.items()
    ]
    drawn = pictures.panels(
        1,
        lambda axes: pictures.lines(
            axes[0], lines, xlabel="mean payload of a digit, bytes", ylabel="PSNR of the mean MSE, dB"
        ),
    )
    folder.picture("rates", drawn, "Rate and PSNR of the learned and the fixed transforms")
    for name, run in trained.items():
        enough = [row for row in curves[name] if row["psnr_of_mse"] >= 20]
        if enough:
            best = min(enough, key=lambda row: row["payload"])
            folder.say(
                f"Smallest level of at least 20 dB, {name}: {best['payload']:.2f} bytes of payload a digit "
                f"at {best['psnr_of_mse']:.2f} dB (mean of PSNRs {best['psnr']:.2f} dB), a file of "
                f"{best['file']:.1f} bytes. Trained for {run.seconds / 60:.1f} minutes, {run.steps} steps."
            )


def reconstructions(folder: Folder, trained: runs.Trained, shown: Images) -> None:
    """Originals, and what comes back before and after training."""
    config, few = trained.config, shown[:_SHOWN]
    fresh = model.init_params(config, shown[:500])
    rows: dict[str, npt.NDArray[Any]] = {
        "original": few,
        "before training": model.reconstruct(fresh, config, few, len(config.levels.lambdas) - 1).numpy(),
    }
    for level, value in enumerate(config.levels.lambdas):
        rows[f"lambda {value:g}"] = model.reconstruct(trained.params, config, few, level).numpy()
    folder.say("## Before and after training")
    folder.picture("reconstructions", pictures.grid(rows), "Originals and reconstructions")


def latents(folder: Folder, trained: runs.Trained, shown: Images) -> None:
    """Histograms of symbols with noise and of rounded ones, against the learned prior's density."""
    config, params = trained.config, trained.params
    level = len(config.levels.lambdas) - 1
    found = measure.encode(params, config, shown).reshape(len(shown), -1)
    symbols = found * np.exp(params["gain/forward"][level])
    noisy = symbols + np.random.default_rng(0).uniform(-0.5, 0.5, symbols.shape)
    widest = np.argsort(-symbols.std(0))[[0, 1, len(symbols[0]) // 4, len(symbols[0]) // 2]]
    shape = (len(config.levels.lambdas), config.transforms.latent_channels)
    density = prior.build_prior({k: tf.constant(v) for k, v in params.items()}, shape, config.entropy)

    def draw(axes: Sequence[Any]) -> None:
        for axis, channel in zip(axes, widest, strict=True):
            low, high = np.floor(noisy[:, channel].min()), np.ceil(noisy[:, channel].max())
            grid = np.linspace(low, high, 400, dtype=np.float32)
            points = np.zeros((len(grid), *shape), np.float32)
            points[:, level, channel] = grid
            mass = density.prob(tf.constant(points)).numpy()[:, level, channel]
            bins = np.arange(low - 0.5, high + 1)
            axis.hist(np.round(symbols[:, channel]), bins, density=True, color="0.8", label="rounded")
            axis.hist(
                noisy[:, channel], 80, density=True, histtype="step", color=pictures.BLUE, label="with noise"
            )
            axis.plot(grid, mass, color=pictures.RED, linewidth=1.5, label="learned prior")
            axis.set(xlabel=f"symbol of dimension {channel}", ylabel="density")
            axis.legend(fontsize=8)

    folder.say("## Latents and the learned prior", f"\nAt lambda {config.levels.lambdas[level]:g}.")
    folder.picture("latents", pictures.panels(4, draw), "Histograms of four latents and the prior's density")


def samples(
    folder: Folder,
    models: Mapping[str, ModelInfo],
    train: Labelled,
    test: Labelled,
    count: int,
    epochs: int,
    say: Callable[[str], None],
) -> None:
    """Digits drawn from each model's prior, and what a classifier makes of them."""
    if train.labels is None or test.labels is None:
        raise AssertionError("MNIST has labels")
    say("training the judge of generated digits")
    judge = train_judge(train.images, train.labels, test.images, test.labels, epochs=epochs)
    noise = np.random.default_rng(1).integers(0, 256, (count, *test.images.shape[1:]), np.uint8)
    made = {
        f"generated, {name}, level {level}, temperature {temperature:g}": draw_samples(
            Codec(info), count, level=level, seed=1, temperature=temperature
        )
        for name, info in models.items()
        for level in (0, info.levels - 1)
        for temperature in TEMPERATURES
    }
    rows = []
    for name, images in {"test digits": test.images, **made, "noise": noise}.items():
        confidence = judge(images)
        found = confidence.max(1) > _CONFIDENT
        rows.append(
            {
                "images": name,
                "count": len(images),
                "confident": 100 * float(found.mean()),
                "classes": len(set(confidence.argmax(1)[found].tolist())),
            }
        )
    folder.say(
        "## Generated digits",
        "\nLatents drawn from the learned prior at the lowest and the highest level, every dimension by "
        "itself, or with contexts given those before it, and decoded (`codec sample`). The judge is a "
        f"classifier with {100 * judge.accuracy:.2f} % accuracy on the test images, calibrated (temperature "
        f"{judge.temperature:.2f}).",
    )
    columns = [
        ("images", "images", ""),
        ("count", "number", "d"),
        ("confident", "above 0.9 confidence, %", ".1f"),
        ("classes", "classes among these", "d"),
    ]
    folder.table("samples", columns, rows)
    grid = {
        name.removeprefix("generated, ").replace("temperature", "T"): images[:_SHOWN]
        for name, images in made.items()
    }
    folder.picture("samples", pictures.grid({k: v for k, v in grid.items() if len(v)}), "Generated digits")
