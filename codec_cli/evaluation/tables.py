"""Figures of :mod:`codec_cli.evaluation.runner` as text: a table for people, CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

from codec_cli.evaluation.figures import BdRate, Mean, Point, rounded
from codec_cli.evaluation.quality import METRICS

__all__ = ["MEAN", "csv_text", "text_table"]

MEAN = "mean"
"""What stands for the image's name in rows of means."""

_COLUMNS = (
    ("bpp", "bpp", 3),
    *((metric.key, metric.heading, metric.digits) for metric in METRICS),
    ("encode_s", "enc s", 3),
    ("decode_s", "dec s", 3),
)
_METRIC_NAMES = {"psnr_rgb_db": "PSNR", "ms_ssim_db": "MS-SSIM"}


def text_table(points: Sequence[Point], means: Sequence[Mean], rates: Sequence[BdRate]) -> str:
    """A table in columns: a row for each of ``points``, then the means, then the Bjøntegaard deltas.

    LPIPS is left out where it has no value at all: that is so without its weights.
    """
    all_rows: list[Point | Mean] = [*points, *means]
    has_lpips = any(row.lpips is not None for row in all_rows)
    known = [column for column in _COLUMNS if column[0] != "lpips" or has_lpips]
    rows = [["codec", "setting", "image", *(heading for _, heading, _ in known)]]
    rows += [[row.codec, str(row.setting), row.image, *_cells(row, known)] for row in points]
    rows += [[row.codec, str(row.setting), f"{MEAN} of {row.images}", *_cells(row, known)] for row in means]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if name in ("codec", "image") else cell.rjust(width)
            for cell, width, name in zip(row, widths, rows[0], strict=True)
        )
        for row in rows
    ]
    return "\n".join([*aligned, *map(_rate_line, rates)])


def csv_text(points: Sequence[Point], means: Sequence[Mean]) -> str:
    """The same as comma-separated values, one header line; figures that are not defined are empty."""
    names = [field.name for field in fields(Point)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounded(asdict(point)) for point in points)
    writer.writerows({"image": MEAN, **rounded(asdict(mean))} for mean in means)
    return stream.getvalue()


def _cells(row: Point | Mean, columns: Sequence[tuple[str, str, int]]) -> list[str]:
    values = [(name, getattr(row, name), digits) for name, _, digits in columns]
    return [_missing(row, name) if value is None else f"{value:.{digits}f}" for name, value, digits in values]


def _missing(row: Point | Mean, name: str) -> str:
    """What a figure is that is no number."""
    exact = name.startswith("psnr") or (name == "ms_ssim_db" and row.ms_ssim is not None)
    return "infinite" if exact else "not defined"


def _rate_line(rate: BdRate) -> str:
    value = f"none ({rate.reason})" if rate.percent is None else f"{rate.percent:+.2f} %"
    return f"BD-rate ({_METRIC_NAMES[rate.metric]}) of {rate.test} against {rate.anchor}: {value}"
