"""Fisher scoring with damping, for a batch of starts at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from halometry.lensfit.likelihood import Likelihood, Model

INITIAL_DAMPING = 1e-2
MAX_DAMPING = 1e3  # damping at which no step helps
CONVERGED_DECREASE = 0.5  # decrease of the deviance still predicted, below which an optimum is one
NEW_DERIVATIVES_DECREASE = (
    1.0  # predicted decrease of the deviance below which derivatives are kept
)
NOISE_WINDOW_PIXELS = 5  # pixels across, over which residuals tell the noise
PRIOR_WIDTH_STEPS = 100.0  # steps: a coordinate less certain than this counts as unknown


@dataclass(frozen=True)
class Optimum:
    """Where a batch of starts came to.

    Attributes:
        theta: coordinates (B, P).
        deviance: -2 ln L up to a constant (B,).
        expected: the image's expectation (B, N).
        derivatives: of that by the coordinates (B, P, N).
        fisher: information of the coordinates (B, P, P).
        converged: whether the next step promises next to nothing (B,).
    """

    theta: Tensor
    deviance: Tensor
    expected: Tensor
    derivatives: Tensor
    fisher: Tensor
    converged: Tensor

    def rows(self, index: Tensor) -> Optimum:
        """Some of them."""
        return Optimum(**{k: v[index] for k, v in vars(self).items()})

    def best(self, count: int = 1) -> Optimum:
        """Those of the lowest deviance, best first."""
        return self.rows(self.deviance.argsort()[:count])


def maximize_likelihood(
    model: Model,
    likelihood: Likelihood,
    start: Tensor,
    iterations: int = 20,
    tolerance: float = 1e-2,
) -> Optimum:
    """Climb to the nearest maximum of the likelihood from each start.

    Levenberg-Marquardt with the Fisher information in place of the Hessian and a damping for
    each start (Nocedal & Wright 2006, ch. 10). Close to the maximum derivatives are kept from
    one iteration to the next, which costs a few cheap iterations and saves dear ones.

    Args:
        model, likelihood: what is maximized.
        start: coordinates (B, P).
        iterations: at most.
        tolerance: decrease of the deviance, predicted or brought, at which a start is done.
    """
    steps = model.parametrization.steps.to(start)
    theta = start.clone()
    expected, derivatives = model.linearized(theta)
    deviance = likelihood.deviance(expected)
    damping = torch.full_like(deviance, INITIAL_DAMPING)
    fresh = torch.ones_like(deviance, dtype=torch.bool)
    done = ~deviance.isfinite()
    for _ in range(iterations):
        active = (~done).nonzero()[:, 0]
        if not len(active):
            break
        step, predicted = _damped_step(
            likelihood, expected[active], derivatives[active], damping[active], steps
        )
        finished = (predicted < tolerance) & (fresh[active] | (predicted < tolerance / 10))
        done[active[finished]] = True
        active, step, predicted = active[~finished], step[~finished], predicted[~finished]
        if not len(active):
            continue
        trial = theta[active] + step
        at_trial = model.expected(trial)
        reached = likelihood.deviance(at_trial)
        better = reached < deviance[active]
        won, lost = active[better], active[~better]
        # A short step brings little even far from the maximum: only free ones tell.
        free = fresh[won] & (damping[won] <= INITIAL_DAMPING)
        done[won] = free & (deviance[won] - reached[better] < tolerance)
        theta[won], expected[won], deviance[won] = trial[better], at_trial[better], reached[better]
        damping[won] = (damping[won] * 0.2).clamp_min(1e-6)
        # A failure with old derivatives asks for new ones, with new ones for a shorter step.
        damping[lost] = torch.where(fresh[lost], damping[lost] * 5, damping[lost])
        done[lost] = damping[lost] > MAX_DAMPING
        far = predicted[better] > NEW_DERIVATIVES_DECREASE
        anew = torch.cat([won[far], lost[~fresh[lost]]])
        fresh[won] = False
        if len(anew):
            expected[anew], derivatives[anew] = model.linearized(theta[anew])
            fresh[anew] = True
    fisher = fisher_information(derivatives, likelihood.inverse_variance(expected))
    none = torch.zeros_like(damping)
    _, left = _damped_step(likelihood, expected, derivatives, none, steps)
    return Optimum(theta, deviance, expected, derivatives, fisher, left < CONVERGED_DECREASE)


def fisher_information(derivatives: Tensor, weight: Tensor) -> Tensor:
    """The Fisher information (B, P, P) of derivatives (B, P, N) and weights (B, N)."""
    return (derivatives * weight[:, None]) @ derivatives.mT


def covariance(fisher: Tensor, steps: Tensor) -> Tensor:
    """The covariance of coordinates; what the data do not fix is uncertain by `LOOSE` steps.

    Args:
        fisher: (..., P, P).
        steps: of the coordinates (P,).
    """
    return torch.linalg.inv(fisher + torch.diag((PRIOR_WIDTH_STEPS * steps) ** -2))


def robust_covariance(derivatives: Tensor, scores: Tensor, fisher: Tensor, steps: Tensor) -> Tensor:
    """The covariance of coordinates (P, P) where the noise is not what it was taken for.

    The middle of the sandwich is what the residuals say of each pixel's noise, squared and
    averaged over `AROUND` x `AROUND` pixels: it need not be the same everywhere.

    Args:
        derivatives: of the expectation (P, N).
        scores: of each pixel, residuals times their weights (H, W).
        fisher: (P, P).
        steps: of the coordinates (P,).

    Reference:
        White (1980), Econometrica 48, 817.
    """
    squares = scores.square()[None, None]
    around = avg_pool2d(
        squares, NOISE_WINDOW_PIXELS, 1, NOISE_WINDOW_PIXELS // 2, count_include_pad=False
    ).flatten()
    middle = fisher_information(derivatives[None], around[None])[0] + torch.diag(
        (PRIOR_WIDTH_STEPS * steps) ** -2
    )
    outer = covariance(fisher, steps)
    return outer @ middle @ outer


def _damped_step(
    likelihood: Likelihood, expected: Tensor, derivatives: Tensor, damping: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """The damped step of each row, and the decrease of the deviance that it should bring."""
    gradient = (derivatives @ likelihood.score(expected)[:, :, None])[:, :, 0]
    fisher = fisher_information(derivatives, likelihood.inverse_variance(expected))
    floor = (PRIOR_WIDTH_STEPS * steps) ** -2
    diagonal = fisher.diagonal(dim1=1, dim2=2) + floor
    damped = fisher + torch.diag_embed(damping[:, None] * diagonal + floor)
    step = torch.linalg.solve(damped, gradient)
    step = step / (step.abs() / steps).amax(dim=1, keepdim=True).clamp_min(1)
    predicted = (
        2 * (gradient * step).sum(dim=1) - (step[:, None] @ fisher @ step[:, :, None]).flatten()
    )
    return step, predicted
