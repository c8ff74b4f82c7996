"""The last stage of training: entropy model and synthesis learn from the symbols that are really sent.

Up to here every crop was coded at the few trained levels, with noise in place of rounding. Now the analysis
stays as it is; every crop is coded at levels drawn from all usable ones (:mod:`codec_cli.training.spread`),
with the encoder's rate-distortion-optimised quantization, and the context networks learn the likelihood of
those symbols, the synthesis to decode them. Far cheaper a step than the stage before: what two cores can do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from codec_cli.errors import TrainingError
from codec_cli.training import (
    checkpoint,
    context,
    data,
    losses,
    model,
    networks,
    pictures,
    prior,
    schedule,
    sensitivity,
)
from codec_cli.training.checkpoint import DISTORTION_WEIGHT
from codec_cli.training.config import Config, Transforms
from codec_cli.training.networks import Arrays
from codec_cli.training.regroup import regroup, require_splits
from codec_cli.training.spread import spread
from codec_cli.training.step import State, adam, init_state
from codec_cli.training.stopping import Stop

# Apart from those of `codec train`, which may go on from the same directory.
LOG = "finish.jsonl"
ADVICE = "Begin anew, with a lower --learning-rate"
# Steps between lines of the training log.
LOOK_STEPS = 10
# Levels that each crop of a step is coded at.
LEVELS_PER_CROP = 2
# Learning rates, in those of the synthesis. A level's own biases are seen in few steps.
MULTIPLIERS = {
    "context/": 5.0,
    "context-bias/": 150.0,
    "gain/": 25.0,
}
TRAINED = ("context/", "synthesis/", "gain/inverse")


def finished_config(config: Config, *, strength: float, learning_rate: float, crop: int) -> Config:
    """The configuration of a finishing run: short, from a low rate down.

    Args:
        config: Of :func:`~codec_cli.training.spread.spread`.
        strength: Of the encoder's optimisation, above 0.
        learning_rate: Of the synthesis.
        crop: Side of crops in pixels.
    """
    optimizer = config.optimizer.model_copy(
        update={
            "learning_rate": learning_rate,
            "final_learning_rate": learning_rate / 100,
            "warmup_steps": 50,
            "decay_start": 0.0,
            "cycle_steps": None,
        }
    )
    # Not this stage's batch: what training on from here would take, all levels in every one.
    section = config.data.model_copy(update={"crop": crop, "batch": config.levels.usable})
    run = config.run.model_copy(update={"rdoq": strength, "decoder_rounding": 0.0})
    return Config.model_validate(
        config.model_copy(update={"optimizer": optimizer, "data": section, "run": run}).model_dump()
    )


def drawn_levels(config: Config, batch: int, step: int) -> npt.NDArray[np.int32]:
    """Levels of the crops of a step, int32 (batch * LEVELS_PER_CROP,), a pure function of (seed, step)."""
    rng = np.random.Generator(np.random.Philox(key=config.seed + 1, counter=step << 64))
    return rng.integers(0, config.levels.usable, batch * LEVELS_PER_CROP).astype(np.int32)


def transmit(
    params: networks.Params, config: Config, images: tf.Tensor, chosen: tf.Tensor, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Crops at the levels drawn for them, through the encoder's own choice of symbols.

    Args:
        params: All parameters by name.
        config: From :func:`finished_config`.
        images: uint8 (batch, crop, crop, channels).
        chosen: int32 (batch * n,), n levels for the first crop, then n for the second, and so on.
        dtype: Precision of convolutions.

    Returns:
        Originals and decoded images, float32 (batch * n, crop, crop, channels), nominally in [0, 1]; bits per
        pixel, float32 (batch * n,).
    """
    target = tf.cast(images, tf.float32) / 255.0
    latents = tf.stop_gradient(networks.analysis(params, config.transforms, target, dtype))
    repeats = chosen.shape[0] // images.shape[0]
    latents, target = (tf.repeat(value, repeats, 0) for value in (latents, target))
    shares = tf.one_hot(chosen, config.levels.usable)
    forward, inverse = (tf.exp(tf.gather(params[f"gain/{side}"], chosen)) for side in ("forward", "inverse"))
    worth = tf.gather(params[DISTORTION_WEIGHT], chosen) / config.run.rdoq
    scaled = latents * forward[:, None, None, :]
    symbols, bits = context.sent(
        params, config, scaled, worth, shares, _static(params, config, chosen), dtype
    )
    decoded = networks.synthesis(
        params, config.transforms, symbols * inverse[:, None, None, :], shares, dtype
    )
    return target, decoded, bits / (images.shape[1] * images.shape[2])


