"""Ctrl-C in training: the step under way is finished, a checkpoint written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether SIGINT came while :meth:`catching`."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Takes SIGINT for itself meanwhile."""

        def handler(_signal: int, _frame: FrameType | None) -> None:
            self.asked = True

        try:
            previous = signal.signal(signal.SIGINT, handler)
        except ValueError:  # Not the main thread: the caller handles interruption.
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
