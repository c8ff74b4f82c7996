"""The same work on many things, here or in several processes."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import FrameType

__all__ = ["WORKER_DIED", "each"]

T = TypeVar("T")
R = TypeVar("R")

WORKER_DIED = "its process was killed, perhaps for lack of memory; try fewer --jobs"
WINDOW = 64
"""Results per process that may wait for their turn, while an earlier one takes long."""

QUICK = 0.25
"""Seconds below which a process gets its next thing before it is done with one, so as not to wait for it."""

_work: Callable[[Any], Any] | None = None


def each(
    work: Callable[[T], R],
    things: Iterable[T],
    jobs: int,
    died: Callable[[T], R],
    *,
    ordered: bool = True,
) -> Generator[R, None, None]:
    """Does ``work`` on every one of ``things``, of which only as many are taken as can be begun.

    If the generator is closed or anything raises, processes are told to stop what they do at once. To let
    them finish what they have begun, end ``things``.

    Args:
        work: With several jobs it is pickled once per process and kept there, so it may load what it needs
            (a model) at its first call. It has to turn all failures that are expected into results.
        things: What to work on.
        jobs: The most processes to use; with 1 (or one thing) the work is done in this one.
        died: The result for things whose process was killed. The others go on.
        ordered: Yield in the order of ``things``; otherwise as they are finished.

    Yields:
        The results.
    """
    jobs = min(jobs, length_hint(things, jobs))
    if jobs <= 1:
        yield from map(work, things)
        return
    workers = [_Worker(work, died) for _ in range(jobs)]
    try:
        yield from _spread(workers, things, ordered)
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    finally:
        for worker in workers:
            worker.close()


def _spread(workers: list[_Worker[T, R]], things: Iterable[T], ordered: bool) -> Iterator[R]:
    from concurrent.futures import FIRST_COMPLETED, wait

    numbered = enumerate(things)
    ready: dict[int, R] = {}
    turn, more = 0, True
    while True:
        for worker in sorted(workers, key=lambda worker: len(worker.begun)):
            while more and worker.has_room and len(ready) < WINDOW * len(workers):
                thing = next(numbered, None)
                if thing is None:
                    more = False
                else:
                    worker.begin(*thing)
        begun = [worker.begun[0].future for worker in workers if worker.begun]
        if not begun:
            return
        wait(begun, return_when=FIRST_COMPLETED)
        for worker in workers:
            if worker.begun and worker.begun[0].future.done():
                number, result = worker.finish()
                ready[number if ordered else turn] = result
                while turn in ready:
                    yield ready.pop(turn)
                    turn += 1


@dataclass
class _Begun(Generic[T, R]):
    """A thing that a worker was given: its number, and what its result will be."""

    number: int
    thing: T
    future: Future[R]


class _Worker(Generic[T, R]):
    """One process that does one thing after the other.

    A pool of several would take all of them down with the first one that is killed, and not say what that
    was working on.
    """

    def __init__(self, work: Callable[[T], R], died: Callable[[T], R]) -> None:
        self._work = work
        self._died = died
        self._finished = -math.inf
        self._quick = False
        self.begun: deque[_Begun[T, R]] = deque()
        self._start()

    def _start(self) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # Not fork: the threads of LiteRT and BLAS don't survive it.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn, initializer=_start, initargs=(self._work,))
        self._process: Future[int] | None = None

    @property
    def has_room(self) -> bool:
        """Whether to give it something: one thing, or the next one too, if it would soon wait for that."""
        return len(self.begun) < (2 if self._quick else 1)

    def begin(self, number: int, thing: T) -> None:
        """Begins to work on a thing, after the one before."""
        from concurrent.futures.process import BrokenProcessPool

        try:
            future = self._submit(thing)
        except BrokenProcessPool:
            if self.begun:  # finish() will find out.
                future = self.begun[0].future
            else:  # It was killed while it had nothing to do.
                self._restart()
                future = self._submit(thing)
        self.begun.append(_Begun(number, thing, future))

    def _submit(self, thing: T) -> Future[R]:
        if self._process is None:
            with _deaf_children():
                self._process = self._pool.submit(os.getpid)
        return self._pool.submit(_call, thing)

    def _restart(self) -> None:
        self.close()
        self._start()

    def finish(self) -> tuple[int, R]:
        """Returns the number of the first thing that was begun, and the result."""
        from concurrent.futures.process import BrokenProcessPool

        first = self.begun.popleft()
        now = time.monotonic()
        self._quick, self._finished = now - self._finished < QUICK, now
        try:
            return first.number, first.future.result()
        except BrokenProcessPool:
            self._restart()
            for later in self.begun:  # Was not begun: results come in turn.
                later.future = self._submit(later.thing)
            return first.number, self._died(first.thing)

    def stop(self) -> None:
        """Tells the process to end at once; what it has begun, it cleans up."""
        with contextlib.suppress(Exception):
            if self._process is not None and self._process.done():
                os.kill(self._process.result(), signal.SIGTERM)

    def close(self) -> None:
        """Waits for the process to end."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Keeps Ctrl-C from processes that are started meanwhile: during their imports they would die of it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # If it were started below, it would take our mask away.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(work: Callable[[Any], Any]) -> None:
    """Prepares a worker process."""
    import multiprocessing
    import threading

    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one handles it.
    signal.signal(signal.SIGTERM, _stop)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        # A parent that was killed can't stop its workers, and their queue never ends.
        if parent is not None:
            with contextlib.suppress(OSError):
                parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _call(thing: Any) -> Any:  # noqa: ANN401 - what `work` takes and returns
    assert _work is not None
    return _work(thing)