def _static(params: networks.Params, config: Config, chosen: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Bits of the first pass's symbols, float32 (n, height, width, channels)."""
    size, deep = config.entropy.context.groups[0], config.entropy.prior == "deep"
    mine: networks.Params = {}
    for name, value in params.items():
        if name.startswith("prior/"):
            # The deep family has its levels and channels on one axis.
            row = value.shape[1:] if deep else ()
            picked = tf.gather(tf.reshape(value, (config.levels.usable, size, *row)), chosen)
            mine[name] = tf.reshape(picked, (-1, *row)) if deep else picked
    density = prior.build_prior(mine, (chosen.shape[0], size), config.entropy)

    def bits(symbols: tf.Tensor) -> tf.Tensor:
        # (1, n, height, width, channels) -> (1, height, width, n, channels)
        return tf.transpose(prior.bits(density, symbols[None])[0], (2, 0, 1, 3))

    return bits


def finish(
    config: Config,
    params: Arrays,
    run: Path,
    *,
    minutes: float,
    strength: float,
    learning_rate: float = 3e-5,
    crop: int = 256,
    batch: int = 8,
    groups: list[int] | None = None,
    cache_dir: Path | None = None,
    quiet: bool = False,
) -> list[dict[str, float]]:
    """Finishes a trained context model; the run can be exported as any other.

    Args:
        config: The model's configuration, with where the data lie.
        params: Its averaged weights.
        run: Directory of the new run; must not hold one.
        minutes: Length of the training, to which the learning rate's fall is fitted.
        strength: Of the encoder's optimisation that is trained for, above 0.
        learning_rate: Of the synthesis.
        crop: Side of crops in pixels.
        batch: Crops of a step.
        groups: Channels of finer groups (:mod:`codec_cli.training.regroup`); those of the model by default.
        cache_dir: Of decoded patches; ``RUN/cache`` by default.
        quiet: No progress bar.

    Returns:
        Of the validation crops at some levels, before and then after: see :func:`measure`. Both are in the
        run's log too.

    Raises:
        TrainingError: Another kind of model, or one with a discriminator or labels; no data, a crop or groups
            that do not fit, or a run in the way; a loss that is not finite; Ctrl-C.
    """
    _require_fit(config)
    checkpoint.require_none(run)
    if crop % config.transforms.stride:
        raise TrainingError(f"crops must be multiples of {config.transforms.stride} pixels, not {crop}")
    if groups is not None:
        require_splits(config.entropy.context.groups, groups)
    # A model that was finished before has no levels between.
    wide, start = spread(config, params) if config.levels.between else (config, params)
    wide = finished_config(wide, strength=strength, learning_rate=learning_rate, crop=crop)
    run.mkdir(parents=True, exist_ok=True)
    patches = data.load_patches(wide, cache_dir or run / "cache", quiet)
    if groups is not None:
        wide, start = regroup(wide, start, groups, patches)
    state = sensitivity.fit(wide, init_state(start), patches)
    before = measure(wide, tf.nest.map_structure(tf.constant, state["ema"]), data.validation_crops(wide))
    pictures.append(run / LOG, {"step": 0, "seconds": 0, "minutes": minutes, "batch": batch, "rows": before})
    checkpoint.save_run_config(run, wide)
    checkpoint.save(run, state, 0, 0.0)
    return before + _learn(run, wide, state, patches, minutes=minutes, batch=batch, quiet=quiet)


def resume(
    run: Path, *, minutes: float | None = None, cache_dir: Path | None = None, quiet: bool = False
) -> list[dict[str, float]]:
    """Continues a run of :func:`finish` that was stopped, as it was begun.

    Args:
        run: Its directory.
        minutes: Another length of the whole training, with what is over.
        cache_dir: Of decoded patches; ``RUN/cache`` by default.
        quiet: No progress bar.

    Returns:
        As :func:`finish`: the start of the whole run, and its end.

    Raises:
        TrainingError: There is no such run, or its start is unknown; for the rest see :func:`finish`.
    """
    config = checkpoint.load_run_config(run)
    state, step, spent = checkpoint.load(run)
    first = next(iter(pictures.read_log(run / LOG)), {})
    if not {"minutes", "batch", "rows"} <= first.keys() or "m" not in state:
        raise TrainingError(
            f"{run}: no run that `codec finish` can resume ({LOG} does not begin with its start); "
            "finish it into a new directory"
        )
    patches = data.load_patches(config, cache_dir or run / "cache", quiet)
    length = first["minutes"] if minutes is None else minutes
    batch = first["batch"]
    return first["rows"] + _learn(
        run, config, state, patches, minutes=length, batch=batch, quiet=quiet, step=step, over=spent
    )


def _learn(
    run: Path,
    config: Config,
    arrays: dict[str, Arrays],
    patches: npt.NDArray[np.uint8],
    *,
    minutes: float,
    batch: int,
    quiet: bool,
    step: int = 0,
    over: float = 0.0,
) -> list[dict[str, float]]:
    """Steps until the time is up, with checkpoints; then the rows of :func:`measure`, logged.

    Args:
        run: Directory of the run.
        config: From :func:`finished_config`.
        arrays: State to start from.
        patches: Training patches.
        minutes: Length of the whole training.
        batch: Crops of a step.
        quiet: No progress bar.
        step: Steps done.
        over: Seconds spent on them.
    """
    state: State = tf.nest.map_structure(tf.constant, arrays)
    one_step = _stepping(config, sorted(name for name in state["params"] if name.startswith(TRAINED)))
    drawing = config.model_copy(update={"data": config.data.model_copy(update={"batch": batch})})
    tree, begun, saved, spent = config.model_dump(), time.monotonic(), time.monotonic(), over
    stop = Stop()
    with stop.catching(), tqdm(initial=step, disable=quiet, unit="step", dynamic_ncols=True) as bar:
        while spent < 60 * minutes and not stop.asked:
            scalars = schedule.scalars(tree, step, spent / (60 * minutes))
            state, total = one_step(
                state,
                tf.constant(data.batch_at(drawing, patches, step)),
                tf.constant(drawn_levels(config, batch, step)),
                {name: tf.constant(value) for name, value in scalars.items()},
            )
            step += 1
            bar.update(1)
            loss = float(total)
            checkpoint.require_finite(run, step, ADVICE, loss)
            bar.set_postfix_str(f"loss {loss:.3f}")
            if step % LOOK_STEPS == 0:
                rate = float(scalars["learning_rate"])
                pictures.append(run / LOG, {"step": step, "loss": loss, "learning_rate": rate})
            spent = over + time.monotonic() - begun
            if time.monotonic() - saved > 60 * config.run.checkpoint_minutes:
                saved = time.monotonic()
                checkpoint.keep(run, _host(state), step, spent, ADVICE)
        checkpoint.keep(run, _host(state), step, spent, ADVICE)
    stop.report(run, step)
    rows = measure(config, state["ema"], data.validation_crops(config))
    pictures.append(run / LOG, {"step": step, "seconds": round(spent, 1), "rows": rows})
    return rows


def _host(state: State) -> dict[str, Arrays]:
    arrays: dict[str, Arrays] = tf.nest.map_structure(lambda value: value.numpy(), state)
    return arrays


def _stepping(config: Config, names: list[str]) -> Callable[..., tuple[State, tf.Tensor]]:
    """A training step (state, images, levels, scalars) -> (state, loss) of the parameters named."""
    dtype = networks.precision(config)
    weights = tf.constant(model.level_weights(config))
    lambdas = tf.constant(np.asarray(config.levels.lambdas, np.float32))
    steering = config.model_copy(
        update={"optimizer": config.optimizer.model_copy(update={"multipliers": _multipliers(names)})}
    )
    betas = (config.optimizer.beta1, config.optimizer.beta2)

    @tf.function(autograph=False)
    def one_step(
        state: State, images: tf.Tensor, chosen: tf.Tensor, scalars: dict[str, tf.Tensor]
    ) -> tuple[State, tf.Tensor]:
        now = state["params"]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([now[name] for name in names])
            original, decoded, bpp = transmit(now, config, images, chosen, dtype)
            worse = tf.gather(lambdas, chosen) * losses.distortion(config, original, decoded, dtype)
            total = tf.reduce_mean((bpp + worse) * tf.gather(weights, chosen))
        gradients = dict(zip(names, tape.gradient(total, [now[name] for name in names]), strict=True))
        new: State = {part: dict(values) for part, values in state.items()}
        corrections = (scalars["correction1"], scalars["correction2"])
        adam(steering, state, new, gradients, betas, corrections, scalars["learning_rate"])
        for name in names:
            new["ema"][name] = (
                scalars["ema"] * state["ema"][name] + (1 - scalars["ema"]) * new["params"][name]
            )
        return new, total

    return one_step


def _require_fit(config: Config) -> None:
    """Raises :class:`TrainingError` for what this stage does not know, rather than to spoil it."""
    special = [name for name in ("adversarial", "labels") if getattr(config, name) is not None]
    if config.entropy.kind != "context" or not isinstance(config.transforms, Transforms):
        raise TrainingError("only context models of transforms of kind stages can be finished")
    if special:
        raise TrainingError(
            f"models with the section {' or '.join(special)} can't be finished: this stage does not know it"
        )


def _multipliers(names: list[str]) -> dict[str, float]:
    """Learning-rate factors by name, biases of single levels before what is shared."""
    biases = {
        name: MULTIPLIERS["context-bias/"] for name in names if name.startswith("context/") and "bias" in name
    }
    return {**biases, "context/": MULTIPLIERS["context/"], "gain/": MULTIPLIERS["gain/"]}


def measure(config: Config, params: networks.Params, crops: npt.NDArray[np.uint8]) -> list[dict[str, float]]:
    """What validation crops cost at about twelve levels, in float32.

    Args:
        config: From :func:`finished_config`.
        params: All parameters by name.
        crops: uint8 (n, height, width, channels).

    Returns:
        A row for each level: ``level``; ``bpp``, by the model's density; ``psnr`` in dB, of the mean squared
        error; ``loss``, bits per pixel and lambda times the distortion.
    """
    rows = []
    for level in range(0, config.levels.usable, max(1, config.levels.usable // 12)):
        found = []
        for crop in crops:
            original, decoded, bpp = transmit(
                params, config, tf.constant(crop[None]), tf.constant([level]), tf.float32
            )
            worse = config.levels.lambdas[level] * losses.distortion(config, original, decoded, tf.float32)
            mse = tf.reduce_mean(tf.square(decoded - original))
            found.append([float(bpp[0]), float(mse), float(bpp[0] + worse[0])])
        bpp, mse, loss = np.mean(found, 0)
        decibels = float(-10 * np.log10(max(mse, 1e-13)))
        rows.append({"level": float(level), "bpp": float(bpp), "psnr": decibels, "loss": float(loss)})
    return rows
