"""Robustness of several runs in one figure.

python research/robustness_together.py results/robustness.json results/robustness_mapped.json \
    results/robustness_broad.json --out docs/images/robustness_together.png

Reads files of `halometry robustness`, all of one task. The figure shows 1 - AUC, or the root mean
squared error, each on a logarithmic axis. Bars are 95 % bootstrap intervals. Where all pairs of
images are ranked correctly, 1 - AUC is 0 and has no bootstrap interval: an open circle without a
bar. The dotted line is the value without any information from the image.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from halometry.plotting import COLORS, MUTED_COLOR, create_figure, save_figure, with_style
from halometry.robustness.figure import PANELS_PER_ROW, TITLE_WIDTH, scale_factors
from halometry.robustness.shifts import SHIFTS

Record = dict[str, Any]
Points = list[tuple[float, float, float, float]]
METRICS = {"classification": "auc", "regression": "rmse"}
ZERO = 2e-4  # where 1 - AUC = 0 is drawn, below all values that these numbers of images allow
LABELS = {"classification": "1 − AUC", "regression": "RMSE of f_sub"}


def curve(record: Record, shift: str) -> Points:
    """Factor, 1 - AUC or error, and both ends of its interval, for each step of a shift."""
    identity, key = SHIFTS[shift].unchanged_at, METRICS[record["task"]]
    points = []
    for step in record["steps"]:
        if step["shift"] in (None, shift):
            metric = step["metrics"][key]
            factor = identity if step["shift"] is None else step["factor"]
            value, low, high = metric["value"], metric["low"], metric["high"]
            if key == "auc":
                value, low, high = 1 - value, 1 - high, 1 - low
            points.append((factor, value, low, high))
    return sorted(points)


def uninformed_metric(record: Record) -> float:
    """Value of random guesses, or of predicting the mean mass for every image."""
    if record["task"] == "classification":
        return 0.5
    unshifted = next(step["metrics"] for step in record["steps"] if step["shift"] is None)
    return math.sqrt(unshifted["mse"]["value"] / (1 - unshifted["r2"]["value"]))


@with_style
def draw(records: list[Record]) -> Figure:
    """One panel per shift, one line per run."""
    every = [step["shift"] for record in records for step in record["steps"] if step["shift"]]
    shifts, task = list(dict.fromkeys(every)), records[0]["task"]
    rows = -(-len(shifts) // PANELS_PER_ROW)
    drawing, axes = create_figure(8.3, 2.15 * rows + 0.9, rows, PANELS_PER_ROW, sharey=True)
    for panel, name in zip(axes.flat, shifts, strict=False):
        _draw_panel(panel, records, name)
    for panel in axes.flat[len(shifts) :]:
        panel.axis("off")
    first = axes[0, 0]
    first.set_yscale("log")
    if task == "classification":
        first.set_ylim(ZERO / 1.6, 1)
        ticks = (ZERO, 1e-3, 1e-2, 1e-1, 0.5)
        first.set_yticks(ticks, ["0", "0.001", "0.01", "0.1", "0.5"])
    for row in axes:
        row[0].set_ylabel(LABELS[task])
    runs = [record["run"] for record in records]
    handles = [Line2D([], [], color=color, marker="o", ms=4) for color in COLORS[: len(runs)]]
    chance = "random guess" if task == "classification" else "mean mass for every image"
    handles.append(Line2D([], [], color=MUTED_COLOR, lw=1, ls=":"))
    drawing.legend(
        handles, [*runs, chance], loc="outside lower center", ncols=2, fontsize=9, columnspacing=2
    )
    note = f"factor on the value of {records[0]['preset']}"
    if "added_lens_light" in shifts:
        note += "; for light of the lens, fraction of the source's light"
    drawing.suptitle(note, fontsize=9)
    return drawing


def _draw_panel(panel: Axes, records: list[Record], name: str) -> None:
    factors: set[float] = set()
    absent = []
    for size, (record, color) in zip((7, 5.5, 4), zip(records, COLORS, strict=False), strict=False):
        points = curve(record, name)
        if len(points) < 2:
            absent.append((record["run"], color))
            continue
        factors |= {point[0] for point in points}
        shown = [max(value, ZERO) for _, value, _, _ in points]
        panel.plot([point[0] for point in points], shown, color=color, lw=1.5)
        for (factor, value, low, high), height in zip(points, shown, strict=True):
            is_zero = value == 0
            panel.plot(factor, height, "o", ms=size, color=color, mfc="white" if is_zero else color)
            if not is_zero:
                panel.vlines(factor, max(low, ZERO), high, color=color, lw=1.2)
    panel.axhline(uninformed_metric(records[0]), color=MUTED_COLOR, lw=1, ls=":")
    for run, color in absent:
        text = f"{run.rpartition('/')[2]}: not measured"
        panel.text(
            0.03, 0.82, text, transform=panel.transAxes, va="center", fontsize=7, color=color
        )
    scale_factors(panel, name, sorted(factors))
    panel.set_title(fill(SHIFTS[name].label, TITLE_WIDTH), fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    records = [json.loads(path.read_text(encoding="utf-8")) for path in options.records]
    save_figure(draw(records), options.out)


if __name__ == "__main__":
    main()
