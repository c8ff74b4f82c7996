"""The training loop: crops -> steps -> checkpoints, with validation, TensorBoard and exact resumption."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from codec_cli.errors import TrainingError
from codec_cli.training import (
    adversarial,
    checkpoint,
    data,
    inputs,
    levels,
    model,
    pictures,
    schedule,
    sensitivity,
)
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays
from codec_cli.training.regroup import regroup, splits, with_groups
from codec_cli.training.step import State, init_state, train_step
from codec_cli.training.stopping import Stop

LOG = pictures.VALIDATION_LOG
ADVICE = "Lower optimizer.learning_rate or set run.precision=float32, then --resume"
# Steps between looks at the metrics: reading them waits for the device.
LOOK_STEPS = 10


def initial_params(config: Config, patches: npt.NDArray[np.uint8], start_from: str | None) -> Arrays:
    """Fresh parameters, or those of a shipped model for fine-tuning.

    Args:
        config: The configuration.
        patches: Training patches, for the PCA of a fresh start.
        start_from: Name or folder of a model, or directory of a run, with the same transforms, or None.

    Raises:
        TrainingError: The model's weights do not fit the configuration.
    """
    sample = patches[:: max(1, len(patches) // 400)]
    fresh = model.init_params(config, np.asarray(sample))
    if start_from is None:
        if config.run.rdoq:
            raise TrainingError(
                "run.rdoq optimises the symbols of a trained analysis: name a model with --from"
            )
        return fresh
    own, given = checkpoint.trained(start_from)
    have = own.levels.lambdas
    if len(have) > 1 and have != config.levels.lambdas:
        given = levels.picked(given, len(have), levels.nearest(have, config.levels.lambdas))
    given = _grouped(config, own, given, patches)
    for name in sorted(fresh.keys() | given.keys()):
        if name in fresh and name in given and fresh[name].shape == given[name].shape:
            fresh[name] = given[name]
        # Another entropy model may be trained on top of known transforms, but not the other way round.
        elif name.startswith(("analysis/", "synthesis/", "gain/")):
            raise TrainingError(f"--from {start_from}: {name} does not fit this configuration")
    return fresh


def _grouped(config: Config, own: Config, given: Arrays, patches: npt.NDArray[np.uint8]) -> Arrays:
    """A model's weights, its channel groups split where the configuration's are finer."""
    have, wanted = own.entropy.context.groups, config.entropy.context.groups
    kinds = {own.entropy.kind, config.entropy.kind}
    if kinds != {"context"} or have == wanted or not splits(have, wanted):
        return given
    return regroup(with_groups(config, have), given, wanted, patches)[1]


def _batches(config: Config, patches: npt.NDArray[np.uint8], start: int) -> tf.data.Dataset:
    shape = (config.data.batch, config.data.crop, config.data.crop, config.transforms.channels)

    def fetch(step: tf.Tensor) -> tf.Tensor:
        batch = tf.numpy_function(lambda i: data.batch_at(config, patches, int(i)), [step], tf.uint8)
        return tf.ensure_shape(batch, shape)

    return tf.data.Dataset.range(start, config.run.steps).map(fetch).prefetch(4)


def validate(
    config: Config, params: Arrays | dict[str, tf.Tensor], crops: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Rate (bits per pixel, by the model's density), PSNR (dB) and loss per level.

    Latents are rounded as by low efforts, or with ``run.rdoq`` as by the default one.
    """
    count = len(config.levels.lambdas)
    totals: dict[str, list[npt.NDArray[np.float32]]] = {"bpp": [], "mse": [], "loss": []}
    tensors = {name: tf.constant(value) for name, value in params.items()}
    for crop in crops:
        _, metrics = model.forward(tensors, config, tf.constant(np.repeat(crop[None], count, 0)), None, 1.0)
        for name, values in totals.items():
            values.append(metrics[name].numpy())
    mean = {name: np.mean(values, 0) for name, values in totals.items()}
    return {
        "bpp": mean["bpp"].tolist(),
        "psnr": (10 * np.log10(255**2 / np.maximum(mean["mse"], 1e-9))).tolist(),
        "loss": float(np.mean(mean["loss"] * model.level_weights(config))),
    }


