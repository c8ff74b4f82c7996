"""Export: a run's averaged weights -> a model folder that compress and decompress use.

Tables come from symbol counts on training patches, for every usable level, interpolated ones too. The
result is checked against the TensorFlow model before the folder appears under its name.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from codec_cli import zoo
from codec_cli.bitstream.context import ContextModel
from codec_cli.bitstream.entropy import Tables
from codec_cli.bitstream.quantize import nearest
from codec_cli.bitstream.walk import Walk
from codec_cli.codec import Codec
from codec_cli.errors import TrainingError
from codec_cli.loading import load_entropy_model
from codec_cli.training import checkpoint, data, gdn, integer, levels, lite, networks, tables
from codec_cli.training.checkpoint import DISTORTION_WEIGHT
from codec_cli.training.config import Config, Listed
from codec_cli.training.networks import Arrays
from codec_cli.training.sensitivity import distortion_weights, patch_latents, sample

CENTRE = 1500
# Latent positions to count symbols at, for transforms of small images.
LISTED_POSITIONS = 60000
# Walks through the passes take milliseconds each, however small the patch.
MAX_WALKS = 2000
CARD = "README.md"


def _symbols(latents: npt.NDArray[np.float32], gain: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return nearest(latents * gain)


def _histograms(index: npt.NDArray[Any], values: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """Counts of values within -CENTRE..CENTRE, by table; float64 (count, 2 * CENTRE + 1)."""
    width = 2 * CENTRE + 1
    inside = np.abs(values) <= CENTRE
    places = index[inside].astype(np.int64) * width + values[inside] + CENTRE
    return np.bincount(places, minlength=count * width).reshape(count, width).astype(np.float64)


def _first_tables(
    config: Config, params: Arrays, latents: npt.NDArray[np.float32], gains: npt.NDArray[np.float32]
) -> list[Tables]:
    """Tables of the factorized pass for every usable level."""
    context = config.entropy.kind == "context"
    channels = config.entropy.context.groups[0] if context else config.transforms.latent_channels
    constants = {name: tf.constant(value) for name, value in params.items() if name.startswith("prior/")}
    densities = tables.prior_densities(config, constants, gains, channels, CENTRE)
    index = np.broadcast_to(np.arange(channels), (*latents.shape[:3], channels)).reshape(-1)
    out = []
    for level, density in enumerate(densities):
        values = _symbols(latents[..., :channels], gains[level, :channels]).astype(np.int32).reshape(-1)
        out.append(tables.build(list(_histograms(index, values, channels)), density, CENTRE))
    return out


def _bank(
    model: ContextModel, latents: npt.NDArray[np.float32], gains: npt.NDArray[np.float32], quiet: bool
) -> Tables:
    """The bank's tables, from what each (scale, fraction) really saw over all levels."""
    count = len(model.bank.lengths)
    histogram = np.zeros((count, 2 * CENTRE + 1))
    for level in tqdm(range(len(gains)), desc="tables", disable=quiet, leave=False):
        indices, values = [], []
        # Every level sees every third patch: enough counts in a third of the time.
        for patch in latents[level % min(3, len(latents)) :: 3][:MAX_WALKS]:
            symbols = _symbols(patch, gains[level])
            walk = Walk(model, symbols.shape[0], symbols.shape[1], level)
            for part in walk:
                coded = symbols[part.rows, part.columns, part.channels].astype(np.int32)
                if part.tables is model.bank:
                    indices.append(part.table)
                    values.append(coded.reshape(-1) - part.centre)
                walk.fill(coded)
        histogram += _histograms(np.concatenate(indices), np.concatenate(values), count)
    return tables.build(list(histogram), tables.bank_densities(CENTRE), CENTRE)


