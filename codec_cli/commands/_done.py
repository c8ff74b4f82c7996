"""What ``--resume`` may skip, and what ``--delete-source`` may delete."""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from codec_cli.bitstream import container
from codec_cli.errors import CodecError, FormatError, OutputError
from codec_cli.files import read_bytes

if TYPE_CHECKING:
    from codec_cli.pictures.images import Picture
    from codec_cli.pictures.rows import RowPicture
    from codec_cli.streaming import RowFile

__all__ = ["LOSSY", "Identity", "State", "delete", "forget", "identity", "lost", "lost_by_rows", "state"]

LOSSY = (".jpg", ".jpeg", ".avif")
"""Suffixes of images that `codec decompress` writes with a loss."""

Identity = tuple[int, int, int, int]
"""Device, inode, bytes, time of the last change in ns: what a file that was read has to keep."""


class State(enum.Enum):
    """What there is in the place of an output."""

    DONE = enum.auto()
    """The output, whole and not older than its input."""
    STALE = enum.auto()
    """A compressed file that is damaged or older than its input: to be replaced."""
    FOREIGN = enum.auto()
    """Something else, or something that may be someone's only copy: to be left alone."""
    UNREADABLE_INPUT = enum.auto()
    """The input can't be read, so that nothing can be said."""


def state(source: Path, target: Path, compresses: bool, max_pixels: int) -> State:
    """Whether an output has to be made again, and whether what is in its place may be replaced.

    Times tell that an input was changed; that is what they are for, and hashes of all inputs would have to be
    kept somewhere. They do not tell whether an output is whole: a compressed file has to match its checksum,
    an image has to decode completely. Both have to be of the input's size in pixels. Options do not count:
    what was made with another quality is done.

    Only compressed files are ever stale. An image that is older than a compressed file may well be what that
    was made from.

    Args:
        source: The input.
        target: What exists in the place of the output.
        compresses: Whether the output is the compressed file.
        max_pixels: The largest image to accept.
    """
    try:
        facts = source.stat()
        header = None if compresses else _whole_header(source)
    except (OSError, CodecError):
        return State.UNREADABLE_INPUT
    try:
        made = target.stat()
        older = made.st_mtime_ns < facts.st_mtime_ns
        if not stat.S_ISREG(made.st_mode):
            return State.FOREIGN
        if header is None:
            return _state_of_compressed(source, target, older, max_pixels)
        return State.FOREIGN if older or not _decodes(target, header, max_pixels) else State.DONE
    except (OSError, CodecError):
        return State.FOREIGN


def _whole_header(path: Path) -> container.Header:
    """The header of a compressed file; raises CodecError if that is damaged."""
    data = read_bytes(path, error=FormatError)
    container.check_sum(data)
    return container.peek(data)


def _state_of_compressed(source: Path, target: Path, older: bool, max_pixels: int) -> State:
    data = read_bytes(target)
    header = container.peek(data)  # Fails where it is none of ours.
    try:
        container.check_sum(data)
    except FormatError:
        return State.STALE
    if older:
        return State.STALE
    try:
        same = _same_size(source, header, max_pixels)
    except CodecError:
        return State.UNREADABLE_INPUT
    return State.DONE if same else State.FOREIGN


def _same_size(source: Path, header: container.Header, max_pixels: int) -> bool:
    """Whether an image has the size that a compressed file gives, as far as its header tells that quickly."""
    if source.suffix.lower() not in _QUICK_SUFFIXES:
        return True
    from codec_cli.pictures.images import opened_image

    with opened_image(source, str(source), max_pixels) as image:
        # Not yet upright.
        return sorted(image.size) == sorted((header.width, header.height))


_QUICK_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".pnm")


def _decodes(target: Path, header: container.Header, max_pixels: int) -> bool:
    """Whether an image is whole and has the size that a compressed file gives."""
    from codec_cli.pictures.images import load_picture
    from codec_cli.pictures.rows import open_rows

    by_rows = open_rows(target, str(target), max_pixels, keep_metadata=False)
    if by_rows is None:
        shape: tuple[int, ...] = load_picture(target, str(target), max_pixels, False).pixels.shape
    else:
        shape = by_rows.shape
        for _ in by_rows.bands():
            pass  # It has to decode to its last row.
    return shape[:2] == (header.height, header.width)


def identity(facts: os.stat_result) -> Identity:
    """Which file this is, and in which state."""
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def forget(path: Path) -> None:
    """Makes the next reading of a file come from the disk, as far as the system can be asked to."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def lost(picture: Picture, image: Picture, suffix: str) -> tuple[str, ...]:
    """What an image file has not kept of the picture that it was made from; for formats without loss.

    Args:
        picture: What was decoded.
        image: What was read back.
        suffix: Of the image file, for messages.

    Returns:
        A line for each kind of loss that is in the nature of the format.

    Raises:
        OutputError: Pixels differ, which is in the nature of none.
    """
    import numpy as np

    from codec_cli.verification import same_alpha

    if picture.pixels.shape != image.pixels.shape:
        return (_another_kind(suffix),)
    same = np.array_equal(picture.pixels, image.pixels)
    return _losses(same, same_alpha(picture.alpha, image.alpha), picture, image, suffix)


def lost_by_rows(
    file: RowFile, metadata: container.Metadata, image: RowPicture, suffix: str
) -> tuple[str, ...]:
    """As :func:`lost`, with neither image in memory.

    Args:
        file: What is decoded.
        metadata: Of the compressed file.
        image: What is read back.
        suffix: Of the image file, for messages.
    """
    if file.shape != image.shape:
        return (_another_kind(suffix),)
    alpha = file.alpha == image.alpha and (not file.alpha or file.same_alpha(image))
    return _losses(file.same_pixels(image), alpha, metadata, image, suffix)


def _another_kind(suffix: str) -> str:
    return f"{suffix} reads back as another kind of image"


def _losses(same_pixels: bool, same_alpha: bool, made: object, image: object, suffix: str) -> tuple[str, ...]:
    if not same_pixels:
        raise OutputError(
            "verification failed: the image does not read back as it was decoded; nothing was written"
        )
    notes = [] if same_alpha else [f"{suffix} does not keep the alpha plane"]
    for name in ("icc", "exif"):
        if (getattr(made, name) or None) != (getattr(image, name) or None):
            notes.append(f"{suffix} does not keep {name.upper()} as it is")
    return tuple(notes)


def delete(source: Path, before: Identity, doubts: tuple[str, ...]) -> tuple[str, ...]:
    """Deletes an input, unless there is a reason not to.

    Args:
        source: The input.
        before: Its identity before it was read.
        doubts: What was lost.

    Returns:
        Why it was kept, as a warning; nothing if it was deleted.

    Raises:
        CodecError: It can't be deleted.
    """
    if doubts:
        return ("source kept, for what is said above",)
    if source.is_symlink():
        return ("source kept: it is a symbolic link",)
    try:
        if identity(source.stat()) != before:
            return ("source kept: it was changed meanwhile",)
        source.unlink()
    except OSError as error:
        raise CodecError(f"{source}: written, but cannot be deleted: {error.strerror}") from error
    return ()
