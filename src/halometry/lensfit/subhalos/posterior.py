"""Posterior of the subhalos of one image: their number, positions and masses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halometry.errors import UsageError
from halometry.lensfit.likelihood import Resolution
from halometry.lensfit.observation import FitData, noise_is_known
from halometry.lensfit.optimize import Optimum, maximize_likelihood
from halometry.lensfit.parametrization import Parametrization, with_point_masses
from halometry.lensfit.subhalos.mcmc import SubhaloMCMC
from halometry.lensfit.subhalos.priors import SubhaloPrior
from halometry.lensfit.subhalos.response import LinearResponse, compute_response
from halometry.simulation.instrument import ImageSpec
from halometry.simulation.preset import Preset

N_CHAINS = 8
STEPS_PER_ROUND = (3000, 3000, 16_000)  # of each chain; the response is renewed between rounds
BURN_IN_FRACTION = 0.3  # of the last round
THINNING_STEPS = 50  # between draws that are stored
MAX_R_HAT = 1.2  # above it the chains disagree
MASS_QUANTILES = {"lo95": 0.025, "lo68": 0.16, "median": 0.5, "hi68": 0.84, "hi95": 0.975}


@dataclass(frozen=True)
class SubhaloPosterior:
    """Draws from the posterior of an image's subhalos.

    Attributes:
        mass_fractions: mass of all subhalos over the mass of the halo; S draws of C chains (S, C).
        numbers: number of subhalos (S, C).
        parameter_shifts: differences of the lens's coordinates from the fit, in each draw (S C, P).
        mean_mass: mean mass fraction in each pixel (H, W).
    """

    mass_fractions: np.ndarray
    numbers: np.ndarray
    parameter_shifts: Tensor
    mean_mass: np.ndarray

    @property
    def r_hat(self) -> float:
        """Gelman-Rubin statistic (R-hat) of the mass fraction; 1 if the chains agree.

        Reference:
            Gelman & Rubin (1992), Statistical Science 7, 457.
        """
        within = self.mass_fractions.var(axis=0, ddof=1).mean()
        between = self.mass_fractions.mean(axis=0).var(ddof=1)
        return float((1 + between / within) ** 0.5)

    def record(self) -> dict[str, Any]:
        """Return a summary of the posterior as plain data."""
        draws = self.mass_fractions
        return {
            "mass_fraction": {k: float(np.quantile(draws, q)) for k, q in MASS_QUANTILES.items()},
            "number": float(self.numbers.mean()),
            "draws": draws.size,
            "r_hat": self.r_hat,
        }


def check_subhalo_mcmc(preset: Preset, vortex: bool, device: str) -> None:
    """Check that the subhalos of a preset's images can be sampled.

    Args:
        preset: of the images.
        vortex: whether a vortex is fitted, too.
        device: of the fit.

    Raises:
        UsageError: the preset's distributions or noise are of another kind, a vortex is fitted, or
            the device is not the CPU.
    """
    SubhaloPrior.from_preset(preset)
    if not noise_is_known(preset.image):
        raise UsageError(
            f"preset {preset.name}: sampling takes images with Poisson noise alone, or with"
            " Gaussian noise of a known size"
        )
    if device != "cpu":
        raise UsageError(f"--subhalo-method mcmc: runs on the CPU; give --device cpu, not {device}")
    if vortex:
        raise UsageError("--subhalo-method mcmc: cannot fit a vortex, too; leave out --vortex")


def sample_subhalos(
    full: Resolution, data: FitData, optimum: Optimum, seed: int
) -> tuple[Optimum, SubhaloPosterior]:
    """Sample the posterior of the subhalos of an image.

    The image is taken as linear in the subhalos around a fitted lens (`LinearResponse`). That lens
    is smooth at first. In later rounds it has the subhalos of the most likely chain, so that the
    error of the linear approximation becomes small.

    Args:
        full: resolution of `optimum`, with the preset.
        data: the image.
        optimum: the lens without subhalos, one row.
        seed: of the chains.

    Returns:
        The optimum with the subhalos of one chain held, and the posterior.

    Raises:
        UsageError: as `SubhaloPrior.from_preset`.

    References:
        Brewer, Huijser & Lewis (2016), MNRAS 455, 1819; Daylan et al. (2018), ApJ 854, 141.
    """
    prior = SubhaloPrior.from_preset(full.preset)
    mcmc = SubhaloMCMC(prior, N_CHAINS, seed)
    for number, steps in enumerate(STEPS_PER_ROUND):
        if number:
            best = int(mcmc.log_likelihood().argmax())
            parametrization = _with_subhalos_of_chain(optimum.parametrization, mcmc, best)
            model = full.model(parametrization)
            optimum = maximize_likelihood(model, data.likelihood(1), optimum.theta)
        response = compute_response(full.model(optimum.parametrization), data, optimum, prior)
        mcmc.set_response(response)
        if number + 1 < len(STEPS_PER_ROUND):
            mcmc.run(steps)
    return optimum, _sample_last_round(mcmc, response, optimum.parametrization, full.preset.image)


def _sample_last_round(
    mcmc: SubhaloMCMC,
    response: LinearResponse,
    parametrization: Parametrization,
    spec: ImageSpec,
) -> SubhaloPosterior:
    """Run the last round of the chains and store their draws."""
    mcmc.run(int(BURN_IN_FRACTION * STEPS_PER_ROUND[-1]))
    template = parametrization.template
    fraction = template.subhalo_mass[0] / template.halo_mass
    nodes, weights = response.interpolate(
        template.subhalo_x[0].numpy(), template.subhalo_y[0].numpy(), fraction.numpy()
    )
    held_shift = response.parameter_shifts[:, nodes.ravel()] @ weights.ravel()
    mass_fractions, numbers, shifts = [], [], []
    half = spec.pixels * spec.pixel_scale / 2
    mass = np.zeros((spec.pixels, spec.pixels))
    for _ in range(round((1 - BURN_IN_FRACTION) * STEPS_PER_ROUND[-1] / THINNING_STEPS)):
        mcmc.run(THINNING_STEPS)
        mass_fractions.append(mcmc.mass_fraction)
        numbers.append(mcmc.number.copy())
        shift = (response.parameter_shifts[:, mcmc.nodes] * mcmc.weights).sum(axis=(2, 3))
        shifts.append(held_shift[:, None] - shift)
        mass += np.histogram2d(
            mcmc.y.ravel(),
            mcmc.x.ravel(),
            bins=spec.pixels,
            range=[[-half, half]] * 2,
            weights=mcmc.mass.ravel(),
        )[0]
    return SubhaloPosterior(
        np.array(mass_fractions),
        np.array(numbers),
        torch.from_numpy(np.concatenate(shifts, axis=1).T),
        mass / (len(mass_fractions) * N_CHAINS),
    )


def _with_subhalos_of_chain(
    parametrization: Parametrization, mcmc: SubhaloMCMC, chain: int
) -> Parametrization:
    """Return the parametrization with the subhalos of one chain held."""
    template, number = parametrization.template, mcmc.number[chain]
    fraction, x, y = (
        torch.from_numpy(state[chain, None, :number].copy()).to(template.f_sub)
        for state in (mcmc.mass, mcmc.x, mcmc.y)
    )
    return replace(parametrization, template=with_point_masses(template, fraction, x, y))
