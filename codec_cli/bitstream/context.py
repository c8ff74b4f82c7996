"""The context model in exact integer arithmetic: symbols already decoded -> tables and centres of the next.

Latent channels come in groups, each group in the two halves of a checkerboard. The first half of the first
group uses a table per channel. Every later pass evaluates a small network whose inputs, weights and
activations are integers held in float32: as long as no sum reaches 2^24, float32 matrix products give the
same result in any order, on any processor. Export proves that bound (:func:`check_bounds`); this module
only multiplies, adds, floors and clips. docs/FORMAT.md specifies every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream.entropy import Decoder, Encoder, Ints, Tables
from codec_cli.bitstream.quantize import choose
from codec_cli.bitstream.walk import ALL_TAPS, CROSS_TAPS, FRACTIONS, INPUT_CLIP, Walk
from codec_cli.errors import ModelError

ACTIVATION_MAX = 255
# Means are clipped to +-512 symbols.
MEAN_MAX = 512 * FRACTIONS
EXACT = 1 << 24

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One integer layer: floor((inputs @ kernel + bias[level]) * 2^-shift).

    Attributes:
        kernel: float32 (inputs, outputs) with integer values.
        bias: float32 (levels, outputs) with integer values.
        scale: float32 (outputs,), 2^-shift.
    """

    kernel: Floats
    bias: Floats
    scale: Floats

    def __call__(self, inputs: Floats, level: int) -> Floats:
        """Applies the layer to float32 (n, inputs); exact if the bound holds."""
        return self.finish(inputs @ self.kernel, level)

    def sums(self, parts: Iterable[Floats]) -> Floats:
        """The products with inputs that lie in several arrays, each float32 (n, some of the inputs)."""
        begin, total, product = 0, None, None
        for part in parts:
            end = begin + part.shape[1]
            kernel = self.kernel[begin:end]
            if total is None:
                total = part @ kernel
                product = np.empty_like(total)
            else:
                total += np.matmul(part, kernel, out=product)
            begin = end
        if total is None:
            raise AssertionError("a layer has inputs")
        return total

    def finish(self, sums: Floats, level: int) -> Floats:
        """Bias, scale and floor, in place."""
        sums += self.bias[level]
        sums *= self.scale
        return np.floor(sums, sums)

    def check_bound(self, largest: npt.NDArray[np.float64], name: str) -> None:
        """Raises :class:`ModelError` if any partial sum could reach 2^24.

        Args:
            largest: (inputs,), the largest magnitude of each input.
            name: Of the layer, for the message.
        """
        reach = largest @ np.abs(self.kernel.astype(np.float64)) + np.abs(self.bias.astype(np.float64)).max(0)
        if not (reach < EXACT).all():
            raise ModelError(f"{name}: a sum can reach {reach.max():.0f}, beyond 2^24: not exact in float32")
        whole = all(bool((np.rint(part) == part).all()) for part in (self.kernel, self.bias))
        if not whole or not (np.exp2(np.rint(np.log2(self.scale))) == self.scale).all():
            raise ModelError(f"{name}: weights must be integers and scales powers of two")


@dataclass(frozen=True)
class Network:
    """The three layers of one pass; ``layers[0]`` sees neighbourhoods."""

    layers: tuple[Layer, Layer, Layer]

    def __call__(
        self, parts: Iterable[Floats], chosen: npt.NDArray[np.intp], level: int, scales: int
    ) -> tuple[Ints, Ints]:
        """Runs the network.

        Args:
            parts: The inputs of ``layers[0]`` in order, float32 (cells, some of the inputs), integer values.
            chosen: int (positions,), the cells that are positions of the tile.
            level: Usable level.
            scales: Number of scales in the bank.

        Returns:
            Table index and centre of each symbol, both int32 (positions * channels,), channel fastest.
        """
        first, second, last = self.layers
        hidden = _activate(first.finish(first.sums(parts).take(chosen, 0), level))
        out = last(_activate(second(hidden, level)), level)
        channels = out.shape[1] // 2
        mean = np.clip(out[:, :channels], -MEAN_MAX, MEAN_MAX - 1).astype(np.int32)
        scale = np.clip(out[:, channels:], 0, scales - 1).astype(np.int32)
        # An arithmetic shift floors, so the fraction is never negative.
        centre = mean >> 3
        index = scale * FRACTIONS + (mean & (FRACTIONS - 1))
        return index.reshape(-1), centre.reshape(-1)


def _activate(hidden: Floats) -> Floats:
    """In place."""
    clipped: Floats = np.minimum(np.maximum(hidden, 0, out=hidden), ACTIVATION_MAX, out=hidden)
    return clipped


