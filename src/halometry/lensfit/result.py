"""What a fit says: parameters with errors, and how good it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import functional

from halometry.lensfit.likelihood import Scaled
from halometry.lensfit.observation import Data
from halometry.lensfit.optimize import Optimum, covariance, robust_covariance
from halometry.lensfit.parametrization import Layout
from halometry.lensfit.subhalos.posterior import APART, Sampled
from halometry.simulation.preset import Preset
from halometry.simulation.scene import Scene

DOUBTFUL = 5  # standard deviations of the reduced chi-square


@dataclass(frozen=True)
class FittedParameter:
    """One parameter: value, standard error, unit."""

    name: str
    value: float
    error: float
    unit: str


@dataclass(frozen=True)
class Taken:
    """How a fit came about.

    Attributes:
        gain: by how much 2 ln L grew with all substructure that was added.
        gains: with each piece of it when it was added.
        starts: how many of the starts came to the same optimum at the coarse stage.
        seconds: that it took.
    """

    gain: float
    gains: tuple[float, ...]
    starts: int
    seconds: float


@dataclass(frozen=True)
class Fit:
    """The fit of one image.

    Attributes:
        file, preset: what was fitted, with which recipe.
        estimates: parameters with errors from the Fisher information.
        reduced_chi_square: sum of (data - model)^2 / variance over pixels less parameters.
        scatter: its standard deviation for a true model.
        deviance: -2 ln L, up to a constant of the data.
        converged: whether the last iteration gained next to nothing.
        counts: whether the pixels were whole counts; otherwise the noise was estimated.
        taken: what it took.
        extra: variance of the Gaussian noise beside that of counts, counts squared.
        pixel_scale: arcsec.
        data, model: (H, W), in the pixels' unit; data has its lost constant back.
        residual: (H, W), (data - model) / noise.
        scene: the lens that was found, one row.
        layout, theta, covariance: the coordinates that were fitted, (P,) and (P, P).
        sampled: the posterior of the subhalos, where it was asked for. All else is then of the
            lens beside one draw of them, but for the estimates, which hold the scatter of all.
        convergence: of the mass that explains the residual, (h, w) over the whole image, where it
            was asked for.
    """

    file: str
    preset: str
    estimates: tuple[FittedParameter, ...]
    reduced_chi_square: float
    scatter: float
    deviance: float
    converged: bool
    counts: bool
    taken: Taken
    extra: float
    pixel_scale: float
    data: np.ndarray
    model: np.ndarray
    residual: np.ndarray
    scene: Scene
    layout: Layout
    theta: Tensor
    covariance: Tensor
    sampled: Sampled | None = None
    convergence: np.ndarray | None = None

    def estimate(self, name: str) -> FittedParameter:
        """One parameter by its name."""
        return next(e for e in self.estimates if e.name == name)

    @property
    def doubt(self) -> str:
        """Why not to believe it; nothing if there is no reason."""
        if self.counts and abs(self.reduced_chi_square - 1) > DOUBTFUL * self.scatter:
            return "the model does not describe the image, or a better optimum was missed"
        if self.sampled is not None and self.sampled.reduction > APART:
            return "the chains of its subhalos do not agree; the mass fraction's error is too small"
        return "" if self.converged else "not quite at an optimum; its errors may be too small"

    def record(self) -> dict[str, Any]:
        """All but the images, as plain data."""
        plain = (
            "file",
            "preset",
            "reduced_chi_square",
            "scatter",
            "deviance",
            "converged",
            "counts",
        )
        return {key: getattr(self, key) for key in plain} | {
            "doubt": self.doubt,
            **asdict(self.taken),
            "parameters": {
                e.name: {"value": e.value, "error": e.error, "unit": e.unit} for e in self.estimates
            },
            **({} if self.sampled is None else {"posterior": self.sampled.record()}),
        }


def report(
    file: str,
    preset: Preset,
    layout: Layout,
    optimum: Optimum,
    data: Data,
    taken: Taken,
    sampled: Sampled | None = None,
    convergence: Tensor | None = None,
) -> Fit:
    """Put an optimum into words; `optimum` has one row, at full resolution."""
    likelihood = data.at(1)
    expected = optimum.expected[:1]
    residual = likelihood.residual(expected) / likelihood.weight(expected).sqrt()
    chi_square = float((residual**2).sum()) / (residual.numel() - len(layout))
    shape = tuple(data.values.shape)
    steps = layout.steps.to(expected)
    if isinstance(likelihood, Scaled):  # the noise is known no better than from the residuals
        scores = likelihood.residual(expected).view(shape)
        spread = robust_covariance(optimum.derivatives[0], scores, optimum.fisher[0], steps)
    else:
        spread = covariance(optimum.fisher[0], steps)
    estimates = _estimates(layout, optimum.theta[0], spread)
    if sampled is not None:
        mean, scatter = sampled.shifts.mean(dim=0), sampled.shifts.T.cov()
        mass = sampled.mass_fractions
        estimates = (
            *_estimates(layout, optimum.theta[0] + mean, spread + scatter),
            FittedParameter("mass_fraction", float(mass.mean()), float(mass.std()), ""),
        )
    return Fit(
        file=file,
        preset=preset.name,
        estimates=estimates,
        reduced_chi_square=chi_square,
        scatter=likelihood.scatter(expected),
        deviance=float(optimum.deviance[0]),
        converged=bool(optimum.converged[0]),
        counts=not isinstance(likelihood, Scaled),
        taken=taken,
        extra=data.extra,
        pixel_scale=preset.image.pixel_scale,
        data=likelihood.data.view(shape).cpu().numpy(),
        model=expected[0].view(shape).cpu().numpy(),
        residual=residual[0].view(shape).cpu().numpy(),
        scene=layout.scene(optimum.theta[:1]).to("cpu", torch.float64),
        layout=layout,
        theta=optimum.theta[0],
        covariance=spread,
        sampled=sampled,
        convergence=None if convergence is None else convergence.cpu().numpy(),
    )


def _estimates(layout: Layout, theta: Tensor, spread: Tensor) -> tuple[FittedParameter, ...]:
    """All that a layout tells, errors carried over to first order."""
    names = list(layout.units)
    told = layout.tell(theta[None])
    jacobian = _jacobian(_telling(layout, names), theta)
    variance = ((jacobian @ spread) * jacobian).sum(dim=1)
    return tuple(
        FittedParameter(name, float(told[name][0]), float(v) ** 0.5, layout.units[name])
        for name, v in zip(names, variance, strict=True)
    )


def _telling(layout: Layout, names: list[str]) -> Callable[[Tensor], Tensor]:
    def tell(theta: Tensor) -> Tensor:
        told = layout.tell(theta[None])
        return torch.cat([told[name] for name in names])

    return tell


# torch leaves it untyped.
_jacobian: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] = functional.jacobian
