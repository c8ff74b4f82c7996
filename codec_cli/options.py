"""The options that several commands share, each defined once.

=====================  ==================================================================
``quality``            ``-q/--quality``: how much to keep, 1 to 100
``model``              ``--model``: which model encodes
``models_dir``         ``--models-dir`` (and ``CODEC_MODELS_DIR``): where to look first
``threads``            ``--threads``: processor threads of one file
``jobs``               ``--jobs``: files at once; the command gets the resolved number
``max_pixels``         ``--max-pixels``: the largest image to accept
``include``            ``--include``/``--exclude``: globs for directories
``force``              ``--force``: overwrite
``quiet``, ``verbose`` ``--quiet``, ``--verbose``: how much to tell
``json_output``        ``--json``: for scripts
``manifest``           ``--manifest``: a JSON line for each file
``resume``             ``--resume``: leave out what is done
``preserve``           ``--preserve``: outputs get the inputs' times and permissions
``delete_source``      ``--delete-source``: remove inputs, once outputs were decoded and compared
``batch``              all that ``compress`` and ``decompress`` share, as one :class:`Batch`
=====================  ==================================================================

Importing this module must stay cheap (``codec --help`` does): click and the standard library only.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

__all__ = [
    "DEFAULT_EFFORT",
    "DEFAULT_MAX_PIXELS",
    "DEFAULT_MODEL",
    "MODELS_DIR_VARIABLE",
    "Batch",
    "batch",
    "delete_source",
    "examples",
    "exclude",
    "force",
    "include",
    "jobs",
    "json_output",
    "manifest",
    "max_pixels",
    "model",
    "models_dir",
    "packed",
    "preserve",
    "quality",
    "quiet",
    "resume",
    "threads",
    "verbose",
]

# These repeat codec_cli.codec and codec_cli.zoo, whose import would be slow; a test compares them.
DEFAULT_MAX_PIXELS = 1 << 28
DEFAULT_MODEL = "photo"
DEFAULT_EFFORT = 5
MODELS_DIR_VARIABLE = "CODEC_MODELS_DIR"

F = TypeVar("F", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """The epilog of a command's help: its examples, with line breaks kept."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def complete_model(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shell completion: the installed models and their aliases."""
    from codec_cli.errors import CodecError
    from codec_cli.zoo import Zoo

    try:
        names = Zoo(ctx.params.get("models_dir")).names()
    except CodecError:
        return []
    aliases = {name.rpartition("-")[0] for name in names} - {""}
    return [CompletionItem(name) for name in sorted({*names, *aliases}) if name.startswith(incomplete)]


def _resolve_jobs(_: click.Context, __: click.Parameter, value: int) -> int:
    if value:
        return value
    if hasattr(os, "sched_getaffinity"):  # In a container, fewer than os.cpu_count() says.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


quality = click.option(
    "-q",
    "--quality",
    type=click.IntRange(1, 100),
    metavar="1..100",
    show_default="the model's, about 0.6 bits per pixel",
    help="How much to keep: 1 (smallest file) to 100 (best picture).",
)
model = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="NAME",
    shell_complete=complete_model,
    help="Model to encode with: a name or alias that `codec models` lists, or the path of a model folder.",
)
models_dir = click.option(
    "--models-dir",
    type=click.Path(readable=False, path_type=Path),
    metavar="DIR",
    envvar=MODELS_DIR_VARIABLE,
    show_envvar=True,
    show_default="the user's models, then the installed ones",
    help="Directory to search for models before the others.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    show_default="all cores; 1 with --jobs above 1",
    help="Processor threads that work on one file.",
)
jobs = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    show_default=True,
    callback=_resolve_jobs,
    help="Files to work on at once, each in a process of its own; 0 is one per core.",
)
max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Refuse images of more pixels (width times height) before decoding them.",
)


