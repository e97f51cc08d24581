"""Temperature scaling: fits recover known values, and the predictor applies them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from halometry.calibration.temperature import apply_temperature, fit_temperature, undo_temperature
from halometry.models import Predictor, Preprocessing, PreprocessingConfig


def draw_classes(temperature: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn at a temperature, and probabilities without it."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(3 * rng.normal(size=(count, 3)))
    uncalibrated = torch.softmax(logits, 1).numpy()
    calibrated = torch.softmax(logits / temperature, 1).numpy()
    truth = (calibrated.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=2)
    return truth, uncalibrated


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7, 3.0])
def test_fit_recovers_the_temperature(temperature: float) -> None:
    truth, uncalibrated = draw_classes(temperature, 20_000)
    # The error from the Fisher information is 0.01 to 0.02 here.
    fitted, bias = fit_temperature(truth, uncalibrated)
    assert fitted == pytest.approx(temperature, rel=0.06)
    assert bias == pytest.approx((0, 0, 0), abs=0.08)


def test_fit_recovers_the_bias() -> None:
    _, uncalibrated = draw_classes(1.0, 20_000)
    calibrated = apply_temperature(uncalibrated, 1.4, (0.5, -0.1, -0.4))
    draws = np.random.default_rng(5).random((len(calibrated), 1))
    truth = (calibrated.cumsum(axis=1) < draws).sum(axis=1).clip(max=2)
    temperature, bias = fit_temperature(truth, uncalibrated)
    assert temperature == pytest.approx(1.4, rel=0.06)
    assert bias == pytest.approx((0.5, -0.1, -0.4), abs=0.08)
    assert sum(bias) == pytest.approx(0, abs=1e-12)
    # The mean probability of a class is then its frequency, which inferred populations rely on.
    frequency = np.bincount(truth) / len(truth)
    assert apply_temperature(uncalibrated, temperature, bias).mean(axis=0) == pytest.approx(
        frequency, abs=1e-3
    )


def test_fit_minimizes_the_cross_entropy() -> None:
    truth, uncalibrated = draw_classes(1.8, 2000)

    def loss(temperature: float, bias: tuple[float, ...]) -> float:
        calibrated = apply_temperature(uncalibrated, temperature, bias)
        return -float(np.log(calibrated[np.arange(2000), truth]).mean())

    best, bias = fit_temperature(truth, uncalibrated)
    smallest = loss(best, bias)
    assert smallest < min(loss(0.97 * best, bias), loss(1.03 * best, bias), loss(1.0, bias))
    assert smallest < loss(best, (bias[0] + 0.05, bias[1] - 0.05, bias[2]))


def test_temperature_of_few_correct_images_is_finite() -> None:
    truth = np.array([0, 1, 2, 0])
    uncalibrated = np.full((4, 3), 0.1)
    uncalibrated[np.arange(4), truth] = 0.8
    assert 0.3 < fit_temperature(truth, uncalibrated)[0] < 1
    assert np.isfinite(fit_temperature(truth, np.eye(3)[truth])[0])
    assert 1 < fit_temperature(truth, np.eye(3)[[1, 2, 0, 1]])[0] < 60


def test_bias_of_few_images_of_one_class_is_finite() -> None:
    uncalibrated = np.full((12, 3), 1 / 3)
    _, bias = fit_temperature(np.zeros(12, dtype=int), uncalibrated)
    assert 0.2 < bias[0] < 0.6


@pytest.mark.parametrize("count", [60, 6000])
def test_class_weights_are_undone_by_few_images(count: int) -> None:
    rng = np.random.default_rng(7)
    frequency, weights = np.array([0.95, 0.05]), np.array([0.5 / 0.95, 0.5 / 0.05])
    truth = (np.arange(count) % 20 == 0).astype(int)
    logit = rng.normal(4.0 * truth - 2.0, 2.0)  # of the likelihoods; exactly calibrated
    odds = np.exp(np.stack([np.zeros(count), logit], 1))
    weighted = odds * frequency * weights  # as the loss with weights is smallest
    weighted /= weighted.sum(axis=1, keepdims=True)
    temperature, bias = fit_temperature(truth, weighted, class_weights=weights)
    calibrated = apply_temperature(weighted, temperature, bias)
    assert weighted.mean(axis=0)[1] > 0.15
    assert calibrated.mean(axis=0)[1] == pytest.approx(0.05, abs=0.02)
    assert bias[1] - bias[0] == pytest.approx(-np.log(19), abs=0.7)


@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=5),
    st.floats(0.2, 5),
)
def test_temperature_divides_the_logits(values: list[float], temperature: float) -> None:
    logits = torch.tensor(values, dtype=torch.float64)
    calibrated = apply_temperature(torch.softmax(logits, 0), temperature)
    torch.testing.assert_close(calibrated, torch.softmax(logits / temperature, 0))
    torch.testing.assert_close(undo_temperature(calibrated, temperature), torch.softmax(logits, 0))


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3), st.floats(0.5, 3))
def test_bias_is_added_to_the_logits(values: list[float], temperature: float) -> None:
    logits, bias = torch.tensor(values, dtype=torch.float64), [0.7, -0.2, -0.5]
    plain = torch.softmax(logits, 0)
    calibrated = apply_temperature(plain, temperature, bias)
    expected = torch.softmax(logits / temperature + logits.new_tensor(bias), 0)
    torch.testing.assert_close(calibrated, expected)
    torch.testing.assert_close(undo_temperature(calibrated, temperature, bias), plain)
    np.testing.assert_allclose(
        apply_temperature(plain.numpy(), temperature, bias), calibrated.numpy()
    )


class CornerNetwork(nn.Module):
    """Network whose outputs are three corners of an image, which differ for its rotations."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, [0, 0, -1], [0, -1, 0]]


@pytest.mark.parametrize("tta", [False, True])
def test_predictor_applies_temperature_after_tta(tta: bool) -> None:
    config = PreprocessingConfig(scale="none", stretch="none")
    plain, calibrated = (
        Predictor(
            Preprocessing(config),
            CornerNetwork(),
            "classification",
            tta=tta,
            temperature=temperature,
            bias=bias,
        )
        for temperature, bias in ((1.0, ()), (2.0, (0.1, 0.2, -0.3)))
    )
    images = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(
        calibrated(images), apply_temperature(plain(images), 2.0, (0.1, 0.2, -0.3))
    )
    assert not torch.allclose(calibrated(images), plain(images))


def test_predictor_of_masses_ignores_the_temperature() -> None:
    config = PreprocessingConfig(scale="none", stretch="none")
    predictor = Predictor(Preprocessing(config), CornerNetwork(), "regression", temperature=2.0)
    images = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(predictor(images), images[:, 0, 0, 0])
