"""What the C library does with freed memory."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["return_freed_memory"]

_M_MMAP_THRESHOLD = -3  # Of glibc's malloc.h.
_LARGE = 4 << 20


def return_freed_memory() -> None:
    """Has freed arrays of more than 4 MiB go back to the system at once, where the C library is glibc.

    Left alone, it learns from the first such arrays to keep room for more, and the room gets fragmented: some
    100 MB with rows of 20,000 pixels. It costs a few percent of time, so it is for large images alone.
    """
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # Another C library.
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
