"""The figure of posteriors' reliability: are they as wide as the errors they stand for?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from halometry.calibration.posterior import CREDIBLE_LEVELS
from halometry.evaluation.posterior_checks import THIRD_NAMES
from halometry.plotting import (
    GRID_COLOR,
    MUTED_COLOR,
    TEXT_COLOR,
    colors_by_name,
    create_figure,
    with_style,
)

BAND = (0.025, 0.975)  # of what chance does to right posteriors


@with_style
def posterior_figure(models: Mapping[str, Mapping[str, Any]]) -> Figure:
    """PIT histogram, expected coverage, and the intervals' coverage by thirds of the images.

    Args:
        models: for each network its `posterior_record`; of the same images.

    Reference:
        Dawid (1984), J. R. Stat. Soc. A 147, 278; Hermans et al. (2022),
        https://arxiv.org/abs/2110.06581.
    """
    made, axes = create_figure(11.4, 3.9, 1, 3)
    color = colors_by_name(models)
    count = next(iter(models.values()))["count"]
    _pit(axes[0, 0], models, color, count)
    _expected(axes[0, 1], models, color, count)
    _thirds(axes[0, 2], models, color)
    return made


def _pit(
    panel: Axes, models: Mapping[str, Mapping[str, Any]], color: dict[str, str], count: int
) -> None:
    bins = len(next(iter(models.values()))["pit"])
    edges = np.linspace(0, 1, bins + 1)
    low, high = binom.ppf(BAND, count, 1 / bins) / count * bins
    panel.axhspan(low, high, color=GRID_COLOR, zorder=0)
    panel.axhline(1, color=MUTED_COLOR, lw=1, ls=":")
    for name, record in models.items():
        density = np.array(record["pit"]) / record["count"] * bins
        panel.stairs(density, edges, color=color[name], lw=2, label=name)
        if len(models) == 1:
            panel.stairs(density, edges, color=color[name], fill=True, alpha=0.25)
    panel.set_xlim(0, 1)
    highest = max(max(record["pit"]) / record["count"] for record in models.values()) * bins
    panel.set_ylim(0, max(1.6, 1.1 * highest))
    panel.set_title("Where the truth lies")
    panel.set_xlabel("posterior probability below it (PIT)")
    panel.set_ylabel("images, relative to right posteriors")


def _expected(
    panel: Axes, models: Mapping[str, Mapping[str, Any]], color: dict[str, str], count: int
) -> None:
    level = np.linspace(0, 1, 201)
    low, high = (binom.ppf(q, count, level) / count for q in BAND)
    panel.fill_between(level, low, high, color=GRID_COLOR, lw=0, zorder=0)
    panel.plot([0, 1], [0, 1], color=MUTED_COLOR, lw=1, ls=":")
    for name, record in models.items():
        curve = record["expected_coverage"]
        panel.plot(curve["level"], curve["share"], color=color[name], lw=2, label=name)
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_box_aspect(1)
    panel.set_title("Expected coverage")
    panel.set_xlabel("credibility of the densest region")
    panel.set_ylabel("share of images that it holds")
    panel.text(0.97, 0.1, "overconfident", ha="right", fontsize=8.5, color=MUTED_COLOR)
    panel.text(0.03, 0.92, "underconfident", fontsize=8.5, color=MUTED_COLOR)
    panel.legend(loc="lower right", bbox_to_anchor=(1, 0.13), fontsize=8.5)


def _thirds(panel: Axes, models: Mapping[str, Mapping[str, Any]], color: dict[str, str]) -> None:
    for level in CREDIBLE_LEVELS.values():
        panel.axhline(level, color=MUTED_COLOR, lw=1, ls=":")
    offsets = np.linspace(-0.12, 0.12, len(models)) if len(models) > 1 else [0.0]
    places = {"all": 0.0} | {f"truth {t}": 1.3 + i for i, t in enumerate(THIRD_NAMES)}
    places |= {f"median {t}": 4.6 + i for i, t in enumerate(THIRD_NAMES)}
    for offset, (name, record) in zip(offsets, models.items(), strict=True):
        for row in record["coverage"]:
            key = row["by"] if row["by"] == "all" else f"{row['by']} {row['third']}"
            for which in CREDIBLE_LEVELS:
                value, low, high = (row[which][end] for end in ("value", "low", "high"))
                panel.errorbar(
                    places[key] + offset, value, [[value - low], [high - value]],
                    fmt="o", ms=4.5, lw=1.4, color=color[name],
                )  # fmt: skip
    panel.set_xticks(
        list(places.values()),
        ["all"] + 2 * list(THIRD_NAMES),
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    for middle, text in ((2.3, "by true mass"), (5.6, "by median")):
        panel.text(
            middle, 0.02, text, ha="center", color=TEXT_COLOR, fontsize=9,
            transform=panel.get_xaxis_transform(),
        )  # fmt: skip
    lowest = min(
        row[level]["low"]
        for m in models.values()
        for row in m["coverage"]
        for level in CREDIBLE_LEVELS
    )
    panel.set_ylim(max(0.0, min(0.5, lowest)) - 0.08, 1.01)
    panel.set_title("68 and 95 % intervals, by thirds")
    panel.set_ylabel("share of images held")
