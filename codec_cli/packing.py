"""Archives of pictures: many images of one size and mode -> one archive -> all of them, or any one.

::

    from codec_cli import Codec
    from codec_cli.packing import pack_arrays, unpack_arrays

    data = pack_arrays(Codec("digits"), images, level=3)  # uint8 (n, height, width[, channels])
    decoded = unpack_arrays(data)  # uint8 (n, height, width, channels)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codec_cli.bitstream import archive, container
from codec_cli.codec import DEFAULT_EFFORT, DEFAULT_MAX_PIXELS, Codec
from codec_cli.errors import CodecError, ImageError
from codec_cli.transforms import Pixels

__all__ = ["Packer", "Unpacker", "pack_arrays", "unpack_arrays"]


class Packer:
    """Codes images one after another and makes an archive of them; only their segments are kept.

    Args:
        codec: Its model encodes.
        level: A usable level of the model.
        effort: See :meth:`codec_cli.Codec.encode_picture`.
    """

    def __init__(self, codec: Codec, level: int, effort: int = DEFAULT_EFFORT) -> None:
        self._codec, self._level, self._effort = codec, level, effort
        self._shape: tuple[int, ...] | None = None
        self._images: list[tuple[bytes, ...]] = []

    def add(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Codes the next image.

        Args:
            pixels: uint8 (height, width, channels), 1 channel (gray) or 3 (R'G'B').

        Raises:
            ImageError: It differs from the first image in size or mode, has another number of channels, or
                does not suit the model.
            ValueError: The level or effort is out of range.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
            raise ImageError(f"expected uint8 (height, width, 1 or 3), got {pixels.dtype} {pixels.shape}")
        if self._shape is None:
            self._shape = pixels.shape
        if pixels.shape != self._shape:
            raise ImageError(
                f"is {_kind(pixels.shape)}, the first image {_kind(self._shape)}; "
                "an archive holds images of one size and mode"
            )
        self._images.append(self._codec.segments(pixels, self._level, self._effort))

    def finish(self, names: Sequence[str] | None = None) -> bytes:
        """Makes the archive.

        Args:
            names: Of all images, in their order; None to number them.

        Returns:
            The bytes of the archive.

        Raises:
            ImageError: There are no images.
            ValueError: The names don't fit (see :func:`codec_cli.bitstream.archive.check_names`).
        """
        if self._shape is None:
            raise ImageError("an archive needs at least one image")
        height, width, channels = self._shape
        info = self._codec.info
        header = container.Header(info.fingerprint, self._level, channels == 1, False, width, height)
        # Names that a reader makes up anyway take no room.
        kept = None if names is None or tuple(names) == archive.numbered(len(self._images)) else tuple(names)
        return archive.serialize(archive.Archive(header, kept, tuple(self._images)), info.tile_pixels)


class Unpacker:
    """An archive that was checked as far as can be done before entropy decoding.

    Args:
        data: All bytes of the archive.
        codec: Finds the model; by default one that knows the installed models.
        max_pixels: The most pixels that all images together may have.

    Attributes:
        info: The model that it was made with.
        archive: What the bytes hold.
        names: Of the images, numbers where the archive has none.

    Raises:
        CodecError: The bytes are no archive, are damaged, or need a model that is not here.
    """

    def __init__(
        self, data: bytes, codec: Codec | None = None, *, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        self._codec = codec or Codec()
        # First, so that a damaged archive is not taken for one of a foreign model.
        archive.check_sum(data)
        self.info = self._codec.model_for(archive.peek(data)[0])
        self.archive = archive.parse(data, self.info.tile_pixels, max_pixels)
        self.names = self.archive.names or archive.numbered(len(self.archive.images))

    def __len__(self) -> int:
        return len(self.archive.images)

    def __getitem__(self, index: int) -> Pixels:
        """Decodes one image, uint8 (height, width, 1 or 3); raises :class:`codec_cli.errors.FormatError`."""
        return self._codec.pixels(self.archive.header, self.archive.images[index])

    def find(self, wanted: str) -> int:
        """The index of an image by its name, by its name and a suffix, or by its index (from 0).

        Raises:
            CodecError: There is none.
        """
        for name in (wanted, Path(wanted).stem):
            if name in self.names:
                return self.names.index(name)
        if re.fullmatch(r"[0-9]{1,9}", wanted) and int(wanted) < len(self):
            return int(wanted)
        some = ", ".join(self.names[:3]) + (", ..." if len(self) > 3 else "")
        raise CodecError(f"no image {wanted}; the archive has {len(self)}, by index (from 0) or name: {some}")


def pack_arrays(
    codec: Codec,
    images: npt.NDArray[np.uint8],
    level: int,
    *,
    effort: int = DEFAULT_EFFORT,
    names: Sequence[str] | None = None,
) -> bytes:
    """Makes an archive of arrays.

    Args:
        codec: Its model encodes.
        images: uint8 (n, height, width) or (n, height, width, channels), 1 channel (gray) or 3 (R'G'B').
        level: A usable level of the model.
        effort: See :meth:`codec_cli.Codec.encode_picture`.
        names: Of the images; None to number them.

    Returns:
        The bytes of the archive.

    Raises:
        ImageError: The array has another shape or type, or does not suit the model.
        ValueError: The level, effort or names are out of range.
    """
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise ImageError(f"expected uint8 (n, height, width[, channels]), got {array.dtype} {array.shape}")
    packer = Packer(codec, level, effort)
    for pixels in array:
        packer.add(pixels)
    return packer.finish(names)


def unpack_arrays(
    data: bytes, codec: Codec | None = None, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Decodes all images of an archive.

    Args:
        data: All bytes of the archive.
        codec: Finds the model; by default one that knows the installed models.
        max_pixels: Archives of more pixels are refused before anything is allocated.

    Returns:
        uint8 (n, height, width, channels), 1 channel (gray) or 3 (R'G'B').

    Raises:
        CodecError: See :class:`Unpacker`; or a segment is damaged.
    """
    unpacker = Unpacker(data, codec, max_pixels=max_pixels)
    header = unpacker.archive.header
    out = np.empty((len(unpacker), header.height, header.width, 1 if header.gray else 3), np.uint8)
    for index in range(len(unpacker)):
        out[index] = unpacker[index]
    return out


def _kind(shape: tuple[int, ...]) -> str:
    """Size and mode of an image, for people."""
    height, width, channels = shape
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"
