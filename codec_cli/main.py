"""The entry point: the click group, and how its commands end."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from codec_cli import __version__

__all__ = ["cli", "main"]

COMMANDS = (
    "compress",
    "decompress",
    "pack",
    "unpack",
    "info",
    "verify",
    "models",
    "eval",
    "train",
    "finish",
    "export",
    "sample",
    "study",
)
INTERRUPTED = 130

EPILOG = """\b
Exit codes:
  0    all went well
  1    some of several files failed, or an error that is none of the below
  2    the command line is wrong
  3    an image is missing, damaged, or not an image
  4    a compressed file is missing, damaged, or not one of ours
  5    a file was written by a later version of codec
  6    a model is missing, unknown or damaged
  7    an output exists (see --force) or can't be written
  8    an image is larger than the limit (see --max-pixels)
  9    training can't start or had to stop
  10   no quality level meets a --target
  11   worse than a --baseline or --min-psnr allows
  12   a damaged file was saved in part (--salvage)
  130  interrupted (Ctrl-C)

\b
Example:
  codec compress photo.png && codec decompress photo.bin again.png

\b
Completion for bash (zsh, fish: likewise):
  eval "$(_CODEC_COMPLETE=bash_source codec)"
"""


class _Commands(click.Group):
    """A group that imports a command's module when it is first asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of their use."""
        return [name for name in COMMANDS if importlib.util.find_spec(f"codec_cli.commands.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"codec_cli.commands.{cmd_name}").command
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401 - as in click
    ) -> Any:  # noqa: ANN401 - as in click
        """Runs a command line and exits; errors become one line and an exit code, never a traceback."""
        run = functools.partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        sys.exit(_guarded(run))


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(__version__, "--version", prog_name="codec", message="%(prog)s %(version)s")
def cli() -> None:
    """A learned image compressor: photographs in, small files out.

    Run `codec COMMAND --help` for the options of a command.
    """


def main() -> NoReturn:
    """The console script ``codec``."""
    # So that write_atomic and the like clean up when someone asks us to stop.
    signal.signal(signal.SIGTERM, _terminated)
    cli.main(prog_name="codec")
    raise AssertionError("unreachable")  # cli.main() exits.


def _terminated(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # A second one would end what cleans up.
    sys.exit(128 + number)


def _guarded(run: Callable[[], Any]) -> int:
    """Runs a command and returns its exit code; says in one line what went wrong."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files may hold what the terminal's encoding has no character for.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        result = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return _unheard()
    except Exception as error:
        from codec_cli.report import debugging, describe

        if debugging():
            raise
        text, code = describe(error)
        click.echo(f"codec: {text}", err=True)
        return code


def _unheard() -> int:
    """The reader of our output went away (``codec info x | head -1``): no reason to say anything."""
    # What is still buffered must not fail again when the interpreter flushes it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 1
