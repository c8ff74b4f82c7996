"""``codec eval``: how well models do on images, next to other codecs."""

from __future__ import annotations

from pathlib import Path

import click

from codec_cli import options
from codec_cli.commands import _eval


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


def _numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    if value == "all":
        raise click.BadParameter("takes numbers from 1 to 100 with commas between")
    return _qualities(ctx, parameter, value)  # type: ignore[return-value]


def _percent(_: click.Context, __: click.Parameter, value: str) -> float:
    try:
        number = float(value.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise click.BadParameter(f"{value!r} is not a percentage of 0 or more")
    return number


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    "eval",
    epilog=options.examples(
        "codec eval photographs/",
        "codec eval photographs/ -q 10,30,50,70,90 --against jpeg,webp,avif",
        "codec eval photographs/ --model photo-1 --model ./models/mine --json results.json",
        "codec eval photographs/ --against webp,heic --plot curves.svg --report report/",
        "codec eval photographs/ --report report/ --bpp 0.23   # original, ours, BPG or HEIC",
        "codec eval photographs/ --baseline baseline.json   # exit code 11 if worse",
    ),
)
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "-q",
    "--qualities",
    metavar="N,N,...",
    callback=_qualities,
    show_default=f"the baseline's, or {_eval.SPREAD} spread over the model's levels",
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
    "jpeg, jpeg444, jpeg2000, webp, avif, avif444, jxl, heic, bpg.",
)
@click.option(
    "--lpips-weights",
    type=_FILE,
    envvar="CODEC_LPIPS_WEIGHTS",
    show_default="no LPIPS",
    help="Measure LPIPS with the weights in this file, which scripts/fetch_lpips.py gets.",
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
@click.option(
    "--plot",
    type=_FILE,
    show_default="none",
    help="Draw rate-distortion curves, and time against BD-rate: .png, .svg or .pdf.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="none",
    help="Write an HTML report: figures, curves, and pictures side by side at equal size.",
)
@click.option(
    "--report-qualities",
    metavar="N,N,...",
    callback=_numbers,
    show_default=f"{_eval.SHOWN} of those measured",
    help="Qualities whose pictures the report shows.",
)
@click.option(
    "--bpp",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    show_default="none",
    help="Show pictures in the report at about this many bits per pixel: the original, ours, and the other "
    f"codecs at the same size ({' or '.join(_eval.BESIDE)} without --against).",
)
@click.option(
    "--published",
    metavar="NAME,NAME,...",
    default="",
    show_default="none",
    help="Curves that others published for the Kodak set, to draw beside what is measured: all, bpg, vtm...",
)
@click.option(
    "--baseline",
    type=_FILE,
    show_default="none",
    help="Compare with this stored evaluation; exit code 11 if something is worse than the --max options "
    "allow.",
)
@click.option(
    "--write-baseline", type=_FILE, show_default="none", help="Store what --baseline compares with."
)
@click.option(
    "--max-bd-rate",
    callback=_percent,
    default="0.5",
    metavar="PERCENT",
    help="Allowed BD-rate against the baseline, over PSNR and over MS-SSIM.",
)
@click.option(
    "--max-size-increase",
    callback=_percent,
    default="0.2",
    metavar="PERCENT",
    help="Allowed growth of the files of all images together, at each quality.",
)
@click.option(
    "--max-psnr-drop",
    type=click.FloatRange(0),
    default=0.02,
    metavar="DB",
    help="Allowed loss of mean PSNR over R'G'B', at each quality.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CODEC_CACHE_DIR",
    show_default="the user's cache directory",
    help="Where results are kept, so that a second run costs only what is new.",
)
@click.option("--no-cache", is_flag=True, help="Measure everything anew and keep nothing. [default: keep]")
@options.include("names of images")
@options.exclude
@options.models_dir
@options.max_pixels
@options.threads
@options.jobs
@click.option("--force", is_flag=True, help="Overwrite files and a former report. [default: refuse]")
@click.option("--quiet", is_flag=True, help="No table, errors only. [default: a table of means]")
@click.option("--verbose", is_flag=True, help="A row for each image, too. [default: means only]")
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    qualities: list[int] | str | None,
    models: tuple[str, ...],
    against: str,
    lpips_weights: Path | None,
    json_file: str | None,
    csv_file: str | None,
    plot: Path | None,
    report: Path | None,
    report_qualities: list[int] | None,
    bpp: float | None,
    published: str,
    baseline: Path | None,
    write_baseline: Path | None,
    max_bd_rate: float,
    max_size_increase: float,
    max_psnr_drop: float,
    cache_dir: Path | None,
    no_cache: bool,
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
    in memory. Rates are complete files without metadata; quality is PSNR over R'G'B' and luma, SSIM,
    MS-SSIM (none for images below 176 pixels) and LPIPS (if its weights are given). Seconds leave out
    loading the model; --jobs above 1 makes them longer, and those of cached results are of their first run.
    """
    from codec_cli.evaluation import baseline as baselines
    from codec_cli.evaluation import quality, runner, tables
    from codec_cli.files import write_atomic
    from codec_cli.report import describe, exit_code, json_text
    from codec_cli.zoo import Zoo

    if bpp is not None and report is None:
        raise click.UsageError("--bpp is of the pictures in a report: give --report, too")
    outputs = _eval.Outputs(json_file, csv_file, plot, report, write_baseline, force)
    outputs.check()
    stored = baselines.load(baseline) if baseline else None
    series = _eval.published_series(published)
    quality.Measure(lpips_weights).prepare()
    zoo = Zoo(models_dir)
    ours = [_eval.subject(zoo.info(name), qualities, stored) for name in dict.fromkeys(models)]
    rivals = _eval.rivals(against)
    images = _eval.find_images(paths, include, exclude)
    if stored:
        names = map(str, images) if all(image.exists() for image in images) else None
        baselines.require_same(stored, names, {model.name: model.settings for model in ours})
    if write_baseline:
        baselines.require_distinct(map(str, images))
    if jobs > 1 and threads is None:
        threads = 1
    evaluator = runner.Evaluator(
        (*ours, *rivals),
        models_dir,
        threads,
        max_pixels,
        lpips_weights,
        _eval.cache_of(cache_dir, no_cache),
    )
    run = _eval.measure(ours, rivals, evaluator, images, jobs, quiet)
    if run.points and not quiet:
        table = tables.text_table(run.points if verbose else [], run.means, run.shown_rates)
        click.echo(table, err=outputs.to_stdout)
    _eval.write_figures(run, outputs)
    if run.points and plot:
        _eval.write_plot(run, outputs, series)
    if run.points and report:
        _eval.write_report(run, evaluator, outputs, report_qualities, bpp, series, jobs, quiet)
    code = exit_code([describe(result.error)[1] if result.error else 0 for result in run.results])
    if code and (write_baseline or stored):
        click.echo("codec: baseline neither written nor compared: not all images were measured", err=True)
        ctx.exit(code)
    if stored:
        run.compare(stored, baselines.Limits(max_bd_rate, max_size_increase, max_psnr_drop))
    if write_baseline:
        write_atomic(write_baseline, json_text(run.baseline()).encode(), force)
    ctx.exit(code)
