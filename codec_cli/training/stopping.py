"""Ctrl-C in training: the step under way is finished, a checkpoint written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from codec_cli.errors import TrainingError


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

    def report(self, run: Path, step: int) -> None:
        """Raises :class:`TrainingError` that says how to go on, if it came; a checkpoint was written."""
        if self.asked:
            raise TrainingError(f"{run}: stopped at step {step} with a checkpoint; continue with --resume")
