"""Figure of the checks of posteriors: PIT histogram, expected coverage, coverage by thirds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from halometry.calibration.posterior import CREDIBLE_LEVELS
from halometry.evaluation.posterior_checks import THIRD_NAMES
from halometry.evaluation.records import PosteriorRecord
from halometry.plotting import (
    GRID_COLOR,
    MUTED_COLOR,
    TEXT_COLOR,
    colors_by_name,
    create_figure,
    with_style,
)

CHANCE_QUANTILES = (0.025, 0.975)  # limits of the bands that show the scatter of correct posteriors


@with_style
def posterior_figure(models: Mapping[str, PosteriorRecord]) -> Figure:
    """PIT histogram, expected coverage, and coverage of the central intervals by thirds.

    Args:
        models: for each network, checks of its posteriors for the same images.

    Reference:
        Dawid (1984), J. R. Stat. Soc. A 147, 278; Hermans et al. (2022),
        https://arxiv.org/abs/2110.06581.
    """
    drawn, axes = create_figure(11.4, 3.9, 1, 3)
    color = colors_by_name(models)
    count = next(iter(models.values())).count
    _plot_pit(axes[0, 0], models, color, count)
    _plot_expected_coverage(axes[0, 1], models, color, count)
    _plot_coverage_by_third(axes[0, 2], models, color)
    return drawn


def _plot_pit(
    panel: Axes, models: Mapping[str, PosteriorRecord], color: dict[str, str], count: int
) -> None:
    bins = len(next(iter(models.values())).pit)
    edges = np.linspace(0, 1, bins + 1)
    low, high = binom.ppf(CHANCE_QUANTILES, count, 1 / bins) / count * bins
    panel.axhspan(low, high, color=GRID_COLOR, zorder=0)
    panel.axhline(1, color=MUTED_COLOR, lw=1, ls=":")
    for name, record in models.items():
        density = np.array(record.pit) / record.count * bins
        panel.stairs(density, edges, color=color[name], lw=2, label=name)
        if len(models) == 1:
            panel.stairs(density, edges, color=color[name], fill=True, alpha=0.25)
    panel.set_xlim(0, 1)
    highest = max(max(record.pit) / record.count for record in models.values()) * bins
    panel.set_ylim(0, max(1.6, 1.1 * highest))
    panel.set_title("PIT histogram")
    panel.set_xlabel("posterior probability below the true mass (PIT)")
    panel.set_ylabel("images, relative to a uniform distribution")


def _plot_expected_coverage(
    panel: Axes, models: Mapping[str, PosteriorRecord], color: dict[str, str], count: int
) -> None:
    level = np.linspace(0, 1, 201)
    low, high = (binom.ppf(quantile, count, level) / count for quantile in CHANCE_QUANTILES)
    panel.fill_between(level, low, high, color=GRID_COLOR, lw=0, zorder=0)
    panel.plot([0, 1], [0, 1], color=MUTED_COLOR, lw=1, ls=":")
    for name, record in models.items():
        curve = record.expected_coverage
        panel.plot(curve.level, curve.fraction, color=color[name], lw=2, label=name)
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_box_aspect(1)
    panel.set_title("Expected coverage")
    panel.set_xlabel("credibility of the highest-density region")
    panel.set_ylabel("coverage")
    panel.text(0.97, 0.1, "overconfident", ha="right", fontsize=8.5, color=MUTED_COLOR)
    panel.text(0.03, 0.92, "underconfident", fontsize=8.5, color=MUTED_COLOR)
    panel.legend(loc="lower right", bbox_to_anchor=(1, 0.13), fontsize=8.5)


def _plot_coverage_by_third(
    panel: Axes, models: Mapping[str, PosteriorRecord], color: dict[str, str]
) -> None:
    for level in CREDIBLE_LEVELS.values():
        panel.axhline(level, color=MUTED_COLOR, lw=1, ls=":")
    offsets = np.linspace(-0.12, 0.12, len(models)) if len(models) > 1 else [0.0]
    positions = {("all", "all"): 0.0}
    positions |= {("truth", third): 1.3 + i for i, third in enumerate(THIRD_NAMES)}
    positions |= {("median", third): 4.6 + i for i, third in enumerate(THIRD_NAMES)}
    lowest = 1.0
    for offset, (name, record) in zip(offsets, models.items(), strict=True):
        for row in record.coverage:
            for interval in (row.coverage_68, row.coverage_95):
                lowest = min(lowest, interval.low)
                panel.errorbar(
                    positions[row.by, row.third] + offset,
                    interval.value,
                    [[interval.value - interval.low], [interval.high - interval.value]],
                    fmt="o",
                    ms=4.5,
                    lw=1.4,
                    color=color[name],
                )
    panel.set_xticks(
        list(positions.values()),
        ["all", *THIRD_NAMES, *THIRD_NAMES],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    for center, text in ((2.3, "by true mass"), (5.6, "by median")):
        panel.text(
            center,
            0.02,
            text,
            ha="center",
            color=TEXT_COLOR,
            fontsize=9,
            transform=panel.get_xaxis_transform(),
        )
    panel.set_ylim(max(0.0, min(0.5, lowest)) - 0.08, 1.01)
    panel.set_title("Coverage of 68 and 95 % intervals")
    panel.set_ylabel("coverage")
