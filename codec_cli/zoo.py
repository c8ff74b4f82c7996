"""The models directories: find a model by name or by fingerprint, check it, load its parts.

A model is a folder: ``model.json``, ``analysis.tflite``, ``synthesis.tflite``, ``tables.npz`` and its card
``README.md``. Released folders never change; ``photo`` is an alias of the newest ``photo-N``. A compressed
file names its model by fingerprint, a hash of what decoding depends on, never by position or path.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec_cli.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

DEFAULT_MODEL = "photo"
MODELS_DIR_VARIABLE = "CODEC_MODELS_DIR"
MODEL_FORMAT = 1
DESCRIPTION = "model.json"
TABLES, ANALYSIS, SYNTHESIS = "tables.npz", "analysis.tflite", "synthesis.tflite"
# What only encoding uses; older or foreign models may lack it, and the fingerprint leaves it out.
ENCODER = "encoder.npz"
# For fine-tuning and refinement; not needed to encode or decode.
WEIGHTS = "weights.npz"
LEFT_OUT = "; packages leave those of older models out, the repository has them"
# Model folders may be hostile, too. Bytes of a description, of any other file of a model and of all arrays of
# one npz file: far more than any model of ours has, far less than memory.
MAX_DESCRIPTION = 1 << 20
MAX_FILE = 1 << 29
MAX_ARRAYS = 1 << 29
# The fields of model.json that decoding depends on.
DECODING_FIELDS = (
    "kind", "stride", "channels", "latent_channels", "levels", "trained_levels", "groups", "synthesis_halo",
)  # fmt: skip


def user_models_dir() -> Path:
    """Where ``codec models add`` puts a user's own models."""
    from platformdirs import user_data_path

    return user_data_path("codec", appauthor=False) / "models"


def installed_models_dir() -> Path:
    """The models that come with the tool: package data, or ``models/`` of a source checkout."""
    package = Path(__file__).resolve().parent
    packaged = package / "_models"
    return packaged if packaged.is_dir() else package.parent / "models"


