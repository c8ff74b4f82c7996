"""What a run leaves to look at: curves, its architecture with layers and shapes, and figures of the result.

All of it is written at every validation, so that an interrupted run has it too. Pictures are an extra: where
a program to draw with is missing, the run goes on and says so.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec_cli.files import ends_mid_line, write_atomic
from codec_cli.training.config import Config, Layer, Listed, Transforms
from codec_cli.training.shapes import Shape, after, output_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from codec_cli.training.params import Arrays, Params

TRAIN_LOG = "train.jsonl"
VALIDATION_LOG = "log.jsonl"
CURVES = "curves.png"
METRICS = "metrics.json"
ARCHITECTURE = "architecture"

_STYLE: dict[Any, Any] = {"font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
_COUNTER = "discriminator/updates"


def log_step(run: Path, entry: Mapping[str, Any]) -> None:
    """Appends the metrics of a training step to ``RUN/train.jsonl``.

    Args:
        run: The run's directory.
        entry: ``step``, ``loss``, ``grad_norm``, ``bpp`` and ``psnr`` per level, and the losses of a
            discriminator.
    """
    append(run / TRAIN_LOG, entry)


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Appends a line of JSON to a log; after a line that a kill has cut off, on a line of its own."""
    with path.open("ab") as stream:
        if ends_mid_line(path):
            stream.write(b"\n")
        stream.write(json.dumps(entry).encode() + b"\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Entries of a log by rising step; what a resumed run did again counts once, as done last."""
    entries: list[dict[str, Any]] = []
    if not path.exists():
        return entries
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # Cut off by a kill.
            continue
        while entries and entries[-1]["step"] >= entry["step"]:
            entries.pop()
        entries.append(entry)
    return entries


def save(run: Path, config: Config, params: Arrays | Params, result: Mapping[str, Any]) -> list[str]:
    """Writes ``metrics.json``, ``architecture.txt``, ``architecture.png`` and ``curves.png``.

    Args:
        run: The run's directory, with its logs.
        config: The configuration.
        params: All parameters by name; their shapes count.
        result: Of the last validation: what :func:`codec_cli.training.loop.train` returns.

    Returns:
        Notes on pictures that could not be drawn, a line each.
    """
    write_atomic(run / METRICS, (json.dumps(metrics(config, params, result), indent=1) + "\n").encode(), True)
    write_atomic(run / f"{ARCHITECTURE}.txt", architecture(config, params).encode(), True)
    return [note for note in (_save_curves(run), _save_architecture(run, config)) if note]


def metrics(config: Config, params: Arrays | Params, result: Mapping[str, Any]) -> dict[str, Any]:
    """The run in figures.

    Returns:
        ``name``, ``steps``, ``seconds``, ``throughput`` (steps and megapixels per second of training time,
        None without any), ``validation`` (bpp, PSNR in dB and loss) and ``parameters`` by part of the model.
    """
    counts: dict[str, int] = {}
    for name, count in _counts(params).items():
        part = name.partition("/")[0]
        counts[part] = counts.get(part, 0) + count
    rate = result["step"] / result["seconds"] if result["seconds"] else None
    pixels = config.data.batch * config.data.crop**2 / 1e6
    return {
        "name": config.name,
        "steps": result["step"],
        "seconds": result["seconds"],
        "throughput": {
            "steps_per_second": rate and round(rate, 4),
            "megapixels_per_second": rate and round(rate * pixels, 4),
        },
        "validation": {name: result[name] for name in ("bpp", "psnr", "loss")},
        "parameters": {**counts, "total": sum(counts.values())},
    }


def _counts(params: Arrays | Params) -> dict[str, int]:
    """Number of values of every parameter."""
    return {name: math.prod(value.shape) for name, value in params.items() if name != _COUNTER}


def architecture(config: Config, params: Arrays | Params) -> str:
    """Layers, shapes and numbers of parameters as a table of text.

    Args:
        config: The configuration.
        params: All parameters by name.
    """
    counts, crop = _counts(params), config.data.crop
    transforms, image = config.transforms, (crop, crop, config.transforms.channels)
    rows: list[tuple[str, str, str, str]] = [("layer", "what it is", "output", "parameters")]

    def row(name: str, what: str, shape: Shape) -> None:
        own = sum(count for key, count in counts.items() if key == name or key.startswith(f"{name}/"))
        rows.append((name, what, "x".join(map(str, shape)), f"{own:,}" if own else ""))

    if not isinstance(transforms, Transforms):
        latent = output_shape(transforms.analysis, "analysis", image)
        for name, layers, start in (
            ("analysis", transforms.analysis, image),
            ("synthesis", transforms.synthesis, latent),
        ):
            row(name, "transform of " + "x".join(map(str, start)), output_shape(layers, name, start))
            for place, what, shape in _listed(layers, name, start):
                row(place, what, shape)
    else:
        side = crop // transforms.stride
        row("analysis", f"transform of {crop}x{crop}x{image[2]}", (side, side, transforms.latent_channels))
        here = crop
        for i, stage in enumerate(transforms.analysis):
            here //= stage.stride
            row(f"analysis/stage{i}", _stage(stage.stride, stage.blocks), (here, here, stage.width))
        row("analysis/out", "conv 3x3", (side, side, transforms.latent_channels))
        row("analysis/linear", "beside the stages: block transform", (side, side, transforms.latent_channels))
        row("synthesis", f"transform of {side}x{side}x{transforms.latent_channels}", image)
        for i, stage in reversed(list(enumerate(transforms.synthesis))):
            row(f"synthesis/stage{i}", _stage(0, stage.blocks), (here, here, stage.width))
            here *= stage.stride
        row("synthesis/out", "conv 3x3", image)
        row("synthesis/linear", "beside the stages: block transform", image)
    for part in sorted({name.partition("/")[0] for name in counts} - {"analysis", "synthesis"}):
        if part != "discriminator":
            row(part, {"gain": "of the levels", "prior": "entropy model"}.get(part, "entropy model"), ())
    if config.adversarial is not None:
        layers = config.adversarial.layers
        row("discriminator", "of originals and decoded images", output_shape(layers, "discriminator", image))
        for place, what, shape in _listed(layers, "discriminator", image):
            row(place, what, shape)
    widths = [max(len(line[i]) for line in rows) for i in range(4)]
    table = "\n".join(
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip()
        for a, b, c, d in rows
    )
    return f"{config.name}: {sum(counts.values()):,} parameters\n\n{table}\n"


def _stage(stride: int, blocks: int) -> str:
    down = f"space_to_depth {stride}, conv, " if stride else "conv, "
    return f"{down}{blocks} residual block{'' if blocks == 1 else 's'}"


def _listed(layers: Sequence[Layer], name: str, shape: Shape) -> Iterator[tuple[str, str, Shape]]:
    """Place, description and output shape of every layer, those inside others too."""
    for i, layer in enumerate(layers):
        before, shape = shape, after(layer, shape)
        what: str = layer.op
        if layer.op in ("attention", "conv", "conv_transpose", "subpixel"):
            what += f" {layer.kernel}x{layer.kernel}"
        if layer.op in ("conv", "conv_transpose") and layer.stride > 1:
            what += f", stride {layer.stride}"
        if layer.op in ("subpixel", "upsample", "space_to_depth"):
            what += f", factor {layer.factor}"
        yield f"{name}/{i}", what + ("" if layer.activation == "none" else f", {layer.activation}"), shape
        yield from _listed(layer.layers, f"{name}/{i}", before)


def _save_curves(run: Path) -> str | None:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return f"{CURVES} needs matplotlib: pip install matplotlib"
    train, validation = read_log(run / TRAIN_LOG), read_log(run / VALIDATION_LOG)
    rated = any(max(entry["bpp"]) > 0 for entry in validation)
    panels = ["loss", *(["bpp"] if rated else []), "psnr"]
    if any(entry.get("discriminator") for entry in train):
        panels.append("adversarial")
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.8 * len(panels), 3.8), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, name in zip(axes, panels, strict=True):
            _draw(panel, name, train, validation)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110)
    write_atomic(run / CURVES, picture.getvalue(), force=True)
    return None


