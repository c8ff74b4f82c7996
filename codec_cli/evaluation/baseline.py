"""Comparing an evaluation with a stored one: has the codec become worse?

A baseline is a small JSON file of one evaluation of our models: which images (names and digests of their
pixels), which models, and bytes, PSNR and MS-SSIM of every image at every setting. Seconds are not in it:
it says what the codec does, not how fast a machine was. :func:`require_same` and :func:`compare` refuse to
compare different things.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from codec_cli.errors import CodecError
from codec_cli.evaluation import bdrate
from codec_cli.evaluation.figures import Point, rounded

__all__ = [
    "FIELDS",
    "SCHEMA",
    "Check",
    "Limits",
    "compare",
    "load",
    "make",
    "require_distinct",
    "require_same",
    "settings_of",
    "table",
]

SCHEMA = 1
"""Version of the file's layout."""

FIELDS = ("bytes", "bpp", "psnr_rgb_db", "ms_ssim_db")
"""What is stored of each image at each setting."""

_BD_METRICS = {"psnr_rgb_db": "PSNR", "ms_ssim_db": "MS-SSIM"}


@dataclass(frozen=True)
class Limits:
    """How much worse is still passed over. Each is inclusive.

    Attributes:
        bd_rate: Percent more bits at equal quality, over PSNR and over MS-SSIM in dB.
        size_increase: Percent more bytes at one setting, over all images.
        psnr_drop: dB less mean PSNR over R'G'B' at one setting.
    """

    bd_rate: float = 0.5
    size_increase: float = 0.2
    psnr_drop: float = 0.02


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        codec: Name of the model's subject.
        what: What was compared, such as ``size at 30``.
        before: The baseline's figure, as text.
        after: This run's figure, as text.
        change: By how much it is worse, as text with its unit.
        limit: What was allowed, as text with its unit.
        passed: Whether it is within the limit.
        worst: Image with the largest change, and its change.
    """

    codec: str
    what: str
    before: str
    after: str
    change: str
    limit: str
    passed: bool
    worst: str = ""


_Rows = dict[tuple[str, int], dict[str, Mapping[str, Any]]]


def make(
    points: Iterable[Point], digests: Mapping[str, str], fingerprints: Mapping[str, str]
) -> dict[str, Any]:
    """A baseline as plain values for JSON.

    Args:
        points: Of our models; points of codecs that ``fingerprints`` does not name are left out.
        digests: SHA-256 of each image's pixels, by its path.
        fingerprints: Of each model, by the name of its subject (``codec:photo-1``).

    Raises:
        CodecError: Two images have the same file name.
    """
    names = _names(digests)
    return {
        "schema": SCHEMA,
        "models": dict(fingerprints),
        "images": {names[path]: digest for path, digest in digests.items()},
        "results": [
            {
                "image": names[point.image],
                "codec": point.codec,
                "setting": point.setting,
                **rounded({field: getattr(point, field) for field in FIELDS}),
            }
            for point in points
            if point.codec in fingerprints
        ],
    }


def load(path: Path) -> dict[str, Any]:
    """Reads a baseline.

    Raises:
        CodecError: The file is missing or is no baseline of this version.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CodecError(
            f"{path}: can't read the baseline: {error.strerror}; --write-baseline makes one"
        ) from error
    except ValueError as error:
        raise CodecError(f"{path}: not a baseline: {error}") from error
    if not _is_baseline(tree):
        raise CodecError(f"{path}: not a baseline of schema {SCHEMA}; --write-baseline makes one")
    return tree  # type: ignore[no-any-return]


