"""Figures of sensitivity: completeness against mass, and sensitivity maps of one lens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from halometry.evaluation.bootstrap import Interval
from halometry.plotting import (
    GRID_COLOR,
    IMAGE_COLORMAP,
    MUTED_COLOR,
    TEXT_COLOR,
    colors_by_name,
    create_figure,
    hide_axes,
    stretch,
    with_style,
)
from halometry.sensitivity.maps import SensitivityMap

OBSERVER_TITLES = {
    "ideal_fixed_lens": "ideal, lens known",
    "ideal_fitted_lens": "ideal, lens fitted",
    "ideal_blind_search": "ideal, lens fitted, position unknown",
}


@with_style
def completeness_figure(
    log10_masses: np.ndarray,
    panels: Mapping[str, Mapping[str, Sequence[Interval]]],
    false_positives: float,
) -> Figure:
    """Fraction of subhalos detected against their mass.

    One panel per placement, one line per observer.

    Args:
        log10_masses: log10 of solar masses (M,).
        panels: by placement and observer, completeness for each mass.
        false_positives: false-positive rate, shown as a dotted line.
    """
    observers = list(next(iter(panels.values())))
    color = colors_by_name(observers)
    drawing, axes = create_figure(4.2 * len(panels), 3.9, 1, len(panels), sharey=True)
    for panel, (placement, curves) in zip(axes[0], panels.items(), strict=True):
        for observer, completeness in curves.items():
            value, low, high = (
                np.array([getattr(each, end) for each in completeness])
                for end in ("value", "low", "high")
            )
            panel.fill_between(log10_masses, low, high, color=color[observer], alpha=0.18, lw=0)
            label = OBSERVER_TITLES.get(observer, observer)
            panel.plot(log10_masses, value, color=color[observer], lw=2, label=label)
        panel.axhline(false_positives, color=MUTED_COLOR, lw=1, ls=":")
        panel.set_title(f"one subhalo {placement}")
        panel.set_xlabel("log10 of its mass in solar masses")
        panel.set_xlim(log10_masses[0], log10_masses[-1])
        panel.set_ylim(0, 1.02)
    axes[0, 0].set_ylabel("completeness, 95 % interval")
    lines = axes[0, 0].get_lines()[: len(observers)]
    drawing.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=9)
    return drawing


@with_style
def map_figure(
    map_: SensitivityMap, names: Mapping[str, str], limits: tuple[float, float]
) -> Figure:
    """A lens, and its sensitivity map for each observer.

    Args:
        map_: the map.
        names: names of the networks, by observer; others have their title.
        limits: of the color scale, log10 of solar masses.
    """
    observers = map_.log10_masses
    drawing, axes = create_figure(1.9 * (len(observers) + 1) + 0.9, 2.5, 1, len(observers) + 1)
    half, axis = map_.pixel_scale * len(map_.image) / 2, np.unique(map_.x)
    reach = float(axis[-1] + (axis[1] - axis[0]) / 2)
    row, column = np.searchsorted(axis, map_.y), np.searchsorted(axis, map_.x)
    panels = list(axes[0])
    panels[0].imshow(
        stretch(map_.image), cmap=IMAGE_COLORMAP, origin="lower", extent=(-half, half, -half, half)
    )
    panels[0].set_title("lens", fontsize=8.5, fontweight="normal")
    shades = colormaps["viridis_r"].with_extremes(over=GRID_COLOR, bad="white")
    for panel, (observer, masses) in zip(panels[1:], observers.items(), strict=True):
        grid = np.full((len(axis), len(axis)), np.nan)
        grid[row, column] = np.where(np.isinf(masses), limits[1] + 1, masses)
        picture = panel.imshow(
            grid,
            cmap=shades,
            vmin=limits[0],
            vmax=limits[1],
            origin="lower",
            interpolation="nearest",
            extent=(-reach, reach, -reach, reach),
        )
        title = OBSERVER_TITLES.get(observer) or names[observer]
        panel.set_title(title, fontsize=8.5, fontweight="normal")
    for panel in panels:
        hide_axes(panel)
        panel.set_xlim(-reach, reach)
        panel.set_ylim(-reach, reach)
        ring = Circle((0, 0), map_.einstein_radius, fill=False, lw=0.8, ls="--")
        ring.set_edgecolor("white" if panel is panels[0] else TEXT_COLOR)
        panel.add_patch(ring)
    bar = drawing.colorbar(picture, ax=panels[1:], shrink=0.85, pad=0.02, extend="max")
    label = "mass detected half of the time\n(log10 of solar masses)"
    bar.set_label(label, color=TEXT_COLOR, fontsize=8)
    bar.outline.set_visible(False)
    return drawing
