"""Data of the figures of an evaluation: axes, labels and values."""

from __future__ import annotations

import math

import numpy as np

from halometry.calibration.posterior import Grid, Posterior
from halometry.calibration.temperature import apply_temperature
from halometry.evaluation.calibration_error import reliability
from halometry.evaluation.calibration_figure import MAX_SHOWN, reliability_figure
from halometry.evaluation.figures import confusion_figure, regression_figure, roc_figure
from halometry.evaluation.posterior_checks import THIRD_NAMES, posterior_record
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.plotting import to_svg


def test_confusion_figure_has_true_classes_in_rows_and_predicted_classes_in_columns() -> None:
    matrix = np.array([[8, 2], [0, 5]])  # two images of class "a" are predicted as "b"
    figure = confusion_figure({"net": matrix}, ("a", "b"))
    panel = figure.axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted class", "true class")
    columns = [label.get_text() for label in panel.get_xticklabels()]
    rows = [label.get_text() for label in panel.get_yticklabels()]
    assert columns == rows == ["a", "b"]
    texts = {text.get_position(): text.get_text() for text in panel.texts}
    predicted_b, true_a = columns.index("b"), rows.index("a")
    assert texts[predicted_b, true_a] == "20%\n2"
    assert texts[columns.index("a"), rows.index("b")] == "0%\n0"
    np.testing.assert_array_equal(panel.images[0].get_array(), [[0.8, 0.2], [0.0, 1.0]])
    assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the first row is at the top
    assert to_svg(figure).startswith("<svg")


def test_roc_figure_has_false_positive_rate_to_the_right() -> None:
    fpr, tpr = np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.9, 1.0])
    figure = roc_figure({"net": {"a": (fpr, tpr, 0.9), "b": (tpr, fpr, 0.1)}})
    first, second = figure.axes
    assert first.get_xlabel() == "false positive rate"
    assert first.get_ylabel() == "true positive rate"
    assert first.get_title(loc="left") == "a against the rest"
    chance, curve = first.lines
    np.testing.assert_array_equal(np.transpose(chance.get_data()), [(0, 0), (1, 1)])
    np.testing.assert_array_equal(curve.get_data(), (fpr, tpr))
    np.testing.assert_array_equal(second.lines[1].get_data(), (tpr, fpr))
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["net  0.900"]


def test_regression_figure_has_true_masses_to_the_right_and_residuals_below() -> None:
    truth = np.linspace(0, 1, 40)
    figure = regression_figure({"net": (truth, 0.5 * truth + 0.1)})
    above, below = figure.axes
    assert above.get_ylabel() == "predicted mass fraction"
    assert below.get_xlabel() == "true mass fraction"
    assert below.get_ylabel() == "predicted − true"
    np.testing.assert_allclose(above.collections[0].get_offsets()[:, 0], truth)
    np.testing.assert_allclose(above.collections[0].get_offsets()[:, 1], 0.5 * truth + 0.1)
    np.testing.assert_allclose(below.collections[0].get_offsets()[:, 1], 0.1 - 0.5 * truth)
    bins = np.array_split(truth, 8)
    center, median = above.containers[0].lines[0].get_data()
    np.testing.assert_allclose(center, [np.median(part) for part in bins])
    np.testing.assert_allclose(median, [0.5 * np.median(part) + 0.1 for part in bins])
    r2 = 1 - np.mean((0.5 * truth - 0.1) ** 2) / truth.var()
    assert above.get_title(loc="left") == f"net   R² {r2:.3f}"


def test_reliability_figure_has_confidence_to_the_right_and_accuracy_upwards() -> None:
    rng = np.random.default_rng(8)
    truth, probabilities = rng.integers(0, 3, 500), rng.dirichlet((1, 1, 1), 500)
    uncalibrated = apply_temperature(probabilities, 0.5)
    figure = reliability_figure(
        {"a": (truth, probabilities, uncalibrated), "b": (truth, probabilities, probabilities)}
    )
    first, second, histogram = figure.axes[:3]
    assert first.get_ylabel() == "accuracy"
    assert histogram.get_xlabel().startswith("confidence")
    labels = [
        [text.get_text() for text in axes.get_legend().get_texts()] for axes in (first, second)
    ]
    assert labels == [["before calibration", "after calibration"], ["after calibration"]]
    assert first.get_title(loc="left") == "a"
    for container, values in zip(first.containers, (uncalibrated, probabilities), strict=True):
        bins = reliability(truth, values)
        expected = np.minimum((bins.confidence, bins.accuracy), MAX_SHOWN)
        np.testing.assert_allclose(container.lines[0].get_data(), expected)
    assert math.isclose(sum(bar.get_height() for bar in histogram.patches), 500)


def test_posterior_figure_has_pit_expected_coverage_and_coverage_by_third() -> None:
    grid = Grid(low=0.0, high=1.0, cells=100)
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.3, 0.7, 300)
    mean = truth + rng.normal(0.05, 0.1, 300)
    density = np.exp(-0.5 * ((grid.centers - mean[:, None]) / 0.1) ** 2)
    record = posterior_record(truth, Posterior(grid, density))
    figure = posterior_figure({"net": record, "same": record})
    pit, expected, thirds = figure.axes
    assert pit.get_xlabel() == "posterior probability below the true mass (PIT)"
    values = pit.patches[1].get_data().values
    np.testing.assert_allclose(values, np.array(record.pit) / 300 * 20)
    assert expected.get_xlabel() == "credibility of the highest-density region"
    assert expected.get_ylabel() == "coverage"
    curve = next(line for line in expected.lines if line.get_label() == "net")
    np.testing.assert_array_equal(curve.get_xdata(), record.expected_coverage.level)
    np.testing.assert_array_equal(curve.get_ydata(), record.expected_coverage.fraction)
    assert thirds.get_ylabel() == "coverage"
    ticks = [label.get_text() for label in thirds.get_xticklabels()]
    assert ticks == ["all", *THIRD_NAMES, *THIRD_NAMES]
    positions = dict(
        zip(
            [("all", "all")] + [(by, t) for by in ("truth", "median") for t in THIRD_NAMES],
            thirds.get_xticks(),
            strict=True,
        )
    )
    shown = [np.ravel(bars.lines[0].get_data()).astype(float) for bars in thirds.containers]
    wanted = [
        (positions[row.by, row.third] - 0.12, coverage.value)
        for row in record.coverage
        for coverage in (row.coverage_68, row.coverage_95)
    ]
    np.testing.assert_allclose(shown[: len(wanted)], wanted)
