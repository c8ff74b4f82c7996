"""What errors of each latent channel do to the image: what the encoder weighs bits against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.bitstream.quantize import nearest
from codec_cli.training import levels, networks
from codec_cli.training.checkpoint import DISTORTION_WEIGHT
from codec_cli.training.config import Config, Listed
from codec_cli.training.networks import Arrays


def sample(config: Config, patches: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """As many patches, spread over all, as the worth of errors needs to be measured on."""
    # A small image gives a latent of each channel, or a few; a photograph's patch hundreds.
    count = min(len(patches), 256 if isinstance(config.transforms, Listed) else 4)
    return np.stack([patches[i * len(patches) // count] for i in range(count)])


def fit(
    config: Config, state: dict[str, Arrays], patches: npt.NDArray[np.uint8], *, anew: bool = False
) -> dict[str, Arrays]:
    """A training state with the worth of errors if the configuration needs it, and else without.

    Args:
        config: The configuration.
        state: Parts ``params``, ``m``, ``v`` and ``ema``.
        patches: Training patches.
        anew: Measure it even if it is there.
    """
    there = DISTORTION_WEIGHT in state["params"]
    if config.run.rdoq and there and not anew:
        return state
    new = {
        part: {name: value for name, value in values.items() if name != DISTORTION_WEIGHT}
        for part, values in state.items()
    }
    if config.run.rdoq:
        weights = distortion_weights(config, new["params"], sample(config, patches))
        worth = weights[:: config.levels.between + 1]
        for part, values in new.items():
            values[DISTORTION_WEIGHT] = worth if part in ("params", "ema") else np.zeros_like(worth)
    return new


def patch_latents(config: Config, params: Arrays, patches: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Latents without gain of training patches, float32 (n, h, w, latent_channels)."""
    stride = config.transforms.stride
    side = min(64 * stride, patches.shape[1] // stride * stride)
    constants = {name: tf.constant(value) for name, value in params.items() if name.startswith("analysis/")}

    @tf.function(autograph=False)
    def run(images: tf.Tensor) -> tf.Tensor:
        return networks.analysis(constants, config.transforms, tf.cast(images, tf.float32) / 255.0)

    batch = max(8, (1 << 19) // (side * side))
    parts = [patches[i : i + batch, :side, :side] for i in range(0, len(patches), batch)]
    return np.concatenate([run(part).numpy() for part in parts])


def distortion_weights(
    config: Config, params: Arrays, patches: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Bits that a squared error of one symbol step is worth, for the encoder's optimisation.

    For a random output vector v of +-1, the expectation of the square of J^T v is the diagonal of J^T J
    (Hutchinson): one backward pass gives the synthesis transform's sensitivity to every channel.

    Returns:
        float32 (usable levels, latent_channels): lambda * 255^2 / channels * sensitivity.
    """
    forward, inverse = levels.gains(config, params)
    hats = levels.hat_weights(config)
    lambdas = levels.lambdas(config)
    latents = patch_latents(config, params, patches)
    constants = {name: tf.constant(value) for name, value in params.items() if name.startswith("synthesis/")}
    rng = np.random.default_rng(config.seed)

    @tf.function(autograph=False)
    def gradient(restored: tf.Tensor, share: tf.Tensor, probe: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(restored)
            image = networks.synthesis(constants, config.transforms, restored, share)
            total = tf.reduce_sum(image * probe)
        return tape.gradient(total, restored)

    stride, channels = config.transforms.stride, config.transforms.channels
    shape = (len(latents), latents.shape[1] * stride, latents.shape[2] * stride, channels)
    out = []
    for level in range(len(hats)):
        restored = nearest(latents * forward[level]).astype(np.float32) * inverse[level]
        probe = rng.choice(np.array([-1, 1], np.float32), shape)
        slope = gradient(
            tf.constant(restored), tf.constant(np.repeat(hats[level][None], len(latents), 0)), probe
        )
        sensitivity = np.mean(np.square(slope.numpy()), (0, 1, 2)) * inverse[level] ** 2
        out.append(lambdas[level] * 255**2 / channels * sensitivity)
    return np.asarray(out, np.float32)
