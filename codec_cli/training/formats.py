"""Export of the plain networks: encoder, decoder or both, as SavedModel, Keras and LiteRT files.

For other programs than this codec, and for autoencoders that never become a model of it: float weights, no
entropy coding, one quality level. SavedModel and LiteRT hold the pure functions of
:mod:`codec_cli.training.networks`; Keras files are built of ordinary Keras layers (:mod:`codec_cli.training.
keras_layers`), so that they load without this package.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.errors import TrainingError
from codec_cli.training import checkpoint, keras_layers, levels, networks
from codec_cli.training.config import Config, Listed
from codec_cli.training.networks import Arrays, Params
from codec_cli.transforms import Session

FORMATS = ("savedmodel", "keras", "tflite")
PARTS = ("encoder", "decoder", "both")
FACTS = "networks.json"
CARD = "README.md"
# What a reloaded file may differ by from the training code, relative to its largest output.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Network:
    """One of the exported networks.

    Attributes:
        name: ``encoder``, ``decoder`` or ``autoencoder``.
        run: Parameters and input to output, float32.
        params: The parameters that it needs.
        input: Height, width and channels; None for what may vary.
        output: The same of the output.
    """

    name: str
    run: Callable[[Params, tf.Tensor], tf.Tensor]
    params: Arrays
    input: tuple[int | None, ...]
    output: tuple[int | None, ...]


def build(config: Config, params: Arrays, part: str = "both", level: int | None = None) -> list[Network]:
    """The networks of a part at one quality level.

    Args:
        config: The configuration.
        params: Parameters by name.
        part: One of :data:`PARTS`; ``both`` gives the encoder, the decoder and the autoencoder of the two.
        level: A usable level, from 0; the middle one by default.

    Returns:
        Networks. The encoder takes images in [0, 1] and gives latents times the level's gain, not rounded;
        the decoder takes those, rounded or not, and gives images clipped to [0, 1]; the autoencoder rounds
        between them, unless the configuration has no entropy model.

    Raises:
        TrainingError: There is no such level.
    """
    transforms = config.transforms
    level = _level(config, level)
    forward, inverse = _gains(config, params, level)
    hat = levels.hat_weights(config)[level]

    def encode(weights: Params, image: tf.Tensor) -> tf.Tensor:
        latents = networks.analysis(weights, transforms, image)
        return latents if forward is None else latents * forward

    def decode(weights: Params, latents: tf.Tensor) -> tf.Tensor:
        restored = latents if inverse is None else latents * inverse
        share = tf.tile(tf.constant(hat[None]), (tf.shape(latents)[0], 1))
        return tf.clip_by_value(networks.synthesis(weights, transforms, restored, share), 0.0, 1.0)

    def both(weights: Params, image: tf.Tensor) -> tf.Tensor:
        latents = encode(weights, image)
        return decode(weights, latents if forward is None else tf.round(latents))

    image: tuple[int | None, ...] = (None, None, transforms.channels)
    latents: tuple[int | None, ...] = (None, None, transforms.latent_channels)
    if isinstance(transforms, Listed):
        image, latents = (transforms.size, transforms.size, transforms.channels), transforms.latent_shape
    first, last = ({n: v for n, v in params.items() if n.startswith(p)} for p in ("analysis/", "synthesis/"))
    encoder = Network("encoder", encode, first, image, latents)
    decoder = Network("decoder", decode, last, latents, image)
    if part != "both":
        return [encoder if part == "encoder" else decoder]
    return [encoder, decoder, Network("autoencoder", both, {**first, **last}, image, image)]


def export_formats(
    run: Path,
    target: Path,
    *,
    formats: Sequence[str],
    part: str = "both",
    level: int | None = None,
    overrides: tuple[str, ...] = (),
    provenance: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a run's networks in formats of other programs.

    Args:
        run: Directory with a checkpoint and its configuration; the averaged weights count.
        target: The new folder; must not exist. It appears whole or not at all.
        formats: Of :data:`FORMATS`.
        part: One of :data:`PARTS`.
        level: A usable level, from 0; the middle one by default.
        overrides: ``section.field=value`` texts.
        provenance: Facts to keep in ``networks.json``.

    Returns:
        What ``networks.json`` holds.

    Raises:
        TrainingError: No run, no such level, ``keras`` for transforms that are not listed by layers, or a
            file that does not give what the training code gives.
    """
    if target.exists():
        raise TrainingError(f"{target}: exists; choose a new name for the exported networks")
    state, step, seconds = checkpoint.load(run)
    config, params = checkpoint.load_run_config(run, overrides), state["ema"]
    if "keras" in formats and not isinstance(config.transforms, Listed):
        raise TrainingError(
            f"{run}: --format keras needs transforms that are listed by layers; take savedmodel or tflite"
        )
    facts: dict[str, Any] = {
        "name": config.name,
        "entropy": config.entropy.kind,
        "level": _level(config, level),
        "levels": config.levels.usable,
        "training": {"steps": step, "seconds": round(seconds), **(provenance or {})},
        "tensorflow": tf.__version__,
        "networks": {},
    }
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for network in build(config, params, part, level):
            entry: dict[str, Any] = {"input": [None, *network.input], "output": [None, *network.output]}
            for name in dict.fromkeys(formats):
                path = temporary / f"{network.name}.{name}"
                _WRITERS[name](network, path, config, params, facts["level"])
                difference = _difference(network, path, name, config, params, facts["level"])
                entry[name] = {"file": path.name, "difference": difference}
            facts["networks"][network.name] = entry
        (temporary / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        (temporary / CARD).write_text(_card(target.name, facts))
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return facts


def _level(config: Config, level: int | None) -> int:
    count = config.levels.usable
    if level is not None and not 0 <= level < count:
        raise TrainingError(f"--level {level}: the run has levels 0 to {count - 1}")
    return count // 2 if level is None else level


def _gains(config: Config, params: Arrays, level: int) -> tuple[npt.NDArray | None, npt.NDArray | None]:
    if config.entropy.kind == "none":
        return None, None
    forward, inverse = levels.gains(config, params)
    return forward[level], inverse[level]


def _function(network: Network, params: Params, batch: int | None) -> tf.types.experimental.GenericFunction:
    spec = tf.TensorSpec((batch, *network.input), tf.float32, name="input")
    return tf.function(lambda value: network.run(params, value), input_signature=[spec], autograph=False)


def _write_savedmodel(network: Network, path: Path, *_: Any) -> None:  # noqa: ANN401
    module = tf.Module()
    module.weights = {name: tf.Variable(value) for name, value in network.params.items()}
    module.__call__ = _function(network, module.weights, None)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.__call__})


