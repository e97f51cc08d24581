"""Distributions of parameters: bounds, means and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halometry.simulation.distributions import Quantity

numbers = st.floats(0.1, 100)


@given(
    a=numbers,
    b=numbers,
    seed=st.integers(0, 2**32),
    name=st.sampled_from(["uniform", "log_uniform"]),
)
def test_uniform_draws_stay_within_their_support(a: float, b: float, seed: int, name: str) -> None:
    low, high = sorted((a, b))
    quantity = Quantity.model_validate({name: (low, high)})
    draws = quantity.draw(np.random.default_rng(seed), 50)
    assert quantity.support == (low, high)
    assert (draws >= low * (1 - 1e-9)).all()
    assert (draws <= high * (1 + 1e-9)).all()


@given(slope=st.floats(-3, 3), seed=st.integers(0, 2**32))
def test_power_law_draws_stay_within_their_bounds(slope: float, seed: int) -> None:
    quantity = Quantity.model_validate({"power_law": {"slope": slope, "low": 1e6, "high": 1e10}})
    draws = quantity.draw(np.random.default_rng(seed), 50)
    assert (draws >= 1e6 * (1 - 1e-6)).all()
    assert (draws <= 1e10 * (1 + 1e-6)).all()


def test_power_law_draws_have_the_right_mean() -> None:
    parameters = {"slope": -0.88, "low": 1e6, "high": 1e10}
    draws = Quantity.model_validate({"power_law": parameters}).draw(
        np.random.default_rng(0), 200_000
    )
    mean = (0.12 / 1.12) * (1e10**1.12 - 1e6**1.12) / (1e10**0.12 - 1e6**0.12)
    assert draws.mean() == pytest.approx(mean, rel=0.01)


def test_uniform_disk_is_uniform_in_area() -> None:
    draws = Quantity(uniform_disk=2.0).draw(np.random.default_rng(0), 100_000)
    assert np.mean(draws < 1.0) == pytest.approx(0.25, abs=0.01)


def test_negative_sigma_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma must not be negative"):
        Quantity(normal=(1.0, -0.1))
