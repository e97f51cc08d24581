"""Result of a fit: parameters with errors, goodness of fit, model and residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import functional

from halometry.errors import ReadError
from halometry.lensfit.likelihood import GaussianLikelihood
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, covariance, robust_covariance
from halometry.lensfit.parametrization import Parametrization
from halometry.lensfit.subhalos.posterior import MAX_R_HAT, SubhaloPosterior
from halometry.simulation.preset import Preset
from halometry.simulation.scene import Scene

MAX_CHI2_DEVIATION_STD = 5  # of the reduced chi-square from 1, in its standard deviations


@dataclass(frozen=True)
class FittedParameter:
    """Fitted parameter: name, value, standard error and unit."""

    name: str
    value: float
    error: float
    unit: str


@dataclass(frozen=True)
class FitDiagnostics:
    """Diagnostics of how a fit was found.

    Attributes:
        delta_2lnl: gain in 2 ln L by all added substructure.
        delta_2lnl_steps: gain in 2 ln L by each piece of substructure when it was added.
        agreeing_starts: number of starts that reached the best optimum at the coarse resolution.
        seconds: duration of the fit.
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
    """Fit of one image.

    Attributes:
        path: of the image, as given, and `#k` for image k of a file.
        preset: name of the preset.
        parameters: with standard errors from the Fisher information.
        reduced_chi2: sum of (data - model)^2 / variance over pixels less parameters.
        reduced_chi2_std: standard deviation of `reduced_chi2` for a true model.
        deviance: -2 ln L, up to a constant of the data.
        converged: whether the optimizer converged.
        is_counts: whether the pixels are whole counts; otherwise the noise was estimated.
        diagnostics: of how the fit was found.
        gaussian_variance: variance of the Gaussian noise, counts squared.
        pixel_scale: arcsec.
        data: pixels (H, W), with the count offset that scaling had removed.
        model: expected pixels (H, W), in the unit of the data.
        residual: (data - model) / noise (H, W).
        scene: the fitted lens, one row.
        parametrization: of the fitted coordinates.
        theta: fitted coordinates (P,).
        covariance: of the coordinates (P, P).
        subhalo_posterior: posterior of the subhalos, if sampled. The model is then that of one
            draw; the errors of `parameters` include the scatter of all draws.
        convergence: mass map that explains the residual, as convergence (h, w) over the whole
            image, if asked for.
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
        """Return one parameter by its name.

        Raises:
            KeyError: there is none.
        """
        return {parameter.name: parameter for parameter in self.parameters}[name]

    @property
    def warning(self) -> str:
        """Reason why the fit may be wrong; empty if there is none."""
        deviation = abs(self.reduced_chi2 - 1)
        if self.is_counts and deviation > MAX_CHI2_DEVIATION_STD * self.reduced_chi2_std:
            return "the model does not describe the image, or a better optimum was missed"
        if self.subhalo_posterior is not None and self.subhalo_posterior.r_hat > MAX_R_HAT:
            return "the Markov chains disagree; the error of the mass fraction is too small"
        return "" if self.converged else "the fit did not converge; its errors may be too small"

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


FitResult = Fit | ReadError  # fit of an image, or why it could not be read


def build_fit(
    path: str,
    preset: Preset,
    optimum: Optimum,
    data: FitData,
    *,
    diagnostics: FitDiagnostics,
    posterior: SubhaloPosterior | None = None,
) -> Fit:
    """Return the fit that an optimum stands for.

    Args:
        path: of the image.
        preset: of the image.
        optimum: one row, at full resolution.
        data: the image.
        diagnostics: of how the optimum was found.
        posterior: of the subhalos, if sampled.
    """
    parametrization, likelihood = optimum.parametrization, data.likelihood(1)
    expected = optimum.expected[:1]
    residual = likelihood.score(expected) / likelihood.inverse_variance(expected).sqrt()
    reduced_chi2 = float((residual**2).sum()) / (residual.numel() - len(parametrization))
    shape = tuple(data.values.shape)
    steps = parametrization.steps.to(expected)
    if isinstance(likelihood, GaussianLikelihood):  # the noise is known only from the residuals
        scores = likelihood.score(expected).view(shape)
        covariance_ = robust_covariance(optimum.derivatives[0], scores, optimum.fisher[0], steps)
    else:
        covariance_ = covariance(optimum.fisher[0], steps)
    parameters = _fitted_parameters(parametrization, optimum.theta[0], covariance_)
    if posterior is not None:
        shifts, mass = posterior.parameter_shifts, posterior.mass_fractions
        mean, scatter = shifts.mean(dim=0), shifts.T.cov()
        parameters = (
            *_fitted_parameters(parametrization, optimum.theta[0] + mean, covariance_ + scatter),
            FittedParameter("mass_fraction", float(mass.mean()), float(mass.std()), ""),
        )
    return Fit(
        path=path,
        preset=preset.name,
        parameters=parameters,
        reduced_chi2=reduced_chi2,
        reduced_chi2_std=likelihood.reduced_chi2_std(expected),
        deviance=float(optimum.deviance[0]),
        converged=bool(optimum.converged[0]),
        is_counts=not isinstance(likelihood, GaussianLikelihood),
        diagnostics=diagnostics,
        gaussian_variance=data.gaussian_variance,
        pixel_scale=preset.image.pixel_scale,
        data=likelihood.data.view(shape).cpu().numpy(),
        model=expected[0].view(shape).cpu().numpy(),
        residual=residual[0].view(shape).cpu().numpy(),
        scene=parametrization.scene(optimum.theta[:1]).to("cpu", torch.float64),
        parametrization=parametrization,
        theta=optimum.theta[0],
        covariance=covariance_,
        subhalo_posterior=posterior,
    )


def _fitted_parameters(
    parametrization: Parametrization, theta: Tensor, covariance: Tensor
) -> tuple[FittedParameter, ...]:
    """Return all reported parameters, with errors propagated to first order.

    Args:
        parametrization: of the coordinates.
        theta: coordinates (P,).
        covariance: of the coordinates (P, P).
    """
    units = parametrization.units

    def values(theta: Tensor) -> Tensor:
        derived = parametrization.derived_parameters(theta[None])
        return torch.cat([derived[name] for name in units])

    jacobian = _jacobian(values, theta)
    variance = ((jacobian @ covariance) * jacobian).sum(dim=1)
    return tuple(
        FittedParameter(name, float(value), float(v) ** 0.5, units[name])
        for name, value, v in zip(units, values(theta), variance, strict=True)
    )


# torch has no types for it.
_jacobian: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] = functional.jacobian
