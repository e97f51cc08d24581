"""One look for all figures: colours a colour-blind reader can tell apart, quiet axes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halometry.errors import UsageError
from halometry.io import whole_file

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
# Okabe & Ito's palette, begun with the three that differ most.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1")
LENS_MAP, MASS_MAP = "inferno", "cividis"

RC = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
}

Given = ParamSpec("Given")
_numbers = count()


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, by order."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> Any:
    """A figure of a size in inches with axes (rows, columns), always a two-dimensional array.

    Returns:
        (figure, axes).
    """
    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **grid)


def styled(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Give a function that draws a figure the common look, whatever the user's own settings."""

    @wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with matplotlib.rc_context(matplotlib.rcParamsDefault | RC):
            return draw(*args, **kwargs)

    return drawn


def bare(axes: Axes) -> None:
    """Take away everything but the picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def save(made: Figure, path: str | Path) -> None:
    """Write a figure; the ending chooses the format.

    Raises:
        StorageError: no room or no permission.
        UsageError: a format that is not known.
    """
    path = Path(path)
    known = made.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise UsageError(f"{path}: cannot draw a '{path.suffix}' file; use .png, .svg or .pdf")
    with whole_file(path) as partial, matplotlib.rc_context(RC):
        made.savefig(partial, dpi=150, format=path.suffix[1:].lower())


def to_svg(made: Figure) -> str:
    """A figure as an SVG element to put into a page; its ids do not clash with another's."""
    text = io.StringIO()
    with matplotlib.rc_context(RC | {"svg.hashsalt": "halometry"}):
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
