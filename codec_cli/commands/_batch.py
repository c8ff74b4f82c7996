"""Converting files: what ``compress`` and ``decompress`` have in common, apart from the plan."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import click

from codec_cli.commands import _done, _interrupt, _plan
from codec_cli.commands._items import Item, kind_of
from codec_cli.errors import CodecError, OutputError
from codec_cli.files import atomic_path, make_folder, read_bytes, read_stdin, scratch, sweep, write_atomic
from codec_cli.options import Batch
from codec_cli.report import Manifest, Outcome, Report, debugging, describe, named, one_line, progress
from codec_cli.workers import WORKER_DIED, each

__all__ = ["Converted", "Proof", "Verb", "convert_all", "threads_of"]


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
        quality: That was found for a target, 1 to 100.
        part: The image is a part of the compressed one: their sizes can't be compared.
        exit_code: Other than 0 if the output is worth having, but not what was asked for.
    """

    data: bytes | Callable[[Path], None]
    width: int
    height: int
    warnings: tuple[str, ...] = ()
    details: str = ""
    psnr: float | None = None
    quality: int | None = None
    part: bool = False
    exit_code: int = 0


@dataclass(frozen=True)
class Proof:
    """What comparing a written file with its source has shown.

    Attributes:
        doubts: Why the source should be kept all the same, one line each.
        psnr: Of the output against the input, in dB, if it was measured.
    """

    doubts: tuple[str, ...] = ()
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

    @abstractmethod
    def prove(self, source: Path, written: Path, name: str, suffix: str) -> Proof:
        """Reads a written file, decodes it and compares it with its source.

        Args:
            source: The input.
            written: The output, under whatever name.
            name: What messages call the input.
            suffix: Of the output, when it gets its name.

        Raises:
            CodecError: It is not what it should be.
        """

    @property
    def takes_damaged(self) -> bool:
        """Whether damaged inputs give an output, too."""
        return False

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

    Raises:
        click.Abort: Ctrl-C was pressed, and the files that were begun are finished.
    """
    plan = _plan.plan(
        verb.rules,
        batch.paths,
        output_dir=batch.output_dir,
        include=batch.include,
        exclude=batch.exclude,
        force=batch.force or batch.resume,  # --resume looks at what is there.
        manifest=batch.manifest,
        folded=batch.delete_source,
    )
    if plan.to_stdout and batch.json:
        raise click.UsageError("--json and an output of - both need standard output")
    if plan.to_stdout and sys.stdout.isatty() and not batch.force:
        raise OutputError("will not write binary data to a terminal: redirect it, or name an output file")
    with contextlib.ExitStack() as stack:
        manifest = _manifest(batch)
        if manifest is not None:
            stack.enter_context(contextlib.closing(manifest))
        report = Report(
            quiet=batch.quiet,
            verbose=batch.verbose,
            json=batch.json,
            stdout_taken=plan.to_stdout,
            manifest=manifest,
        )
        if note:
            report.note(note)
        # One file alone is stopped at once: finishing it may be all of the work.
        polite = stack.enter_context(_interrupt.polite(plan.size > 1))
        jobs = min(batch.jobs, plan.size)
        convert = _Convert(verb, batch)
        outcomes = each(convert, _begun(plan, polite), jobs, _died, ordered=False)
        advance = stack.enter_context(progress(plan.size, "files", not batch.quiet))
        count = 0
        # Closed at once, should anything raise: processes must not go on meanwhile.
        for outcome in stack.enter_context(contextlib.closing(outcomes)):
            report.add(outcome)
            advance(1)
            count += 1
    code = report.finish(left := plan.size - count if polite.interrupted else 0)
    if left:
        raise click.Abort
    return code


def _manifest(batch: Batch) -> Manifest | None:
    if batch.manifest is None:
        return None
    error = _plan.check_new_file(batch.manifest, batch.force or batch.resume)
    if error is not None:
        raise error
    return Manifest(batch.manifest, append=batch.resume, force=batch.force)


def _begun(plan: _plan.Plan, polite: _interrupt.Polite) -> Iterator[Item]:
    """The items to begin with, until the user interrupts."""
    swept: Path | None = None
    for item in plan:
        if polite.interrupted:
            return
        if item.target is not None and item.target.parent != swept:
            swept = item.target.parent
            sweep(swept)
        yield item


@dataclass
class _Convert:
    """Reads, converts and writes one file; every failure becomes an outcome."""

    verb: Verb
    batch: Batch

    def __call__(self, item: Item) -> Outcome:
        try:
            return replace(self._outcome(item), number=item.number)
        except BrokenPipeError:
            raise  # No one reads our standard output any more.
        except Exception as failure:
            if debugging():
                raise
            return _failed(item, failure)

    def _outcome(self, item: Item) -> Outcome:
        error = item.error or self.verb.check_output(item.target) or self._misfit(item)
        if error is not None:
            return _failed(item, error)
        source, target, force = item.source, item.target, self.batch.force
        if self.batch.resume and source is not None and target is not None and os.path.lexists(target):
            state = _done.state(source, target, self.verb.compresses, self.batch.max_pixels)
            if state is _done.State.DONE:
                return self._skipped(source, target)
            force = force or state is _done.State.STALE
            # An input that can't be read fails for that, unless it is to be saved in part.
            unreadable = state is _done.State.UNREADABLE_INPUT and not self.verb.takes_damaged
            error = None if unreadable else _plan.check_new_file(target, force)
            if error is not None:
                return _failed(item, error)
        return self._convert(item, force)

    def _misfit(self, item: Item) -> CodecError | None:
        """Refuses to delete, or to resume, what is no ordinary file."""
        options = {"--delete-source": self.batch.delete_source, "--resume": self.batch.resume}
        wanted = next((name for name, value in options.items() if value), None)
        if wanted is None:
            return None
        for path, what in ((item.source, "input"), (item.target, "output")):
            kind = None if path is None else kind_of(path)
            # An output need not exist.
            if path is None or (kind is not None and not stat.S_ISREG(kind)):
                return CodecError(
                    f"{path or item.label}: {wanted} needs ordinary files, and this {what} is none"
                )
        return None

    def _skipped(self, source: Path, target: Path) -> Outcome:
        kept = ("source kept: its output was made by an earlier run",) if self.batch.delete_source else ()
        return Outcome(
            str(source),
            str(target),
            input_bytes=source.stat().st_size,
            bytes=target.stat().st_size,
            warnings=kept,
            skipped=True,
        )

    def _convert(self, item: Item, force: bool) -> Outcome:
        start = time.perf_counter()
        source, size, facts = self._source(item)
        suffix = item.target.suffix if item.target is not None else ""
        done = self.verb.convert(source, size, item.label, suffix)
        written, proof = self._write(item, done, facts, force)
        warnings, deleted = done.warnings, False
        if proof is not None and facts is not None and item.source is not None:
            doubts = tuple(dict.fromkeys((*done.warnings, *proof.doubts)))
            kept = _done.delete(item.source, _done.identity(facts), doubts)
            warnings, deleted = (*doubts, *kept), not kept
        compressed, image = (written, size) if self.verb.compresses else (size, written)
        return Outcome(
            input=item.input,
            output=item.output,
            input_bytes=size,
            bytes=written,
            width=done.width,
            height=done.height,
            bpp=None if done.part else compressed * 8 / (done.width * done.height),
            ratio=None if done.part else image / compressed,
            seconds=time.perf_counter() - start,
            psnr_rgb_db=done.psnr if proof is None or proof.psnr is None else proof.psnr,
            quality=done.quality,
            warnings=warnings,
            source_deleted=deleted,
            exit_code=done.exit_code,
            details=done.details,
        )

    def _source(self, item: Item) -> tuple[Path | bytes, int, os.stat_result | None]:
        """The input and its bytes; what is known of a file, or else (pipes are read but once) its content."""
        if item.source is not None and item.source.is_file():
            facts = item.source.stat()
            return item.source, facts.st_size, facts
        limit = self.verb.rules.size_limit(self.batch.max_pixels)
        if item.source is not None:
            data = read_bytes(item.source, limit, self.verb.rules.input_error)
        else:
            data = read_stdin(limit)
        return data, len(data), None

    def _write(
        self, item: Item, done: Converted, facts: os.stat_result | None, force: bool
    ) -> tuple[int, Proof | None]:
        """Writes an output and returns its size in bytes, and what it proves to be, if someone asks."""
        if item.target is None:
            self._check_unchanged(item, facts)
            return _write_stdout(done.data), None
        if item.make_folder:
            try:
                make_folder(item.target.parent)
            except OSError as error:
                raise OutputError(f"{item.target.parent}: cannot make: {error.strerror}") from error
        like = facts if self.batch.preserve else None
        if isinstance(done.data, bytes) and not self.batch.delete_source and _is_special(item.target):
            write_atomic(item.target, done.data, force, like)
            return len(done.data), None
        with atomic_path(item.target, force, like) as temporary:
            if isinstance(done.data, bytes):
                temporary.write_bytes(done.data)
            else:
                done.data(temporary)
            size = temporary.stat().st_size
            proof = None
            if self.batch.delete_source and item.source is not None:
                _done.forget(temporary)
                proof = self.verb.prove(item.source, temporary, item.label, item.target.suffix)
            # Last: an input that changes from now on is newer than the output, so that --resume sees it.
            self._check_unchanged(item, facts)
        return size, proof

    def _check_unchanged(self, item: Item, facts: os.stat_result | None) -> None:
        if facts is None or item.source is None:
            return
        # A file that is gone can't be mistaken for what was read.
        with contextlib.suppress(FileNotFoundError):
            if _done.identity(item.source.stat()) != _done.identity(facts):
                raise self.verb.rules.input_error(
                    f"{item.label}: changed while it was read; nothing was written, run again"
                )


def _is_special(path: Path) -> bool:
    kind = kind_of(path)
    return kind is not None and not stat.S_ISREG(kind)


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


def _failed(item: Item, error: Exception) -> Outcome:
    text, code = describe(error)
    if not text.startswith((one_line(item.output), "standard output")):  # It is not about the output.
        text = named(item.label, text)
    return Outcome(item.input, item.output, error=text, exit_code=code, number=item.number)


def _died(item: Item) -> Outcome:
    return _failed(item, CodecError(WORKER_DIED))
