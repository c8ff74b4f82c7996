"""Pictures of studies: curves as PNG and SVG, grids of images as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codec_cli.evaluation import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "COLOURS", "MARKERS", "RED", "Line", "grid", "lines", "panels"]

# The same palette, markers and style as the curves of `codec eval`.
COLOURS: tuple[str, ...] = plots.COLOURS
MARKERS: str = plots.MARKERS
RED, BLUE = COLOURS[0], COLOURS[1]
_DPI = 110


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: For the legend.
        x: Places.
        y: Heights.
        spread: Half the height of error bars, or None.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None


def panels(
    count: int,
    draw: Callable[[Sequence[Axes]], None],
    *,
    columns: int = 2,
    size: tuple[float, float] = (5.2, 3.9),
    suffixes: Sequence[str] = (".png", ".svg"),
) -> dict[str, bytes]:
    """A figure of several panels.

    Args:
        count: Number of panels.
        draw: Draws into them.
        columns: At most this many side by side.
        size: Of one panel in inches.
        suffixes: Formats to make.

    Returns:
        Files by suffix.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel in axes[count:]:
            panel.set_axis_off()
        draw(list(axes[:count]))
        return _files(figure, suffixes)


def lines(panel: Axes, curves: Sequence[Line], **labels: Any) -> None:  # noqa: ANN401 - as matplotlib
    """Draws curves with a legend; ``labels`` as for ``Axes.set``."""
    for i, curve in enumerate(curves):
        look: dict[str, Any] = {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 4,
            "linewidth": 1.4,
            "label": curve.name,
        }
        if curve.spread is None:
            panel.plot(curve.x, curve.y, **look)
        else:
            panel.errorbar(curve.x, curve.y, curve.spread, capsize=3, **look)
    panel.set(**labels)
    if len(curves) > 1:
        panel.legend(fontsize=8)


def grid(rows: Mapping[str, npt.NDArray[Any]], zoom: float = 1.0) -> dict[str, bytes]:
    """Rows of images of one size, each with its name at the left.

    Args:
        rows: Images by name of the row, (n, height, width, 1 or 3), uint8 or float in [0, 1].
        zoom: Inches an image takes are 0.42 times this.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    count = max(len(images) for images in rows.values())
    side = 0.42 * zoom
    with mpl.rc_context(plots.STYLE):
        # The names take as much as three images, long ones more.
        names = max(3 * side, 0.085 * max(map(len, rows)))
        figure = Figure(figsize=(side * count + names, side * len(rows) + 0.1), layout="constrained")
        axes = figure.subplots(len(rows), 1, squeeze=False).flatten()
        for panel, (name, images) in zip(axes, rows.items(), strict=True):
            panel.imshow(_strip(images), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            panel.grid(False)
            panel.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        return _files(figure, (".png",))


def _strip(images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if images.dtype != np.uint8:
        images = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
    strip = np.concatenate(list(np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=128)), 1)
    return np.asarray(strip.squeeze(2) if strip.shape[2] == 1 else strip)


def _files(figure: Figure, suffixes: Sequence[str]) -> dict[str, bytes]:
    files = {}
    for suffix in suffixes:
        stream = io.BytesIO()
        # Without the date: the same figures give the same file.
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(stream, format=suffix[1:], dpi=_DPI, metadata=metadata)
        files[suffix] = stream.getvalue()
    return files
