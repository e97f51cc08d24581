"""One look for all figures: colors a color-blind reader can tell apart, quiet axes."""

from __future__ import annotations

import io
import re
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
# Okabe & Ito's palette, begun with the three that differ most.
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
_numbers = count()


def colors_by_name(names: Iterable[str]) -> dict[str, str]:
    """A color for each name, by order."""
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def create_figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> Any:
    """A figure of a size in inches with axes (rows, columns), always a two-dimensional array.

    Returns:
        (figure, axes).
    """
    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **grid)


def with_style(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Give a function that draws a figure the common look, whatever the user's own settings."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with matplotlib.rc_context(matplotlib.rcParamsDefault | STYLE):
            return draw(*args, **kwargs)

    return drawn


def hide_axes(axes: Axes) -> None:
    """Take away everything but the picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def save_figure(made: Figure, path: str | Path) -> None:
    """Write a figure; the ending chooses the format.

    Raises:
        StorageError: no room or no permission.
        UsageError: a format that is not known.
    """
    path = Path(path)
    known = made.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise UsageError(f"{path}: cannot draw a '{path.suffix}' file; use .png, .svg or .pdf")
    with atomic_write(path) as partial, matplotlib.rc_context(STYLE):
        made.savefig(partial, dpi=150, format=path.suffix[1:].lower())


def to_svg(made: Figure) -> str:
    """A figure as an SVG element to put into a page; its ids do not clash with another's."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "halometry"}):
        made.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    prefix = f"f{next(_numbers)}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace('href="#', f'href="#{prefix}').replace("url(#", f"url(#{prefix}")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # The page scales it to its column; no wider than it was drawn for.
    width = round(96 * made.get_figwidth())
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2)
    return svg.replace("<svg ", f'<svg style="max-width:{width}px" ', 1)


LowerMaps = tuple[str, Sequence[np.ndarray]]  # what maps under images show, and these


@with_style
def montage(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int = 4,
    lower_maps: LowerMaps | None = None,
) -> Figure:
    """Lens images side by side, each stretched so that faint arcs show.

    Args:
        images: each (H, W).
        titles: one an image.
        columns: images a row.
        beneath: a second map (H, W) under each image, from 0 to the largest of all of them, and
            what they show.
    """
    rows = -(-len(images) // columns)
    deep = 2 if lower_maps else 1
    height = 1.98 * rows if lower_maps is None else 3.75 * rows + 0.3
    made, axes = create_figure(1.75 * columns, height, rows * deep, columns)
    for panel in axes.flat:
        hide_axes(panel)
    names = list(dict.fromkeys(titles))
    few = len(names) <= len(COLORS) < len(titles) or len(names) <= 3
    for panel, image, title in zip(axes[::deep].flat, images, titles, strict=False):
        panel.imshow(stretch(image), cmap=IMAGE_COLORMAP, origin="lower", interpolation="nearest")
        color = COLORS[names.index(title)] if few else TEXT_COLOR
        panel.set_title(shorten(title), fontsize=9, color=color, pad=3)
    if lower_maps is not None:
        what, maps = lower_maps
        top = max(float(np.quantile(one, 0.999)) for one in maps) or 1.0
        for panel, one in zip(axes[1::2].flat, maps, strict=False):
            panel.imshow(one, MASS_COLORMAP, norm=PowerNorm(0.5, 0, top, clip=True), origin="lower")
        made.supxlabel(f"{what}, 0 to {top:.2g} (by its root)", fontsize=9, color=MUTED_COLOR)
    return made


def stretch(image: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 in which an arc of a tenth of the peak is still bright."""
    low, high = np.quantile(image, (0.02, 0.999))
    scaled = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    return np.arcsinh(8 * scaled) / np.arcsinh(8)


def shorten(title: str, length: int = 24) -> str:
    return title if len(title) <= length else f"{title[: length - 9]}…{title[-8:]}"
