"""Reliability diagrams: accuracy against confidence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy.special import expit, logit

from halometry.evaluation.calibration_error import RELIABILITY_BINS, Reliability, reliability
from halometry.plotting import MUTED_COLOR, TEXT_COLOR, colors_by_name, create_figure, with_style

HISTOGRAM_BINS = 20
TICKS = (0.4, 0.6, 0.8, 0.9, 0.97, 0.99, 0.999)
MAX_SHOWN, END = 0.9998, 0.99985  # largest value that is drawn, and end of the axes
MIN_BIN_IMAGES = 10  # in a bin of confidence, if there are few images


@with_style
def reliability_figure(
    models: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    colors: Mapping[str, str] | None = None,
) -> Figure:
    """Reliability diagrams with a histogram of the confidence below; one column per network.

    The axes are logarithmic in the odds, so that probabilities near 1 are apart. They end at
    `MAX_SHOWN`: larger values, also those of bins without an error, are drawn there.

    Args:
        models: for each network, class indices (N,), probabilities (N, K), and probabilities
            without temperature and biases (N, K).
        colors: for each network; those of `colors_by_name` if not given.
    """
    color = colors or colors_by_name(models)
    drawn, axes = create_figure(
        4.3 * len(models),
        5.4,
        2,
        len(models),
        sharex=True,
        sharey="row",
        gridspec_kw={"height_ratios": [3.4, 1]},
    )
    for column, (name, (truth, calibrated, uncalibrated)) in enumerate(models.items()):
        above, below = axes[:, column]
        lowest = 1 / calibrated.shape[1]
        bins = min(RELIABILITY_BINS, max(1, len(truth) // MIN_BIN_IMAGES))
        line = np.linspace(lowest, MAX_SHOWN, 1000)
        above.plot(line, line, color=MUTED_COLOR, lw=1, ls=":")
        if not np.allclose(calibrated, uncalibrated):
            before = reliability(truth, uncalibrated, bins)
            _plot_bins(above, before, MUTED_COLOR, "before calibration", hollow=True)
        _plot_bins(above, reliability(truth, calibrated, bins), color[name], "after calibration")
        above.set_title(name)
        above.set_box_aspect(1)
        above.legend(loc="upper left", fontsize=9)
        above.set_xscale("logit")
        above.set_yscale("logit")
        ticks = [tick for tick in TICKS if tick > lowest]
        for axis in (above.xaxis, above.yaxis):
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8.5)
            axis.set_minor_locator(NullLocator())
        above.set_xlim(0.95 * lowest, END)
        above.set_ylim(0.95 * lowest, END)
        edges = expit(np.linspace(logit(lowest), logit(MAX_SHOWN), HISTOGRAM_BINS + 1))
        confidence = np.clip(calibrated.max(axis=1), lowest, MAX_SHOWN)
        below.hist(confidence, edges, color=color[name], alpha=0.75)
        below.set_yscale("log")
        below.set_xlabel("confidence (probability of the predicted class)")
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("images")
    return drawn


def _plot_bins(
    panel: Axes, bins: Reliability, color: str, label: str, hollow: bool = False
) -> None:
    """Plot bins of equally many images with binomial error bars."""
    accuracy, high = (np.minimum(values, MAX_SHOWN) for values in (bins.accuracy, bins.high))
    confidence = np.minimum(bins.confidence, MAX_SHOWN)
    errors = np.stack([accuracy - bins.low, high - accuracy])
    panel.errorbar(
        confidence,
        accuracy,
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
