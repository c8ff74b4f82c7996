"""The spine: a picture -> container bytes -> the picture again.

::

    from codec_cli import Codec

    codec = Codec()                           # the pretrained photo model
    data = codec.encode(pixels, quality=40)   # uint8 (height, width, 3) or (height, width)
    decoded = codec.decode(data)
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codec_cli import container
from codec_cli.errors import FormatError, ImageError
from codec_cli.images import Picture, load_picture
from codec_cli.loading import Loaded
from codec_cli.quantize import nearest
from codec_cli.transforms import (
    Floats,
    Pixels,
    analyse,
    available_threads,
    grid,
    latent_size,
    synthesise,
)
from codec_cli.zoo import DEFAULT_MODEL, ModelInfo, Zoo

Latents = Floats

DEFAULT_MAX_PIXELS = 1 << 28
DEFAULT_EFFORT = 5
# How far the optimisation may go, by effort; 0 is plain rounding, 1 would trust that errors of symbols add up
# independently. They do not (all shrink towards the centre together), so the best value, found on validation
# photographs, is far below.
EFFORT_STRENGTH = {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.2, 5: 0.2, 6: 0.2, 7: 0.0, 8: 0.0, 9: 0.0}
# Gradient steps on the latents of every tile, by effort.
EFFORT_STEPS = {7: 100, 8: 300, 9: 1000}


class Codec:
    """Encodes images to bytes and decodes them.

    Args:
        model: Name, alias or folder of the model that encodes; decoding finds its model by fingerprint.
        models_dir: Searched before the installed models.
        threads: Processor threads; all by default.

    Raises:
        ModelError: The model is missing or damaged.
    """

    def __init__(
        self,
        model: str | ModelInfo = DEFAULT_MODEL,
        *,
        models_dir: Path | None = None,
        threads: int | None = None,
    ) -> None:
        self._zoo = Zoo(models_dir)
        self._model = model
        self._threads = threads or available_threads()
        self._loaded: dict[bytes, Loaded] = {}
        self._by_mark: dict[bytes, ModelInfo] = {}
        if isinstance(model, ModelInfo):
            self._by_mark[model.fingerprint] = model
        if threads is not None:
            from threadpoolctl import threadpool_limits

            threadpool_limits(threads)

    @cached_property
    def info(self) -> ModelInfo:
        """The model that encodes; what it encodes, this object decodes, wherever its folder lies."""
        info = self._model if isinstance(self._model, ModelInfo) else self._zoo.info(self._model)
        self._by_mark[info.fingerprint] = info
        return info

    def _load(self, info: ModelInfo) -> Loaded:
        loaded = self._loaded.get(info.fingerprint)
        if loaded is None:
            loaded = self._loaded[info.fingerprint] = Loaded(info, self._threads)
        return loaded

    def encode(self, pixels: npt.NDArray[np.uint8], quality: int | None = None) -> bytes:
        """Compresses an array.

        Args:
            pixels: uint8 (height, width), or (height, width, channels) with 1 (gray), 2 (gray and alpha),
                3 (R'G'B') or 4 (R'G'B' and alpha) channels.
            quality: 1 (smallest) to 100 (best); the model's default is about 0.6 bits per pixel.

        Returns:
            A whole compressed file.

        Raises:
            ImageError: The array has another shape or type.
            ValueError: The quality is out of range.
        """
        array = np.asarray(pixels)
        if array.ndim == 2:
            array = array[:, :, None]
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or not array.size:
            raise ImageError(f"expected uint8 (height, width[, 1..4]), got {array.dtype} {array.shape}")
        colours = 1 if array.shape[2] < 3 else 3
        alpha = array[:, :, colours] if array.shape[2] > colours else None
        return self.encode_picture(Picture(array[:, :, :colours], alpha), quality)

    def decode(self, data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.uint8]:
        """Decompresses to an array.

        Args:
            data: A whole compressed file.
            max_pixels: Larger images are refused before anything is allocated.

        Returns:
            uint8 (height, width, channels), channels as given to :meth:`encode` (1 to 4).

        Raises:
            CodecError: The bytes are not a file of ours, are damaged, or need a model that is not here.
        """
        picture = self.decode_picture(data, max_pixels=max_pixels)
        if picture.alpha is None:
            return picture.pixels
        return np.concatenate([picture.pixels, picture.alpha[:, :, None]], 2)

    def latents(self, pixels: npt.NDArray[np.uint8]) -> Iterator[Latents]:
        """Latents of every tile in raster order, without gain: the same for all levels.

        Args:
            pixels: uint8 (height, width, channels).

        Yields:
            float32 (rows, columns, latent_channels), at most 64x64 positions.
        """
        size, (height, width) = self.info.size, pixels.shape[:2]
        if size is not None and (height, width) != (size, size):
            raise ImageError(
                f"the model {self.info.name} codes images of {size}x{size} only, this one is "
                f"{width}x{height}; choose another with --model"
            )
        loaded = self._load(self.info)
        stride, halo = self.info.stride, int(self.info.facts["analysis_halo"])
        planes = _to_channels(pixels, self.info.channels)
        for tile in _tiles(pixels.shape[0], pixels.shape[1], stride):
            yield analyse(loaded.analysis, planes, tile, stride, halo, loaded.gain.shape[1])

    def encode_picture(
        self,
        picture: Picture,
        quality: int | None = None,
        *,
        level: int | None = None,
        effort: int = DEFAULT_EFFORT,
    ) -> bytes:
        """Compresses a picture with its alpha plane and metadata.

        Args:
            picture: Pixels, alpha, ICC profile and EXIF.
            quality: 1 to 100; the model's default if neither it nor ``level`` is given.
            level: A usable level of the model, instead of a quality.
            effort: 1 to 3 round plainly; 4 to 6 optimise each symbol's rate against its distortion; 7 to 9
                refine the latents by gradient, which needs the ``train`` extra and minutes.

        Returns:
            A whole compressed file.
        """
        level = self.level_of(quality) if level is None else level
        return self.pack(picture, self._searched(picture.pixels, level, effort), level, effort)

    def level_of(self, quality: int | None) -> int:
        """The model's level of a quality, 1 to 100 or None for the model's default."""
        chosen = self.info.default_quality if quality is None else quality
        if not 1 <= chosen <= 100:
            raise ValueError("quality must be within 1..100")
        return self.info.level_of_quality(chosen)

    def _searched(self, pixels: npt.NDArray[np.uint8], level: int, effort: int) -> Iterator[Latents]:
        """Latents of every tile, refined for this level where the effort asks for it."""
        latents, steps = self.latents(pixels), EFFORT_STEPS.get(effort)
        return latents if steps is None else self.refined(pixels, latents, level, steps)

    def segments(
        self, pixels: npt.NDArray[np.uint8], level: int, effort: int = DEFAULT_EFFORT
    ) -> tuple[bytes, ...]:
        """Codes an image without anything around it: what an archive holds of each.

        Args:
            pixels: uint8 (height, width, channels), 1 or 3 channels.
            level: A usable level of the model.
            effort: See :meth:`encode_picture`.

        Returns:
            The range coder's segment of each tile, in raster order.
        """
        return self._coded(self._searched(pixels, level, effort), level, effort)

    def refined(
        self, pixels: npt.NDArray[np.uint8], latents: Iterable[Latents], level: int, steps: int
    ) -> Iterator[Latents]:
        """Latents refined for these pixels at this level (see :mod:`codec_cli.training.refine`).

        Raises:
            TrainingError: TensorFlow is missing.
            ModelError: The model has no weights.
        """
        from codec_cli.training import require

        require()
        from codec_cli.training.refine import Refiner

        refiner = Refiner(self.info)
        stride, planes = self.info.stride, _to_channels(pixels, self.info.channels)
        places = _tiles(pixels.shape[0], pixels.shape[1], stride)
        for (top, left, bottom, right), latent in zip(places, latents, strict=True):
            shown = planes[top * stride : bottom * stride, left * stride : right * stride]
            yield refiner(shown, latent, level, steps)

    def pack(
        self, picture: Picture, latents: Iterable[Latents], level: int, effort: int = DEFAULT_EFFORT
    ) -> bytes:
        """Quantizes and codes latents: the part of encoding that depends on the level.

        Args:
            picture: Where the latents come from; its alpha plane and metadata go into the file.
            latents: From :meth:`latents`, any number of times.
            level: A usable level of the model.
            effort: See :meth:`encode_picture`.

        Returns:
            A whole compressed file.
        """
        info = self.info
        tiles = self._coded(latents, level, effort)
        height, width, channels = picture.pixels.shape
        alpha_png = None
        if picture.alpha is not None and not (picture.alpha == 255).all():
            alpha_png = _encode_alpha(picture.alpha)
        return container.serialize(
            container.Container(
                container.Header(
                    info.fingerprint, level, channels == 1, picture.alpha is not None, width, height
                ),
                container.Metadata(picture.icc, picture.exif, alpha_png),
                tiles,
            ),
            info.tile_pixels,
        )

    def _coded(self, latents: Iterable[Latents], level: int, effort: int) -> tuple[bytes, ...]:
        """Quantizes and codes the latents of every tile to the range coder's segments."""
        loaded = self._load(self.info)
        if effort not in EFFORT_STRENGTH:
            raise ValueError("effort must be within 1..9")
        if not 0 <= level < self.info.levels:
            raise ValueError(f"level must be within 0..{self.info.levels - 1}")
        strength = EFFORT_STRENGTH[effort]
        weights = loaded.distortion_weight if strength else None
        tiles = []
        for latent in latents:
            scaled = latent * loaded.gain[level]
            if weights is None:
                tiles.append(loaded.entropy.encode(nearest(scaled), level))
            else:
                weight = weights[level] * np.float32(1 / strength)
                tiles.append(loaded.entropy.encode_optimised(scaled, level, weight))
        return tuple(tiles)

    def decode_picture(
        self, data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, name: str = "file"
    ) -> Picture:
        """Decompresses a file to a picture with its metadata.

        Args:
            data: A whole compressed file.
            max_pixels: Larger images are refused before anything is allocated.
            name: Of the file, for messages.

        Returns:
            The picture, with the exact size of the original.

        Raises:
            CodecError: See :meth:`decode`.
        """
        loaded, parsed = self._open(data, max_pixels)
        header = parsed.header
        alpha = _decode_alpha(parsed.metadata.alpha_png, header, name) if header.alpha else None
        pixels = self._decode_pixels(loaded, header, parsed.tiles)
        return Picture(pixels, alpha, parsed.metadata.icc, parsed.metadata.exif)

    def pixels(self, header: container.Header, segments: Iterable[bytes]) -> Pixels:
        """Decodes an image from its segments alone, the opposite of :meth:`segments`.

        Args:
            header: Of the image; its model need not be the one that encodes.
            segments: One for each tile, in raster order.

        Returns:
            uint8 (height, width, channels), 1 channel if the header says gray, else 3.

        Raises:
            FormatError: A segment is damaged, or the header does not fit the model.
            ModelError: The model is not here.
        """
        return self._decode_pixels(self._load(self.model_for(header)), header, segments)

    def model_for(self, header: container.Header) -> ModelInfo:
        """The model that decodes a file with this header.

        Raises:
            ModelError: It is not here.
            FormatError: No encoder of this model writes such a header.
        """
        mark = header.fingerprint
        info = self._by_mark.get(mark)
        if info is None:
            info = self._by_mark[mark] = self._zoo.by_fingerprint(mark)
        if header.level >= info.levels:
            raise FormatError(f"damaged: level {header.level} of a model with {info.levels}")
        if info.size is not None and {header.width, header.height} != {info.size}:
            raise FormatError(f"damaged: the model codes images of {info.size}x{info.size} only")
        return info

    def _open(self, data: bytes, max_pixels: int) -> tuple[Loaded, container.Container]:
        """Checks a file as far as can be done before entropy decoding, and finds its model."""
        # First, so that a damaged file is not taken for one of a foreign model.
        container.check_sum(data)
        info = self.model_for(container.peek(data))
        parsed = container.parse(data, info.tile_pixels, max_pixels)
        return self._load(info), parsed

    def symbols(self, data: bytes) -> list[npt.NDArray[np.int16]]:
        """The decoded symbols of every tile, int16 (height, width, latent_channels), in raster order."""
        loaded, parsed = self._open(data, DEFAULT_MAX_PIXELS)
        header = parsed.header
        tiles = _tiles(header.height, header.width, loaded.info.stride)
        return [
            loaded.entropy.decode(segment, tile[2] - tile[0], tile[3] - tile[1], header.level)
            for segment, tile in zip(parsed.tiles, tiles, strict=True)
        ]

    @staticmethod
    def _decode_pixels(loaded: Loaded, header: container.Header, tiles: Iterable[bytes]) -> Pixels:
        info = loaded.info
        stride, halo = info.stride, int(info.facts["synthesis_halo"])
        size = latent_size(header.height, header.width, stride)
        rows = grid(*size)
        segments = iter(tiles)
        scale = loaded.inverse_gain[header.level]
        weights = np.ascontiguousarray(loaded.level_weights[header.level][None])
        out = np.empty((header.height, header.width, 1 if header.gray else 3), np.uint8)
        # Symbols of a row of tiles, and of the rows above and below: what a halo can reach.
        bands: dict[int, npt.NDArray[np.int16]] = {}

        def band(index: int) -> npt.NDArray[np.int16]:
            if index not in bands:
                decoded = [
                    loaded.entropy.decode(next(segments), bottom - top, right - left, header.level)
                    for top, left, bottom, right in rows[index]
                ]
                bands[index] = decoded[0] if len(decoded) == 1 else np.concatenate(decoded, 1)
            return bands[index]

        for r, row in enumerate(rows):
            reach = range(max(0, r - 1), min(len(rows), r + 2))
            plane = np.concatenate([band(index) for index in reach], 0) if len(reach) > 1 else band(r)
            latents = _dequantiser(plane, rows[reach[0]][0][0], scale)
            for tile in row:
                image = synthesise(
                    loaded.synthesis, latents, tile, size, stride, halo, weights, info.channels
                )
                top, left = tile[0] * stride, tile[1] * stride
                target = out[top : top + image.shape[0], left : left + image.shape[1]]
                target[:] = _from_channels(image[: target.shape[0], : target.shape[1]], target.shape[2])
            bands.pop(r - 1, None)
        return out