def train(
    config: Config,
    run: Path,
    *,
    resume: bool = False,
    overrides: tuple[str, ...] = (),
    minutes: float | None = None,
    start_from: str | None = None,
    cache_dir: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains until the schedule ends.

    Args:
        config: The configuration; copied to ``RUN/config.json``.
        run: Directory of checkpoint, log and TensorBoard events.
        resume: Continue the run that lies there; its own configuration is used instead of ``config``.
        overrides: With ``resume``, ``section.field=value`` texts that change that configuration, such as
            ``optimizer.learning_rate=1e-4``; the model itself can't change.
        minutes: Bound of the whole run's training time, over all resumptions; the schedule is fitted to it.
        start_from: Model or run to fine-tune.
        cache_dir: Of decoded patches; ``RUN/cache`` by default.
        quiet: No progress bar.

    Returns:
        The last validation: see :func:`validate`, plus ``step`` and ``seconds``.

    Raises:
        TrainingError: No data, a run in the way, or a loss that is not finite (the last good checkpoint
            stays).
    """
    if resume:
        arrays, step, spent = checkpoint.load(run)
        config, revalued = _resumed_config(run, overrides)
        if "m" not in arrays:
            arrays = init_state(arrays["ema"])
    else:
        checkpoint.require_none(run)
    run.mkdir(parents=True, exist_ok=True)
    patches = data.load_patches(config, cache_dir or run / "cache", quiet)
    labels = None if config.labels is None else inputs.labels(config, len(patches))
    crops = data.validation_crops(config)
    checkpoint.save_run_config(run, config)
    if not resume:
        arrays, step, spent = init_state(initial_params(config, patches, start_from)), 0, 0.0
        arrays = sensitivity.fit(config, adversarial.fit(config, arrays), patches)
        checkpoint.save(run, arrays, step, spent)
    else:
        # A resumed run may take a discriminator on, change or drop it: it is no part of the model. Nor is
        # the worth of errors, which goes by lambda.
        arrays = sensitivity.fit(config, adversarial.fit(config, arrays), patches, anew=revalued)

    tree = config.model_dump()
    side = config.data.crop // config.transforms.stride
    noise_shape = (config.data.batch, side, side, config.transforms.latent_channels)

    @tf.function(jit_compile=config.run.jit, autograph=False)
    def one_step(
        state: State, images: tf.Tensor, noise: tf.Tensor, scalars: dict[str, tf.Tensor]
    ) -> tuple[State, dict[str, tf.Tensor]]:
        return train_step(config, state, images, noise, scalars)

    @tf.function(autograph=False)
    def make_noise(number: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(noise_shape, tf.stack([config.seed, number]), -0.5, 0.5)

    state: State = tf.nest.map_structure(tf.constant, arrays)
    writer = tf.summary.create_file_writer(str(run / "tensorboard"))
    stop = Stop()
    started, saved, metrics = time.monotonic(), time.monotonic(), None
    before = spent
    result: dict[str, Any] = {}
    bar = tqdm(
        # A run that is bounded by time ends earlier: no forecast then.
        total=config.run.steps if minutes is None else None,
        initial=step,
        disable=quiet,
        unit="step",
        dynamic_ncols=True,
    )

    def keep() -> None:
        host = tf.nest.map_structure(lambda value: value.numpy(), state)
        last: list[npt.NDArray[np.float32]] = []
        if metrics is not None:
            last = [metrics["total"].numpy(), metrics["grad_norm"].numpy()]
        checkpoint.keep(run, host, step, spent, ADVICE, *last)

    told: set[str] = set()

    def report() -> dict[str, Any]:
        result = _report(config, run, state, crops, step, spent)
        for note in pictures.save(run, config, state["params"], result):
            if note not in told and not quiet:
                tqdm.write(f"{run}: {note}", file=sys.stderr)
            told.add(note)
        return result

    with stop.catching(), writer.as_default(), bar:
        for images in _batches(config, patches, step):
            spent = before + time.monotonic() - started
            progress = step / config.run.steps
            if minutes is not None:
                progress = max(progress, spent / (60 * minutes))
            if stop.asked or progress >= 1:
                break
            scalars = {k: tf.constant(v) for k, v in schedule.scalars(tree, step, progress).items()}
            if labels is not None:
                scalars["labels"] = tf.constant(data.labels_at(config, patches, labels, step))
            state, metrics = one_step(state, images, make_noise(tf.constant(step, tf.int32)), scalars)
            step += 1
            bar.update(1)
            if step % LOOK_STEPS == 0:
                checkpoint.require_finite(
                    run, step, ADVICE, metrics["total"].numpy(), metrics["grad_norm"].numpy()
                )
                _show(config, run, bar, metrics, step)
            if step % config.run.validate_steps == 0:
                result = report()
            if time.monotonic() - saved > 60 * config.run.checkpoint_minutes:
                keep()
                saved = time.monotonic()
        spent = before + time.monotonic() - started
        keep()
        if result.get("step") != step:
            result = report()
    writer.close()
    stop.report(run, step)
    return result


def _resumed_config(run: Path, overrides: tuple[str, ...]) -> tuple[Config, bool]:
    """A run's configuration with changes, and whether its levels have other lambdas than before."""
    before, config = checkpoint.load_run_config(run), checkpoint.load_run_config(run, overrides)
    fixed = [(c.transforms, c.entropy, len(c.levels.lambdas)) for c in (before, config)]
    if fixed[0] != fixed[1]:
        raise TrainingError(
            f"{run}: a run keeps its transforms, entropy model and number of levels when resumed"
        )
    return config, config.levels != before.levels


def _show(config: Config, run: Path, bar: tqdm, metrics: dict[str, tf.Tensor], step: int) -> None:
    """Writes the metrics of a training step: the progress bar, the run's log and TensorBoard."""
    numbers = {name: np.asarray(value, np.float64) for name, value in metrics.items()}
    bpp, psnr = numbers["bpp"], 10 * np.log10(255**2 / np.maximum(numbers["mse"], 1e-9))
    more = [name for name in ("adversarial", "discriminator") if name in numbers]
    scalars = {"loss": float(numbers["total"]), "grad_norm": float(numbers["grad_norm"])}
    scalars.update({name: float(numbers[name]) for name in more})
    middle = len(bpp) // 2
    rate = bar.format_dict["rate"] or 0
    bar.set_postfix_str(
        f"loss {scalars['loss']:.3f}, {bpp[middle]:.3f} bpp, {psnr[middle]:.2f} dB, "
        + "".join(f"{name} {scalars[name]:.3f}, " for name in more)
        + f"{rate * config.data.batch * config.data.crop**2 / 1e6:.2f} Mpixel/s"
    )
    pictures.log_step(run, {"step": step, **scalars, "bpp": bpp.tolist(), "psnr": psnr.tolist()})
    for name, value in scalars.items():
        tf.summary.scalar(f"train/{name}", value, step)
    for level in range(len(bpp)):
        tf.summary.scalar(f"train/bpp/{level}", bpp[level], step)
        tf.summary.scalar(f"train/psnr/{level}", psnr[level], step)


def _report(
    config: Config, run: Path, state: State, crops: npt.NDArray[np.uint8], step: int, spent: float
) -> dict[str, Any]:
    """Validates the averaged weights; writes the log line, the scalars and a picture."""
    result = {"step": step, "seconds": round(spent, 1), **validate(config, state["ema"], crops)}
    pictures.append(run / LOG, result)
    tf.summary.scalar("validation/loss", result["loss"], step)
    for level, (bpp, psnr) in enumerate(zip(result["bpp"], result["psnr"], strict=True)):
        tf.summary.scalar(f"validation/bpp/{level}", bpp, step)
        tf.summary.scalar(f"validation/psnr/{level}", psnr, step)
    middle = len(config.levels.lambdas) // 2
    decoded = model.reconstruct(state["ema"], config, crops[:1], middle)
    tf.summary.image("validation/decoded", tf.clip_by_value(decoded, 0.0, 1.0), step)
    return result
