"""Figures of a population: posteriors of class fractions, and of mean and std of the masses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from halometry.plotting import (
    COLORS,
    MUTED_COLOR,
    TEXT_COLOR,
    colors_by_name,
    create_figure,
    hide_axes,
    with_style,
)
from halometry.population.masses import MASS_DISTRIBUTIONS, MassPosterior

MAX_DRAWS = 2000  # in the figure
CURVE_POINTS = 300
POPULATION_DRAWS = 300  # populations whose density is drawn
TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # corners, one a class
PROBABILITIES = (0.95, 0.68)  # within the contours
TRUTH_MARKER: dict[str, Any] = {
    "marker": "*", "ms": 13, "color": "#E69F00", "mec": "black", "mew": 0.8, "ls": "none",
    "label": "true", "zorder": 5,
}  # fmt: skip


@with_style
def fractions_figure(
    draws: np.ndarray, names: Sequence[str], truth: Sequence[float] | None = None
) -> Figure:
    """Posterior of each class's fraction; for three classes also of all together in a triangle.

    Args:
        draws: fractions (S, K).
        names: K classes.
        truth: true fractions (K,), if they are known.
    """
    rows = np.random.default_rng(0).permutation(len(draws))[:MAX_DRAWS]
    shown = draws[rows]
    has_triangle = len(names) == 3
    width = 8.6 if has_triangle else 5.2
    drawing, axes = create_figure(width, 3.6, 1, 2 if has_triangle else 1)
    panel, color = axes[0, 0], colors_by_name(names)
    low, high = np.quantile(shown, (0.001, 0.999))
    margin = 0.15 * (high - low)
    positions = np.linspace(max(0.0, low - margin), min(1.0, high + margin), CURVE_POINTS)
    for name, values in zip(names, shown.T, strict=True):
        density = gaussian_kde(values)(positions)
        panel.fill_between(positions, density, color=color[name], alpha=0.25, lw=0)
        panel.plot(positions, density, color=color[name], lw=2, label=name)
    for name, value in zip(names, truth or (), strict=False):
        panel.axvline(value, color=color[name], lw=1.5, ls="--")
    if truth is not None:
        panel.plot([], [], color=MUTED_COLOR, lw=1.5, ls="--", label="true")
    panel.set_xlabel("fraction of the population")
    panel.set_ylabel("posterior density")
    panel.set_ylim(bottom=0)
    panel.legend()
    if has_triangle:
        _draw_triangle(axes[0, 1], shown, names)
        if truth is not None:
            axes[0, 1].plot(*(np.asarray(truth) @ TRIANGLE), **TRUTH_MARKER)
            axes[0, 1].legend(loc="upper left", fontsize=8.5)
    return drawing


def _draw_triangle(panel: Axes, draws: np.ndarray, names: Sequence[str]) -> None:
    """Draws (S, 3) with the regions of 68 and 95 % probability."""
    hide_axes(panel)
    panel.fill(*TRIANGLE.T, facecolor="none", edgecolor=MUTED_COLOR, lw=1)
    points = draws @ TRIANGLE
    panel.scatter(points[:, 0], points[:, 1], s=2, color=COLORS[0], alpha=0.25, lw=0)
    for name, corner, vertical in zip(names, TRIANGLE, ("top", "top", "bottom"), strict=True):
        shift = 0.03 if vertical == "bottom" else -0.03
        panel.text(corner[0], corner[1] + shift, f"all {name}", ha="center", va=vertical,
                   color=TEXT_COLOR, fontsize=9)  # fmt: skip
    density = gaussian_kde(points.T)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.2 * (high - low)
    x, y = (np.linspace(a, b, 80) for a, b in zip(low - margin, high + margin, strict=True))
    on_grid = density(np.stack([axis.ravel() for axis in np.meshgrid(x, y)])).reshape(80, 80)
    heights = np.quantile(density(points.T), 1 - np.array(PROBABILITIES)).tolist()
    panel.contour(x, y, on_grid, heights, colors=[COLORS[1]], linewidths=1.5)
    panel.set_title("68 and 95 % of the posterior", fontsize=9)
    panel.set_xlim(-0.12, 1.12)
    panel.set_ylim(-0.12, 1.0)
    panel.set_aspect("equal")


@with_style
def masses_figure(
    posterior: MassPosterior, medians: np.ndarray, truth: Sequence[float] | None = None
) -> Figure:
    """Posterior of mean and standard deviation, and the density of the population's masses.

    Args:
        posterior: of the population.
        medians: predicted masses of the lenses (N,), shown as a histogram.
        truth: true mean and standard deviation, if they are known.
    """
    drawing, axes = create_figure(8.6, 3.6, 1, 2)
    left, right = axes[0]
    probability = posterior.posterior
    descending = np.sort(probability, axis=None)[::-1]
    enclosed = np.cumsum(descending)
    heights = [descending[np.searchsorted(enclosed, level)] for level in PROBABILITIES]
    left.contourf(posterior.mean, posterior.std, probability.T, [*heights, descending[0]],
                  alpha=0.6, colors=[COLORS[5], COLORS[0]])  # fmt: skip
    if truth is not None:
        left.plot(*truth, **TRUTH_MARKER)
        left.legend(loc="upper right", fontsize=8.5)
    left.set_xlabel("mean of f_sub")
    left.set_ylabel("standard deviation of f_sub")
    left.set_title("68 and 95 % of the posterior", fontsize=9)

    positions = np.linspace(0, posterior.prior_support[1], CURVE_POINTS)[1:]
    rng = np.random.default_rng(0)
    cells = rng.choice(probability.size, POPULATION_DRAWS, p=probability.ravel())
    rows, columns = np.unravel_index(cells, probability.shape)
    density = MASS_DISTRIBUTIONS[posterior.mass_distribution].density
    drawn = density(positions, posterior.mean[rows, None], posterior.std[columns, None])
    low, median, high = np.quantile(drawn, (0.025, 0.5, 0.975), axis=0)
    right.hist(
        medians, bins="auto", density=True, color=MUTED_COLOR, alpha=0.3, label="lenses' medians"
    )
    right.fill_between(positions, low, high, color=COLORS[0], alpha=0.3, lw=0)
    right.plot(positions, median, color=COLORS[0], lw=2, label="population, with 95 %")
    if truth is not None:
        true_density = MASS_DISTRIBUTIONS[posterior.mass_distribution].density(
            positions, *np.array(truth)
        )
        right.plot(positions, true_density, color=TEXT_COLOR, lw=1.5, ls="--", label="true")
    right.set_xlabel("f_sub")
    right.set_ylabel("density")
    right.set_ylim(0, 1.15 * max(high.max(), np.histogram(medians, "auto", density=True)[0].max()))
    right.legend(fontsize=8.5)
    return drawing
