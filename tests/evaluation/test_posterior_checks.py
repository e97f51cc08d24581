"""Posteriors that are right are found right, and those that are not are told how wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from halometry.calibration.posterior import Grid, Posterior
from halometry.evaluation import figures
from halometry.evaluation.posterior_checks import (
    coverage_rows,
    interval_contains,
    posterior_metrics,
    posterior_record,
)
from halometry.evaluation.posterior_figures import posterior_figure

COUNT = 3000
NOISE = 0.6  # of the prior's width
GRID = Grid(low=-4.0, high=4.0)


def toy(widened: float = 1.0, shifted: float = 0.0) -> tuple[np.ndarray, Posterior]:
    """Masses with a normal prior seen with normal noise, and posteriors made wrong on purpose.

    Args:
        widened: their width over the right one.
        shifted: their mean less the right one, in right widths.
    """
    rng = np.random.default_rng(3)
    truth = rng.normal(size=COUNT)
    seen = truth + NOISE * rng.normal(size=COUNT)
    std = NOISE / np.sqrt(1 + NOISE**2)
    mean = seen / (1 + NOISE**2) + shifted * std
    return truth, Posterior(GRID, norm.pdf(GRID.centers, mean[:, None], widened * std))


def test_right_posteriors_have_the_scores_and_the_coverage_of_the_closed_form() -> None:
    truth, posterior = toy()
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
        found = metrics[name]
        assert found.low < found.value < found.high
        assert abs(found.value - value) < 1.5 * (found.high - found.low) / 2


@pytest.mark.parametrize(("widened", "shifted"), [(0.5, 0.0), (1.6, 0.0), (1.0, 0.7)])
def test_wrong_posteriors_have_the_coverage_that_they_should(
    widened: float, shifted: float
) -> None:
    truth, posterior = toy(widened, shifted)
    metrics = posterior_metrics(truth, posterior, resamples=100)
    for name, level in (("coverage_68", 0.68), ("coverage_95", 0.95)):
        ends = widened * norm.ppf((1 + level) / 2)
        expected = norm.cdf(ends - shifted) - norm.cdf(-ends - shifted)
        assert metrics[name].value == pytest.approx(expected, abs=0.025)
    right = posterior_metrics(*toy(), resamples=100)
    for name in ("nll", "crps"):  # proper scores: nothing beats what is right
        assert metrics[name].value > right[name].value + 0.01


def test_coverage_by_true_mass_is_that_of_the_closed_form_and_by_median_nominal() -> None:
    truth, posterior = toy()
    rows = {(row["by"], row["third"]): row for row in coverage_rows(truth, posterior)}
    assert len(rows) == 7
    assert sum(row["count"] for (by, _), row in rows.items() if by == "truth") == COUNT
    shrinkage = 1 / (1 + NOISE**2)
    std, ordered = NOISE * np.sqrt(shrinkage), np.sort(truth)
    for third, part in zip(
        ("lightest", "middle", "curriculum_mass_factor"), np.array_split(ordered, 3), strict=True
    ):
        for name, level in (("68", 0.68), ("95", 0.95)):
            # Of the mean less the truth, given the truth, in widths of the posterior.
            off, spread = -(1 - shrinkage) * part / std, np.sqrt(shrinkage)
            ends = norm.ppf((1 + level) / 2)
            held = norm.cdf((ends - off) / spread) - norm.cdf((-ends - off) / spread)
            found = rows["truth", third][name]
            assert found["value"] == pytest.approx(held.mean(), abs=0.035)
            assert rows["median", third][name]["value"] == pytest.approx(level, abs=0.035)
    assert rows["truth", "middle"]["68"]["value"] > 0.72 > rows["all", "all"]["68"]["value"]


def test_the_record_shows_what_is_wrong() -> None:
    right, narrow = (posterior_record(*toy(widened)) for widened in (1.0, 0.5))
    assert sum(right["pit"]) == COUNT == right["count"]
    assert np.std(right["pit"]) < 2 * np.sqrt(COUNT / 20)
    assert min(narrow["pit"][0], narrow["pit"][-1]) > 2 * COUNT / 20  # at the ends: too narrow
    level, held = (np.array(right["expected_coverage"][key]) for key in ("level", "share"))
    assert np.abs(held - level).max() < 0.03
    assert np.interp(0.68, level, narrow["expected_coverage"]["share"]) < 0.45
    assert held[-1] == 1


def test_an_interval_holds_its_own_ends() -> None:
    _, posterior = toy()
    for name, level in (("68", 0.68), ("95", 0.95)):
        low, high = posterior.interval(level).T
        inside = 1e-6 * (high - low)
        assert interval_contains(low + inside, posterior)[name].all()
        assert interval_contains(high - inside, posterior)[name].all()
        assert not interval_contains(high + 1e-3, posterior)[name].any()


def test_the_figure_is_drawn_for_one_network_and_for_several(tmp_path: Path) -> None:
    records = {"right": posterior_record(*toy()), "narrow": posterior_record(*toy(0.5))}
    for names in (["right"], ["right", "narrow"]):
        made = posterior_figure({name: records[name] for name in names})
        figures.save_figure(made, tmp_path / "figure.png")
        assert len(made.axes) == 3
        curves = [line for line in made.axes[1].lines if line.get_label() in names]
        assert len(curves) == len(names)
