"""What is fuzzed, and what must hold: an image of the header's size or a ``CodecError``, within bounds.

One function, :meth:`Harness.execute`, for all engines. docs/FUZZING.md states the bounds.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import sys
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from helpers import CONTEXT, FACTORIZED, MODELS, info_of

from codec_cli import transforms
from codec_cli.bitstream import archive, container, entropy
from codec_cli.codec import Codec
from codec_cli.commands import info as info_command
from codec_cli.decoding import Region
from codec_cli.errors import CodecError
from codec_cli.packing import Unpacker
from codec_cli.report import json_text
from codec_cli.salvage import salvage
from codec_cli.streaming import RowFile
from codec_cli.zoo import DESCRIPTION, TABLES, ModelInfo, Zoo, installed_models_dir, read_info
from fuzz.folders import is_model, parted

MAX_PIXELS = 1 << 13
# What every execution may take, whatever it reads.
SECONDS, MEMORY = 2.0, 1 << 20
# One execution of so many does what takes long or is rare: the networks, tracing memory, `codec info`, saving
# what is left, decoding a region, decoding by rows as large images are.
SYNTHESIS_EVERY, MEMORY_EVERY = 64, 256
INFO_EVERY, SALVAGE_EVERY, REGION_EVERY, ROWS_EVERY = 16, 16, 16, 16

READS = ("open", "os.listdir", "os.scandir")
# Nothing that decodes has a reason for these.
FORBIDDEN = ("os.", "shutil.", "socket.", "subprocess.", "ctypes.dlopen", "pty.", "webbrowser.", "tempfile.")


class FindingError(BaseException):
    """Something that must not happen. No ``Exception``, so that no code under test catches it."""


@dataclass(frozen=True)
class Bounds:
    """What decoding may take, known from the header alone.

    Attributes:
        seconds: Of processor time.
        memory: Bytes that Python and numpy hold at a time, beyond the input and the model.
    """

    seconds: float
    memory: int

    @classmethod
    def of(cls, pixels: int, size: int) -> Bounds:
        """Of ``size`` bytes and :func:`claimed_pixels`."""
        metadata = 2 * min(container.MAX_METADATA, 1032 * size)  # deflate's largest ratio
        return cls(
            SECONDS + pixels * 20e-6 + (size + metadata) * 1e-7,
            MEMORY + 32 * pixels + 16 * size + 2 * metadata,
        )


@dataclass
class Outcome:
    """How an execution ended.

    Attributes:
        target: ``file``, ``archive`` or ``model``.
        result: ``image``, or the name of the error's type.
        reached: Whether the range decoder got to decode symbols.
        synthesis: Whether the real networks ran; otherwise all that they give is zero, infinite or NaN.
        traced: Whether memory was measured.
    """

    target: str
    result: str
    reached: bool
    synthesis: bool
    traced: bool


def claimed_pixels(data: bytes) -> int:
    """Pixels in whole blocks of 16x16 that a header claims; 0 where they are refused, or can't be read."""
    try:
        header, count = archive.peek(data) if archive.is_archive(data) else (container.peek(data), 1)
    except CodecError:
        return 0
    blocks = -(-header.width // 16) * -(-header.height // 16) * count
    return blocks * 256 if header.width * header.height * count <= MAX_PIXELS else 0


class Harness:
    """Reads bytes as the tool does, and raises :class:`FindingError` where a property does not hold.

    A context manager: inside it the range decoder is counted, warnings are errors and file accesses are
    watched, for the whole process.
    """

    def __init__(self) -> None:
        self._infos = {name: info_of(name) for name in (CONTEXT, FACTORIZED)}
        self._stack = contextlib.ExitStack()
        self._reached, self._synthesis = False, True
        self._pick = 0
        self._network: ModelInfo = self._infos[CONTEXT]

    @property
    def marks(self) -> tuple[bytes, ...]:
        """Fingerprints of the models that are there."""
        return tuple(info.fingerprint for info in self._infos.values())

    def __enter__(self) -> Harness:
        self._scratch = Path(
            self._stack.enter_context(
                tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
            )
        )
        self._folder = Path(shutil.copytree(MODELS / CONTEXT, self._scratch / "fuzzed-1"))
        self._codec = Codec(self._infos[CONTEXT], models_dir=MODELS, threads=1)
        self._zoo = Zoo(MODELS)
        real_get, real_call = entropy.Decoder.get, transforms.Session.__call__

        def get(decoder: entropy.Decoder, *args: Any) -> Any:
            self._reached = True
            return real_get(decoder, *args)

        def call(session: transforms.Session, image: Any, extra: Any = None) -> Any:
            if self._synthesis:
                return real_call(session, image, extra)
            _, height, width, _ = image.shape
            stride = self._network.stride
            value = (0, np.nan, np.inf, 3e38)[self._pick >> 16 & 3]
            return np.full((1, height * stride, width * stride, self._network.channels), value, np.float32)

        self._stack.enter_context(mock.patch.object(entropy.Decoder, "get", get))
        self._stack.enter_context(mock.patch.object(transforms.Session, "__call__", call))
        self._stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
        previous = signal.signal(signal.SIGPROF, _too_long)
        self._stack.callback(signal.signal, signal.SIGPROF, previous)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def warm_up(self, seeds: list[bytes]) -> None:
        """Loads models, and whatever is imported at first use, with files that are right."""
        for data in seeds:
            with contextlib.suppress(CodecError):
                self._target(data)[1](data)
            if not is_model(data):
                self._info(data)
            if self._target(data)[0] == "file":
                self._rows(data)

    def execute(self, data: bytes, everything: bool = False) -> Outcome:
        """Reads ``data`` and checks all that must hold.

        Args:
            data: A file, an archive, or a model (:func:`fuzz.folders.joined`).
            everything: Run the networks and measure memory; otherwise what ``data`` is decides.

        Raises:
            FindingError: Something does not hold; its cause, if any, is the error.
        """
        # Of the bytes, so that a finding is one again; not their CRC-32, which is always the same.
        pick = self._pick = int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")
        self._synthesis = everything or pick % SYNTHESIS_EVERY == 0
        traced = everything or pick % MEMORY_EVERY == 1
        self._reached = False
        name, target = self._target(data)
        bounds = Bounds.of(claimed_pixels(data), len(data))
        roots = (str(MODELS), str(installed_models_dir()), str(self._scratch))
        result = "image"
        if traced:
            tracemalloc.start()
        try:
            with _watched(roots), _alarm(bounds.seconds):
                if name != "model" and (everything or pick % INFO_EVERY == 2):
                    self._info(data)
                if name == "file" and (everything or pick % SALVAGE_EVERY == 3):
                    self._salvage(data)
                if name == "file" and (everything or pick % REGION_EVERY == 4):
                    self._region(data, pick >> 8)
                if name == "file" and (everything or pick % ROWS_EVERY == 5):
                    self._rows(data)
                target(data)
        except CodecError as error:
            result = type(error).__name__
            if not str(error) or "\n" in str(error):
                raise FindingError(f"not one line: {error!s}") from error
        except (Exception, AssertionError) as error:
            raise FindingError(f"{type(error).__name__}: {error}") from error
        finally:
            synthesis, self._synthesis = self._synthesis, True
            peak = tracemalloc.get_traced_memory()[1] if traced else 0
            if traced:
                tracemalloc.stop()
        if name != "model" and peak > bounds.memory:
            raise FindingError(f"{peak} bytes of memory, the bound is {bounds.memory}")
        return Outcome(name, result, self._reached, synthesis, traced)

    def _target(self, data: bytes) -> tuple[str, Callable[[bytes], None]]:
        if is_model(data):
            return "model", self._model
        return ("archive", self._archive) if archive.is_archive(data) else ("file", self._file)

    def _file(self, data: bytes) -> None:
        self._network = self._infos[CONTEXT]
        picture = self._codec.decode_picture(data, max_pixels=MAX_PIXELS)
        header = container.peek(data)
        shape = (header.height, header.width, 1 if header.gray else 3)
        _require(picture.pixels, shape)
        assert (picture.alpha is not None) == header.alpha, "not the header's alpha"
        if picture.alpha is not None:
            _require(picture.alpha, shape[:2])
        sizes = container.layout(data, self._network.tile_pixels, MAX_PIXELS)
        assert sizes.pop("total") == len(data) == sum(sizes.values()), "the layout does not add up"

    def _salvage(self, data: bytes) -> None:
        """What is left of a damaged file: an image of its header's size, too."""
        self._network = self._infos[CONTEXT]
        with contextlib.suppress(CodecError):
            found = salvage(self._codec, data, MAX_PIXELS)
            header = container.peek(data)
            _require(found.picture.pixels, (header.height, header.width, 1 if header.gray else 3))
            assert (found.picture.alpha is not None) == header.alpha, "not the header's alpha"
            assert all("\n" not in line for line in found.report()), "not lines"

    def _region(self, data: bytes, choice: int) -> None:
        """A part of the image, which need not lie within it."""
        self._network = self._infos[CONTEXT]
        left, top, width, height = (choice >> shift & 63 for shift in (0, 6, 12, 18))
        with contextlib.suppress(CodecError):
            region = Region(left, top, width, height)
            picture = self._codec.decode_picture(data, max_pixels=MAX_PIXELS, region=region)
            assert picture.pixels.shape[:2] == (height, width), "not the region"

    def _rows(self, data: bytes) -> None:
        """Large images are decoded by rows; what comes out is the same."""
        self._network = self._infos[CONTEXT]
        with contextlib.suppress(CodecError):
            file = RowFile(self._codec, self._codec.open(data, MAX_PIXELS), "file")
            rows = np.concatenate(list(file.bands(file.alpha)), 0)
            whole = self._codec.decode(data, max_pixels=MAX_PIXELS)
            assert np.array_equal(rows, whole), "other pixels by rows"

    def _archive(self, data: bytes) -> None:
        self._network = self._infos[CONTEXT]
        unpacker = Unpacker(data, self._codec, max_pixels=MAX_PIXELS)
        header = unpacker.archive.header
        for index in range(len(unpacker)):
            shape = (header.height, header.width, 1 if header.gray else 3)
            _require(unpacker[index], shape)

    def _model(self, data: bytes) -> None:
        """A model folder as ``codec models add`` and decoding read it."""
        description, tables = parted(data)
        (self._folder / DESCRIPTION).write_bytes(description)
        (self._folder / TABLES).write_bytes(tables)
        info = self._network = read_info(self._folder)
        if self._pick >> 8 & 1:  # Who puts a folder into a models directory by hand does not have to.
            info.verify()
        codec = Codec(info, models_dir=self._scratch)  # Threads are limited for the process.
        assert 0 <= info.level_of_quality(info.default_quality) < info.levels
        info.promised(0)
        side = info.size or 9
        header = container.Header(info.fingerprint, info.levels - 1, info.channels == 1, False, side, side)
        segment = data[40:80].rstrip(b"\0")
        if self._pick >> 9 & 1:
            positions = -(-side // info.stride)
            symbols = np.zeros((positions, positions, info.facts["latent_channels"]), np.int16)
            segment = codec.loaded_for(header).entropy.encode(symbols, header.level)
        _require(codec.pixels(header, [segment]), (side, side, info.channels))

    def _info(self, data: bytes) -> None:
        """``codec info``, from standard input."""
        stream = mock.Mock(buffer=io.BytesIO(data))
        with mock.patch.object(sys, "stdin", stream), contextlib.suppress(CodecError):
            facts, code = info_command._inspect(self._zoo, "-")
            assert (code == 0) == (facts["error"] is None), "an error without an exit code"
            info_command._text(facts)
            json_text(facts)


def _require(plane: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    assert (plane.dtype, plane.shape) == (np.uint8, shape), "not what the header says"


def _too_long(_: int, frame: FrameType | None) -> None:
    raise FindingError("takes longer than its bound")


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises when the block takes more processor time: a loaded machine must not make findings."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class _Watch:
    """What an audit hook (which can't be removed) allows while it is on."""

    roots: tuple[str, ...] | None = None
    installed = False
    seen: str | None = None

    @classmethod
    def hook(cls, event: str, args: tuple[Any, ...]) -> None:
        if cls.roots is None:
            return
        if event in READS:
            path = os.fspath(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else None
            path = os.fsdecode(path) if path is not None else None
            # A descriptor was opened by name before; from Python 3.12 on, a SyntaxError (of numpy's parser of
            # headers) looks for the line it is about in "<string>".
            if path in (None, os.devnull, "<string>") or path.startswith(cls.roots):
                return
        elif not event.startswith(FORBIDDEN) or (event, args) == ("ctypes.dlopen", (None,)):
            return  # dlopen(None) is this process itself: it loads nothing (codec_cli/memory.py).
        cls.seen = cls.seen or f"{event}{args!r:.300}"


@contextlib.contextmanager
def _watched(roots: tuple[str, ...]) -> Iterator[None]:
    """Raises when files outside of some folders are opened, or anything else is done to files."""
    if not _Watch.installed:
        sys.addaudithook(_Watch.hook)
        _Watch.installed = True
    _Watch.seen, _Watch.roots = None, roots
    try:
        yield
    finally:
        _Watch.roots = None
        if _Watch.seen is not None:
            raise FindingError(f"touches what it should not: {_Watch.seen}")
