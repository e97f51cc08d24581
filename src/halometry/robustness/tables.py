"""How a run does on shifted images, as tables: on the terminal, in CSV, in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from halometry.evaluation.bootstrap import Interval
from halometry.io import write_table, write_text
from halometry.plotting import save_figure
from halometry.provenance import provenance
from halometry.robustness.core import Robustness, ShiftStep
from halometry.robustness.figure import robustness_figure
from halometry.robustness.shifts import SHIFTS

COLUMNS = {  # of each task: metrics, in the order of the table; `unlike` where it is told
    "classification": {"auc": "AUC", "ece": "ECE", "unlike": "unlike"},
    "regression": {"mse": "MSE", "r2": "R²", "bias": "bias", "unlike": "unlike"},
}


def metric_columns(found: Robustness) -> dict[str, str]:
    """Metrics that are shown, with their titles."""
    known = COLUMNS[found.run.config.task]
    return {key: title for key, title in known.items() if key in found.unshifted.metrics}


def table_rows(found: Robustness) -> list[list[str]]:
    """The table as text: a header, the training preset, and the steps."""
    columns = metric_columns(found)
    changed = "AUC" if "auc" in columns else "R²"
    rows = [["shift", "times", *columns.values(), f"change of {changed}"]]
    for step in (found.unshifted, *found.steps):
        shift = SHIFTS[step.shift].label if step.shift else f"none: {found.preset.name}"
        factor = f"{step.factor:g}" if step.shift else ""
        metrics = [str(step.metrics[key]) for key in columns]
        rows.append([shift, factor, *metrics, str(step.change) if step.change else ""])
    return rows


def print_robustness(found: Robustness, console: Console) -> None:
    """Print the table; intervals under their values, to fit 80 columns."""
    header, *rows = table_rows(found)
    name, preset = found.run.source, found.preset.name
    title = f"{name}: {found.count} images of {preset} a step, 95 % intervals"
    console.print(title, markup=False, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(header):
        first = i == 0
        table.add_column(
            column, justify="left" if first else "right", no_wrap=not first,
            min_width=10 if first else None,
        )  # fmt: skip
    before = None
    for shift, factor, *cells in rows:
        table.add_row(shift if shift != before else "", factor, *map(_two_lines, cells))
        before = shift
    console.print(table)


def _two_lines(cell: str) -> str:
    value, _, interval = cell.partition(" ")
    return f"{value}\n[dim]{interval[1:-1]}[/]"


def write_robustness(found: Robustness, out: Path) -> None:
    """Write `robustness.json`, `robustness.csv` and `robustness.png`.

    Raises:
        StorageError: no room or no permission.
    """
    write_text(out / "robustness.json", json.dumps(robustness_record(found), indent=1) + "\n")
    _write_csv(out / "robustness.csv", found)
    shown = {key: title for key, title in metric_columns(found).items() if key not in ("r2",)}
    save_figure(robustness_figure(found.unshifted, found.steps, shown), out / "robustness.png")


def robustness_record(found: Robustness) -> dict[str, Any]:
    """What `robustness.json` holds."""
    return {
        "format": "halometry-robustness",
        "format_version": 1,
        "what": "a run on images that move away from its training preset, the same scenes in each"
        " step",
        "command": found.command,
        "run": found.run.source,
        "task": found.run.config.task,
        "preset": found.preset.name,
        "seed": found.seed,
        "images": found.count,
        "interval": "95 %, percentile bootstrap over images; that of unlike is binomial",
        **provenance(found.device),
        "rows": table_rows(found),
        "steps": [_step(step) for step in (found.unshifted, *found.steps)],
    }


def _step(step: ShiftStep) -> dict[str, Any]:
    return {
        "shift": step.shift,
        "factor": step.factor,
        "metrics": {key: value.to_dict() for key, value in step.metrics.items()},
        "change": step.change.to_dict() if step.change else None,
    }


def _write_csv(path: Path, found: Robustness) -> None:
    metrics = list(found.unshifted.metrics)
    ends = [f"{key}{end}" for key in (*metrics, "change") for end in ("", "_low", "_high")]
    rows = []
    for step in (found.unshifted, *found.steps):
        cells: list[str] = []
        for estimate in (*(step.metrics[key] for key in metrics), step.change):
            cells += _cells(estimate)
        rows.append([step.shift or "none", f"{step.factor:g}", *cells])
    write_table(path, "robustness", ["shift", "factor", *ends], rows)


def _cells(estimate: Interval | None) -> list[str]:
    if estimate is None:
        return [""] * 3
    return [f"{number:.6g}" for number in (estimate.value, estimate.low, estimate.high)]
