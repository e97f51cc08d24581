"""Checks of posteriors that are correct, too narrow, too wide or shifted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from halometry.calibration.posterior import Grid, Posterior
from halometry.evaluation.posterior_checks import (
    THIRD_NAMES,
    coverage_rows,
    interval_contains,
    posterior_metrics,
    posterior_record,
)

COUNT = 3000
NOISE = 0.6  # in units of the width of the prior
GRID = Grid(low=-4.0, high=4.0)


def gaussian_posteriors(width: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, Posterior]:
    """Masses with a normal prior and normal noise, and their posteriors, distorted on purpose.

    Args:
        width: factor on the standard deviation of the posterior.
        shift: of its mean, in standard deviations.
    """
    rng = np.random.default_rng(3)
    truth = rng.normal(size=COUNT)
    observed = truth + NOISE * rng.normal(size=COUNT)
    std = NOISE / np.sqrt(1 + NOISE**2)
    mean = observed / (1 + NOISE**2) + shift * std
    return truth, Posterior(GRID, norm.pdf(GRID.centers, mean[:, None], width * std))


def test_metrics_of_correct_posteriors_equal_the_closed_form() -> None:
    truth, posterior = gaussian_posteriors()
    std = NOISE / np.sqrt(1 + NOISE**2)
    metrics = posterior_metrics(truth, posterior, resamples=200)
    expected = {
        "nll": 0.5 * np.log(2 * np.pi * np.e * std**2),
        "crps": std / np.sqrt(np.pi),
        "coverage_68": 0.68,
        "coverage_95": 0.95,
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        interval = metrics[name]
        assert interval.low < interval.value < interval.high
        assert abs(interval.value - value) < 1.5 * (interval.high - interval.low) / 2


@pytest.mark.parametrize(("width", "shift"), [(0.5, 0.0), (1.6, 0.0), (1.0, 0.7)])
def test_distorted_posteriors_have_the_coverage_of_the_closed_form_and_worse_scores(
    width: float, shift: float
) -> None:
    metrics = posterior_metrics(*gaussian_posteriors(width, shift), resamples=100)
    for name, level in (("coverage_68", 0.68), ("coverage_95", 0.95)):
        limits = width * norm.ppf((1 + level) / 2)
        expected = norm.cdf(limits - shift) - norm.cdf(-limits - shift)
        assert metrics[name].value == pytest.approx(expected, abs=0.025)
    correct = posterior_metrics(*gaussian_posteriors(), resamples=100)
    for name in ("nll", "crps"):
        assert metrics[name].value > correct[name].value + 0.01


def test_coverage_is_nominal_by_median_and_that_of_the_closed_form_by_true_mass() -> None:
    truth, posterior = gaussian_posteriors()
    rows = {(row.by, row.third): row for row in coverage_rows(truth, posterior)}
    assert len(rows) == 7
    assert sum(row.count for (by, _), row in rows.items() if by == "truth") == COUNT
    shrinkage = 1 / (1 + NOISE**2)
    std = NOISE * np.sqrt(shrinkage)
    for third, part in zip(THIRD_NAMES, np.array_split(np.sort(truth), 3), strict=True):
        by_truth, by_median = rows["truth", third], rows["median", third]
        for level, coverage, nominal in (
            (0.68, by_truth.coverage_68, by_median.coverage_68),
            (0.95, by_truth.coverage_95, by_median.coverage_95),
        ):
            # Distribution of (mean - truth) / std, given the truth.
            offset, spread = -(1 - shrinkage) * part / std, np.sqrt(shrinkage)
            limits = norm.ppf((1 + level) / 2)
            upper, lower = (limits - offset) / spread, (-limits - offset) / spread
            expected = norm.cdf(upper) - norm.cdf(lower)
            assert coverage.value == pytest.approx(expected.mean(), abs=0.035)
            assert nominal.value == pytest.approx(level, abs=0.035)
    middle, everything = rows["truth", "middle"], rows["all", "all"]
    assert middle.coverage_68.value > 0.72 > everything.coverage_68.value


def test_record_shows_posteriors_that_are_too_narrow() -> None:
    correct, narrow = (posterior_record(*gaussian_posteriors(width)) for width in (1.0, 0.5))
    assert sum(correct.pit) == COUNT == correct.count
    assert np.std(correct.pit) < 2 * np.sqrt(COUNT / 20)
    assert min(narrow.pit[0], narrow.pit[-1]) > 2 * COUNT / 20
    level = np.array(correct.expected_coverage.level)
    covered = np.array(correct.expected_coverage.fraction)
    assert np.abs(covered - level).max() < 0.03
    assert np.interp(0.68, level, narrow.expected_coverage.fraction) < 0.45
    assert covered[-1] == 1


def test_interval_contains_its_limits() -> None:
    _, posterior = gaussian_posteriors()
    for name, level in (("68", 0.68), ("95", 0.95)):
        low, high = posterior.interval(level).T
        margin = 1e-6 * (high - low)
        assert interval_contains(low + margin, posterior)[name].all()
        assert interval_contains(high - margin, posterior)[name].all()
        assert not interval_contains(high + 1e-3, posterior)[name].any()
