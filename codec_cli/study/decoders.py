"""Study: decoders behind one encoder, each as part of a full autoencoder and alone.

``codec study decoders``; docs/STUDIES.md has what came of it. *Alone* means: the encoder of the first
decoder's autoencoder is frozen, and every decoder is trained anew on its latents. All decoders then get the
same input, and what differs is theirs; as full autoencoders each has an encoder that suits it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codec_cli.errors import TrainingError
from codec_cli.study import decoders_report, finetune, measure
from codec_cli.study.folder import Folder
from codec_cli.study.images import Split, load_split, overrides
from codec_cli.study.runs import Length, Trained, behind, train_once, with_latent
from codec_cli.training.config import Config, Listed
from codec_cli.training.networks import Arrays

__all__ = ["DECODERS", "Options", "run"]

DECODERS = {
    "plain": "two transposed convolutions 3x3",
    "deep": "a 3x3 convolution more at each resolution",
    "wide": "twice the channels",
    "residual": "a residual block at each resolution",
    "kernel": "transposed convolutions 5x5",
    "upsample": "repetition and 3x3 convolutions instead of transposed ones",
}
"""What is compared: ``NAME`` is the configuration ``emnist-NAME``. All differ from the first in one thing."""

LATENT = 50


@dataclass(frozen=True)
class Options:
    """What to do.

    Attributes:
        data: Images: a directory, a file or ``tfds:NAME``.
        data_dir: Where TensorFlow Datasets keeps its files.
        decoders: Of :data:`DECODERS`; the first one's encoder is that for decoders alone.
        latents: Dimensions. All decoders are trained at the first, the best of them at the others.
        seeds: Each decoder is trained with seeds 1 to this.
        length: Of each training of a full autoencoder.
        alone_share: Length of the training of a decoder alone, as a share of that.
        start: Run to fine-tune; by default the best decoder's.
        fine_tune_on: Images to fine-tune on, or None.
        tune_share: Length of fine-tuning, as a share of ``length``.
        overrides: Of the configurations.
        test_images: Bound on the test images; None for all.
        force: Train anew.
        quiet: No progress bars.
    """

    data: str
    data_dir: str | None = None
    decoders: tuple[str, ...] = tuple(DECODERS)
    latents: tuple[int, ...] = (LATENT,)
    seeds: int = 1
    length: Length = field(default_factory=Length)
    alone_share: float = 0.5
    start: Path | None = None
    fine_tune_on: str | None = None
    tune_share: float = 0.2
    overrides: tuple[str, ...] = ()
    test_images: int | None = None
    force: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Point:
    """One trained autoencoder, and perhaps its decoder alone.

    Attributes:
        name: Of the decoder.
        latent: Dimensions of the latent.
        trained: The full autoencoder.
        decoded: The test images as they come back, float32 in [0, 1].
        row: Its figures, as in ``runs.csv``.
    """

    name: str
    latent: int
    trained: Trained
    decoded: measure.Floats
    row: Mapping[str, Any]


class _Study:
    def __init__(self, out: Path, options: Options, say: Callable[[str], None]) -> None:
        unknown = [name for name in options.decoders if name not in DECODERS]
        if unknown:
            raise TrainingError(f"no decoder {unknown[0]}; there are {', '.join(DECODERS)}")
        self.folder, self.options, self.say = Folder(out, "decoders"), options, say
        first = self._config(options.decoders[0], options.latents[0], 1)
        self.split = load_split(options.data, first, options.data_dir, options.test_images)

    def _config(self, name: str, latent: int, seed: int) -> Config:
        given = [
            *overrides(self.options.data, self.options.data_dir), f"seed={seed}", *self.options.overrides
        ]  # fmt: skip
        return with_latent(f"emnist-{name}", latent, given)

    def train(self, name: str, config: Config, share: float = 1.0, start: Arrays | None = None) -> Trained:
        """Trains or reloads ``runs/NAME``, for a share of the study's length."""
        options = self.options
        config = options.length.apply(config, len(self.split.train))
        minutes = options.length.minutes
        if share != 1.0:
            steps = max(1, round(config.run.steps * share))
            config = replace(options.length, steps=steps, epochs=None).apply(config, len(self.split.train))
        return train_once(
            config,
            self.folder.runs / name,
            minutes=None if minutes is None else minutes * share,
            start=start,
            cache_dir=self.folder.cache,
            force=options.force,
            quiet=options.quiet,
            say=self.say,
        )

    def full(self, name: str, latent: int, seed: int) -> Point:
        """A full autoencoder."""
        trained = self.train(f"{name}-{latent}-seed-{seed}", self._config(name, latent, seed))
        decoded, row = figures(trained, self.split)
        self.say(f"  {name}, {latent} dimensions: PSNR {row['psnr_db']:.2f} dB, SSIM {row['ssim']:.4f}")
        return Point(name, latent, trained, decoded, {"decoder": name, "latent": latent, "seed": seed, **row})

    def alone(self, point: Point, encoder: Trained) -> Point:
        """The same decoder, trained anew on the frozen encoder's latents."""
        seed = point.trained.config.seed
        config = self._config(point.name, point.latent, seed)
        config, start = behind(encoder.params, config, self.split.train[:128])
        share = self.options.alone_share
        trained = self.train(f"{point.name}-{point.latent}-seed-{seed}-alone", config, share, start)
        _, row = figures(trained, self.split)
        latents = measure.encode(encoder.params, encoder.config, self.split.test[:100])
        alone = {f"alone_{key}": row[key] for key in ("train_loss", "test_loss", "mse", "psnr_db", "ssim")}
        seconds = measure.decode_seconds(trained.params, trained.config, latents)
        self.say(f"  {point.name} alone: PSNR {row['psnr_db']:.2f} dB, SSIM {row['ssim']:.4f}")
        row = {**point.row, **alone, "alone_seconds": trained.seconds, "decode_us": 1e6 * seconds}
        return replace(point, row=row)