def _write_keras(network: Network, path: Path, config: Config, params: Arrays, level: int) -> None:
    gains = _gains(config, params, level)
    keras_layers.model(config, network.name, params, gains).save(path)


def _write_tflite(network: Network, path: Path, *_: Any) -> None:  # noqa: ANN401
    weights = {name: tf.constant(value) for name, value in network.params.items()}
    # LiteRT converts only known sizes; it runs the result at any, as the codec's own models show.
    fixed = Network(network.name, network.run, network.params, _sizes(network), network.output)
    function = _function(fixed, weights, 1).get_concrete_function()
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())


_WRITERS: dict[str, Callable[..., None]] = {
    "savedmodel": _write_savedmodel,
    "keras": _write_keras,
    "tflite": _write_tflite,
}


def _sizes(network: Network) -> tuple[int, ...]:
    """The input's shape, four latent positions wide where it may vary."""
    side = 4 if network.name == "decoder" else 64
    return tuple(size or side for size in network.input)


def load(path: Path, name: str) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Loads a file as other programs do.

    Args:
        path: What :func:`export_formats` wrote.
        name: Its format.

    Returns:
        A function of float32 (1, height, width, channels).
    """
    if name == "tflite":
        return Session(path.read_bytes(), path, 1)
    if name == "keras":
        model = tf.keras.models.load_model(path, compile=False)
        return lambda value: model(tf.constant(value)).numpy()
    module = tf.saved_model.load(str(path))
    return lambda value: module(tf.constant(value)).numpy()


def _difference(network: Network, path: Path, name: str, config: Config, params: Arrays, level: int) -> float:
    """Largest difference of a written file from the training code, relative to the largest output."""
    encoder = build(config, params, "encoder", level)[0]
    rng = np.random.default_rng(config.seed)
    value = rng.random((1, *_sizes(encoder)), np.float32)
    weights = {key: tf.constant(array) for key, array in params.items()}
    if network.name == "decoder":
        value = np.rint(encoder.run(weights, tf.constant(value)).numpy())
    wanted = network.run(weights, tf.constant(value)).numpy()
    difference = float(np.abs(load(path, name)(value) - wanted).max() / max(1.0, np.abs(wanted).max()))
    # A latent on the edge between two symbols may fall either way: the autoencoder's is told, not judged.
    if network.name != "autoencoder" and not difference <= TOLERANCE:
        raise TrainingError(
            f"{path.name}: differs from the training code by {difference:.2g}; report this with the run's "
            "configuration"
        )
    return difference


def _card(name: str, facts: dict[str, Any]) -> str:
    rounding = "" if facts["entropy"] == "none" else " Round the encoder's latents before you decode them."
    lines = [
        f"# {name}",
        "",
        f"Networks of the run `{facts['name']}` after {facts['training']['steps']} steps, at level "
        f"{facts['level']} of {facts['levels']}. Images are float32 in [0, 1], batch first, channels last."
        f"{rounding}",
        "",
        "| network | input | output | files |",
        "|---|---|---|---|",
    ]
    for network, entry in facts["networks"].items():
        files = ", ".join(f"`{value['file']}`" for value in entry.values() if isinstance(value, dict))
        shapes = [" x ".join("any" if n is None else str(n) for n in entry[k]) for k in ("input", "output")]
        lines.append(f"| {network} | {shapes[0]} | {shapes[1]} | {files} |")
    return "\n".join(
        [
            *lines,
            "",
            "- `.savedmodel`: `tf.saved_model.load(path)(images)`",
            "- `.keras`: `keras.models.load_model(path)` (Keras 2.14), ordinary layers only",
            "- `.tflite`: LiteRT; the batch is 1",
            "",
        ]
    )
