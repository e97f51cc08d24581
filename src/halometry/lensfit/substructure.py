"""A line of mass, or point masses one after the other, added to a fit where they gain most."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from caustics.lenses.func import reduced_deflection_angle_point
from torch import Tensor

from halometry.lensfit.detection import LinearizedImage, linearize_image
from halometry.lensfit.likelihood import Resolution
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, maximize_likelihood
from halometry.lensfit.parameter_blocks import subhalo_block, vortex_block
from halometry.lensfit.parametrization import Parametrization
from halometry.simulation.lenses import SOFTENING
from halometry.simulation.preset import Preset
from halometry.simulation.profiles import reduced_deflection_angle_line

VORTEX_ANGLES = 12
VORTEX_STARTS = 6
VORTEX_NATIVE_STARTS = 2
SUBHALO_STARTS = 3
MIN_PEAK_DISTANCE_ARCSEC = 0.25  # arcsec between places that are begun from
MIN_START_FRACTION, MAX_START_FRACTION = 1e-4, 0.1  # mass fractions to begin with
MIN_DELTA_2LNL = (
    20.0  # gain in 2 ln L below which `auto` adds no further point mass; see docs/fit.md
)
MAX_SUBHALOS = 30


def add_vortex(
    full: Resolution, native: Resolution, data: FitData, layout: Parametrization, optimum: Optimum
) -> tuple[Parametrization, Optimum]:
    """Add a line of mass.

    Args:
        full: at which `optimum` was found and the result is.
        native: one ray a pixel, at which starts are compared.
        data: the image.
        layout, optimum: of the lens without the line.
    """
    scores = linearize_image(full.model(layout), data, optimum, binning=2)
    lengths = _vortex_lengths(full.preset)
    kernels: list[tuple[float, float]] = [
        (length, math.pi * k / VORTEX_ANGLES) for length in lengths for k in range(VORTEX_ANGLES)
    ]
    found = []
    for length, angle in kernels:
        gain, fraction = scores.delta_2lnl_map(_vortex_kernel(scores, length, angle))
        found += [(g, f, x, y, length, angle) for g, f, x, y in _peaks(scores, gain, fraction, 1)]
    found.sort(reverse=True)
    block = vortex_block()
    names = ("vortex_fraction", "vortex_x", "vortex_y", "vortex_length", "vortex_angle")
    starts = torch.tensor([one[1:] for one in found[:VORTEX_STARTS]]).to(optimum.theta)
    more = block.coordinates(dict(zip(names, starts.T, strict=True)).__getitem__)
    layout = layout.with_blocks(block)
    theta = torch.cat([optimum.theta.expand(len(more), -1), more], dim=1)
    likelihood = data.likelihood(1)
    model = native.model(layout)
    around = replace(model, fixed_derivatives=optimum.derivatives[0])
    best = maximize_likelihood(around, likelihood, theta, iterations=8, tolerance=1).best(
        VORTEX_NATIVE_STARTS
    )
    best = maximize_likelihood(model, likelihood, best.theta, iterations=6, tolerance=1).best()
    return layout, maximize_likelihood(full.model(layout), likelihood, best.theta, iterations=20)


def add_subhalos(
    full: Resolution,
    native: Resolution,
    data: FitData,
    layout: Parametrization,
    optimum: Optimum,
    number: int | None,
) -> tuple[Parametrization, Optimum, list[float]]:
    """Add point masses one after the other, each where it gains most, all else fitted again.

    Args:
        full: at which `optimum` was found and the result is.
        native: one ray a pixel, at which they are sought: a quarter of the work, and nearly as
            right (see docs/fit.md).
        data: the image.
        layout, optimum: of the lens without them.
        number: how many; None for as many as gain `ENOUGH` each.

    Returns:
        Layout and optimum with them, and the gain in 2 ln L that each brought when it came.
    """
    gains: list[float] = []
    likelihood = data.likelihood(1)
    here = maximize_likelihood(native.model(layout), likelihood, optimum.theta)
    while len(gains) < (MAX_SUBHALOS if number is None else number):
        scores = linearize_image(native.model(layout), data, here)
        peaks = _peaks(scores, *scores.delta_2lnl_map(_point_kernel(scores)), SUBHALO_STARTS)
        if not peaks:
            break
        block = subhalo_block(len(gains) + 1)
        wider = layout.with_blocks(block)
        places = torch.tensor([peak[1:] for peak in peaks]).to(here.theta)
        more = torch.cat([places[:, :1].log(), places[:, 1:]], dim=1)
        theta = torch.cat([here.theta.expand(len(more), -1), more], dim=1)
        model = native.model(wider)
        around = replace(model, fixed_derivatives=here.derivatives[0])
        tried = maximize_likelihood(around, likelihood, theta, iterations=10, tolerance=1).best()
        reached = maximize_likelihood(model, likelihood, tried.theta, iterations=15, tolerance=0.5)
        gain = float(here.deviance - reached.deviance)
        if number is None and gain < MIN_DELTA_2LNL:
            break
        gains.append(gain)
        layout, here = wider, reached
    if not gains:
        return layout, optimum, gains
    polished = maximize_likelihood(
        full.model(layout), likelihood, here.theta, iterations=3, tolerance=0.5
    )
    return layout, polished, gains


def _point_kernel(scores: LinearizedImage) -> tuple[Tensor, Tensor]:
    x, y = scores.offset_grid()
    zero = x.new_zeros(())
    radius = x.new_tensor(scores.einstein_radius_squared**0.5)
    ax, ay = reduced_deflection_angle_point(zero, zero, radius, x, y, SOFTENING)
    return ax, ay


def _vortex_kernel(scores: LinearizedImage, length: float, angle: float) -> tuple[Tensor, Tensor]:
    x, y = scores.offset_grid()
    zero, phi, long = (x.new_tensor(v) for v in (0.0, angle, length))
    radius = x.new_tensor(scores.einstein_radius_squared**0.5)
    return reduced_deflection_angle_line(zero, zero, phi, long, radius, x, y, SOFTENING)


def _vortex_lengths(preset: Preset) -> tuple[float, ...]:
    """Lengths to begin with: across the range of the preset's law, or of a ring's size."""
    if preset.vortex is None:
        return 0.6, 1.2, 2.0
    low, high = preset.vortex.length.support
    return tuple(low + share * (high - low) for share in (0.1, 0.5, 0.9))


def _peaks(
    scores: LinearizedImage, gain: Tensor, fraction: Tensor, count: int
) -> list[tuple[float, float, float, float]]:
    """The best places that are apart: gain, mass fraction to begin with, x and y (arcsec)."""
    x, y = scores.pixel_positions()
    gain = gain.clone()
    peaks = []
    for _ in range(count):
        row, column = divmod(int(gain.argmax()), gain.shape[1])
        if gain[row, column] <= 0:
            break
        share = min(max(float(fraction[row, column]), MIN_START_FRACTION), MAX_START_FRACTION)
        peaks.append((float(gain[row, column]), share, float(x[column]), float(y[row])))
        near = (x - x[column]) ** 2 + (y[:, None] - y[row]) ** 2 < MIN_PEAK_DISTANCE_ARCSEC**2
        gain[near] = 0
    return peaks
