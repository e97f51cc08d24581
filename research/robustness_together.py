"""Robustness of several runs in one figure.

python research/robustness_together.py results/robustness.json results/robustness_mapped.json \
    results/robustness_broad.json --out docs/images/robustness_together.png

Reads files of `halometry robustness`, all of one task. The figure shows the AUC, or the root mean
squared error. The dotted line is the value without any information from the image.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from halometry.evaluation.metrics import metric_title
from halometry.plotting import COLORS, MUTED_COLOR, create_figure, save_figure, with_style
from halometry.robustness.figure import TITLE_WIDTH
from halometry.robustness.shifts import SHIFTS

Record = dict[str, Any]
PANELS_PER_ROW = 4
METRICS = {"classification": "auc", "regression": "rmse"}


def curve(record: Record, shift: str) -> list[tuple[float, float, float, float]]:
    """Factor, metric, and both ends of its interval, for each step of a shift."""
    identity, key = SHIFTS[shift].unchanged_at, METRICS[record["task"]]
    points = []
    for step in record["steps"]:
        if step["shift"] in (None, shift):
            metric = step["metrics"][key]
            factor = identity if step["shift"] is None else step["factor"]
            points.append((factor, metric["value"], metric["low"], metric["high"]))
    return sorted(points)


def uninformed_metric(record: Record) -> float:
    """Metric of random guesses, or of predicting the mean mass for every image."""
    if record["task"] == "classification":
        return 0.5
    unshifted = next(step["metrics"] for step in record["steps"] if step["shift"] is None)
    return math.sqrt(unshifted["mse"]["value"] / (1 - unshifted["r2"]["value"]))


@with_style
def draw(records: list[Record]) -> Figure:
    """One panel per shift, one line per run; the steps are equidistant."""
    every = [step["shift"] for record in records for step in record["steps"] if step["shift"]]
    shifts, task = list(dict.fromkeys(every)), records[0]["task"]
    rows = -(-len(shifts) // PANELS_PER_ROW)
    drawing, axes = create_figure(10, 2.1 * rows + 0.9, rows, PANELS_PER_ROW, sharey=True)
    for panel, name in zip(axes.flat, shifts, strict=False):
        ticks: list[float] = []
        for record, color in zip(records, COLORS, strict=False):
            if len(points := curve(record, name)) < 2:
                continue
            ticks, middle, low, high = (list(column) for column in zip(*points, strict=True))
            positions = range(len(ticks))
            panel.fill_between(positions, low, high, color=color, alpha=0.15, lw=0)
            panel.plot(positions, middle, color=color, marker="o", ms=4, label=record["run"])
        panel.axhline(uninformed_metric(records[0]), color=MUTED_COLOR, lw=1, ls=":")
        panel.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks], fontsize=8)
        panel.set_title(fill(SHIFTS[name].label, TITLE_WIDTH), fontsize=9)
    for panel in axes.flat[len(shifts) :]:
        panel.axis("off")
    for row in axes:
        row[0].set_ylabel(metric_title(METRICS[task]))
    if task == "regression":
        axes.flat[0].set_yscale("log")
    lines = {line.get_label(): line for panel in axes.flat for line in panel.get_lines()}
    runs = [record["run"] for record in records]
    drawing.legend([lines[run] for run in runs], runs, loc="outside lower center", ncols=len(runs))
    drawing.suptitle(f"factor on the value of {records[0]['preset']}", fontsize=9)
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    records = [json.loads(path.read_text(encoding="utf-8")) for path in options.records]
    save_figure(draw(records), options.out)


if __name__ == "__main__":
    main()
