"""LPIPS: the distance of two images in the features of a network trained to recognise objects.

Version 0.1 with AlexNet, in numpy alone. Both images run through the five convolutions of AlexNet; at every
position and layer the features are scaled to unit length, their squared differences weighted by channel (the
"linear heads", fitted to people's judgements), averaged over the positions and summed over the layers.

The weights are not part of this package: ``scripts/fetch_lpips.py`` gets them. Nothing here looks for the
file; whoever calls knows it, from an option or from the environment variable :data:`VARIABLE`.

References:
    R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang, "The unreasonable effectiveness of deep features
    as a perceptual metric", CVPR 2018, arXiv:1801.03924.

    A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997 (the
    AlexNet that torchvision has).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from codec_cli.errors import CodecError
from codec_cli.evaluation.metrics import NotDefined

__all__ = ["SMALLEST_SIDE", "VARIABLE", "Lpips", "names_and_shapes"]

Pixels = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]

VARIABLE = "CODEC_LPIPS_WEIGHTS"
"""Environment variable that names the file with the weights where no option does."""

SMALLEST_SIDE = 31
"""Below, nothing is left for the third convolution."""


@dataclass(frozen=True)
class _Layer:
    size: int
    stride: int
    padding: int
    inputs: int
    outputs: int
    pooled: bool  # Whether a 3x3 maximum with stride 2 comes before.


LAYERS = (
    _Layer(11, 4, 2, 3, 64, False),
    _Layer(5, 1, 2, 64, 192, True),
    _Layer(3, 1, 1, 192, 384, True),
    _Layer(3, 1, 1, 384, 256, False),
    _Layer(3, 1, 1, 256, 256, False),
)
# The package's ScalingLayer: mean and deviation of ImageNet, for values from -1 to 1.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10
# Floats of unrolled windows at a time: bounds the memory, and is large enough for the matrix product.
_STRIP_FLOATS = 4 << 20
# Up to here the original's features are kept for its next comparison: 50 bytes a pixel.
_MEMO_PIXELS = 1 << 24


def names_and_shapes() -> dict[str, tuple[int, ...]]:
    """The arrays of a file of weights, all float32: kernels ``(height, width, in, out)``, biases, heads."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, layer in enumerate(LAYERS):
        shapes[f"AlexNet_0.Conv_{i}.kernel"] = (layer.size, layer.size, layer.inputs, layer.outputs)
        shapes[f"AlexNet_0.Conv_{i}.bias"] = (layer.outputs,)
        shapes[f"NetLinLayer_{i}.Conv_0.kernel"] = (1, 1, layer.outputs, 1)
    return shapes


