"""Worker processes: order of results, progress, errors."""

from __future__ import annotations

import os

import pytest

from halometry.errors import UnavailableError, UsageError
from halometry.log import track
from halometry.parallel import Advance, ProcessPool, check_devices, check_workers


def square(number: int, advance: Advance) -> int:
    """Square of a number; 99 raises an error, and -1 ends the process."""
    advance(number)
    if number == 99:
        raise ValueError("99")
    if number == -1:
        os._exit(1)
    return number**2


def test_results_are_in_order_items_are_counted_and_errors_raised() -> None:
    numbers = list(range(12))
    with ProcessPool(2) as pool, track("squaring", sum(numbers)) as progress:
        progress.advance(3)  # by earlier work
        assert list(pool.map(square, numbers, progress)) == [(n, n**2) for n in numbers]
        assert progress.done == 3 + sum(numbers)
        with pytest.raises(ValueError, match="99"):
            list(pool.map(square, [1, 99, *numbers]))


def test_end_of_a_worker_process_is_reported() -> None:
    with (
        ProcessPool(1) as pool,
        pytest.raises(UnavailableError, match="a worker process ended unexpectedly"),
    ):
        list(pool.map(square, [-1]))


@pytest.mark.parametrize("workers", [0, -1, 1.5, "many"])
def test_invalid_numbers_of_workers_are_refused(workers: object) -> None:
    with pytest.raises(UsageError, match=f"--workers {workers}: must be 'auto' or a number from 1"):
        check_workers(workers)  # type: ignore[arg-type]


def test_one_gpu_by_number_is_not_several_devices() -> None:
    with pytest.raises(UsageError, match="--device cuda:1: is one GPU; use --device cuda"):
        check_devices("cuda:1", devices=2)
    assert check_devices("cpu", devices=2) == "cpu"
