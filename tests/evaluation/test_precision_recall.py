"""Average precision against scikit-learn, its intervals, and where tables show it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.figures import precision_recall_figure, roc_figure
from halometry.evaluation.metrics import perfect_interval, positive_class, roc_curves
from halometry.evaluation.precision_recall import (
    average_precision,
    class_frequencies,
    precision_metrics,
    precision_recall_curves,
    shown_metrics,
)

NAMES = ("lenses", "nonlenses")


def simulate_lens_finding(count: int, lenses: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class indices with few lenses, and probabilities that are correlated with them."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(count) >= lenses).astype(int)
    probability = 1 / (1 + np.exp(rng.normal(3 * truth - 1, 1.0)))
    return truth, np.stack([probability, 1 - probability], axis=1)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_average_precision_equals_scikit_learn_with_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=float)
    positive = np.array([positive for _, positive in pairs])
    mean = average_precision(scores, positive)
    if not positive.any():
        assert math.isnan(mean)
    else:
        assert mean == pytest.approx(average_precision_score(positive, scores))
    both = average_precision(np.stack([scores, -scores]), np.stack([positive, positive]))
    np.testing.assert_equal(both[0], mean)


def test_metrics_of_each_class_equal_scikit_learn() -> None:
    truth, probabilities = simulate_lens_finding(400, 40)
    metrics = precision_metrics(truth, probabilities, NAMES, resamples=200)
    assert list(metrics) == ["average_precision", "ap_lenses", "ap_nonlenses"]
    for k, name in enumerate(NAMES):
        value = average_precision_score(truth == k, probabilities[:, k])
        assert metrics[f"ap_{name}"].value == pytest.approx(value)
    mean = (metrics["ap_lenses"].value + metrics["ap_nonlenses"].value) / 2
    assert metrics["average_precision"].value == pytest.approx(mean)
    for interval in metrics.values():
        assert interval.low < interval.value < interval.high


def test_interval_of_the_average_precision_contains_that_of_many_images() -> None:
    truth, probabilities = simulate_lens_finding(200_000, 20_000, seed=1)
    expected = average_precision(probabilities[:, 0], truth == 0)
    covered = 0
    for seed in range(60):
        few = simulate_lens_finding(1000, 100, seed=seed + 2)
        interval = precision_metrics(*few, NAMES, resamples=200)["ap_lenses"]
        covered += interval.low <= expected <= interval.high
    # In 300 trials the coverage was 0.92, and 0.89 with 30 lenses among 300 images.
    assert covered >= 52


def test_perfect_predictions_have_the_interval_of_a_perfect_auc() -> None:
    truth = np.repeat([0, 1], [5, 60])
    metrics = precision_metrics(truth, np.eye(2)[truth], NAMES, resamples=20)
    assert set(metrics.values()) == {perfect_interval(5, 60)}
    assert metrics["ap_lenses"].low == pytest.approx(0.025 ** (1 / 5))


def test_random_scores_have_the_frequency_of_the_class() -> None:
    truth = np.repeat([0, 1], [5, 95])
    assert average_precision(np.full(100, 0.5), truth == 0) == pytest.approx(0.05)


def test_curves_are_those_of_each_class() -> None:
    truth, probabilities = simulate_lens_finding(5000, 250)
    curves = precision_recall_curves(truth, probabilities, NAMES)
    for name in NAMES:
        recall, precision, mean = curves[name]
        assert len(recall) <= 400
        assert (np.diff(recall) < 0).all()
        assert (recall[0], recall[-1], precision[-1]) == (1, 0, 1)
        assert -(np.diff(recall) * precision[:-1]).sum() == pytest.approx(mean, abs=1e-3)


def test_figure_has_recall_to_the_right_and_the_frequency_of_each_class() -> None:
    truth, probabilities = simulate_lens_finding(400, 20)
    curves = {"net": precision_recall_curves(truth, probabilities, NAMES)}
    figure = precision_recall_figure(curves, class_frequencies(truth, NAMES))
    lenses, nonlenses = figure.axes
    assert (lenses.get_xlabel(), lenses.get_ylabel()) == ("recall", "precision")
    assert lenses.get_title(loc="left") == "lenses: 5 % of the images"
    assert nonlenses.get_title(loc="left") == "nonlenses: 95 % of the images"
    chance, curve = lenses.lines
    assert [*chance.get_ydata()] == [0.05, 0.05]
    np.testing.assert_array_equal(curve.get_data(), curves["net"]["lenses"][:2])
    label = f"net  {curves['net']['lenses'][2]:.3f}"
    assert [text.get_text() for text in lenses.get_legend().get_texts()] == [label]


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("lenses", "nonlenses"), "lenses"),
        (("lens", "no_lens"), "lens"),
        (("lens", "not lens"), "lens"),
        (("No", "vort"), "vort"),
        (("no_sub", "sub"), "sub"),
        (("agn", "nova"), "nova"),
        (("cdm", "wdm"), "wdm"),
        (("no", "none"), "none"),
    ],
)
def test_positive_class(names: tuple[str, str], positive: str) -> None:
    assert names[positive_class(names)] == positive


def test_two_classes_have_one_roc_curve_of_the_positive_class() -> None:
    truth, probabilities = simulate_lens_finding(400, 20)
    curves = roc_curves(truth, probabilities, NAMES)
    assert list(curves) == ["lenses"]
    fpr, tpr = curves["lenses"]
    figure = roc_figure({"net": {"lenses": (fpr, tpr, 0.9)}}, two_classes=True)
    (panel,) = figure.axes
    assert panel.get_title(loc="left") == "positive class: lenses"


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ((10, 10), ["auc", "accuracy", "ap_a", "ap_b"]),
        ((10, 10, 19), ["auc", "auc_a", "auc_b", "accuracy"]),
        (
            (10, 10, 20),
            ["auc", "auc_a", "auc_b", "accuracy", "average_precision", "ap_a", "ap_b"],
        ),
    ],
)
def test_tables_show_the_average_precision_of_two_or_imbalanced_classes(
    counts: tuple[int, ...], shown: list[str]
) -> None:
    keys = ["auc", "auc_a", "auc_b", "accuracy", "average_precision", "ap_a", "ap_b"]
    assert shown_metrics(dict.fromkeys(keys, Interval(1, 1, 1)), np.diag(counts)) == shown
    assert shown_metrics(["mse", "r2"], None) == ["mse", "r2"]
