"""Substructure of a fit: a vortex, or point masses one after the other, where they gain most."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, get_args

import torch
from caustics.lenses.func import reduced_deflection_angle_point
from torch import Tensor

from halometry.errors import UsageError
from halometry.lensfit.detection import LinearizedImage, linearize_image
from halometry.lensfit.likelihood import Resolution
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, maximize_likelihood
from halometry.lensfit.parameter_blocks import subhalo_block, vortex_block
from halometry.lensfit.subhalos.posterior import check_subhalo_mcmc
from halometry.simulation import Preset
from halometry.simulation.lenses import SOFTENING
from halometry.simulation.profiles import reduced_deflection_angle_line

SubhaloMethod = Literal["greedy", "mcmc"]  # how subhalos are added: one by one, or sampled

VORTEX_ANGLES = 12  # in the search for starts
VORTEX_STARTS = 6
VORTEX_REFINED_STARTS = 2  # best ones after the first optimization
SUBHALO_STARTS = 3
MIN_PEAK_DISTANCE_ARCSEC = 0.25  # between positions of starts
MIN_START_FRACTION, MAX_START_FRACTION = 1e-4, 0.1  # limits of the mass fraction of a start
# Gain by which `greedy` accepts one more point mass; see docs/explanation/lens-fits.md.
MIN_DELTA_2LNL = 20.0
MAX_SUBHALOS = 30  # that `greedy` adds


def add_vortex(full: Resolution, native: Resolution, data: FitData, optimum: Optimum) -> Optimum:
    """Add a vortex (a line of mass) to a fitted lens and fit all again.

    Args:
        full: resolution of `optimum` and of the result.
        native: resolution of one ray per pixel, at which starts are compared.
        data: the image.
        optimum: the lens without the vortex, one row.
    """
    image = linearize_image(full.model(optimum.parametrization), data, optimum, binning=2)
    candidates = []
    for length in _vortex_lengths(full.preset):
        for k in range(VORTEX_ANGLES):
            angle = math.pi * k / VORTEX_ANGLES
            gain, fraction = image.delta_2lnl_map(_vortex_kernel(image, length, angle))
            candidates += [(*peak, length, angle) for peak in _peaks(image, gain, fraction, 1)]
    candidates.sort(reverse=True)
    block = vortex_block()
    names = ("vortex_fraction", "vortex_x", "vortex_y", "vortex_length", "vortex_angle")
    starts = torch.tensor([c[1:] for c in candidates[:VORTEX_STARTS]]).to(optimum.theta)
    added = block.coordinates(dict(zip(names, starts.T, strict=True)).__getitem__)
    parametrization = optimum.parametrization.with_blocks(block)
    theta = torch.cat([optimum.theta.expand(len(added), -1), added], dim=1)
    likelihood = data.likelihood(1)
    model = native.model(parametrization)
    fast = replace(model, fixed_derivatives=optimum.derivatives[0])
    best = maximize_likelihood(fast, likelihood, theta, iterations=8, tolerance=1)
    best = best.best(VORTEX_REFINED_STARTS)
    best = maximize_likelihood(model, likelihood, best.theta, iterations=6, tolerance=1).best()
    return maximize_likelihood(full.model(parametrization), likelihood, best.theta, iterations=20)


def add_subhalos(
    full: Resolution, native: Resolution, data: FitData, optimum: Optimum, number: int | None
) -> tuple[Optimum, list[float]]:
    """Add point masses to a fitted lens, each where it gains most, and fit all again each time.

    Args:
        full: resolution of `optimum` and of the result.
        native: resolution of one ray per pixel, at which they are searched for. It takes a quarter
            of the time and is nearly as accurate (see docs/explanation/lens-fits.md).
        data: the image.
        optimum: the lens without them, one row.
        number: how many to add; None for as many as gain `MIN_DELTA_2LNL` each.

    Returns:
        The optimum with the point masses, and the gain in 2 ln L by each when it was added.
    """
    gains: list[float] = []
    likelihood = data.likelihood(1)
    current = maximize_likelihood(native.model(optimum.parametrization), likelihood, optimum.theta)
    while len(gains) < (MAX_SUBHALOS if number is None else number):
        image = linearize_image(native.model(current.parametrization), data, current)
        gain_map, fraction = image.delta_2lnl_map(_subhalo_kernel(image))
        peaks = _peaks(image, gain_map, fraction, SUBHALO_STARTS)
        if not peaks:
            break
        starts = torch.tensor([peak[1:] for peak in peaks]).to(current.theta)
        added = torch.cat([starts[:, :1].log(), starts[:, 1:]], dim=1)
        theta = torch.cat([current.theta.expand(len(added), -1), added], dim=1)
        model = native.model(current.parametrization.with_blocks(subhalo_block(len(gains) + 1)))
        fast = replace(model, fixed_derivatives=current.derivatives[0])
        best = maximize_likelihood(fast, likelihood, theta, iterations=10, tolerance=1).best()
        best = maximize_likelihood(model, likelihood, best.theta, iterations=15, tolerance=0.5)
        gain = float(current.deviance - best.deviance)
        if number is None and gain < MIN_DELTA_2LNL:
            break
        gains.append(gain)
        current = best
    if not gains:
        return optimum, gains
    model = full.model(current.parametrization)
    refined = maximize_likelihood(model, likelihood, current.theta, iterations=3, tolerance=0.5)
    return refined, gains


def _subhalo_kernel(image: LinearizedImage) -> tuple[Tensor, Tensor]:
    """Compute the deflection of a point mass with the halo's mass, on the image's offset grid."""
    x, y = image.offset_grid()
    zero = x.new_zeros(())
    radius = x.new_tensor(image.einstein_radius_squared**0.5)
    ax, ay = reduced_deflection_angle_point(zero, zero, radius, x, y, SOFTENING)
    return ax, ay


def _vortex_kernel(image: LinearizedImage, length: float, angle: float) -> tuple[Tensor, Tensor]:
    """Compute the deflection of a line with the halo's mass, on the image's offset grid.

    Args:
        image: on whose grid.
        length: arcsec.
        angle: rad.
    """
    x, y = image.offset_grid()
    zero, angle_, length_ = (x.new_tensor(v) for v in (0.0, angle, length))
    radius = x.new_tensor(image.einstein_radius_squared**0.5)
    return reduced_deflection_angle_line(zero, zero, angle_, length_, radius, x, y, SOFTENING)


def _vortex_lengths(preset: Preset) -> tuple[float, ...]:
    """Return the lengths of starts, arcsec: across the preset's range, or of a ring's size."""
    if preset.vortex is None:
        return 0.6, 1.2, 2.0
    low, high = preset.vortex.length.support
    return tuple(low + part * (high - low) for part in (0.1, 0.5, 0.9))


def _peaks(
    image: LinearizedImage, gain: Tensor, fraction: Tensor, count: int
) -> list[tuple[float, float, float, float]]:
    """Return the highest peaks of a detection map that are apart, highest first.

    Args:
        image: to which the map belongs.
        gain: in 2 ln L (H, W).
        fraction: mass fraction that achieves it (H, W).
        count: largest number of peaks.

    Returns:
        Gain, mass fraction of a start, x and y (arcsec) of each.
    """
    x, y = image.pixel_positions()
    gain = gain.clone()
    peaks = []
    for _ in range(count):
        row, column = divmod(int(gain.argmax()), gain.shape[1])
        if gain[row, column] <= 0:
            break
        start = min(max(float(fraction[row, column]), MIN_START_FRACTION), MAX_START_FRACTION)
        peaks.append((float(gain[row, column]), start, float(x[column]), float(y[row])))
        near = (x - x[column]) ** 2 + (y[:, None] - y[row]) ** 2 < MIN_PEAK_DISTANCE_ARCSEC**2
        gain[near] = 0
    return peaks


MAX_ADDED_SUBHALOS = 50


def check_substructure(
    preset: Preset,
    device: str,
    *,
    vortex: bool,
    subhalos: int,
    subhalo_method: SubhaloMethod | None,
) -> None:
    """Check the options of a fit that add substructure; see `Fitter.fit`.

    Raises:
        UsageError: an option is unknown or out of range, two options exclude each other, or the
            subhalos of the preset cannot be sampled.
    """
    if not 0 <= subhalos <= MAX_ADDED_SUBHALOS:
        raise UsageError(f"--subhalos {subhalos}: give a number from 0 to {MAX_ADDED_SUBHALOS}")
    methods = get_args(SubhaloMethod)
    if subhalo_method not in (None, *methods):
        raise UsageError(f"--subhalo-method {subhalo_method}: give one of {', '.join(methods)}")
    if subhalos and subhalo_method is not None:
        raise UsageError(
            f"--subhalos {subhalos} and --subhalo-method {subhalo_method}: give only one of them;"
            " a method chooses the number of subhalos itself"
        )
    if subhalo_method == "mcmc":
        check_subhalo_mcmc(preset, vortex, device)


def without_substructure(preset: Preset) -> Preset:
    """Return a preset of the same lenses without substructure."""
    none = dict.fromkeys(("subhalos", "halos", "vortex"))
    update = {"task": "classification", "classes": {"no": "no"}} | none
    return preset.model_copy(update=update)
