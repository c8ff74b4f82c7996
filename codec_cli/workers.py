"""The same work on many things, here or in several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["WORKER_DIED", "each"]

T = TypeVar("T")
R = TypeVar("R")

WORKER_DIED = "its process was killed, perhaps for lack of memory; try fewer --jobs"

_work: Callable[[Any], Any] | None = None


def each(work: Callable[[T], R], things: Sequence[T], jobs: int, died: Callable[[T], R]) -> Iterator[R]:
    """Does ``work`` on every one of ``things``.

    Args:
        work: With several jobs it is pickled once per process and kept there, so it may load what it needs
            (a model) at its first call. It has to turn all failures that are expected into results.
        things: What to work on.
        jobs: The most processes to use; with 1 (or one thing) the work is done in this one.
        died: The result for things whose process was killed.

    Yields:
        The results, in the order of ``things``.
    """
    jobs = min(jobs, len(things))
    if jobs <= 1:
        yield from map(work, things)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # Not fork: the threads of LiteRT and BLAS don't survive it.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, initializer=_start, initargs=(work,))
    try:
        futures = [pool.submit(_call, thing) for thing in things]
        for thing, future in zip(things, futures, strict=True):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield died(thing)
    finally:
        # After Ctrl-C: what has begun is finished (a moment), nothing new is begun.
        pool.shutdown(wait=True, cancel_futures=True)


def _start(work: Callable[[Any], Any]) -> None:
    """Prepares a worker process."""
    import multiprocessing
    import os
    import signal
    import threading

    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one handles it.
    parent = multiprocessing.parent_process()

    def follow() -> None:
        # A parent that was killed can't stop its workers, and their queue never ends.
        if parent is not None:
            with contextlib.suppress(OSError):
                parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _call(thing: Any) -> Any:  # noqa: ANN401 - what `work` takes and returns
    assert _work is not None
    return _work(thing)
