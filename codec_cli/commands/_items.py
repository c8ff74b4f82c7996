"""One file to work on; and how a million of them are kept from overwriting each other."""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
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


def check_places(named: Callable[[], Iterable[Item]], manifest: Path | None, folded: bool) -> int:
    """Counts items, and refuses those in which one output would overwrite another one, or an input.

    Args:
        named: Gives the items, every time anew.
        manifest: Another file that will be written, or None.
        folded: Refuse also what clashes only where names are the same in upper and lower case, composed and
            decomposed: some disks on any system are like that, and don't tell.

    Returns:
        How many items there are.

    Raises:
        OutputError: Names the first two that don't go together.
    """
    place_of = _folded_place if folded or sys.platform in ("darwin", "win32") else _place
    size, suspects = _suspects(named, manifest, place_of)
    if suspects:
        _refuse_clashes(named, suspects, manifest, place_of)
    return size


def kind_of(path: Path) -> int | None:
    """The file mode behind all links, or None where there is nothing to be found."""
    try:
        return path.stat().st_mode
    except OSError:  # Unlike Path.is_dir() and the like, also for names too long and closed folders.
        return None


def _place(path: Path) -> str:
    """What is the same for two names of one file, which need not exist."""
    return os.path.realpath(path) if _is_link(path) else str(Path(_real_folder(path.parent), path.name))


def _folded_place(path: Path) -> str:
    """As :func:`_place`, where A.bin and a.bin are one file, and so are the two ways to write an umlaut."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", _place(path)).casefold())


@lru_cache(maxsize=64)
def _real_folder(folder: Path) -> str:
    return os.path.realpath(folder)


def _suspects(
    named: Callable[[], Iterable[Item]], manifest: Path | None, place_of: Callable[[Path], str]
) -> tuple[int, set[int]]:
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
            read.append(hash(place_of(item.source)))
        if item.target is not None and item.error is None:
            written.append(hash(place_of(item.target)))
    if manifest is not None:
        written.append(hash(place_of(manifest)))
    marked = sorted([2 * place + 1 for place in read] + [2 * place for place in written])
    return size, {
        first >> 1
        for first, second in pairwise(marked)
        if first >> 1 == second >> 1 and not first & second & 1  # One input may well be given twice.
    }


def _refuse_clashes(
    named: Callable[[], Iterable[Item]],
    suspects: set[int],
    manifest: Path | None,
    place_of: Callable[[Path], str],
) -> None:
    """Refuses plans in which one output would overwrite another one, or an input."""
    sources: dict[str, Path] = {}
    for item in named():
        if item.source is not None and hash(place := place_of(item.source)) in suspects:
            sources[place] = item.source
    taken: dict[str, tuple[str, str]] = {}
    if manifest is not None:
        place = place_of(manifest)
        if place in sources:
            raise OutputError(f"{manifest}: the manifest is also an input; choose another name")
        taken[place] = f"{manifest} (the manifest)", str(manifest)
    for item in named():
        if item.target is None or item.error is not None:
            continue
        place = place_of(item.target)
        if hash(place) not in suspects:
            continue
        if place in sources:
            raise OutputError(f"{item.input}: its output {item.output} is also an input; choose another name")
        if place in taken:
            first, output = taken[place]
            where = "" if _place(Path(output)) == _place(item.target) else " on disks that take them for one"
            raise OutputError(
                f"{first} and {item.input} would both be written to {item.output}{where}; nothing was done"
            )
        kind = kind_of(item.target)
        if kind is None or stat.S_ISREG(kind):  # Devices take any number of outputs.
            taken[place] = item.input, item.output


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # A name too long.
        return False