def run(out: Path, options: Options, say: Callable[[str], None] = lambda _: None) -> Path:
    """Trains what is not trained yet, measures all of it, and writes the results.

    Args:
        out: Folder of results and runs.
        options: What to do.
        say: Takes lines on what happens.

    Returns:
        The summary.
    """
    study = _Study(out, options, say)
    seeds = range(1, options.seeds + 1)
    latent = options.latents[0]
    points = [study.full(name, latent, seed) for seed in seeds for name in options.decoders]
    best = best_decoder(points)
    others = [study.full(best, size, seed) for size in options.latents[1:] for seed in seeds]
    encoder = points[0].trained
    points = [study.alone(point, encoder) for point in points]
    decoders_report.write(study.folder, points, others, best, study.split)
    if options.fine_tune_on is not None:
        start = next(point.trained for point in points if point.name == best)
        tuned = finetune.tune(study.train, start, options, say)
        finetune.report(study.folder, tuned)
    return study.folder.finish()


def tune_only(out: Path, options: Options, say: Callable[[str], None] = lambda _: None) -> Path:
    """Fine-tunes a given run on ``options.data``; arguments and result as for :func:`run`."""
    from codec_cli.study.runs import reload

    if options.start is None:
        raise TrainingError("no run to start from")
    start = reload(options.start)
    study = _Tuning(out, options, say, start.config)
    study.folder.say(f"# Fine-tuning of {options.start.name}")
    tuned = finetune.tune(study.train, start, options, say)
    finetune.report(study.folder, tuned)
    return study.folder.finish()


class _Tuning(_Study):
    """A study without comparison."""

    def __init__(self, out: Path, options: Options, say: Callable[[str], None], config: Config) -> None:
        self.folder, self.options, self.say = Folder(out, "decoders"), options, say
        self.split = load_split(str(options.fine_tune_on), config, options.data_dir, options.test_images)


def figures(trained: Trained, split: Split) -> tuple[measure.Floats, dict[str, Any]]:
    """The test images as they come back, and all figures of a run."""
    params, config = trained.params, trained.config
    if not isinstance(config.transforms, Listed):
        raise AssertionError("a study trains listed transforms")
    decoded = measure.decode(params, config, measure.encode(params, config, split.test))
    found = measure.quality(split.test, decoded)
    return decoded, {
        "train_loss": measure.loss(params, config, split.train[:5000]),
        "test_loss": measure.loss(params, config, split.test),
        "mse": found.mse,
        "psnr_db": found.psnr_db,
        "ssim": found.ssim,
        "parameters": measure.parameters(params),
        "decoder_parameters": measure.parameters(params, "synthesis/"),
        "decoder_multiplications": measure.multiplications(config.transforms)[1],
        "steps": trained.steps,
        "seconds": trained.seconds,
    }


def best_decoder(points: Sequence[Point]) -> str:
    """Name of the decoder with the highest mean PSNR."""
    totals: dict[str, list[float]] = {}
    for point in points:
        totals.setdefault(point.name, []).append(float(point.row["psnr_db"]))
    return max(totals, key=lambda name: sum(totals[name]) / len(totals[name]))
