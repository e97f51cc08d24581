"""Metrics against scikit-learn and torchmetrics, and intervals against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics.functional as tm
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import log_loss, mean_absolute_error, r2_score, roc_auc_score

from halometry.errors import DataError
from halometry.evaluation.bootstrap import binomial_interval, bootstrap, format_interval
from halometry.evaluation.metrics import (
    area_under_roc,
    classification_metrics,
    confusion_matrix,
    regression_metrics,
    roc_curves,
)

NAMES = ("no", "sphere", "vort")


def simulate_predictions(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class indices and probabilities that are correlated with them."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, count)
    logits = rng.normal(size=(count, 3))
    logits[np.arange(count), truth] += 1.0
    odds = np.exp(logits)
    return truth, odds / odds.sum(1, keepdims=True)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_area_under_roc_equals_scikit_learn_with_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=float)
    positive = np.array([positive for _, positive in pairs])
    area = area_under_roc(scores, positive)
    if positive.all() or not positive.any():
        assert math.isnan(area)
    else:
        assert area == pytest.approx(roc_auc_score(positive, scores))


def test_classification_metrics_equal_scikit_learn_and_torchmetrics() -> None:
    truth, probabilities = simulate_predictions()
    metrics = classification_metrics(truth, probabilities, NAMES, resamples=50)
    assert metrics["auc"].value == pytest.approx(
        roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
    )
    assert metrics["loss"].value == pytest.approx(log_loss(truth, probabilities))
    p, t = torch.tensor(probabilities), torch.tensor(truth)
    per_class = tm.classification.multiclass_auroc(p, t, 3, average=None)
    for name, area in zip(NAMES, per_class, strict=True):
        assert metrics[f"auc_{name}"].value == pytest.approx(float(area), abs=1e-6)
    accuracy = tm.classification.multiclass_accuracy(p, t, 3, average="micro")
    assert metrics["accuracy"].value == pytest.approx(float(accuracy), abs=1e-6)
    matrix = tm.classification.multiclass_confusion_matrix(p, t, 3).numpy()
    np.testing.assert_array_equal(confusion_matrix(truth, probabilities), matrix)


def test_regression_metrics_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 0.1, 400)
    predicted = truth + rng.normal(0.01, 0.02, 400)
    metrics = regression_metrics(truth, predicted, resamples=50)
    assert metrics["r2"].value == pytest.approx(r2_score(truth, predicted))
    assert metrics["mae"].value == pytest.approx(mean_absolute_error(truth, predicted))
    assert metrics["rmse"].value == pytest.approx(math.sqrt(metrics["mse"].value))
    assert metrics["bias"].value == pytest.approx((predicted - truth).mean())


def test_metrics_of_perfect_and_of_useless_predictions() -> None:
    truth = np.arange(30) % 3
    perfect = classification_metrics(truth, np.eye(3)[truth], NAMES, resamples=20)
    assert perfect["auc"].value == 1
    assert perfect["accuracy"].value == 1.0
    assert perfect["loss"].value == 0.0
    useless = classification_metrics(truth, np.full((30, 3), 1 / 3), NAMES, resamples=20)
    assert useless["auc"].value == pytest.approx(0.5)
    assert useless["loss"].value == pytest.approx(math.log(3))
    masses = np.linspace(0, 0.1, 30)
    mean = regression_metrics(masses, np.full(30, masses.mean()), resamples=20)
    assert mean["r2"].value == pytest.approx(0.0, abs=1e-9)


def test_perfect_predictions_have_a_binomial_interval() -> None:
    truth = np.repeat([0, 1, 2], 6)
    metrics = classification_metrics(truth, np.eye(3)[truth], ("no", "sphere", "vort"))
    assert metrics["accuracy"].low == pytest.approx(binomial_interval(18, 18).low)
    assert metrics["auc_no"].low == pytest.approx(
        binomial_interval(6, 6).low
    )  # six independent pairs
    assert metrics["auc"].low == metrics["auc_no"].low
    assert metrics["auc"].value == metrics["auc"].high == 1


def test_cross_entropy_of_a_zero_probability_is_finite() -> None:
    truth = np.array([0, 1, 2])
    wrong = classification_metrics(truth, np.eye(3)[[1, 2, 0]], NAMES, resamples=20)
    assert wrong["loss"].value == pytest.approx(-math.log(1e-7))


def test_class_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="no test image is of class 'vort'"):
        classification_metrics(np.array([0, 1]), np.full((2, 3), 1 / 3), NAMES)


@pytest.mark.parametrize("truth", [[0.01], [0.01, 0.01, 0.01]])
def test_equal_masses_are_refused(truth: list[float]) -> None:
    with pytest.raises(DataError, match="at least two test images with different masses"):
        regression_metrics(np.array(truth), np.array(truth))


def test_roc_curves_are_monotonic_and_enclose_the_auc() -> None:
    truth, probabilities = simulate_predictions(5000)
    curves = roc_curves(truth, probabilities, NAMES)
    for k, name in enumerate(NAMES):
        fpr, tpr = curves[name]
        assert len(fpr) <= 400
        assert (np.diff(fpr) >= 0).all()
        assert (np.diff(tpr) >= 0).all()
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
        area = ((tpr[1:] + tpr[:-1]) / 2 * np.diff(fpr)).sum()
        assert area == pytest.approx(area_under_roc(probabilities[:, k], truth == k), abs=2e-3)


def test_bootstrap_interval_of_a_mean_has_nominal_coverage() -> None:
    rng = np.random.default_rng(3)
    trials, covered, size = 400, 0, 80
    for trial in range(trials):
        values = rng.normal(size=size)
        interval = bootstrap(
            lambda rows, v=values: v[rows].mean(axis=1),  # type: ignore[misc]
            [np.arange(size)],
            float(values.mean()),
            resamples=400,
            seed=trial,
        )
        covered += interval.low <= 0 <= interval.high
    # Binomial: 400 trials at 0.95 have a standard deviation of 0.011; the percentile interval is
    # known to be a little narrow at 80 values.
    assert 0.91 <= covered / trials <= 0.985


def test_bootstrap_interval_of_a_mean_has_the_width_of_its_standard_error() -> None:
    values = np.random.default_rng(4).normal(size=2000)
    rows = [np.arange(2000)]
    interval = bootstrap(lambda r: values[r].mean(axis=1), rows, float(values.mean()))
    assert interval.high - interval.low == pytest.approx(
        2 * 1.96 * values.std() / 2000**0.5, rel=0.1
    )


def test_resamples_keep_the_number_of_images_of_each_class() -> None:
    truth = np.repeat([0, 1, 2], [5, 10, 100])
    groups = [np.flatnonzero(truth == k) for k in range(3)]
    seen: list[np.ndarray] = []

    def record_counts(rows: np.ndarray) -> np.ndarray:
        seen.append(np.stack([(truth[rows] == k).sum(1) for k in range(3)], 1))
        return np.zeros(len(rows))

    bootstrap(record_counts, groups, 0.0, resamples=50)
    assert (np.concatenate(seen) == [5, 10, 100]).all()


def test_intervals_depend_on_the_seed_only() -> None:
    truth, probabilities = simulate_predictions()
    first = classification_metrics(truth, probabilities, NAMES, resamples=100, seed=1)
    again = classification_metrics(truth, probabilities, NAMES, resamples=100, seed=1)
    other = classification_metrics(truth, probabilities, NAMES, resamples=100, seed=2)
    assert first == again
    assert first["auc"] != other["auc"]
    assert first["auc"].low < first["auc"].value < first["auc"].high


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((0.9521, 0.9410, 0.9631), ("0.952", "0.941", "0.963")),
        ((1.0, 1.0, 1.0), ("1.000", "1.000", "1.000")),
        ((0.0, 0.0, 0.0), ("0", "0", "0")),
        ((0.00012, 0.00011, 0.00013), ("1.20e-04", "1.10e-04", "1.30e-04")),
        ((0.99872, 0.99814, 0.99921), ("0.99872", "0.99814", "0.99921")),
        ((-0.3, -1.5, 0.4), ("-0.30", "-1.50", "0.40")),
    ],
)
def test_intervals_are_rounded_to_two_digits_of_their_half_width(
    numbers: tuple[float, float, float], shown: tuple[str, str, str]
) -> None:
    assert format_interval(*numbers) == shown


def test_binomial_interval_is_exact() -> None:
    none, some = binomial_interval(0, 20), binomial_interval(7, 20)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert binom.sf(6, 20, some.low) == pytest.approx(0.025)
    assert binom.cdf(7, 20, some.high) == pytest.approx(0.025)
