"""A model in memory: its folder's files turned into transforms, gains and entropy coder."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.context import ContextModel, FactorizedModel, Layer, Network
from codec_cli.bitstream.entropy import Tables
from codec_cli.errors import ModelError
from codec_cli.transforms import Floats, Session
from codec_cli.zoo import ANALYSIS, ENCODER, SYNTHESIS, ModelInfo

MAX_GAIN = 1e30


def load_entropy_model(info: ModelInfo, threads: int = 1) -> ContextModel | FactorizedModel:
    """Builds a model's entropy coder from its stored integers (raises :class:`ModelError`)."""
    arrays = info.tables
    try:
        if info.kind == "factorized":
            return FactorizedModel(_level_tables(arrays, info.levels, info.facts["latent_channels"]))
        groups = tuple(int(size) for size in info.facts["groups"])
        networks = {}
        for g in range(len(groups)):
            for h in (0, 1):
                if (g, h) != (0, 0):
                    layers = [_layer(arrays, f"pass-{g}-{h}/layer{i}") for i in range(3)]
                    networks[g, h] = Network((layers[0], layers[1], layers[2]))
        model = ContextModel(
            groups,
            _level_tables(arrays, info.levels, groups[0]),
            Tables(arrays["bank/offsets"], arrays["bank/lengths"], arrays["bank/counts"]),
            arrays["magnitude"].astype(np.float32),
            networks,
            threads,
        )
        model.check_shapes(info.levels, int(info.facts["latent_channels"]))
        return model
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelError(f"{info.path}: the entropy tables are incomplete") from error


def _level_tables(arrays: dict[str, npt.NDArray[Any]], levels: int, channels: int) -> tuple[Tables, ...]:
    offsets, lengths, counts = (arrays[f"first/{part}"] for part in ("offsets", "lengths", "counts"))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    out = []
    for level in range(levels):
        begin, end = level * channels, (level + 1) * channels
        out.append(Tables(offsets[begin:end], lengths[begin:end], counts[starts[begin] : starts[end]]))
    return tuple(out)


def _layer(arrays: dict[str, npt.NDArray[Any]], name: str) -> Layer:
    kernel, bias, shift = parts = [arrays[f"{name}/{part}"] for part in ("kernel", "bias", "shift")]
    if (
        any(part.dtype.kind != "i" for part in parts)
        or shift.min(initial=0) < 0
        or shift.max(initial=0) > 127
    ):
        raise ValueError("no integers, or shifts to the left")
    return Layer(kernel.astype(np.float32), bias.astype(np.float32), np.exp2(-shift.astype(np.float32)))


def _for_squared_errors(info: ModelInfo) -> bool:
    """Whether a model was trained for mean squared error alone; one that does not say so counts as that."""
    config = info.facts.get("config")
    losses = config.get("losses") if isinstance(config, dict) else None
    if not isinstance(losses, list):
        return True
    return all(isinstance(loss, dict) and loss.get("name") == "mse" for loss in losses)


class Loaded:
    """A model in memory; each part is loaded when it is first needed."""

    def __init__(self, info: ModelInfo, threads: int) -> None:
        self.info = info
        self._threads = threads
        tables = info.tables
        shape = (info.levels, int(info.facts["latent_channels"]))
        try:
            self.gain: Floats = tables["gain"]
            self.inverse_gain: Floats = tables["inverse_gain"]
            self.level_weights: Floats = tables["level_weights"]
        except KeyError as error:
            raise ModelError(f"{info.path}: the tables are incomplete") from error
        trained = (info.levels, int(info.facts["trained_levels"]))
        parts = (self.gain, self.inverse_gain, self.level_weights)
        fit = all(part.shape == wanted for part, wanted in zip(parts, (shape, shape, trained), strict=True))
        if not fit or any(part.dtype != np.float32 for part in parts):
            raise ModelError(f"{info.path}: the gains have the wrong shape")
        # So that no symbol times a gain is beyond float32; false for NaN, too.
        if not all((np.abs(part) < MAX_GAIN).all() for part in parts):
            raise ModelError(f"{info.path}: a gain is too large, or no number")

    @cached_property
    def entropy(self) -> ContextModel | FactorizedModel:
        """The entropy coder."""
        return load_entropy_model(self.info, self._threads)

    @cached_property
    def distortion_weight(self) -> Floats | None:
        """float32 (levels, latent_channels), or None for a model without it.

        None, too, for one that was trained for more than squared errors, which this is the worth of: symbols
        that were optimised for them cost photo-perceptual-1 0.4 to 0.6 % by MS-SSIM and 1.4 % by LPIPS.
        """
        if ENCODER not in self.info.facts["files"] or not _for_squared_errors(self.info):
            return None
        weight = self.info.arrays(ENCODER).get("distortion_weight")
        if weight is None or weight.shape != self.gain.shape:
            raise ModelError(f"{self.info.path / ENCODER}: the weights have the wrong shape")
        return np.asarray(weight, np.float32)

    @cached_property
    def analysis(self) -> Session:
        """The analysis transform."""
        return Session(self.info.read(ANALYSIS), self.info.path / ANALYSIS, self._threads)

    @cached_property
    def synthesis(self) -> Session:
        """The synthesis transform."""
        return Session(self.info.synthesis(), self.info.path / SYNTHESIS, self._threads)

    def forget_transforms(self) -> None:
        """Frees the transforms, whose buffers take hundreds of MB; they load again when needed."""
        for name in ("analysis", "synthesis"):
            self.__dict__.pop(name, None)