def _tiles(height: int, width: int, stride: int) -> list[tuple[int, int, int, int]]:
    """All tiles of an image in raster order, in latent positions."""
    return [tile for row in grid(*latent_size(height, width, stride)) for tile in row]


def _dequantiser(
    plane: npt.NDArray[np.int16], first_row: int, scale: Floats
) -> Callable[[int, int, int, int], Floats]:
    def latents(top: int, left: int, bottom: int, right: int) -> Floats:
        return plane[top - first_row : bottom - first_row, left:right].astype(np.float32) * scale

    return latents


def _to_channels(pixels: Pixels, channels: int) -> Pixels:
    """Gray to R'G'B' for a colour model; colour does not fit a gray model."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, 2)
    raise ImageError("the model codes gray images only; choose another with --model")


def _from_channels(image: Pixels, channels: int) -> Pixels:
    """R'G'B' back to gray: the mean of the channels, rounded half up."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, 2)
    gray: Pixels = ((image.astype(np.uint16).sum(2, keepdims=True) * 2 + 3) // 6).astype(np.uint8)
    return gray


def _encode_alpha(alpha: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(alpha)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _decode_alpha(png: bytes | None, header: container.Header, name: str) -> npt.NDArray[np.uint8]:
    """The alpha plane; its PNG header is checked before any pixel is decoded."""
    if png is None:
        return np.full((header.height, header.width), 255, np.uint8)
    start = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBB", header.width, header.height, 8, 0)
    if png[: len(start)] != start:
        raise FormatError("damaged: the alpha plane does not fit the image")
    # Chunks that could turn the plane or add transparency have no place in it.
    if b"eXIf" in png or b"tRNS" in png:
        raise FormatError("damaged: the alpha plane has chunks that it must not have")
    try:
        plane = load_picture(png, name, header.width * header.height, keep_metadata=False)
    except ImageError as error:
        raise FormatError("damaged: the alpha plane is not decodable") from error
    if plane.pixels.shape != (header.height, header.width, 1) or plane.alpha is not None:
        raise FormatError("damaged: the alpha plane does not fit the image")
    return plane.pixels[:, :, 0]
