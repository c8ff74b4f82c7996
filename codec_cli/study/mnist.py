"""Learned compression of digits (study A): rate and quality beside a fixed transform, latents, new digits.

A dense latent, rounded, with a learned prior, as TensorFlow Compression's tutorial on MNIST has it; here with
real files, and every claim measured on them.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream import container
from codec_cli.codec import Codec
from codec_cli.pictures.images import Picture
from codec_cli.study import mnist_report, runs, transform
from codec_cli.study.folder import Folder
from codec_cli.study.images import overrides as sources
from codec_cli.training import model
from codec_cli.training.config import Config, load_config
from codec_cli.training.export import export_run
from codec_cli.training.sources import Labelled, load_source
from codec_cli.zoo import ModelInfo, read_info

__all__ = ["Options", "run"]

Images = npt.NDArray[np.uint8]
CONFIG = "mnist"
SYSTEMS = {"learned": CONFIG, "with contexts": "mnist-context", "with classes": "mnist-classes"}
"""The same transforms; each dimension is coded knowing those before it; the first ones say which digit."""
DCT_BLOCKS = (7, 14)
DCT_LAMBDAS = [0.00003, 0.00008, 0.0002, 0.0005, 0.0012, 0.003, 0.01, 0.03]


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        data: Directory of MNIST's idx files, or another source that :mod:`codec_cli.training.sources` takes.
        data_dir: Where TensorFlow Datasets keeps its files.
        length: Of the main run.
        part: Length of the ablations' runs, as a share of the main one's; 0 for none.
        test: Number of test images to code.
        samples: Number of digits to generate and judge.
        overrides: ``section.field=value`` texts for every configuration.
        judge_epochs: Passes that the classifier is trained for.
        force: Train anew.
        quiet: No progress bars.
    """

    data: str
    data_dir: str | None = None
    length: runs.Length = field(default_factory=runs.Length)
    part: float = 0.2
    test: int = 10000
    samples: int = 2000
    overrides: tuple[str, ...] = ()
    judge_epochs: int = 6
    force: bool = False
    quiet: bool = False


def run(out: Path, options: Options, say: Callable[[str], None]) -> Path:
    """Runs the study; what is trained already is not trained again.

    Args:
        out: Folder of the results.
        options: What to do.
        say: Takes lines on what happens.

    Returns:
        Path of the summary.
    """
    folder = Folder(out, "mnist")
    config = _config(options)
    train = load_source(options.data, "train", 1, options.data_dir)
    test = load_source(options.data, "test", 1, options.data_dir)
    shown = test.images[: options.test]
    systems = _systems(options, train)
    folder.say("# Learned compression of MNIST", _setup(config, train, shown))
    if "with classes" not in systems:
        folder.say("No system with classes: the images have more kinds than its bits can say.")

    trained, exported = {}, {}
    for name, system in systems.items():
        place = folder.runs / name.removeprefix("with ")
        trained[name] = _train(system, place, folder, options, len(train.images), say)
        exported[name] = _export(trained[name], out / "models" / f"{system.name}-1", folder, options, say)
    curves = {name: _curve(info, shown, say) for name, info in exported.items()}
    for block in DCT_BLOCKS:
        fixed = transform.dct_config(config, block, DCT_LAMBDAS)
        place = folder.runs / fixed.name
        transform.write_dct_run(fixed, place, folder.cache, options.quiet)
        info = _export(runs.reload(place), out / "models" / f"{fixed.name}-1", folder, options, say)
        curves[f"block DCT {block}x{block}"] = _curve(info, shown, say)
    mnist_report.rates(folder, curves, trained)
    mnist_report.reconstructions(folder, trained["learned"], shown)
    mnist_report.latents(folder, trained["learned"], shown)
    mnist_report.samples(folder, exported, train, test, options.samples, options.judge_epochs, say)
    if options.part:
        _report_ablations(folder, config, options, train, test, say)
    return folder.finish()


def _systems(options: Options, train: Labelled) -> dict[str, Config]:
    """What is trained, all checked before any of it; classes only where their bits can say all labels."""
    systems = {name: _config(options, config_name) for name, config_name in SYSTEMS.items()}
    section, labels = systems["with classes"].labels, train.labels
    if section is None or labels is None or not section.can_say(int(labels.min()), int(labels.max())):
        del systems["with classes"]
    return systems


def _config(options: Options, name: str = CONFIG) -> Config:
    return load_config(name, [*sources(options.data, options.data_dir), *options.overrides])


def _setup(config: Config, train: Labelled, shown: Images) -> str:
    return (
        f"\n{len(train.images)} training and {len(shown)} test images of {shown.shape[1]}x{shown.shape[2]}. "
        f"Configuration `{config.name}`: a latent of {config.transforms.latent_channels} dimensions, "
        f"{len(config.levels.lambdas)} rates trained together (lambda {config.levels.lambdas}), "
        f"{config.levels.usable} usable."
    )


def _train(
    config: Config, place: Path, folder: Folder, options: Options, count: int, say: Callable[[str], None]
) -> runs.Trained:
    return runs.train_once(
        options.length.apply(config, count),
        place,
        minutes=options.length.minutes,
        cache_dir=folder.cache,
        force=options.force,
        quiet=options.quiet,
        say=say,
    )


