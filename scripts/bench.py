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


def process(arguments: list[str]) -> tuple[float, float]:
    """(median seconds, largest peak resident MB) of fresh processes."""
    times, peaks = [], []
    for _ in range(RUNS):
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", "codec_cli", *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        times.append(time.perf_counter() - start)
        if child.returncode:
            raise SystemExit(f"codec {' '.join(arguments)} failed")
        peaks.append(usage.ru_maxrss / 1024)
    return statistics.median(times), max(peaks)


def row(what: str, value: str) -> None:
    """One line of the report."""
    print(f"{what:<48} {value}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--photo", type=Path, help="photograph (default: scikit-image's astronaut)")
    parser.add_argument("--large", action="store_true", help="also a 24-megapixel photograph")
    parser.add_argument(
        "--training", action="store_true", help="also training throughput (needs the train extra)"
    )
    arguments = parser.parse_args()
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
            seconds, peak = process(command)
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
        if arguments.large:
            Image.fromarray(photograph(6000, 4000, arguments.photo)).save(source, compress_level=1)
            global RUNS
            RUNS = 1
            for command in (["compress", *common, "--model", arguments.model, source, packed],
                            ["decompress", *common, packed, target]):  # fmt: skip
                seconds, peak = process(command)
                row(f"codec {command[0]}, 6000x4000, fresh process", f"{seconds:.1f} s, peak {peak:.0f} MB")
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
