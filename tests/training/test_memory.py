"""Memory between steps: kept while training, given back afterwards."""

from __future__ import annotations

import ctypes
import resource

import psutil
import pytest
import torch

from halometry.training import memory
from halometry.training.memory import keep_freed_memory

MEGABYTES = 128


def pages_fetched(megabytes: int = MEGABYTES) -> int:
    """New pages that the kernel clears for a large tensor, of 4 kB each."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(megabytes << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_freed_block_is_used_again_within_and_given_back_after() -> None:
    with keep_freed_memory() as kept:
        if not kept:
            pytest.skip("the C library is not glibc")
        pages_fetched(MEGABYTES + 1)
        again = pages_fetched()
        held = psutil.Process().memory_info().rss
    assert again < 100
    assert psutil.Process().memory_info().rss < held - (MEGABYTES << 19)
    assert pages_fetched() > 100


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory._glibc() is None
    with keep_freed_memory() as kept:
        assert not kept
