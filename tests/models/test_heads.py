"""Posterior densities, on posteriors that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from halometry.calibration.posterior import Grid, Posterior
from halometry.models.heads import DENSITIES, Density
from halometry.models.predictor import Predictor, TargetConfig
from halometry.models.preprocessing import Preprocessing, PreprocessingConfig

families = pytest.mark.parametrize("family", list(DENSITIES))
TARGET = TargetConfig(mean=0.05, std=0.02)
GRID = Grid(low=0.0, high=0.15, cells=256)


def predictor(network: nn.Module, family: str, target: TargetConfig = TARGET) -> Predictor:
    plain = Preprocessing(PreprocessingConfig())
    return Predictor(plain, network, "regression", target, family=family, grid=GRID)  # type: ignore[arg-type]


class MeanNetwork(nn.Module):
    """Network that takes the mean of an image and has one hidden layer."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, n_outputs))

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(images.mean(dim=(2, 3)))
        return outputs


@families
def test_density_is_normalized(family: str) -> None:
    torch.manual_seed(0)
    density = DENSITIES[family]
    outputs = 2 * torch.randn(6, density.n_parameters)
    values = torch.linspace(-80, 80, 160_001)[None]
    logarithms = density.log_density(outputs.double(), values.double())
    np.testing.assert_allclose(logarithms.exp().sum(dim=1) * 0.001, 1, atol=2e-3)


@families
def test_large_outputs_give_finite_gradients(family: str) -> None:
    density = DENSITIES[family]
    outputs = torch.full((2, density.n_parameters), 50.0, requires_grad=True)
    density.log_density(outputs, torch.tensor([[0.1], [-3.0]])).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_flow_with_zero_spline_parameters_is_gaussian() -> None:
    outputs = torch.zeros(3, DENSITIES["flow"].n_parameters)
    outputs[:, :2] = torch.randn(3, 2)
    values = torch.linspace(-7, 7, 30)[None]
    torch.testing.assert_close(
        DENSITIES["flow"].log_density(outputs, values),
        DENSITIES["gaussian"].log_density(outputs[:, :2], values),
        rtol=1e-5,
        atol=1e-5,
    )


@families
@pytest.mark.parametrize("transform", ["linear", "log"])
def test_density_on_the_grid_includes_the_jacobian_of_the_target(
    family: str, transform: str
) -> None:
    target = TargetConfig(transform=transform, mean=0.05, std=0.2)  # type: ignore[arg-type]
    if transform == "log":
        target = TargetConfig(transform="log", mean=-3.0, std=0.4)
    outputs = 0.3 * torch.randn(4, DENSITIES[family].n_parameters)
    on_grid = predictor(nn.Identity(), family, target).decode(outputs).double()
    masses = torch.from_numpy(GRID.centers).float().requires_grad_()
    encoded = target.encode(masses)
    (slope,) = torch.autograd.grad(encoded.sum(), masses)
    expected = DENSITIES[family].log_density(outputs, encoded[None]).exp() * slope.abs()
    expected = expected / (expected.sum(dim=1, keepdim=True) * GRID.width)
    np.testing.assert_allclose(on_grid, expected.detach(), rtol=2e-3, atol=1e-3)


def learn(density: Density, seen: Tensor, labels: Tensor, steps: int) -> MeanNetwork:
    torch.manual_seed(1)
    network = MeanNetwork(density.n_parameters)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    encoded = TARGET.encode(labels)[:, None]
    for _ in range(steps):
        loss = -density.log_density(network(seen), encoded).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@families
def test_density_learns_the_posterior_of_normal_prior_and_noise(family: str) -> None:
    rng = np.random.default_rng(0)
    noise = 0.8  # of the mean of an image, in units of the prior's width
    labels = torch.from_numpy(rng.normal(0.05, 0.02, 3000)).float()
    seen = TARGET.encode(labels) + noise * torch.from_numpy(rng.normal(size=3000)).float()
    network = learn(DENSITIES[family], seen.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2), labels, 200)
    asked = torch.tensor([-1.0, 0.0, 0.7])
    answers = predictor(network, family)(asked.reshape(-1, 1, 1, 1))
    posterior = Posterior(GRID, answers.detach().numpy())
    shrinkage = 1 / (1 + noise**2)
    std = 0.02 * noise * np.sqrt(shrinkage)
    expected = 0.05 + 0.02 * shrinkage * asked.numpy()
    np.testing.assert_allclose(posterior.mean, expected, atol=0.1 * std)
    np.testing.assert_allclose(posterior.std, std, rtol=0.07)
    assert Predictor.point_predictions(
        predictor(network, family), answers
    ).detach().numpy() == pytest.approx(posterior.mean, rel=1e-4)


def test_flow_learns_a_truncated_normal_posterior() -> None:
    """A uniform prior and normal noise: a normal distribution cut off on both sides."""
    rng = np.random.default_rng(0)
    low, high, noise = 0.03, 0.07, 0.02
    labels = rng.uniform(low, high, 5000)
    seen = labels + noise * rng.normal(size=5000)

    def best(truth: np.ndarray, seen: np.ndarray) -> np.ndarray:
        inside = norm.cdf((high - seen) / noise) - norm.cdf((low - seen) / noise)
        return norm.logpdf(truth, seen, noise) - np.log(inside)

    images = torch.from_numpy((seen - 0.05) / 0.02).float().reshape(-1, 1, 1, 1)
    masses = torch.from_numpy(labels).float()
    losses = {}
    for family, density in DENSITIES.items():
        network = learn(density, images[:3000], masses[:3000], 250)
        with torch.inference_mode():
            answers = predictor(network, family)(images[3000:]).numpy()
        losses[family] = -Posterior(GRID, answers).log_density(labels[3000:]).mean()
    possible = -best(labels[3000:], seen[3000:]).mean()
    assert losses["flow"] < possible + 0.1
    assert losses["gaussian"] > possible + 0.13
