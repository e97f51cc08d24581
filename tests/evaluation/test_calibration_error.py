"""The calibration error of predictors whose error is known, and the coverage of sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import binomtest

from halometry.calibration.conformal import Conformal
from halometry.calibration.temperature import apply_temperature
from halometry.evaluation.calibration_error import (
    calibration_record,
    coverage_record,
    debiased_ece,
    ece_bias,
    expected_calibration_error,
    format_calibration,
    reliability,
)
from halometry.evaluation.calibration_figure import reliability_figure


def answers(
    count: int, seed: int, too_sure: float = 0.0, share: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Three classes; says c ~ U(0.5, 1), and is right in `share` c - `too_sure` of the cases.

    The calibration error is the mean of the difference, (1 - share) 3/4 + too_sure.
    """
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.5, 1, count)
    named = rng.integers(0, 3, count)
    probabilities = np.repeat((1 - sure)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(count), named] = sure
    right = rng.random(count) < share * sure - too_sure
    return np.where(right, named, (named + rng.integers(1, 3, count)) % 3), probabilities


@pytest.mark.parametrize(
    ("too_sure", "share", "error"),
    [(0.1, 1.0, 0.1), (-0.0, 0.8, 0.15), (0.05, 0.9, 0.125), (0.3, 1.0, 0.3)],
)
def test_a_known_error_is_found(too_sure: float, share: float, error: float) -> None:
    truth, probabilities = answers(20_000, 1, too_sure, share)
    found = expected_calibration_error(truth, probabilities, resamples=60)
    assert found.value == pytest.approx(error, abs=0.01)  # three times 0.47 / sqrt(20,000)
    assert found.low <= error <= found.high
    assert found.high - found.low < 0.03
    assert debiased_ece(reliability(truth, probabilities)) == pytest.approx(found.value, abs=1e-3)


def test_too_little_sure_is_an_error_too() -> None:
    truth, probabilities = answers(40_000, 2)
    cool = apply_temperature(probabilities, 3.0)
    expected = (probabilities.max(axis=1) - cool.max(axis=1)).mean()
    found = expected_calibration_error(truth, cool, resamples=50)
    assert found.value == pytest.approx(expected, abs=0.008)


def test_the_interval_holds_the_true_error_as_often_as_it_says() -> None:
    held = {0.1: 0, 0.02: 0, 0.0: 0}
    for error in held:
        for trial in range(100):
            truth, probabilities = answers(600, trial, too_sure=error)
            found = expected_calibration_error(truth, probabilities, resamples=100, seed=trial)
            held[error] += found.low <= error <= found.high
    assert min(held.values()) >= 89  # 95 less three binomial errors


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_less_its_bias_a_small_set_says_more_nearly_what_a_large_one_does(error: float) -> None:
    plain, less = [], []
    for trial in range(200):
        found = reliability(*answers(300, trial, too_sure=error))
        gaps = np.abs(found.confidence - found.accuracy)
        plain.append(np.average(gaps, weights=found.counts))
        less.append(debiased_ece(found))
    if error == 0:
        assert np.mean(plain) == pytest.approx(ece_bias(found), rel=0.05)
    assert np.mean(plain) - error > 0.007
    assert abs(np.mean(less) - error) < 0.7 * (np.mean(plain) - error)


def test_bins_have_equally_many_images_and_binomial_bars() -> None:
    truth, probabilities = answers(1000, 3)
    found = reliability(truth, probabilities)
    assert set(found.counts) == {66, 67}
    assert (np.diff(found.confidence) > 0).all()
    for count, share, low, high in zip(
        found.counts, found.accuracy, found.low, found.high, strict=True
    ):
        expected = binomtest(round(share * count), count).proportion_ci(method="exact")
        assert (low, high) == pytest.approx((expected.low, expected.high))


def test_fewer_images_than_bins_are_a_bin_each() -> None:
    truth, probabilities = answers(6, 0)
    assert reliability(truth, probabilities).counts.tolist() == [1] * 6
    found = expected_calibration_error(truth, probabilities, resamples=50)
    assert found.low <= found.value <= found.high


def test_before_and_after_a_temperature() -> None:
    truth, probabilities = answers(5000, 4)
    record = calibration_record(truth, probabilities, apply_temperature(probabilities, 0.3), 50)
    assert record["after"]["ece"]["value"] < 0.03 < record["before"]["ece"]["value"]
    assert record["after"]["accuracy"] == record["before"]["accuracy"]
    assert sum(record["after"]["reliability"]["counts"]) == 5000
    assert (
        f"{record['before']['ece']['value']:.4f} before"
        in format_calibration({"calibration": record})[0]
    )


def test_coverage_of_sets_is_told_for_each_class() -> None:
    conformal = Conformal.fit(*answers(3000, 5), images="images", fingerprint="", held_out=True)
    truth, probabilities = answers(2000, 6)
    record = coverage_record(truth, probabilities, conformal, ("no", "sphere", "vort"), 50)
    assert [one["level"] for one in record["levels"]] == [0.68, 0.9, 0.95]
    for one in record["levels"]:
        assert one["coverage"]["low"] - 0.02 < one["level"] < one["coverage"]["high"] + 0.02
        mean = np.dot(one["share_by_size"], range(4))
        assert one["mean_size"]["value"] == pytest.approx(mean, abs=1e-5)
        assert set(one["classes"]) == {"no", "sphere", "vort"}
    lines = format_calibration({"conformal": record})
    assert len(lines) == 3
    assert "sets of 90 %: hold the truth in 0.9" in lines[1]


def test_coverage_of_intervals() -> None:
    rng = np.random.default_rng(7)
    truth = rng.uniform(0.3, 0.6, 4000)
    said = truth + 0.02 * rng.normal(size=4000)
    conformal = Conformal.fit(
        truth[:2000], said[:2000], images="images", fingerprint="", held_out=False
    )
    record = coverage_record(truth[2000:], said[2000:], conformal, None, 50)
    assert record["untouched"] is False
    for one, width in zip(record["levels"], (1.989, 3.290, 3.920), strict=True):
        assert one["coverage"]["value"] == pytest.approx(one["level"], abs=0.03)
        assert one["mean_size"]["value"] == pytest.approx(0.02 * width, rel=0.08)
    assert "intervals of 68 %" in format_calibration({"conformal": record})[0]


def test_the_diagram_has_a_column_a_network() -> None:
    truth, probabilities = answers(500, 8)
    one = (truth, probabilities, apply_temperature(probabilities, 0.5))
    drawn = reliability_figure({"a": one, "b": (truth, probabilities, probabilities)})
    assert isinstance(drawn, Figure)
    first, second = drawn.axes[:2]
    labels = [
        [text.get_text() for text in axes.get_legend().get_texts()] for axes in (first, second)
    ]
    assert labels == [["before calibration", "as given"], ["as given"]]
    assert first.get_title(loc="left") == "a"
    assert math.isclose(sum(bar.get_height() for bar in drawn.axes[2].patches), 500)
