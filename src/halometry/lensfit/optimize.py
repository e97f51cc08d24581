"""Maximum of the likelihood by damped Fisher scoring, for a batch of starts at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from halometry.lensfit.likelihood import Likelihood, Model
from halometry.lensfit.parametrization import Parametrization

INITIAL_DAMPING = 1e-2
MAX_DAMPING = 1e3  # above it a start is given up
CONVERGED_DECREASE = 0.5  # of the deviance, as predicted for the next step, at convergence
NEW_DERIVATIVES_DECREASE = 1.0  # predicted decrease of the deviance above which they are computed
NOISE_WINDOW_PIXELS = 5  # side of the window over which squared scores are averaged
PRIOR_WIDTH_STEPS = 100.0  # standard deviation of a coordinate that the data do not constrain


@dataclass(frozen=True)
class Optimum:
    """End points of a batch of starts.

    Attributes:
        parametrization: of the coordinates.
        theta: coordinates (B, P).
        deviance: -2 ln L up to a constant (B,).
        expected: expectation of the image (B, N).
        derivatives: of the expectation by the coordinates (B, P, N).
        fisher: Fisher information of the coordinates (B, P, P).
        converged: whether the next step would change the deviance by next to nothing (B,).
    """

    parametrization: Parametrization
    theta: Tensor
    deviance: Tensor
    expected: Tensor
    derivatives: Tensor
    fisher: Tensor
    converged: Tensor

    def rows(self, index: Tensor) -> Optimum:
        """Return some of the end points."""
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        return Optimum(self.parametrization, **{k: v[index] for k, v in tensors.items()})

    def best(self, count: int = 1) -> Optimum:
        """Return the end points with the lowest deviance, best first."""
        return self.rows(self.deviance.argsort()[:count])


def maximize_likelihood(
    model: Model,
    likelihood: Likelihood,
    start: Tensor,
    *,
    iterations: int = 20,
    tolerance: float = 1e-2,
) -> Optimum:
    """Find the nearest maximum of the likelihood from each start.

    The method is Levenberg-Marquardt with the Fisher information in place of the Hessian and one
    damping per start (Nocedal & Wright 2006, ch. 10). Close to the maximum the derivatives of the
    last iteration are used again: this costs a few cheap iterations and saves expensive ones.

    Args:
        model: to fit.
        likelihood: of the data.
        start: coordinates (B, P).
        iterations: largest number.
        tolerance: decrease of the deviance, predicted or achieved, at which a start has converged.
    """
    steps = model.parametrization.steps.to(start)
    theta = start.clone()
    expected, derivatives = model.linearized(theta)
    deviance = likelihood.deviance(expected)
    damping = torch.full_like(deviance, INITIAL_DAMPING)
    current = torch.ones_like(deviance, dtype=torch.bool)  # whether derivatives are those at theta
    done = ~deviance.isfinite()
    for _ in range(iterations):
        active = (~done).nonzero()[:, 0]
        if not len(active):
            break
        step, predicted = damped_step(
            likelihood, expected[active], derivatives[active], damping[active], steps
        )
        finished = (predicted < tolerance) & (current[active] | (predicted < tolerance / 10))
        done[active[finished]] = True
        active, step, predicted = active[~finished], step[~finished], predicted[~finished]
        if not len(active):
            continue
        trial = theta[active] + step
        trial_expected = model.expected(trial)
        trial_deviance = likelihood.deviance(trial_expected)
        better = trial_deviance < deviance[active]
        accepted, rejected = active[better], active[~better]
        # A strongly damped step gains little even far from the maximum, so that only the gain of
        # a weakly damped one says that the maximum is reached.
        weakly_damped = current[accepted] & (damping[accepted] <= INITIAL_DAMPING)
        decrease = deviance[accepted] - trial_deviance[better]
        done[accepted] = weakly_damped & (decrease < tolerance)
        theta[accepted] = trial[better]
        expected[accepted] = trial_expected[better]
        deviance[accepted] = trial_deviance[better]
        damping[accepted] = (damping[accepted] * 0.2).clamp_min(1e-6)
        # After a rejected step old derivatives are renewed; with new ones the damping is raised.
        damping[rejected] = torch.where(current[rejected], damping[rejected] * 5, damping[rejected])
        done[rejected] = damping[rejected] > MAX_DAMPING
        far = predicted[better] > NEW_DERIVATIVES_DECREASE
        renewed = torch.cat([accepted[far], rejected[~current[rejected]]])
        current[accepted] = False
        if len(renewed):
            expected[renewed], derivatives[renewed] = model.linearized(theta[renewed])
            current[renewed] = True
    fisher = fisher_information(derivatives, likelihood.inverse_variance(expected))
    undamped = torch.zeros_like(damping)
    _, predicted = damped_step(likelihood, expected, derivatives, undamped, steps)
    return Optimum(
        model.parametrization,
        theta,
        deviance,
        expected,
        derivatives,
        fisher,
        predicted < CONVERGED_DECREASE,
    )


def fisher_information(derivatives: Tensor, inverse_variance: Tensor) -> Tensor:
    """Compute the Fisher information (B, P, P).

    Args:
        derivatives: of the expectation (B, P, N).
        inverse_variance: of the pixels (B, N).
    """
    return (derivatives * inverse_variance[:, None]) @ derivatives.mT


def covariance(fisher: Tensor, steps: Tensor) -> Tensor:
    """Compute the covariance (..., P, P) of coordinates.

    A coordinate that the data do not constrain has a standard deviation of `PRIOR_WIDTH_STEPS`
    steps.

    Args:
        fisher: Fisher information (..., P, P).
        steps: largest change of each coordinate in one iteration (P,).
    """
    return torch.linalg.inv(fisher + torch.diag((PRIOR_WIDTH_STEPS * steps) ** -2))


def robust_covariance(derivatives: Tensor, scores: Tensor, fisher: Tensor, steps: Tensor) -> Tensor:
    """Compute the covariance (P, P) of coordinates without relying on the assumed noise.

    This is the sandwich estimator. The noise of each pixel is taken from the squared scores,
    averaged over a window of `NOISE_WINDOW_PIXELS`; it may differ across the image.

    Args:
        derivatives: of the expectation (P, N).
        scores: (data - expectation) / variance of each pixel (H, W).
        fisher: Fisher information (P, P).
        steps: largest change of each coordinate in one iteration (P,).

    Reference:
        White (1980), Econometrica 48, 817.
    """
    squares = scores.square()[None, None]
    mean_squares = avg_pool2d(
        squares, NOISE_WINDOW_PIXELS, 1, NOISE_WINDOW_PIXELS // 2, count_include_pad=False
    ).flatten()
    prior = torch.diag((PRIOR_WIDTH_STEPS * steps) ** -2)
    middle = fisher_information(derivatives[None], mean_squares[None])[0] + prior
    outer = covariance(fisher, steps)
    return outer @ middle @ outer


def damped_step(
    likelihood: Likelihood, expected: Tensor, derivatives: Tensor, damping: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute one damped step of Fisher scoring.

    Args:
        likelihood: of the data.
        expected: expectations (B, N).
        derivatives: of the expectations (B, P, N).
        damping: (B,); 0 for a plain step.
        steps: largest change of each coordinate (P,); longer steps are shortened.

    Returns:
        The change of the coordinates (B, P), and the decrease of the deviance that it should
        achieve (B,).
    """
    gradient = (derivatives @ likelihood.score(expected)[:, :, None])[:, :, 0]
    fisher = fisher_information(derivatives, likelihood.inverse_variance(expected))
    prior = (PRIOR_WIDTH_STEPS * steps) ** -2
    diagonal = fisher.diagonal(dim1=1, dim2=2) + prior
    damped = fisher + torch.diag_embed(damping[:, None] * diagonal + prior)
    step = torch.linalg.solve(damped, gradient)
    step = step / (step.abs() / steps).amax(dim=1, keepdim=True).clamp_min(1)
    predicted = (
        2 * (gradient * step).sum(dim=1) - (step[:, None] @ fisher @ step[:, :, None]).flatten()
    )
    return step, predicted
