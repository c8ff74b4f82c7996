"""A discriminator beside the autoencoder: its parameters, its judgement and the losses of both sides.

Its parameters are named ``discriminator/...`` and lie in the same flat dictionary as the model's, but only
its own optimiser moves them, no average is kept, and exported models do not have them. As
in :mod:`codec_cli.training.layers`, all is pure functions of that dictionary.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from codec_cli.training import layers
from codec_cli.training.config import Adversarial, Config
from codec_cli.training.params import Arrays, Params

PREFIX = "discriminator/"
# Steps that the discriminator has done: its optimiser starts later than the run, and may start anew.
UPDATES = f"{PREFIX}updates"


def init_discriminator(config: Config) -> Arrays:
    """Initial parameters of a configuration's discriminator, and the count of its steps.

    Args:
        config: With an ``adversarial`` section.

    Returns:
        Parameters by name, float32; a scalar :data:`UPDATES`. They do not depend on how many random numbers
        the model took, nor does the model on them.
    """
    section = _section(config)
    rng = np.random.default_rng([config.seed, 1])
    image = (config.data.crop, config.data.crop, config.transforms.channels)
    arrays: Arrays = {}
    layers.init(section.layers, PREFIX[:-1], image, rng, arrays)
    return {**arrays, UPDATES: np.zeros((), np.float32)}


def fit(config: Config, state: dict[str, Arrays]) -> dict[str, Arrays]:
    """A training state with the discriminator that the configuration wants.

    Args:
        config: The configuration.
        state: Parts ``params``, ``m``, ``v`` and ``ema``, with any discriminator or none.

    Returns:
        The state as it is, if its discriminator has the shapes of the configuration's; otherwise one with a
        fresh discriminator, or with none.
    """
    wanted = init_discriminator(config) if config.adversarial is not None else {}
    there = {name: value.shape for name, value in state["params"].items() if name.startswith(PREFIX)}
    if there == {name: value.shape for name, value in wanted.items()}:
        return state
    new = {
        part: {name: value for name, value in values.items() if not name.startswith(PREFIX)}
        for part, values in state.items()
    }
    new["params"].update(wanted)
    for part in ("m", "v"):
        new[part].update({name: np.zeros_like(value) for name, value in wanted.items()})
    return new


def logits(
    params: Params, section: Adversarial, images: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """How much like originals images look.

    Args:
        params: All parameters by name.
        section: The configuration's section.
        images: float32 (batch, crop, crop, channels), nominally in [0, 1].
        dtype: Precision of the layers.

    Returns:
        float32 (batch,), positive for originals: the mean over whatever the last layer gives.
    """
    x = layers.apply(section.layers, PREFIX[:-1], params, tf.cast(images - 0.5, dtype), section.slope)
    return tf.reduce_mean(tf.reshape(tf.cast(x, tf.float32), (images.shape[0], -1)), 1)


def generator_loss(params: Params, config: Config, decoded: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """What decoded images cost for being told from originals, before the weight.

    Args:
        params: All parameters by name.
        config: With an ``adversarial`` section.
        decoded: float32 (batch, crop, crop, channels).
        dtype: Precision of the layers.

    Returns:
        float32 (batch,).
    """
    section = _section(config)
    judged = logits(params, section, decoded, dtype)
    return -judged if section.loss == "hinge" else tf.nn.softplus(-judged)


def discriminator_loss(
    params: Params, config: Config, original: tf.Tensor, decoded: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """The discriminator's loss on a batch and what became of it.

    ``non-saturating`` is the cross-entropy of Goodfellow et al. 2014 (arXiv:1406.2661); ``hinge`` is that
    of Lim and Ye 2017 (arXiv:1705.02894). The penalty is R1 of Mescheder et al. 2018 (arXiv:1801.04406):
    half the squared gradient of the logit of originals.

    Args:
        params: All parameters by name.
        config: With an ``adversarial`` section.
        original: float32 (batch, crop, crop, channels).
        decoded: The same shape.
        dtype: Precision of the layers; the penalty is float32, for its second derivatives.

    Returns:
        float32 scalar.
    """
    section = _section(config)
    real = logits(params, section, original, dtype)
    false = logits(params, section, decoded, dtype)
    if section.loss == "hinge":
        loss = tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + false))
    else:
        loss = tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(false))
    if section.r1:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(original)
            score = tf.reduce_sum(logits(params, section, original))
        slope = tape.gradient(score, original)
        loss += 0.5 * section.r1 * tf.reduce_mean(tf.reduce_sum(tf.square(slope), (1, 2, 3)))
    return loss


def _section(config: Config) -> Adversarial:
    if config.adversarial is None:
        raise AssertionError("a configuration without an adversarial section has no discriminator")
    return config.adversarial
