"""Memory that a step frees is the next step's: it need not go back to the system in between."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
LARGEST = 32 << 20  # bytes, the most that glibc's own adjustment of M_MMAP_THRESHOLD reaches


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Let the C library keep what is freed on the CPU, and give it back at the end.

    glibc maps each block above 32 MB anew and unmaps it when freed, so that the kernel clears
    every page of the largest activations in every step, which takes up to a quarter of it. Where
    the C library is another, nothing changes.

    Yields:
        Whether the C library took the settings.

    Reference:
        mallopt(3) of the Linux manual pages.

    Example:
        >>> with freed_memory_kept():
        ...     pass  # train
    """
    libc = _glibc()
    if libc is None:
        yield False
        return
    kept = libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield bool(kept)
    finally:
        # Any setting ends glibc's own adjustment, so these stand where it would have ended.
        libc.mallopt(M_MMAP_MAX, 65536)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        _ = libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return libc
