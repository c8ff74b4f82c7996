"""Training images: a directory, an array or a TensorFlow data set -> patches on disk -> crops.

Sources are decoded once, at several random scales, into one array of square patches that later runs map
into memory. Transforms for images of one size get whole images instead, as they are. A batch is a pure
function of (seed, step): a resumed run sees what an unbroken one would.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_cli.errors import TrainingError
from codec_cli.training import inputs
from codec_cli.training.config import Config, Listed
from codec_cli.training.inputs import list_images, load_image, split, validation_images

__all__ = [
    "batch_at",
    "labels_at",
    "list_images",
    "load_image",
    "load_patches",
    "patch_size",
    "split",
    "validation_crops",
    "validation_images",
]

Patches = npt.NDArray[np.uint8]


def _cut(image: Patches, size: int, min_scale: float, rng: np.random.Generator) -> Patches:
    """One patch at a random scale and place; small images are padded by reflection."""
    height, width = image.shape[:2]
    smallest = max(min_scale, min(1.0, size / min(height, width)))
    scale = rng.uniform(smallest, 1.0)
    if scale < 0.98:
        squeezed = Image.fromarray(image.squeeze())
        resized = squeezed.resize(
            (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.LANCZOS
        )
        image = np.asarray(resized).reshape(resized.height, resized.width, image.shape[2])
        height, width = image.shape[:2]
    if height < size or width < size:
        pad = ((0, max(0, size - height)), (0, max(0, size - width)), (0, 0))
        image = np.pad(image, pad, mode="symmetric")
        height, width = image.shape[:2]
    top = int(rng.integers(0, height - size + 1))
    left = int(rng.integers(0, width - size + 1))
    return image[top : top + size, left : left + size]


def patch_size(config: Config) -> int:
    """Side of a cached patch: half as long again as a crop, unless images are taken whole."""
    if isinstance(config.transforms, Listed):
        return config.data.crop
    return config.data.crop * 3 // 2


def _whole(image: Patches, size: int, name: str) -> Patches:
    """An image for transforms of one size, which neither scale nor crop (raises :class:`TrainingError`)."""
    height, width = image.shape[:2]
    if (height, width) != (size, size):
        raise TrainingError(
            f"{name}: an image of {width}x{height} pixels, but transforms.size is {size}, "
            f"which takes images of {size}x{size}; resize them or change the configuration"
        )
    return image


def load_patches(config: Config, cache_dir: Path, quiet: bool = False) -> Patches:
    """The patch cache of a configuration, built if it is not there.

    A directory of photographs gives ``data.cache_patches`` patches, many of large images. Where images are
    of one size (arrays, or transforms that take whole images) each gives one, in their order, so that there
    may be fewer.

    Args:
        config: Names the source; decides patch size, scales and number.
        cache_dir: Directory for ``patches-HASH.npy``.
        quiet: No progress bar.

    Returns:
        uint8 (patches, size, size, channels), mapped into memory.

    Raises:
        TrainingError: There is no image, one has the wrong size, or the data set is not to be had.
    """
    data, size, channels = config.data, patch_size(config), config.transforms.channels
    key = repr((inputs.identity(config), size, data.min_scale, data.cache_patches, channels, config.seed))
    target = cache_dir / f"patches-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if target.exists():
        return np.load(target, mmap_mode="r")
    rng = np.random.default_rng(config.seed)
    shares = inputs.shares(config, rng, quiet)
    cache_dir.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.tmp")
    short = partial.with_suffix(".short.tmp")
    try:
        shape = (data.cache_patches, size, size, channels)
        patches = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        filled = 0
        for image, name, share in shares:
            for _ in range(min(share, len(patches) - filled)):
                if isinstance(config.transforms, Listed):
                    patches[filled] = _whole(image, size, name)
                else:
                    patches[filled] = _cut(image, size, data.min_scale, rng)
                filled += 1
            if filled == len(patches):
                break
        if filled == 0:
            raise TrainingError(f"{data.dataset or data.path}: no images to train on")
        if filled < len(patches) and inputs.of_photographs(config):
            for i in range(filled, len(patches)):
                patches[i] = patches[int(rng.integers(0, filled))]
            filled = len(patches)
        patches.flush()
        if filled < len(patches):
            with short.open("wb") as stream:
                np.save(stream, patches[:filled])
            short.replace(partial)
        del patches
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        short.unlink(missing_ok=True)
    return np.load(target, mmap_mode="r")


def batch_at(config: Config, patches: Patches, step: int) -> Patches:
    """The crops of one step: uint8 (batch, crop, crop, channels), a pure function of (seed, step)."""
    crop = config.data.crop
    out = np.empty((config.data.batch, crop, crop, patches.shape[3]), np.uint8)
    for i, (index, top, left, mirrored, transposed) in enumerate(_draws(config, patches, step)):
        view = patches[index, top : top + crop, left : left + crop]
        view = view[:, ::-1] if mirrored else view
        out[i] = view.transpose(1, 0, 2) if transposed else view
    return out


def labels_at(
    config: Config, patches: Patches, labels: npt.NDArray[np.int64], step: int
) -> npt.NDArray[np.float32]:
    """The labels of :func:`batch_at` in binary, lowest bit first: float32 (batch, labels.bits), 0 or 1."""
    if config.labels is None:
        raise AssertionError("a configuration without labels asks for none")
    chosen = labels[[index for index, *_ in _draws(config, patches, step)]]
    return (chosen[:, None] >> np.arange(config.labels.bits) & 1).astype(np.float32)


def _draws(config: Config, patches: Patches, step: int) -> Iterator[tuple[int, int, int, bool, bool]]:
    """Patch, top, left, mirrored and transposed of every crop of a step."""
    rng = np.random.Generator(np.random.Philox(key=config.seed, counter=step << 64))
    for _ in range(config.data.batch):
        index = int(rng.integers(0, len(patches)))
        top, left = rng.integers(0, patches.shape[1] - config.data.crop + 1, 2)
        turned = [config.data.augment and rng.random() < 0.5 for _ in range(2)]
        yield index, int(top), int(left), turned[0], turned[1]


def validation_crops(config: Config) -> Patches:
    """Crops of validation images, uint8 (n, 2 * crop, 2 * crop, channels), held out of training.

    Transforms of one size get whole images, which must have it (raises :class:`TrainingError`).
    """
    images = validation_images(config)
    if isinstance(config.transforms, Listed):
        where = str(config.data.validation or config.data.dataset or config.data.path)
        return np.stack([_whole(image, config.transforms.size, where) for image in images])
    rng = np.random.default_rng(0)
    return np.stack([_cut(image, 2 * config.data.crop, 1.0, rng) for image in images])
