"""Pictures of an evaluation: rate-distortion curves, and what the bits cost in time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codec_cli.errors import CodecError, OutputError
from codec_cli.evaluation.published import Series
from codec_cli.evaluation.quality import METRICS, Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FORMATS", "draw"]

FORMATS = (".png", ".svg", ".pdf")
"""Suffixes of the pictures that :func:`draw` makes."""

# Okabe and Ito's palette, told apart with any colour vision (https://jfly.uni-koeln.de/color/); the markers
# tell the curves apart in print.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
_DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (6, 3)))
STYLE: dict[Any, Any] = {"font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "svg.hashsalt": "codec"}
_OURS = "codec:"
# PSNR over luma and linear MS-SSIM say nothing that their neighbours don't.
_DRAWN = ("psnr_rgb_db", "ms_ssim_db", "ssim", "lpips")


def draw(
    figures: Mapping[str, Any],
    suffix: str,
    *,
    published: Sequence[Series] = (),
    metrics: Iterable[str] | None = None,
    timing: bool = True,
    title: str = "",
) -> bytes:
    """Draws curves over every metric that is defined, and decoding and encoding time against BD-rate.

    Args:
        figures: From :func:`codec_cli.evaluation.figures.report`.
        suffix: One of :data:`FORMATS`.
        published: Curves to draw beside, marked as published.
        metrics: Keys of the metrics to draw; by default PSNR, MS-SSIM in dB, SSIM and LPIPS.
        timing: Whether to draw times (left out when there is nothing to compare).
        title: Above it all.

    Returns:
        The picture, all bytes of a file.

    Raises:
        OutputError: The suffix is of no known format.
        CodecError: matplotlib is not installed, or no metric is defined.
    """
    if suffix.lower() not in FORMATS:
        raise OutputError(f"--plot: unknown suffix {suffix or '(none)'}; choose one of {', '.join(FORMATS)}")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodecError("drawing needs matplotlib: pip install 'codec-cli[eval]'") from error
    curves = _curves(figures["means"])
    wanted = _DRAWN if metrics is None else tuple(metrics)
    shown = [metric for metric in METRICS if metric.key in wanted and _defined(curves, metric)]
    if not shown:
        raise CodecError("nothing to draw: no metric is defined for these images")
    costs = _costs(figures) if timing else {}
    panels = len(shown) + bool(costs)
    columns = min(2, panels)
    rows = -(-panels // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4 * columns, 4.6 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel, metric in zip(axes, shown, strict=False):
            _draw_curves(panel, curves, metric, published)
        if costs:
            _draw_costs(axes[len(shown)], costs, list(curves), figures)
        for panel in axes[panels:]:
            panel.set_axis_off()
        if title:
            figure.suptitle(title)
        file = io.BytesIO()
        # Without the date: the same figures give the same file.
        dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        figure.savefig(file, format=suffix[1:].lower(), dpi=130, metadata=dated.get(suffix.lower()))
    return file.getvalue()


def _curves(means: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Mean points of each codec, by name, in order of rate."""
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in means:
        curves.setdefault(row["codec"], []).append(row)
    return {name: sorted(rows, key=lambda row: row["bpp"]) for name, rows in curves.items()}


def _defined(curves: Mapping[str, list[Mapping[str, Any]]], metric: Metric) -> bool:
    return any(row.get(metric.key) is not None for rows in curves.values() for row in rows)


def _look(index: int, name: str) -> dict[str, Any]:
    ours = name.startswith(_OURS)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5 if ours else 4,
        "linewidth": 2.4 if ours else 1.3,
        "zorder": 3 if ours else 2,
    }


def _label(name: str) -> str:
    return f"{name.removeprefix(_OURS)} (ours)" if name.startswith(_OURS) else name


def _draw_curves(
    panel: Axes, curves: Mapping[str, list[Mapping[str, Any]]], metric: Metric, published: Sequence[Series]
) -> None:
    for i, (name, rows) in enumerate(curves.items()):
        known = [row for row in rows if row.get(metric.key) is not None]
        panel.plot(
            [row["bpp"] for row in known],
            [row[metric.key] for row in known],
            label=_label(name),
            **_look(i, name),
        )
    # What is published may go on for ever; what was measured decides how far one looks.
    limits, heights = panel.get_xlim(), panel.get_ylim()
    for i, entry in enumerate(published):
        if entry.values(metric.key):
            panel.plot(
                entry.bpp,
                entry.values(metric.key),
                color="0.45",
                linewidth=1.2,
                linestyle=_DASHES[i % len(_DASHES)],
                label=f"{entry.label}, published",
                zorder=1,
            )
    unit = f", {metric.unit}" if metric.unit else ""
    better = "" if metric.higher_better else " (lower is better)"
    panel.set(
        xlim=(0, limits[1]),
        ylim=heights,
        xlabel="bits per pixel (bytes on disk)",
        ylabel=f"{metric.title}{unit}{better}",
    )
    panel.legend(loc="lower right" if metric.higher_better else "upper right", fontsize=8)


def _costs(figures: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """BD-rate (percent, over PSNR), encoding and decoding time (seconds a megapixel) of each codec.

    Empty where no anchor has a BD-rate of all the others.
    """
    seconds: dict[str, list[tuple[float, float]]] = {}
    for row in figures["results"]:
        megapixels = row["width"] * row["height"] / 1e6
        seconds.setdefault(row["codec"], []).append(
            (row["encode_s"] / megapixels, row["decode_s"] / megapixels)
        )
    rates = {
        (row["test"], row["anchor"]): row["percent"]
        for row in figures["bd_rate"]
        if row["metric"] == "psnr_rgb_db" and row["percent"] is not None
    }
    anchor = _anchor(figures)
    known = {name: rates.get((name, anchor)) for name in seconds}
    known[anchor] = 0.0
    if len(seconds) < 2:
        return {}
    return {
        name: (rate, *(sum(column) / len(column) for column in zip(*seconds[name], strict=True)))
        for name, rate in known.items()
        if rate is not None and name in seconds
    }


def _anchor(figures: Mapping[str, Any]) -> str:
    """JPEG where it was measured, else the first codec that is not ours, else the first."""
    names = list(dict.fromkeys(row["codec"] for row in figures["means"]))
    others = [name for name in names if not name.startswith(_OURS)]
    return "jpeg" if "jpeg" in names else (others or names or [""])[0]


def _draw_costs(
    panel: Axes,
    costs: Mapping[str, tuple[float, float, float]],
    names: Sequence[str],
    figures: Mapping[str, Any],
) -> None:
    for name, (rate, encode, decode) in costs.items():
        look = _look(names.index(name), name)
        panel.plot([decode, encode], [rate, rate], color=look["color"], linewidth=1, zorder=1)
        panel.plot([decode], [rate], **{**look, "markersize": 8}, label=_label(name), linestyle="none")
        panel.plot([encode], [rate], **{**look, "markersize": 8}, markerfacecolor="white", linestyle="none")
    panel.set_xscale("log")
    panel.set(
        xlabel="seconds a megapixel (filled: decoding, hollow: encoding)",
        ylabel=f"BD-rate against {_label(_anchor(figures))}, % (PSNR)",
    )
    panel.legend(loc="best", fontsize=8)