@dataclass
class Lpips:
    """The metric with its weights. Can be pickled.

    Attributes:
        weights: Arrays as :func:`names_and_shapes` lists them.
    """

    weights: Mapping[str, _Floats]
    _original: Pixels | None = field(default=None, init=False, repr=False)
    _features: list[_Floats] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def load(cls, path: Path) -> Lpips:
        """Reads the weights.

        Args:
            path: An ``.npz`` file that ``scripts/fetch_lpips.py`` wrote.

        Raises:
            CodecError: The file is missing, damaged, or holds something else.
        """
        advice = f"scripts/fetch_lpips.py {path.name} gets them"
        try:
            # ZipFile first: np.load returns a lone array for an .npy file, and speaks of pickles for others.
            with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
                weights = {name: arrays[name] for name in names_and_shapes() if name in arrays.files}
        except OSError as error:
            reason = error.strerror or str(error)
            raise CodecError(f"{path}: can't read the weights of LPIPS: {reason}; {advice}") from error
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise CodecError(f"{path}: not a file of LPIPS's weights ({error}); {advice}") from error
        for name, shape in names_and_shapes().items():
            problem = _problem(weights.get(name), shape)
            if problem:
                raise CodecError(f"{path}: not a file of LPIPS's weights ({name} {problem}); {advice}")
        return cls(weights)

    def __call__(self, original: Pixels, decoded: Pixels) -> float:
        """The distance of two images.

        The features of `original` are kept for the next call: one original is compared with many decodes.

        Args:
            original: uint8, ``(height, width, 3)``, R'G'B', both sides at least 31; one channel counts as
                three equal ones.
            decoded: As `original`, of the same shape.

        Returns:
            0 for equal images, mostly under 1; the heads are not negative, so it never is.

        Raises:
            NotDefined: A side is under 31 pixels.
            ValueError: The arrays are not uint8, differ in shape or have neither one nor three channels.
        """
        for image in (original, decoded):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
                raise ValueError(f"needs uint8 of (height, width, 3), not {image.dtype} of {image.shape}")
        if original.shape != decoded.shape:
            raise ValueError(f"images differ in shape: {original.shape} and {decoded.shape}")
        height, width = original.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            raise NotDefined(
                f"LPIPS needs at least {SMALLEST_SIDE} pixels on each side, this image is {width}x{height}"
            )
        total = 0.0
        pairs = zip(self._of_original(original), self._unit_features(decoded), strict=True)
        for i, (a, b) in enumerate(pairs):
            np.subtract(b, a, out=b)  # `a` may be kept, `b` is ours alone.
            np.square(b, out=b)
            head = self.weights[f"NetLinLayer_{i}.Conv_0.kernel"].reshape(-1)
            total += float(np.mean(b @ head, dtype=np.float64))
        return total

    def _of_original(self, image: Pixels) -> Iterator[_Floats]:
        if image.shape[0] * image.shape[1] > _MEMO_PIXELS:
            return self._unit_features(image)
        if self._original is None or not np.array_equal(self._original, image):
            self._original, self._features = None, []  # Free the last one's before taking more memory.
            self._features = list(self._unit_features(image))
            self._original = image.copy()
        return iter(self._features)

    def _unit_features(self, image: Pixels) -> Iterator[_Floats]:
        """Of each layer in turn: ``(height, width, channels)``, each position of unit length."""
        steps = np.arange(256, dtype=np.float32) / np.float32(127.5) - 1
        table = (steps[:, None] - np.array(SHIFT, np.float32)) / np.array(SCALE, np.float32)
        x = table[image, np.arange(3)] if image.shape[2] == 3 else table[image[:, :, 0]]
        for i, layer in enumerate(LAYERS):
            if layer.pooled:
                x = _pool(x)
            kernel, bias = (self.weights[f"AlexNet_0.Conv_{i}.{part}"] for part in ("kernel", "bias"))
            x = _convolve(x, kernel, bias, layer.stride, layer.padding)
            np.maximum(x, 0, out=x)
            length = np.sqrt(np.einsum("yxc,yxc->yx", x, x))[:, :, None]
            yield x / (length + np.float32(_EPSILON))


def _problem(array: npt.NDArray[np.generic] | None, shape: tuple[int, ...]) -> str | None:
    if array is None:
        return "is missing"
    if array.dtype != np.float32 or array.shape != shape:
        return f"is {array.dtype} {array.shape}, not float32 {shape}"
    return None if np.isfinite(array).all() else "is not finite"


def _convolve(x: _Floats, kernel: _Floats, bias: _Floats, stride: int, padding: int) -> _Floats:
    """Cross-correlation with zero padding, as a matrix product over strips of unrolled windows."""
    size, _, inputs, outputs = kernel.shape
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    height, width = ((n - size) // stride + 1 for n in x.shape[:2])
    row, column, item = x.strides
    # A window's rows are runs of memory: unrolled by whole rows, copies are fast.
    windows = as_strided(
        x, (height, width, size, size * inputs), (row * stride, column * stride, row, item), writeable=False
    )
    matrix = kernel.reshape(-1, outputs)
    result = np.empty((height, width, outputs), np.float32)
    rows = max(1, _STRIP_FLOATS // (width * matrix.shape[0]))
    for top in range(0, height, rows):
        strip = windows[top : top + rows].reshape(-1, matrix.shape[0])
        result[top : top + rows] = (strip @ matrix).reshape(-1, width, outputs)
    result += bias
    return result


def _pool(x: _Floats) -> _Floats:
    """Maxima of 3x3, stride 2, only of windows within the image."""
    for _ in repeat(None, 2):  # Down the columns, then, turned, down the rows.
        count = (x.shape[0] - 3) // 2 + 1
        first, second, third = (x[i : i + 2 * count - 1 : 2] for i in range(3))
        x = np.maximum(np.maximum(first, second), third).swapaxes(0, 1)
    return np.ascontiguousarray(x)