def build_tables(
    config: Config, params: Arrays, patches: npt.NDArray[np.uint8], quiet: bool = False
) -> dict[str, npt.NDArray]:
    """All arrays of ``tables.npz``.

    Args:
        config: The configuration.
        params: Averaged weights, transforms rounded to fp16.
        patches: uint8 (n, side, side, channels), training patches.
        quiet: No progress bar.
    """
    forward, inverse = levels.gains(config, params)
    arrays: dict[str, npt.NDArray] = {
        "gain": forward,
        "inverse_gain": inverse,
        "level_weights": levels.hat_weights(config),
    }
    latents = patch_latents(config, params, patches)
    first = _first_tables(config, params, latents, forward)
    arrays.update({f"first/{part}": value for part, value in tables.flat(first).items()})
    if config.entropy.kind == "context":
        arrays["magnitude"] = integer.magnitude_table()
        arrays.update(integer.quantize_networks(config, params))
        densities = tables.bank_densities(CENTRE)
        start = tables.build([np.zeros(2 * CENTRE + 1)] * len(densities), densities, CENTRE)
        arrays.update({f"bank/{part}": value for part, value in tables.flat([start]).items()})
        info = zoo.ModelInfo("", Path(), _facts(config))
        info.__dict__["tables"] = arrays
        model = load_entropy_model(info)
        if not isinstance(model, ContextModel):
            raise AssertionError("a context configuration must give a context model")
        model.check_bounds()
        bank = _bank(model, latents, forward, quiet)
        arrays.update({f"bank/{part}": value for part, value in tables.flat([bank]).items()})
    return arrays


