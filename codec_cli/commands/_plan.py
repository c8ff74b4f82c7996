"""Which input goes to which output: the arguments of ``compress`` and ``decompress``, read as ``cp`` would.

Everything that can be found wrong without opening an input is found here, before the work.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click

from codec_cli.commands._items import STREAM, Item, check_places, kind_of
from codec_cli.errors import CodecError, OutputError
from codec_cli.files import TEMPORARY_SUFFIX, make_folder

__all__ = ["STREAM", "Found", "Plan", "Rules", "check_new_file", "find", "plan"]


@dataclass(frozen=True)
class Rules:
    """What differs between the commands.

    Attributes:
        verb: Name of the command.
        suffix: What outputs are called when only the input is named.
        is_input: Whether a file name (in lower case) is one that this command reads.
        input_error: The type of error for inputs that are missing.
        inputs: What the inputs are, for messages.
        bytes_per_pixel: More than any input takes, apart from metadata.
    """

    verb: str
    suffix: str
    is_input: Callable[[str], bool]
    input_error: type[CodecError]
    inputs: str
    bytes_per_pixel: int

    def size_limit(self, max_pixels: int) -> int:
        """Bytes that no input of so many pixels reaches: endless streams must end somewhere."""
        return self.bytes_per_pixel * max_pixels + (64 << 20)


@dataclass(frozen=True)
class Plan:
    """The items of a command, in the order of the arguments, directories sorted.

    They are found anew whenever the plan is iterated: a million of them need not be kept. Those that can't
    succeed have an error.

    Attributes:
        rules: What the command is like.
        inputs: Files, directories, or ``-``.
        out: Where the outputs go: a file, a directory, or ``-``; None for beside each input.
        out_is_folder: Whether ``out`` is a directory.
        include: Globs for files in directories, instead of the names that the command reads.
        exclude: Globs for files and folders in directories to leave out.
        force: That an output exists is no error.
        size: How many there were when the plan was made.
        to_stdout: Whether the output is standard output.
    """

    rules: Rules
    inputs: tuple[str, ...]
    out: Path | None
    out_is_folder: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    force: bool
    size: int = 0
    to_stdout: bool = False

    def __iter__(self) -> Iterator[Item]:
        for number, item in enumerate(self.named()):
            yield replace(item, error=item.error or _fault(self.rules, item, self.force), number=number)

    def __length_hint__(self) -> int:
        return self.size

    def named(self) -> Iterator[Item]:
        """The items by their names alone; raises ``click.UsageError`` if the arguments don't fit together."""
        rules, out, out_is_folder = self.rules, self.out, self.out_is_folder
        for name in self.inputs:
            if name != STREAM and _is_folder(Path(name)):
                if out is None or not out_is_folder:
                    raise click.UsageError(
                        f"{name} is a directory, and needs one for the outputs: "
                        f"codec {rules.verb} {name} OUTPUT_DIRECTORY/"
                    )
                yield from _mirror(rules, Path(name), out, self.include, self.exclude)
            elif out is not None and not out_is_folder:
                yield Item(_source(name), None if str(out) == STREAM else out)
            elif name == STREAM:
                if out_is_folder or len(self.inputs) > 1:
                    raise click.UsageError(
                        "standard input (-) is read alone, and needs a file or - for the output"
                    )
                yield Item(None, None)
            else:
                named = Path(name).with_suffix(rules.suffix) if Path(name).name else Path(name)
                yield Item(Path(name), out / named.name if out else named, make_folder=out_is_folder)


def plan(
    rules: Rules,
    paths: Sequence[str],
    *,
    output_dir: Path | None,
    include: Sequence[str],
    exclude: Sequence[str],
    force: bool,
    manifest: Path | None = None,
    folded: bool = False,
) -> Plan:
    """Reads the arguments of a command.

    Args:
        rules: What the command is like.
        paths: ``INPUTS... [OUT]``: files, directories, or ``-``.
        output_dir: Where all outputs go; then all paths are inputs.
        include: Globs for files in directories, instead of the names that the command reads.
        exclude: Globs for files and folders in directories to leave out.
        force: Existing outputs may be overwritten.
        manifest: Another file to write, which must be neither input nor output.
        folded: See :func:`codec_cli.commands._items.check_places`.

    Raises:
        click.UsageError: The arguments don't fit together.
        OutputError: Two inputs would get the same output, or an output directory can't be made.
    """
    inputs, out, out_is_folder = _split(rules, list(paths), output_dir)
    made = Plan(rules, tuple(inputs), out, out_is_folder, tuple(include), tuple(exclude), force)
    size = check_places(made.named, manifest, folded)
    if out_is_folder and out is not None and any(item.error is None for item in made):
        _make_folder(out)
    # Standard output takes one output, so there is one input.
    to_stdout = any(item.target is None for item in made.named()) if size == 1 else False
    return replace(made, size=size, to_stdout=to_stdout)


class Found(NamedTuple):
    """A file in a directory.

    Attributes:
        path: Of the file.
        fault: Why it must not be opened, for messages that begin with its name; None if it may be.
    """

    path: Path
    fault: str | None


