"""Figures of attribution: maps beside their images, and distances of maxima from substructure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.stats import binom

from halometry.attribution.pointing_game import PointingGame
from halometry.plotting import (
    IMAGE_COLORMAP,
    MUTED_COLOR,
    TEXT_COLOR,
    colors_by_name,
    create_figure,
    hide_axes,
    stretch,
    with_style,
)

MAP_COLORMAP = "viridis"
SUBSTRUCTURE_COLOR = "#56F0F0"
CONTOUR_LEVEL = 0.3  # of the contours of the substructure, over its largest convergence
ROW_LABELS = ("image", "attribution")


@with_style
def maps_figure(
    images: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    substructure: Sequence[np.ndarray] | None = None,
) -> Figure:
    """Images above their attribution maps, both with contours of the true substructure if known.

    Args:
        images: each (H, W).
        maps: one per image; each is scaled by its maximum, around which is a circle.
        titles: one per image.
        substructure: convergence of the substructure, one per image.
    """
    width, height = 1.75 * len(images) + 0.6, 4.1
    drawing, axes = create_figure(width, height, 2, len(images))
    for panel in axes.flat:
        hide_axes(panel)
    for k, (image, map_, title) in enumerate(zip(images, maps, titles, strict=True)):
        axes[0, k].imshow(stretch(image), IMAGE_COLORMAP, origin="lower", interpolation="nearest")
        axes[0, k].set_title(title, fontsize=8.5, fontweight="normal", pad=3)
        scaled = map_ / max(float(map_.max()), np.finfo(float).tiny)
        norm = PowerNorm(0.5, 0, 1)
        axes[1, k].imshow(scaled, MAP_COLORMAP, norm=norm, origin="lower")
        if substructure is not None and (top := float(substructure[k].max())) > 0:
            for panel in axes[:, k]:
                panel.contour(substructure[k], [CONTOUR_LEVEL * top], colors=[SUBSTRUCTURE_COLOR],
                              linewidths=0.9)  # fmt: skip
        row, column = np.unravel_index(map_.argmax(), map_.shape)
        axes[1, k].plot(column, row, "o", color="white", ms=13, mfc="none", mew=1.4)
    for panel, label in zip(axes[:, 0], ROW_LABELS, strict=True):
        panel.set_ylabel(label, color=TEXT_COLOR, fontsize=9)
    bar = drawing.colorbar(axes[1, 0].images[0], ax=axes[1, :], pad=0.01, aspect=15)
    bar.set_label("over its maximum", fontsize=9)
    bar.set_ticks([0, 0.1, 0.5, 1], labels=["0", "0.1", "0.5", "1"])
    bar.outline.set_visible(False)
    return drawing


@with_style
def pointing_figure(games: Sequence[PointingGame]) -> Figure:
    """Fraction of maxima within each distance of the substructure; one panel per kind.

    The shaded region holds 95 % of the fractions that are expected by chance.
    """
    color = colors_by_name(("maps", "chance"))
    drawing, axes = create_figure(4.4 * len(games), 3.7, 1, len(games), sharey=True)
    for panel, game in zip(axes[0], games, strict=True):
        own = np.sort(game.own_distances)
        others = np.sort(game.other_distances, axis=None)
        reach = float(np.quantile(others, 0.98))
        radii = np.linspace(0, reach, 200)
        fraction = np.searchsorted(own, radii, side="right") / len(game)
        chance = np.searchsorted(others, radii, side="right") / len(others)
        low, high = (binom.ppf(edge, len(game), chance) / len(game) for edge in (0.025, 0.975))
        panel.fill_between(radii, low, high, color=color["chance"], alpha=0.18, lw=0)
        panel.plot(radii, chance, color=color["chance"], lw=2, label="maps of other lenses")
        panel.plot(radii, fraction, color=color["maps"], lw=2, label="the lens's own map")
        panel.axvline(game.radius, color=MUTED_COLOR, lw=1, ls=":")
        panel.set_title(f"{game.target}, {len(game)} lenses")
        panel.set_xlabel("distance of the maximum, arcsec")
        panel.set_xlim(0, reach)
        panel.set_ylim(0, 1.02)
    axes[0, 0].set_ylabel("fraction within this distance")
    axes[0, 0].legend(loc="lower right", fontsize=9)
    return drawing
