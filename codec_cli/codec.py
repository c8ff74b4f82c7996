"""The spine: a picture -> container bytes -> the picture again.

::

    from codec_cli import Codec

    codec = Codec()                           # the pretrained photo model
    data = codec.encode(pixels, quality=40)   # uint8 (height, width, 3) or (height, width)
    decoded = codec.decode(data)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream import container
from codec_cli.bitstream.quantize import nearest
from codec_cli.decoding import Region, TileDecoder
from codec_cli.errors import FormatError, ImageError
from codec_cli.loading import Loaded
from codec_cli.pictures.alpha import decode_alpha, encode_alpha
from codec_cli.pictures.images import Picture
from codec_cli.pictures.rows import RowPicture
from codec_cli.tiles import Grid, Source, latents_of, source_of, to_channels
from codec_cli.transforms import Floats, Pixels, available_threads
from codec_cli.zoo import DEFAULT_MODEL, ModelInfo, Zoo

if TYPE_CHECKING:
    from codec_cli.training.refine import Refiner

Latents = Floats

DEFAULT_MAX_PIXELS = 1 << 28
DEFAULT_EFFORT = 5
# How far the optimisation may go, by effort; 0 is plain rounding, 1 would trust that errors of symbols add up
# independently. They do not (all shrink towards the centre together), so the best value, found on validation
# photographs, is far below.
EFFORT_STRENGTH = {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.2, 5: 0.2, 6: 0.2, 7: 0.0, 8: 0.0, 9: 0.0}
# So many times as far in the last channel group: a symbol that is moved towards the centre also tells later
# contexts less, and few come after these (docs/TRAINING.md).
LAST_GROUP = 2.0
# Gradient steps on the latents of every tile, by effort.
EFFORT_STEPS = {7: 150, 8: 400, 9: 1000}


def _unwatched(steps: int) -> None:
    """Where no one looks at a progress bar."""


class Codec:
    """Encodes images to bytes and decodes them.

    Args:
        model: Name, alias or folder of the model that encodes; decoding finds its model by fingerprint.
        models_dir: Searched before the installed models.
        threads: Processor threads; all by default.

    Attributes:
        advance: Called after gradient steps of efforts 7 to 9, with their number, for a progress bar.

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
        self._limited = threads is not None
        self.advance: Callable[[int], object] = _unwatched
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

    def forget_transforms(self) -> None:
        """Frees the buffers of LiteRT, hundreds of MB, where only one of the transforms is needed by now."""
        for loaded in self._loaded.values():
            loaded.forget_transforms()

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

    def latents(self, pixels: Pixels | Source) -> Iterator[Latents]:
        """Latents of every tile in raster order, without gain: the same for all levels.

        Args:
            pixels: uint8 (height, width, channels), or a source of such pixels.

        Yields:
            float32 (rows, columns, latent_channels), at most 64x64 positions.
        """
        source = source_of(pixels)
        size, (height, width, _) = self.info.size, source.shape
        if size is not None and (height, width) != (size, size):
            raise ImageError(
                f"the model {self.info.name} codes images of {size}x{size} only, this one is "
                f"{width}x{height}; choose another with --model"
            )
        yield from latents_of(self._load(self.info), source)

    def encode_picture(
        self,
        picture: Picture | RowPicture,
        quality: int | None = None,
        *,
        level: int | None = None,
        effort: int = DEFAULT_EFFORT,
        weight: float = 1.0,
    ) -> bytes:
        """Compresses a picture with its alpha plane and metadata.

        Args:
            picture: Pixels, alpha, ICC profile and EXIF; in memory, or read by rows in bounded memory.
            quality: 1 to 100; the model's default if neither it nor ``level`` is given.
            level: A usable level of the model, instead of a quality.
            effort: 1 to 3 round plainly; 4 to 6 optimise each symbol's rate against its distortion; 7 to 9
                refine the latents by gradient, which needs the ``train`` extra and minutes.
            weight: Of the distortion in refinement, as a share of the level's own: below 1 for a smaller,
                worse file.

        Returns:
            A whole compressed file.
        """
        level = self.level_of(quality) if level is None else level
        return self.pack(picture, self._searched(_source(picture), level, effort, weight), level, effort)

    def level_of(self, quality: int | None) -> int:
        """The model's level of a quality, 1 to 100 or None for the model's default."""
        chosen = self.info.default_quality if quality is None else quality
        if not 1 <= chosen <= 100:
            raise ValueError("quality must be within 1..100")
        return self.info.level_of_quality(chosen)

    def _searched(self, source: Source, level: int, effort: int, weight: float = 1.0) -> Iterator[Latents]:
        """Latents of every tile, refined for this level where the effort asks for it."""
        latents, steps = self.latents(source), EFFORT_STEPS.get(effort)
        return latents if steps is None else self.refined(source, latents, level, steps, weight)

    def segments(
        self, pixels: Pixels | Source, level: int, effort: int = DEFAULT_EFFORT
    ) -> tuple[bytes, ...]:
        """Codes an image without anything around it: what an archive holds of each.

        Args:
            pixels: uint8 (height, width, channels), 1 or 3 channels; or a source of such pixels.
            level: A usable level of the model.
            effort: See :meth:`encode_picture`.

        Returns:
            The range coder's segment of each tile, in raster order.
        """
        return self.coded(self._searched(source_of(pixels), level, effort), level, effort)

    @cached_property
    def _refiner(self) -> Refiner:
        from codec_cli.training import require

        require()
        from codec_cli.training.refine import Refiner, limit_threads

        if self._limited:
            limit_threads(self._threads)
        return Refiner(self.info)

    def gradient_steps(self, height: int, width: int, effort: int) -> int:
        """How many gradient steps encoding an image of so many pixels takes; 0 below effort 7."""
        grid = Grid.of(height, width, self.info.stride)
        return grid.rows * grid.columns * EFFORT_STEPS.get(effort, 0)

    def refined(
        self,
        pixels: Pixels | Source,
        latents: Iterable[Latents],
        level: int,
        steps: int,
        weight: float = 1.0,
    ) -> Iterator[Latents]:
        """Latents refined for these pixels at this level (see :mod:`codec_cli.training.refine`).

        Args:
            pixels: uint8 (height, width, channels), 1 or 3 channels; or a source of such pixels.
            latents: Of each tile, from :meth:`latents`.
            level: A usable level of the model.
            steps: Gradient steps on each tile.
            weight: See :meth:`encode_picture`.

        Yields:
            float32 latents of each tile, in the order and shapes of ``latents``.

        Raises:
            TrainingError: TensorFlow is missing.
            ModelError: The model has no weights.
        """
        refiner = self._refiner
        stride, source = self.info.stride, source_of(pixels)
        grid = Grid.of(*source.shape[:2], stride)
        # A tile's latents come first, so a source of rows holds its pixels by then.
        for latent, tile in zip(latents, grid.tiles(), strict=True):
            shown = source.cut(*(edge * stride for edge in tile))
            yield refiner(to_channels(shown, self.info.channels), latent, level, steps, self.advance, weight)

    def pack(
        self,
        picture: Picture | RowPicture,
        latents: Iterable[Latents],
        level: int,
        effort: int = DEFAULT_EFFORT,
        strength: float | None = None,
    ) -> bytes:
        """Quantizes and codes latents: the part of encoding that depends on the level.

        Args:
            picture: Where the latents come from; its alpha plane and metadata go into the file.
            latents: From :meth:`latents`, any number of times.
            level: A usable level of the model.
            effort: See :meth:`encode_picture`.
            strength: See :meth:`coded`.

        Returns:
            A whole compressed file.
        """
        if isinstance(picture, RowPicture):
            (height, width, channels), alpha, metadata = picture.shape, picture.alpha, picture.metadata
        else:
            height, width, channels = picture.pixels.shape
            alpha = picture.alpha is not None
            metadata = container.Metadata(picture.icc, picture.exif, encode_alpha(picture.alpha))
        info, segments = self.info, self.coded(latents, level, effort, strength)
        if isinstance(picture, RowPicture):
            self.forget_transforms()  # The file takes their place.
        header = container.Header(info.fingerprint, level, channels == 1, alpha, width, height)
        return container.serialize(container.Container(header, metadata, segments), info.tile_pixels)

    @property
    def optimises(self) -> bool:
        """Whether the model's symbols can be optimised: it was trained for squared errors."""
        return self._load(self.info).distortion_weight is not None

    def coded(
        self,
        latents: Iterable[Latents],
        level: int,
        effort: int = DEFAULT_EFFORT,
        strength: float | None = None,
    ) -> tuple[bytes, ...]:
        """Quantizes and codes the latents of every tile to the range coder's segments.

        Args:
            latents: From :meth:`latents` or :meth:`refined`.
            level: A usable level of the model.
            effort: See :meth:`encode_picture`.
            strength: Of the optimisation of symbols, 0 (plain rounding) to 1; the effort's by default. A
                stronger one gives a smaller, worse file; without effect unless the model :attr:`optimises`.
                In the last channel group it is :data:`LAST_GROUP` times that, at most 1.

        Raises:
            ValueError: The level, effort or strength is out of range.
        """
        loaded = self._load(self.info)
        if effort not in EFFORT_STRENGTH:
            raise ValueError("effort must be within 1..9")
        if not 0 <= level < self.info.levels:
            raise ValueError(f"level must be within 0..{self.info.levels - 1}")
        strength = EFFORT_STRENGTH[effort] if strength is None else strength
        if not 0 <= strength <= 1:
            raise ValueError("strength must be within 0..1")
        weight = None
        if strength and loaded.distortion_weight is not None:
            strengths = np.full(self.info.facts["latent_channels"], strength, np.float32)
            groups = self.info.facts["groups"]
            if len(groups) > 1:
                strengths[-groups[-1] :] = min(1.0, LAST_GROUP * strength)
            weight = loaded.distortion_weight[level] / strengths
        tiles = []
        for latent in latents:
            scaled = latent * loaded.gain[level]
            if weight is None:
                tiles.append(loaded.entropy.encode(nearest(scaled), level))
            else:
                tiles.append(loaded.entropy.encode_optimised(scaled, level, weight))
        return tuple(tiles)

    def decode_picture(
        self,
        data: bytes,
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        name: str = "file",
        region: Region | None = None,
    ) -> Picture:
        """Decompresses a file to a picture with its metadata.

        Args:
            data: A whole compressed file.
            max_pixels: Larger images are refused before anything is allocated.
            name: Of the file, for messages.
            region: The part of the image to decode, from the tiles that it needs; by default all of it.

        Returns:
            The picture, with the exact size of the original or of the region.

        Raises:
            CodecError: See :meth:`decode`; or the region does not lie within the image.
        """
        return self.picture(self.open(data, max_pixels), name, region)

    def picture(self, parsed: container.Container, name: str, region: Region | None = None) -> Picture:
        """As :meth:`decode_picture`, of a file that was opened."""
        header, metadata = parsed.header, parsed.metadata
        region = region or Region.whole(header)
        region.require(header)
        alpha = decode_alpha(metadata.alpha_png, header, name) if header.alpha else None
        if alpha is not None:
            alpha = np.ascontiguousarray(alpha[region.top : region.bottom, region.left : region.right])
        pixels = self.tiles(header, parsed.tiles).pixels(region)
        return Picture(pixels, alpha, metadata.icc, metadata.exif)

    def pixels(self, header: container.Header, segments: Sequence[bytes]) -> Pixels:
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
        return self.tiles(header, segments).pixels()

    def tiles(self, header: container.Header, segments: Sequence[bytes]) -> TileDecoder:
        """What decodes an image's tiles one by one; arguments and errors as of :meth:`pixels`."""
        return TileDecoder(self.loaded_for(header), header, segments)

    def loaded_for(self, header: container.Header) -> Loaded:
        """The model that decodes a file with this header, in memory; errors as of :meth:`model_for`."""
        return self._load(self.model_for(header))

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

    def open(self, data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> container.Container:
        """Checks a file as far as can be done before entropy decoding; errors as of :meth:`decode`."""
        # First, so that a damaged file is not taken for one of a foreign model.
        container.check_sum(data)
        info = self.model_for(container.peek(data))
        return container.parse(data, info.tile_pixels, max_pixels)

    def symbols(self, data: bytes) -> list[npt.NDArray[np.int16]]:
        """The decoded symbols of every tile, int16 (height, width, latent_channels), in raster order."""
        parsed = self.open(data)
        return list(self.tiles(parsed.header, parsed.tiles).all_symbols())


def _source(picture: Picture | RowPicture) -> Source:
    return picture.source() if isinstance(picture, RowPicture) else source_of(picture.pixels)
