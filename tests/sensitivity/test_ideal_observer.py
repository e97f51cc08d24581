"""Ideal observers, for signals whose information has a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from halometry.lensfit.linear import project_out
from halometry.sensitivity.ideal_observer import (
    expected_delta_2lnl,
    likelihood_ratio_power,
    matched_filter_power,
    max_filter_threshold,
    normal_threshold,
    variance_of_sum,
)
from helpers.presets import position_grid

SKY, WIDTH, SIDE = 50.0, 3.0, 60  # counts per pixel, pixels, pixels


def spot(amplitude: float = 1.0, x: float = 0.0) -> Tensor:
    """A Gaussian profile (N,); the sum of its square is pi (amplitude width)^2."""
    grid_x, grid_y = position_grid((SIDE - 1) / 2, SIDE)
    return amplitude * torch.exp(-((grid_x - x) ** 2 + grid_y**2) / (2 * WIDTH**2)).flatten()


def sky() -> Tensor:
    return torch.full((SIDE**2,), SKY, dtype=torch.float64)


def test_expected_delta_of_a_faint_spot_has_its_closed_form() -> None:
    delta = expected_delta_2lnl(sky(), sky() + spot(0.05))
    assert float(delta) == pytest.approx(math.pi * (0.05 * WIDTH) ** 2 / SKY, rel=1e-3)
    with_gaussian = expected_delta_2lnl(sky(), sky() + spot(0.05), gaussian_variance=SKY)
    assert float(with_gaussian) == pytest.approx(float(delta) / 2, rel=1e-3)


def test_expected_delta_is_the_mean_over_poisson_noise() -> None:
    s, m = sky(), sky() + spot(9.0)
    counts = torch.from_numpy(np.random.default_rng(0).poisson(m.numpy(), (4000, len(m))))
    deltas = 2 * (counts * (m / s).log() - (m - s)).sum(dim=1)
    error = float(deltas.std()) / 4000**0.5
    assert float(deltas.mean()) == pytest.approx(float(expected_delta_2lnl(s, m)), abs=4 * error)


@pytest.mark.parametrize(("amplitude", "false_positives"), [(4.0, 0.05), (9.0, 0.01)])
def test_power_of_the_likelihood_ratio_agrees_with_simulated_noise(
    amplitude: float, false_positives: float
) -> None:
    rng, size = np.random.default_rng(1), 20_000
    s, m = sky().numpy(), (sky() + spot(amplitude)).numpy()
    differs = np.abs(m - s) > 1e-4
    log = np.log(m / s)[differs]
    without, with_spot = (rng.poisson(e[differs], (size, differs.sum())) @ log for e in (s, m))
    simulated = (with_spot > np.quantile(without, 1 - false_positives)).mean()
    power = float(likelihood_ratio_power(torch.from_numpy(s), torch.from_numpy(m), false_positives))
    assert simulated == pytest.approx(power, abs=0.02)
    detectability = expected_delta_2lnl(torch.from_numpy(s), torch.from_numpy(m)).sqrt()
    matched = matched_filter_power(detectability, normal_threshold(false_positives))
    assert power == pytest.approx(float(matched), abs=0.03)


def test_power_without_a_signal_is_the_false_positive_rate() -> None:
    assert float(likelihood_ratio_power(sky(), sky(), 0.03)) == pytest.approx(0.03)
    power = matched_filter_power(torch.zeros(1), normal_threshold(0.03))
    assert float(power) == pytest.approx(0.03, abs=1e-6)


def test_nothing_is_left_of_a_change_that_parameters_can_reproduce() -> None:
    shift, level = spot(x=0.01) - spot(x=-0.01), torch.ones(SIDE**2, dtype=torch.float64)
    jacobian = torch.stack([shift, level, 2 * shift - level, torch.zeros_like(level)])[None]
    change = (jacobian[0, :2].sum(dim=0) * 3)[None, None]
    assert float(project_out(change, jacobian).norm()) < 1e-6 * float(change.norm())


def test_information_lost_to_an_unknown_sky_has_its_closed_form() -> None:
    # Of a spot's square pi w^2 the constant explains (2 pi w^2)^2 / N; its shift explains nothing.
    level = torch.ones(SIDE**2, dtype=torch.float64)
    jacobian = torch.stack([level, spot(x=0.01) - spot(x=-0.01)])[None]
    left = project_out(spot()[None, None], jacobian).square().sum()
    square = math.pi * WIDTH**2
    assert float(left) == pytest.approx(square - 4 * square**2 / SIDE**2, rel=1e-6)


def test_threshold_of_independent_filters_has_its_closed_form() -> None:
    templates = torch.cat([torch.eye(50, dtype=torch.float64) * 3, torch.zeros(2, 50)])
    threshold = max_filter_threshold(templates, 0.05)
    assert threshold == pytest.approx(norm.ppf(0.95 ** (1 / 50)), abs=0.05)
    equal = torch.ones(20, 50, dtype=torch.float64)
    assert max_filter_threshold(equal, 0.05) == pytest.approx(normal_threshold(0.05), abs=0.05)


def test_variance_of_the_sum_of_overlapping_spots_is_that_of_the_posterior() -> None:
    responses = torch.stack([spot(), spot(x=4.0)])[None] / 5
    prior = torch.tensor([[0.3, 0.1]], dtype=torch.float64)
    fisher = responses[0] @ responses[0].T
    covariance = torch.linalg.inv(fisher + torch.diag(1 / prior[0]))
    variance = float(variance_of_sum(responses, prior))
    assert variance == pytest.approx(float(covariance.sum()), rel=1e-9)
    assert variance < 0.4
    assert float(variance_of_sum(0 * responses, prior)) == pytest.approx(0.4)
    one_known = torch.tensor([[0.3, 0.0]], dtype=torch.float64)
    expected = 1 / (float(fisher[0, 0]) + 1 / 0.3)
    assert float(variance_of_sum(responses, one_known)) == pytest.approx(expected)
