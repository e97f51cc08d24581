"""What a fit says: parameters with errors, and how good it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import functional

from halometry.lensfit.likelihood import GaussianLikelihood
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, covariance, robust_covariance
from halometry.lensfit.parametrization import Parametrization
from halometry.lensfit.subhalos.posterior import MAX_R_HAT, SubhaloPosterior
from halometry.simulation.preset import Preset
from halometry.simulation.scene import Scene

MAX_CHI2_DEVIATION_STD = 5  # standard deviations of the reduced chi-square


@dataclass(frozen=True)
class FittedParameter:
    """One parameter: value, standard error, unit."""

    name: str
    value: float
    error: float
    unit: str


@dataclass(frozen=True)
class FitDiagnostics:
    """How a fit came about.

    Attributes:
        gain: by how much 2 ln L grew with all substructure that was added.
        gains: with each piece of it when it was added.
        starts: how many of the starts came to the same optimum at the coarse stage.
        seconds: that it took.
    """

    delta_2lnl: float
    delta_2lnl_steps: tuple[float, ...]
    agreeing_starts: int
    seconds: float

    def record(self) -> dict[str, Any]:
        """Return the diagnostics as plain data."""
        return {
            "delta_2lnL": self.delta_2lnl,
            "delta_2lnL_steps": list(self.delta_2lnl_steps),
            "agreeing_starts": self.agreeing_starts,
            "seconds": self.seconds,
        }


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

    path: str
    preset: str
    parameters: tuple[FittedParameter, ...]
    reduced_chi2: float
    reduced_chi2_std: float
    deviance: float
    converged: bool
    is_counts: bool
    diagnostics: FitDiagnostics
    gaussian_variance: float
    pixel_scale: float
    data: np.ndarray
    model: np.ndarray
    residual: np.ndarray
    scene: Scene
    parametrization: Parametrization
    theta: Tensor
    covariance: Tensor
    subhalo_posterior: SubhaloPosterior | None = None
    convergence: np.ndarray | None = None

    def parameter(self, name: str) -> FittedParameter:
        """One parameter by its name."""
        return next(e for e in self.parameters if e.name == name)

    @property
    def warning(self) -> str:
        """Why not to believe it; nothing if there is no reason."""
        if (
            self.is_counts
            and abs(self.reduced_chi2 - 1) > MAX_CHI2_DEVIATION_STD * self.reduced_chi2_std
        ):
            return "the model does not describe the image, or a better optimum was missed"
        if self.subhalo_posterior is not None and self.subhalo_posterior.r_hat > MAX_R_HAT:
            return "the chains of its subhalos do not agree; the mass fraction's error is too small"
        return "" if self.converged else "not quite at an optimum; its errors may be too small"

    def record(self) -> dict[str, Any]:
        """Return everything but the images as plain data, as `fits.json` holds it."""
        record = {
            "image": self.path,
            "preset": self.preset,
            "reduced_chi2": self.reduced_chi2,
            "reduced_chi2_std": self.reduced_chi2_std,
            "deviance": self.deviance,
            "converged": self.converged,
            "is_counts": self.is_counts,
            "warning": self.warning,
            **self.diagnostics.record(),
            "parameters": {
                p.name: {"value": p.value, "error": p.error, "unit": p.unit}
                for p in self.parameters
            },
        }
        if self.subhalo_posterior is not None:
            record["posterior"] = self.subhalo_posterior.record()
        return record


def build_fit(
    file: str,
    preset: Preset,
    layout: Parametrization,
    optimum: Optimum,
    data: FitData,
    taken: FitDiagnostics,
    sampled: SubhaloPosterior | None = None,
    convergence: Tensor | None = None,
) -> Fit:
    """Put an optimum into words; `optimum` has one row, at full resolution."""
    likelihood = data.likelihood(1)
    expected = optimum.expected[:1]
    residual = likelihood.score(expected) / likelihood.inverse_variance(expected).sqrt()
    chi_square = float((residual**2).sum()) / (residual.numel() - len(layout))
    shape = tuple(data.values.shape)
    steps = layout.steps.to(expected)
    if isinstance(
        likelihood, GaussianLikelihood
    ):  # the noise is known no better than from the residuals
        scores = likelihood.score(expected).view(shape)
        spread = robust_covariance(optimum.derivatives[0], scores, optimum.fisher[0], steps)
    else:
        spread = covariance(optimum.fisher[0], steps)
    estimates = _fitted_parameters(layout, optimum.theta[0], spread)
    if sampled is not None:
        mean, scatter = sampled.parameter_shifts.mean(dim=0), sampled.parameter_shifts.T.cov()
        mass = sampled.mass_fractions
        estimates = (
            *_fitted_parameters(layout, optimum.theta[0] + mean, spread + scatter),
            FittedParameter("mass_fraction", float(mass.mean()), float(mass.std()), ""),
        )
    return Fit(
        path=file,
        preset=preset.name,
        parameters=estimates,
        reduced_chi2=chi_square,
        reduced_chi2_std=likelihood.reduced_chi2_std(expected),
        deviance=float(optimum.deviance[0]),
        converged=bool(optimum.converged[0]),
        is_counts=not isinstance(likelihood, GaussianLikelihood),
        diagnostics=taken,
        gaussian_variance=data.gaussian_variance,
        pixel_scale=preset.image.pixel_scale,
        data=likelihood.data.view(shape).cpu().numpy(),
        model=expected[0].view(shape).cpu().numpy(),
        residual=residual[0].view(shape).cpu().numpy(),
        scene=layout.scene(optimum.theta[:1]).to("cpu", torch.float64),
        parametrization=layout,
        theta=optimum.theta[0],
        covariance=spread,
        subhalo_posterior=sampled,
        convergence=None if convergence is None else convergence.cpu().numpy(),
    )


def _fitted_parameters(
    layout: Parametrization, theta: Tensor, spread: Tensor
) -> tuple[FittedParameter, ...]:
    """All that a layout tells, errors carried over to first order."""
    names = list(layout.units)
    told = layout.derived_parameters(theta[None])
    jacobian = _jacobian(_telling(layout, names), theta)
    variance = ((jacobian @ spread) * jacobian).sum(dim=1)
    return tuple(
        FittedParameter(name, float(told[name][0]), float(v) ** 0.5, layout.units[name])
        for name, v in zip(names, variance, strict=True)
    )


def _telling(layout: Parametrization, names: list[str]) -> Callable[[Tensor], Tensor]:
    def tell(theta: Tensor) -> Tensor:
        told = layout.derived_parameters(theta[None])
        return torch.cat([told[name] for name in names])

    return tell


# torch leaves it untyped.
_jacobian: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] = functional.jacobian
