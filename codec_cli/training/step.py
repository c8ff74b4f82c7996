"""One training step as a pure function: (state, batch, noise) -> (state, metrics).

Adam and the moving average are written out as functions of their state, because Keras optimisers keep
theirs in variables and a captured variable can't be lowered. The same function runs eagerly, under
``tf.function``, under ``tf.function(jit_compile=True)``, and on any XLA device after lowering
(``scripts/train_xla.py``; without a discriminator).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from codec_cli.errors import TrainingError
from codec_cli.training import adversarial, model, networks
from codec_cli.training.checkpoint import DISTORTION_WEIGHT
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


def _fixed(config: Config) -> tuple[str, ...]:
    """Prefixes of parameters that a run does not train: nothing leads back through a choice of symbols."""
    return ("analysis/", "gain/forward", DISTORTION_WEIGHT) if config.run.rdoq else (DISTORTION_WEIGHT,)


def train_step(
    config: Config,
    state: State,
    images: tf.Tensor,
    noise: tf.Tensor,
    scalars: dict[str, tf.Tensor],
) -> tuple[State, dict[str, tf.Tensor]]:
    """One step of Adam on the rate-distortion loss; with a discriminator, one of its Adam too.

    Both see the same decoded images and the weights from before the step.

    Args:
        config: The configuration (static: decides the graph).
        state: From :func:`init_state`, and :func:`codec_cli.training.adversarial.fit`.
        images: uint8 (batch, crop, crop, channels).
        noise: float32 (batch, crop / stride, crop / stride, latent_channels), uniform in [-0.5, 0.5).
        scalars: From :func:`codec_cli.training.schedule.scalars`; for a configuration with labels also
            ``labels``, from :func:`codec_cli.training.data.labels_at`.

    Returns:
        The new state, and metrics ``bpp``, ``mse``, ``loss`` (each per level), ``total`` and ``grad_norm``;
        with an ``adversarial`` section also ``adversarial`` (the generator's loss before its weight) and
        ``discriminator``, both 0 until it switches on.

    Raises:
        TrainingError: The configuration is adversarial or has labels, but the scalars do not hold them.
    """
    for name, wanted in (("adversarial", config.adversarial), ("labels", config.labels)):
        if wanted is not None and name not in scalars:
            raise TrainingError(
                f"the train step of a configuration with the section {name} can't be lowered: train it with "
                f"TensorFlow, or train first with --set {name}=null"
            )
    if config.adversarial is None:
        return _step(config, state, images, noise, scalars, judged=False)
    # Before the start nothing is spent on the discriminator.
    return tf.cond(
        scalars["adversarial"] > 0,
        lambda: _step(config, state, images, noise, scalars, judged=True),
        lambda: _step(config, state, images, noise, scalars, judged=False),
    )


def _step(
    config: Config,
    state: State,
    images: tf.Tensor,
    noise: tf.Tensor,
    scalars: dict[str, tf.Tensor],
    *,
    judged: bool,
) -> tuple[State, dict[str, tf.Tensor]]:
    """:func:`train_step`, with or without the discriminator at work."""
    dtype = networks.precision(config)
    params = state["params"]
    names = sorted(name for name in params if not name.startswith((adversarial.PREFIX, *_fixed(config))))
    fooling = tf.constant(0.0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([params[name] for name in names])
        original, decoded, bpp = model.transmit(params, config, images, noise, scalars["hard"], dtype)
        total, metrics = model.rate_distortion(config, original, decoded, bpp, dtype)
        if config.adversarial is not None and judged:
            each = adversarial.generator_loss(params, config, decoded, dtype)
            fooling = tf.reduce_mean(each)
            # As one of the distortions: every level weighs it with its lambda.
            lambdas = np.asarray(config.levels.lambdas, np.float32)
            shares = tf.constant(model.level_weights(config) * lambdas)
            total += config.adversarial.weight * tf.reduce_mean(tf.reshape(each, (-1, len(lambdas))) * shares)
        if config.labels is not None:
            total += config.labels.weight * model.label_loss(params, config, images, scalars["labels"], dtype)
    new: State = {"params": {}, "m": {}, "v": {}, "ema": {}}
    norm = adam(
        config,
        state,
        new,
        dict(zip(names, tape.gradient(total, [params[name] for name in names]), strict=True)),
        (config.optimizer.beta1, config.optimizer.beta2),
        (scalars["correction1"], scalars["correction2"]),
        scalars["learning_rate"],
    )
    for name in names:
        new["ema"][name] = scalars["ema"] * state["ema"][name] + (1 - scalars["ema"]) * new["params"][name]
    for part in new:
        new[part].update({name: state[part][name] for name in params if name.startswith(_fixed(config))})
    metrics = {**metrics, "total": total, "grad_norm": norm}
    if config.adversarial is not None:
        metrics["adversarial"] = fooling
        metrics["discriminator"] = tf.constant(0.0)
        if judged:
            metrics["discriminator"] = _discriminate(config, state, new, original, decoded, dtype)
        else:
            for part in ("params", "m", "v"):
                new[part].update({name: state[part][name] for name in params if name not in new[part]})
    return new, metrics


def _discriminate(
    config: Config, state: State, new: State, original: tf.Tensor, decoded: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """The discriminator's step, written into ``new``; returns its loss."""
    section, params = config.adversarial, state["params"]
    if section is None:
        raise AssertionError("a configuration without an adversarial section has no discriminator")
    count = adversarial.UPDATES
    names = sorted(name for name in params if name.startswith(adversarial.PREFIX) and name != count)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([params[name] for name in names])
        loss = adversarial.discriminator_loss(params, config, original, decoded, dtype)
    gradients = tape.gradient(loss, [params[name] for name in names])
    updates = params[count] + 1.0
    adam(
        config,
        state,
        new,
        dict(zip(names, gradients, strict=True)),
        (section.beta1, section.beta2),
        (1.0 - section.beta1**updates, 1.0 - section.beta2**updates),
        tf.constant(section.learning_rate),
    )
    new["params"][count] = updates
    for part in ("m", "v"):
        new[part][count] = state[part][count]
    return loss


def adam(
    config: Config,
    state: State,
    new: State,
    gradients: Params,
    betas: tuple[float, float],
    corrections: tuple[tf.Tensor, tf.Tensor],
    rate: tf.Tensor,
) -> tf.Tensor:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) on clipped gradients, written into ``new``.

    Args:
        config: Clipping and learning-rate factors.
        state: Before the step.
        new: Gets ``params``, ``m`` and ``v`` of the parameters that have a gradient.
        gradients: By parameter name.
        betas: Decay of both moments.
        corrections: What their averages are divided by.
        rate: Learning rate.

    Returns:
        The gradients' norm before clipping, float32 scalar.
    """
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients.values()]))
    clip = tf.minimum(1.0, config.optimizer.clip_norm / (norm + 1e-9))
    beta1, beta2 = betas
    for name, unclipped in gradients.items():
        gradient = unclipped * clip
        m = beta1 * state["m"][name] + (1 - beta1) * gradient
        v = beta2 * state["v"][name] + (1 - beta2) * tf.square(gradient)
        direction = (m / corrections[0]) / (tf.sqrt(v / corrections[1]) + 1e-8)
        new["params"][name] = state["params"][name] - rate * _multiplier(config, name) * direction
        new["m"][name] = m
        new["v"][name] = v
    return norm
