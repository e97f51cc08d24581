"""How a network is run: measured among what may be chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from halometry.errors import UsageError
from halometry.parallel import find_device
from halometry.runs.execution import Execution, pinned_threads
from halometry.training import hardware as execution
from halometry.training import trainer as fit
from halometry.training.distributed import Group
from halometry.training.hardware import choose_execution


def build() -> torch.nn.Module:
    return torch.nn.Conv2d(1, 4, 3)


def test_the_measured_execution_is_one_of_those_asked_for() -> None:
    way = choose_execution(build, torch.rand(4, 1, 32, 32), precision="float32")
    assert way.precision == "float32"
    assert (way.images_per_second or 0) > 0
    assert "float32" in way.summary()
    assert find_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="device 'meta' is not usable here"):
        find_device("meta")


@pytest.mark.parametrize("fast", [("bfloat16", False, 4), ("float32", True, 2)])
def test_the_fastest_is_taken_of_precision_layout_and_threads(
    monkeypatch: pytest.MonkeyPatch, fast: tuple[str, bool, int]
) -> None:
    precision, channels_last, threads = fast

    def rate(_: object, __: object, way: Execution) -> float:
        """So much faster for each of the three that is right."""
        right = (way.precision == precision, way.channels_last == channels_last)
        return 100 * 1.5 ** sum((*right, way.threads == threads))

    monkeypatch.setattr(execution, "_training_rate", rate)
    with pinned_threads(4):
        way = choose_execution(build, torch.rand(1, 1, 8, 8))
    assert (way.precision, way.channels_last, way.threads) == fast


def test_a_little_faster_is_not_worth_another_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(_: object, __: object, way: Execution) -> float:
        return 110 if way.precision == "bfloat16" else 100

    monkeypatch.setattr(execution, "_training_rate", rate)
    assert choose_execution(build, torch.rand(1, 1, 8, 8)).precision == "float32"


def test_a_busy_moment_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([20.0, *[100.0] * 9])  # others are at work while the first way is timed

    monkeypatch.setattr(execution, "_training_rate", lambda *_: next(rates))
    with pinned_threads(2):
        way = choose_execution(build, torch.rand(1, 1, 8, 8))
    assert (way.precision, way.channels_last, way.threads) == ("float32", True, 2)
    assert way.images_per_second == 100


def test_threads_come_back() -> None:
    before = torch.get_num_threads()
    with pinned_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_run_takes_no_more_threads_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(fit, "_fit", lambda *_: seen.append(torch.get_num_threads()))
    job: Any = SimpleNamespace(config=SimpleNamespace(execution=Execution(threads=64)))
    with pinned_threads(1):
        fit.fit(job, Group())
    assert seen == [1]
