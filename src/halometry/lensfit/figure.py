"""Figure of fits: data, model, residual, added substructure and mass map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy.ndimage import gaussian_filter

from halometry.plotting import (
    COLORS,
    IMAGE_COLORMAP,
    MUTED_COLOR,
    TEXT_COLOR,
    create_figure,
    hide_axes,
    stretch,
    with_style,
)

RESIDUAL_RANGE_SIGMA = 4.0  # largest residual of the color scale, in units of the noise
MIN_CIRCLE_RADIUS_ARCSEC = 0.04  # of point masses, so that light ones are visible
MASS_SMOOTHING_PIXELS = 1.0  # standard deviation of the Gaussian that smooths a mean mass


@dataclass(frozen=True)
class FitPanel:
    """Contents of one row of the figure.

    Attributes:
        title: above the data.
        data, model: pixels (H, W).
        residual: (data - model) / noise (H, W).
        pixel_scale: arcsec.
        reduced_chi2: part of the residual's title.
        lines: x and y of both ends of each vortex, arcsec.
        points: x, y and Einstein radius of each point mass, arcsec.
        mean_mass: mean mass in each pixel (H, W), if subhalos were sampled.
        convergence: mass map that explains the residual (h, w), if there is one.
    """

    title: str
    data: np.ndarray
    model: np.ndarray
    residual: np.ndarray
    pixel_scale: float
    reduced_chi2: float
    lines: Sequence[tuple[float, float, float, float]] = field(default=())
    points: Sequence[tuple[float, float, float]] = field(default=())
    mean_mass: np.ndarray | None = None
    convergence: np.ndarray | None = None


@with_style
def fit_figure(fits: Sequence[FitPanel]) -> Figure:
    """Draw data, model, residual and substructure of fits, one row each."""
    substructure = any(fit.lines or fit.points or fit.mean_mass is not None for fit in fits)
    maps = [fit.convergence for fit in fits if fit.convergence is not None]
    columns = 3 + substructure + bool(maps)
    figure, axes = create_figure(1.9 * columns, 2.05 * len(fits) + 0.6, len(fits), columns)
    highest = max((float(np.abs(values).max()) for values in maps), default=0.0)
    for row, fit in zip(axes, fits, strict=True):
        _draw_row(row, fit, substructure)
        if maps:
            _draw_map(row[-1], fit, highest)
    color_bars = {2: "(data - model) / noise"} | ({columns - 1: "convergence"} if maps else {})
    for column, label in color_bars.items():
        bar = figure.colorbar(
            axes[0, column].images[0],
            ax=list(axes[:, column]),
            location="bottom",
            shrink=0.9,
            aspect=18,
            pad=0.02,
        )
        bar.set_label(label, color=TEXT_COLOR, fontsize=8.5)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return figure


def _draw_map(panel: Axes, fit: FitPanel, highest: float) -> None:
    """Draw the convergence map, which may be negative."""
    values = np.zeros((1, 1)) if fit.convergence is None else fit.convergence
    panel.imshow(values, cmap="PuOr_r", vmin=-highest, vmax=highest, **_image_options(fit))
    hide_axes(panel)
    panel.set_title("mass map", fontsize=8.5, fontweight="normal", pad=3)


def _draw_row(row: Sequence[Axes], fit: FitPanel, substructure: bool) -> None:
    """Draw one fit.

    Args:
        row: panels.
        fit: to draw.
        substructure: whether the fourth panel shows the added substructure.
    """
    half, options = fit.pixel_scale * len(fit.data) / 2, _image_options(fit)
    both = stretch(np.concatenate([fit.data, fit.model]))  # with the same limits
    for panel, image in zip(row, (both[: len(fit.data)], both[len(fit.data) :]), strict=False):
        panel.imshow(image, cmap=IMAGE_COLORMAP, vmin=0, vmax=1, **options)
    limit = RESIDUAL_RANGE_SIGMA
    row[2].imshow(fit.residual, cmap="RdBu_r", vmin=-limit, vmax=limit, **options)
    titles = [fit.title, "model", f"residual, reduced χ² {fit.reduced_chi2:.2f}"]
    if substructure:
        row[3].imshow(both[: len(fit.data)], cmap="Grays", vmin=0, vmax=1.4, **options)
        if fit.mean_mass is not None:
            _draw_mean_mass(row[3], fit.mean_mass, options)
        _draw_substructure(row[3], fit)
        titles.append("added mass" if fit.mean_mass is None else "mean mass in subhalos")
    for panel, title in zip(row, titles, strict=False):
        hide_axes(panel)
        panel.set_title(title, fontsize=8.5, fontweight="normal", pad=3)
        panel.set_xlim(-half, half)
        panel.set_ylim(-half, half)
    row[0].plot([-0.9 * half, -0.9 * half + 1], [-0.9 * half] * 2, color="white", lw=2)
    row[0].text(-0.9 * half, -0.85 * half, '1"', color="white", fontsize=8)


def _image_options(fit: FitPanel) -> dict[str, Any]:
    """Return the options of `imshow` for an image on the sky, whatever its number of pixels."""
    half = fit.pixel_scale * len(fit.data) / 2
    return {
        "origin": "lower",
        "interpolation": "nearest",
        "extent": (-half, half, -half, half),
    }


def _draw_mean_mass(panel: Axes, mean_mass: np.ndarray, options: dict[str, Any]) -> None:
    """Draw the mean mass as a color whose opacity grows with its square root."""
    smooth = gaussian_filter(mean_mass, MASS_SMOOTHING_PIXELS)
    colors = np.empty((*mean_mass.shape, 4))
    colors[..., :3] = to_rgb(COLORS[1])
    colors[..., 3] = np.sqrt(smooth / max(float(smooth.max()), 1e-30))
    panel.imshow(colors, **options)


def _draw_substructure(panel: Axes, fit: FitPanel) -> None:
    """Draw vortices as lines and point masses as circles of their Einstein radius."""
    for x1, y1, x2, y2 in fit.lines:
        panel.plot([x1, x2], [y1, y2], color=COLORS[1], lw=2.5, solid_capstyle="butt")
    for x, y, radius in fit.points:
        shown = max(radius, MIN_CIRCLE_RADIUS_ARCSEC)
        panel.add_patch(Circle((x, y), shown, color=COLORS[0], fill=False, lw=1.5))
        panel.plot(x, y, marker=".", ms=3, color=MUTED_COLOR)
