"""Ctrl-C during many files: the first lets what was begun be finished, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import click

__all__ = ["Polite", "polite"]


@dataclass
class Polite:
    """Whether the user has interrupted."""

    interrupted: bool = False


@contextlib.contextmanager
def polite(wanted: bool) -> Iterator[Polite]:
    """Makes the first Ctrl-C a wish, and the second one a KeyboardInterrupt as usual.

    Args:
        wanted: Otherwise, and outside the main thread, everything stays as it is.

    Yields:
        What to ask between two files.
    """
    state = Polite()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield state
        return
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:  # Ignored, or someone else's.
        yield state
        return

    def heard(_: int, __: FrameType | None) -> None:
        state.interrupted = True
        signal.signal(signal.SIGINT, usual)
        click.echo("codec: interrupted; finishing what was begun (Ctrl-C again stops at once)", err=True)

    signal.signal(signal.SIGINT, heard)
    try:
        yield state
    finally:
        signal.signal(signal.SIGINT, usual)
