"""The posterior of the mass in subhalos: how many there are, where, and how heavy, by sampling."""

from __future__ import annotations

from dataclasses import dataclass
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
STEPS_PER_ROUND = (
    3000,
    3000,
    16_000,
)  # steps of each chain, between which effects are rendered anew
BURN_IN_FRACTION = 0.3  # of the last round
THINNING_STEPS = 50  # steps, of which one is kept
MAX_R_HAT = 1.2  # potential scale reduction above which chains do not agree
MASS_QUANTILES = {"lo95": 0.025, "lo68": 0.16, "median": 0.5, "hi68": 0.84, "hi95": 0.975}


@dataclass(frozen=True)
class SubhaloPosterior:
    """Draws of the posterior of an image's subhalos.

    Attributes:
        mass_fractions: in all subhalos (S, C), S draws of C chains.
        numbers: of subhalos (S, C).
        shifts: by how much the lens's coordinates differ from the fit's in each draw (S C, P).
        density: the mean mass fraction in each pixel (H, W).
    """

    mass_fractions: np.ndarray
    numbers: np.ndarray
    parameter_shifts: Tensor
    mean_mass: np.ndarray

    @property
    def r_hat(self) -> float:
        """The potential scale reduction of the mass fraction: 1 where the chains agree.

        Reference:
            Gelman & Rubin 1992, Statistical Science 7, 457.
        """
        within = self.mass_fractions.var(axis=0, ddof=1).mean()
        between = self.mass_fractions.mean(axis=0).var(ddof=1)
        return float((1 + between / within) ** 0.5)

    def record(self) -> dict[str, Any]:
        """The posterior of the mass fraction as plain data."""
        every = self.mass_fractions
        return {
            "mass_fraction": {k: float(np.quantile(every, q)) for k, q in MASS_QUANTILES.items()},
            "number": float(self.numbers.mean()),
            "draws": every.size,
            "r_hat": self.r_hat,
        }


def check_subhalo_mcmc(preset: Preset, vortex: bool, device: str) -> None:
    """Whether the subhalos of a preset's images can be sampled at all.

    Raises:
        UsageError: they cannot: by the preset's laws or noise, beside a line of mass, or on
            another device than the CPU.
    """
    SubhaloPrior.from_preset(preset)
    if not noise_is_known(preset.image):
        raise UsageError(
            f"preset {preset.name}: sampling takes images with Poisson noise alone, or with"
            " Gaussian noise of a known size"
        )
    if device != "cpu":
        raise UsageError(f"--subhalos sampled: runs on the CPU; give --device cpu, not {device}")
    if vortex:
        raise UsageError("--subhalos sampled: takes no --vortex beside them")


def sample_subhalos(
    full: Resolution, data: FitData, layout: Parametrization, optimum: Optimum, seed: int
) -> tuple[Parametrization, Optimum, SubhaloPosterior]:
    """Sample the subhalos of an image by the laws of its preset.

    The image is linear in their effects (`Effects`) around a fitted lens. That lens is smooth at
    first, and then has the subhalos of the likeliest of the chains, so that what the image is not
    linear in becomes small.

    Args:
        full: at which `optimum` was found, with the preset.
        data: the image.
        layout, optimum: of the lens without subhalos.
        seed: of the chains.

    Returns:
        Layout and optimum of the lens with the subhalos of one chain, and the draws.

    Raises:
        UsageError: the preset's subhalos follow other laws than those of `Laws`.

    References:
        Brewer, Huijser & Lewis 2016, MNRAS 455, 1819; Daylan et al. 2018, ApJ 854, 141.
    """
    laws = SubhaloPrior.from_preset(full.preset)
    chains = SubhaloMCMC(laws, N_CHAINS, seed)
    for number, steps in enumerate(STEPS_PER_ROUND):
        if number:
            layout = _with(layout, chains, int(chains.log_likelihood().argmax()))
            optimum = maximize_likelihood(full.model(layout), data.likelihood(1), optimum.theta)
        effects = compute_response(full.model(layout), data, optimum, laws)
        chains.set_response(effects)
        if number + 1 < len(STEPS_PER_ROUND):
            chains.run(steps)
    return layout, optimum, _drawn(chains, effects, layout, full.preset.image)


def _drawn(
    chains: SubhaloMCMC, effects: LinearResponse, layout: Parametrization, spec: ImageSpec
) -> SubhaloPosterior:
    """The draws of the last round."""
    chains.run(int(BURN_IN_FRACTION * STEPS_PER_ROUND[-1]))
    here = layout.template
    share = here.subhalo_mass[0] / here.halo_mass
    own = effects.interpolate(here.subhalo_x[0].numpy(), here.subhalo_y[0].numpy(), share.numpy())
    there = effects.parameter_shifts[:, own[0].ravel()] @ own[1].ravel()
    totals, numbers, shifts = [], [], []
    half = spec.pixels * spec.pixel_scale / 2
    density = np.zeros((spec.pixels, spec.pixels))
    for _ in range(round((1 - BURN_IN_FRACTION) * STEPS_PER_ROUND[-1] / THINNING_STEPS)):
        chains.run(THINNING_STEPS)
        totals.append(chains.mass_fraction)
        numbers.append(chains.number.copy())
        along = (effects.parameter_shifts[:, chains.nodes] * chains.weights).sum(axis=(2, 3))
        shifts.append(there[:, None] - along)
        density += np.histogram2d(
            chains.y.ravel(),
            chains.x.ravel(),
            bins=spec.pixels,
            range=[[-half, half]] * 2,
            weights=chains.mass.ravel(),
        )[0]
    moved = np.concatenate(shifts, axis=1).T
    return SubhaloPosterior(
        np.array(totals),
        np.array(numbers),
        torch.from_numpy(moved),
        density / (len(totals) * N_CHAINS),
    )


def _with(layout: Parametrization, chains: SubhaloMCMC, chosen: int) -> Parametrization:
    """The same parameters, beside the subhalos of one chain."""
    template, number = layout.template, chains.number[chosen]
    points = (
        torch.from_numpy(of[chosen, None, :number].copy()).to(template.f_sub)
        for of in (chains.mass, chains.x, chains.y)
    )
    return Parametrization(layout.blocks, with_point_masses(template, *points))
