"""The report's folder: the page with everything in it, and the pictures beside it."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from codec_cli import __version__
from codec_cli.evaluation.page import summary
from codec_cli.evaluation.page.folder import INDEX, MARKER, PICTURES, new_folder
from codec_cli.evaluation.page.pictures import Comparison, Packed, pack
from codec_cli.evaluation.quality import METRICS

__all__ = ["write_report"]

_SCRIPTS = ("common.js", "chart.js", "stage.js", "viewer.js", "page.js")
_POINT = ("image", "codec", "setting", "bytes", "bpp")
_MEAN = ("codec", "setting", "images", "bytes", "bpp")


def write_report(
    folder: Path,
    figures: Mapping[str, Any],
    comparisons: Iterable[Comparison | Packed],
    *,
    published: Mapping[str, Any] | None,
    title: str,
    force: bool,
    view: str = "slide",
) -> None:
    """Writes a report; readers find the former folder or all of the new one.

    Args:
        folder: What to create; the folder that it is to be in must exist.
        figures: What :func:`codec_cli.evaluation.runner.report` returns.
        comparisons: The images to look at. Taken one at a time, so they may come from a generator; no more
            than one's pictures are held.
        published: Curves that others measured on the Kodak set, laid out as ``published.json``; drawn dotted,
            in the mean only. None for none.
        title: Of the page.
        force: Replace a former report. Nothing else is ever replaced.
        view: How the pictures are shown at first: ``slide``, ``beside``, ``all`` or ``difference``.

    Raises:
        OutputError: The folder exists (without ``force``), is not a former report, or can't be written.
        ValueError: A picture has another size than its original.
    """
    with new_folder(folder, force) as new:
        (new / PICTURES).mkdir()
        shown = [
            _write_pictures(new, number, comparison if isinstance(comparison, Packed) else pack(comparison))
            for number, comparison in enumerate(comparisons, 1)
        ]
        # Names of files may hold bytes that are no text; the page has to be text.
        page = _page(figures, shown, published or {}, title, view).encode("utf-8", "replace")
        (new / INDEX).write_bytes(page)


def _write_pictures(folder: Path, number: int, packed: Packed) -> dict[str, Any]:
    """Writes the pictures under names of our making; returns the facts with these names in place."""
    names = [f"{PICTURES}/{number:03d}-{suffix}" for suffix, _ in packed.files]
    for name, (_, data) in zip(names, packed.files, strict=True):
        (folder / name).write_bytes(data)
    facts = packed.facts
    rates = [[{**one, "file": names[one["file"]]} for one in rate] for rate in facts["rates"]]
    files = {key: names[facts[key]] for key in ("original", "thumbnail")}
    return {**facts, **files, "rates": rates}


def _page(
    figures: Mapping[str, Any],
    shown: Sequence[Mapping[str, Any]],
    published: Mapping[str, Any],
    title: str,
    view: str,
) -> str:
    data = {**_data(figures, shown, published), "view": view}
    style = _resource("page.css")
    script = "\n".join(map(_resource, _SCRIPTS))
    return Template(_resource("page.html")).substitute(
        marker=MARKER,
        # Whatever slipped through escaping would still not run: scripts and styles are admitted by hash.
        policy=(
            "default-src 'none'; img-src 'self' file: data:; base-uri 'none'; form-action 'none'; "
            f"style-src {_hash(style)}; script-src {_hash(script)}"
        ),
        title=html.escape(title),
        byline=html.escape(f"codec eval {__version__} · {datetime.date.today().isoformat()}"),
        facts=summary.facts(figures, shown),
        headline=summary.headline(figures),
        table=summary.table(figures),
        notes=summary.notes(figures, published, data["metrics"]),
        data=_embedded(data),
        style=style,
        script=script,
    )


def _data(
    figures: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], published: Mapping[str, Any]
) -> dict[str, Any]:
    """What the scripts read; rows are lists in the order of ``columns``, for size."""
    results, means = figures["results"], figures["means"]
    pictures = [one for image in shown for rate in image["rates"] for one in rate]
    rows = (*results, *means, *(one["metrics"] for one in pictures))
    # What is defined nowhere (LPIPS without its weights) is left out of the page.
    metrics = [metric for metric in METRICS if any(row.get(metric.key) is not None for row in rows)]
    keys = [metric.key for metric in metrics]
    codecs = dict.fromkeys(row["codec"] for row in (*means, *results))
    codecs |= dict.fromkeys(one["codec"] for one in pictures)
    images = dict.fromkeys((*(row["image"] for row in results), *(image["image"] for image in shown)))
    return {
        "metrics": [
            {
                "key": metric.key,
                "name": metric.heading,
                "digits": metric.digits,
                "higher": metric.higher_better,
                "definition": metric.definition,
            }
            for metric in metrics
        ],
        "codecs": [{"name": name, "ours": name.startswith("codec:")} for name in codecs],
        "labels": dict(zip(images, summary.short_names(images), strict=True)),
        "columns": [*_POINT, *keys],
        "results": [[row.get(name) for name in (*_POINT, *keys)] for row in results],
        "mean_columns": [*_MEAN, *keys],
        "means": [[row.get(name) for name in (*_MEAN, *keys)] for row in means],
        "published": [
            {"label": series["label"], **{key: series[key] for key in ("bpp", *keys) if key in series}}
            for series in published.get("series", {}).values()
        ],
        "comparisons": list(shown),
    }


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _resource(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