def _draw(axes: Axes, name: str, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> None:
    """One panel: training thin, validation with markers, a colour for each level."""
    titles = {
        "loss": "loss",
        "bpp": "bits per pixel",
        "psnr": "PSNR, dB",
        "adversarial": "adversarial losses",
    }
    axes.set_xlabel("step")
    axes.set_title(titles[name])
    if name == "adversarial":
        # Before it switches on there is nothing to draw.
        known = list(itertools.dropwhile(lambda entry: not entry.get("discriminator"), train))
        for key, label in (("discriminator", "discriminator"), ("adversarial", "generator")):
            axes.plot([e["step"] for e in known], [e.get(key, 0) for e in known], linewidth=0.8, label=label)
        axes.legend()
        return
    if name == "loss":
        for entries, label, marker in ((train, "training", ""), (validation, "validation", "o")):
            values = [entry["loss"] for entry in entries]
            axes.plot([e["step"] for e in entries], values, marker=marker, markersize=3, label=label)
        if all(entry["loss"] > 0 for entry in (*train, *validation)):
            axes.set_yscale("log")
        axes.legend()
        return
    count = len(validation[-1][name]) if validation else 0
    for level in range(count):
        colour = f"C{level % 10}"
        axes.plot(
            [e["step"] for e in train], [e[name][level] for e in train], colour, linewidth=0.5, alpha=0.5
        )
        steps, values = [e["step"] for e in validation], [e[name][level] for e in validation]
        axes.plot(steps, values, colour, marker="o", markersize=3, label=f"level {level}")
    if 1 < count <= 10:
        axes.legend()


def _save_architecture(run: Path, config: Config) -> str | None:
    if not isinstance(config.transforms, Listed):
        return None
    wanted = {ARCHITECTURE: "autoencoder"}
    if config.adversarial is not None:
        wanted["discriminator"] = "discriminator"
    missing = {stem: name for stem, name in wanted.items() if not (run / f"{stem}.png").exists()}
    if not missing:
        return None
    try:
        import pydot  # noqa: F401 - what Keras draws with
    except ImportError:
        return f"{ARCHITECTURE}.png needs pydot: pip install pydot; {ARCHITECTURE}.txt says the same"
    if shutil.which("dot") is None:
        return (
            f"{ARCHITECTURE}.png needs Graphviz: apt-get install graphviz; {ARCHITECTURE}.txt says the same"
        )
    import tensorflow as tf

    from codec_cli.training import keras_layers

    for stem, name in missing.items():
        partial = run / f".{stem}.{os.getpid()}.png"
        try:
            tf.keras.utils.plot_model(
                keras_layers.model(config, name),
                str(partial),
                show_shapes=True,
                show_layer_activations=True,
                expand_nested=True,
            )
            partial.replace(run / f"{stem}.png")
        except Exception as error:  # Whatever pydot and dot do, it must not end a run.
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            return f"{stem}.png could not be drawn ({reason})"
        finally:
            partial.unlink(missing_ok=True)
    return None
