"""Study: the size of a plain autoencoder's latent against its error, and against the bits it really takes.

``codec study latents``; docs/STUDIES.md has what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_cli.study import latents_report, measure
from codec_cli.study.coding import code, fit, fit_tables
from codec_cli.study.divergence import energy, plane
from codec_cli.study.folder import Folder
from codec_cli.study.images import Split, load_split
from codec_cli.study.runs import Length, Trained, train_once, with_latent
from codec_cli.training.config import Config

__all__ = ["CONFIG", "SIZES", "Options", "Point", "run"]

CONFIG = "mnist-latents"
SIZES = (392, 78, 39, 8)
"""Dimensions kept of 784: 50, 90, 95 and 99 % less."""


@dataclass(frozen=True)
class Options:
    """What to do.

    Attributes:
        data: Images: a directory, a file or ``tfds:NAME``.
        data_dir: Where TensorFlow Datasets keeps its files.
        config: Name or path of the configuration.
        sizes: Dimensions of the latents.
        seeds: Each size is trained with seeds 1 to this.
        length: Of each training.
        rise: By how much rounding may raise the MSE, 0.05 for 5 %.
        shown: Images of each class in the t-SNE.
        overrides: Of the configuration.
        test_images: Bound on the test images; None for all.
        force: Train anew.
        quiet: No progress bars.
    """

    data: str
    data_dir: str | None = None
    config: str = CONFIG
    sizes: tuple[int, ...] = SIZES
    seeds: int = 3
    length: Length = field(default_factory=Length)
    rise: float = 0.05
    shown: int = 100
    overrides: tuple[str, ...] = ()
    test_images: int | None = None
    force: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Point:
    """One trained size.

    Attributes:
        size: Dimensions of the latent.
        seed: Of weights and batches.
        reduction: Share of dimensions that is gone, in percent.
        trained: The run.
        decoded: The test images as they come back, float32 in [0, 1].
        row: Its figures, as in ``runs.csv``.
    """

    size: int
    seed: int
    reduction: float
    trained: Trained
    decoded: measure.Floats
    row: Mapping[str, float]


def run(out: Path, options: Options, say: Callable[[str], None] = lambda _: None) -> Path:
    """Trains what is not trained yet, measures all of it, and writes the results.

    Args:
        out: Folder of results and runs.
        options: What to do.
        say: Takes lines on what happens.

    Returns:
        The summary.
    """
    folder = Folder(out, "latents")
    base = with_latent(options.config, options.sizes[0], _overrides(options, 1))
    split = load_split(options.data, base, options.data_dir, options.test_images)
    configs = {
        (seed, size): options.length.apply(
            with_latent(options.config, size, _overrides(options, seed)), len(split.train)
        )
        for seed in range(1, options.seeds + 1)
        for size in options.sizes
    }
    points = []
    for (seed, size), config in configs.items():
        trained = train_once(
            config,
            folder.runs / f"latent-{size}-seed-{seed}",
            minutes=options.length.minutes,
            cache_dir=folder.cache,
            force=options.force,
            quiet=options.quiet,
            say=say,
        )
        points.append(_measured(trained, size, seed, split, options.rise))
        row = points[-1].row
        say(f"  {size} dimensions: MSE {row['mse']:.5f}, {row['bits']:.0f} bits an image after coding")
    digits = [row for point in points for row in by_class(point, split)]
    firsts = [point for point in points if point.seed == 1]
    say("t-SNE")
    layouts = {point.size: _layout(point, split, options.shown) for point in firsts}
    apart = [row for point in firsts for row in _divergence(point, split, layouts[point.size])]
    latents_report.write(folder, options.rise, points, digits, apart, layouts, split)
    return folder.finish()


def _overrides(options: Options, seed: int) -> list[str]:
    from codec_cli.study.images import overrides

    return [*overrides(options.data, options.data_dir), f"seed={seed}", *options.overrides]


def _measured(trained: Trained, size: int, seed: int, split: Split, rise: float) -> Point:
    params, config = trained.params, trained.config
    latents = measure.encode(params, config, split.test)
    decoded = measure.decode(params, config, latents)
    found = measure.quality(split.test, decoded)
    quantiser = fit(params, config, split.train[:10000], rise)
    known = fit_tables(quantiser.symbols(measure.encode(params, config, split.train)))
    symbols = quantiser.symbols(latents)
    rounded = measure.decode(params, config, quantiser.latents(symbols))
    coded = code(known, symbols)
    pixels = split.test[0].size
    row = {
        "size": size,
        "seed": seed,
        "reduction": 100 * (1 - size / pixels),
        "mse": found.mse,
        "psnr_db": found.psnr_db,
        "ssim": found.ssim,
        "train_mse": _mse(config, params, split.train[:10000]),
        "bits": coded.bits,
        "bits_alone": coded.bits_alone,
        "active": coded.active,
        "mse_rounded": float(measure.errors(split.test, rounded).mean()),
        "steps": trained.steps,
        "seconds": trained.seconds,
        "parameters": measure.parameters(params),
    }
    return Point(size, seed, row["reduction"], trained, decoded, row)


def _mse(config: Config, params: Mapping[str, Any], images: measure.Images) -> float:
    weights = dict(params)
    decoded = measure.decode(weights, config, measure.encode(weights, config, images))
    return float(measure.errors(images, decoded).mean())


def by_class(point: Point, split: Split) -> list[dict[str, Any]]:
    """Error of each class (digit), also over its ink.

    ``ink`` is the mean brightness of the class's pixels on [0, 1], ``mse_by_ink`` the mean square error over
    it: squared error for each unit of ink.
    """
    error = measure.errors(split.test, point.decoded)
    brightness = (split.test.astype(np.float64) / 255).mean((1, 2, 3))
    rows = []
    for label in split.classes:
        mine = split.labels == label
        mse, ink = float(error[mine].mean()), float(brightness[mine].mean())
        rows.append(
            {"size": point.size, "seed": point.seed, "class": int(label), "mse": mse, "ink": ink,
             "mse_by_ink": mse / ink}
        )  # fmt: skip
    return rows


Layout = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.intp]]
"""Places of originals, of reconstructions, and which test images they are."""


def _layout(point: Point, split: Split, shown: int) -> Layout:
    chosen = np.concatenate([np.flatnonzero(split.labels == label)[:shown] for label in split.classes])
    originals, decoded = _flat(split.test[chosen] / 255), _flat(point.decoded[chosen])
    return (*plane(originals, decoded, seed=1), chosen)


def _divergence(point: Point, split: Split, layout: Layout) -> list[dict[str, Any]]:
    """Energy coefficient of originals against reconstructions of each class, in pixels and in the plane."""
    before, after, chosen = layout
    rows = []
    for label in split.classes:
        # A thousand images of a class are enough, and their distances fit in memory.
        mine = np.flatnonzero(split.labels == label)[:1000]
        drawn = split.labels[chosen] == label
        rows.append(
            {
                "size": point.size,
                "class": int(label),
                "energy_pixels": energy(_flat(split.test[mine] / 255), _flat(point.decoded[mine])),
                "energy_plane": energy(before[drawn], after[drawn]),
                "shift_plane": float(np.linalg.norm(before[drawn] - after[drawn], axis=1).mean()),
            }
        )
    return rows


def _flat(images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(images.reshape(len(images), -1), np.float64)


def seeds_mean(points: Sequence[Point], size: int, key: str) -> tuple[float, float | None]:
    """Mean and standard deviation over the seeds (None for a single one) of a figure of one size."""
    values = [float(point.row[key]) for point in points if point.size == size]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
