"""What happened to many files: a line for each, warnings, a manifest, a summary, and one exit code."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import click

from codec_cli.errors import CodecError, OutputError
from codec_cli.files import ends_mid_line

__all__ = [
    "Manifest",
    "Outcome",
    "Report",
    "debugging",
    "describe",
    "exit_code",
    "json_text",
    "named",
    "one_line",
    "progress",
    "size_text",
]

DEBUG_VARIABLE = "CODEC_DEBUG"


@dataclass(frozen=True)
class Outcome:
    """What became of one input file. Numbers are None where the work did not get that far.

    Attributes:
        input: Its name, ``-`` for standard input.
        output: Name of what was written, ``-`` for standard output.
        input_bytes: Size of the input.
        bytes: Size of the output.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        bpp: Bits per pixel of the compressed file.
        ratio: Size of the image file over the size of the compressed one.
        seconds: From reading to having written.
        psnr_rgb_db: Of the compressed file against its source, if it was verified; ``inf`` if they are equal.
        quality: That was found for a target, 1 to 100.
        warnings: What the user should know, one line each.
        error: Why it failed, or None.
        skipped: Nothing was done, because it was done before.
        source_deleted: The input was removed.
        exit_code: The error's exit code; 0 without one.
        details: More for ``--verbose``, one line.
        number: Its place among all, from 0.
    """

    input: str
    output: str
    input_bytes: int | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    bpp: float | None = None
    ratio: float | None = None
    seconds: float | None = None
    psnr_rgb_db: float | None = None
    quality: int | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    skipped: bool = False
    source_deleted: bool = False
    exit_code: int = 0
    details: str = ""
    number: int = 0

    def line(self) -> str:
        """The line that says what was done."""
        if self.skipped:
            return f"{self.input} -> {self.output}  skipped: done before"
        rates = "" if self.bpp is None else f"{self.bpp:.2f} bpp  {self.ratio or 0:.1f}:1  "
        return (
            f"{self.input} -> {self.output}  {(self.width or 0) * (self.height or 0)} px  "
            f"{size_text(self.input_bytes or 0)} -> {size_text(self.bytes or 0)}  "
            f"{rates}{self.seconds or 0:.2f} s{self._quality()}"
        )

    def _quality(self) -> str:
        found = "" if self.quality is None else f"  quality {self.quality}"
        if self.psnr_rgb_db is None:
            return found
        return found + ("  exact" if math.isinf(self.psnr_rgb_db) else f"  {self.psnr_rgb_db:.1f} dB")

    def facts(self) -> dict[str, Any]:
        """For ``--json`` and manifests. JSON has no infinity: an infinite PSNR is None."""
        facts = asdict(self)
        del facts["exit_code"], facts["details"], facts["number"]
        for name, digits in (("bpp", 4), ("ratio", 3), ("seconds", 4), ("psnr_rgb_db", 4)):
            if facts[name] is not None:
                facts[name] = round(facts[name], digits) if math.isfinite(facts[name]) else None
        return facts


class Manifest:
    r"""A file with a line of JSON for each outcome, as it comes (see :meth:`Outcome.facts`).

    Lines reach the system at once, so that a run that is killed has all of them; a crash of the machine may
    cut the last ones off. Names that are not UTF-8 have their odd bytes as ``\udcXX``, as in Python.

    Args:
        path: The file.
        append: Keep what it holds, if that is a manifest.
        force: Overwrite anything else.

    Raises:
        OutputError: It can't be written, or is something else.
    """

    def __init__(self, path: Path, append: bool, force: bool = False) -> None:
        self._path = path
        with self._told():
            if append and path.is_file() and not _is_manifest(path):
                if not force:
                    raise OutputError(f"{path}: exists, and is no manifest; use --force to overwrite")
                append = False
            self._file: IO[bytes] = path.open("ab" if append else "wb")
            if append and path.is_file() and ends_mid_line(path):  # What is there is never removed.
                self._file.write(b"\n")

    def add(self, outcome: Outcome) -> None:
        """Writes a line; raises as the constructor."""
        with self._told():
            self._file.write(json.dumps(outcome.facts(), allow_nan=False).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Sees to it that all lines are on the disk; raises as the constructor."""
        with self._told(), self._file as file:
            if self._path.is_file():  # Neither pipe nor terminal.
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._path}: cannot write: {error.strerror}") from error


def _is_manifest(path: Path) -> bool:
    """Whether a file is empty, or begins like those that :class:`Manifest` writes."""
    with path.open("rb") as file:
        start = file.readline(_LONGEST_LINE)
    if not start or (start.startswith(b'{"input": ') and not start.endswith(b"\n")):
        return True  # A crash may have cut the line off.
    try:
        entry = json.loads(start)
    except ValueError:
        return False
    return isinstance(entry, dict) and {"input", "output", "source_deleted"} <= entry.keys()


_LONGEST_LINE = 1 << 20


