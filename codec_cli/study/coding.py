"""True bits of an autoencoder's latents: rounded, coded with tables and the range coder, decoded again.

A latent of fewer dimensions is not a smaller file: what counts is how finely each dimension must be known.
Here latents are rounded at the coarsest step that the error allows, and become bytes in the same way as the
codec's own (:mod:`codec_cli.bitstream.entropy`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.entropy import Decoder, Encoder, Tables
from codec_cli.errors import CodecError
from codec_cli.study.measure import Floats, Images, decode, encode, errors
from codec_cli.training import tables
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays

__all__ = ["Coded", "Quantiser", "code", "fit", "sensitivities"]

Symbols = npt.NDArray[np.int32]
# Images for sensitivities and for the search of the step.
_PROBES, _JUDGES = 24, 1000
# Symbols stay in what a table may hold.
_LARGEST = 600


@dataclass(frozen=True)
class Quantiser:
    """Rounds latents.

    Attributes:
        mean: float32 (channels,), becomes symbol 0.
        step: float32 (channels,).
    """

    mean: Floats
    step: Floats

    def symbols(self, latents: Floats) -> Symbols:
        """int32 (n, channels) of latents (n, 1, 1, channels)."""
        flat = (latents.reshape(len(latents), -1) - self.mean) / self.step
        return np.asarray(np.clip(np.round(flat), -_LARGEST, _LARGEST), np.int32)

    def latents(self, symbols: Symbols) -> Floats:
        """What a decoder makes of symbols, float32 (n, 1, 1, channels)."""
        return np.asarray((symbols * self.step + self.mean)[:, None, None], np.float32)


@dataclass(frozen=True)
class Coded:
    """Bits of a set of images.

    Attributes:
        bits: Mean per image, all images in one stream: the length of the stream in bytes.
        bits_alone: Mean per image when each is a stream of its own, of whole bytes.
        active: Dimensions that are not the same symbol for every image.
    """

    bits: float
    bits_alone: float
    active: int


def sensitivities(params: Arrays, config: Config, latents: Floats) -> npt.NDArray[np.float64]:
    """By how much the images' MSE grows with a small error in each dimension, over the square of the error.

    Args:
        params: Weights.
        config: Of the autoencoder; its latent is a vector.
        latents: Some images', (n, 1, 1, channels).

    Returns:
        float64 (channels,).
    """
    channels = latents.shape[-1]
    small = 0.05 * latents.reshape(-1, channels).std(0) + 1e-6
    probes = latents[:_PROBES]
    plain = decode(params, config, probes).astype(np.float64)
    moved = np.repeat(probes[None], channels, 0)
    place = np.arange(channels)
    moved[place, :, 0, 0, place] += small[:, None]
    images = decode(params, config, moved.reshape(-1, 1, 1, channels)).astype(np.float64)
    change = np.square(images.reshape(channels, *plain.shape) - plain).mean((1, 2, 3, 4))
    return np.asarray(change / np.square(small))


def fit(params: Arrays, config: Config, images: Images, rise: float) -> Quantiser:
    """The coarsest quantiser whose error is at most ``rise`` above that of latents that are not rounded.

    Steps are in proportion to the inverse root of each dimension's sensitivity: at high rates that is the
    allocation of bits with the least error (every dimension contributes the same).

    Args:
        params: Weights.
        config: Of the autoencoder.
        images: Training images.
        rise: Such as 0.05 for 5 % more MSE.
    """
    latents = encode(params, config, images)
    flat = latents.reshape(len(latents), -1)
    mean, deviation = flat.mean(0), flat.std(0)
    root = np.sqrt(np.maximum(sensitivities(params, config, latents), 1e-12))
    judged, shown = latents[-_JUDGES:], images[-_JUDGES:]
    allowed = (1 + rise) * errors(shown, decode(params, config, judged)).mean()

    def quantiser(scale: float) -> Quantiser:
        # A dimension that nothing depends on gets a step that makes it constant, and not an endless one.
        step = np.minimum(scale / root, 100 * deviation + 1e-6)
        # Nor may a step ask for symbols beyond what tables hold.
        step = np.maximum(step, np.abs(flat - mean).max(0) / _LARGEST + 1e-9)
        return Quantiser(mean.astype(np.float32), step.astype(np.float32))

    low, high = 1e-4, 10.0
    for _ in range(18):
        middle = math.sqrt(low * high)
        rounded = quantiser(middle).latents(quantiser(middle).symbols(judged))
        fine = errors(shown, decode(params, config, rounded)).mean() <= allowed
        low, high = (middle, high) if fine else (low, middle)
    return quantiser(low)


def fit_tables(symbols: Symbols) -> Tables:
    """A table for every dimension: what was counted, smoothed with a logistic density.

    Args:
        symbols: Of training images, int32 (n, channels).
    """
    centre = int(np.abs(symbols).max()) + 8
    histograms, densities = [], []
    for column in symbols.T:
        histograms.append(np.bincount(column + centre, minlength=2 * centre + 1).astype(np.float64))
        # A logistic density's deviation is pi / sqrt(3) times its scale.
        scale = max(float(column.std()) * math.sqrt(3) / math.pi, 0.05)
        densities.append(tables.logistic_mass(math.log2(scale), 0.0, centre))
    return tables.build(histograms, densities, centre)


def code(known: Tables, symbols: Symbols, alone: int = 500) -> Coded:
    """Codes images, decodes them, and says how many bytes there were.

    Args:
        known: From :func:`fit_tables`; its own size does not count, as that of the networks does not.
        symbols: Of test images, int32 (n, channels).
        alone: Number of images that are coded one by one, too.

    Raises:
        CodecError: What was decoded is not what was coded.
    """
    together = _bytes(known, symbols)
    single = [_bytes(known, row[None]) for row in symbols[:alone]]
    active = int((symbols != symbols[0]).any(0).sum())
    return Coded(8 * together / len(symbols), 8 * math.fsum(single) / len(single), active)


def _bytes(known: Tables, symbols: Symbols) -> int:
    index = np.tile(np.arange(symbols.shape[1], dtype=np.int32), len(symbols))
    centre = np.zeros_like(index)
    encoder = Encoder()
    encoder.put(known, index, centre, symbols.reshape(-1))
    segment = encoder.finish()
    decoder = Decoder(segment)
    if not np.array_equal(decoder.get(known, index, centre), symbols.reshape(-1)):
        raise CodecError("the range coder gave back other symbols than it got")
    decoder.finish()
    return len(segment)
