"""Converting files: what ``compress`` and ``decompress`` have in common, apart from the plan."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from codec_cli.commands import _plan
from codec_cli.errors import CodecError, LimitError, OutputError
from codec_cli.files import atomic_path, read_bytes, scratch, write_atomic
from codec_cli.options import Batch
from codec_cli.report import Outcome, Report, debugging, describe, named, one_line, progress
from codec_cli.workers import WORKER_DIED, each

__all__ = ["Converted", "Verb", "convert_all", "threads_of"]


@dataclass(frozen=True)
class Converted:
    """The result of one conversion.

    Attributes:
        data: All bytes of the output; or what writes them to the path that it is given (an empty file).
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        warnings: What was lost, one line each.
        details: More for ``--verbose``.
        psnr: Of the output against the input, in dB, if it was measured.
    """

    data: bytes | Callable[[Path], None]
    width: int
    height: int
    warnings: tuple[str, ...] = ()
    details: str = ""
    psnr: float | None = None


class Verb(ABC):
    """One command's work on a file. Objects travel to worker processes before their first use."""

    compresses: bool
    """Whether the compressed file is the output; otherwise it is the input."""

    @property
    @abstractmethod
    def rules(self) -> _plan.Rules:
        """How the arguments of the command are read."""

    @abstractmethod
    def convert(self, source: Path | bytes, size: int, name: str, suffix: str) -> Converted:
        """Converts one file.

        Args:
            source: The input: a regular file, or bytes.
            size: Of the input, in bytes.
            name: What messages call the input.
            suffix: Of the output, such as ``.png``.

        Raises:
            CodecError: The input can't be converted.
        """

    def check_output(self, target: Path | None) -> CodecError | None:
        """Says what is wrong with the name of an output, before the work."""
        return None


def threads_of(batch: Batch) -> int | None:
    """Threads per file (None for all cores): several processes share the cores as they are."""
    return 1 if batch.threads is None and batch.jobs > 1 else batch.threads


def convert_all(verb: Verb, batch: Batch, note: str = "") -> int:
    """Plans, converts and reports.

    Args:
        verb: The command.
        batch: What it was asked to do.
        note: What ``--verbose`` says first.

    Returns:
        The exit code.
    """
    items = _plan.plan(
        verb.rules,
        batch.paths,
        output_dir=batch.output_dir,
        include=batch.include,
        exclude=batch.exclude,
        force=batch.force,
    )
    to_stdout = any(item.target is None for item in items)
    if to_stdout and batch.json:
        raise click.UsageError("--json and an output of - both need standard output")
    if to_stdout and sys.stdout.isatty() and not batch.force:
        raise OutputError("will not write binary data to a terminal: redirect it, or name an output file")
    report = Report(quiet=batch.quiet, verbose=batch.verbose, json=batch.json, stdout_taken=to_stdout)
    if note:
        report.note(note)
    convert = _Convert(verb, batch.force, batch.max_pixels)
    with progress(len(items), "files", not batch.quiet) as advance:
        for outcome in each(convert, items, batch.jobs, _died):
            report.add(outcome)
            advance(1)
    return report.finish()


@dataclass
class _Convert:
    """Reads, converts and writes one file; every failure becomes an outcome."""

    verb: Verb
    force: bool
    max_pixels: int

    def __call__(self, item: _plan.Item) -> Outcome:
        error: Exception | None = item.error or self.verb.check_output(item.target)
        if error is not None:
            return _failed(item, error)
        try:
            return self._convert(item)
        except BrokenPipeError:
            raise  # No one reads our standard output any more.
        except Exception as failure:
            if debugging():
                raise
            return _failed(item, failure)

    def _convert(self, item: _plan.Item) -> Outcome:
        start = time.perf_counter()
        source, size = self._source(item)
        suffix = item.target.suffix if item.target is not None else ""
        done = self.verb.convert(source, size, item.label, suffix)
        written = _write(item, done.data, self.force)
        compressed, image = (written, size) if self.verb.compresses else (size, written)
        return Outcome(
            input=item.input,
            output=item.output,
            input_bytes=size,
            bytes=written,
            width=done.width,
            height=done.height,
            bpp=compressed * 8 / (done.width * done.height),
            ratio=image / compressed,
            seconds=time.perf_counter() - start,
            psnr_rgb_db=done.psnr,
            warnings=done.warnings,
            details=done.details,
        )

    def _source(self, item: _plan.Item) -> tuple[Path | bytes, int]:
        """The input, as bytes where it can be read only once (pipes)."""
        if item.source is not None and item.source.is_file():
            return item.source, item.source.stat().st_size
        limit = self.verb.rules.size_limit(self.max_pixels)
        if item.source is not None:
            data = read_bytes(item.source, limit, self.verb.rules.input_error)
        else:
            data = sys.stdin.buffer.read(limit + 1)
            if len(data) > limit:
                raise LimitError(f"{item.label}: larger than the limit of {limit} bytes")
        return data, len(data)


def _write(item: _plan.Item, data: bytes | Callable[[Path], None], force: bool) -> int:
    """Writes an output and returns its size in bytes."""
    if item.target is None:
        return _write_stdout(data)
    if item.make_folder:
        try:
            item.target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{item.target.parent}: cannot make: {error.strerror}") from error
    if isinstance(data, bytes):
        write_atomic(item.target, data, force)
        return len(data)
    with atomic_path(item.target, force) as temporary:
        data(temporary)
        return temporary.stat().st_size


def _write_stdout(data: bytes | Callable[[Path], None]) -> int:
    with contextlib.ExitStack() as stack:
        if isinstance(data, bytes):
            source: BinaryIO = io.BytesIO(data)
        else:
            spool = stack.enter_context(scratch())
            data(spool)
            source = stack.enter_context(spool.open("rb"))
        try:
            shutil.copyfileobj(source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output: cannot write: {error.strerror}") from error
        return source.tell()


def _failed(item: _plan.Item, error: Exception) -> Outcome:
    text, code = describe(error)
    if not text.startswith((one_line(item.output), "standard output")):  # It is not about the output.
        text = named(item.label, text)
    return Outcome(item.input, item.output, error=text, exit_code=code)


def _died(item: _plan.Item) -> Outcome:
    return _failed(item, CodecError(WORKER_DIED))
