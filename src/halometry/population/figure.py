"""The figures of a population: posteriors of class fractions, and of masses' mean and spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

SHOWN = 2000  # draws
POINTS = 300  # of a curve
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # of three classes
LEVELS = (0.95, 0.68)


@with_style
def fractions_figure(draws: np.ndarray, weights: np.ndarray, names: Sequence[str]) -> Figure:
    """The posterior of each class's fraction; of three, also of all together in a triangle.

    Args:
        draws: fractions (S, K).
        weights: (S,), which add up to one.
        names: K classes.
    """
    rows = np.random.default_rng(0).choice(len(draws), SHOWN, p=weights)
    shown = draws[rows]
    three = len(names) == 3
    made, axes = create_figure(8.6 if three else 5.2, 3.6, 1, 2 if three else 1)
    panel, color = axes[0, 0], colors_by_name(names)
    low, high = np.quantile(shown, (0.001, 0.999))
    margin = 0.15 * (high - low)
    at = np.linspace(max(0.0, low - margin), min(1.0, high + margin), POINTS)
    for name, values in zip(names, shown.T, strict=True):
        curve = gaussian_kde(values)(at)
        panel.fill_between(at, curve, color=color[name], alpha=0.25, lw=0)
        panel.plot(at, curve, color=color[name], lw=2, label=name)
    panel.set_xlabel("fraction of the population")
    panel.set_ylabel("posterior density")
    panel.set_ylim(bottom=0)
    panel.legend()
    if three:
        _triangle(axes[0, 1], shown, names)
    return made


def _triangle(panel: Axes, draws: np.ndarray, names: Sequence[str]) -> None:
    """Draws (S, 3) with the regions that hold 68 and 95 % of them."""
    hide_axes(panel)
    panel.fill(*CORNERS.T, facecolor="none", edgecolor=MUTED_COLOR, lw=1)
    points = draws @ CORNERS
    panel.scatter(points[:, 0], points[:, 1], s=2, color=COLORS[0], alpha=0.25, lw=0)
    for name, corner, place in zip(
        names, CORNERS, (("center", "top"), ("center", "top"), ("center", "bottom")), strict=True
    ):
        shift = 0.03 if place[1] == "bottom" else -0.03
        panel.text(corner[0], corner[1] + shift, f"all {name}", ha=place[0], va=place[1],
                   color=TEXT_COLOR, fontsize=9)  # fmt: skip
    law = gaussian_kde(points.T)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.2 * (high - low)
    x, y = (np.linspace(a, b, 80) for a, b in zip(low - margin, high + margin, strict=True))
    there = law(np.stack([one.ravel() for one in np.meshgrid(x, y)])).reshape(80, 80)
    panel.contour(x, y, there, _heights(law(points.T)), colors=[COLORS[1]], linewidths=1.5)
    panel.set_title("68 and 95 % of the posterior", fontsize=9)
    panel.set_xlim(-0.12, 1.12)
    panel.set_ylim(-0.12, 1.0)
    panel.set_aspect("equal")


def _heights(densities: np.ndarray) -> list[float]:
    """Above which densities 95 and 68 % of the draws lie."""
    return [float(np.quantile(densities, 1 - level)) for level in LEVELS]


@with_style
def masses_figure(
    mean: np.ndarray,
    spread: np.ndarray,
    posterior: np.ndarray,
    law: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    known: tuple[float, float],
    medians: np.ndarray,
) -> Figure:
    """The posterior of mean and spread, and what it says of the masses beside the lenses' own.

    Args:
        mean, spread: of the grid (M,), (S,).
        posterior: (M, S), adds up to one.
        law: density of the population at a mass, of mass, mean and spread.
        known: the masses that the training set tells of.
        medians: of the lenses (N,).
    """
    made, axes = create_figure(8.6, 3.6, 1, 2)
    left, right = axes[0]
    order = np.sort(posterior, axis=None)[::-1]
    inside = np.cumsum(order)
    heights = [order[np.searchsorted(inside, level)] for level in LEVELS]
    left.contourf(mean, spread, posterior.T, [*heights, order[0]], alpha=0.6,
                  colors=[COLORS[5], COLORS[0]])  # fmt: skip
    left.set_xlabel("mean of f_sub")
    left.set_ylabel("standard deviation of f_sub")
    left.set_title("68 and 95 % of the posterior", fontsize=9)

    at = np.linspace(0, known[1], POINTS)[1:]
    cells = np.random.default_rng(0).choice(posterior.size, 300, p=posterior.ravel())
    rows, columns = np.unravel_index(cells, posterior.shape)
    drawn = law(at, mean[rows, None], spread[columns, None])
    low, median, high = np.quantile(drawn, (0.025, 0.5, 0.975), axis=0)
    right.hist(
        medians, bins="auto", density=True, color=MUTED_COLOR, alpha=0.3, label="lenses' medians"
    )
    right.fill_between(at, low, high, color=COLORS[0], alpha=0.3, lw=0)
    right.plot(at, median, color=COLORS[0], lw=2, label="population, with 95 %")
    right.set_xlabel("f_sub")
    right.set_ylabel("density")
    right.set_ylim(0, 1.15 * max(high.max(), np.histogram(medians, "auto", density=True)[0].max()))
    right.legend(fontsize=8.5)
    return made
