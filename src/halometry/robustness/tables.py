"""Tables of robustness: on the terminal, as CSV and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from halometry.evaluation.bootstrap import Interval
from halometry.io import write_json, write_table
from halometry.plotting import save_figure
from halometry.provenance import provenance
from halometry.robustness.core import Robustness, ShiftStep
from halometry.robustness.figure import robustness_figure
from halometry.robustness.shifts import SHIFTS

TITLES = {  # of each task: metrics of the table, in its order
    "classification": {"auc": "AUC", "ece": "ECE", "ood_fraction": "OOD fraction"},
    "regression": {"mse": "MSE", "r2": "R²", "bias": "bias", "ood_fraction": "OOD fraction"},
}
METRICS_NOT_IN_FIGURE = ("r2",)


def metric_titles(result: Robustness) -> dict[str, str]:
    """Titles of the metrics of the table, by key; without `ood_fraction` if it is unknown."""
    titles = TITLES[result.run.config.task]
    return {key: title for key, title in titles.items() if key in result.unshifted.metrics}


def table_rows(result: Robustness) -> list[list[str]]:
    """The table as text: header, training preset, and shifted presets."""
    titles = metric_titles(result)
    main_metric = "AUC" if "auc" in titles else "R²"
    rows = [["shift", "factor", *titles.values(), f"change of {main_metric}"]]
    for step in (result.unshifted, *result.steps):
        shift = SHIFTS[step.shift].label if step.shift else f"none: {result.preset.name}"
        factor = f"{step.factor:g}" if step.shift else ""
        metrics = [str(step.metrics[key]) for key in titles]
        rows.append([shift, factor, *metrics, str(step.change) if step.change else ""])
    return rows


def print_robustness(result: Robustness, console: Console) -> None:
    """Print the table, with intervals below their values, in 80 columns."""
    header, *rows = table_rows(result)
    name, preset = result.run.source, result.preset.name
    title = f"{name}: {result.count} images of {preset} per step, 95 % intervals"
    console.print(title, markup=False, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(header[0], min_width=10)
    for column in header[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    previous = None
    for shift, factor, *cells in rows:
        table.add_row(shift if shift != previous else "", factor, *map(_two_lines, cells))
        previous = shift
    console.print(table)


def _two_lines(cell: str) -> str:
    value, _, interval = cell.partition(" ")
    return f"{value}\n[dim]{interval[1:-1]}[/]"


def write_robustness(result: Robustness, out: Path) -> None:
    """Write `robustness.json`, `robustness.csv` and `robustness.png`.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(out / "robustness.json", "robustness", robustness_record(result))
    _write_csv(out / "robustness.csv", result)
    titles = metric_titles(result)
    shown = {key: title for key, title in titles.items() if key not in METRICS_NOT_IN_FIGURE}
    figure = robustness_figure(result.unshifted, result.steps, shown)
    save_figure(figure, out / "robustness.png")


def robustness_record(result: Robustness) -> dict[str, Any]:
    """Return the content of `robustness.json` without its header."""
    return {
        "what": "metrics of a run on images of shifted presets, with the same scenes in each step",
        "command": result.command,
        **provenance(result.device),
        "run": result.run.source,
        "task": result.run.config.task,
        "preset": result.preset.name,
        "seed": result.seed,
        "images": result.count,
        "interval": "95 %, percentile bootstrap over images; binomial for ood_fraction",
        "rows": table_rows(result),
        "steps": [_step_record(step) for step in (result.unshifted, *result.steps)],
    }


def _step_record(step: ShiftStep) -> dict[str, Any]:
    return {
        "shift": step.shift,
        "factor": step.factor,
        "metrics": {key: value.to_dict() for key, value in step.metrics.items()},
        "change": step.change.to_dict() if step.change else None,
    }


def _write_csv(path: Path, result: Robustness) -> None:
    metrics = list(result.unshifted.metrics)
    columns = [f"{key}{end}" for key in (*metrics, "change") for end in ("", "_low", "_high")]
    rows = []
    for step in (result.unshifted, *result.steps):
        cells: list[str] = []
        for interval in (*(step.metrics[key] for key in metrics), step.change):
            cells += _cells(interval)
        rows.append([step.shift or "none", f"{step.factor:g}", *cells])
    write_table(path, "robustness", ["shift", "factor", *columns], rows)


def _cells(interval: Interval | None) -> list[str]:
    if interval is None:
        return [""] * 3
    return [f"{number:.6g}" for number in (interval.value, interval.low, interval.high)]
