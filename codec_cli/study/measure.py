"""How well an autoencoder gives back images: loss, MSE, PSNR, SSIM, time, parameters and operations."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.evaluation import metrics
from codec_cli.training import model, networks
from codec_cli.training.config import Config, Layer, Listed
from codec_cli.training.networks import Arrays
from codec_cli.training.shapes import Shape, after

__all__ = [
    "Quality",
    "decode",
    "decode_seconds",
    "encode",
    "errors",
    "loss",
    "multiplications",
    "parameters",
    "quality",
]

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_BATCH = 500


@dataclass(frozen=True)
class Quality:
    """Of decoded images against their originals.

    Attributes:
        mse: Mean square error on [0, 1], over all pixels of all images, before rounding to 8 bits.
        psnr_db: Mean over the images of the PSNR of 8-bit pixels.
        ssim: Mean over the images of the SSIM of 8-bit pixels.
    """

    mse: float
    psnr_db: float
    ssim: float


def encode(params: Arrays, config: Config, images: Images) -> Floats:
    """Latents of images, float32 (n, rows, columns, channels)."""
    return np.concatenate(
        [
            networks.analysis(params, config.transforms, tf.cast(part, tf.float32) / 255.0).numpy()
            for part in _parts(images)
        ]
    )


def decode(params: Arrays, config: Config, latents: Floats) -> Floats:
    """Images of latents, float32 (n, height, width, channels) in [0, 1]."""
    out = []
    for part in _parts(latents):
        levels = tf.one_hot([0] * len(part), len(config.levels.lambdas))
        decoded = networks.synthesis(params, config.transforms, tf.constant(part), levels)
        out.append(np.clip(decoded.numpy(), 0, 1))
    return np.concatenate(out)


def quality(originals: Images, decoded: Floats) -> Quality:
    """Measures decoded images.

    Args:
        originals: uint8 (n, height, width, channels).
        decoded: float32, the same shape, in [0, 1].
    """
    rounded = np.round(decoded * 255).astype(np.uint8)
    pairs = list(zip(originals, rounded, strict=True))
    return Quality(
        float(errors(originals, decoded).mean()),
        # An image that comes back exactly has no finite PSNR; 8 bits end at about 60 dB.
        math.fsum(min(60.0, metrics.psnr(*pair)) for pair in pairs) / len(pairs),
        math.fsum(metrics.ssim(*pair) for pair in pairs) / len(pairs),
    )


def errors(originals: Images, decoded: Floats) -> npt.NDArray[np.float64]:
    """Mean square error of every image on [0, 1], float64 (n,)."""
    difference = originals.astype(np.float64) / 255 - decoded
    return np.asarray(np.square(difference).mean((1, 2, 3)))


def loss(params: Arrays, config: Config, images: Images) -> float:
    """The configuration's loss, as training takes it, over images."""
    tensors = {name: tf.constant(value) for name, value in params.items()}
    total = 0.0
    for part in _parts(images):
        value, _ = model.forward(tensors, config, tf.constant(part), None, 1.0)
        total += float(value) * len(part)
    return total / len(images)


def decode_seconds(params: Arrays, config: Config, latents: Floats) -> float:
    """Seconds to decode one image of a batch of 100 on this machine: the least of several runs."""
    tensors = {name: tf.constant(value) for name, value in params.items()}
    batch = tf.constant(latents[:100])
    levels = tf.one_hot([0] * len(batch), len(config.levels.lambdas))
    run = tf.function(lambda z: networks.synthesis(tensors, config.transforms, z, levels), autograph=False)
    run(batch)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        run(batch).numpy()
        times.append(time.perf_counter() - start)
    return min(times) / len(batch)


def parameters(params: Arrays, part: str = "") -> int:
    """Number of weights, of those whose name starts with ``part``."""
    return sum(value.size for name, value in params.items() if name.startswith(part))


def multiplications(config: Listed) -> tuple[int, int]:
    """Multiplications for one image in the convolutions and dense layers of (analysis, synthesis)."""
    image = (config.size, config.size, config.channels)
    latent = config.latent_shape
    flat = latent[2:] if latent[:2] == (1, 1) else latent
    return _count(config.analysis, image), _count(config.synthesis, flat)


def _count(layers: Sequence[Layer], shape: Shape) -> int:
    total = 0
    for layer in layers:
        out = after(layer, shape)
        if layer.op == "dense":
            total += shape[0] * layer.filters
        elif layer.op == "conv":
            total += math.prod(out) * layer.kernel**2 * shape[-1]
        elif layer.op == "conv_transpose":
            total += math.prod(shape) * layer.kernel**2 * layer.filters
        elif layer.op == "subpixel":
            total += math.prod(out) * layer.kernel**2 * shape[-1]
        elif layer.op == "residual":
            total += _count(layer.layers, shape)
            if out[-1] != shape[-1]:
                total += math.prod(out) * shape[-1]
        shape = out
    return total


def _parts(array: npt.NDArray) -> Iterator[npt.NDArray]:  # type: ignore[type-arg]
    for start in range(0, len(array), _BATCH):
        yield array[start : start + _BATCH]
