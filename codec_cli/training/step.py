"""One training step as a pure function: (state, batch, noise) -> (state, metrics).

Adam and the moving average are written out as functions of their state, because Keras optimisers keep
theirs in variables and a captured variable can't be lowered. The same function runs eagerly, under
``tf.function``, under ``tf.function(jit_compile=True)``, and on any XLA device after lowering
(``scripts/train_xla.py``).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from codec_cli.training import model
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays, Params

State = dict[str, Params]


def init_state(params: Arrays) -> dict[str, Arrays]:
    """Training state with zero moments: ``params``, ``m``, ``v`` and ``ema``, all by parameter name."""
    zeros = {name: np.zeros_like(value) for name, value in params.items()}
    return {
        "params": params,
        "m": zeros,
        "v": {name: value.copy() for name, value in zeros.items()},
        "ema": {name: value.copy() for name, value in params.items()},
    }


def _multiplier(config: Config, name: str) -> float:
    for prefix, factor in config.optimizer.multipliers.items():
        if name.startswith(prefix):
            return factor
    return 1.0


def train_step(
    config: Config,
    state: State,
    images: tf.Tensor,
    noise: tf.Tensor,
    scalars: dict[str, tf.Tensor],
) -> tuple[State, dict[str, tf.Tensor]]:
    """One step of Adam on the rate-distortion loss.

    Args:
        config: The configuration (static: decides the graph).
        state: From :func:`init_state`.
        images: uint8 (batch, crop, crop, channels).
        noise: float32 (batch, crop / stride, crop / stride, latent_channels), uniform in [-0.5, 0.5).
        scalars: From :func:`codec_cli.training.schedule.scalars`.

    Returns:
        The new state, and metrics ``bpp``, ``mse``, ``loss`` (each per level), ``total`` and ``grad_norm``.
    """
    dtype = tf.bfloat16 if config.run.precision == "bfloat16" else tf.float32
    params = state["params"]
    names = sorted(params)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([params[name] for name in names])
        total, metrics = model.forward(params, config, images, noise, scalars["hard"], dtype)
    gradients = dict(zip(names, tape.gradient(total, [params[name] for name in names]), strict=True))
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients.values()]))
    clip = tf.minimum(1.0, config.optimizer.clip_norm / (norm + 1e-9))
    beta1, beta2 = config.optimizer.beta1, config.optimizer.beta2
    new: State = {"params": {}, "m": {}, "v": {}, "ema": {}}
    for name in names:
        gradient = gradients[name] * clip
        m = beta1 * state["m"][name] + (1 - beta1) * gradient
        v = beta2 * state["v"][name] + (1 - beta2) * tf.square(gradient)
        direction = (m / scalars["correction1"]) / (tf.sqrt(v / scalars["correction2"]) + 1e-8)
        value = params[name] - scalars["learning_rate"] * _multiplier(config, name) * direction
        new["params"][name] = value
        new["m"][name] = m
        new["v"][name] = v
        new["ema"][name] = scalars["ema"] * state["ema"][name] + (1 - scalars["ema"]) * value
    return new, {**metrics, "total": total, "grad_norm": norm}
