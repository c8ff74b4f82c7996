"""Lowers the train step to HLO, for accelerators that have JAX but no TensorFlow 2.14.

The bundle that :func:`lower` writes is all that ``scripts/train_xla.py`` needs on the other machine:

* ``step.hlo``: the serialized HLO module of one step for a fixed batch and crop;
* ``bundle.json``: the configuration and the flat order of arguments and results;
* ``state.npz``: initial parameters (``params`` only; moments start at zero).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from codec_cli.training import schedule
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays
from codec_cli.training.step import init_state, train_step

# In the order of ``tf.nest.flatten``.
METRICS = ("bpp", "grad_norm", "loss", "mse", "total")


def lower(config: Config, params: Arrays, target: Path) -> None:
    """Writes the bundle of a configuration.

    Args:
        config: Decides shapes: ``data.batch`` and ``data.crop`` are fixed at lowering.
        params: Initial parameters, all by name.
        target: Directory, made if needed.
    """
    stride, crop, batch = config.transforms.stride, config.data.crop, config.data.batch
    state = init_state(params)
    signature = tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, tf.float32), state)
    images = tf.TensorSpec((batch, crop, crop, config.transforms.channels), tf.uint8)
    side = crop // stride
    noise = tf.TensorSpec((batch, side, side, config.transforms.latent_channels), tf.float32)
    steering = {name: tf.TensorSpec((), tf.float32) for name in schedule.NAMES}

    nested = (signature, images, noise, steering)
    flat = tf.nest.flatten(nested)

    # The compiler's entry point takes a flat list of specifications only.
    @tf.function(jit_compile=True, autograph=False)
    def step(*arguments: tf.Tensor) -> list[tf.Tensor]:
        packed = tf.nest.pack_sequence_as(nested, arguments)
        return tf.nest.flatten(train_step(config, *packed))

    concrete = step.get_concrete_function(*flat)
    if concrete.captured_inputs:
        raise AssertionError("the train step captures tensors; pass everything as arguments")
    hlo = step.experimental_get_compiler_ir(*flat)(stage="hlo_serialized")
    target.mkdir(parents=True, exist_ok=True)
    (target / "step.hlo").write_bytes(hlo)
    parts, names = sorted(state), sorted(params)
    bundle = {
        "config": json.loads(config.to_json()),
        "state": [f"{part}/{name}" for part in parts for name in names],
        "arguments": ["state...", "images", "noise", *schedule.NAMES],
        "results": ["state...", *METRICS],
    }
    (target / "bundle.json").write_text(json.dumps(bundle, indent=1))
    np.savez(target / "state.npz", **{f"params/{name}": value for name, value in params.items()})
