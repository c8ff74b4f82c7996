"""Is a compressed file, or an archive of many images, whole? And how near is it to its original?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codec_cli.bitstream import archive
from codec_cli.errors import CodecError, FormatError, ImageError
from codec_cli.packing import Unpacker
from codec_cli.pictures.alpha import decode_alpha

if TYPE_CHECKING:
    from codec_cli.bitstream.container import Header
    from codec_cli.codec import Codec

__all__ = ["Checked", "check", "compare", "original_of"]


@dataclass(frozen=True)
class Checked:
    """A file that is whole.

    Attributes:
        width: Of the image, or of each image, in pixels.
        height: Likewise.
        images: How many there are; None for a file of one image.
        model: Name of the model that decodes it.
        level: Quality level of the model.
        psnr: Against the original, in dB, over R'G'B' or gray; ``inf`` if equal, None if not measured.
        alpha_equal: Whether the alpha plane is exactly the original's, or neither has one; None if not
            compared.
    """

    width: int
    height: int
    images: int | None
    model: str
    level: int
    psnr: float | None = None
    alpha_equal: bool | None = None


def check(codec: Codec, data: bytes, *, decode: bool, max_pixels: int) -> Checked:
    """Checks the bytes of a file or archive.

    Args:
        codec: Knows the models.
        data: All bytes.
        decode: Decode everything, pixels too; otherwise checksums, structure and model are checked.
        max_pixels: The most pixels that it may claim to have.

    Raises:
        CodecError: It is no file of ours, is damaged, needs a model that is not here, or is too large.
    """
    if archive.is_archive(data):
        unpacker = Unpacker(data, codec, max_pixels=max_pixels)
        for index in range(len(unpacker) if decode else 0):
            unpacker[index]  # decodes it
        header, count = unpacker.archive.header, len(unpacker)
        return Checked(header.width, header.height, count, unpacker.info.name, header.level)
    parsed = codec.open(data, max_pixels)
    header = parsed.header
    if decode:
        for _ in codec.tiles(header, parsed.tiles).bands():
            pass
        if header.alpha:
            decode_alpha(parsed.metadata.alpha_png, header, "alpha plane")
    return _one(codec, header)


def _one(codec: Codec, header: Header) -> Checked:
    """What is known of a file of one image that is whole."""
    return Checked(header.width, header.height, None, codec.model_for(header).name, header.level)


def compare(codec: Codec, data: bytes, original: Path, *, max_pixels: int) -> Checked:
    """Decodes a file and compares it with the image that it was made of.

    Originals that :func:`codec_cli.pictures.rows.open_rows` opens are compared by rows; of others, and of all
    that are small, both images are held in memory.

    Args:
        codec: Knows the models.
        data: All bytes of a file of one image.
        original: The image file.
        max_pixels: The most pixels of either.

    Raises:
        FormatError: As :func:`check`, or it is not an image of the original's size and mode.
        ImageError: The original can't be read.
    """
    from codec_cli.evaluation.metrics import psnr
    from codec_cli.pictures.images import load_picture
    from codec_cli.pictures.rows import RowPicture, open_rows
    from codec_cli.streaming import RowFile, psnr_by_rows
    from codec_cli.verification import same_alpha, shape_text

    if archive.is_archive(data):
        raise FormatError("an archive of several images can't be compared with one; unpack it first")
    name = str(original)
    parsed = codec.open(data, max_pixels)
    checked = _one(codec, parsed.header)
    made = RowFile(codec, parsed, name)
    rows = open_rows(original, name, max_pixels, keep_metadata=False)
    source = rows or load_picture(original, name, max_pixels, keep_metadata=False)
    shape = source.shape if isinstance(source, RowPicture) else source.pixels.shape
    if made.shape != shape:
        raise FormatError(f"it decodes to {shape_text(made.shape)}, but {original} is {shape_text(shape)}")
    if isinstance(source, RowPicture):
        equal = made.alpha == source.alpha and (not made.alpha or made.same_alpha(source))
        return replace(checked, psnr=psnr_by_rows(codec, source, parsed), alpha_equal=equal)
    decoded = codec.picture(parsed, name)
    equal = same_alpha(source.alpha, decoded.alpha)
    return replace(checked, psnr=psnr(source.pixels, decoded.pixels), alpha_equal=equal)


def original_of(path: Path, below: Path, originals: Path, suffixes: Iterable[str]) -> Path:
    """The image that a compressed file was made of, by its name.

    Args:
        path: Of the compressed file.
        below: Folder that it was found in, or its parent.
        originals: An image file, or a folder that is laid out like ``below``.
        suffixes: Of images, in lower case.

    Raises:
        ImageError: There is none, or none that may be opened.
        CodecError: There are several.
    """
    if not originals.is_dir():
        return originals
    place = originals / path.relative_to(below)
    known = set(suffixes)
    try:
        near = sorted(
            other
            for other in place.parent.iterdir()
            if other.stem == place.stem and other.suffix.lower() in known
        )
    except OSError:
        near = []
    if not near:
        raise ImageError(f"no original {place.stem}.* in {place.parent}")
    if len(near) > 1:
        raise CodecError(f"several originals: {', '.join(other.name for other in near)} in {place.parent}")
    if near[0].exists() and not near[0].is_file():  # A pipe would be waited for forever.
        raise ImageError(f"{near[0]}: cannot read: not a regular file")
    return near[0]
