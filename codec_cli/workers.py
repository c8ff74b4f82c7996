"""The same work on many things, here or in several processes."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from types import FrameType

__all__ = ["WORKER_DIED", "each"]

T = TypeVar("T")
R = TypeVar("R")

WORKER_DIED = "its process was killed, perhaps for lack of memory; try fewer --jobs"
WINDOW = 64
"""Results per process that may wait for their turn, while an earlier one takes long."""

QUICK = 0.25
"""Seconds below which a process gets its next thing before it is done with one, so as not to wait for it."""

MOST = 30 if sys.platform == "win32" else 1 << 16
"""Processes at once: Windows waits for 63 things at the most, and there are two to a process."""


class WorkerError(RuntimeError):
    """What an exception in a process was, with its traceback: the cause of the one that is raised here."""


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
        things: What to work on. With several jobs small things, such as names of files: they are sent
            while the process may be busy, and must not block this one.
        jobs: The most processes to use; with 1 (or one thing) the work is done in this one.
        died: The result for things whose process was killed. The others go on.
        ordered: Yield in the order of ``things``; otherwise as they are finished.

    Yields:
        The results.
    """
    jobs = min(jobs, length_hint(things, jobs), MOST)
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
            worker.hang_up()
        for worker in workers:
            worker.wait()


def _spread(workers: list[_Worker[T, R]], things: Iterable[T], ordered: bool) -> Iterator[R]:
    from multiprocessing.connection import wait

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
        busy = [worker for worker in workers if worker.begun]
        if not busy:
            return
        events = set(wait([event for worker in busy for event in worker.events]))
        for worker in busy:
            if events.isdisjoint(worker.events):
                continue
            number, result = worker.finish()
            ready[number if ordered else turn] = result
            while turn in ready:
                yield ready.pop(turn)
                turn += 1


class _Worker(Generic[T, R]):
    """One process that does one thing after the other, started for the first.

    Not an executor of the standard library: one for all processes would take all of them down with the first
    one that is killed, and not say what that was working on; and each spends half a millisecond on every
    thing with its threads, a tenth of the work on a small image.
    """

    def __init__(self, work: Callable[[T], R], died: Callable[[T], R]) -> None:
        self._work = work
        self._died = died
        self._finished = -math.inf
        self._quick = False
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self.begun: deque[tuple[int, T]] = deque()
        """Number and thing, of what it was told to do."""

    def _start(self) -> None:
        import multiprocessing

        # Not fork: the threads of LiteRT and BLAS don't survive it.
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        # A daemon: should this process end without closing it, it is not waited for.
        process = spawn.Process(target=_serve, args=(theirs, self._work), daemon=True)
        try:
            with theirs, _deaf_children():
                process.start()
        except BaseException:
            ours.close()
            raise
        self._process, self._pipe = process, ours

    @property
    def has_room(self) -> bool:
        """Whether to give it something: one thing, or the next one too, if it would soon wait for that."""
        return len(self.begun) < (2 if self._quick else 1)

    @property
    def events(self) -> list[Connection | int]:
        """What to wait for, while something is begun: a result, or the end of the process."""
        if self._pipe is None or self._process is None:
            return []
        # Of a process that ends early, Windows may keep the pipe open.
        return [self._pipe, self._process.sentinel]

    def begin(self, number: int, thing: T) -> None:
        """Begins to work on a thing, after the one before."""
        self.begun.append((number, thing))
        if not self._tell(thing) and len(self.begun) == 1:  # It was killed while it had nothing to do.
            self.close()
            self._tell(thing)

    def _tell(self, thing: T) -> bool:
        """Whether there was a process to tell. If not, and it had something to do, finish() finds out."""
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(thing)
        except OSError:
            return False
        return True

    def finish(self) -> tuple[int, R]:
        """Returns the number of the first thing that was begun, and the result, once there is one."""
        number, thing = self.begun.popleft()
        now = time.monotonic()
        self._quick, self._finished = now - self._finished < QUICK, now
        answer = self._answer()
        if answer is None:
            self.close()
            for _, later in self.begun:  # Was not begun: results come in turn.
                self._tell(later)
            return number, self._died(thing)
        result, error, trace = answer
        if error is not None:
            raise error from WorkerError(trace)
        return number, result

    def _answer(self) -> tuple[R, Exception | None, str] | None:
        """What the process sent; None if it has ended without."""
        assert self._pipe is not None
        assert self._process is not None
        try:
            if not self._pipe.poll() and not self._process.is_alive():
                return None
            answer: tuple[R, Exception | None, str] = self._pipe.recv()
        except (EOFError, OSError):
            return None
        return answer

    def stop(self) -> None:
        """Tells the process to end at once; what it has begun, it cleans up (but not on Windows)."""
        if self._process is not None:
            self._process.terminate()

    def hang_up(self) -> None:
        """Tells the process that there is nothing more to do."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def wait(self) -> None:
        """Waits for the process to end."""
        if self._process is not None:
            self._process.join()
            self._process = None

    def close(self) -> None:
        """Ends the process; :meth:`begin` starts another."""
        self.hang_up()
        self.wait()


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


def _serve(things: Connection, work: Callable[[Any], Any]) -> None:
    """What a worker process does: things in, results (or exceptions) out, until there are no more."""
    import multiprocessing
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one handles it.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # See _deaf_children.
    signal.signal(signal.SIGTERM, _stop)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        # A parent that was killed can't stop its workers while they work.
        if parent is not None:
            with contextlib.suppress(OSError):
                parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # The other end was closed.
        while True:
            things.send_bytes(_answer(work, things.recv_bytes()))


def _stop(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # A second one would end what cleans up.
    raise SystemExit(128 + number)


def _answer(work: Callable[[Any], Any], thing: bytes) -> bytes:
    """The pickled result of one pickled thing, or None, the exception and its traceback."""
    try:
        return pickle.dumps((work(pickle.loads(thing)), None, ""))
    except Exception as error:
        trace = traceback.format_exc()
        try:
            data = pickle.dumps((None, error, trace))
            pickle.loads(data)  # Not all that can be pickled can be read again.
        except Exception:
            data = pickle.dumps((None, WorkerError(trace), ""))
        return data
