"""What ``codec eval`` does, apart from its options: subjects, measuring, and everything that is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from codec_cli.evaluation.baseline import Limits
    from codec_cli.evaluation.cache import Cache
    from codec_cli.evaluation.figures import BdRate, Mean, Point
    from codec_cli.evaluation.published import Series
    from codec_cli.evaluation.runner import Evaluator, Result, Subject
    from codec_cli.zoo import ModelInfo

__all__ = [
    "BESIDE",
    "SHOWN",
    "SPREAD",
    "Outputs",
    "Run",
    "cache_of",
    "find_images",
    "measure",
    "published_series",
    "rivals",
    "subject",
    "write_figures",
    "write_plot",
    "write_report",
]

SPREAD = 8
"""Qualities measured unless told otherwise."""

SHOWN = 3
"""Of these, how many the report's pictures show unless told otherwise."""

BESIDE = ("bpg", "heic")
"""Of these, the first that works here is shown beside ours at a given rate, unless others are named."""


@dataclass(frozen=True)
class Outputs:
    """What to write, each None for not at all; ``-`` is standard output where it makes sense.

    Attributes:
        json: All figures.
        csv: The same as a table.
        plot: Curves, ``.png``, ``.svg`` or ``.pdf``.
        report: Directory of an HTML report.
        write_baseline: A baseline for later runs.
        force: Overwrite.
    """

    json: str | None
    csv: str | None
    plot: Path | None
    report: Path | None
    write_baseline: Path | None
    force: bool

    @property
    def to_stdout(self) -> bool:
        """Whether standard output is taken."""
        return "-" in (self.json, self.csv)

    def check(self) -> None:
        """Finds out before hours of work whether everything can be written.

        Raises:
            CodecError: Something can't be.
        """
        from codec_cli.commands._plan import STREAM, check_new_file
        from codec_cli.errors import CodecError, OutputError

        files = [Path(name) for name in (self.json, self.csv) if name and name != STREAM]
        files += [path for path in (self.plot, self.write_baseline) if path]
        names = [*map(str, files), *(name for name in (self.json, self.csv) if name == STREAM)]
        if len(set(names)) < len(names):
            raise click.UsageError("two of the outputs have the same name")
        for path in files:
            error = check_new_file(path, self.force)
            if error:
                raise error
        if self.plot:
            from codec_cli.evaluation.plots import FORMATS

            if self.plot.suffix.lower() not in FORMATS:
                raise OutputError(f"{self.plot}: unknown suffix; choose one of {', '.join(FORMATS)}")
            try:
                import matplotlib  # noqa: F401
            except ImportError as error:
                raise CodecError("--plot needs matplotlib: pip install 'codec-cli[eval]'") from error
        if self.report:
            from codec_cli.evaluation.page import check_folder

            check_folder(self.report, self.force)


@dataclass
class Run:
    """An evaluation and what came of it.

    Attributes:
        ours: Models under test.
        rivals: Other codecs.
        results: What became of each image.
        points: Of all images and codecs.
        means: Over the images.
        rates: Bjøntegaard deltas between any two codecs.
    """

    ours: list[Subject]
    rivals: list[Subject]
    results: list[Result]
    points: list[Point]
    means: list[Mean]
    rates: list[BdRate]

    @property
    def shown_rates(self) -> list[BdRate]:
        """Those that matter for a table: of our models against the first of them and all other codecs."""
        tests = {subject.name for subject in self.ours}
        anchors = {subject.name for subject in (self.ours[0], *self.rivals)}
        return [rate for rate in self.rates if rate.test in tests and rate.anchor in anchors]

    def figures(self) -> dict[str, Any]:
        """Everything for JSON."""
        from codec_cli.evaluation import figures

        skipped = {result.image: str(result.error) for result in self.results if result.error}
        return figures.report(self.points, self.rates, skipped, self._about())

    def baseline(self) -> dict[str, Any]:
        """What a baseline holds of this run."""
        from codec_cli.evaluation import baseline

        digests = {result.image: result.digest for result in self.results if not result.error}
        return baseline.make(self.points, digests, self._fingerprints())

    def compare(self, stored: Mapping[str, Any], limits: Limits) -> None:
        """Compares with a baseline and prints what is worse.

        Raises:
            RegressionError: Something is worse than allowed.
            CodecError: The baseline is of something else.
        """
        from codec_cli.errors import RegressionError
        from codec_cli.evaluation import baseline

        current = self.baseline()
        checks = baseline.compare(stored, current, limits)
        for name, fingerprint in stored["models"].items():
            if current["models"][name] != fingerprint:
                click.echo(f"baseline: {name} has other weights than the baseline's", err=True)
        click.echo(baseline.table(checks), err=True)
        failed = sum(not check.passed for check in checks)
        if failed:
            raise RegressionError(
                f"worse than the baseline in {failed} of {len(checks)} comparisons; if that is meant to be, "
                "write a new one with --write-baseline"
            )

    def _fingerprints(self) -> dict[str, str]:
        return {subject.name: subject.model.fingerprint.hex() for subject in self.ours if subject.model}

    def _about(self) -> dict[str, Any]:
        from codec_cli import __version__
        from codec_cli.evaluation.others import others

        return {
            "codec": __version__,
            "models": self._fingerprints(),
            "codecs": {
                codec.name: f"{codec.description}; {codec.version()}"
                for codec in others(subject.name for subject in self.rivals)
            },
        }