@dataclass(frozen=True)
class ContextModel:
    """Everything that codes a tile of latents with contexts.

    Attributes:
        groups: Channels of each group.
        first: Tables of the first half of the first group, per usable level.
        bank: Tables by scale * 8 + fraction.
        magnitude: float32 (256,), the rounded logarithm of a magnitude, integer values.
        networks: By (group, half).
        threads: Processor threads.
    """

    groups: tuple[int, ...]
    first: tuple[Tables, ...]
    bank: Tables
    magnitude: Floats
    networks: dict[tuple[int, int], Network]
    threads: int = 1

    def check_shapes(self, levels: int, channels: int) -> None:
        """Raises :class:`ModelError` unless all parts fit each other.

        Args:
            levels: Usable levels of the model.
            channels: Its latent channels.
        """
        good = (
            sum(self.groups) == channels
            and self.magnitude.shape == (INPUT_CLIP + 1,)
            and len(self.bank.lengths) >= FRACTIONS
            and len(self.bank.lengths) % FRACTIONS == 0
            and all(len(tables.lengths) == self.groups[0] for tables in self.first)
        )
        for (g, h), network in self.networks.items():
            width = 2 * sum(self.groups[:g]) * len(ALL_TAPS) + (
                2 * self.groups[g] * len(CROSS_TAPS) if h else 0
            )
            for layer in network.layers:
                outputs = layer.kernel.shape[-1]
                good = good and layer.kernel.shape == (width, outputs)
                good = good and layer.bias.shape == (levels, outputs) and layer.scale.shape == (outputs,)
                width = outputs
            good = good and width == 2 * self.groups[g]
        if not good:
            raise ModelError("the context networks do not fit the model")

    def check_bounds(self) -> None:
        """Proves from the weights that every sum stays below 2^24 (raises :class:`ModelError`)."""
        largest_magnitude = float(np.abs(self.magnitude).max())
        for (g, h), network in self.networks.items():
            one = {n: np.repeat([float(INPUT_CLIP), largest_magnitude], n) for n in self.groups}
            known = [one[n] for n in self.groups[:g]] * len(ALL_TAPS)
            own = [one[self.groups[g]]] * len(CROSS_TAPS) if h else []
            inputs = np.concatenate(known + own)
            for i, layer in enumerate(network.layers):
                if layer.kernel.shape[0] != len(inputs):
                    raise ModelError(f"pass-{g}-{h}/layer{i}: expected {len(inputs)} inputs")
                layer.check_bound(inputs, f"pass-{g}-{h}/layer{i}")
                inputs = np.full(layer.kernel.shape[1], float(ACTIVATION_MAX))

    def encode(self, symbols: npt.NDArray[np.int16], level: int) -> bytes:
        """Codes a tile.

        Args:
            symbols: int16 (height, width, channels), at most 64x64 positions.
            level: Usable level.

        Returns:
            The range-coded segment.
        """
        encoder = Encoder()
        walk = Walk(self, symbols.shape[0], symbols.shape[1], level)
        for part in walk:
            values = symbols[part.rows, part.columns, part.channels].astype(np.int32)
            encoder.put(part.tables, part.table, part.centre, values.reshape(-1))
            walk.fill(values)
        return encoder.finish()

    def encode_optimised(self, scaled: Floats, level: int, weight: Floats) -> bytes:
        """Codes a tile with rate-distortion-optimised quantization, pass by pass.

        Args:
            scaled: float32 (height, width, channels), latents times gain.
            level: Usable level.
            weight: float32 (channels,), see :func:`codec_cli.bitstream.quantize.choose`.

        Returns:
            The range-coded segment.
        """
        encoder = Encoder()
        walk = Walk(self, scaled.shape[0], scaled.shape[1], level)
        for part in walk:
            wanted = scaled[part.rows, part.columns, part.channels]
            values = choose(wanted, part.tables, part.table, part.centre, weight[part.channels])
            encoder.put(part.tables, part.table, part.centre, values.reshape(-1))
            walk.fill(values)
        return encoder.finish()

    def decode(self, segment: bytes, height: int, width: int, level: int) -> npt.NDArray[np.int16]:
        """Decodes what :meth:`encode` wrote; int16 (height, width, channels)."""
        decoder = Decoder(segment)
        out = np.empty((height, width, sum(self.groups)), np.int16)
        walk = Walk(self, height, width, level)
        for part in walk:
            values = decoder.get(part.tables, part.table, part.centre).reshape(len(part.rows), -1)
            out[part.rows, part.columns, part.channels] = values
            walk.fill(values)
        decoder.finish()
        return out


@dataclass(frozen=True)
class FactorizedModel:
    """A table per level and channel, and nothing else: the older model kind.

    Attributes:
        first: Tables per usable level, one per channel.
    """

    first: tuple[Tables, ...]

    def encode(self, symbols: npt.NDArray[np.int16], level: int) -> bytes:
        """Codes a tile, int16 (height, width, channels), in one pass."""
        encoder = Encoder()
        encoder.put(
            *self._pass(symbols.shape[0] * symbols.shape[1], level), symbols.astype(np.int32).reshape(-1)
        )
        return encoder.finish()

    def encode_optimised(self, scaled: Floats, level: int, weight: Floats) -> bytes:
        """As :meth:`ContextModel.encode_optimised`."""
        tables, index, centre = self._pass(scaled.shape[0] * scaled.shape[1], level)
        symbols = choose(scaled.reshape(-1, scaled.shape[2]), tables, index, centre, weight)
        encoder = Encoder()
        encoder.put(tables, index, centre, symbols.reshape(-1))
        return encoder.finish()

    def decode(self, segment: bytes, height: int, width: int, level: int) -> npt.NDArray[np.int16]:
        """Decodes what :meth:`encode` wrote; int16 (height, width, channels)."""
        decoder = Decoder(segment)
        symbols = decoder.get(*self._pass(height * width, level))
        decoder.finish()
        return symbols.reshape(height, width, -1).astype(np.int16)

    def _pass(self, positions: int, level: int) -> tuple[Tables, Ints, Ints]:
        tables = self.first[level]
        index = np.tile(np.arange(len(tables.lengths), dtype=np.int32), positions)
        return tables, index, np.zeros(len(index), np.int32)
