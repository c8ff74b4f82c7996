"""LiteRT sessions for the analysis and synthesis transforms, tile by tile.

Both run on the format's grid of 64x64 latent positions with a halo of the full receptive field, so that a
tile's result is what one pass over the whole image would give, and memory is bounded by a few tiles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_cli.errors import ModelError

TILE = 64
Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]  # (top, left, bottom, right)


def available_threads() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _native_stderr_muted() -> Iterator[None]:
    """LiteRT announces its delegate on file descriptor 2 and has no switch for it."""
    try:
        kept = os.dup(2)
        hole = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        yield
        return
    try:
        os.dup2(hole, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(hole)


class Session:
    """One LiteRT model that runs at any size.

    Args:
        content: Of the model's file. Not its path: what runs is what was checked, whatever happens to the
            file meanwhile.
        path: Where it came from, for messages.
        threads: Processor threads.

    Raises:
        ModelError: LiteRT can't load it.
    """

    def __init__(self, content: bytes, path: Path, threads: int) -> None:
        self._path = path
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelError("LiteRT is missing; install it with: pip install ai-edge-litert") from error
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._inputs = sorted(self._interpreter.get_input_details(), key=lambda item: -len(item["shape"]))
            self._output: int = self._interpreter.get_output_details()[0]["index"]
        except (ValueError, RuntimeError, IndexError) as error:
            raise ModelError(f"{path}: LiteRT can't load this model") from error
        self._shape: tuple[int, ...] | None = None

    def __call__(self, image: Floats, extra: Floats | None = None) -> Floats:
        """Runs the model on float32 (1, height, width, channels); ``extra`` is its second input, if any."""
        try:
            if image.shape != self._shape:
                self._interpreter.resize_tensor_input(self._inputs[0]["index"], image.shape)
                with _native_stderr_muted():
                    self._interpreter.allocate_tensors()
                self._shape = image.shape
            self._interpreter.set_tensor(self._inputs[0]["index"], image)
            if extra is not None:
                self._interpreter.set_tensor(self._inputs[1]["index"], extra)
            self._interpreter.invoke()
            result: Any = self._interpreter.get_tensor(self._output)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelError(f"{self._path}: the transform does not fit the model's description") from error
        return np.asarray(result, np.float32)

    def require(self, result: Floats, shape: tuple[int, ...]) -> None:
        """Raises :class:`ModelError` unless a result has the shape that the model's description promises."""
        if result.shape != shape:
            raise ModelError(f"{self._path}: the transform does not fit the model's description")


def latent_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Latent positions of an image, rounded up."""
    return -(-height // stride), -(-width // stride)


def _grown(tile: Rectangle, halo: int, height: int, width: int) -> Rectangle:
    top, left, bottom, right = tile
    return max(0, top - halo), max(0, left - halo), min(height, bottom + halo), min(width, right + halo)


def analyse(
    session: Session,
    pixels: Callable[[int, int, int, int], Pixels],
    size: tuple[int, int],
    tile: Rectangle,
    stride: int,
    halo: int,
    latent_channels: int,
) -> Floats:
    """Latents of one tile.

    Args:
        session: The analysis transform.
        pixels: Gives uint8 (rows, columns, channels) of a rectangle (top, left, bottom, right) in pixels,
            less where that goes beyond the right or lower edge of the image. There the last pixels are
            repeated up to a multiple of the stride.
        size: (height, width) of the whole image.
        tile: (top, left, bottom, right) in latent positions.
        stride: Pixels per latent position.
        halo: Latent positions that the transform sees on each side.
        latent_channels: What the transform must give.

    Returns:
        float32 (bottom - top, right - left, latent_channels), without gain.
    """
    top, left, bottom, right = _grown(tile, halo, *latent_size(*size, stride))
    region = pixels(top * stride, left * stride, bottom * stride, right * stride)
    missing = ((bottom - top) * stride - region.shape[0], (right - left) * stride - region.shape[1])
    if any(missing):
        region = np.pad(region, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    latents = session(region.astype(np.float32)[None] * np.float32(1 / 255))
    session.require(latents, (1, bottom - top, right - left, latent_channels))
    tight: Floats = latents[0, tile[0] - top : tile[2] - top, tile[1] - left : tile[3] - left]
    return tight


def synthesise(
    session: Session,
    latents: Callable[[int, int, int, int], Floats],
    tile: Rectangle,
    size: tuple[int, int],
    stride: int,
    halo: int,
    level_weights: Floats,
    channels: int,
) -> Pixels:
    """Pixels of one tile.

    Args:
        session: The synthesis transform.
        latents: Gives dequantised latents, float32, of a rectangle (top, left, bottom, right).
        tile: (top, left, bottom, right) in latent positions.
        size: (height, width) of the whole latent plane.
        stride: Pixels per latent position.
        halo: Latent positions that the transform sees on each side.
        level_weights: float32 (1, trained levels).
        channels: What the transform must give.

    Returns:
        uint8 (rows * stride, columns * stride, channels).
    """
    top, left, bottom, right = _grown(tile, halo, *size)
    image = session(latents(top, left, bottom, right)[None], level_weights)
    session.require(image, (1, (bottom - top) * stride, (right - left) * stride, channels))
    begin_row, begin_column = (tile[0] - top) * stride, (tile[1] - left) * stride
    image = image[
        0,
        begin_row : begin_row + (tile[2] - tile[0]) * stride,
        begin_column : begin_column + (tile[3] - tile[1]) * stride,
    ]
    # A network may give infinities or NaN for symbols that no encoder writes; any pixel will do for them.
    with np.errstate(over="ignore", invalid="ignore"):
        image *= np.float32(255)
        image += np.float32(0.5)
        whole: Pixels = np.clip(image, 0, 255, out=image).astype(np.uint8)
    return whole
