"""Measures what parts of the entropy coding of a context model are worth, on a directory of images (BD-rate).

    python scripts/ablation.py efforts ../shared/data/kodak            # the encoder's efforts 1 and 5
    python scripts/ablation.py efforts KODIM04 KODIM13 --efforts 1,5,7 --levels 14,28,42
    python scripts/ablation.py integers ../shared/data/kodak           # integer networks against float ones
    python scripts/ablation.py contexts ../shared/data/kodak --data ../shared/data/photos/train
    python scripts/ablation.py targets ../shared/data/kodak --every 3  # what met targets cost

`contexts` compares with static tables per level and channel, counted on training photographs for the same
transforms (which were trained for contexts: a model trained without them would do a little better).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from codec_cli import target
from codec_cli.codec import EFFORT_STEPS, Codec
from codec_cli.evaluation.bdrate import bd_rate
from codec_cli.evaluation.metrics import psnr
from codec_cli.pictures.images import Picture

Curve = np.ndarray


def load(paths: list[Path], every: int, crop: int | None) -> list[np.ndarray]:
    """Images of files and directories, R'G'B', or squares from the middle of them."""
    files = [f for path in paths for f in (sorted(path.iterdir()) if path.is_dir() else [path])]
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files[::every]]
    if crop is not None:
        corners = [[(side - crop) // 2 for side in image.shape[:2]] for image in images]
        images = [
            np.ascontiguousarray(image[top : top + crop, left : left + crop])
            for image, (top, left) in zip(images, corners, strict=True)
        ]
    return images


def report(name: str, anchor: Curve, test: Curve) -> None:
    """Prints a BD-rate between two arrays of (bpp, dB)."""
    percent = bd_rate(anchor[:, 0], anchor[:, 1], test[:, 0], test[:, 1])
    print(f"{name}: {percent:+.2f} % BD-rate", flush=True)


def efforts(codec: Codec, images: list[np.ndarray], levels: list[int], chosen: list[int]) -> None:
    """Files of several efforts, and seconds of the slow ones."""
    curves = {effort: np.zeros((len(levels), 2)) for effort in chosen}
    seconds: dict[int, list[float]] = {effort: [] for effort in chosen}
    for count, image in enumerate(images, 1):
        latents = list(codec.latents(image))
        for i, level in enumerate(levels):
            for effort in chosen:
                start = time.perf_counter()
                data = encode(codec, image, latents, level, effort)
                seconds[effort].append(time.perf_counter() - start)
                bpp = 8 * len(data) / (image.shape[0] * image.shape[1])
                curves[effort][i] += [bpp, psnr(image, codec.decode(data))]
        if count < len(images) and EFFORT_STEPS.keys().isdisjoint(chosen):
            continue  # What takes hours shows how it is going on.
        print(f"after {count} images:", flush=True)
        for effort in chosen:
            print(f"effort {effort}: {statistics.median(seconds[effort]):.3f} s beside the plain analysis")
            for anchor in chosen[: chosen.index(effort)]:
                report(f"effort {effort} against {anchor}", curves[anchor] / count, curves[effort] / count)


def encode(codec: Codec, image: np.ndarray, latents: list[np.ndarray], level: int, effort: int) -> bytes:
    """A file; the latents are used again where the effort does not refine them."""
    if effort in EFFORT_STEPS:
        return codec.encode_picture(Picture(image), level=level, effort=effort)
    return codec.pack(Picture(image), latents, level, effort)


def targets(codec: Codec, images: list[np.ndarray], levels: list[int], effort: int, each: int = 6) -> None:
    """What targets cost against the model's own curve, through its levels and between them."""
    from scipy.interpolate import PchipInterpolator

    lost: dict[tuple[str, str], list[float]] = {}
    for image in images:
        picture, latents = Picture(image), list(codec.latents(image))
        files = [encode(codec, image, latents, level, effort) for level in levels]
        sizes, quality = [len(data) for data in files], [psnr(image, codec.decode(data)) for data in files]
        curve = PchipInterpolator(quality, np.log(sizes))
        for share in (np.arange(each) + 0.5) / each:
            size = np.interp(share, np.linspace(0, 1, len(sizes)), sizes)
            wish = np.interp(share, np.linspace(0, 1, len(quality)), quality)
            for name, strengths in (("levels only", ()), ("between levels", target.FINER)):
                data = target.encode_to(codec, picture, target.Target(target.SIZE, size), effort, strengths)
                needed = np.exp(curve(psnr(image, codec.decode(data))))
                lost.setdefault(("size", name), []).append(100 * (1 - needed / size))
                data = target.encode_to(codec, picture, target.Target(target.PSNR, wish), effort, strengths)
                lost.setdefault(("psnr", name), []).append(100 * (len(data) / np.exp(curve(wish)) - 1))
        for (kind, name), values in sorted(lost.items()):
            print(
                f"target {kind}, {name}: {np.mean(values):.2f} % of bytes lost, {len(values)} targets",
                flush=True,
            )


def coding(codec: Codec, images: list[np.ndarray], levels: list[int], data_path: str | None) -> None:
    """Bytes of the coder against bits of the float networks, and against static tables."""
    import tensorflow as tf

    from codec_cli.bitstream.context import FactorizedModel
    from codec_cli.training import context, data, export, lite, sensitivity, tables
    from codec_cli.training import levels as training_levels
    from codec_cli.training.config import Config

    info = codec.info
    config = Config.model_validate(info.facts["config"])
    params = {name: value.astype(np.float32) for name, value in info.arrays("weights.npz").items()}
    loaded = codec._load(info)
    coder = {}
    if data_path is not None:
        config = config.model_copy(
            update={"data": config.data.model_copy(update={"path": data_path, "cache_patches": 600})}
        )
        patches = data.load_patches(config, Path(".cache"))
        latents = sensitivity.patch_latents(config, lite.round_half(params), np.asarray(patches[::3]))
        channels = latents.shape[-1]
        index = np.broadcast_to(np.arange(channels), latents.shape).reshape(-1)
        flat = [np.full(2 * export.CENTRE + 1, 1e-6)] * channels
        for level in levels:
            values = export._symbols(latents, loaded.gain[level]).astype(np.int32).reshape(-1)
            counted = tables.build(list(export._histograms(index, values, channels)), flat, export.CENTRE)
            coder[level] = FactorizedModel({level: counted})  # type: ignore[arg-type]
    tensors = {name: tf.constant(value) for name, value in params.items()}
    hats = training_levels.hat_weights(config)
    coded, floating, static = (np.zeros((len(levels), 2)) for _ in range(3))
    for image in images:
        picture = Picture(image)
        latent = list(codec.latents(image))
        if len(latent) > 1:
            raise SystemExit("give images of one tile (at most 1024x1024 pixels)")
        pixels = image.shape[0] * image.shape[1]
        for i, level in enumerate(levels):
            symbols = export._symbols(latent[0], loaded.gain[level])
            quality = psnr(image, codec.decode(codec.pack(picture, latent, level, effort=1)))
            coded[i] += [8 * len(loaded.entropy.encode(symbols, level)) / pixels, quality]
            if coder:
                static[i] += [8 * len(coder[level].encode(symbols, level)) / pixels, quality]
                continue
            batch = tf.constant(symbols[None].astype(np.float32))
            bits = float(context.pass_bits(tensors, config, batch, batch, tf.constant(hats[level][None]))[0])
            # The first pass has no network: its stored tables serve both sides.
            size = loaded.entropy.groups[0]
            half = context.checkerboard(*symbols.shape[:2])[0, :, :, 0] > 0
            first = loaded.entropy.first[level]
            column = np.tile(np.arange(size), half.sum())
            entry = symbols[half][:, :size].astype(np.int32).reshape(-1) - first.offsets[column]
            escape = first.lengths[column] - 1
            entry = np.where((entry < 0) | (entry > escape), escape, entry)
            bits += float(first.bits[first.starts[column] + entry].sum())
            floating[i] += [bits / pixels, quality]
    count = len(images)
    if coder:
        report("contexts against static tables", static / count, coded / count)
    else:
        report("integer networks and tables against float densities", floating / count, coded / count)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("efforts", "integers", "contexts", "targets"))
    parser.add_argument("images", type=Path, nargs="+", help="files or directories")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    parser.add_argument("--crop", type=int, help="take a square of this side from the middle of each")
    parser.add_argument("--levels", default="0,7,14,21,28,35,42,49")
    parser.add_argument("--efforts", default="1,5")
    parser.add_argument("--data", help="training photographs, for `contexts`")
    arguments = parser.parse_args()
    codec = Codec(arguments.model)
    images = load(arguments.images, arguments.every, arguments.crop)
    levels = [int(level) for level in arguments.levels.split(",")]
    chosen = [int(effort) for effort in arguments.efforts.split(",")]
    if arguments.what == "efforts":
        efforts(codec, images, levels, chosen)
    elif arguments.what == "targets":
        targets(codec, images, levels, chosen[-1])
    elif arguments.what == "contexts" and arguments.data is None:
        raise SystemExit("contexts needs --data DIR")
    else:
        coding(codec, images, levels, arguments.data if arguments.what == "contexts" else None)


if __name__ == "__main__":
    main()
