"""The figures of `attribution`: maps beside images, and how far from the substructure they peak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.stats import binom

from halometry.attribution.pointing_game import PointingGame
from halometry.plotting import (
    IMAGE_COLORMAP,
    MASS_COLORMAP,
    MUTED_COLOR,
    TEXT_COLOR,
    colors_by_name,
    create_figure,
    hide_axes,
    stretch,
    with_style,
)

MAP_COLORS = "viridis"


@with_style
def maps_figure(
    images: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    truth: Sequence[np.ndarray] | None = None,
) -> Figure:
    """Images above the maps of what an answer rests on, and above the true substructure.

    Args:
        images: each (H, W).
        maps: one an image; each is scaled by its own maximum, whose place has a cross.
        titles: one an image.
        truth: what the substructure adds to the convergence, one an image.
    """
    rows = 2 if truth is None else 3
    made, axes = create_figure(1.75 * len(images) + 0.3, 1.85 * rows + 0.25, rows, len(images))
    for panel in axes.flat:
        hide_axes(panel)
    top = max((float(np.quantile(one, 0.999)) for one in truth or ()), default=0.0) or 1.0
    for k, (image, one, title) in enumerate(zip(images, maps, titles, strict=True)):
        axes[0, k].imshow(stretch(image), IMAGE_COLORMAP, origin="lower", interpolation="nearest")
        axes[0, k].set_title(title, fontsize=9, pad=3)
        height = max(float(one.max()), np.finfo(float).tiny)
        axes[1, k].imshow(one, MAP_COLORS, vmin=0, vmax=height, origin="lower")
        row, column = np.unravel_index(one.argmax(), one.shape)
        shown = [axes[1, k]]
        if truth is not None:
            norm = PowerNorm(0.5, 0, top, clip=True)
            axes[2, k].imshow(truth[k], MASS_COLORMAP, norm=norm, origin="lower")
            shown.append(axes[2, k])
        for panel in shown:
            panel.plot(column, row, "+", color="white", ms=9, mew=1.3)
    names = ("image", "rests on", "substructure")[:rows]
    for panel, name in zip(axes[:, 0], names, strict=True):
        panel.set_ylabel(name, color=TEXT_COLOR, fontsize=9)
    return made


@with_style
def pointing_figure(kinds: Sequence[PointingGame]) -> Figure:
    """Shares of maxima within each distance of the substructure, and of chance; a panel a kind."""
    color = colors_by_name(("maps", "chance"))
    made, axes = create_figure(4.4 * len(kinds), 3.7, 1, len(kinds), sharey=True)
    for panel, one in zip(axes[0], kinds, strict=True):
        own = np.sort(one.own_distances)
        reach = float(np.quantile(one.other_distances, 0.98))
        steps = np.linspace(0, reach, 200)
        found = np.searchsorted(own, steps, side="right") / len(one)
        others = np.sort(one.other_distances, axis=None)
        chance = np.searchsorted(others, steps, side="right") / len(others)
        low, high = (binom.ppf(edge, len(one), chance) / len(one) for edge in (0.025, 0.975))
        panel.fill_between(steps, low, high, color=color["chance"], alpha=0.18, lw=0)
        panel.plot(steps, chance, color=color["chance"], lw=2, label="maps of other lenses")
        panel.plot(steps, found, color=color["maps"], lw=2, label="the lens's own map")
        panel.axvline(one.radius, color=MUTED_COLOR, lw=1, ls=":")
        panel.set_title(f"{one.target}, {len(one)} lenses")
        panel.set_xlabel("distance of the maximum, arcsec")
        panel.set_xlim(0, reach)
        panel.set_ylim(0, 1.02)
    axes[0, 0].set_ylabel("share within")
    axes[0, 0].legend(loc="lower right", fontsize=9)
    return made