def fingerprint(facts: Mapping[str, Any], tables: Mapping[str, npt.NDArray[Any]], synthesis: bytes) -> str:
    """SHA-256 (hex) of everything that decoding depends on; files carry its first four bytes.

    Args:
        facts: ``model.json``; only :data:`DECODING_FIELDS` count.
        tables: The arrays of ``tables.npz``.
        synthesis: Bytes of ``synthesis.tflite``.
    """
    digest = hashlib.sha256(b"codec-model-1\0")
    digest.update(json.dumps([facts[name] for name in DECODING_FIELDS], separators=(",", ":")).encode())
    for name in sorted(tables):
        value = tables[name]
        digest.update(f"\0{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    digest.update(b"\0synthesis\0" + synthesis)
    return digest.hexdigest()


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without loading it.

    Attributes:
        name: Folder name, such as ``photo-1``.
        path: The folder.
        facts: ``model.json``, parsed and checked.
    """

    name: str
    path: Path
    facts: dict[str, Any]

    @property
    def kind(self) -> str:
        """``factorized`` or ``context``."""
        return str(self.facts["kind"])

    @property
    def fingerprint_full(self) -> str:
        """SHA-256 in hex; see :func:`fingerprint`."""
        return str(self.facts["fingerprint"])

    @property
    def fingerprint(self) -> bytes:
        """The four bytes that a compressed file carries."""
        return bytes.fromhex(self.fingerprint_full)[:4]

    @property
    def levels(self) -> int:
        """Number of usable quality levels."""
        return int(self.facts["levels"])

    @property
    def stride(self) -> int:
        """Pixels per latent position."""
        return int(self.facts["stride"])

    @property
    def size(self) -> int | None:
        """Height and width of the images that the model codes; None for any."""
        size = self.facts.get("size")
        return None if size is None else int(size)

    @property
    def tile_pixels(self) -> int:
        """Side of a tile in pixels."""
        return 64 * self.stride

    @property
    def channels(self) -> int:
        """Channels that the transforms take: 3 or 1."""
        return int(self.facts["channels"])

    def level_of_quality(self, quality: int) -> int:
        """Quality 1..100 to a level, evenly."""
        return round((quality - 1) / 99 * (self.levels - 1))

    def quality_of_level(self, level: int) -> int:
        """The quality nearest to a level."""
        return 1 if self.levels == 1 else round(1 + level / (self.levels - 1) * 99)

    @property
    def default_quality(self) -> int:
        """Quality of about 0.6 bits per pixel on validation photographs."""
        return self.quality_of_level(int(self.facts["default_level"]))

    def promised(self, level: int) -> float | None:
        """Mean PSNR over R'G'B' of a level on validation images, by the card; None where it has no figure."""
        rows = self.facts.get("validation")
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and row.get("level") == level:
                value = row.get("psnr_rgb_db")
                return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
        return None

    def read(self, name: str) -> bytes:
        """A file of the model, checked against its SHA-256 (raises :class:`ModelError`)."""
        try:
            data = _read_regular(self.path / name, MAX_FILE)
        except OSError as error:
            hint = LEFT_OUT if name == WEIGHTS and self.lacks_weights else ""
            raise ModelError(f"{self.path / name}: cannot read: {error.strerror}{hint}") from error
        if hashlib.sha256(data).hexdigest() != self.facts["files"].get(name):
            raise ModelError(f"{self.path / name}: damaged (checksum differs); install the model again")
        return data

    @cached_property
    def tables(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of ``tables.npz``."""
        return self.arrays(TABLES)

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays of an npz file of the model, checked (raises :class:`ModelError`)."""
        data = self.read(name)
        try:
            return _arrays(data)
        except Exception as error:  # numpy and zipfile have no common type for what a file may hold.
            raise ModelError(f"{self.path / name}: damaged; install the model again") from error

    def synthesis(self) -> bytes:
        """``synthesis.tflite``, once the fingerprint is known to be that of the contents.

        Whoever makes a folder can make the check sums in it right. The fingerprint is what names a model in
        files and in what its publisher says of it, so nothing else may come under it to the interpreter,
        which is not made for hostile networks.

        Raises:
            ModelError: A file is damaged, or the fingerprint that of other contents.
        """
        content = self.read(SYNTHESIS)
        if fingerprint(self.facts, self.tables, content) != self.fingerprint_full:
            raise ModelError(f"{self.path}: the fingerprint does not match the contents")
        return content

    @property
    def lacks_weights(self) -> bool:
        """Whether ``weights.npz`` is named in the description and not there."""
        return WEIGHTS in self.facts["files"] and not (self.path / WEIGHTS).exists()

    def verify(self) -> None:
        """Recomputes checksums, fingerprint and the context networks' bounds.

        Weights may be missing: packages leave those of superseded models out.

        Raises:
            ModelError: Names what differs, or a sum that float32 would not keep exact.
        """
        from codec_cli.bitstream.context import ContextModel
        from codec_cli.loading import load_entropy_model

        for name in self.facts["files"]:
            if name != WEIGHTS or not self.lacks_weights:
                self.read(name)
        self.synthesis()
        entropy = load_entropy_model(self)
        if isinstance(entropy, ContextModel):
            entropy.check_bounds()

    def size_bytes(self) -> int:
        """Bytes on disk of the whole folder."""
        return sum(path.stat().st_size for path in self.path.iterdir() if path.is_file())


def _read_regular(path: Path, limit: int) -> bytes:
    """All bytes of a regular file: a pipe or a device in its place neither blocks nor goes on for ever.

    Raises:
        ModelError: It is something else, or has more than ``limit`` bytes.
        OSError: It can't be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ModelError(f"{path}: not a regular file")
        if facts.st_size > limit:
            raise ModelError(f"{path}: larger than {limit} bytes, which no file of a model is")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(facts.st_size)
    finally:
        os.close(descriptor)


def _arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an npz file. Raises whatever the libraries do, and ValueError, if something is wrong.

    ``numpy.load`` allocates what a member's header claims before it looks for the numbers, and zipfile
    inflates bzip2 and LZMA without a limit: sizes are compared first, and only deflate (or nothing) may
    compress.
    """
    import io
    import zipfile

    from numpy.lib import format as numpy_format

    npy: Any = numpy_format  # It has types in some versions of numpy only.
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    values: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_ARRAYS:
            raise ValueError("too large")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("compressed in another way than numpy does")
            with archive.open(member) as file:  # ZipFile.read() inflates everything, then cuts.
                content = io.BytesIO(file.read(member.file_size + 1))
            shape, _, dtype = read_header[npy.read_magic(content)](content)
            left = len(content.getbuffer()) - content.tell()
            if (
                dtype.kind not in "iuf"
                or min(shape, default=0) < 0
                or math.prod(shape) * dtype.itemsize != left
            ):
                raise ValueError("not numbers, or not as many as claimed")
            content.seek(0)
            values[member.filename.removesuffix(".npy")] = npy.read_array(content, allow_pickle=False)
    return values


def read_info(folder: Path) -> ModelInfo:
    """Reads and checks a folder's ``model.json`` (raises :class:`ModelError`)."""
    path = folder / DESCRIPTION
    try:
        text = _read_regular(path, MAX_DESCRIPTION).decode("utf-8")
        facts = json.loads(text, parse_constant=_no_number)
    except OSError as error:
        raise ModelError(f"{folder}: not a model folder ({DESCRIPTION}: {error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: damaged; install the model again") from error
    needed = (*DECODING_FIELDS, "format", "fingerprint", "files", "analysis_halo", "default_level")
    missing = [name for name in needed if not isinstance(facts, dict) or name not in facts]
    if missing:
        raise ModelError(f"{path}: not a model description (no {missing[0]})")
    if facts["format"] != MODEL_FORMAT:
        raise ModelError(f"{path}: model format {facts['format']!r}; upgrade codec to use it")
    whole = ("levels", "trained_levels", "stride", "channels", "latent_channels", "synthesis_halo",
             "analysis_halo", "default_level")  # fmt: skip
    good = (
        all(type(facts[name]) is int and 0 <= facts[name] <= 65536 for name in whole)
        and facts["kind"] in ("factorized", "context")
        and isinstance(facts["groups"], list)
        and all(type(size) is int and size > 0 for size in facts["groups"])
        and isinstance(facts["files"], dict)
        and all(name in facts["files"] for name in (TABLES, ANALYSIS, SYNTHESIS))
        and all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in facts["files"])
        and isinstance(facts["fingerprint"], str)
        and len(facts["fingerprint"]) == 64
        and set(facts["fingerprint"]) <= set("0123456789abcdef")
        and 1 <= facts["levels"] <= 256
        and facts["default_level"] < facts["levels"]
        and 1 <= facts["stride"] <= 256
        # Decoding holds one row of tiles above and below.
        and max(facts["synthesis_halo"], facts["analysis_halo"]) <= 64
        and facts["channels"] in (1, 3)
        and _is_size(facts.get("size"), facts["stride"])
    )
    if not good:
        raise ModelError(f"{path}: a field is out of range; install the model again")
    return ModelInfo(folder.name, folder, facts)


def _no_number(constant: str) -> None:
    """Refuses NaN and infinities, which Python reads and JSON does not have."""
    raise ValueError(f"{constant} is no number")


def _is_size(size: Any, stride: int) -> bool:  # noqa: ANN401 - from a file
    """Whether a model of one size has one that is possible: a single tile, in whole positions."""
    return size is None or (type(size) is int and 0 < size <= 64 * stride and size % stride == 0)


def _split(name: str) -> tuple[str, int]:
    base, dash, number = name.rpartition("-")
    return (base, int(number)) if dash and number.isdecimal() and number.isascii() else (name, -1)


class Zoo:
    """All models that can be found.

    Args:
        models_dir: Searched first; without it the directory named by ``CODEC_MODELS_DIR``. The user's
            models and the installed ones follow.
    """

    def __init__(self, models_dir: Path | None = None) -> None:
        named = models_dir or (
            Path(os.environ[MODELS_DIR_VARIABLE]) if os.environ.get(MODELS_DIR_VARIABLE) else None
        )
        if named is not None and not named.is_dir():
            raise ModelError(f"{named}: no such models directory")
        self.directories = [d for d in (named, user_models_dir(), installed_models_dir()) if d is not None]

    @cached_property
    def _all_folders(self) -> list[Path]:
        """Every model folder, in the order of search; a name may come twice."""
        found: list[Path] = []
        for directory in self.directories:
            try:
                folders = sorted(directory.iterdir())
            except OSError:
                continue  # Not there, or closed to this user: the others may have the model.
            for folder in folders:
                # A name with a dot is a folder that is being written.
                if not folder.name.startswith(".") and (folder / DESCRIPTION).is_file():
                    found.append(folder)
        return found

    @property
    def _folders(self) -> dict[str, Path]:
        """The first folder of each name."""
        return {folder.name: folder for folder in reversed(self._all_folders)}

    def names(self) -> list[str]:
        """Names of all models, by base name and number."""
        return sorted(self._folders, key=_split)

    def info(self, name: str) -> ModelInfo:
        """A model by name, by alias (``photo`` is the highest ``photo-N``) or by its folder's path."""
        if name in self._folders:
            return read_info(self._folders[name])
        versions = [other for other in self._folders if _split(other)[0] == name]
        if versions:
            return read_info(self._folders[max(versions, key=_split)])
        with suppress(OSError, ValueError):  # What can't be a path is no path.
            if (Path(name) / DESCRIPTION).is_file():
                return read_info(Path(name))
        known = ", ".join(self.names()) or "none"
        raise ModelError(f"{name}: no such model; installed: {known} (see `codec models`)")

    def by_fingerprint(self, mark: bytes) -> ModelInfo:
        """The model that wrote a file, by the four bytes that the file carries."""
        for folder in self._all_folders:
            try:
                info = read_info(folder)
            except ModelError:
                continue  # A broken neighbour must not keep other files from being read.
            if info.fingerprint == mark:
                return info
        raise ModelError(
            f"written with model {mark.hex()}, which is not installed; add it with `codec models add PATH`"
        )

    def add(self, folder: Path, force: bool = False) -> ModelInfo:
        """Copies a checked model folder into the user's models directory.

        Args:
            folder: With a ``model.json``; its name becomes the model's.
            force: Replace a model of that name, or use this one in place of one that comes with the tool.

        Raises:
            ModelError: The model is damaged, its name is taken, or the copy can't be written.
        """
        info = read_info(folder.resolve())
        if not info.name or info.name.startswith("."):
            raise ModelError(f"{folder}: {info.name!r} can't be the name of a model; rename the folder")
        info.verify()
        target = user_models_dir() / info.name
        if target.exists() and not force:
            raise ModelError(f"{target}: exists; use --force to replace it")
        if (installed_models_dir() / info.name).exists() and not force:
            raise ModelError(
                f"{folder}: {info.name} comes with codec; rename the folder, or use --force to use it instead"
            )
        temporary = target.with_name(f".{info.name}.partial")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            # A link may lead anywhere; but the contents of what the description lists are known by now.
            for path in info.path.iterdir():
                known = path.name == DESCRIPTION or path.name in info.facts["files"]
                if path.is_file() and (known or not path.is_symlink()):
                    shutil.copy2(path, temporary / path.name)
            if target.exists():
                shutil.rmtree(target)
            temporary.replace(target)
        except OSError as error:
            raise ModelError(f"{target}: cannot write: {error.strerror}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.__dict__.pop("_all_folders", None)
        return read_info(target)