def subject(
    info: ModelInfo, qualities: list[int] | str | None, stored: Mapping[str, Any] | None = None
) -> Subject:
    """A model at some qualities.

    Args:
        info: The model.
        qualities: Numbers; ``all``; or None for those of the baseline, or else :data:`SPREAD` of them.
        stored: A baseline to compare with, whose qualities ``all`` includes.
    """
    from codec_cli.evaluation.baseline import settings_of
    from codec_cli.evaluation.runner import Subject, usable_qualities

    if isinstance(qualities, list):
        return Subject.ours(info, qualities)
    known = settings_of(stored, Subject.ours(info, ()).name) if stored else []
    if qualities == "all":
        return Subject.ours(info, [*usable_qualities(info, None), *known])
    return Subject.ours(info, known or usable_qualities(info, SPREAD))


def rivals(against: str) -> list[Subject]:
    """The other codecs; those that don't work here are named and left out."""
    from codec_cli.errors import CodecError
    from codec_cli.evaluation.others import others
    from codec_cli.evaluation.runner import Subject

    try:
        codecs = others(_names(against))
    except CodecError as error:
        raise click.BadParameter(str(error), param_hint="--against") from error
    missing = {codec.name: reason for codec in codecs if (reason := codec.available())}
    for name, reason in missing.items():
        click.echo(f"codec: {name} skipped: {reason}", err=True)
    return Subject.others(codec.name for codec in codecs if codec.name not in missing)


