"""Setting of the C library that keeps freed memory during training."""

from __future__ import annotations

import ctypes
import resource

import psutil
import pytest
import torch

from halometry.training import memory
from halometry.training.memory import keep_freed_memory

MEGABYTES = 128


def new_pages(megabytes: int = MEGABYTES) -> int:
    """Number of new pages (4 kB) that the kernel clears for a large tensor."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(megabytes << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_reused_within_and_returned_after() -> None:
    with keep_freed_memory() as accepted:
        if not accepted:
            pytest.skip("the C library is not glibc")
        new_pages(MEGABYTES + 1)
        reused = new_pages()
        held = psutil.Process().memory_info().rss
    assert reused < 100
    assert psutil.Process().memory_info().rss < held - (MEGABYTES << 19)
    assert new_pages() > 100


def test_other_c_libraries_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory._glibc() is None
    with keep_freed_memory() as accepted:
        assert not accepted
