"""One file to work on; and how a million of them are kept from overwriting each other."""

from __future__ import annotations

import os
import stat
import sys
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from codec_cli.errors import CodecError, OutputError

__all__ = ["STREAM", "Item", "check_places", "kind_of"]

STREAM = "-"
"""The name of standard input and of standard output."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file to work on.

    Attributes:
        source: The input; None for standard input.
        target: The output; None for standard output.
        make_folder: Whether the output's folder may be made.
        error: Why there is no point in trying.
        number: Its place in the plan, from 0.
    """

    source: Path | None
    target: Path | None
    make_folder: bool = False
    error: CodecError | None = None
    number: int = 0

    @property
    def input(self) -> str:
        """The input's name, as it was given."""
        return STREAM if self.source is None else str(self.source)

    @property
    def label(self) -> str:
        """What messages call the input."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def output(self) -> str:
        """The output's name, as it would be given."""
        return STREAM if self.target is None else str(self.target)


def check_places(named: Callable[[], Iterable[Item]], manifest: Path | None) -> int:
    """Counts items, and refuses those in which one output would overwrite another one, or an input.

    Args:
        named: Gives the items, every time anew.
        manifest: Another file that will be written, or None.

    Returns:
        How many items there are.

    Raises:
        OutputError: Names the first two that don't go together.
    """
    size, suspects = _suspects(named, manifest)
    if suspects:
        _refuse_clashes(named, suspects, manifest)
    return size


def kind_of(path: Path) -> int | None:
    """The file mode behind all links, or None where there is nothing to be found."""
    try:
        return path.stat().st_mode
    except OSError:  # Unlike Path.is_dir() and the like, also for names too long and closed folders.
        return None


def _place(path: Path) -> str:
    """What is the same for two names of one file, which need not exist."""
    place = os.path.realpath(path) if _is_link(path) else str(Path(_real_folder(path.parent), path.name))
    # Here A.bin and a.bin are one file, as a rule.
    return place.casefold() if sys.platform in ("darwin", "win32") else place


@lru_cache(maxsize=64)
def _real_folder(folder: Path) -> str:
    return os.path.realpath(folder)


def _suspects(named: Callable[[], Iterable[Item]], manifest: Path | None) -> tuple[int, set[int]]:
    """Counts the items, and finds places that may be written twice, or both read and written.

    Returns:
        How many items there are, and hashes of the places: eight bytes a place instead of a long name.
    """
    _real_folder.cache_clear()
    read, written = array("q"), array("q")
    size = 0
    for item in named():
        size += 1
        if item.source is not None:
            read.append(hash(_place(item.source)))
        if item.target is not None and item.error is None:
            written.append(hash(_place(item.target)))
    if manifest is not None:
        written.append(hash(_place(manifest)))
    marked = sorted([2 * place + 1 for place in read] + [2 * place for place in written])
    return size, {
        first >> 1
        for first, second in pairwise(marked)
        if first >> 1 == second >> 1 and not first & second & 1  # One input may well be given twice.
    }


def _refuse_clashes(named: Callable[[], Iterable[Item]], suspects: set[int], manifest: Path | None) -> None:
    """Refuses plans in which one output would overwrite another one, or an input."""
    sources: dict[str, Path] = {}
    for item in named():
        if item.source is not None and hash(place := _place(item.source)) in suspects:
            sources[place] = item.source
    taken: dict[str, str] = {}
    if manifest is not None:
        place = _place(manifest)
        if place in sources:
            raise OutputError(f"{manifest}: the manifest is also an input; choose another name")
        taken[place] = f"{manifest} (the manifest)"
    for item in named():
        if item.target is None or item.error is not None:
            continue
        place = _place(item.target)
        if hash(place) not in suspects:
            continue
        if place in sources:
            raise OutputError(f"{item.input}: its output {item.output} is also an input; choose another name")
        if place in taken:
            raise OutputError(
                f"{taken[place]} and {item.input} would both be written to {item.output}; nothing was done"
            )
        kind = kind_of(item.target)
        if kind is None or stat.S_ISREG(kind):  # Devices take any number of outputs.
            taken[place] = item.input


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # A name too long.
        return False
