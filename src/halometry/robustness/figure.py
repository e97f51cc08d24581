"""Figure of robustness: each metric against each shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from halometry.plotting import COLORS, MUTED_COLOR, create_figure, with_style
from halometry.robustness.core import ShiftStep
from halometry.robustness.shifts import SHIFTS

TITLE_WIDTH = 19  # characters of a line


@with_style
def robustness_figure(
    unshifted: ShiftStep, steps: Sequence[ShiftStep], titles: Mapping[str, str]
) -> Figure:
    """One row of panels per metric, one column per shift.

    The steps are equidistant, in the order of their factors. The open circle is the training
    preset; the dotted line is its value.

    Args:
        unshifted: metrics on the training preset.
        steps: metrics on the shifted presets.
        titles: titles of the metrics that are shown, by key.
    """
    shifts = list(dict.fromkeys(step.shift for step in steps if step.shift))
    width, height = 1.55 * len(shifts) + 1.0, 1.75 * len(titles) + 0.7
    drawing, axes = create_figure(
        width, height, len(titles), len(shifts), sharey="row", sharex="col"
    )
    for column, name in enumerate(shifts):
        shift = SHIFTS[name]
        factors = {step.factor: step for step in steps if step.shift == name}
        factors = dict(sorted((factors | {shift.unchanged_at: unshifted}).items()))
        start = list(factors).index(shift.unchanged_at)
        positions = np.arange(len(factors))
        for row, key in enumerate(titles):
            panel, color = axes[row, column], COLORS[row % len(COLORS)]
            intervals = [step.metrics[key] for step in factors.values()]
            values = np.array([interval.value for interval in intervals])
            below = values - [interval.low for interval in intervals]
            above = np.array([interval.high for interval in intervals]) - values
            panel.axhline(values[start], color=MUTED_COLOR, lw=1, ls=":")
            panel.errorbar(positions, values, np.maximum([below, above], 0), color=color, lw=1.5,
                           marker="o", ms=4, elinewidth=1)  # fmt: skip
            panel.plot(start, values[start], marker="o", ms=6, mfc="white", mec=color, mew=1.5,
                       zorder=5)  # fmt: skip
            panel.set_xticks(positions, [f"{factor:g}" for factor in factors], fontsize=8)
        axes[0, column].set_title(fill(shift.label, TITLE_WIDTH), fontsize=9)
    for row, title in enumerate(titles.values()):
        axes[row, 0].set_ylabel(title)
    drawing.supxlabel("factor on the value of the training preset", fontsize=9)
    return drawing
