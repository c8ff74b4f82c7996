"""The parts of the page that are there without a script: what was measured, and the table of it.

All functions return HTML in which every string from outside is escaped.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codec_cli.evaluation.quality import METRICS

__all__ = ["facts", "headline", "notes", "short_names", "table"]

NOT_DEFINED = "not defined"
_TITLES = {metric.key: metric.heading for metric in METRICS}
_Figures = Mapping[str, Any]


def facts(figures: _Figures, shown: Sequence[Mapping[str, Any]]) -> str:
    """What was measured, as terms and descriptions."""
    images = len({row["image"] for row in figures["results"]})
    codecs = list(dict.fromkeys(row["codec"] for row in figures["means"]))
    ours = [name.removeprefix("codec:") for name in codecs if name.startswith("codec:")]
    others = [name for name in codecs if not name.startswith("codec:")]
    rows = [
        ("Images measured", str(images)),
        ("Images to look at", str(len(shown))),
        ("Model" if len(ours) == 1 else "Models", ", ".join(ours)),
        ("Against", ", ".join(others) or "none"),
    ]
    if figures["skipped"]:
        rows.insert(1, ("Images skipped", str(len(figures["skipped"]))))
    return "".join(f"<div><dt>{key}</dt><dd>{html.escape(value)}</dd></div>" for key, value in rows if value)


def headline(figures: _Figures) -> str:
    """The first model's Bjøntegaard deltas over the first metric, large."""
    rates = _ours(figures)
    first = [
        rate
        for rate in rates
        if (rate["test"], rate["metric"]) == (rates[0]["test"], rates[0]["metric"])
        and rate["percent"] is not None
    ]
    return "".join(
        f'<li><strong class="{_good(rate["percent"])}">{abs(rate["percent"]):.1f} %</strong>'
        f"<span>{'fewer' if rate['percent'] < 0 else 'more'} bits than "
        f"<b>{html.escape(rate['anchor'])}</b> at equal {_title(rate['metric'])}</span></li>"
        for rate in first
    )


def table(figures: _Figures) -> str:
    """A row for each codec: what our models need against it, rates, and times."""
    means, rates = figures["means"], _ours(figures)
    codecs = list(dict.fromkeys(row["codec"] for row in means))
    pairs = list(dict.fromkeys((rate["test"], rate["metric"]) for rate in rates))
    found = {(rate["test"], rate["metric"], rate["anchor"]): rate for rate in rates}
    quality = next((metric for metric in METRICS if any(metric.key in row for row in means)), None)
    head = ["<th scope=col>Codec"]
    head += [
        f"<th scope=col class=against>{html.escape(test)} against it <small>at equal {_title(metric)}</small>"
        for test, metric in pairs
    ]
    head.append("<th scope=col>Bits per pixel")
    if quality:
        head.append(f"<th scope=col>{html.escape(quality.heading)}")
    head += ["<th scope=col>Encode, s", "<th scope=col>Decode, s", "<th scope=col>Settings"]
    lines = []
    for codec in codecs:
        rows = [row for row in means if row["codec"] == codec]
        cells = [
            f'<th scope=row><svg class="mark" data-codec="{html.escape(codec)}" aria-hidden="true"></svg>'
            f"{html.escape(codec)}"
        ]
        cells += [f"<td>{_rate(found.get((test, metric, codec)))}" for test, metric in pairs]
        cells.append(f"<td>{_span([row['bpp'] for row in rows], 3)}")
        if quality:
            cells.append(f"<td>{_span([row.get(quality.key) for row in rows], quality.digits)}")
        cells += [f"<td>{_average([row.get(key) for row in rows])}" for key in ("encode_s", "decode_s")]
        cells.append(f"<td>{len(rows)}<small> ({_span([row['setting'] for row in rows], 0)})</small>")
        lines.append(f"<tr>{''.join(cells)}")
    return f"<thead><tr>{''.join(head)}<tbody>{''.join(lines)}"


def notes(figures: _Figures, published: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str:
    """How to read the figures: definitions, versions, sources, what was left out."""
    about = figures.get("about", {})
    series = published.get("series", {}).values()
    undefined = [
        f"{rate['test']} against {rate['anchor']} at equal {_TITLES.get(rate['metric'], rate['metric'])}: "
        f"{rate['reason'] or NOT_DEFINED}"
        for rate in _ours(figures)
        if rate["percent"] is None
    ]
    return "".join(
        (
            _terms(
                "Metrics",
                {
                    metric[
                        "name"
                    ]: f"{metric['definition']}; {'higher' if metric['higher'] else 'lower'} is better"
                    for metric in metrics
                },
            ),
            _terms(
                "Models", {name: f"fingerprint {value}" for name, value in about.get("models", {}).items()}
            ),
            _terms("Other codecs", about.get("codecs", {})),
            _terms("Published curves", {one["label"]: one.get("source", "") for one in series}),
            _items("Not defined", undefined),
            _items("Skipped images", [f"{one['image']}: {one['error']}" for one in figures["skipped"]]),
        )
    )


def _terms(title: str, terms: Mapping[str, str]) -> str:
    rows = "".join(
        f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in terms.items()
    )
    return f"<h3>{title}</h3><dl>{rows}</dl>" if rows else ""


def _items(title: str, texts: Iterable[str]) -> str:
    rows = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f"<h3>{title}</h3><ul>{rows}</ul>" if rows else ""


def short_names(names: Iterable[str]) -> list[str]:
    """The names without the folders that all of them share."""
    names = list(names)
    parts = [re.split(r"[/\\]", name) for name in names]
    shared = 0
    while parts and all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return ["/".join(part[shared:]) for part in parts]


def _ours(figures: _Figures) -> list[Mapping[str, Any]]:
    """The Bjøntegaard deltas of our models; figures may hold those of any two codecs."""
    return [rate for rate in figures["bd_rate"] if rate["test"].startswith("codec:")]


def _title(metric: str) -> str:
    """A metric's name in running text; decibels go without saying where curves are compared."""
    return html.escape(_TITLES.get(metric, metric).removesuffix(" dB"))


def _rate(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return "–"
    if rate["percent"] is None:
        return f'<span title="{html.escape(rate["reason"] or "")}">{NOT_DEFINED}</span>'
    delta = rate.get("delta_db")
    gain = "" if delta is None else f"<small> {_signed(delta, 2)} dB</small>"
    return f'<span class="{_good(rate["percent"])}">{_signed(rate["percent"], 1)} %</span>{gain}'


def _good(percent: float) -> str:
    return "good" if percent < 0 else "bad"


def _signed(value: float, digits: int) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.{digits}f}"


def _span(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NOT_DEFINED
    low, high = (f"{value:.{digits}f}" for value in (min(known), max(known)))
    return low if low == high else f"{low} – {high}"


def _average(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{math.fsum(known) / len(known):.3f}" if known else NOT_DEFINED
