"""The images of a study: training and test split of a data set, and how a configuration names it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codec_cli.errors import TrainingError
from codec_cli.training.config import Config, Listed
from codec_cli.training.sources import load_source

__all__ = ["Split", "load_split", "overrides"]

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Split:
    """Images of one size.

    Attributes:
        train: uint8 (n, size, size, channels).
        test: The same, never trained on.
        labels: Class of every test image; all 0 where the data has none.
    """

    train: Images
    test: Images
    labels: npt.NDArray[np.int64]

    @property
    def classes(self) -> list[int]:
        """All classes, in order."""
        return [int(label) for label in np.unique(self.labels)]

    def examples(self, count: int) -> npt.NDArray[np.intp]:
        """Places of up to ``count`` test images, of as many classes as can be."""
        classes = self.classes
        spread = [classes[i * len(classes) // count] for i in range(count)]
        seen: dict[int, int] = {}
        places = []
        for label in spread:
            mine = np.flatnonzero(self.labels == label)
            places.append(mine[seen.get(label, 0) % len(mine)])
            seen[label] = seen.get(label, 0) + 1
        return np.array(places, np.intp)


def load_split(data: str, config: Config, data_dir: str | None = None, limit: int | None = None) -> Split:
    """Reads both splits.

    Args:
        data: Directory, file or ``tfds:NAME``.
        config: Its transforms say how large images are.
        data_dir: Where TensorFlow Datasets keeps its files.
        limit: Bound on the number of test images, spread over the split.

    Raises:
        TrainingError: The images are not to be had, or not of the size.
    """
    transforms = config.transforms
    if not isinstance(transforms, Listed):
        raise TrainingError(f"{config.name}: a study takes transforms of kind layers, for images of one size")
    shape = (transforms.size, transforms.size, transforms.channels)
    train = load_source(data, "train", transforms.channels, data_dir)
    test = load_source(data, "test", transforms.channels, data_dir)
    for images in (train.images, test.images):
        if images.shape[1:] != shape:
            raise TrainingError(f"{data}: images are {images.shape[1:]}, the configuration's {shape}")
    pick = slice(None) if limit is None else slice(None, None, max(1, len(test.images) // limit))
    labels = np.zeros(len(test.images), np.int64) if test.labels is None else test.labels
    return Split(train.images, test.images[pick][:limit], labels[pick][:limit])


def overrides(data: str, data_dir: str | None) -> list[str]:
    """``section.field=value`` texts that make a configuration train on a data set."""
    if data.startswith("tfds:"):
        found = [f"data.dataset={json.dumps(data)}"]
        return found if data_dir is None else [*found, f"data.data_dir={json.dumps(data_dir)}"]
    return [f"data.path={json.dumps(data)}"]
