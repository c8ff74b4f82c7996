"""``codec verify``: are compressed files whole, and how near are they to their originals?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codec_cli import options

if TYPE_CHECKING:
    from codec_cli.codec import Codec
    from codec_cli.integrity import Checked

ARCHIVE_SUFFIX = ".pack"
"""What archives are called in examples; `codec pack` takes any name."""


@click.command(
    "verify",
    epilog=options.examples(
        "codec verify photo.bin",
        "codec verify -j 0 packed/                        # a whole directory, on all cores",
        "codec verify packed/ --against pictures/         # PSNR of every file",
        "codec verify packed/ --against pictures/ --min-psnr 30 --quiet || echo bad",
        "curl --silent URL | codec verify -",
    ),
)
@click.argument("paths", metavar="FILES|DIRS...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "--decode",
    is_flag=True,
    help="Decode everything. [default: compare checksums, read the structure, find the model]",
)
@click.option(
    "--against",
    type=click.Path(readable=False, path_type=Path),
    metavar="IMAGE|DIR",
    help="Decode, and report PSNR over R'G'B' (gray: over gray) against the original: an image, or a "
    "directory laid out like that of the files. Its alpha plane must be the same. Large PNG, JPEG, TIFF and "
    "PNM are compared by rows; of others, both images are held in memory. [default: none]",
)
@click.option(
    "--min-psnr",
    type=float,
    metavar="DB",
    help="With --against: fail files below this PSNR. [default: none]",
)
@options.models_dir
@options.max_pixels
@options.threads
@options.jobs
@options.quiet
@options.json_output
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    decode: bool,
    against: Path | None,
    min_psnr: float | None,
    models_dir: Path | None,
    max_pixels: int,
    threads: int | None,
    jobs: int,
    quiet: bool,
    json: bool,
) -> None:
    """Check that compressed files are whole.

    Files (- for standard input), and all *.bin and *.pack in directories, are compared with their checksums,
    their structure is read, and the model that decodes them must be installed. Nothing is written. The exit
    code is 0 when all are well; that of the error with a single file (4: damaged), 1 when some of several are
    not, 11 when all are whole but some are below --min-psnr.
    """
    from codec_cli.commands._plan import STREAM
    from codec_cli.errors import CodecError, RegressionError
    from codec_cli.report import exit_code, json_text, one_line, progress
    from codec_cli.workers import each

    if min_psnr is not None and against is None:
        raise click.UsageError("--min-psnr needs --against")
    if STREAM in paths and len(paths) > 1:
        raise click.UsageError("- (standard input) is verified by itself")
    if STREAM in paths and against is not None and against.is_dir():
        raise click.UsageError("--against must be an image for - (standard input), which has no name")
    tasks = [task for path in paths for task in ([_STDIN] if path == STREAM else _tasks(Path(path)))]
    if against is not None and not against.is_dir():
        if not against.exists():
            raise CodecError(f"{against}: no such image or directory")
        if len(tasks) > 1:
            raise click.UsageError(f"--against {against} is one image; give a directory for several files")
    threads = 1 if threads is None and jobs > 1 else threads
    work = _Verify(decode, against, min_psnr, models_dir, max_pixels, threads)
    found: list[dict[str, Any]] = []
    with progress(len(tasks), "files", not quiet) as advance:
        for facts in each(work, tasks, jobs, _died):
            found.append(facts)
            if facts["error"] is not None:
                click.echo(one_line(f"codec: {facts['error']}"), err=True)
            elif not (quiet or json):
                click.echo(one_line(_line(facts)))
            advance(1)
    failed = sum(facts["error"] is not None for facts in found)
    codes = [facts.pop("exit_code") for facts in found]
    if json:
        click.echo(json_text({"files": found, "failed": failed}), nl=False)
    elif len(found) > 1 and not quiet:
        poor = codes.count(RegressionError.exit_code)
        below = f", {poor} below --min-psnr {min_psnr:g}" if poor else ""
        click.echo(f"{len(found) - failed + poor} of {len(found)} files are whole{below}", err=failed > 0)
    only_poor = set(codes) - {0} == {RegressionError.exit_code}
    ctx.exit(RegressionError.exit_code if only_poor else exit_code(codes))


@dataclass(frozen=True)
class _Task:
    """A file, or standard input, to verify.

    Attributes:
        path: Its name.
        below: The folder that it was found in.
        fault: Why it must not be opened; None if it may be.
        stream: It is standard input.
    """

    path: Path
    below: Path
    fault: str | None = None
    stream: bool = False


_STDIN = _Task(Path("-"), Path(), stream=True)


def _tasks(path: Path) -> list[_Task]:
    from codec_cli.commands._plan import find
    from codec_cli.commands._verbs import SUFFIX
    from codec_cli.errors import FormatError

    if not path.is_dir():
        return [_Task(path, path.parent)]
    files = find(path, lambda name: name.endswith((SUFFIX, ARCHIVE_SUFFIX)))
    tasks = [_Task(file, path, fault) for file, fault in files]
    if not tasks:
        raise FormatError(f"{path}: no compressed files (*{SUFFIX}, *{ARCHIVE_SUFFIX}) in this directory")
    return tasks


@dataclass
class _Verify:
    """Checks one file; every failure becomes a result."""

    decode: bool
    against: Path | None
    min_psnr: float | None
    models_dir: Path | None
    max_pixels: int
    threads: int | None
    _codec: Codec | None = field(default=None, init=False, repr=False)

    def __call__(self, task: _Task) -> dict[str, Any]:
        from codec_cli.report import debugging

        facts = _facts(task)
        try:
            checked = self._checked(task)
        except Exception as error:
            if debugging():
                raise
            return _failed(facts, task, error)
        facts |= {
            "width": checked.width,
            "height": checked.height,
            "images": checked.images,
            "model": checked.model,
            "level": checked.level,
        }
        psnr = checked.psnr
        if psnr is not None:
            from codec_cli.errors import FormatError, RegressionError
            from codec_cli.verification import ALPHA_DIFFERS

            facts["alpha_equal"] = checked.alpha_equal
            facts["identical"] = math.isinf(psnr) and checked.alpha_equal
            facts["psnr_rgb_db"] = None if math.isinf(psnr) else round(psnr, 4)
            if not checked.alpha_equal:
                return _failed(facts, task, FormatError(ALPHA_DIFFERS))
            if self.min_psnr is not None and psnr < self.min_psnr:
                return _failed(
                    facts, task, RegressionError(f"{psnr:.2f} dB, below --min-psnr {self.min_psnr:g}")
                )
        return facts

    def _checked(self, task: _Task) -> Checked:
        from codec_cli.codec import Codec
        from codec_cli.commands._verbs import size_limit
        from codec_cli.errors import FormatError
        from codec_cli.files import read_bytes, read_stdin
        from codec_cli.integrity import check, compare, original_of
        from codec_cli.pictures.images import input_suffixes

        if task.fault is not None:
            raise FormatError(task.fault)
        if self._codec is None:
            self._codec = Codec(models_dir=self.models_dir, threads=self.threads)
        limit = size_limit(self.max_pixels)
        data = read_stdin(limit) if task.stream else read_bytes(task.path, limit, FormatError)
        if self.against is None:
            return check(self._codec, data, decode=self.decode, max_pixels=self.max_pixels)
        original = original_of(task.path, task.below, self.against, input_suffixes())
        return compare(self._codec, data, original, max_pixels=self.max_pixels)


def _facts(task: _Task) -> dict[str, Any]:
    names = (
        "width",
        "height",
        "images",
        "model",
        "level",
        "psnr_rgb_db",
        "alpha_equal",
        "identical",
        "error",
    )
    return {"file": str(task.path), **dict.fromkeys(names), "exit_code": 0}


def _failed(facts: dict[str, Any], task: _Task, error: Exception) -> dict[str, Any]:
    from codec_cli.report import describe, named

    text, code = describe(error)
    return {**facts, "error": named(str(task.path), text), "exit_code": code}


def _died(task: _Task) -> dict[str, Any]:
    from codec_cli.errors import CodecError
    from codec_cli.workers import WORKER_DIED

    return _failed(_facts(task), task, CodecError(WORKER_DIED))


def _line(facts: dict[str, Any]) -> str:
    count = "" if facts["images"] is None else f"{facts['images']} images of "
    size, model = f"{facts['width']}x{facts['height']}", f"{facts['model']} level {facts['level']}"
    text = f"{facts['file']}: whole  {count}{size}  {model}"
    if facts["identical"]:
        return f"{text}  exact"
    return text if facts["psnr_rgb_db"] is None else f"{text}  {facts['psnr_rgb_db']:.2f} dB"
