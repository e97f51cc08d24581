"""The figure of robustness: each figure of merit against each shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from halometry.plotting import COLORS, MUTED_COLOR, create_figure, with_style
from halometry.robustness.core import ShiftStep
from halometry.robustness.shifts import SHIFTS

TITLE_WIDTH = 19  # of a title's line


@with_style
def robustness_figure(
    unshifted: ShiftStep, steps: Sequence[ShiftStep], titles: Mapping[str, str]
) -> Figure:
    """A row of panels a metric, a column a shift; the training preset is the hollow point.

    Steps stand at equal distances, whatever their factors.

    Args:
        own: on the training preset.
        steps: the others.
        titles: of the metrics that are shown, by key.
    """
    shifts = list(dict.fromkeys(step.shift for step in steps if step.shift))
    made, axes = create_figure(
        1.55 * len(shifts) + 1.0, 1.75 * len(titles) + 0.7, len(titles), len(shifts),
        sharey="row", sharex="col",
    )  # fmt: skip
    for column, name in enumerate(shifts):
        shift = SHIFTS[name]
        shown = [step for step in steps if step.shift == name]
        shown = sorted(
            [*shown, unshifted], key=lambda s: shift.identity if s is unshifted else s.factor
        )
        factors = [shift.identity if step is unshifted else step.factor for step in shown]
        here = next(i for i, step in enumerate(shown) if step is unshifted)
        for row, key in enumerate(titles):
            panel = axes[row, column]
            values = [step.metrics[key] for step in shown]
            middle = np.array([one.value for one in values])
            down = middle - [one.low for one in values]
            up = np.array([one.high for one in values]) - middle
            at, color = np.arange(len(shown)), COLORS[row % len(COLORS)]
            panel.axhline(middle[here], color=MUTED_COLOR, lw=1, ls=":")
            panel.errorbar(at, middle, np.maximum([down, up], 0), color=color, lw=1.5,
                           marker="o", ms=4, elinewidth=1)  # fmt: skip
            panel.plot(here, middle[here], marker="o", ms=6, mfc="white", mec=color, mew=1.5,
                       zorder=5)  # fmt: skip
            panel.set_xticks(at, [f"{factor:g}" for factor in factors], fontsize=8)
        axes[0, column].set_title(fill(shift.label, TITLE_WIDTH), fontsize=9)
    for row, title in enumerate(titles.values()):
        axes[row, 0].set_ylabel(title)
    made.supxlabel("times the training preset's", fontsize=9)
    return made
