"""Images as arrays, with labels: idx files as MNIST ships them, npz files, TensorFlow Datasets.

These hold many small images of one size, unlike the directories of image files that
:mod:`codec_cli.training.data` reads. TensorFlow is imported for its own data sets alone.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_cli.errors import TrainingError
from codec_cli.training.idx import MAX_BYTES, Split, by, idx_file, idx_names, labels_file, read_idx

Pixels = npt.NDArray[np.uint8]

TFDS = "tfds:"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images of one size, perhaps with labels.

    Attributes:
        images: uint8 (n, height, width, channels).
        labels: int64 (n,), or None where the source has none.
    """

    images: Pixels
    labels: npt.NDArray[np.int64] | None


def load_source(
    source: str | Path, split: Split, channels: int, data_dir: str | Path | None = None
) -> Labelled:
    """All images of one split of a source, in its order.

    Args:
        source: An npz file (``x_train``, ``x_test``, ``y_train``, ``y_test``; ``images`` counts as
            ``x_train``), an idx file of images, a directory that holds MNIST's idx files, or ``tfds:NAME``.
        split: ``train`` or ``test``; an idx file by itself is ``train``. A TensorFlow data set without
            ``test`` gives its ``validation``.
        channels: 1 (gray) or 3 (R'G'B'); images are converted.
        data_dir: Where TensorFlow Datasets keeps its files; its own place by default.

    Returns:
        The images, upright: EMNIST, which NIST publishes transposed, too.

    Raises:
        TrainingError: The source is missing, damaged, or of another kind, or has no such split.
    """
    if str(source).startswith(TFDS):
        return _load_tfds(str(source), split, channels, data_dir)
    path = Path(source)
    if path.is_dir():
        return _load_idx(idx_file(path, split), channels)
    if not path.is_file():
        raise TrainingError(f"{path}: no such file or directory; a TensorFlow data set is {TFDS}NAME")
    if _is_zip(path):
        return _load_npz(path, split, channels)
    if split == "test":
        raise TrainingError(
            f"{path}: an idx file by itself has no test images; name the directory with all of them"
        )
    return _load_idx(path, channels)


def is_array_source(path: Path) -> bool:
    """Whether a path is for :func:`load_source`: a file, or a directory with MNIST's idx files."""
    return path.is_file() or bool(idx_names(path))


def has_test(path: Path) -> bool:
    """Whether an array source has test images of its own."""
    if path.is_dir():
        return any(names[0] != "train" for names in idx_names(path))
    if not _is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "x_test.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: not an npz file that can be read ({error})") from error


def identity(path: Path) -> str:
    """A text that changes with the training images of an array source."""
    file = (idx_file(path, "train") if path.is_dir() else path).resolve()
    try:
        facts = file.stat()
    except OSError as error:
        raise TrainingError(f"{path}: cannot read: {error.strerror}") from error
    return f"{file}:{facts.st_size}:{facts.st_mtime_ns}"


def to_channels(images: Pixels, channels: int) -> Pixels:
    """Gray to R'G'B' and back, uint8 (n, height, width, 1, 3 or 4) to (n, height, width, channels)."""
    images = images[..., :3]  # Without alpha.
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, 3)
    gray = np.empty((*images.shape[:3], 1), np.uint8)
    for i, image in enumerate(images):
        gray[i, :, :, 0] = np.asarray(Image.fromarray(image).convert("L"))
    return gray


# idx files


def _load_idx(path: Path, channels: int) -> Labelled:
    images = read_idx(path)
    if images.ndim < 3:
        raise TrainingError(f"{path}: holds labels, not images; name the file of images")
    if path.name.startswith("emnist-"):
        images = images.swapaxes(1, 2)  # NIST stores its images transposed.
    pixels = _checked(images, str(path), channels)
    beside = labels_file(path)
    labels = None if beside is None else _checked_labels(read_idx(beside), len(pixels), str(beside))
    return Labelled(pixels, labels)


# npz files


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(2) == b"PK"
    except OSError as error:
        raise TrainingError(f"{path}: cannot read: {error.strerror}") from error


def _load_npz(path: Path, split: Split, channels: int) -> Labelled:
    wanted = ("x_train", "images") if split == "train" else ("x_test",)
    try:
        with zipfile.ZipFile(path) as packed:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in packed.infolist()}
        name = next((name for name in wanted if name in sizes), None)
        if name is None:
            known = ", ".join(sorted(sizes)) or "nothing"
            raise TrainingError(f"{path}: holds no array {' or '.join(wanted)}, but {known}; rename it")
        parts = {part: sizes[part] for part in (name, f"y_{split}") if part in sizes}
        if sum(parts.values()) > MAX_BYTES:
            raise TrainingError(f"{path}: {name} has more than {MAX_BYTES >> 30} GiB; split the file")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {part: np.asarray(archive[part]) for part in parts}
    except TrainingError:
        raise
    except Exception as error:  # numpy and zipfile have no common type for what a file may hold.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(f"{path}: not an npz file that can be read ({reason})") from error
    images = _checked(arrays[name], f"{path}: {name}", channels)
    labels = arrays.get(f"y_{split}")
    if labels is None:
        return Labelled(images, None)
    return Labelled(images, _checked_labels(labels, len(images), f"{path}: y_{split}"))


