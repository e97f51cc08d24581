"""A line of mass, or point masses one after the other, added to a fit where they gain most."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from caustics.lenses.func import reduced_deflection_angle_point
from torch import Tensor

from halometry.lensfit.parameter_blocks import subhalo, vortex
from halometry.lensfit.detection import Scores, scores_of
from halometry.lensfit.likelihood import Scale
from halometry.lensfit.observation import Data
from halometry.lensfit.optimize import Optimum, maximize
from halometry.lensfit.parametrization import Layout
from halometry.simulation.lenses import SOFTENING
from halometry.simulation.preset import Preset
from halometry.simulation.profiles import reduced_deflection_angle_line

LINE_ANGLES = 12
LINE_STARTS = 6
LINE_FINALISTS = 2
POINT_STARTS = 3
APART = 0.25  # arcsec between places that are begun from
LIGHTEST, HEAVIEST = 1e-4, 0.1  # mass fractions to begin with
ENOUGH = 20.0  # gain in 2 ln L below which `auto` adds no further point mass; see docs/fit.md
MOST_POINTS = 30


def with_vortex(
    full: Scale, native: Scale, data: Data, layout: Layout, optimum: Optimum
) -> tuple[Layout, Optimum]:
    """Add a line of mass.

    Args:
        full: at which `optimum` was found and the result is.
        native: one ray a pixel, at which starts are compared.
        data: the image.
        layout, optimum: of the lens without the line.
    """
    scores = scores_of(full.model(layout), data, optimum, binning=2)
    lengths = _line_lengths(full.preset)
    kernels: list[tuple[float, float]] = [
        (length, math.pi * k / LINE_ANGLES) for length in lengths for k in range(LINE_ANGLES)
    ]
    found = []
    for length, angle in kernels:
        gain, fraction = scores.map(_line_kernel(scores, length, angle))
        found += [(g, f, x, y, length, angle) for g, f, x, y in _peaks(scores, gain, fraction, 1)]
    found.sort(reverse=True)
    block = vortex()
    names = ("vortex_fraction", "vortex_x", "vortex_y", "vortex_length", "vortex_angle")
    starts = torch.tensor([one[1:] for one in found[:LINE_STARTS]]).to(optimum.theta)
    more = block.coordinates(dict(zip(names, starts.T, strict=True)).__getitem__)
    layout = layout.with_blocks(block)
    theta = torch.cat([optimum.theta.expand(len(more), -1), more], dim=1)
    likelihood = data.at(1)
    model = native.model(layout)
    around = replace(model, kept=optimum.derivatives[0])
    best = maximize(around, likelihood, theta, iterations=8, tolerance=1).best(LINE_FINALISTS)
    best = maximize(model, likelihood, best.theta, iterations=6, tolerance=1).best()
    return layout, maximize(full.model(layout), likelihood, best.theta, iterations=20)


def with_subhalos(
    full: Scale,
    native: Scale,
    data: Data,
    layout: Layout,
    optimum: Optimum,
    number: int | None,
) -> tuple[Layout, Optimum, list[float]]:
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
    likelihood = data.at(1)
    here = maximize(native.model(layout), likelihood, optimum.theta)
    while len(gains) < (MOST_POINTS if number is None else number):
        scores = scores_of(native.model(layout), data, here)
        peaks = _peaks(scores, *scores.map(_point_kernel(scores)), POINT_STARTS)
        if not peaks:
            break
        block = subhalo(len(gains) + 1)
        wider = layout.with_blocks(block)
        places = torch.tensor([peak[1:] for peak in peaks]).to(here.theta)
        more = torch.cat([places[:, :1].log(), places[:, 1:]], dim=1)
        theta = torch.cat([here.theta.expand(len(more), -1), more], dim=1)
        model = native.model(wider)
        around = replace(model, kept=here.derivatives[0])
        tried = maximize(around, likelihood, theta, iterations=10, tolerance=1).best()
        reached = maximize(model, likelihood, tried.theta, iterations=15, tolerance=0.5)
        gain = float(here.deviance - reached.deviance)
        if number is None and gain < ENOUGH:
            break
        gains.append(gain)
        layout, here = wider, reached
    if not gains:
        return layout, optimum, gains
    polished = maximize(full.model(layout), likelihood, here.theta, iterations=3, tolerance=0.5)
    return layout, polished, gains


def _point_kernel(scores: Scores) -> tuple[Tensor, Tensor]:
    x, y = scores.grid()
    zero = x.new_zeros(())
    radius = x.new_tensor(scores.strength**0.5)
    ax, ay = reduced_deflection_angle_point(zero, zero, radius, x, y, SOFTENING)
    return ax, ay


def _line_kernel(scores: Scores, length: float, angle: float) -> tuple[Tensor, Tensor]:
    x, y = scores.grid()
    zero, phi, long = (x.new_tensor(v) for v in (0.0, angle, length))
    radius = x.new_tensor(scores.strength**0.5)
    return reduced_deflection_angle_line(zero, zero, phi, long, radius, x, y, SOFTENING)


def _line_lengths(preset: Preset) -> tuple[float, ...]:
    """Lengths to begin with: across the range of the preset's law, or of a ring's size."""
    if preset.vortex is None:
        return 0.6, 1.2, 2.0
    low, high = preset.vortex.length.support
    return tuple(low + share * (high - low) for share in (0.1, 0.5, 0.9))


def _peaks(
    scores: Scores, gain: Tensor, fraction: Tensor, count: int
) -> list[tuple[float, float, float, float]]:
    """The best places that are apart: gain, mass fraction to begin with, x and y (arcsec)."""
    x, y = scores.places()
    gain = gain.clone()
    peaks = []
    for _ in range(count):
        row, column = divmod(int(gain.argmax()), gain.shape[1])
        if gain[row, column] <= 0:
            break
        share = min(max(float(fraction[row, column]), LIGHTEST), HEAVIEST)
        peaks.append((float(gain[row, column]), share, float(x[column]), float(y[row])))
        near = (x - x[column]) ** 2 + (y[:, None] - y[row]) ** 2 < APART**2
        gain[near] = 0
    return peaks
