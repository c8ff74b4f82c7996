"""Training images: a directory or a TensorFlow data set -> decoded patches on disk -> crops.

Sources are decoded once, at several random scales, into one array of square patches that later runs map
into memory. A batch is a pure function of (seed, step): a resumed run sees what an unbroken one would.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from codec_cli.errors import CodecError, TrainingError
from codec_cli.images import input_suffixes, load_picture
from codec_cli.training.config import Config, Listed

Patches = npt.NDArray[np.uint8]
MAX_PIXELS = 1 << 30


def list_images(folder: Path) -> list[Path]:
    """All files below a directory that Pillow knows by suffix, sorted."""
    if not folder.is_dir():
        raise TrainingError(f"{folder}: no such directory of images; name one with --data")
    known = input_suffixes()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())


def split(config: Config) -> tuple[list[Path], list[Path]]:
    """Training and validation files of a configuration that names a directory."""
    if config.data.path is None:
        raise TrainingError("no training images: give --data DIR or --dataset tfds:NAME")
    files = list_images(Path(config.data.path))
    if not files:
        raise TrainingError(f"{config.data.path}: no images in this directory")
    if config.data.validation is not None:
        held_out = list_images(Path(config.data.validation))
        if not held_out:
            raise TrainingError(f"{config.data.validation}: no images in this directory")
        known = {path.resolve() for path in held_out}
        files = [path for path in files if path.resolve() not in known]
        if not files:
            raise TrainingError(
                f"{config.data.path}: every image in this directory is held out for validation"
            )
        return files, held_out
    if len(files) < 2:
        raise TrainingError(f"{config.data.path}: at least two images are needed, one for validation")
    return [f for i, f in enumerate(files) if i % 20 != 0], files[::20]


def load_image(path: Path, channels: int) -> npt.NDArray[np.uint8]:
    """Decodes an image to uint8 (height, width, channels)."""
    try:
        pixels = load_picture(path, str(path), MAX_PIXELS, keep_metadata=False).pixels
    except CodecError as error:
        raise TrainingError(str(error)) from error
    return _to_channels(pixels, channels)


def _to_channels(pixels: Patches, channels: int) -> Patches:
    """Gray to R'G'B' and back, (height, width, 1 or 3)."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, 2)
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def _tfds_images(config: Config, part: str) -> Iterator[Patches]:
    """Images of a slice of a data set's training split, such as ``[:-8]``."""
    import tensorflow_datasets as tfds

    name = (config.data.dataset or "").removeprefix("tfds:")
    try:
        source = tfds.load(name, split=f"train{part}", data_dir=config.data.data_dir, shuffle_files=False)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TrainingError(f"--dataset tfds:{name}: {reason}") from error
    spec = source.element_spec.get("image") if isinstance(source.element_spec, dict) else None
    if spec is None or spec.dtype != "uint8" or spec.shape.rank != 3 or spec.shape[-1] not in (1, 3, 4):
        raise TrainingError(f"--dataset tfds:{name}: holds no 8-bit gray or R'G'B' images named 'image'")
    for example in tfds.as_numpy(source):
        yield _to_channels(example["image"][..., :3], config.transforms.channels)


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


def load_patches(config: Config, cache_dir: Path, quiet: bool = False) -> Patches:
    """The patch cache of a configuration, built if it is not there.

    Args:
        config: Names the source; decides patch size, scales and number.
        cache_dir: Directory for ``patches-HASH.npy``.
        quiet: No progress bar.

    Returns:
        uint8 (patches, size, size, channels), mapped into memory.

    Raises:
        TrainingError: There is no image, or the data set is not to be had.
    """
    data, size = config.data, patch_size(config)
    held_out = f"[:-{config.run.validation_images}]"
    sources: list[str] = [f"{data.dataset}{held_out}"]
    files: list[Path] = []
    if data.dataset is None:
        files = split(config)[0]
        sources = [f"{path}:{path.stat().st_size}" for path in files]
    key = repr((sources, size, data.min_scale, data.cache_patches, config.transforms.channels, config.seed))
    target = cache_dir / f"patches-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if target.exists():
        return np.load(target, mmap_mode="r")
    cache_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(config.seed)
    partial = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        patches = np.lib.format.open_memmap(
            partial, "w+", np.uint8, (data.cache_patches, size, size, config.transforms.channels)
        )
        filled = 0
        images = (
            _shares(config, files, rng, quiet) if files else ((i, 1) for i in _tfds_images(config, held_out))
        )
        for image, share in images:
            for _ in range(min(share, data.cache_patches - filled)):
                patches[filled] = _cut(image, size, data.min_scale, rng)
                filled += 1
            if filled == data.cache_patches:
                break
        if filled == 0:
            raise TrainingError(f"{data.dataset or data.path}: no images to train on")
        for i in range(filled, data.cache_patches):
            patches[i] = patches[int(rng.integers(0, filled))]
        patches.flush()
        del patches
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return np.load(target, mmap_mode="r")


def _shares(
    config: Config, files: list[Path], rng: np.random.Generator, quiet: bool
) -> Iterator[tuple[Patches, int]]:
    """Images in random order, each with its number of patches: in proportion to area, at least one."""
    areas = np.array([np.prod(_image_size(path)) for path in files], np.float64)
    share = np.maximum(1, np.floor(areas / areas.sum() * config.data.cache_patches)).astype(int)
    for index in tqdm(rng.permutation(len(files)), desc="decoding", disable=quiet, leave=False):
        yield load_image(files[index], config.transforms.channels), int(share[index])


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise TrainingError(f"{path}: not an image that can be read ({reason})") from error


def batch_at(config: Config, patches: Patches, step: int) -> Patches:
    """The crops of one step: uint8 (batch, crop, crop, channels), a pure function of (seed, step)."""
    rng = np.random.Generator(np.random.Philox(key=config.seed, counter=step << 64))
    crop, size = config.data.crop, patches.shape[1]
    out = np.empty((config.data.batch, crop, crop, patches.shape[3]), np.uint8)
    for i in range(config.data.batch):
        patch = patches[int(rng.integers(0, len(patches)))]
        top, left = rng.integers(0, size - crop + 1, 2)
        view = patch[top : top + crop, left : left + crop]
        if config.data.augment and rng.random() < 0.5:
            view = view[:, ::-1]
        if config.data.augment and rng.random() < 0.5:
            view = view.transpose(1, 0, 2)
        out[i] = view
    return out


def validation_crops(config: Config) -> Patches:
    """Crops of validation images, uint8 (n, 2 * crop, 2 * crop, channels), held out of training.

    Fixed-size transforms get crops of their size.
    """
    size = config.data.crop * (1 if isinstance(config.transforms, Listed) else 2)
    count = config.run.validation_images
    images: list[Patches] = []
    if config.data.dataset is None:
        for path in split(config)[1][:count]:
            images.append(load_image(path, config.transforms.channels))
    else:
        # The cache takes a data set's head; its tail is validation.
        images = list(_tfds_images(config, f"[-{count}:]"))[-count:]
    rng = np.random.default_rng(0)
    return np.stack([_cut(image, size, 1.0, rng) for image in images])
