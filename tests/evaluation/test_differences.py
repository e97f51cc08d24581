"""Differences between networks: paired, all at once, and none where there is none."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console

from halometry.compare.compare import Comparison
from halometry.compare.ranking import conclusion
from halometry.compare.tables import print_differences
from halometry.evaluation.differences import differences, find_difference
from halometry.evaluation.metrics import classification_metrics, regression_metrics

NAMES = ("no", "sphere", "vort")


def kinds(count: int = 300) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Class indices; answers, nearly the same ones, and much worse ones."""
    rng = np.random.default_rng(1)
    truth = np.arange(count) % 3
    first = np.exp(rng.normal(size=(count, 3)) + np.eye(3)[truth])
    first /= first.sum(axis=1, keepdims=True)
    near = 0.9 * first + 0.1 * rng.dirichlet(np.ones(3), count)
    return truth, {"a": first, "near": near, "far": rng.dirichlet(np.ones(3), count)}


def masses(count: int = 300) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    truth, noise = rng.normal(size=(2, count))
    near = truth + noise + 0.1 * rng.normal(size=count)
    return truth, {"a": truth + noise, "near": near, "far": truth + 4 * noise}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_difference_is_that_of_the_metrics_and_knows_the_images_are_the_same(task: str) -> None:
    truth, outputs = kinds() if task == "classification" else masses()
    measured = {
        name: classification_metrics(truth, one, NAMES)
        if task == "classification"
        else regression_metrics(truth, one)
        for name, one in outputs.items()
    }
    found = differences(truth, outputs)
    assert len(found) == (3 if task == "classification" else 6)
    for one in found:
        ours, theirs = (measured[name][one.metric] for name in (one.first, one.second))
        assert one.interval.value == pytest.approx(ours.value - theirs.value)
        assert one.interval.low < one.interval.value < one.interval.high
        if {one.first, one.second} == {"a", "near"}:
            apart = np.hypot(ours.high - ours.low, theirs.high - theirs.low)  # if independent
            assert one.interval.high - one.interval.low < 0.6 * apart
    judged = {(one.metric, one.first, one.second): one.better for one in found}
    for (_, *pair), better in judged.items():
        assert better == (None if "far" not in pair else next(n for n in pair if n != "far"))


def test_the_same_answers_do_not_differ() -> None:
    truth, outputs = kinds()
    (one,) = differences(truth, {"a": outputs["a"], "b": outputs["a"]})
    assert (one.interval.value, one.interval.low, one.interval.high) == (0, 0, 0)
    assert one.better is None


def test_of_many_equal_networks_few_comparisons_find_a_difference() -> None:
    rng = np.random.default_rng(3)
    names, trials, false = [f"n{i}" for i in range(5)], 150, 0
    for trial in range(trials):
        truth = rng.normal(size=200)
        outputs = {name: truth + rng.normal(size=200) for name in names}
        found = differences(truth, outputs, resamples=200, seed=trial)
        assert len(found) == 20
        false += any(one.better for one in found if one.metric == "mse")
    # Ten pairs with intervals of their own would find one in about four of ten comparisons.
    assert false / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_one_network_has_none_to_differ_from() -> None:
    truth, outputs = kinds()
    assert differences(truth, {"a": outputs["a"]}) == []


def test_a_difference_turned_round_changes_its_sign() -> None:
    found = [one.to_dict() for one in differences(*kinds())]
    there, back = (
        find_difference(found, "auc", "a", "far"),
        find_difference(found, "auc", "far", "a"),
    )
    assert (there.value, there.low, there.high) == (-back.value, -back.high, -back.low)


def test_a_comparison_holds_all_pairs(classes: Comparison, fractions: Comparison) -> None:
    for comparison, metrics in ((classes, ["auc"]), (fractions, ["r2", "mse"])):
        record = json.loads((comparison.out / "results.json").read_text(encoding="utf-8"))
        assert [one["metric"] for one in record["differences"]] == metrics
        rows = csv.DictReader(io.StringIO((comparison.out / "differences.csv").read_text()))
        for row, one in zip(rows, record["differences"], strict=True):
            assert (row["first"], row["second"]) == ("mobilenetv3_small", "resnet18")
            assert float(row["value"]) == pytest.approx(one["value"])
            assert row["better"] == (one["better"] or "")
        assert "What tells them apart" in comparison.report.read_text(encoding="utf-8")
        text = io.StringIO()
        print_differences(record, Console(file=text, width=80))
        assert max(map(len, text.getvalue().splitlines())) <= 80
        for name in ("mobilenetv3_small", "- resnet18"):
            assert name in text.getvalue()


def test_pairs_that_are_too_close_are_named() -> None:
    def model(name: str, value: float) -> dict[str, object]:
        metrics = {"auc": {"value": value, "low": value - 0.01, "high": value + 0.01}}
        return {"name": name, "metrics": metrics, "cost": {"latency_ms": {"median": 1.0}}}

    def pair(first: str, second: str, better: str | None) -> dict[str, object]:
        return {"metric": "auc", "first": first, "second": second, "better": better}

    pairs = [pair("a", "b", "a"), pair("a", "c", None), pair("b", "c", None)]
    models = [model("a", 0.95), model("b", 0.94), model("c", 0.93)]
    lead = {"value": 0.01, "low": 0.001, "high": 0.019}
    record = {"task": "classification", "data": {"test": 9}, "models": models, "lead": lead}
    said = conclusion(record | {"differences": pairs})
    assert "Too close in AUC for these images to tell apart: a and c; b and c." in said
