"""The temperature: found where it is known, and only how sure an answer is changes with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from halometry.models import Predictor, Preprocessing, PreprocessingConfig
from halometry.models.temperature import fit_temperature, tempered


def answers(temperature: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn with the probabilities that these become at a temperature."""
    rng = np.random.default_rng(seed)
    outputs = 3 * rng.normal(size=(count, 3))
    shown = torch.softmax(torch.from_numpy(outputs), 1).numpy()
    meant = torch.softmax(torch.from_numpy(outputs) / temperature, 1).numpy()
    truth = (meant.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=2)
    return truth, shown


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7, 3.0])
def test_the_temperature_that_classes_were_drawn_with_is_found(temperature: float) -> None:
    truth, shown = answers(temperature, 20_000)
    # The error from the Fisher information is 0.01 to 0.02 here.
    assert fit_temperature(truth, shown) == pytest.approx(temperature, rel=0.06)


def test_no_other_temperature_has_a_smaller_cross_entropy() -> None:
    truth, shown = answers(1.8, 2000)

    def loss(temperature: float) -> float:
        return -float(np.log(tempered(shown, temperature)[np.arange(2000), truth]).mean())

    best = fit_temperature(truth, shown)
    assert loss(best) < min(loss(0.97 * best), loss(1.03 * best), loss(1.0))


def test_few_images_without_a_mistake_do_not_make_it_sure_of_all() -> None:
    truth = np.array([0, 1, 2, 0])
    shown = np.full((4, 3), 0.1)
    shown[np.arange(4), truth] = 0.8
    assert 0.3 < fit_temperature(truth, shown) < 1
    assert np.isfinite(fit_temperature(truth, np.eye(3)[truth]))
    assert 1 < fit_temperature(truth, np.eye(3)[[1, 2, 0, 1]]) < 60


@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=5),
    st.floats(0.2, 5),
)
def test_of_one_network_it_divides_the_outputs(outputs: list[float], temperature: float) -> None:
    outputs_ = torch.tensor(outputs, dtype=torch.float64)
    found = tempered(torch.softmax(outputs_, 0), temperature)
    torch.testing.assert_close(found, torch.softmax(outputs_ / temperature, 0))
    torch.testing.assert_close(tempered(found, 1 / temperature), torch.softmax(outputs_, 0))


class Outputs(nn.Module):
    """The four corners of an image as a network's outputs: another set for each of its forms."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, [0, 0, -1], [0, -1, 0]]


@pytest.mark.parametrize("average", [False, True])
def test_a_predictor_tempers_the_answer_that_it_gives(average: bool) -> None:
    config = PreprocessingConfig(scale="none", stretch="none")
    plain, warm = (
        Predictor(
            Preprocessing(config),
            Outputs(),
            "classification",
            None,
            average,
            temperature=temperature,
        )
        for temperature in (1.0, 2.0)
    )
    images = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(warm(images), tempered(plain(images), 2.0))
    assert not torch.allclose(warm(images), plain(images))


def test_masses_have_no_temperature() -> None:
    config = PreprocessingConfig(scale="none", stretch="none")
    predictor = Predictor(Preprocessing(config), Outputs(), "regression", temperature=2.0)
    images = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(predictor(images), images[:, 0, 0, 0])
