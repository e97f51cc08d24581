"""The figure of a fit: the data, the model, what is left, and the substructure that was added."""

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

RESIDUAL_RANGE_SIGMA = 4.0  # range of the residuals shown
MIN_CIRCLE_RADIUS_ARCSEC = 0.04  # arcsec, so that a light mass is seen at all
MASS_SMOOTHING_PIXELS = 1.0  # pixels, over which a mean mass is smoothed


@dataclass(frozen=True)
class FitPanel:
    """What one fit shows.

    Attributes:
        title: above the data.
        data, model, residual: (H, W), the last in units of the noise.
        pixel_scale: arcsec.
        reduced_chi_square: to be written beside the residuals.
        lines: x and y of both ends of each line of mass, arcsec.
        points: x, y and Einstein radius of each point mass, arcsec.
        density: mean mass in each pixel (H, W), where subhalos were sampled.
        convergence: of the mass that explains the residuals (h, w), where it was mapped.
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
    """Data, model, residuals and substructure of fits, a row each."""
    added = any(fit.lines or fit.points or fit.mean_mass is not None for fit in fits)
    mapped = [fit.convergence for fit in fits if fit.convergence is not None]
    columns = 3 + added + bool(mapped)
    width = 2.5 * columns + 0.6 * (1 + bool(mapped))
    made, axes = create_figure(width, 2.6 * len(fits), len(fits), columns)
    highest = max((float(np.abs(one).max()) for one in mapped), default=0.0)
    for row, fit in zip(axes, fits, strict=True):
        _row(row, fit, added)
        if mapped:
            _draw_map(row[-1], fit, highest)
    bars = {2: "(data - model) / noise"} | ({columns - 1: "convergence"} if mapped else {})
    for column, words in bars.items():
        shown = axes[0, column].images[0]
        bar = made.colorbar(shown, ax=axes[:, column], shrink=0.8, pad=0.03, aspect=20 * len(fits))
        bar.set_label(words, color=TEXT_COLOR)
        bar.outline.set_visible(False)
    return made


def _draw_map(panel: Axes, fit: FitPanel, highest: float) -> None:
    """The convergence that explains the residuals, of both signs."""
    shown = np.zeros((1, 1)) if fit.convergence is None else fit.convergence
    panel.imshow(shown, cmap="PuOr_r", vmin=-highest, vmax=highest, **_place(fit))
    hide_axes(panel)
    panel.set_title("mass that explains it", fontsize=9, pad=3)


def _row(row: Sequence[Axes], fit: FitPanel, added: bool) -> None:
    half, place = fit.pixel_scale * len(fit.data) / 2, _place(fit)
    both = stretch(np.concatenate([fit.data, fit.model]))  # one stretch, to be compared
    for panel, image in zip(row, (both[: len(fit.data)], both[len(fit.data) :]), strict=False):
        panel.imshow(image, cmap=IMAGE_COLORMAP, vmin=0, vmax=1, **place)
    row[2].imshow(
        fit.residual, cmap="RdBu_r", vmin=-RESIDUAL_RANGE_SIGMA, vmax=RESIDUAL_RANGE_SIGMA, **place
    )
    titles = [fit.title, "model", f"residual, χ² {fit.reduced_chi2:.3f}"]
    if added:
        row[3].imshow(both[: len(fit.data)], cmap="Grays", vmin=0, vmax=1.4, **place)
        if fit.mean_mass is not None:
            _draw_density(row[3], fit.mean_mass, place)
        _draw_substructure(row[3], fit)
        titles.append("mass added")
    for panel, title in zip(row, titles, strict=False):
        hide_axes(panel)
        panel.set_title(title, fontsize=9, pad=3)
        panel.set_xlim(-half, half)
        panel.set_ylim(-half, half)
    row[0].plot([-0.9 * half, -0.9 * half + 1], [-0.9 * half] * 2, color="white", lw=2)
    row[0].text(-0.9 * half, -0.85 * half, '1"', color="white", fontsize=8)


def _place(fit: FitPanel) -> dict[str, Any]:
    """Where on the sky a picture of a fit lies, whatever its grid."""
    half = fit.pixel_scale * len(fit.data) / 2
    return {
        "origin": "lower",
        "interpolation": "nearest",
        "extent": (-half, half, -half, half),
    }


def _draw_density(panel: Axes, density: np.ndarray, place: dict[str, Any]) -> None:
    """The mean mass as a wash of color, the denser the more."""
    spread = gaussian_filter(density, MASS_SMOOTHING_PIXELS)
    wash = np.empty((*density.shape, 4))
    wash[..., :3] = to_rgb(COLORS[0])
    wash[..., 3] = spread / max(float(spread.max()), 1e-30)
    panel.imshow(wash, **place)


def _draw_substructure(panel: Axes, fit: FitPanel) -> None:
    for x1, y1, x2, y2 in fit.lines:
        panel.plot([x1, x2], [y1, y2], color=COLORS[1], lw=2.5, solid_capstyle="butt")
    for x, y, radius in fit.points:
        panel.add_patch(
            Circle(
                (x, y), max(radius, MIN_CIRCLE_RADIUS_ARCSEC), color=COLORS[0], fill=False, lw=1.5
            )
        )
        panel.plot(x, y, marker=".", ms=3, color=MUTED_COLOR)
