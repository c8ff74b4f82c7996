"""Prints speed and memory figures: medians of fresh processes and of calls in process.

Nothing is asserted here: machines are noisy. Compare figures of one run only.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

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
        "--training", action="store_true", help="also training throughput (needs the train extra)"
    )
    arguments = parser.parse_args()
    if arguments.large:
        with tempfile.TemporaryDirectory() as folder:
            large(arguments.large, arguments.model, arguments.photo, Path(folder))
        return
    from codec_cli import Codec

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
        row("decode in process", f"{decode * 1e3:.0f} ms, {megapixels / decode:.2f} Mpixel/s")
        entropy = median(lambda: codec.symbols(data))
        row(
            "of which entropy decoding with contexts",
            f"{entropy * 1e3:.0f} ms, {100 * entropy / decode:.0f} %",
        )
    if arguments.training:
        training()
    row("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def training() -> None:
    """Training throughput of the photo configurations on this machine."""
    for name in ("photo-factorized", "photo"):
        size, seconds = training_step(name)
        row(f"training step, {name}, {size}", f"{seconds:.2f} Mpixel/s")


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
