"""Figures of the method: from an image to a prediction, for three images, and as a schematic.

    python research/pipeline.py

The images are those of `halometry simulate common_test_1 --count 30 --seed 7`. They are fitted and
mapped without their true lenses.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import halometry
from halometry.evaluation.predictions import Prediction
from halometry.lensfit import Fit
from halometry.lensfit.command import fit_panel
from halometry.lensfit.figure import RESIDUAL_RANGE_SIGMA, FitPanel
from halometry.plotting import (
    COLORS,
    GRID_COLOR,
    IMAGE_COLORMAP,
    MUTED_COLOR,
    TEXT_COLOR,
    create_figure,
    hide_axes,
    save_figure,
    stretch,
    with_style,
)
from halometry.simulation import draw_scenes

PRESET, COUNT, SEED = "common_test_1", 30, 7
ROWS = (9, 4, 11)  # images of the three classes
SCHEMATIC_ROW = 4
CLASS_WEIGHTS, MASS_WEIGHTS = "common_test_1/d4net_mapped", "halo_mass_broad/d4net_mapped"
SHOWN_ARCSEC = 2.5  # half of the side of the shown part of an image
MASS_MAP_LIMIT = 0.7  # largest convergence of the color scale
CLASS_NAMES = ("no", "sphere", "vort")


@dataclass(frozen=True)
class Example:
    """An image, its fit and its predictions.

    Attributes:
        fit: data, smooth model, residual and mass map.
        classes: prediction of the classes.
        true_class: name.
        mass: prediction of the mass fraction, if it was made.
        true_mass: mass of the subhalos over the mass of the halo.
    """

    fit: FitPanel
    classes: Prediction
    true_class: str
    mass: Prediction | None = None
    true_mass: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="a folder")
    options = parser.parse_args()
    examples = make_examples()
    save_figure(draw_predictions([examples[row] for row in ROWS]), options.out / "prediction.jpg")
    save_figure(draw_schematic(examples[SCHEMATIC_ROW]), options.out / "pipeline.jpg")


def make_examples() -> dict[int, Example]:
    """Simulate, fit and predict the images of `ROWS`, by row."""
    with TemporaryDirectory() as place:
        images = Path(place) / "new.h5"
        halometry.simulate(PRESET, COUNT, seed=SEED, out=images)
        data = halometry.open_dataset(images)
        pixels = np.stack([np.asarray(data.images[row]).squeeze() for row in ROWS])
        labels = [int(data.labels[row]) for row in ROWS]
    fractions = draw_scenes(halometry.load_preset(PRESET), SEED, 0, COUNT).f_sub
    fits = halometry.fit_lens(pixels, PRESET, mass_map=True)
    classes = halometry.predict(CLASS_WEIGHTS, pixels)
    masses = halometry.predict(MASS_WEIGHTS, pixels)
    examples = {}
    for row, label, fit, one, mass in zip(ROWS, labels, fits, classes, masses, strict=True):
        assert isinstance(fit, Fit)
        panel = replace(fit_panel(fit), title=CLASS_NAMES[label])
        examples[row] = Example(panel, one, CLASS_NAMES[label], mass, float(fractions[row]))
    return examples


@with_style
def draw_predictions(examples: list[Example]) -> Figure:
    """Image, smooth model, residual, mass map and class probabilities, one row per image."""
    figure, axes = create_figure(
        8.0, 5.05, len(examples), 5, gridspec_kw={"width_ratios": [1, 1, 1, 1, 0.85]}
    )
    for row, example in zip(axes, examples, strict=True):
        draw_steps(row, example.fit)
        draw_probabilities(row[4], example)
        row[0].set_ylabel(f"true class: {example.true_class}", fontsize=9)
    titles = ("image", "smooth model", "residual / noise", "mass map", "prediction")
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, loc="center", fontsize=10)
    add_color_bar(figure, axes[:, 2])
    add_color_bar(figure, axes[:, 3])
    return figure


@with_style
def draw_schematic(example: Example) -> Figure:
    """The steps from an image to its class probabilities and the posterior of its mass fraction."""
    width, height, side, bottom = 8.3, 2.6, 1.13, 1.2  # inches
    figure = Figure(figsize=(width, height))

    def axes(left: float, low: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, low / height, wide / width, high / height))

    lefts = [0.08 + 1.59 * step for step in range(4)]
    panels = [axes(left, bottom, side, side) for left in lefts]
    draw_steps(panels, example.fit)
    for panel, title in zip(panels, ("image", "smooth model", "residual", "mass map"), strict=True):
        panel.set_title(title, loc="center", fontsize=10)
    canvas = axes(0, 0, width, height)
    canvas.set_xlim(0, width)
    canvas.set_ylim(0, height)
    canvas.patch.set_visible(False)
    hide_axes(canvas)
    middle = bottom + side / 2
    for left, label in zip(lefts, ("fit", "subtract", "solve"), strict=False):
        start = left + side + 0.06
        _arrow(canvas, (start, middle), (start + 0.34, middle))
        canvas.text(start + 0.17, middle + 0.07, label, ha="center", va="bottom", fontsize=7.5)
    level, box = 0.75, (6.3, 0.35, 0.42, 2.05)
    for step in (0, 2, 3):
        x = lefts[step] + side / 2
        canvas.plot([x, x], [bottom - 0.06, level], color=MUTED_COLOR, lw=1.3)
    canvas.plot([lefts[0] + side / 2, lefts[3] + side / 2], [level] * 2, color=MUTED_COLOR, lw=1.3)
    _arrow(canvas, (lefts[3] + side / 2, level), (box[0] - 0.04, level))
    text = "three input channels"
    canvas.text(lefts[1] + side / 2 + 0.1, level - 0.08, text, ha="center", va="top", fontsize=8.5)
    canvas.add_patch(
        FancyBboxPatch(
            box[:2], *box[2:], boxstyle="round,pad=0,rounding_size=0.08", fc=GRID_COLOR, ec="none"
        )
    )
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    canvas.text(x, y, "network (d4net)", rotation=90, ha="center", va="center", fontsize=10)
    right = box[0] + box[2]
    for target in (1.85, 0.75):
        _arrow(canvas, (right + 0.04, target), (right + 0.27, target))
    classes = axes(right + 0.34, 1.4, 1.15, 0.95)
    draw_probabilities(classes, example, fontsize=7.5)
    classes.set_title("class", loc="center", fontsize=10)
    draw_posterior(axes(right + 0.34, 0.3, 1.15, 0.65), example)
    return figure


def _arrow(canvas: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    canvas.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=10,
            color=TEXT_COLOR,
            lw=1.3,
            shrinkA=0,
            shrinkB=0,
        )
    )


def draw_posterior(panel: Axes, example: Example) -> None:
    """Draw the posterior of the mass fraction, and the true value."""
    assert example.mass is not None
    assert example.mass.posterior is not None
    posterior = example.mass.posterior
    panel.fill_between(
        posterior.grid.centers, posterior.density[0], color=COLORS[0], alpha=0.5, lw=0
    )
    panel.axvline(example.true_mass, color=COLORS[1], lw=1.5)
    panel.set_title("f_sub (orange: true)", loc="center", fontsize=8)
    panel.set_yticks([])
    panel.set_ylim(0, None)
    panel.set_xlim(0, 0.12)
    panel.set_xticks([0, 0.05, 0.1], ["0", "0.05", "0.10"])
    panel.tick_params(labelsize=8)
    panel.grid(False)
    panel.spines["left"].set_visible(False)


def draw_steps(panels: Any, fit: FitPanel) -> None:
    """Draw image, model, residual and mass map on four panels."""
    half = fit.pixel_scale * len(fit.data) / 2
    options: dict[str, Any] = {"origin": "lower", "extent": (-half, half, -half, half)}
    both = stretch(np.stack([fit.data, fit.model]))  # with the same limits
    for panel, image in zip(panels, both, strict=False):
        panel.imshow(image, cmap=IMAGE_COLORMAP, vmin=0, vmax=1, **options)
    limit = RESIDUAL_RANGE_SIGMA
    panels[2].imshow(fit.residual, cmap="RdBu_r", vmin=-limit, vmax=limit, **options)
    limit = MASS_MAP_LIMIT
    panels[3].imshow(fit.convergence, cmap="PuOr_r", vmin=-limit, vmax=limit, **options)
    for panel in panels[:4]:
        hide_axes(panel)
        panel.set_xlim(-SHOWN_ARCSEC, SHOWN_ARCSEC)
        panel.set_ylim(-SHOWN_ARCSEC, SHOWN_ARCSEC)
    left = -0.9 * SHOWN_ARCSEC
    panels[0].plot([left, left + 1], [left, left], color="white", lw=2)
    panels[0].text(left + 0.5, left + 0.15, '1"', color="white", fontsize=8, ha="center")


def draw_probabilities(panel: Axes, example: Example, fontsize: float = 8.5) -> None:
    """Draw the probability of each class as a bar."""
    values = [example.classes.probabilities[name] for name in CLASS_NAMES]
    colors = [COLORS[0] if name == example.true_class else COLORS[1] for name in CLASS_NAMES]
    panel.barh(range(3), values, color=colors, height=0.4)
    for place, (name, value) in enumerate(zip(CLASS_NAMES, values, strict=True)):
        panel.text(0, place - 0.25, f"{name}  {value:.3f}", fontsize=fontsize, va="bottom")
    panel.set_xlim(0, 1)
    panel.set_ylim(2.45, -0.75)
    hide_axes(panel)
    panel.axvline(0, color=MUTED_COLOR, lw=1)


def add_color_bar(figure: Figure, column: Any) -> None:
    """Add a horizontal color bar below a column of panels."""
    bar = figure.colorbar(
        column[0].images[0], ax=list(column), location="bottom", shrink=0.9, aspect=18, pad=0.02
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)


if __name__ == "__main__":
    main()
