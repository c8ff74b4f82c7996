"""Prints speed and memory figures: medians of fresh processes and of calls in process.

Nothing is asserted here: machines are noisy. Compare figures of one run only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from codec_cli.zoo import ModelInfo

RUNS = 7
LARGE_SIZES = {24: (6000, 4000)}  # Others are square.


def photograph(width: int, height: int, source: Path | None) -> np.ndarray:
    """A photograph of a given size: a file, or scikit-image's astronaut, tiled by reflection."""
    if source is not None:
        with Image.open(source) as image:
            array = np.asarray(image.convert("RGB"))
    else:
        from skimage import data

        array = data.astronaut()
    rows, columns = -(-height // array.shape[0]), -(-width // array.shape[1])
    bands = [np.concatenate([array[:, :: 1 if c % 2 == 0 else -1] for c in range(columns)], 1)] * rows
    return np.ascontiguousarray(
        np.concatenate([band[:: 1 if r % 2 == 0 else -1] for r, band in enumerate(bands)], 0)[:height, :width]
    )


def median(call: Callable[[], object]) -> float:
    """Median seconds of a call, after one to warm up."""
    call()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def process(arguments: list[str], runs: int = RUNS) -> tuple[float, float, float]:
    """(median seconds, median processor seconds, largest peak resident MB) of fresh processes."""
    times, work, peaks = [], [], []
    for _ in range(runs):
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", "codec_cli", *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        times.append(time.perf_counter() - start)
        work.append(usage.ru_utime + usage.ru_stime)
        if child.returncode:
            raise SystemExit(f"codec {' '.join(arguments)} failed")
        peaks.append(usage.ru_maxrss / 1024)
    return statistics.median(times), statistics.median(work), max(peaks)


def write_large(path: Path, width: int, height: int, source: Path | None) -> None:
    """A PNG of any size, made of one photograph by reflection, without ever being whole in memory."""
    from codec_cli.pictures.writing import save_rows

    tall = 1024
    block = photograph(width, tall, source)
    bands = (block[: min(tall, height - top)][:: 1 if top % (2 * tall) == 0 else -1]
             for top in range(0, height, tall))  # fmt: skip
    save_rows(path, ".png", (height, width, 3), bands)


def large(megapixels: list[int], model: str, source: Path | None, folder: Path) -> None:
    """The table of docs/LARGE.md."""
    print(
        "| megapixels | size | compress: s | processor s | peak MB | decompress: s | processor s | peak MB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for number in megapixels:
        width, height = LARGE_SIZES.get(number) or (round((number * 1e6) ** 0.5),) * 2
        photo, packed, target = (folder / name for name in ("large.png", "large.bin", "again.png"))
        write_large(photo, width, height, source)
        common = ["--quiet", "--force", "--max-pixels", str(width * height)]
        cells = []
        for command in (["compress", *common, "--model", model, str(photo), str(packed)],
                        ["decompress", *common, str(packed), str(target)]):  # fmt: skip
            seconds, work, peak = process(command, 1)
            cells += [f"{seconds:.1f}", f"{work:.1f}", f"{peak:.0f}"]
        print(f"| {number} | {width}x{height} | {' | '.join(cells)} |", flush=True)


def row(what: str, value: str) -> None:
    """One line of the report."""
    print(f"{what:<48} {value}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--photo", type=Path, help="photograph (default: scikit-image's astronaut)")
    parser.add_argument(
        "--large",
        type=int,
        nargs="+",
        metavar="MEGAPIXELS",
        help="only the table of large images, for these sizes (400 take minutes and 2 GB of disk)",
    )
    parser.add_argument(
        "--training",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="training throughput: TensorFlow's (train extra), and that of scripts/train_xla.py (with jax; "
        "CODEC_JAX_PYTHON names another interpreter that has it)",
    )
    arguments = parser.parse_args()
    if arguments.large:
        with tempfile.TemporaryDirectory() as folder:
            large(arguments.large, arguments.model, arguments.photo, Path(folder))
        return
    from codec_cli import Codec
    from codec_cli.pictures.images import Picture

    pixels = photograph(768, 512, arguments.photo)
    megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
    with tempfile.TemporaryDirectory() as folder:
        source, packed, target = (str(Path(folder) / name) for name in ("a.png", "a.bin", "b.png"))
        Image.fromarray(pixels).save(source)
        common = ["--quiet", "--force"]
        for name, command in (
            ("codec --help", ["--help"]),
            ("codec compress, 768x512", ["compress", *common, "--model", arguments.model, source, packed]),
            ("codec decompress, 768x512", ["decompress", *common, packed, target]),
        ):
            seconds, _, peak = process(command)
            row(f"{name}, fresh process", f"{seconds:.3f} s, peak {peak:.0f} MB")
        codec = Codec(arguments.model)
        data = codec.encode(pixels)
        row("size at the default quality", f"{len(data)} bytes, {8 * len(data) / megapixels / 1e6:.3f} bpp")
        encode, decode = median(lambda: codec.encode(pixels)), median(lambda: codec.decode(data))
        row("encode in process", f"{encode * 1e3:.0f} ms, {megapixels / encode:.2f} Mpixel/s")
        plain = median(lambda: codec.encode_picture(Picture(pixels), effort=1))
        row(
            "the same, rounding plainly (--effort 1)",
            f"{plain * 1e3:.0f} ms, {plain / encode:.2f} of that",
        )
        row("decode in process", f"{decode * 1e3:.0f} ms, {megapixels / decode:.2f} Mpixel/s")
        entropy = median(lambda: codec.symbols(data))
        row(
            "of which entropy decoding with contexts",
            f"{entropy * 1e3:.0f} ms, {100 * entropy / decode:.0f} %",
        )
        row("multiply-accumulates a pixel", accumulates(codec.info))
    row("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if arguments.training:
        training()


def accumulates(info: ModelInfo) -> str:
    """Thousands of multiply-accumulates a pixel, by the sizes of the kernels and their resolutions."""
    transforms, totals = info.facts["config"]["transforms"], {}
    weights = info.arrays("weights.npz")
    for side in ("analysis", "synthesis"):
        # Stages of both are listed from the finest resolution.
        strides = np.cumprod([stage["stride"] for stage in transforms[side]])
        stages = {f"stage{i}": i for i in range(len(strides))}
        stages |= {"linear": -1, "out": -1 if side == "analysis" else 0}
        totals[side] = sum(
            value.size / strides[stages[name.split("/")[1]]] ** 2
            for name, value in weights.items()
            if name.startswith(f"{side}/") and name.endswith("/kernel")
        )
    # Each network runs on half of the positions.
    contexts = [
        value.size for name, value in weights.items() if name.startswith("context/pass-") and value.ndim > 2
    ]
    totals["contexts"] = sum(contexts) / 2 / strides[-1] ** 2
    return ", ".join(f"{side} {total / 1e3:.1f} k" for side, total in totals.items())


def training() -> None:
    """Training throughput of the photo configurations on this machine."""
    if any(importlib.util.find_spec(name) is None for name in ("tensorflow", "tensorflow_compression")):
        row("training steps", "skipped: needs the train extra")
        return
    for name in ("photo-factorized", "photo"):
        size, speed = training_step(name)
        row(f"training step, {name}, {size}", f"{speed:.2f} Mpixel/s")
    row("the same step by scripts/train_xla.py", xla_step("photo"))


def xla_step(name: str) -> str:
    """Throughput of a configuration's step under JAX, on whatever device that finds."""
    python = os.environ.get("CODEC_JAX_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import jax"], capture_output=True, check=False).returncode:
        return "skipped: needs jax; CODEC_JAX_PYTHON may name an interpreter that has it"
    from codec_cli.training import lower, model
    from codec_cli.training.config import load_config

    config = load_config(name)
    photo = photograph(1024, 1024, None)
    blocks = photo.reshape(8, 128, 8, 128, 3).swapaxes(1, 2).reshape(64, 128, 128, 3)
    with tempfile.TemporaryDirectory() as folder:
        bundle, photos = Path(folder) / "bundle", Path(folder) / "photos"
        lower.lower(config, model.init_params(config, blocks), bundle)
        photos.mkdir()
        Image.fromarray(photo).save(photos / "photo.png")
        script = Path(__file__).with_name("train_xla.py")
        command = [
            python,
            script,
            bundle,
            "--photos",
            photos,
            "--work",
            folder,
            "--out",
            Path(folder) / "out",
        ]
        command += ["--stop-at", 6, "--log-steps", 3]
        told = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=True
        ).stdout
    # The last of the lines "STEP SECONDSs RATE Mpx/s ...": compiled and warm.
    device = told.split("device ", 1)[1].split(",", 1)[0]
    return f"{told.rsplit(' Mpx/s', 1)[0].rsplit(' ', 1)[1]} Mpixel/s on {device}"


def training_step(name: str) -> tuple[str, float]:
    """(batch size in words, Mpixel/s) of a configuration's step."""
    import tensorflow as tf

    from codec_cli.training import model, schedule
    from codec_cli.training.config import load_config
    from codec_cli.training.step import init_state, train_step

    config = load_config(name)
    rng = np.random.default_rng(0)
    crop, batch = config.data.crop, config.data.batch
    images = rng.integers(0, 255, (batch, crop, crop, config.transforms.channels), np.uint8)
    state = tf.nest.map_structure(tf.constant, init_state(model.init_params(config, images)))
    side = crop // config.transforms.stride
    noise = tf.random.uniform((batch, side, side, config.transforms.latent_channels), -0.5, 0.5)
    scalars = {k: tf.constant(v) for k, v in schedule.scalars(config.model_dump(), 0).items()}
    step = tf.function(lambda *arguments: train_step(config, *arguments), autograph=False)
    seconds = median(lambda: step(state, tf.constant(images), noise, scalars)[1]["total"].numpy())
    return f"{batch} x {crop}x{crop}", batch * crop**2 / seconds / 1e6


if __name__ == "__main__":
    main()
