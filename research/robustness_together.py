"""Several runs as the same images move away from the preset of the first, in one figure.

python research/robustness_together.py results/robustness.json results/robustness_mapped.json \
    results/robustness_broad.json --out docs/images/robustness_together.png

Takes what `halometry robustness` has written, all of one task: the AUC is drawn, or the root of the
mean squared error. The dotted line is what who knows nothing of an image has.
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
from halometry.robustness.figure import LETTERS
from halometry.robustness.shifts import SHIFTS

Record = dict[str, Any]
PANELS = 4  # beside each other
MERIT = {"classification": "auc", "regression": "rmse"}


def curve(record: Record, shift: str) -> list[tuple[float, float, float, float]]:
    """Factor, figure of merit, and the ends of its interval, of a shift and the preset itself."""
    own, key = SHIFTS[shift].identity, MERIT[record["task"]]
    points = []
    for step in record["steps"]:
        if step["shift"] in (None, shift):
            merit = step["metrics"][key]
            factor = own if step["shift"] is None else step["factor"]
            points.append((factor, merit["value"], merit["low"], merit["high"]))
    return sorted(points)


def chance(record: Record) -> float:
    """The figure of merit of guesses, or of the mean mass for every image."""
    if record["task"] == "classification":
        return 0.5
    own = next(step["metrics"] for step in record["steps"] if step["shift"] is None)
    return math.sqrt(own["mse"]["value"] / (1 - own["r2"]["value"]))


@with_style
def drawn(records: list[Record]) -> Figure:
    """A panel a shift, a line a run; steps stand at equal distances, whatever their factors."""
    every = [step["shift"] for record in records for step in record["steps"] if step["shift"]]
    shifts, task = list(dict.fromkeys(every)), records[0]["task"]
    rows = -(-len(shifts) // PANELS)
    made, axes = create_figure(10, 2.1 * rows + 0.9, rows, PANELS, sharey=True)
    for panel, name in zip(axes.flat, shifts, strict=False):
        ticks: list[float] = []
        for record, color in zip(records, COLORS, strict=False):
            if len(points := curve(record, name)) < 2:
                continue
            ticks, middle, low, high = (list(one) for one in zip(*points, strict=True))
            at = range(len(ticks))
            panel.fill_between(at, low, high, color=color, alpha=0.15, lw=0)
            panel.plot(at, middle, color=color, marker="o", ms=4, label=record["run"])
        panel.axhline(chance(records[0]), color=MUTED_COLOR, lw=1, ls=":")
        panel.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks], fontsize=8)
        panel.set_title(fill(SHIFTS[name].label, LETTERS), fontsize=9)
    for panel in axes.flat[len(shifts) :]:
        panel.axis("off")
    for row in axes:
        row[0].set_ylabel(metric_title(MERIT[task]))
    if task == "regression":
        axes.flat[0].set_yscale("log")
    lines = {line.get_label(): line for panel in axes.flat for line in panel.get_lines()}
    shown = [record["run"] for record in records]
    made.legend([lines[run] for run in shown], shown, loc="outside lower center", ncols=len(shown))
    made.suptitle(f"times the value of {records[0]['preset']}", fontsize=9)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    records = [json.loads(path.read_text(encoding="utf-8")) for path in options.records]
    save_figure(drawn(records), options.out)


if __name__ == "__main__":
    main()
