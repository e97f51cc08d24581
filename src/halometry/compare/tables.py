"""A comparison as a table: on the terminal, in CSV, in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from halometry.evaluation.bootstrap import Interval, format_interval
from halometry.evaluation.metrics import LOWER_IS_BETTER
from halometry.io import write_table

COLUMNS = {
    "classification": {"auc": "AUC", "accuracy": "accuracy", "loss": "loss"},
    "regression": {"mse": "MSE", "r2": "R²", "mae": "MAE"},
}


def metric_keys(record: dict[str, Any]) -> list[str]:
    """The metrics that any of the models has; those with posteriors have more."""
    return list(dict.fromkeys(key for model in record["models"] for key in model["metrics"]))


def best_values(record: dict[str, Any]) -> dict[str, float]:
    """The best value of each metric among the models."""
    best = {}
    for key in metric_keys(record):
        values = [m["metrics"][key]["value"] for m in record["models"] if key in m["metrics"]]
        best[key] = min(values) if key in LOWER_IS_BETTER else max(values)
    return best


def cost_cells(model: dict[str, Any]) -> dict[str, str]:
    """What a model costs, as text with units."""
    cost, training = model["cost"], model["training"]
    return {
        "parameters": f"{cost['parameters'] / 1e6:.2f} M",
        "MACs": _engineering(cost["macs"]),
        "checkpoint": f"{cost['checkpoint_bytes'] / 1e6:.1f} MB",
        "peak memory": f"{cost['peak_memory_bytes'] / 1e6:.0f} MB",
        "latency": f"{cost['latency_ms']['median']:.1f} ms",
        "throughput": f"{cost['throughput']['median']:,.0f} /s",
        "training": f"{training['seconds'] / 60:.1f} min",
    }


def _engineering(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:.0f}"


def print_table(record: dict[str, Any], console: Console) -> None:
    """Print the table; narrow enough for 80 columns."""
    title = f"{record['task']}: {record['data']['test']:,} test images, 95 % intervals"
    cells = [cost_cells(model)["latency"] for model in record["models"]]
    console.print(_table(record, title, "one image", cells))


def print_bundled_weights(record: dict[str, Any], console: Console) -> None:
    """Print what weights that came trained make of new images, as `at_work` found it."""
    data = record["data"]
    title = f"trained weights on {data['test']:,} new images of {data['preset']}"
    cells = [model["parameters"] for model in record["models"]]
    console.print(_table(record, title, "size", cells))


def _table(record: dict[str, Any], title: str, heading: str, last: list[str]) -> Table:
    """Metrics with intervals, a row a model, and one column more."""
    columns = COLUMNS[record["task"]]
    best = best_values(record)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    for one in (*columns.values(), heading):
        table.add_column(one, justify="right", no_wrap=True)
    for model, cell in zip(record["models"], last, strict=True):
        cells = [model["name"]]
        for key in columns:
            estimate = Interval(**model["metrics"][key])
            value, low, high = format_interval(estimate.value, estimate.low, estimate.high)
            style = "bold" if estimate.value == best[key] else "default"
            to = " to " if low.startswith("-") else "–"
            cells.append(f"[{style}]{value}[/]\n[dim]{low}{to}{high}[/]")
        table.add_row(*cells, cell)
    return table


def write_csv(path: Path, record: dict[str, Any]) -> None:
    """One row a model: every metric with its interval, every cost, how it was trained."""
    rows = []
    for model in record["models"]:
        row: dict[str, Any] = {"name": model["name"], "task": record["task"]}
        for key, estimate in model["metrics"].items():
            row |= {key: estimate["value"], f"{key}_low": estimate["low"]}
            row[f"{key}_high"] = estimate["high"]
        for key, value in model["cost"].items():
            row |= _flat(key, value)
        for key, value in model["training"].items():
            row |= _flat(f"training_{key}", value)
        rows.append(row | {"start": model["start"], "run": model["run"]})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_table(path, "comparison", columns, rows)


def print_differences(record: dict[str, Any], console: Console) -> None:
    """Print how every two networks differ, and which the images do not tell apart."""
    if not record["differences"]:
        return
    title = "differences on the same images; together 95 %"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("networks", "", "difference", "better"):
        table.add_column(heading, no_wrap=heading != "better")
    for one in record["differences"]:
        value, low, high = format_interval(one["value"], one["low"], one["high"])
        table.add_row(
            f"{one['first']} - {one['second']}",
            COLUMNS[record["task"]][one["metric"]],
            f"{value}\n[dim]{low} to {high}[/]",
            one["better"] or "not told apart",
        )
    console.print(table)


def write_differences(path: Path, record: dict[str, Any]) -> None:
    """One row for every two networks and each metric that they are compared by."""
    columns = ["metric", "first", "second", "value", "low", "high", "better"]
    write_table(path, "comparison", columns, record["differences"])


def _flat(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {f"{key}_{inner}": one for inner, one in value.items()}
    return {key: value}


def markdown_table(record: dict[str, Any]) -> str:
    """The table in Markdown, the best value of each metric in bold."""
    columns = COLUMNS[record["task"]]
    best = best_values(record)
    header = ["network", *columns.values(), "parameters", "MACs", "one image"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for model in record["models"]:
        cells = [model["name"]]
        for key in columns:
            estimate = Interval(**model["metrics"][key])
            value, _, interval = str(estimate).partition(" ")
            cells.append(
                f"**{value}** {interval}" if estimate.value == best[key] else str(estimate)
            )
        costs = cost_cells(model)
        cells += [costs["parameters"], costs["MACs"], costs["latency"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
