"""The temperature: found where it is known, and only how sure an answer is changes with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from halometry.calibration.temperature import apply_temperature, fit_temperature, undo_temperature
from halometry.models import Predictor, Preprocessing, PreprocessingConfig


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
    found, bias = fit_temperature(truth, shown)
    assert found == pytest.approx(temperature, rel=0.06)
    assert bias == pytest.approx((0, 0, 0), abs=0.08)


def test_the_bias_that_classes_were_drawn_with_is_found() -> None:
    _, shown = answers(1.0, 20_000)
    meant = apply_temperature(shown, 1.4, (0.5, -0.1, -0.4))
    draws = np.random.default_rng(5).random((len(meant), 1))
    truth = (meant.cumsum(axis=1) < draws).sum(axis=1).clip(max=2)
    temperature, bias = fit_temperature(truth, shown)
    assert temperature == pytest.approx(1.4, rel=0.06)
    assert bias == pytest.approx((0.5, -0.1, -0.4), abs=0.08)
    assert sum(bias) == pytest.approx(0, abs=1e-12)
    # Then each class is as frequent as the answers say, on which populations rest.
    frequent = np.bincount(truth) / len(truth)
    assert apply_temperature(shown, temperature, bias).mean(axis=0) == pytest.approx(
        frequent, abs=1e-3
    )


def test_no_other_temperature_has_a_smaller_cross_entropy() -> None:
    truth, shown = answers(1.8, 2000)

    def loss(temperature: float, bias: tuple[float, ...]) -> float:
        answers = apply_temperature(shown, temperature, bias)
        return -float(np.log(answers[np.arange(2000), truth]).mean())

    best, bias = fit_temperature(truth, shown)
    least = loss(best, bias)
    assert least < min(loss(0.97 * best, bias), loss(1.03 * best, bias), loss(1.0, bias))
    assert least < loss(best, (bias[0] + 0.05, bias[1] - 0.05, bias[2]))


def test_few_images_without_a_mistake_do_not_make_it_sure_of_all() -> None:
    truth = np.array([0, 1, 2, 0])
    shown = np.full((4, 3), 0.1)
    shown[np.arange(4), truth] = 0.8
    assert 0.3 < fit_temperature(truth, shown)[0] < 1
    assert np.isfinite(fit_temperature(truth, np.eye(3)[truth])[0])
    assert 1 < fit_temperature(truth, np.eye(3)[[1, 2, 0, 1]])[0] < 60


def test_few_images_of_one_class_do_not_make_it_the_only_one() -> None:
    shown = np.full((12, 3), 1 / 3)
    _, bias = fit_temperature(np.zeros(12, dtype=int), shown)
    assert 0.2 < bias[0] < 0.6


@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=5),
    st.floats(0.2, 5),
)
def test_of_one_network_it_divides_the_outputs(outputs: list[float], temperature: float) -> None:
    outputs_ = torch.tensor(outputs, dtype=torch.float64)
    found = apply_temperature(torch.softmax(outputs_, 0), temperature)
    torch.testing.assert_close(found, torch.softmax(outputs_ / temperature, 0))
    torch.testing.assert_close(undo_temperature(found, temperature), torch.softmax(outputs_, 0))


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3), st.floats(0.5, 3))
def test_a_bias_is_added_to_the_outputs(outputs: list[float], temperature: float) -> None:
    outputs_, bias = torch.tensor(outputs, dtype=torch.float64), [0.7, -0.2, -0.5]
    plain = torch.softmax(outputs_, 0)
    found = apply_temperature(plain, temperature, bias)
    expected = torch.softmax(outputs_ / temperature + outputs_.new_tensor(bias), 0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(undo_temperature(found, temperature, bias), plain)
    np.testing.assert_allclose(apply_temperature(plain.numpy(), temperature, bias), found.numpy())


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
            tta=average,
            temperature=temperature,
            bias=bias,
        )
        for temperature, bias in ((1.0, ()), (2.0, (0.1, 0.2, -0.3)))
    )
    images = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(
        warm(images), apply_temperature(plain(images), 2.0, (0.1, 0.2, -0.3))
    )
    assert not torch.allclose(warm(images), plain(images))


def test_masses_have_no_temperature() -> None:
    config = PreprocessingConfig(scale="none", stretch="none")
    predictor = Predictor(Preprocessing(config), Outputs(), "regression", temperature=2.0)
    images = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(predictor(images), images[:, 0, 0, 0])
