"""Latents refined for one image by gradient: the highest efforts of the encoder.

Stochastic Gumbel annealing (Yang, Bamler, Mandt 2020, "Improving inference for neural image compression"):
every latent is a relaxed choice between the integers below and above it; the temperature falls until the
choice is firm. Rate and distortion are the training loss, for this one image. The decoder does not know.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli import zoo
from codec_cli.errors import ModelError
from codec_cli.training import context, levels, networks, prior
from codec_cli.training.config import Config
from codec_cli.training.networks import Params

# Step size, in symbols, and temperature of the relaxed choice: both fall geometrically. A choice that is
# firm too early stays as it is (docs/TRAINING.md).
FIRST_RATE, LAST_RATE = 0.015, 0.001
FIRST_TEMPERATURE, LAST_TEMPERATURE = 1.0, 0.1
EDGE = 1e-4


def limit_threads(threads: int) -> None:
    """Lets TensorFlow use so many processor threads, unless it runs already: then it keeps what it has."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


class Refiner:
    """Refines latents with a model's float networks.

    Args:
        info: A model folder with ``weights.npz``.

    Raises:
        ModelError: The folder has no weights.
    """

    def __init__(self, info: zoo.ModelInfo) -> None:
        if zoo.WEIGHTS not in info.facts["files"] or "config" not in info.facts:
            raise ModelError(f"{info.path}: has no weights for refinement; use --effort 6 or less")
        self._config = Config.model_validate(info.facts["config"])
        params = {name: value.astype(np.float32) for name, value in info.arrays(zoo.WEIGHTS).items()}
        self._forward, self._inverse = levels.gains(self._config, params)
        self._hats = levels.hat_weights(self._config)
        self._lambdas = levels.lambdas(self._config)
        self._params: Params = {name: tf.constant(value) for name, value in params.items()}
        # Gradients need no more: bfloat16 loses 0.01 % of the objective and takes 0.75 of the time.
        self._dtype = networks.precision(self._config) if networks.native_bfloat16() else tf.float32
        # A level's graph is built once for all images: that takes seconds, and TensorFlow keeps each.
        self._steps: dict[int, tf.types.experimental.GenericFunction] = {}

    def __call__(
        self,
        pixels: npt.NDArray[np.uint8],
        latents: npt.NDArray[np.float32],
        level: int,
        steps: int,
        advance: Callable[[int], object],
        weight: float = 1.0,
    ) -> npt.NDArray[np.float32]:
        """Refines the latents of one tile.

        Args:
            pixels: uint8 (height, width, channels), what the tile shows, at most ``stride`` times its size.
            latents: float32 (rows, columns, latent_channels), without gain: where the search starts.
            level: Usable level.
            steps: Number of gradient steps.
            advance: Called after each step, with 1.
            weight: Of the distortion, as a share of the level's own.

        Returns:
            float32, the shape of ``latents``; times the level's gain, they are integers.
        """
        gain = self._forward[level]
        target = tf.constant(pixels[None].astype(np.float32) / 255)
        worth = float(weight * self._lambdas[level] * 255**2 / pixels.shape[2])
        value = latents[None] * gain
        first, second = np.zeros_like(value), np.zeros_like(value)
        if level not in self._steps:
            self._steps[level] = self._step(level)
        step_function = self._steps[level]
        state = tuple(tf.constant(part) for part in (value, first, second))
        for step in range(steps):
            share = step / max(1, steps - 1)
            temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** share
            rate = FIRST_RATE * (LAST_RATE / FIRST_RATE) ** share
            state = step_function(
                *state, target, *(tf.constant(v, tf.float32) for v in (temperature, worth, rate, step + 1))
            )
            advance(1)
        return np.asarray(np.rint(state[0].numpy()[0]) / gain, np.float32)

    def _step(self, level: int) -> tf.types.experimental.GenericFunction:
        config = self._config
        weights = tf.constant(self._hats[level][None])
        inverse = tf.constant(self._inverse[level])

        @tf.function(autograph=False)
        def step(
            value: tf.Tensor,
            first: tf.Tensor,
            second: tf.Tensor,
            target: tf.Tensor,
            temperature: tf.Tensor,
            worth: tf.Tensor,
            rate: tf.Tensor,
            count: tf.Tensor,
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(value)
                relaxed = _relaxed_choice(value, temperature)
                image = networks.synthesis(
                    self._params, config.transforms, relaxed * inverse, weights, self._dtype
                )
                image = image[:, : target.shape[1], : target.shape[2]]
                loss = self._bits(relaxed, level) + worth * tf.reduce_sum(tf.square(image - target))
            gradient = tape.gradient(loss, value)
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * tf.square(gradient)
            change = (first / (1 - tf.pow(0.9, count))) / (tf.sqrt(second / (1 - tf.pow(0.99, count))) + 1e-8)
            return value - rate * change, first, second

        return step

    def _bits(self, symbols: tf.Tensor, level: int) -> tf.Tensor:
        config = self._config
        trained = len(config.levels.lambdas)
        factorized = config.entropy.kind == "factorized"
        channels = config.transforms.latent_channels if factorized else config.entropy.context.groups[0]
        # Between trained levels: the nearest one's prior on a rescaled grid, as in the stored tables.
        nearest = levels.nearest_trained(config)[level]
        ratio = (
            self._forward[nearest * (config.levels.between + 1), :channels] / self._forward[level, :channels]
        )
        own = {name: value.numpy() for name, value in self._params.items() if name.startswith("prior/")}
        density = prior.build_prior(levels.picked(own, trained, [nearest]), (1, channels), config.entropy)
        grid = symbols[..., None, :channels]
        lower, upper = ((grid + edge) * ratio for edge in (-0.5, 0.5))
        below = density.base.cdf(upper) - density.base.cdf(lower)
        above = density.base.survival_function(lower) - density.base.survival_function(upper)
        # The smaller tail keeps its precision.
        mass = tf.where(density.base.cdf(lower) > 0.5, above, below)
        bits = -tf.math.log(mass[..., 0, :] + 1e-9) / np.log(2)
        if factorized:
            return tf.reduce_sum(bits)
        half = tf.constant(context.checkerboard(symbols.shape[1], symbols.shape[2]))
        others = context.pass_bits(
            self._params, config, symbols, symbols, tf.constant(self._hats[level][None]), self._dtype
        )
        return tf.reduce_sum(bits * half) + tf.reduce_sum(others)


def _relaxed_choice(value: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """A sample between floor and ceiling of each value, firmer as the temperature falls."""
    below = tf.floor(value)
    part = tf.clip_by_value(value - below, EDGE, 1 - EDGE)
    # One of the relaxations of Perugachi-Diaz, Gansekoele and Bhulai 2024 ("Robustly overfitting latents for
    # flexible neural image compression"): a little better than the paper's inverse hyperbolic tangent
    # (docs/TRAINING.md).
    logits = 2 * tf.math.log(tf.tan(part * (math.pi / 2)))
    # The difference of two Gumbel variables is logistic.
    uniform = tf.random.uniform(tf.shape(value), 1e-6, 1 - 1e-6)
    noise = tf.math.log(uniform) - tf.math.log1p(-uniform)
    share = tf.sigmoid((logits / temperature + noise) / temperature)
    return below + share
