"""Calibration error of probabilities with a known error, and coverage of conformal sets."""

from __future__ import annotations

import numpy as np
import pytest
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


def simulate_predictions(
    count: int, seed: int, excess: float = 0.0, factor: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Class indices and probabilities of three classes with a known calibration error.

    The confidence is c ~ U(0.5, 1), the accuracy is factor c - excess. The expected calibration
    error is the mean of their difference, (1 - factor) 3/4 + excess.
    """
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, count)
    predicted = rng.integers(0, 3, count)
    probabilities = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(count), predicted] = confidence
    correct = rng.random(count) < factor * confidence - excess
    return np.where(correct, predicted, (predicted + rng.integers(1, 3, count)) % 3), probabilities


@pytest.mark.parametrize(
    ("excess", "factor", "error"),
    [(0.1, 1.0, 0.1), (-0.0, 0.8, 0.15), (0.05, 0.9, 0.125), (0.3, 1.0, 0.3)],
)
def test_expected_calibration_error_is_the_known_error(
    excess: float, factor: float, error: float
) -> None:
    truth, probabilities = simulate_predictions(20_000, 1, excess, factor)
    found = expected_calibration_error(truth, probabilities, resamples=60)
    assert found.value == pytest.approx(error, abs=0.01)  # three times 0.47 / sqrt(20,000)
    assert found.low <= error <= found.high
    assert found.high - found.low < 0.03
    assert debiased_ece(reliability(truth, probabilities)) == pytest.approx(found.value, abs=1e-3)


def test_underconfidence_is_a_calibration_error() -> None:
    truth, probabilities = simulate_predictions(40_000, 2)
    cool = apply_temperature(probabilities, 3.0)
    expected = (probabilities.max(axis=1) - cool.max(axis=1)).mean()
    found = expected_calibration_error(truth, cool, resamples=50)
    assert found.value == pytest.approx(expected, abs=0.008)


def test_interval_of_the_calibration_error_has_nominal_coverage() -> None:
    held = {0.1: 0, 0.02: 0, 0.0: 0}
    for error in held:
        for trial in range(100):
            truth, probabilities = simulate_predictions(600, trial, excess=error)
            found = expected_calibration_error(truth, probabilities, resamples=100, seed=trial)
            held[error] += found.low <= error <= found.high
    assert min(held.values()) >= 89  # 95 less three binomial errors


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_debiased_calibration_error_of_few_images_is_closer_to_the_true_error(error: float) -> None:
    plain, less = [], []
    for trial in range(200):
        found = reliability(*simulate_predictions(300, trial, excess=error))
        gaps = np.abs(found.confidence - found.accuracy)
        plain.append(np.average(gaps, weights=found.counts))
        less.append(debiased_ece(found))
    if error == 0:
        assert np.mean(plain) == pytest.approx(ece_bias(found), rel=0.05)
    assert np.mean(plain) - error > 0.007
    assert abs(np.mean(less) - error) < 0.7 * (np.mean(plain) - error)


def test_reliability_bins_have_equal_numbers_of_images_and_binomial_intervals() -> None:
    truth, probabilities = simulate_predictions(1000, 3)
    found = reliability(truth, probabilities)
    assert set(found.counts) == {66, 67}
    assert (np.diff(found.confidence) > 0).all()
    for count, share, low, high in zip(
        found.counts, found.accuracy, found.low, found.high, strict=True
    ):
        expected = binomtest(round(share * count), count).proportion_ci(method="exact")
        assert (low, high) == pytest.approx((expected.low, expected.high))


def test_fewer_images_than_bins_have_one_bin_each() -> None:
    truth, probabilities = simulate_predictions(6, 0)
    assert reliability(truth, probabilities).counts.tolist() == [1] * 6
    found = expected_calibration_error(truth, probabilities, resamples=50)
    assert found.low <= found.value <= found.high


def test_calibration_record_has_errors_before_and_after_temperature_scaling() -> None:
    truth, probabilities = simulate_predictions(5000, 4)
    uncalibrated = apply_temperature(probabilities, 0.3)
    record = calibration_record(
        truth, probabilities, uncalibrated, temperature=2.0, bias=(0.1, 0.0, -0.1), resamples=50
    )
    assert record.after.ece.value < 0.03 < record.before.ece.value
    assert record.after.accuracy == record.before.accuracy
    assert sum(record.after.reliability.counts) == 5000
    assert (record.temperature, record.bias) == (2.0, (0.1, 0.0, -0.1))
    assert f"{record.before.ece.value:.4f} before" in format_calibration(record, None)[0]


def test_coverage_of_sets_is_given_for_each_class() -> None:
    conformal = Conformal.fit(
        *simulate_predictions(3000, 5), images="images", fingerprint="", held_out=True
    )
    truth, probabilities = simulate_predictions(2000, 6)
    class_names = ("no", "sphere", "vort")
    record = coverage_record(truth, probabilities, conformal, class_names, resamples=50)
    assert record.held_out
    assert [level.nominal for level in record.levels] == [0.68, 0.9, 0.95]
    for level in record.levels:
        assert level.coverage.low - 0.02 < level.nominal < level.coverage.high + 0.02
        assert level.fraction_by_size is not None
        mean = np.dot(level.fraction_by_size, range(4))
        assert level.mean_size.value == pytest.approx(mean, abs=1e-5)
        assert set(level.classes or ()) == {"no", "sphere", "vort"}
    lines = format_calibration(None, record)
    assert len(lines) == 3
    assert "conformal sets of 90 %: coverage 0.9" in lines[1]


def test_coverage_of_intervals() -> None:
    rng = np.random.default_rng(7)
    truth = rng.uniform(0.3, 0.6, 4000)
    predicted = truth + 0.02 * rng.normal(size=4000)
    conformal = Conformal.fit(
        truth[:2000], predicted[:2000], images="images", fingerprint="", held_out=False
    )
    record = coverage_record(truth[2000:], predicted[2000:], conformal, None, resamples=50)
    assert not record.held_out
    for level, width in zip(record.levels, (1.989, 3.290, 3.920), strict=True):
        assert level.coverage.value == pytest.approx(level.nominal, abs=0.03)
        assert level.mean_size.value == pytest.approx(0.02 * width, rel=0.08)
        assert level.classes is level.fraction_by_size is None
    assert "conformal intervals of 68 %" in format_calibration(None, record)[0]
