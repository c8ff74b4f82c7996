"""idx files, in which MNIST and the data sets after it come: finding them by name, reading them."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from codec_cli.errors import TrainingError

Split = Literal["train", "test"]

# Bytes of an array: more than any data set of small images, less than memory.
MAX_BYTES = 1 << 32
# What a byte of a gzip file can become at most.
GZIP_RATIO = 1032
UNSIGNED_BYTES = 8

# MNIST's names (with a dot before "idx" in some copies) and those of EMNIST.
_NAME = re.compile(r"(?:emnist-[a-z]+-)?(train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")


def idx_names(folder: Path) -> list[tuple[str, Path]]:
    """Files of images in a directory, by name.

    Args:
        folder: What is no directory holds none.

    Returns:
        ``train``, ``t10k`` or ``test``, as in the name, and the path. Of a file that lies there both plain
        and packed, the plain one.

    Raises:
        TrainingError: The directory can't be read.
    """
    if not folder.is_dir():
        return []
    files: dict[str, tuple[str, Path]] = {}
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        raise TrainingError(f"{folder}: cannot read: {error.strerror}") from error
    for path in listed:
        match = _NAME.fullmatch(path.name)
        if match and path.is_file():
            files.setdefault(path.name.removesuffix(".gz"), (match[1], path))
    return list(files.values())


def idx_file(folder: Path, split: Split) -> Path:
    """The one file of a split's images in a directory (raises :class:`TrainingError`)."""
    files = [path for name, path in idx_names(folder) if (name == "train") == (split == "train")]
    if not files:
        name = "train-images" if split == "train" else "t10k-images"
        raise TrainingError(f"{folder}: no file {name}-idx3-ubyte (or .gz) in this directory")
    if len(files) > 1:
        names = " and ".join(path.name for path in files[:2])
        raise TrainingError(
            f"{folder}: holds {names}; name one of the files, or put it into another directory"
        )
    return files[0]


def labels_file(images: Path) -> Path | None:
    """The file of labels beside a file of images, or None."""
    stem = images.name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1")
    places = (images.with_name(name) for name in (stem, f"{stem}.gz"))
    return next((path for path in places if path != images and path.is_file()), None)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Reads an idx file, plain or packed with gzip.

    Args:
        path: The file.

    Returns:
        uint8, of the file's own 1, 3 or 4 dimensions.

    Raises:
        TrainingError: It is no idx file, holds no bytes, or its size is not what its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            if raw.peek(2)[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    return _parse_idx(path, unpacked, size * GZIP_RATIO)
            return _parse_idx(path, raw, size)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(f"{path}: cannot be read ({reason}); fetch it again") from error


def _parse_idx(path: Path, stream: Any, most: int) -> npt.NDArray[np.uint8]:  # noqa: ANN401
    """Parses an idx file of at most ``most`` bytes, which bounds what a wrong header can make us allocate."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise TrainingError(f"{path}: neither an idx nor an npz file; image files go into a directory")
    if magic[2] != UNSIGNED_BYTES or magic[3] not in (1, 3, 4):
        raise TrainingError(
            f"{path}: an idx file of type {magic[2]} with {magic[3]} dimensions; needed is type 8 "
            "(unsigned bytes) with 3 dimensions (1 for labels)"
        )
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise TrainingError(f"{path}: ends within its header; fetch it again")
    shape = struct.unpack(f">{magic[3]}I", header)
    count = math.prod(shape)
    if count == 0 or count > MAX_BYTES:
        raise TrainingError(f"{path}: its header says {by(shape)}: empty, too large, or damaged")
    data = stream.read(count + 1) if count <= most else b""
    if len(data) != count:
        how = "more" if len(data) > count else "less"
        raise TrainingError(f"{path}: holds {how} than the {by(shape)} of its header; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def by(shape: tuple[int, ...]) -> str:
    """A shape for a message: ``60000x28x28``."""
    return "x".join(map(str, shape)) or "a single number"
