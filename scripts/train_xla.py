"""Train on any accelerator that JAX knows, without TensorFlow: numpy, Pillow and jax only.

On the machine with TensorFlow::

    codec train --config photo --data DIR --lower BUNDLE          # writes the train step as HLO
On the machine with the accelerator::

    python scripts/train_xla.py BUNDLE --photos DIR --work WORK --out OUT --steps 60000 --seconds 540
Back on the first::

    codec train --config photo --collect OUT RUN                  # a run that `codec export` takes

The photographs stay decoded in device memory; crops, flips and noise are made there. Every call resumes
from WORK and writes a checkpoint before it ends, so a lease may be cut into several calls.

It reads HLO through interfaces of JAX that are not public: train_xla.txt has the versions that it was tested
with, others may need a change in load_step. --set data.batch=64 (a multiple of the number of levels) and
--set data.crop=256 suit an accelerator.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codec_cli.training import schedule

SCALES_LOSSLESS = (1.0, 0.7)
# Photographs that come from JPEG are used smaller, where the artefacts of their first life are gone.
SCALES_JPEG = (0.8, 0.6, 0.45)
MAX_PART_BYTES = 15_000_000


def load_step(bundle: Path):
    """Compiles the lowered step with JAX's own client.

    Returns:
        A function from a flat list of device arrays to a flat list of device arrays.
    """
    from jax._src.lib import xla_client
    from jaxlib import _jax

    data = (bundle / "step.hlo").read_bytes()
    computation = xla_client.XlaComputation(data)
    module = _jax.mlir.xla_computation_to_mlir_module(computation)
    device = jax.devices()[0]
    client = device.client
    options = xla_client.CompileOptions()
    devices = _jax.DeviceList((device,))
    try:
        executable = client.compile_and_load(module, devices, options)
    except TypeError:
        executable = client.compile_and_load(module, [device], options)

    def run(arguments: list) -> list:
        results = executable.execute_sharded(arguments)
        return [shards[0] for shards in results.disassemble_into_single_device_arrays()]

    return run


def load_photos(folder: Path, crop: int, channels: int):
    """Decodes all images at several scales into one flat uint8 array with offsets."""

    def decode(path: Path) -> list[np.ndarray]:
        with Image.open(path) as source:
            image = source.convert("RGB" if channels == 3 else "L")
        lossless = path.suffix.lower() in {".webp", ".png"}
        out = []
        for scale in SCALES_LOSSLESS if lossless else SCALES_JPEG:
            size = (round(image.width * scale), round(image.height * scale))
            if min(size) >= crop:
                resized = image if scale == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
                out.append(np.asarray(resized).reshape(size[1], size[0], channels))
        if not out and min(image.size) >= crop:
            out.append(np.asarray(image).reshape(image.height, image.width, channels))
        return out

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        pictures = [picture for group in pool.map(decode, files) for picture in group]
    sizes = np.array([picture.shape[:2] for picture in pictures], np.int32)
    offsets = np.concatenate([[0], np.cumsum([picture.size for picture in pictures])[:-1]])
    flat = np.concatenate([picture.reshape(-1) for picture in pictures])
    if flat.size >= 2**31:
        raise SystemExit("photographs exceed 2^31 bytes decoded; give fewer")
    area = np.prod(sizes - crop + 1, 1).astype(np.float64) ** 0.5 * np.prod(sizes, 1) ** 0.5
    return flat, offsets.astype(np.int32), sizes, np.log(area / area.sum()).astype(np.float32)


def make_sampler(config: dict, store):
    """A compiled function (step) -> (images uint8, noise float32), all on the device."""
    flat, offsets, sizes, log_weights = (jax.device_put(value) for value in store)
    batch, crop = config["data"]["batch"], config["data"]["crop"]
    channels = config["transforms"]["channels"]
    stride = int(np.prod([stage["stride"] for stage in config["transforms"]["analysis"]]))
    side, latent = crop // stride, config["transforms"]["latent_channels"]

    def one(key, flat, offsets, sizes, log_weights):
        keys = jax.random.split(key, 5)
        index = jax.random.categorical(keys[0], log_weights)
        height, width = sizes[index, 0], sizes[index, 1]
        top = jax.random.randint(keys[1], (), 0, height - crop + 1)
        left = jax.random.randint(keys[2], (), 0, width - crop + 1)
        i, j = jnp.meshgrid(jnp.arange(crop), jnp.arange(crop), indexing="ij")
        i, j = jax.lax.cond(jax.random.bernoulli(keys[3]), lambda: (i, j), lambda: (j, i))
        j = jnp.where(jax.random.bernoulli(keys[4]), j, crop - 1 - j)
        start = offsets[index] + ((top + i) * width + left + j) * channels
        return flat[start[..., None] + jnp.arange(channels)]

    @jax.jit
    def sample(key, flat, offsets, sizes, log_weights):
        key_images, key_noise = jax.random.split(key)
        keys = jax.random.split(key_images, batch)
        images = jax.vmap(one, (0, None, None, None, None))(keys, flat, offsets, sizes, log_weights)
        return images, jax.random.uniform(key_noise, (batch, side, side, latent), minval=-0.5, maxval=0.5)

    base_key = jax.random.key(config["seed"])
    return lambda step: sample(jax.random.fold_in(base_key, step), flat, offsets, sizes, log_weights)


def replay(path: Path):
    """A function (step) -> (images uint8, noise float32) from a file, and how many steps it holds."""
    with np.load(path) as saved:
        images, noise = saved["images"], saved["noise"]
    return lambda step: (jax.device_put(images[step]), jax.device_put(noise[step])), len(images)


def save_parts(out: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays into ``weights-N.npz`` files of bounded size."""
    out.mkdir(parents=True, exist_ok=True)
    part: dict[str, np.ndarray] = {}
    index = size = 0
    for name, value in arrays.items():
        if part and size + value.nbytes > MAX_PART_BYTES:
            np.savez(out / f"weights-{index}.npz", **part)
            part, size, index = {}, 0, index + 1
        part[name] = value
        size += value.nbytes
    np.savez(out / f"weights-{index}.npz", **part)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path, help="directory of training images")
    source.add_argument(
        "--batches",
        type=Path,
        help="npz of images and noise of every step, instead of photographs: a check, writes OUT/metrics.npz",
    )
    parser.add_argument("--work", type=Path, required=True, help="checkpoint directory, kept between calls")
    parser.add_argument("--out", type=Path, required=True, help="where averaged weights are written")
    parser.add_argument("--steps", type=int, help="length of the schedule (default: the configuration's)")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time, with a checkpoint")
    parser.add_argument("--stop-at", type=int, help="stop after this step (a rehearsal)")
    parser.add_argument("--warm-start", type=Path, nargs="*", help="weights-*.npz to start from")
    parser.add_argument(
        "--learning-rate", type=float, help="peak learning rate (default: the configuration's)"
    )
    parser.add_argument(
        "--total-seconds",
        type=float,
        help="fit the schedule to this training time over all calls (instead of --steps)",
    )
    parser.add_argument("--log-steps", type=int, default=1000, help="steps between printed lines")
    arguments = parser.parse_args()
    began = time.time()

    bundle = json.loads((arguments.bundle / "bundle.json").read_text())
    config = bundle["config"]
    if arguments.steps:
        config["run"]["steps"] = arguments.steps
    if arguments.learning_rate:
        config["optimizer"]["learning_rate"] = arguments.learning_rate
    names: list[str] = bundle["state"]
    step, spent = 0, 0.0
    checkpoint = arguments.work / "checkpoint.npz"
    if checkpoint.exists():
        with np.load(checkpoint) as saved:
            state = [saved[name] for name in names]
            step, spent = int(saved["step"]), float(saved["spent"])
    else:
        with np.load(arguments.bundle / "state.npz") as saved:
            params = {name: saved[name] for name in saved.files}
        for path in arguments.warm_start or []:
            with np.load(path) as saved:
                for name in saved.files:
                    known = params.get(f"params/{name[4:]}")
                    if name[:4] == "ema/" and known is not None and known.shape == saved[name].shape:
                        params[f"params/{name[4:]}"] = saved[name]
        state = []
        for name in names:
            kind, _, parameter = name.partition("/")
            value = params[f"params/{parameter}"]
            state.append(value if kind in ("params", "ema") else np.zeros_like(value))
    state = [jax.device_put(value) for value in state]
    print(f"device {jax.devices()[0]}, step {step} of {config['run']['steps']}", flush=True)

    end = min(config["run"]["steps"] if not arguments.total_seconds else 10**12, arguments.stop_at or 10**12)
    if arguments.batches:
        sample, stored = replay(arguments.batches)
        end = min(end, stored)
    else:
        store = load_photos(arguments.photos, config["data"]["crop"], config["transforms"]["channels"])
        print(
            f"{len(store[1])} pictures, {store[0].nbytes / 1e6:.0f} MB, {time.time() - began:.0f} s",
            flush=True,
        )
        sample = make_sampler(config, store)
    run = load_step(arguments.bundle)
    print(f"compiled after {time.time() - began:.0f} s", flush=True)

    started, spent_before = time.time(), spent
    results = bundle["results"][1:]
    pixels = config["data"]["batch"] * config["data"]["crop"] ** 2
    window: list[np.ndarray] = []
    marked, marked_step, pending, history = time.time(), step, [], []
    while step < end and time.time() - began < arguments.seconds:
        spent = spent_before + time.time() - started
        if arguments.total_seconds and spent >= arguments.total_seconds:
            break
        images, noise = sample(step)
        progress = spent / arguments.total_seconds if arguments.total_seconds else None
        scalars = schedule.scalars(config, step, progress)
        steering = [jax.device_put(scalars[name]) for name in schedule.NAMES]
        outputs = run([*state, images, noise, *steering])
        state = outputs[: len(names)]
        pending.append(dict(zip(results, outputs[len(names) :], strict=True)))
        if arguments.batches:
            history.append(pending[-1])
        step += 1
        if len(pending) >= 4 or step == end:
            # Reading a metric waits for its step: keep a few in flight so that the device never idles.
            first = pending.pop(0)
            window.append(
                np.concatenate([np.asarray(first[name]).ravel() for name in ("bpp", "mse", "loss")])
            )
            if not np.isfinite(window[-1]).all():
                raise SystemExit(f"step {step}: the loss is not finite; the last checkpoint is kept")
        if step % arguments.log_steps == 0 or step == end or step in (10, 100):
            jax.block_until_ready(state)
            now = time.time()
            levels = len(config["levels"]["lambdas"])
            mean = np.mean(window, 0) if window else np.zeros(3 * levels)
            rate = (step - marked_step) * pixels / max(1e-9, now - marked) / 1e6
            bpp, mse = mean[:levels].round(3), (10 * np.log10(255**2 / mean[levels : 2 * levels])).round(2)
            loss = mean[2 * levels :].round(4)
            print(
                f"{step} {now - began:.0f}s {rate:.1f} Mpx/s bpp {bpp} psnr {mse} loss {loss} "
                f"rate {float(scalars['learning_rate']):.1e}",
                flush=True,
            )
            window, marked, marked_step = [], now, step

    host = dict(zip(names, (np.asarray(value) for value in state), strict=True))
    if not all(np.isfinite(value).all() for value in host.values()):
        raise SystemExit(f"step {step}: the weights are not finite; the last checkpoint is kept")
    arguments.work.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_name("checkpoint.partial.npz")
    np.savez(partial, step=step, spent=spent, **host)
    partial.replace(checkpoint)
    averaged = {name: value for name, value in host.items() if name.startswith("ema/")}
    save_parts(arguments.out, {**averaged, "step": np.asarray(step)})
    if history:
        stacked = {name: np.stack([np.asarray(one[name]) for one in history]) for name in results}
        np.savez(arguments.out / "metrics.npz", **stacked)
    print(f"done: step {step}, {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
