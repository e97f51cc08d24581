"""Reliability diagrams: accuracy against confidence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halometry.evaluation.calibration_error import Reliability, reliability
from halometry.plotting import MUTED_COLOR, TEXT_COLOR, colors_by_name, create_figure, with_style

HISTOGRAM_BINS = 20


@with_style
def reliability_figure(
    models: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Figure:
    """Reliability diagrams with a histogram of the confidence below; one column per network.

    Args:
        models: for each network, class indices (N,), probabilities (N, K), and probabilities
            without temperature and biases (N, K).
    """
    color = colors_by_name(models)
    drawn, axes = create_figure(
        4.3 * len(models),
        5.6,
        2,
        len(models),
        sharex=True,
        sharey="row",
        gridspec_kw={"height_ratios": [3.4, 1]},
    )
    for column, (name, (truth, calibrated, uncalibrated)) in enumerate(models.items()):
        above, below = axes[:, column]
        lowest = 1 / calibrated.shape[1]
        above.plot([lowest, 1], [lowest, 1], color=MUTED_COLOR, lw=1, ls=":")
        if not np.allclose(calibrated, uncalibrated):
            before = reliability(truth, uncalibrated)
            _plot_bins(above, before, MUTED_COLOR, "before calibration", hollow=True)
        _plot_bins(above, reliability(truth, calibrated), color[name], "after calibration")
        above.set_title(name)
        above.set_box_aspect(1)
        above.legend(loc="upper left", fontsize=9)
        edges = np.linspace(lowest, 1, HISTOGRAM_BINS + 1)
        below.hist(calibrated.max(axis=1), edges, color=color[name], alpha=0.75)
        below.set_yscale("log")
        below.set_xlabel("confidence (probability of the predicted class)")
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("images")
    return drawn


def _plot_bins(
    panel: Axes, bins: Reliability, color: str, label: str, hollow: bool = False
) -> None:
    """Plot bins of equally many images with binomial error bars."""
    errors = np.stack([bins.accuracy - bins.low, bins.high - bins.accuracy])
    panel.errorbar(
        bins.confidence,
        bins.accuracy,
        np.maximum(errors, 0),
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
