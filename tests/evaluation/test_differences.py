"""Paired differences between networks, with simultaneous intervals."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from halometry.compare.compare import Comparison
from halometry.compare.tables import print_differences
from halometry.evaluation.differences import differences, find_difference
from halometry.evaluation.metrics import classification_metrics, regression_metrics
from helpers.comparison import NETWORKS

CLASS_NAMES = ("no", "sphere", "vort")


def class_outputs(count: int = 300) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Class indices, and probabilities of two similar networks and of a useless one."""
    rng = np.random.default_rng(1)
    truth = np.arange(count) % 3
    first = np.exp(rng.normal(size=(count, 3)) + np.eye(3)[truth])
    first /= first.sum(axis=1, keepdims=True)
    near = 0.9 * first + 0.1 * rng.dirichlet(np.ones(3), count)
    return truth, {"a": first, "near": near, "far": rng.dirichlet(np.ones(3), count)}


def mass_outputs(count: int = 300) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Masses, and predictions of two similar networks and of a worse one."""
    rng = np.random.default_rng(2)
    truth, noise = rng.normal(size=(2, count))
    near = truth + noise + 0.1 * rng.normal(size=count)
    return truth, {"a": truth + noise, "near": near, "far": truth + 4 * noise}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_differences_are_those_of_the_metrics_with_paired_intervals(task: str) -> None:
    truth, outputs = class_outputs() if task == "classification" else mass_outputs()
    metrics = {
        name: classification_metrics(truth, output, CLASS_NAMES)
        if task == "classification"
        else regression_metrics(truth, output)
        for name, output in outputs.items()
    }
    pairs = differences(truth, outputs)
    assert len(pairs) == (3 if task == "classification" else 6)
    for pair in pairs:
        first, second = (metrics[name][pair.metric] for name in (pair.first, pair.second))
        assert pair.value == pytest.approx(first.value - second.value)
        assert pair.low < pair.value < pair.high
        names = {pair.first, pair.second}
        if names == {"a", "near"}:
            independent = np.hypot(first.high - first.low, second.high - second.low)
            assert pair.high - pair.low < 0.6 * independent
        assert pair.better == (next(iter(names - {"far"})) if "far" in names else None)


def test_equal_outputs_do_not_differ() -> None:
    truth, outputs = class_outputs()
    (pair,) = differences(truth, {"a": outputs["a"], "b": outputs["a"]})
    assert (pair.value, pair.low, pair.high, pair.better) == (0, 0, 0, None)


def test_intervals_of_many_pairs_are_simultaneous() -> None:
    rng = np.random.default_rng(3)
    names, trials, false = [f"n{i}" for i in range(5)], 150, 0
    for trial in range(trials):
        truth = rng.normal(size=200)
        outputs = {name: truth + rng.normal(size=200) for name in names}
        pairs = differences(truth, outputs, resamples=200, seed=trial)
        assert len(pairs) == 20
        false += any(pair.better for pair in pairs if pair.metric == "mse")
    # Separate intervals of ten pairs would find one in about four of ten comparisons.
    assert false / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_one_network_has_no_differences() -> None:
    truth, outputs = class_outputs()
    assert differences(truth, {"a": outputs["a"]}) == []


def test_difference_of_a_reversed_pair_has_the_opposite_sign() -> None:
    pairs = differences(*class_outputs())
    forward = find_difference(pairs, "auc", "a", "far")
    backward = find_difference(pairs, "auc", "far", "a")
    assert (forward.value, forward.low, forward.high) == (
        -backward.value, -backward.high, -backward.low,
    )  # fmt: skip
    with pytest.raises(KeyError):
        find_difference(pairs, "auc", "a", "unknown")


def test_comparison_has_the_differences_of_all_pairs(
    classes: Comparison, fractions: Comparison
) -> None:
    for comparison, metrics in ((classes, ["auc"]), (fractions, ["r2", "mse"])):
        pairs = comparison.record.differences
        assert [pair.metric for pair in pairs] == metrics
        rows = csv.DictReader(io.StringIO((comparison.out / "differences.csv").read_text()))
        for row, pair in zip(rows, pairs, strict=True):
            assert [row["first"], row["second"]] == NETWORKS
            assert float(row["value"]) == pytest.approx(pair.value)
            assert row["better"] == (pair.better or "")
        assert "<h3>Differences between networks</h3>" in comparison.report.read_text(
            encoding="utf-8"
        )
        text = io.StringIO()
        print_differences(comparison.record, Console(file=text, width=80))
        assert max(map(len, text.getvalue().splitlines())) <= 80
        for name in (NETWORKS[0], f"- {NETWORKS[1]}"):
            assert name in text.getvalue()
