"""Posteriors on a grid, against the closed forms of the normal and the uniform distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from halometry.calibration.posterior import Grid, Posterior, common_grid

GRID = Grid(low=-1.0, high=2.0, cells=1024)


def normal(mean: np.ndarray | float, std: np.ndarray | float, grid: Grid = GRID) -> Posterior:
    mean, std = (np.atleast_1d(np.asarray(one, dtype=float))[:, None] for one in (mean, std))
    return Posterior(grid, norm.pdf(grid.centers, mean, std))


means = st.floats(0.2, 0.8)
stds = st.floats(0.02, 0.15)
offsets = st.floats(-3.0, 3.0)


@settings(deadline=None)
@given(mean=means, std=stds, offset=offsets)
def test_normal_posterior_agrees_with_closed_forms(mean: float, std: float, offset: float) -> None:
    posterior, truth = normal(mean, std), np.array([mean + offset * std])
    assert posterior.mean[0] == pytest.approx(mean, abs=1e-3 * std)
    assert posterior.std[0] == pytest.approx(std, rel=5e-3)
    np.testing.assert_allclose(
        posterior.quantiles([0.025, 0.5, 0.84])[0],
        norm.ppf([0.025, 0.5, 0.84], mean, std),
        atol=0.02 * std,
    )
    assert posterior.pit(truth)[0] == pytest.approx(norm.cdf(offset), abs=2e-3)
    assert posterior.log_density(truth)[0] == pytest.approx(
        # Linear between centers: above the convex flanks by h²/8 of the relative curvature.
        norm.logpdf(truth[0], mean, std),
        abs=(GRID.width / std) ** 2 * max(1, offset**2) / 7 + 1e-3,
    )
    # Gneiting & Raftery (2007), equation 21
    score = std * (offset * (2 * norm.cdf(offset) - 1) + 2 * norm.pdf(offset) - 1 / np.sqrt(np.pi))
    assert posterior.crps(truth)[0] == pytest.approx(score, abs=2e-3 * std)
    # The highest-density region that ends at the true mass is symmetric about the mean.
    expected = 2 * norm.cdf(abs(offset)) - 1
    assert posterior.highest_density_credibility(truth)[0] == pytest.approx(
        expected, abs=1.5 * GRID.width / std
    )


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_functions_of_any_posterior_are_consistent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid(low=0.0, high=0.1, cells=int(rng.integers(2, 40)))
    posterior = Posterior(grid, rng.exponential(size=(5, grid.cells)) + 1e-9)
    np.testing.assert_allclose(posterior.density.sum(axis=1) * grid.width, 1)
    levels = rng.random(3)
    quantiles = posterior.quantiles(list(levels))
    for k, level in enumerate(levels):
        np.testing.assert_allclose(posterior.pit(quantiles[:, k]), level, atol=1e-9)
    truth = rng.uniform(-0.02, 0.12, 5)
    fine = np.linspace(-0.03, 0.13, 200_001)
    for row, (score, true) in enumerate(zip(posterior.crps(truth), truth, strict=True)):
        cumulative = np.interp(fine, grid.edges, posterior.cumulative[row])
        expected = np.trapezoid((cumulative - (fine >= true)) ** 2, fine)
        assert score == pytest.approx(expected, abs=2e-6)


def test_rows_are_independent() -> None:
    together = normal([0.3, 0.5, 0.7], [0.02, 0.1, 0.05])
    truth = np.array([0.31, 0.2, 0.9])
    for k in range(3):
        single = together[k : k + 1]
        assert len(single) == 1
        for function in (
            Posterior.pit,
            Posterior.crps,
            Posterior.log_density,
            Posterior.highest_density_credibility,
        ):
            assert function(single, truth[k : k + 1])[0] == function(together, truth)[k]


def test_true_mass_outside_the_grid() -> None:
    posterior, truth = normal([0.5, 0.5], 0.1), np.array([-1.5, 2.5])
    np.testing.assert_array_equal(posterior.pit(truth), [0, 1])
    assert (posterior.log_density(truth) < -80).all()
    np.testing.assert_allclose(posterior.crps(truth), 2 - 0.1 / np.sqrt(np.pi), atol=1e-3)


def test_posterior_on_another_grid() -> None:
    grid = Grid(low=-0.5, high=1.5, cells=700)
    moved, expected = normal(0.4, 0.1).on_grid(grid), normal(0.4, 0.1, grid)
    assert np.abs(moved.density - expected.density).max() < 0.01 * expected.density.max()


def test_common_grid_is_as_wide_and_as_fine_as_each() -> None:
    one, other = Grid(low=0.0, high=0.1, cells=100), Grid(low=0.05, high=0.2, cells=75)
    assert common_grid([one, one]) == one
    assert common_grid([one, other]) == Grid(low=0.0, high=0.2, cells=200)


def test_grid_from_labels_has_a_margin_but_no_negative_masses() -> None:
    grid = Grid.from_labels(np.array([0.01, 0.05, 0.09]))
    assert grid.low == 0
    assert grid.high == pytest.approx(0.13)
    assert Grid.from_labels(np.array([-1.0, 1.0])).low == -2
