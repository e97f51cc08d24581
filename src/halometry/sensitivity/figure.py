"""The figures of `sensitivity`: completeness against mass, and maps of one lens."""

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


@with_style
def completeness_figure(
    masses: np.ndarray,
    panels: Mapping[str, Mapping[str, Sequence[Interval]]],
    false_positives: float,
) -> Figure:
    """The share of subhalos that are found against their mass, a panel a place, a line an observer.

    Args:
        masses: log10 of solar masses (M,).
        panels: by place and observer, a share with its interval for each mass.
        false_positives: drawn as a line that all begin from.
    """
    observers = list(next(iter(panels.values())))
    color = colors_by_name(observers)
    made, axes = create_figure(4.6 * len(panels), 3.9, 1, len(panels), sharey=True)
    for panel, (place, lines) in zip(axes[0], panels.items(), strict=True):
        for observer, shares in lines.items():
            value, low, high = (np.array([getattr(s, k) for s in shares]) for k in ENDS)
            panel.fill_between(masses, low, high, color=color[observer], alpha=0.18, lw=0)
            panel.plot(masses, value, color=color[observer], lw=2, label=observer)
        panel.axhline(false_positives, color=MUTED_COLOR, lw=1, ls=":")
        panel.set_title(f"one subhalo {place}")
        panel.set_xlabel("its mass, log10 of solar masses")
        panel.set_xlim(masses[0], masses[-1])
        panel.set_ylim(0, 1.02)
    axes[0, 0].set_ylabel("share found, 95 % interval")
    lines = axes[0, 0].get_lines()[: len(observers)]
    made.legend(handles=lines, loc="outside lower center", ncols=len(observers), fontsize=9)
    return made


ENDS = ("value", "low", "high")


@with_style
def map_figure(
    image: np.ndarray,
    pixel_scale: float,
    x: np.ndarray,
    y: np.ndarray,
    maps: Mapping[str, np.ndarray],
    masses: tuple[float, float],
    einstein_radius: float,
) -> Figure:
    """A lens, and the lightest subhalo that is found at each place by each observer.

    Args:
        image: (H, W).
        pixel_scale: arcsec.
        x, y: places on a square grid (n,), arcsec.
        maps: by observer, log10 of solar masses (n,), infinite where none is found.
        masses: ends of the colors.
        einstein_radius: drawn as a circle, arcsec.
    """
    made, axes = create_figure(2.7 * (len(maps) + 1) + 0.5, 3.0, 1, len(maps) + 1)
    half, axis = pixel_scale * len(image) / 2, np.unique(x)
    reach = float(axis[-1] + (axis[1] - axis[0]) / 2)
    row, column = np.searchsorted(axis, y), np.searchsorted(axis, x)
    panels = list(axes[0])
    panels[0].imshow(
        stretch(image), cmap=IMAGE_COLORMAP, origin="lower", extent=(-half, half, -half, half)
    )
    panels[0].set_title("the lens", fontsize=10)
    shade = colormaps["viridis_r"].with_extremes(over=GRID_COLOR, bad="white")
    for panel, (observer, one) in zip(panels[1:], maps.items(), strict=True):
        shown = np.full((len(axis), len(axis)), np.nan)
        shown[row, column] = np.where(np.isinf(one), masses[1] + 1, one)
        drawn = panel.imshow(
            shown,
            cmap=shade,
            vmin=masses[0],
            vmax=masses[1],
            origin="lower",
            interpolation="nearest",
            extent=(-reach, reach, -reach, reach),
        )
        panel.set_title(observer, fontsize=10)
    for panel in panels:
        hide_axes(panel)
        panel.set_xlim(-reach, reach)
        panel.set_ylim(-reach, reach)
        panel.add_patch(
            Circle((0, 0), einstein_radius, color=TEXT_COLOR, fill=False, lw=0.8, ls="--")
        )
    panels[0].patches[0].set_edgecolor("white")
    bar = made.colorbar(drawn, ax=panels[1:], shrink=0.85, pad=0.02, extend="max")
    bar.set_label(
        "mass found half of the time\n(log10 of solar masses)", color=TEXT_COLOR, fontsize=9
    )
    bar.outline.set_visible(False)
    return made