def half_precision_cost(
    codec: Codec, config: Config, exact: Arrays, half: Arrays, images: list[npt.NDArray[np.uint8]]
) -> float | None:
    """BD-rate in percent that rounding the transforms to fp16 costs; None where curves are too short.

    Both sides run in TensorFlow and are coded with the exported tables, at about eight of the trained levels.
    """
    from codec_cli.evaluation.bdrate import NoOverlap, bd_rate

    forward, inverse = levels.gains(config, exact)
    hats = levels.hat_weights(config)
    step = config.levels.between + 1
    trained = range(0, config.levels.usable, step * max(1, len(config.levels.lambdas) // 8))
    entropy = codec._load(codec.info).entropy
    stride = config.transforms.stride
    curves = []
    for params in (exact, half):
        constants = {name: tf.constant(value) for name, value in params.items()}
        points = np.zeros((len(trained), 2))
        for image in images:
            height, width = (min(size, 64 * stride) // stride * stride for size in image.shape[:2])
            original = image[:height, :width].astype(np.float32) / 255
            latents = networks.analysis(constants, config.transforms, tf.constant(original[None])).numpy()[0]
            for i, level in enumerate(trained):
                symbols = _symbols(latents, forward[level])
                restored = symbols.astype(np.float32) * inverse[level]
                decoded = networks.synthesis(
                    constants, config.transforms, tf.constant(restored[None]), tf.constant(hats[level][None])
                ).numpy()[0]
                error = np.mean((np.clip(decoded, 0, 1) - original) ** 2)
                bits = 8 * len(entropy.encode(symbols, level))
                points[i] += [bits / (height * width), -10 * np.log10(error)]
        curves.append(points / len(images))
    try:
        return float(bd_rate(curves[0][:, 0], curves[0][:, 1], curves[1][:, 0], curves[1][:, 1]))
    except NoOverlap:
        return None


def _facts(config: Config) -> dict[str, Any]:
    analysis_halo, synthesis_halo = networks.halo(config.transforms)
    return {
        "format": zoo.MODEL_FORMAT,
        "kind": config.entropy.kind,
        "levels": config.levels.usable,
        "trained_levels": len(config.levels.lambdas),
        "stride": config.transforms.stride,
        "channels": config.transforms.channels,
        "latent_channels": config.transforms.latent_channels,
        "groups": config.entropy.context.groups if config.entropy.kind == "context" else [],
        "analysis_halo": analysis_halo,
        "synthesis_halo": synthesis_halo,
        "default_level": config.levels.usable // 2,
        **({"size": config.transforms.size} if isinstance(config.transforms, Listed) else {}),
    }


def compare_with_tensorflow(
    codec: Codec, config: Config, params: Arrays, images: list[npt.NDArray[np.uint8]]
) -> dict[str, float]:
    """How closely the exported model agrees with TensorFlow running the same fp16-rounded weights.

    Returns:
        ``equal_symbols`` (fraction, worst over three levels) and ``pixel_difference`` (largest, on [0, 1],
        from equal symbols).
    """
    forward, inverse = levels.gains(config, params)
    hats = levels.hat_weights(config)
    constants = {name: tf.constant(value) for name, value in params.items()}
    equal, difference = 1.0, 0.0
    session = codec._load(codec.info).synthesis
    for image in images:
        stride = config.transforms.stride
        height, width = (min(size, 64 * stride) // stride * stride for size in image.shape[:2])
        cut = np.ascontiguousarray(image[:height, :width])
        exact = networks.analysis(
            constants, config.transforms, tf.constant(cut[None], tf.float32) / 255.0
        ).numpy()[0]
        ours = next(codec.latents(cut))
        for level in (0, len(hats) // 2, len(hats) - 1):
            symbols = _symbols(exact, forward[level])
            equal = min(equal, float(np.mean(symbols == _symbols(ours, forward[level]))))
            restored = symbols.astype(np.float32) * inverse[level]
            reference = networks.synthesis(
                constants, config.transforms, tf.constant(restored[None]), tf.constant(hats[level][None])
            ).numpy()
            decoded = session(restored[None], hats[level][None])
            difference = max(
                difference, float(np.abs(np.clip(reference, 0, 1) - np.clip(decoded, 0, 1)).max())
            )
    return {"equal_symbols": equal, "pixel_difference": difference}


def export_run(
    run: Path,
    target: Path,
    *,
    overrides: tuple[str, ...] = (),
    cache_dir: Path | None = None,
    provenance: dict[str, Any] | None = None,
    table_patches: int = 300,
    quiet: bool = False,
) -> zoo.ModelInfo:
    """Writes a model folder from a run.

    Args:
        run: Directory with a checkpoint and its configuration.
        target: The new folder, such as ``models/photo-1``; must not exist.
        overrides: ``section.field=value`` texts, such as where the data lies now.
        cache_dir: Of decoded patches; ``RUN/cache`` by default.
        provenance: Facts of the training to keep: hardware, data.
        table_patches: Training patches whose symbols are counted.
        quiet: No progress bars.

    Returns:
        The new model.

    Raises:
        TrainingError: The run is incomplete, or the export does not agree with TensorFlow.
    """
    if target.exists():
        raise TrainingError(f"{target}: exists; released models never change, choose a new name")
    state, step, seconds = checkpoint.load(run)
    config = checkpoint.load_run_config(run, overrides)
    if config.entropy.kind == "none":
        raise TrainingError(
            f"{run}: a plain autoencoder has no entropy model; see --format for what it can be"
        )
    state["ema"].pop(DISTORTION_WEIGHT, None)
    params = lite.round_half(state["ema"])
    patches = data.load_patches(config, cache_dir or run / "cache", quiet)
    is_listed = isinstance(config.transforms, Listed)
    if isinstance(config.transforms, Listed):
        # A small image gives a symbol or a few for each table, a photograph's patch hundreds.
        rows, columns, _ = config.transforms.latent_shape
        table_patches = max(table_patches, LISTED_POSITIONS // (rows * columns))
    chosen = np.random.default_rng(config.seed).permutation(len(patches))[:table_patches]
    arrays = build_tables(config, params, np.stack([patches[i] for i in chosen]), quiet)
    analysis, synthesis = lite.convert(config, params)

    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        (temporary / zoo.ANALYSIS).write_bytes(analysis)
        (temporary / zoo.SYNTHESIS).write_bytes(synthesis)
        np.savez_compressed(temporary / zoo.TABLES, **arrays)
        few = sample(config, patches)
        np.savez_compressed(
            temporary / zoo.ENCODER, distortion_weight=distortion_weights(config, params, few)
        )
        half = {
            # Of beta and gamma the root is stored, of which fp16 would be another rounding.
            name: value
            if name.startswith(("gain/", "prior/")) or gdn.is_parameter(name)
            else value.astype(np.float16)
            for name, value in params.items()
        }
        np.savez_compressed(temporary / zoo.WEIGHTS, **half)
        facts = _facts(config)
        facts["fingerprint"] = zoo.fingerprint(facts, arrays, synthesis)
        facts["config"] = json.loads(config.model_dump_json())
        for machine_field in ("path", "data_dir", "validation"):
            facts["config"]["data"][machine_field] = None
        facts["training"] = {
            "steps": step,
            "seconds": round(seconds),
            "exported_on": platform.machine(),
            "tensorflow": tf.__version__,
            **(provenance or {}),
        }
        facts["files"] = {
            name: hashlib.sha256((temporary / name).read_bytes()).hexdigest()
            for name in (zoo.ANALYSIS, zoo.SYNTHESIS, zoo.TABLES, zoo.ENCODER, zoo.WEIGHTS)
        }
        _write_facts(temporary, facts)
        codec = Codec(zoo.read_info(temporary))
        validation = data.validation_images(config)
        large = [image for image in validation if min(image.shape[:2]) >= config.transforms.stride]
        agreement = (
            compare_with_tensorflow(codec, config, params, large[: 256 if is_listed else 3]) if large else {}
        )
        if agreement and (agreement["equal_symbols"] < 0.999 or agreement["pixel_difference"] > 1 / 255):
            raise TrainingError(f"{target}: the exported model differs from TensorFlow: {agreement}")
        if large:
            cost = half_precision_cost(codec, config, state["ema"], params, large[:2])
            if cost is not None:
                agreement["fp16_bd_rate_percent"] = round(cost, 4)
        facts["agreement"] = agreement
        if validation:
            facts["validation"] = _measure(codec, validation, quiet)
            rates = np.array([row["bpp"] for row in facts["validation"]])
            if not is_listed:
                facts["default_level"] = int(np.argmin(np.abs(rates - 0.6)))
        _write_facts(temporary, facts)
        (temporary / CARD).write_text(_card(target.name, facts))
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return zoo.read_info(target)


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    (folder / zoo.DESCRIPTION).write_text(json.dumps(facts, indent=1) + "\n")


def _measure(codec: Codec, images: list[npt.NDArray[np.uint8]], quiet: bool) -> list[dict[str, float]]:
    """Mean rate and PSNR of every usable level on validation images, through real files."""
    from codec_cli.evaluation.metrics import psnr
    from codec_cli.pictures.images import Picture

    rows = []
    latents = [list(codec.latents(image)) for image in images]
    for level in tqdm(range(codec.info.levels), desc="measuring", disable=quiet, leave=False):
        rates, qualities = [], []
        for image, latent in zip(images, latents, strict=True):
            encoded = codec.pack(Picture(image), latent, level)
            rates.append(8 * len(encoded) / (image.shape[0] * image.shape[1]))
            qualities.append(psnr(image, codec.decode(encoded).reshape(image.shape)))
        rows.append(
            {
                "level": level,
                "bpp": round(float(np.mean(rates)), 5),
                "psnr_rgb_db": round(float(np.mean(qualities)), 4),
            }
        )
    return rows


def _trained_text(facts: dict[str, Any]) -> str:
    if facts["trained_levels"] == facts["levels"]:
        return "all trained"
    return f"{facts['trained_levels']} trained, the others interpolated"


def _half_text(agreement: dict[str, float]) -> str:
    if "fp16_bd_rate_percent" not in agreement:
        return ""
    return f" Rounding the weights to fp16 costs {agreement['fp16_bd_rate_percent']:.3f} % BD-rate."


def _size_text(facts: dict[str, Any]) -> str:
    return f", for images of {facts['size']}x{facts['size']} only" if "size" in facts else ""


def _card(name: str, facts: dict[str, Any]) -> str:
    """The model card; figures come from the export's own measurement."""
    training, config = facts["training"], facts["config"]
    lines = [
        f"# {name}",
        "",
        f"A `{facts['kind']}` model of {facts['levels']} quality levels ({_trained_text(facts)}), "
        f"{facts['latent_channels']} latent channels at 1/{facts['stride']} of the image's resolution"
        f"{_size_text(facts)}. Fingerprint `{facts['fingerprint'][:8]}`.",
        "",
        "## Training",
        "",
        f"Configuration `{config['name']}`, {training['steps']} steps, "
        f"{training['seconds'] / 60:.0f} minutes.",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in training.items() if key not in ("steps", "seconds")]
    lines += ["", "Weights: Apache-2.0, like the tool.", ""]
    if facts.get("agreement"):
        agreement = facts["agreement"]
        lines += [
            "## Export",
            "",
            f"Against TensorFlow with the same fp16 weights: {100 * agreement['equal_symbols']:.3f} % equal "
            f"symbols (worst of three images and three levels); from equal symbols, pixels within "
            f"{255 * agreement['pixel_difference']:.4f}/255.{_half_text(agreement)}",
            "",
        ]
    if facts.get("validation"):
        lines += [
            "## Measured at export",
            "",
            "Mean over the validation images, bytes on disk, PSNR over R'G'B'.",
            "",
            "| level | bits per pixel | PSNR, dB |",
            "|---:|---:|---:|",
        ]
        step = max(1, len(facts["validation"]) // 12)
        lines += [
            f"| {row['level']} | {row['bpp']:.3f} | {row['psnr_rgb_db']:.2f} |"
            for row in facts["validation"][::step]
        ]
        lines.append("")
    return "\n".join(lines)
