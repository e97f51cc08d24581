"""Setting of the C library that keeps freed memory in the process during training."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
MAX_MMAP_THRESHOLD = 32 << 20  # bytes, the largest value that glibc itself chooses


@contextmanager
def keep_freed_memory() -> Iterator[bool]:
    """Keep freed CPU memory in the process within the context, and return it at the end.

    glibc maps each block above 32 MB anew and unmaps it when it is freed. The kernel then clears
    every page of the largest activations in every step. Other C libraries are left as they are.

    Yields:
        Whether the C library accepted the settings.

    Reference:
        mallopt(3) of the Linux manual pages.

    Example:
        >>> with keep_freed_memory():
        ...     pass  # train
    """
    libc = _glibc()
    if libc is None:
        yield False
        return
    accepted = libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield bool(accepted)
    finally:
        # Any setting ends glibc's own adjustment, so the limits that it approaches are set.
        libc.mallopt(M_MMAP_MAX, 65536)
        libc.mallopt(M_MMAP_THRESHOLD, MAX_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MAX_MMAP_THRESHOLD)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        _ = libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return libc