def include(default: str) -> Callable[[F], F]:
    """``--include``, whose default (the names that a directory is searched for) depends on the command."""
    return click.option(
        "--include",
        multiple=True,
        metavar="GLOB",
        show_default=default,
        help="In directories, take the files that match: name or path below the directory, in any case. "
        "Repeatable.",
    )


exclude = click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    show_default="none",
    help="In directories, leave out files and folders that match. Repeatable.",
)
force = click.option("--force", is_flag=True, help="Overwrite existing files. [default: refuse]")
quiet = click.option("--quiet", is_flag=True, help="Print errors only. [default: a line per file]")
verbose = click.option("--verbose", is_flag=True, help="Print more about each file. [default: off]")
json_output = click.option(
    "--json", is_flag=True, help="Print one JSON object for scripts. [default: lines of text]"
)
manifest = click.option(
    "--manifest",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Write a line of JSON for each file as it is finished; with --resume, lines are added. "
    "[default: none]",
)
resume = click.option(
    "--resume",
    is_flag=True,
    help="Skip inputs whose output is whole and not older than they are; replace compressed files that are "
    "damaged or older. [default: off]",
)
preserve = click.option(
    "--preserve", is_flag=True, help="Give each output the times and permissions of its input. [default: off]"
)
delete_source = click.option(
    "--delete-source",
    is_flag=True,
    help="Delete each input after its output was written, read back, decoded and compared with it; keep it, "
    "with a warning, if more was lost than this is made to lose. [default: off]",
)


@dataclass(frozen=True)
class Batch:
    """What ``compress`` and ``decompress`` were asked to do with which files.

    Attributes:
        paths: The inputs, and perhaps the output, as given.
        output_dir: Value of ``--output-dir``.
        include: Globs of ``--include``; empty for the command's default.
        exclude: Globs of ``--exclude``.
        models_dir: Searched first for models.
        max_pixels: The largest image to accept.
        threads: Threads per file; None for the default.
        jobs: Files at once, at least 1.
        force: Overwrite existing files.
        quiet: Errors only.
        verbose: More about each file.
        json: One JSON object instead of lines.
        manifest: Where a line of JSON for each file goes, or None.
        resume: Skip what is done.
        preserve: Outputs get times and permissions of their inputs.
        delete_source: Remove inputs whose outputs were decoded and compared with them.
    """

    paths: tuple[str, ...]
    output_dir: Path | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    models_dir: Path | None
    max_pixels: int
    threads: int | None
    jobs: int
    force: bool
    quiet: bool
    verbose: bool
    json: bool
    manifest: Path | None
    resume: bool
    preserve: bool
    delete_source: bool


def packed(shared: Sequence[Callable[..., Any]], kind: type, name: str) -> Callable[[F], F]:
    """Adds options to a command, which gets their values as one argument.

    Args:
        shared: The options and arguments, in the order of the help text.
        kind: A dataclass with a field for each.
        name: Of the argument.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def unpacked(**arguments: Any) -> Any:  # noqa: ANN401 - passes on what the command returns
            values = {field.name: arguments.pop(field.name) for field in fields(kind)}
            return function(**{name: kind(**values)}, **arguments)

        command: Any = unpacked
        for option in reversed(shared):
            command = option(command)
        result: F = command
        return result

    return decorate


def batch(default_include: str) -> Callable[[F], F]:
    """Adds the options of :class:`Batch`; the command gets them as one argument ``batch``."""
    shared = (
        click.argument(
            "paths", metavar="INPUTS... [OUT]", nargs=-1, required=True, type=click.Path(readable=False)
        ),
        click.option(
            "-o",
            "--output-dir",
            type=click.Path(readable=False, path_type=Path),
            metavar="DIR",
            show_default="beside each input",
            help="Directory for the outputs, made if missing; folders are mirrored into it.",
        ),
        include(default_include),
        exclude,
        models_dir,
        max_pixels,
        threads,
        jobs,
        resume,
        preserve,
        delete_source,
        force,
        quiet,
        verbose,
        json_output,
        manifest,
    )

    return packed(shared, Batch, "batch")
