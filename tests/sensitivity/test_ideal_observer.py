"""What noise allows, on signals whose information has a closed form."""

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

SKY, WIDTH, SIDE = 50.0, 3.0, 60  # counts a pixel, pixels, pixels


def spot(amplitude: float = 1.0, at: float = 0.0) -> Tensor:
    """A Gaussian profile on pixels of one, (N,); its square has the sum pi (amplitude width)^2."""
    x, y = position_grid((SIDE - 1) / 2, SIDE)
    return amplitude * torch.exp(-((x - at) ** 2 + y**2) / (2 * WIDTH**2)).flatten()


def sky() -> Tensor:
    return torch.full((SIDE**2,), SKY, dtype=torch.float64)


def test_a_faint_spot_on_a_sky_has_its_closed_form() -> None:
    gain = expected_delta_2lnl(sky(), sky() + spot(0.05))
    assert float(gain) == pytest.approx(math.pi * (0.05 * WIDTH) ** 2 / SKY, rel=1e-3)
    with_gaussian = expected_delta_2lnl(sky(), sky() + spot(0.05), gaussian_variance=SKY)
    assert float(with_gaussian) == pytest.approx(float(gain) / 2, rel=1e-3)


def test_the_expected_gain_is_the_mean_over_poisson_noise() -> None:
    s, m = sky(), sky() + spot(9.0)
    counts = torch.from_numpy(np.random.default_rng(0).poisson(m.numpy(), (4000, len(m))))
    gains = 2 * (counts * (m / s).log() - (m - s)).sum(dim=1)
    error = float(gains.std()) / 4000**0.5
    assert float(gains.mean()) == pytest.approx(float(expected_delta_2lnl(s, m)), abs=4 * error)


@pytest.mark.parametrize(("amplitude", "false_positives"), [(4.0, 0.05), (9.0, 0.01)])
def test_a_likelihood_ratio_finds_as_often_as_is_said(
    amplitude: float, false_positives: float
) -> None:
    rng, size = np.random.default_rng(1), 20_000
    s, m = sky().numpy(), (sky() + spot(amplitude)).numpy()
    some = np.abs(m - s) > 1e-4
    log = np.log(m / s)[some]
    without, with_ = (rng.poisson(of[some], (size, some.sum())) @ log for of in (s, m))
    found = (with_ > np.quantile(without, 1 - false_positives)).mean()
    said = float(likelihood_ratio_power(torch.from_numpy(s), torch.from_numpy(m), false_positives))
    assert found == pytest.approx(said, abs=0.02)
    simple = expected_delta_2lnl(torch.from_numpy(s), torch.from_numpy(m)).sqrt()
    assert said == pytest.approx(
        float(matched_filter_power(simple, normal_threshold(false_positives))), abs=0.03
    )


def test_nothing_is_found_at_the_rate_of_false_positives() -> None:
    assert float(likelihood_ratio_power(sky(), sky(), 0.03)) == pytest.approx(0.03)
    assert float(matched_filter_power(torch.zeros(1), normal_threshold(0.03))) == pytest.approx(
        0.03, abs=1e-6
    )


def test_a_change_that_parameters_can_make_is_none() -> None:
    shift, level = spot(at=0.01) - spot(at=-0.01), torch.ones(SIDE**2, dtype=torch.float64)
    jacobian = torch.stack([shift, level, 2 * shift - level, torch.zeros_like(level)])[None]
    own = (jacobian[0, :2].sum(dim=0) * 3)[None, None]
    assert float(project_out(own, jacobian).norm()) < 1e-6 * float(own.norm())


def test_what_an_unknown_sky_costs_has_its_closed_form() -> None:
    # Of a spot's square pi w^2 the constant explains (2 pi w^2)^2 / N; its shift explains nothing.
    level = torch.ones(SIDE**2, dtype=torch.float64)
    jacobian = torch.stack([level, spot(at=0.01) - spot(at=-0.01)])[None]
    left = project_out(spot()[None, None], jacobian).square().sum()
    own = math.pi * WIDTH**2
    assert float(left) == pytest.approx(own - 4 * own**2 / SIDE**2, rel=1e-6)


def test_a_search_among_independent_places_has_its_closed_form() -> None:
    templates = torch.cat([torch.eye(50, dtype=torch.float64) * 3, torch.zeros(2, 50)])
    found = max_filter_threshold(templates, 0.05)
    assert found == pytest.approx(norm.ppf(0.95 ** (1 / 50)), abs=0.05)
    alike = torch.ones(20, 50, dtype=torch.float64)
    assert max_filter_threshold(alike, 0.05) == pytest.approx(normal_threshold(0.05), abs=0.05)


def test_the_variance_of_a_sum_of_overlapping_spots() -> None:
    responses = torch.stack([spot(), spot(at=4.0)])[None] / 5
    prior = torch.tensor([[0.3, 0.1]], dtype=torch.float64)
    fisher = responses[0] @ responses[0].T
    covariance = torch.linalg.inv(fisher + torch.diag(1 / prior[0]))
    found = float(variance_of_sum(responses, prior))
    assert found == pytest.approx(float(covariance.sum()), rel=1e-9)
    blind = float(variance_of_sum(0 * responses, prior))
    assert (found < 0.4, blind) == (True, pytest.approx(0.4))
    one_known = torch.tensor([[0.3, 0.0]], dtype=torch.float64)
    alone = 1 / (float(fisher[0, 0]) + 1 / 0.3)
    assert float(variance_of_sum(responses, one_known)) == pytest.approx(alone)
