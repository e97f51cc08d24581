"""Reliability diagrams: how often a network is right against how sure it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halometry.evaluation.calibration_error import Reliability, reliability
from halometry.plotting import MUTED_COLOR, TEXT_COLOR, colors_by_name, create_figure, with_style

BARS = 20  # of the histogram


@with_style
def reliability_figure(
    models: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Figure:
    """Accuracy against confidence, the images behind it below, a column a network.

    Args:
        models: for each network class indices (N,), probabilities as given (N, K), and those
            before temperature and biases (N, K).
    """
    color = colors_by_name(models)
    made, axes = create_figure(
        4.3 * len(models),
        5.6,
        2,
        len(models),
        sharex=True,
        sharey="row",
        gridspec_kw={"height_ratios": [3.4, 1]},
    )
    for column, (name, (truth, after, before)) in enumerate(models.items()):
        above, below = axes[:, column]
        lowest = 1 / after.shape[1]
        above.plot([lowest, 1], [lowest, 1], color=MUTED_COLOR, lw=1, ls=":")
        if not np.allclose(after, before):
            _points(
                above, reliability(truth, before), MUTED_COLOR, "before calibration", hollow=True
            )
        _points(above, reliability(truth, after), color[name], "as given")
        above.set_title(name)
        above.set_box_aspect(1)
        above.legend(loc="upper left", fontsize=9)
        edges = np.linspace(lowest, 1, BARS + 1)
        below.hist(after.max(axis=1), edges, color=color[name], alpha=0.75)
        below.set_yscale("log")
        below.set_xlabel("probability of the class named")
    axes[0, 0].set_ylabel("share of right answers")
    axes[1, 0].set_ylabel("images")
    return made


def _points(panel: Axes, found: Reliability, color: str, label: str, hollow: bool = False) -> None:
    """The bins of equally many images, with binomial bars."""
    bars = np.stack([found.accuracy - found.low, found.high - found.accuracy])
    panel.errorbar(
        found.confidence,
        found.accuracy,
        np.maximum(bars, 0),
        fmt="o",
        ms=5,
        lw=1.2,
        color=color,
        ecolor=color if hollow else TEXT_COLOR,
        mfc="white" if hollow else None,
        label=label,
        capsize=0,
        zorder=2 if hollow else 3,
    )