class Report:
    """Tells about outcomes as they come, and counts them.

    Args:
        quiet: Errors only.
        verbose: Details too.
        json: One JSON object at the end instead of lines; only then all outcomes are remembered.
        stdout_taken: The output goes to standard output, so lines go to standard error.
        manifest: Gets all outcomes, too.
    """

    def __init__(
        self, *, quiet: bool, verbose: bool, json: bool, stdout_taken: bool, manifest: Manifest | None = None
    ) -> None:
        self._outcomes: list[Outcome] = []
        self._total = self._failed = self._skipped = self._code = 0
        self._before = self._after = 0
        self._lines = not (quiet or json)
        self._quiet = quiet
        self._verbose = verbose
        self._json = json
        self._stdout_taken = stdout_taken
        self._manifest = manifest

    def note(self, text: str) -> None:
        """Says something with ``--verbose``."""
        if self._verbose and self._lines:
            self._say(text)

    def add(self, outcome: Outcome) -> None:
        """Takes note of an outcome and prints what there is to say about it."""
        self._count(outcome)
        if self._manifest is not None:
            self._manifest.add(outcome)
        if not self._quiet:
            for warning in outcome.warnings:
                _write(f"{outcome.input}: warning: {warning}", err=True)
        if outcome.error is not None:
            _write(f"codec: {outcome.error}", err=True)
        elif self._lines:
            self._say(outcome.line())
            if outcome.details:
                self.note(f"  {outcome.details}")

    def _count(self, outcome: Outcome) -> None:
        if self._json:
            self._outcomes.append(outcome)
        self._total += 1
        self._code = outcome.exit_code if self._total == 1 else int(bool(self._code or outcome.exit_code))
        self._failed += outcome.error is not None
        self._skipped += outcome.skipped
        if outcome.error is None and not outcome.skipped:
            self._before += outcome.input_bytes or 0
            self._after += outcome.bytes or 0

    def finish(self, left: int = 0) -> int:
        """Prints the summary (if there were several files) or the JSON, and returns the exit code.

        Args:
            left: How many files were not begun, because the user interrupted.

        Returns:
            0 when all went well; with a single file its own code; 1 when some of several failed.
        """
        if self._json:
            files = sorted(self._outcomes, key=lambda outcome: outcome.number)
            counts = {"failed": self._failed, "skipped": self._skipped, "not_begun": left}
            click.echo(json_text({"files": [outcome.facts() for outcome in files], **counts}), nl=False)
        elif self._total > 1 or left:
            self._summarise()
        if left:
            _write(f"codec: interrupted; {left} files were not begun", err=True)
        return self._code

    def _summarise(self) -> None:
        if self._failed:
            _write(f"codec: {self._failed} of {self._total} files failed", err=True)
        done = self._total - self._failed - self._skipped
        if self._lines and (done or self._skipped):
            skipped = f", {self._skipped} skipped" if self._skipped else ""
            self._say(f"{done} files{skipped}  {size_text(self._before)} -> {size_text(self._after)}")

    def _say(self, text: str) -> None:
        _write(text, err=self._stdout_taken)


def describe(error: BaseException) -> tuple[str, int]:
    """One line on an error, and the exit code that goes with it."""
    if isinstance(error, CodecError):
        return one_line(str(error)), error.exit_code
    if isinstance(error, MemoryError):
        return "not enough memory", 1
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return one_line(f"{name}{error.strerror}"), 1
    text = f"internal error: {type(error).__name__}: {error}"
    return one_line(f"{text[:300]} (please report it; {DEBUG_VARIABLE}=1 shows more)"), 1


def named(name: str, message: str) -> str:
    """A message that begins with the name of its file: most do, those on what bytes hold don't know it."""
    name = one_line(name)
    return message if message.startswith(name) else f"{name}: {message}"


def exit_code(codes: Sequence[int]) -> int:
    """One exit code for several files: with a single one its own, else 1 when some failed."""
    return codes[0] if len(codes) == 1 else int(any(codes))


def debugging() -> bool:
    """Whether the user asked for tracebacks (``CODEC_DEBUG=1``)."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def one_line(text: str) -> str:
    """Text without line breaks and control characters: a file's name must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.splitlines()))


def size_text(size: int) -> str:
    """A number of bytes for people: 999 B, 28.3 kB, 1.2 MB."""
    if size < 1000:
        return f"{size} B"
    value, units = size / 1000, ["kB", "MB", "GB"]
    while value >= 999.95 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.1f} {units[0]}"


def json_text(value: object) -> str:
    """An object as JSON (infinite and undefined numbers are not JSON: callers give None)."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


_bars: list[Any] = []  # The progress bar on the terminal, if there is one.


@contextlib.contextmanager
def progress(total: int | None, unit: str, wanted: bool) -> Iterator[Any]:
    """Shows a progress bar on standard error, if that is a terminal and there are several things to do.

    Args:
        total: How many; None if that is not known.
        unit: What they are.
        wanted: Whether to show anything.

    Yields:
        A function that takes the number of things done since the last call.
    """
    several = total is None or total > 1
    if not (wanted and several and sys.stderr is not None and sys.stderr.isatty()):
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, leave=False) as bar:
        _bars.append(bar)
        try:
            yield bar.update
        finally:
            _bars.remove(bar)


def _write(text: str, err: bool) -> None:
    """Prints a line above the progress bar."""
    if _bars:
        _bars[-1].write(one_line(text), file=sys.stderr if err else sys.stdout)
    else:
        click.echo(one_line(text), err=err)