def _export(
    trained: runs.Trained, target: Path, folder: Folder, options: Options, say: Callable[[str], None]
) -> ModelInfo:
    if target.exists() and options.force:
        shutil.rmtree(target)
    if not target.exists():
        say(f"{target.name}: exporting")
        target.parent.mkdir(parents=True, exist_ok=True)
        export_run(trained.run, target, cache_dir=folder.cache, quiet=options.quiet)
    return read_info(target)


def _curve(info: ModelInfo, images: Images, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rate and quality of every level over real files, each image a file of its own.

    With contexts a digit takes ten times as long, so only the trained levels are coded.
    """
    say(f"{info.name}: coding {len(images)} images")
    codec = Codec(info)
    latents = [list(codec.latents(image)) for image in images]
    step = (info.levels - 1) // (int(info.facts["trained_levels"]) - 1) if info.kind == "context" else 1
    rows = []
    for level in range(0, info.levels, step):
        files, payload, errors, psnr = 0, 0, [], []
        start = time.perf_counter()
        for image, latent in zip(images, latents, strict=True):
            data = codec.pack(Picture(image), latent, level)
            files += len(data)
            payload += sum(map(len, container.parse(data, info.tile_pixels, 1 << 20).tiles))
            error = float(np.mean((image.astype(np.float64) - codec.decode(data)) ** 2))
            errors.append(error)
            psnr.append(10 * math.log10(255**2 / max(error, 0.065)))
        rows.append(
            {
                "level": level,
                "payload": payload / len(images),
                "file": files / len(images),
                "psnr": math.fsum(psnr) / len(images),
                "psnr_of_mse": 10 * math.log10(255**2 / (math.fsum(errors) / len(images))),
                "seconds": (time.perf_counter() - start) / len(images),
            }
        )
    return rows


def _report_ablations(
    folder: Folder,
    config: Config,
    options: Options,
    train: Labelled,
    test: Labelled,
    say: Callable[[str], None],
) -> None:
    """The prior's family, the initial size of latents, and one rate at a time; shorter runs, all alike."""
    last = len(config.transforms.analysis) - 1
    single = [
        value for i, value in enumerate(config.levels.lambdas) if i in (1, len(config.levels.lambdas) - 1)
    ]
    variants: dict[str, list[str]] = {
        "as configured": [],
        "prior: normal": ["entropy.prior=normal"],
        "prior: logistic": ["entropy.prior=logistic"],
        "initial latents x 0.1": [f"transforms.analysis.{last}.gain=0.1"],
        "initial latents x 10": [f"transforms.analysis.{last}.gain=10"],
        **{f"lambda {value:g} alone": [f"levels.lambdas=[{value}]"] for value in single},
    }
    length = options.length.apply(config, len(train.images)).run.steps
    rows = []
    for i, (name, changes) in enumerate(variants.items()):
        steps = max(1, round(length * options.part))
        short = load_config(
            CONFIG,
            [*sources(options.data, options.data_dir), *options.overrides, f"run.steps={steps}", *changes],
        )
        trained = runs.train_once(
            short,
            folder.runs / f"ablation-{i}",
            cache_dir=folder.cache,
            force=options.force,
            quiet=options.quiet,
            say=say,
        )
        rows += _rate_rows(name, trained, test.images[: options.test])
    folder.say(
        "## What the prior, the start and joint training do",
        f"\nRuns of {options.part:.0%} of the length. Bits by the model's density, test images; the "
        "objective is bits a pixel plus lambda times MSE on [0, 255].",
    )
    columns = [
        ("variant", "variant", ""),
        ("lambda", "lambda", "g"),
        ("bits", "bits a digit", ".1f"),
        ("psnr", "PSNR of the mean MSE, dB", ".2f"),
        ("objective", "objective", ".4f"),
    ]
    folder.table("ablations", columns, rows)


def _rate_rows(name: str, trained: runs.Trained, images: Images) -> list[dict[str, Any]]:
    import tensorflow as tf

    config = trained.config
    levels = len(config.levels.lambdas)
    tensors = {key: tf.constant(value) for key, value in trained.params.items()}
    totals: dict[str, npt.NDArray[np.float64]] = {}
    count = 0
    for start in range(0, len(images), 500):
        part = np.repeat(images[start : start + 500], levels, 0)
        _, found = model.forward(tensors, config, tf.constant(part), None, 1.0)
        for key in ("bpp", "mse", "loss"):
            totals[key] = totals.get(key, 0) + found[key].numpy().astype(np.float64) * (len(part) // levels)
        count += len(part) // levels
    pixels = images.shape[1] * images.shape[2]
    return [
        {
            "variant": name,
            "lambda": value,
            "bits": totals["bpp"][level] / count * pixels,
            "psnr": 10 * math.log10(255**2 / (totals["mse"][level] / count)),
            "objective": totals["loss"][level] / count,
        }
        for level, value in enumerate(config.levels.lambdas)
    ]
