"""Figure of robustness: each metric against each shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from halometry.plotting import COLORS, MUTED_COLOR, create_figure, with_style
from halometry.robustness.core import ShiftStep
from halometry.robustness.shifts import SHIFTS

TITLE_WIDTH = 28  # characters of a line
PANELS_PER_ROW = 4


@with_style
def robustness_figure(
    unshifted: ShiftStep, steps: Sequence[ShiftStep], titles: Mapping[str, str]
) -> Figure:
    """One panel per metric and shift: a block of rows per metric, a panel per shift in it.

    The open circle is the training preset; the dotted line is its value.

    Args:
        unshifted: metrics on the training preset.
        steps: metrics on the shifted presets.
        titles: titles of the metrics that are shown, by key.
    """
    shifts = list(dict.fromkeys(step.shift for step in steps if step.shift))
    columns = min(PANELS_PER_ROW, len(shifts))
    rows_per_metric = -(-len(shifts) // PANELS_PER_ROW)
    rows = rows_per_metric * len(titles)
    drawing, axes = create_figure(2.1 * columns + 0.6, 1.75 * rows + 0.4, rows, columns)
    for panel in axes.flat:
        panel.axis("off")
    for block, (key, title) in enumerate(titles.items()):
        panels = axes[block * rows_per_metric : (block + 1) * rows_per_metric].ravel()
        color = COLORS[block % len(COLORS)]
        for panel, name in zip(panels, shifts, strict=False):
            panel.axis("on")
            shift = SHIFTS[name]
            found = {step.factor: step for step in steps if step.shift == name}
            found = dict(sorted((found | {shift.unchanged_at: unshifted}).items()))
            factors = list(found)
            intervals = [step.metrics[key] for step in found.values()]
            values = np.array([interval.value for interval in intervals])
            below = values - [interval.low for interval in intervals]
            above = np.array([interval.high for interval in intervals]) - values
            start = unshifted.metrics[key].value
            panel.axhline(start, color=MUTED_COLOR, lw=1, ls=":")
            panel.errorbar(factors, values, np.maximum([below, above], 0), color=color, lw=1.5,
                           marker="o", ms=4, elinewidth=1)  # fmt: skip
            panel.plot(shift.unchanged_at, start, marker="o", ms=6, mfc="white", mec=color,
                       mew=1.5, zorder=5)  # fmt: skip
            scale_factors(panel, name, factors)
            panel.set_title(fill(shift.label, TITLE_WIDTH), fontsize=9)
        low = min(panel.get_ylim()[0] for panel in panels[: len(shifts)])
        high = max(panel.get_ylim()[1] for panel in panels[: len(shifts)])
        for panel in panels[: len(shifts)]:
            panel.set_ylim(low, high)
        for panel in panels[::columns]:
            panel.set_ylabel(title)
    drawing.supxlabel("factor on the value of the training preset", fontsize=9)
    return drawing


def scale_factors(panel: Axes, shift: str, factors: Sequence[float]) -> None:
    """Give a panel an axis of factors that is to scale, with a tick at each factor.

    Factors around 1 are logarithmic. Those of the shear, which start at 0, are linear. Brightness
    of added light is logarithmic above its smallest step.
    """
    if SHIFTS[shift].unchanged_at == 0:
        smallest = min(factor for factor in factors if factor)
        panel.set_xscale("symlog", linthresh=smallest, linscale=0.5)
        panel.set_xlim(-0.3 * smallest, 1.4 * max(factors))
    elif min(factors) > 0:
        panel.set_xscale("log")
    panel.set_xticks(list(factors), [f"{factor:g}" for factor in factors], fontsize=8)
    panel.xaxis.set_minor_locator(NullLocator())