def _checked(images: npt.NDArray[Any], where: str, channels: int) -> Pixels:
    if images.dtype != np.uint8:
        raise TrainingError(f"{where} holds {images.dtype}; store it as uint8, from 0 to 255")
    pixels = images[..., None] if images.ndim == 3 else images
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3, 4) or not pixels.size:
        raise TrainingError(
            f"{where} is {by(images.shape)}; needed is images x height x width (x 1 or 3 channels)"
        )
    return np.ascontiguousarray(to_channels(pixels, channels))


def _checked_labels(labels: npt.NDArray[Any], count: int, where: str) -> npt.NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
        raise TrainingError(
            f"{where} is {by(labels.shape)} of {labels.dtype}; needed is one whole number for each of "
            f"the {count} images"
        )
    return labels.reshape(-1).astype(np.int64)


# TensorFlow Datasets


def tfds_split(name: str, preferred: tuple[str, ...], data_dir: str | Path | None = None) -> str | None:
    """The first of some splits that a TensorFlow data set ``tfds:NAME`` has, or None."""
    splits = _builder(name, data_dir).info.splits
    return next((split for split in preferred if split in splits), None)


def tfds_images(
    name: str, split: str, channels: int, data_dir: str | Path | None = None
) -> Iterator[tuple[Pixels, int | None]]:
    """Images of a TensorFlow data set in its order, EMNIST's upright.

    Args:
        name: ``tfds:NAME``.
        split: Such as ``train[:-8]``.
        channels: 1 or 3.
        data_dir: Where the data set lies, or is put.

    Yields:
        uint8 (height, width, channels), and the label if there is one.

    Raises:
        TrainingError: The data set or split is not to be had, or has no 8-bit images.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    try:
        # Without its own cache, which keeps whole data sets in memory.
        reading = tfds.ReadConfig(try_autocache=False)
        source = builder.as_dataset(split=split, shuffle_files=False, read_config=reading)
    except Exception as error:
        raise _unavailable(name, error) from error
    specs = source.element_spec if isinstance(source.element_spec, dict) else {}
    image, label = specs.get("image"), specs.get("label")
    if image is None or image.dtype != "uint8" or image.shape.rank != 3 or image.shape[-1] not in (1, 3, 4):
        raise TrainingError(f"--dataset {name}: holds no 8-bit gray or R'G'B' images named 'image'")
    labelled = label is not None and label.dtype.is_integer and label.shape.rank == 0
    for example in tfds.as_numpy(source):
        pixels = to_channels(example["image"][None], channels)[0]
        # Data sets of this name are NIST's files as they are.
        upright = pixels.swapaxes(0, 1) if builder.name == "emnist" else pixels
        yield upright, int(example["label"]) if labelled else None


def _builder(name: str, data_dir: str | Path | None) -> Any:  # noqa: ANN401 - untyped
    from codec_cli.training import require

    require()
    try:
        import tensorflow_datasets as tfds

        place = None if data_dir is None else str(data_dir)
        builder = tfds.builder(name.removeprefix(TFDS), data_dir=place)
        # Which splits there are is known only now.
        builder.download_and_prepare()
    except Exception as error:
        raise _unavailable(name, error) from error
    return builder


def _unavailable(name: str, error: Exception) -> TrainingError:
    lines = (line for line in str(error).splitlines() if line.strip())
    return TrainingError(f"--dataset {name}: {next(lines, type(error).__name__)}")


def _load_tfds(name: str, split: Split, channels: int, data_dir: str | Path | None) -> Labelled:
    part: str | None = split
    if split == "test":
        part = tfds_split(name, ("test", "validation"), data_dir)
        if part is None:
            raise TrainingError(f"--dataset {name}: has no test images of its own; choose another data set")
    images: list[Pixels] = []
    labels: list[int | None] = []
    for image, label in tfds_images(name, str(part), channels, data_dir):
        images.append(image)
        labels.append(label)
        if image.shape != images[0].shape or image.size * len(images) > MAX_BYTES:
            raise TrainingError(f"--dataset {name}: images of several sizes, or too many for memory")
    if not images:
        raise TrainingError(f"--dataset {name}: no images in the split {part}")
    known = [label for label in labels if label is not None]
    return Labelled(np.stack(images), np.array(known, np.int64) if len(known) == len(images) else None)