def published_series(names: str) -> list[Series]:
    """The published curves to draw."""
    from codec_cli.errors import CodecError
    from codec_cli.evaluation.published import select

    try:
        return select(_names(names))
    except CodecError as error:
        raise click.BadParameter(str(error), param_hint="--published") from error


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def find_images(paths: Iterable[str], include: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    """All images that the arguments name, each once.

    Raises:
        ImageError: A directory has none, or something that must not be opened.
    """
    from codec_cli.commands._plan import find
    from codec_cli.commands._verbs import is_image
    from codec_cli.errors import ImageError

    images: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = list(find(path, is_image, include, exclude))
            if not found:
                raise ImageError(f"{path}: no images in this directory")
            for image, fault in found:
                if fault is not None:
                    raise ImageError(f"{image}: {fault}; move it, or leave it out with --exclude")
                images[image] = None
        else:
            images[path] = None
    return list(images)


def measure(
    ours: list[Subject],
    rivals: list[Subject],
    evaluator: Evaluator,
    images: list[Path],
    jobs: int,
    quiet: bool,
) -> Run:
    """Measures everything, with a progress bar; says which images were skipped and why."""
    from codec_cli.evaluation import figures
    from codec_cli.report import describe, named, one_line, progress
    from codec_cli.workers import each

    results: list[Result] = []
    with progress(len(images), "images", not quiet) as advance:
        for result in each(evaluator, images, jobs, _died):
            results.append(result)
            advance(1)
    for result in results:
        if result.error:
            click.echo(f"codec: {named(result.image, describe(result.error)[0])}; skipped", err=True)
        for warning in () if quiet else result.warnings:
            click.echo(one_line(f"{result.image}: warning: {warning}"), err=True)
    points = [point for result in results for point in result.points]
    means = figures.means(points)
    names = [subject.name for subject in (*ours, *rivals)]
    rates = figures.bd_rates(means, names, names) if points else []
    return Run(ours, rivals, results, points, means, rates)


def _died(path: Path) -> Result:
    from codec_cli.errors import CodecError
    from codec_cli.evaluation.runner import Result
    from codec_cli.workers import WORKER_DIED

    return Result(str(path), error=CodecError(WORKER_DIED))


def write_figures(run: Run, outputs: Outputs) -> None:
    """JSON and CSV."""
    from codec_cli.evaluation import tables
    from codec_cli.files import write_atomic
    from codec_cli.report import json_text

    for name, text in (
        (outputs.json, json_text(run.figures())),
        (outputs.csv, tables.csv_text(run.points, run.means)),
    ):
        if name == "-":
            click.echo(text, nl=False)
        elif name:
            write_atomic(Path(name), text.encode(), outputs.force)


def write_plot(run: Run, outputs: Outputs, series: Sequence[Series]) -> None:
    """The curves."""
    from codec_cli.evaluation import plots
    from codec_cli.files import write_atomic

    assert outputs.plot is not None
    title = f"Mean over {len({point.image for point in run.points})} images"
    drawn = plots.draw(run.figures(), outputs.plot.suffix, published=series, title=title)
    write_atomic(outputs.plot, drawn, outputs.force)


def write_report(
    run: Run,
    evaluator: Evaluator,
    outputs: Outputs,
    shown: list[int] | None,
    bpp: float | None,
    series: Sequence[Series],
    jobs: int,
    quiet: bool,
) -> None:
    """The HTML report: pictures are made one image at a time.

    With ``bpp``, pictures are of about that rate: original, ours and the rivals, or without any, one that is
    not measured otherwise.
    """
    from codec_cli.evaluation import page
    from codec_cli.evaluation.published import tree
    from codec_cli.evaluation.quality import Measure
    from codec_cli.report import describe, named, progress
    from codec_cli.workers import each

    images = [Path(result.image) for result in run.results if not result.error]
    settings = shown or (_spread(run.ours[0].settings, SHOWN) if bpp is None else [])
    beside = run.rivals if run.rivals or bpp is None else _first_available(BESIDE)
    comparer = page.Comparer(
        (*run.ours, *beside),
        tuple(settings),
        bpp,
        Measure(evaluator.lpips_weights),
        evaluator.models_dir,
        evaluator.threads,
        evaluator.max_pixels,
    )

    def died(path: Path) -> page.Failure:
        from codec_cli.errors import CodecError
        from codec_cli.workers import WORKER_DIED

        return page.Failure(str(path), CodecError(WORKER_DIED))

    assert outputs.report is not None
    with progress(len(images), "pictures", not quiet) as advance:

        def compared() -> Iterable[page.Packed]:
            for comparison in each(comparer, images, jobs, died):
                advance(1)
                if isinstance(comparison, page.Failure):
                    text = named(comparison.image, describe(comparison.error)[0])
                    click.echo(f"codec: {text}; without pictures in the report", err=True)
                else:
                    yield comparison

        page.write_report(
            outputs.report,
            replace(run, rivals=beside).figures(),
            compared(),
            published=tree(series),
            title=f"{len(images)} images",
            force=outputs.force,
            view="slide" if bpp is None else "all",
        )


def _first_available(names: Sequence[str]) -> list[Subject]:
    from codec_cli.evaluation.others import others
    from codec_cli.evaluation.runner import Subject

    name = next((codec.name for codec in others(names) if codec.available() is None), None)
    if name is None:
        click.echo(f"codec: none of {', '.join(names)} is here to show pictures of", err=True)
    return Subject.others([name] if name else [])


def _spread(settings: Sequence[int], count: int) -> list[int]:
    """Some of the settings, from inside their range: the ends are seldom what one looks at."""
    if len(settings) <= count:
        return list(settings)
    return [settings[(2 * i + 1) * len(settings) // (2 * count)] for i in range(count)]


def cache_of(folder: Path | None, disabled: bool) -> Cache | None:
    """Where results are kept."""
    from codec_cli.evaluation.cache import Cache, default_dir

    return None if disabled else Cache(folder or default_dir())
