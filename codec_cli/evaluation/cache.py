"""Results of measurements on disk, so that a second run costs only what is new.

An entry's name is a digest of everything that its figures depend on: the image's pixels, the codec with its
options, versions and (for ours) weights and source, the setting, and how quality is measured. An entry is
never wrong, at most no longer asked for: the directory may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError, ModelError
from codec_cli.files import write_atomic

if TYPE_CHECKING:
    from codec_cli.zoo import ModelInfo

__all__ = ["Cache", "default_dir", "identity_of_model", "identity_of_quality", "pixels_digest"]

_PACKAGE = Path(__file__).parents[1]
# What else decides our bytes and pixels: floating-point kernels and the range coder.
_LIBRARIES = ("numpy", "ai-edge-litert", "constriction")


def default_dir() -> Path:
    """Where entries lie unless ``--cache-dir`` says otherwise: the user's cache directory."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("codec")) / "eval"


@dataclass(frozen=True)
class Cache:
    """A directory of entries. Several processes may use it at once.

    Attributes:
        folder: Made when the first entry is written.
    """

    folder: Path

    def path(self, *parts: str) -> Path:
        """The file of the entry that depends on ``parts`` (all of them, in this order)."""
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}.json"

    def load(self, path: Path) -> dict[str, Any] | None:
        """An entry, or None where there is none (or none that can be read)."""
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return entry if isinstance(entry, dict) else None

    def save(self, path: Path, entry: Mapping[str, Any]) -> None:
        """Writes an entry.

        Raises:
            CodecError: The directory can't be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(entry).encode(), force=True)
        except (OSError, CodecError) as error:
            raise CodecError(
                f"{self.folder}: can't keep results: {error}; see --cache-dir, --no-cache"
            ) from error


def pixels_digest(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of an image's shape and samples, in hexadecimal."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def identity_of_model(model: ModelInfo) -> str:
    """What our codec's results depend on: the model's files, our source, the libraries below it."""
    # The files themselves, not their check sums in model.json: a damaged model must be found out even when
    # nothing would have to be measured.
    digest = hashlib.sha256()
    for name in ("model.json", *sorted(model.facts["files"])):
        try:
            digest.update((model.path / name).read_bytes())
        except OSError as error:
            raise ModelError(f"{model.path / name}: can't be read: {error.strerror}") from error
    weights = digest.hexdigest()
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    return json.dumps([weights, _source("*.py", "bitstream/*.py", "pictures/*.py"), *libraries])


@cache
def identity_of_quality(lpips_weights: Path | None) -> str:
    """What the metrics depend on: their source, and LPIPS's weights."""
    weights = None if lpips_weights is None else hashlib.sha256(lpips_weights.read_bytes()).hexdigest()
    return json.dumps(
        [_source("evaluation/quality.py", "evaluation/metrics.py", "evaluation/lpips.py"), weights]
    )


@cache
def _source(*patterns: str) -> str:
    digest = hashlib.sha256()
    for file in sorted(file for pattern in patterns for file in _PACKAGE.glob(pattern)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