def _is_baseline(tree: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    if not (isinstance(tree, dict) and tree.get("schema") == SCHEMA):
        return False
    models, images, results = (tree.get(key) for key in ("models", "images", "results"))
    return (
        isinstance(models, dict)
        and isinstance(images, dict)
        and isinstance(results, list)
        and bool(results)
        and all(
            isinstance(row, dict)
            and row.get("image") in images
            and row.get("codec") in models
            and isinstance(row.get("setting"), int)
            and 1 <= row["setting"] <= 100
            and isinstance(row.get("bytes"), int)
            and row["bytes"] > 0
            and all(isinstance(row.get(field, ""), int | float | None) for field in FIELDS)
            for row in results
        )
    )


def require_distinct(paths: Iterable[str]) -> None:
    """Refuses before the work images that :func:`make` could not tell apart.

    Raises:
        CodecError: Two images have the same file name.
    """
    _names(paths)


def settings_of(baseline: Mapping[str, Any], codec: str) -> list[int]:
    """What a baseline measured a model at, ascending; empty for other models."""
    return sorted({setting for name, setting in _rows(baseline) if name == codec})


def require_same(
    baseline: Mapping[str, Any], paths: Iterable[str] | None, measured: Mapping[str, Collection[int]]
) -> None:
    """Refuses before the work what :func:`compare` would refuse after it; pixels are not known yet.

    Args:
        baseline: From :func:`load`.
        paths: Of the images to measure; None if not all of them exist: then there will be no comparison.
        measured: What each model will be measured at, by the name of its subject.

    Raises:
        CodecError: The baseline is of other images, models or settings: says which.
    """
    if paths is not None:
        _require_same_images(baseline["images"], dict.fromkeys(_names(paths).values()))
    _require_settings(baseline, measured)


def compare(baseline: Mapping[str, Any], current: Mapping[str, Any], limits: Limits) -> list[Check]:
    """Compares an evaluation with a baseline.

    Args:
        baseline: From :func:`load`.
        current: From :func:`make`; may hold more models and settings than the baseline.
        limits: How much worse is passed over.

    Returns:
        All comparisons, those of sizes and PSNR by setting, and Bjøntegaard deltas of each model.

    Raises:
        CodecError: The baseline is of other images, models or settings: says which.
    """
    _require_same_images(baseline["images"], current["images"])
    before, after = _rows(baseline), _rows(current)
    _require_settings(baseline, {codec: settings_of(current, codec) for codec in current["models"]})
    checks: list[Check] = []
    for codec in baseline["models"]:
        settings = sorted(setting for name, setting in before if name == codec)
        for setting in settings:
            old, new = before[codec, setting], after[codec, setting]
            checks += [_size(codec, setting, old, new, limits), _psnr(codec, setting, old, new, limits)]
        if len(settings) > 1:
            checks += [_bd_rate(codec, settings, before, after, metric, limits) for metric in _BD_METRICS]
    return checks


def table(checks: Sequence[Check]) -> str:
    """The comparisons that failed as a table, or one line when none did."""
    failed = [check for check in checks if not check.passed]
    if not failed:
        return f"baseline: {len(checks)} comparisons, none worse than allowed"
    rows = [("codec", "what", "baseline", "now", "change", "allowed", "worst image")]
    rows += [(c.codec, c.what, c.before, c.after, c.change, c.limit, c.worst) for c in failed]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(
        [f"baseline: {len(failed)} of {len(checks)} comparisons are worse than allowed:", *lines]
    )


def _names(paths: Iterable[str]) -> dict[str, str]:
    """File names stand for images: a baseline travels between machines."""
    names: dict[str, str] = {}
    seen: dict[str, str] = {}
    for path in paths:
        name = PurePath(path).name
        if name in seen:
            raise CodecError(f"{path} and {seen[name]} have the same name: a baseline can't tell them apart")
        seen[name] = path
        names[path] = name
    return names


def _require_settings(baseline: Mapping[str, Any], measured: Mapping[str, Collection[int]]) -> None:
    missing = sorted(baseline["models"].keys() - measured.keys())
    if missing:
        raise CodecError(
            f"the baseline is of {', '.join(missing)}, which this run does not measure "
            f"(it measures {', '.join(sorted(measured))})"
        )
    absent = sorted(place for place in _rows(baseline) if place[1] not in measured[place[0]])
    if absent:
        listed = ", ".join(f"{codec} at {setting}" for codec, setting in absent)
        raise CodecError(
            f"the baseline has settings that this run does not measure: {listed}; see --qualities"
        )


def _require_same_images(before: Mapping[str, str], after: Mapping[str, str | None]) -> None:
    """Refuses other images; a digest of None is not known yet."""
    problems = [f"{name} is missing" for name in sorted(before.keys() - after.keys())]
    problems += [f"{name} is new" for name in sorted(after.keys() - before.keys())]
    common = sorted(name for name in before.keys() & after.keys() if after[name] is not None)
    problems += [f"{name} has other pixels" for name in common if before[name] != after[name]]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CodecError(f"the baseline is of other images: {shown}")


def _rows(tree: Mapping[str, Any]) -> _Rows:
    rows: _Rows = {}
    for row in tree["results"]:
        rows.setdefault((row["codec"], row["setting"]), {})[row["image"]] = row
    return rows


def _mean(rows: Mapping[str, Mapping[str, Any]], field: str, names: Iterable[str]) -> float | None:
    values = [rows[name][field] for name in names]
    return None if not values or None in values else math.fsum(values) / len(values)


def _worst(changes: Mapping[str, float], text: str) -> str:
    name = max(changes, key=lambda name: changes[name])
    return f"{name} {text.format(changes[name])}"


def _size(codec: str, setting: int, old: Any, new: Any, limits: Limits) -> Check:  # noqa: ANN401
    before, after = (sum(row["bytes"] for row in rows.values()) for rows in (old, new))
    change = (after / before - 1) * 100
    changes = {name: (new[name]["bytes"] / old[name]["bytes"] - 1) * 100 for name in old}
    return Check(
        codec,
        f"size at {setting}",
        f"{before} B",
        f"{after} B",
        f"{change:+.3f} %",
        f"{limits.size_increase:+g} %",
        change <= limits.size_increase,
        _worst(changes, "{:+.3f} %"),
    )


def _psnr(codec: str, setting: int, old: Any, new: Any, limits: Limits) -> Check:  # noqa: ANN401
    # Without a figure the image is coded without loss: nothing can be better than that.
    names = [name for name in old if old[name]["psnr_rgb_db"] is not None]
    drops = {
        name: old[name]["psnr_rgb_db"] - value if (value := new[name]["psnr_rgb_db"]) is not None else 0.0
        for name in names
    }
    drop = math.fsum(drops.values()) / len(drops) if drops else 0.0
    lossless = [name for name in old if name not in drops and new[name]["psnr_rgb_db"] is not None]
    before, after = (_mean(rows, "psnr_rgb_db", names) for rows in (old, new))
    return Check(
        codec,
        f"PSNR at {setting}",
        _decibels(before),
        _decibels(after),
        f"{-drop:+.3f} dB",
        f"{-limits.psnr_drop:+g} dB",
        drop <= limits.psnr_drop and not lossless,
        f"{lossless[0]} was lossless" if lossless else _worst(drops, "-{:.3f} dB") if drops else "",
    )


def _bd_rate(
    codec: str, settings: Sequence[int], before: _Rows, after: _Rows, metric: str, limits: Limits
) -> Check:
    curves: list[list[float]] = [[], [], [], []]
    for setting in settings:
        values = [
            _mean(rows[codec, setting], field, rows[codec, setting])
            for rows in (before, after)
            for field in ("bpp", metric)
        ]
        if None not in values:  # Curves through different settings differ although nothing changed.
            for curve, value in zip(curves, values, strict=True):
                curve.append(value)  # type: ignore[arg-type]
    what = f"BD-rate ({_BD_METRICS[metric]})"
    limit = f"{limits.bd_rate:+g} %"
    if len(curves[0]) < 2:  # Not defined in the baseline either, for images this small.
        return Check(codec, what, "-", "-", "not defined", limit, True)
    try:
        percent = bdrate.bd_rate(*curves)
    except bdrate.NoOverlap as error:
        return Check(codec, what, "-", "-", f"none: {error}", limit, False)
    return Check(
        codec, what, "0 %", f"{percent:+.3f} %", f"{percent:+.3f} %", limit, percent <= limits.bd_rate
    )


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} dB"
