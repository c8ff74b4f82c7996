"""``codec eval``: how well models do on images, next to other codecs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codec_cli import options

if TYPE_CHECKING:
    from codec_cli.evaluation.runner import Result, Subject
    from codec_cli.zoo import ModelInfo

SPREAD = 8


def _qualities(_: click.Context, __: click.Parameter, value: str | None) -> list[int] | str | None:
    if value is None or value == "all":
        return value
    try:
        qualities = [int(part) for part in value.split(",")]
    except ValueError:
        qualities = [0]
    if not all(1 <= quality <= 100 for quality in qualities):
        raise click.BadParameter(f"{value!r} is neither `all` nor numbers from 1 to 100 with commas between")
    return qualities


@click.command(
    "eval",
    epilog=options.examples(
        "codec eval photographs/",
        "codec eval photographs/ -q 10,30,50,70,90 --against jpeg,webp",
        "codec eval photographs/ --model photo-1 --model ./models/mine --json results.json",
    ),
)
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "-q",
    "--qualities",
    metavar="N,N,...",
    callback=_qualities,
    show_default=f"{SPREAD} spread over the model's levels",
    help="Qualities to measure at, 1 to 100, or `all` for one per usable level.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    default=(options.DEFAULT_MODEL,),
    show_default=True,
    shell_complete=options.complete_model,
    help="Model to measure: a name, alias or folder. Repeatable; BD-rates are then against the first, too.",
)
@click.option(
    "--against",
    metavar="CODEC,CODEC,...",
    default="",
    show_default="none",
    help="Other codecs to measure on the same images, and to compare with by BD-rate: "
    "jpeg, jpeg444, webp, avif, avif444, jpeg2000.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    show_default="none",
    help="Write all figures as JSON; - for stdout.",
)
@click.option(
    "--csv",
    "csv_file",
    metavar="FILE",
    show_default="none",
    help="Write all figures as CSV, the means in rows of image `mean`; - for stdout.",
)
@options.include("names of images")
@options.exclude
@options.models_dir
@options.max_pixels
@options.threads
@options.jobs
@click.option("--force", is_flag=True, help="Overwrite the files of --json and --csv. [default: refuse]")
@click.option("--quiet", is_flag=True, help="No table, errors only. [default: a table of means]")
@click.option("--verbose", is_flag=True, help="A row for each image, too. [default: means only]")
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    qualities: list[int] | str | None,
    models: tuple[str, ...],
    against: str,
    json_file: str | None,
    csv_file: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    models_dir: Path | None,
    max_pixels: int,
    threads: int | None,
    jobs: int,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure rate, quality and speed on images.

    PATHS are images and directories of images. Every image is compressed and decompressed at every quality,
    in memory. Rates are complete files without metadata; quality is PSNR over R'G'B' and luma, and MS-SSIM
    (none for images below 176 pixels). Seconds leave out loading the model; --jobs above 1 makes them
    longer.
    """
    from codec_cli.evaluation import runner, tables
    from codec_cli.files import write_atomic
    from codec_cli.report import describe, exit_code, json_text, progress
    from codec_cli.workers import each
    from codec_cli.zoo import Zoo

    outputs = [name for name in (json_file, csv_file) if name]
    _check_outputs(outputs, force)
    zoo = Zoo(models_dir)
    ours = [_subject(zoo.info(name), qualities) for name in dict.fromkeys(models)]
    rivals = _rivals(against)
    images = _images(paths, include, exclude)
    if jobs > 1 and threads is None:
        threads = 1
    evaluator = runner.Evaluator((*ours, *rivals), models_dir, threads, max_pixels)
    results: list[Result] = []
    with progress(len(images), "images", not quiet) as advance:
        for result in each(evaluator, images, jobs, _died):
            results.append(result)
            advance(1)
    _report_problems(results, quiet)

    points = [point for result in results for point in result.points]
    means = runner.means(points)
    anchors = [subject.name for subject in (ours[0], *rivals)]
    rates = runner.bd_rates(means, [subject.name for subject in ours], anchors) if points else []
    skipped = [result for result in results if result.error]
    if points and not quiet:
        click.echo(tables.text_table(points if verbose else [], means, rates), err="-" in outputs)
    for name, text in (
        (json_file, json_text(runner.report(points, rates, skipped))),
        (csv_file, tables.csv_text(points, means)),
    ):
        if name == "-":
            click.echo(text, nl=False)
        elif name:
            write_atomic(Path(name), text.encode(), force)
    ctx.exit(exit_code([describe(result.error)[1] if result.error else 0 for result in results]))


def _check_outputs(names: Sequence[str], force: bool) -> None:
    """Finds out before hours of work whether the figures can be written."""
    from codec_cli.commands._plan import STREAM, check_new_file

    if len(set(names)) < len(names):
        raise click.UsageError(f"--json and --csv can't both be {names[0]}")
    for name in names:
        error = None if name == STREAM else check_new_file(Path(name), force)
        if error:
            raise error


def _subject(info: ModelInfo, qualities: list[int] | str | None) -> Subject:
    from codec_cli.evaluation.runner import Subject, usable_qualities

    if isinstance(qualities, list):
        return Subject.ours(info, qualities)
    return Subject.ours(info, usable_qualities(info, None if qualities == "all" else SPREAD))


def _rivals(against: str) -> list[Subject]:
    """The other codecs; those that don't work here are named and left out."""
    from codec_cli.errors import CodecError
    from codec_cli.evaluation.others import others
    from codec_cli.evaluation.runner import Subject

    names = [name.strip() for name in against.split(",") if name.strip()]
    try:
        codecs = others(names)
    except CodecError as error:
        raise click.BadParameter(str(error), param_hint="--against") from error
    missing = {codec.name: reason for codec in codecs if (reason := codec.available())}
    for name, reason in missing.items():
        click.echo(f"codec: {name} skipped: {reason}", err=True)
    return Subject.others(codec.name for codec in codecs if codec.name not in missing)


def _images(paths: Iterable[str], include: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    from codec_cli.commands._plan import find
    from codec_cli.commands._verbs import is_image
    from codec_cli.errors import ImageError

    images: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = list(find(path, is_image, include, exclude))
            if not found:
                raise ImageError(f"{path}: no images in this directory")
            images.update(dict.fromkeys(found))
        else:
            images[path] = None
    return list(images)


def _died(path: Path) -> Result:
    from codec_cli.errors import CodecError
    from codec_cli.evaluation.runner import Result
    from codec_cli.workers import WORKER_DIED

    return Result(str(path), error=CodecError(WORKER_DIED))


def _report_problems(results: Iterable[Result], quiet: bool) -> None:
    from codec_cli.report import describe, named, one_line

    for result in results:
        if result.error:
            click.echo(f"codec: {named(result.image, describe(result.error)[0])}; skipped", err=True)
        for warning in () if quiet else result.warnings:
            click.echo(one_line(f"{result.image}: warning: {warning}"), err=True)
