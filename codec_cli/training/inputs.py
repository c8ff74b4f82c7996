"""What a configuration trains and validates on: image files, arrays, or a TensorFlow data set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from codec_cli.errors import CodecError, TrainingError
from codec_cli.pictures.images import input_suffixes, load_picture
from codec_cli.training import sources
from codec_cli.training.config import Config, Listed
from codec_cli.training.idx import Split

Pixels = npt.NDArray[np.uint8]
# An image, its name for messages, and how many patches to take of it.
Share = tuple[Pixels, str, int]
MAX_PIXELS = 1 << 30


def list_images(folder: Path) -> list[Path]:
    """All files below a directory that Pillow knows by suffix, sorted."""
    if not folder.is_dir():
        raise TrainingError(f"{folder}: no such directory of images; name one with --data")
    known = input_suffixes()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())


def split(config: Config) -> tuple[list[Path], list[Path]]:
    """Training and validation files of a configuration that names a directory of images.

    Args:
        config: The configuration. Where ``data.validation`` is an array there are no validation files.

    Raises:
        TrainingError: There are no images, or none is left to train on.
    """
    files = _required(config.data.path or "")
    if config.data.validation is not None:
        validation = Path(config.data.validation)
        held_out = [] if sources.is_array_source(validation) else _required(validation)
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


def _required(folder: str | Path) -> list[Path]:
    if not str(folder):
        raise TrainingError(f"no training images: give --data DIR or --dataset {sources.TFDS}NAME")
    files = list_images(Path(folder))
    if not files:
        raise TrainingError(f"{folder}: no images in this directory")
    return files


def load_image(path: Path, channels: int) -> npt.NDArray[np.uint8]:
    """Decodes an image to uint8 (height, width, channels)."""
    try:
        pixels = load_picture(path, str(path), MAX_PIXELS, keep_metadata=False).pixels
    except CodecError as error:
        raise TrainingError(str(error)) from error
    return sources.to_channels(pixels[None], channels)[0]


def _array(config: Config) -> Path | None:
    """The file or directory of arrays that a configuration trains on, or None."""
    if config.data.dataset is not None or not config.data.path:
        return None
    path = Path(config.data.path)
    return path if sources.is_array_source(path) else None


def _training_array(config: Config, path: Path) -> Pixels:
    """Images of an array without what is held out: its tail, if there is nothing else to validate on."""
    images = sources.load_source(path, "train", config.transforms.channels).images
    if sources.has_test(path):
        return images
    if config.data.validation is not None:
        if Path(config.data.validation).resolve() == path.resolve():
            raise TrainingError(f"{path}: every image in this file is held out for validation")
        return images
    count = config.run.validation_images
    if len(images) <= count:
        raise TrainingError(
            f"{path}: run.validation_images = {count} of {len(images)} images are held out, which leaves none"
        )
    return images[:-count]


def _tfds_name(config: Config) -> str:
    return sources.TFDS + (config.data.dataset or "").removeprefix(sources.TFDS)


def _tfds_parts(config: Config) -> tuple[str, str]:
    """Splits of a data set to train and to validate on: its own, or else the tail of the training images."""
    name, count = _tfds_name(config), config.run.validation_images
    own = sources.tfds_split(name, ("validation", "test"), config.data.data_dir)
    if own is not None or config.data.validation is not None:
        return "train", own or ""
    return f"train[:-{count}]", f"train[-{count}:]"


def _tfds_images(config: Config, part: str) -> Iterator[Pixels]:
    given = (_tfds_name(config), part, config.transforms.channels, config.data.data_dir)
    return (image for image, _ in sources.tfds_images(*given))


def _tfds_shares(config: Config) -> Iterator[Share]:
    """Each image for one patch; photographs, which differ in size, again and again."""
    part = _tfds_parts(config)[0]
    while True:
        shapes = set()
        for image in _tfds_images(config, part):
            shapes.add(image.shape)
            yield image, f"--dataset {_tfds_name(config)}", 1
        if len(shapes) < 2:
            return


def labels(config: Config, count: int) -> npt.NDArray[np.int64]:
    """Labels of the training images, in their order.

    Args:
        config: The configuration, with ``labels``.
        count: Number of images.

    Returns:
        int64 (count,), within 0 and 2^bits - 1.

    Raises:
        TrainingError: The source has none, or one does not fit.
    """
    array = _array(config)
    if config.data.dataset is not None:
        given = (_tfds_name(config), _tfds_parts(config)[0], config.transforms.channels, config.data.data_dir)
        found = [label for _, label in islice(sources.tfds_images(*given), count)]
        values = None if None in found else np.asarray(found, np.int64)
    elif array is not None:
        values = sources.load_source(array, "train", config.transforms.channels).labels
    else:
        values = None
    if values is None or config.labels is None:
        where = config.data.dataset or config.data.path
        raise TrainingError(f"{where}: has no labels, which the configuration asks for (labels)")
    values = values[:count]
    if not config.labels.can_say(int(values.min()), int(values.max())):
        raise TrainingError(
            f"labels.bits={config.labels.bits}: too few for labels of {values.min()} to {values.max()}"
        )
    return values


def identity(config: Config) -> list[str]:
    """What a cache of patches depends on beside the fields of the configuration that shape patches."""
    data = config.data
    kind = ["whole"] if isinstance(config.transforms, Listed) else []
    held_out = f"[:-{config.run.validation_images}]" if data.validation is None else ""
    if data.dataset is not None:
        # Which splits it has is not asked: that would open it.
        return [_tfds_name(config), str(data.data_dir), held_out, "upright", *kind]
    array = _array(config)
    if array is not None:
        return [sources.identity(array), "" if sources.has_test(array) else held_out, *kind]
    return [*(f"{path}:{path.stat().st_size}" for path in split(config)[0]), *kind]


def of_photographs(config: Config) -> bool:
    """Whether images are files of any size, of which as many patches are cut as the cache holds."""
    listed = isinstance(config.transforms, Listed)
    return config.data.dataset is None and not listed and _array(config) is None


def shares(config: Config, rng: np.random.Generator, quiet: bool) -> Iterator[Share]:
    """Training images, each with its number of patches; arrays are read at once, others as they are used.

    Args:
        config: The configuration.
        rng: Of the order of photographs.
        quiet: No progress bar.

    Returns:
        Images uint8 (height, width, channels) of any size.

    Raises:
        TrainingError: Something is missing or can't be read; of images, when they are asked for.
    """
    data = config.data
    if data.validation is not None:
        # What is wrong with them should not come out after all the decoding.
        if sources.is_array_source(Path(data.validation)):
            validation_images(config)
        else:
            _required(data.validation)
    if data.dataset is not None:
        return _tfds_shares(config)
    path = _array(config)
    if path is not None:
        images = _training_array(config, path)
        return ((image, str(path), 1) for image in images)
    files = split(config)[0]
    if isinstance(config.transforms, Listed):
        return ((load_image(file, config.transforms.channels), str(file), 1) for file in files)
    return _file_shares(config, files, rng, quiet)


def _file_shares(config: Config, files: list[Path], rng: np.random.Generator, quiet: bool) -> Iterator[Share]:
    """Photographs in random order, with patches in proportion to area, at least one."""
    wanted = config.data.cache_patches
    areas = np.array([np.prod(_image_size(path)) for path in files], np.float64)
    share = np.maximum(1, np.floor(areas / areas.sum() * wanted)).astype(int)
    for index in tqdm(rng.permutation(len(files)), desc="decoding", disable=quiet, leave=False):
        yield load_image(files[index], config.transforms.channels), str(files[index]), int(share[index])


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise TrainingError(f"{path}: not an image that can be read ({reason})") from error


def validation_images(config: Config) -> list[Pixels]:
    """The first ``run.validation_images`` images held out of training, whole.

    They are those of ``data.validation``; or the validation or test images that the source has of its own;
    or else every 20th file of a directory, or the last images of another source.

    Args:
        config: The configuration.

    Returns:
        uint8 (height, width, channels) each, of any size.

    Raises:
        TrainingError: There are none, or they can't be read.
    """
    data, channels, count = config.data, config.transforms.channels, config.run.validation_images
    if data.validation is not None:
        path = Path(data.validation)
        if sources.is_array_source(path):
            part: Split = "test" if sources.has_test(path) else "train"
            return list(sources.load_source(path, part, channels).images[:count])
        return [load_image(file, channels) for file in _required(path)[:count]]
    if data.dataset is not None:
        part_name = _tfds_parts(config)[1]
        images = _tfds_images(config, part_name)
        return list(images)[-count:] if part_name.startswith("train") else list(islice(images, count))
    array = _array(config)
    if array is None:
        return [load_image(file, channels) for file in split(config)[1][:count]]
    if sources.has_test(array):
        return list(sources.load_source(array, "test", channels).images[:count])
    return list(sources.load_source(array, "train", channels).images[-count:])