def find(
    folder: Path, is_wanted: Callable[[str], bool], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[Found]:
    """Finds files in a directory and all below it, in sorted order. Hidden files and folders are left out.

    Args:
        folder: Where to look. Links to folders are not followed.
        is_wanted: Whether a file with this name (lower case) is taken, where ``include`` is empty.
        include: Globs; a file has to match one, by its name or by its path below ``folder``.
        exclude: Globs; a file must match none, nor any of the folders that it is in.

    Yields:
        Paths that begin with ``folder``. Pipes, sockets and devices have a fault: one that happens to lie
        there would be waited for forever. Folders that can't be listed come last, as if they were files:
        their contents must not be left out in silence, and whoever tries to read one learns the reason.
    """
    closed: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        below = Path(parent).relative_to(folder)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _matches(below / name, exclude)
        )
        for name in sorted(names):
            if name.startswith(".") or name.endswith(TEMPORARY_SUFFIX) or _matches(below / name, exclude):
                continue
            if _matches(below / name, include) if include else is_wanted(name.lower()):
                yield _found(Path(parent) / name)
    yield from (Found(Path(error.filename), None) for error in closed)


def check_new_file(target: Path, force: bool) -> OutputError | None:
    """Says early what :func:`codec_cli.files.write_atomic` would say after the work."""
    kind = kind_of(target)
    if kind is not None and stat.S_ISDIR(kind):
        return OutputError(f"{target}: is a folder; give the name of a file")
    if kind is not None and (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
        return None
    if not force and os.path.lexists(target):
        return OutputError(f"{target}: exists; use --force to overwrite")
    if _is_folder(target.parent) and not os.access(target.parent, os.W_OK | os.X_OK):
        return OutputError(f"{target}: cannot write: no permission in {target.parent}")
    return None


def _split(rules: Rules, paths: list[str], output_dir: Path | None) -> tuple[list[str], Path | None, bool]:
    """Returns the inputs, the output (None for beside each input), and whether it is a directory."""
    if output_dir is not None:
        if _is_file(output_dir):
            raise click.UsageError(f"--output-dir {output_dir}: is a file, not a directory")
        return paths, output_dir, True
    if len(paths) == 1:
        return paths, None, False
    *inputs, last = paths
    out = Path(last)
    if last != STREAM and (last.endswith(("/", os.sep)) or any(_is_folder(Path(path)) for path in paths)):
        if _is_file(out):
            raise click.UsageError(f"{last}: is a file, not a directory for the outputs")
        return inputs, out, True
    # No one wants compressed bytes in a file named like a picture: `codec compress *.png` is two inputs.
    if last != STREAM and rules.is_input(out.name.lower()):
        if len(inputs) == 1 and kind_of(out) is None and kind_of(Path(inputs[0])) is not None:
            raise click.UsageError(
                f"{last}: no such file, and an output of `codec {rules.verb}` is not named like an input"
            )
        return paths, None, False
    if len(inputs) == 1:
        return inputs, out, False
    raise click.UsageError(
        f"several inputs need a directory for the outputs, and {last} is none: end it with / or use -o"
    )


def _mirror(
    rules: Rules, folder: Path, out: Path, include: Sequence[str], exclude: Sequence[str]
) -> Iterator[Item]:
    empty = True
    for path, fault in find(folder, rules.is_input, include, exclude):
        error = rules.input_error(f"{path}: {fault}") if fault else None
        target = (out / path.relative_to(folder)).with_suffix(rules.suffix)
        yield Item(path, target, make_folder=True, error=error)
        empty = False
    if empty:
        yield Item(folder, out, error=rules.input_error(f"{folder}: no {rules.inputs} in this directory"))


def _found(path: Path) -> Found:
    kind = kind_of(path)
    odd = kind is not None and not stat.S_ISREG(kind)
    return Found(path, "cannot read: not a regular file" if odd else None)


def _source(name: str) -> Path | None:
    return None if name == STREAM else Path(name)


def _fault(rules: Rules, item: Item, force: bool) -> CodecError | None:
    """What is wrong with an item, as far as can be told without opening its input."""
    if item.source is not None:
        try:
            item.source.stat()
        except OSError as error:
            return rules.input_error(f"{item.input}: cannot read: {error.strerror}")
    if item.target is None:
        return None
    if not item.make_folder and not _is_folder(item.target.parent):
        parent = item.target.parent
        return OutputError(f"{item.output}: the folder {parent} does not exist; create it first")
    return check_new_file(item.target, force)


def _make_folder(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this folder: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot write: no permission in this folder")


def _is_folder(path: Path) -> bool:
    kind = kind_of(path)
    return kind is not None and stat.S_ISDIR(kind)


def _is_file(path: Path) -> bool:
    kind = kind_of(path)
    return kind is not None and not stat.S_ISDIR(kind)


def _matches(path: Path, globs: Sequence[str]) -> bool:
    names = (path.name.lower(), path.as_posix().lower())
    return any(fnmatch.fnmatchcase(name, glob.lower().rstrip("/")) for name in names for glob in globs)
