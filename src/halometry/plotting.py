"""Figures in one style: a palette for color-blind readers, image stretch, files and SVG."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from halometry.errors import UsageError
from halometry.io import atomic_write

TEXT_COLOR, MUTED_COLOR, GRID_COLOR = "#1f2430", "#6b7280", "#e5e7eb"
# The palette of Okabe and Ito (2008), starting with the three most distinct colors.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1")
IMAGE_COLORMAP, MASS_COLORMAP = "inferno", "cividis"

STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": MUTED_COLOR,
    "axes.labelcolor": TEXT_COLOR,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlecolor": TEXT_COLOR,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID_COLOR,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED_COLOR,
    "ytick.color": MUTED_COLOR,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
}

Parameters = ParamSpec("Parameters")
_svg_number = count()


def colors_by_name(names: Iterable[str]) -> dict[str, str]:
    """Return a color for each name, in the order of the palette."""
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def create_figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> Any:
    """Create a figure with a grid of axes.

    Args:
        width, height: inches.
        rows, columns: of axes.
        grid: further options of `matplotlib.figure.Figure.subplots`.

    Returns:
        The figure, and a two-dimensional array of its axes (rows, columns).
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def with_style(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Decorate a function that draws a figure: it uses `STYLE` in place of the user's settings."""

    @wraps(draw)
    def styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with matplotlib.rc_context(matplotlib.rcParamsDefault | STYLE):
            return draw(*args, **kwargs)

    return styled


def hide_axes(axes: Axes) -> None:
    """Remove ticks, grid and frame, so that only the image remains."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file, in the format of the file's suffix.

    Raises:
        StorageError: no room or no permission.
        UsageError: the format is unknown.
    """
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in formats:
        raise UsageError(f"{path}: cannot draw a '{path.suffix}' file; use .png, .svg or .pdf")
    with atomic_write(path) as partial, matplotlib.rc_context(STYLE):
        figure.savefig(partial, dpi=150, format=path.suffix[1:].lower())


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG element for a web page, with ids that are unique in the page."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "halometry"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    prefix = f"f{next(_svg_number)}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace('href="#', f'href="#{prefix}').replace("url(#", f"url(#{prefix}")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # The page scales it to the width of its column, but not beyond its own width.
    width = round(96 * figure.get_figwidth())
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2)
    return svg.replace("<svg ", f'<svg style="max-width:{width}px" ', 1)


LABEL_CHARACTERS = 24  # that are as wide as an image of a montage
LowerMaps = tuple[str, Sequence[np.ndarray]]  # label and values of maps below images


@with_style
def montage(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int = 4,
    lower_maps: LowerMaps | None = None,
) -> Figure:
    """Draw lens images side by side, stretched so that faint arcs are visible.

    Args:
        images: each (H, W).
        titles: one per image.
        columns: images per row.
        lower_maps: label and values of one more map (H, W) below each image, on a color scale from
            0 to the largest of their values.
    """
    rows = -(-len(images) // columns)
    panels_per_image = 2 if lower_maps else 1
    height = 1.98 * rows if lower_maps is None else 3.75 * rows + 0.3
    figure, axes = create_figure(1.75 * columns, height, rows * panels_per_image, columns)
    for panel in axes.flat:
        hide_axes(panel)
    classes = list(dict.fromkeys(titles))
    colored = len(classes) <= len(COLORS) < len(titles) or len(classes) <= 3
    for panel, image, title in zip(axes[::panels_per_image].flat, images, titles, strict=False):
        panel.imshow(stretch(image), cmap=IMAGE_COLORMAP, origin="lower", interpolation="nearest")
        color = COLORS[classes.index(title)] if colored else TEXT_COLOR
        panel.set_title(shorten(title), fontsize=9, color=color, pad=3)
    if lower_maps is not None:
        label, maps = lower_maps
        top = max(float(np.quantile(values, 0.999)) for values in maps) or 1.0
        norm = PowerNorm(0.5, 0, top, clip=True)
        for panel, values in zip(axes[1::2].flat, maps, strict=False):
            panel.imshow(values, MASS_COLORMAP, norm=norm, origin="lower")
        scale = f"{label}, 0 to {top:.2g} (square-root scale)"
        lines = textwrap.fill(scale, LABEL_CHARACTERS * columns)
        figure.supxlabel(lines, fontsize=9, color=MUTED_COLOR)
    return figure


def stretch(image: np.ndarray) -> np.ndarray:
    """Scale an image to the range from 0 to 1 by an arcsinh, so that faint arcs are visible."""
    low, high = np.quantile(image, (0.02, 0.999))
    scaled = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    return np.arcsinh(8 * scaled) / np.arcsinh(8)


def shorten(title: str, length: int = 24) -> str:
    """Shorten a title to a number of characters, by an ellipsis before its last eight."""
    return title if len(title) <= length else f"{title[: length - 9]}…{title[-8:]}"
