"""Tables of a comparison: on the terminal, in CSV, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from halometry.compare.ranking import pareto_front
from halometry.compare.schema import ComparisonRecord, ModelRecord
from halometry.config import Task
from halometry.evaluation.bootstrap import format_interval
from halometry.evaluation.differences import Difference
from halometry.evaluation.metrics import LOWER_IS_BETTER, metric_title, positive_class
from halometry.evaluation.precision_recall import precision_is_shown
from halometry.io import write_table

MIN_FIXED_POINT = 1e-3  # smaller published values are written with an exponent
COLUMNS: dict[Task, dict[str, str]] = {
    "classification": {"auc": "AUC", "accuracy": "accuracy", "loss": "loss"},
    "regression": {"mse": "MSE", "r2": "R²", "mae": "MAE"},
}


def columns_of(task: Task, models: Sequence[ModelRecord]) -> dict[str, str]:
    """Metrics in the tables of a comparison, with their headings.

    Where `precision_is_shown`, the average precision takes the place of the loss: of two classes
    that of the positive class, else the mean over the classes.
    """
    columns, confusion = COLUMNS[task], models[0].confusion
    keys = [key for key in models[0].metrics if key.startswith("ap_")]
    if confusion is None or not keys or not precision_is_shown(confusion):
        return columns
    key = keys[positive_class([k.removeprefix("ap_") for k in keys])] if len(keys) == 2 else ""
    key = key or "average_precision"
    return {"auc": columns["auc"], "accuracy": columns["accuracy"], key: metric_title(key)}


def metric_keys(models: Sequence[ModelRecord]) -> list[str]:
    """Metrics that at least one of the networks has."""
    return list(dict.fromkeys(key for model in models for key in model.metrics))


def best_values(models: Sequence[ModelRecord]) -> dict[str, float]:
    """Best value of each metric among the networks."""
    best = {}
    for key in metric_keys(models):
        values = [model.metrics[key].value for model in models if key in model.metrics]
        best[key] = min(values) if key in LOWER_IS_BETTER else max(values)
    return best


def cost_cells(model: ModelRecord) -> dict[str, str]:
    """Costs of a network as text with units."""
    cost = model.cost
    return {
        "parameters": f"{cost.parameters / 1e6:.2f} M",
        "MACs": _engineering(cost.macs),
        "checkpoint": f"{(cost.checkpoint_bytes or 0) / 1e6:.1f} MB",
        "peak memory": f"{cost.peak_memory_bytes / 1e6:.0f} MB",
        "latency": f"{model.latency:.1f} ms",
        "throughput": f"{cost.throughput.median:,.0f} /s",
        "training": f"{model.training.seconds / 60:.1f} min",
    }


def _engineering(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:.0f}"


def print_table(record: ComparisonRecord, console: Console) -> None:
    """Print metrics, latency and Pareto front of a comparison, within 80 columns."""
    title = f"{record.task}: {record.data.test:,} test images, 95 % intervals"
    front = pareto_front(record.models, record.key_metric)
    columns = {
        "latency": [cost_cells(model)["latency"] for model in record.models],
        "Pareto": ["yes" if model in front else "" for model in record.models],
    }
    console.print(_table(record.task, record.models, title, columns))


def published_rows(record: ComparisonRecord) -> list[list[str]]:
    """Metrics of this comparison and published ones, as text: one row for each network and metric.

    The columns are network, metric, value with interval, published value, and remark.
    """
    rows = []
    measured = {model.name: model.metrics for model in record.models}
    for result in record.published:
        metrics = measured.get(result.network, {})
        for key, value in result.metrics.items():
            own = str(metrics[key]) if key in metrics else "–"
            text = f"{value:.4f}" if value > MIN_FIXED_POINT else f"{value:.1e}"
            rows.append([result.network, COLUMNS[record.task][key], own, text, result.remark])
    return rows


def print_published(record: ComparisonRecord, console: Console) -> None:
    """Print published results beside those of a comparison."""
    table = Table(
        title="beside the published results, which have no intervals",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("network", "metric", "here", "published"):
        table.add_column(heading, no_wrap=heading != "here")
    for *cells, _ in published_rows(record):
        table.add_row(*map(escape, cells))
    console.print(table)


def _table(
    task: Task, models: Sequence[ModelRecord], title: str, columns: dict[str, list[str]]
) -> Table:
    """Metrics with intervals, one row per network, and further columns."""
    best, shown = best_values(models), columns_of(task, models)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    for heading in (*shown.values(), *columns):
        table.add_column(heading, justify="right", no_wrap=True)
    for k, model in enumerate(models):
        cells = [model.name]
        for key in shown:
            interval = model.metrics[key]
            value, low, high = format_interval(interval.value, interval.low, interval.high)
            style = "bold" if interval.value == best[key] else "default"
            to = " to " if low.startswith("-") else "–"
            cells.append(f"[{style}]{value}[/]\n[dim]{low}{to}{high}[/]")
        table.add_row(*cells, *(values[k] for values in columns.values()))
    return table


def write_csv(path: Path, record: ComparisonRecord) -> None:
    """Write one row per network: metrics with intervals, costs, training.

    Raises:
        StorageError: no room or no permission.
    """
    rows = []
    for model in record.models:
        row: dict[str, Any] = {"name": model.name, "task": record.task}
        for key, interval in model.metrics.items():
            row |= {key: interval.value, f"{key}_low": interval.low, f"{key}_high": interval.high}
        for key, value in model.cost.model_dump().items():
            row |= _flat(key, value)
        for key, value in model.training.model_dump().items():
            row |= _flat(f"training_{key}", value)
        rows.append(row | {"start": model.start, "run": model.run})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_table(path, "comparison", columns, rows)


def print_differences(record: ComparisonRecord, console: Console) -> None:
    """Print the differences between every two networks on the same images."""
    if not record.differences:
        return
    title = "differences on the same images; simultaneous 95 % intervals"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("networks", "", "difference", "better"):
        table.add_column(heading, no_wrap=heading != "better")
    for pair in record.differences:
        value, low, high = format_interval(pair.value, pair.low, pair.high)
        table.add_row(
            f"{pair.first} - {pair.second}",
            COLUMNS[record.task][pair.metric],
            f"{value}\n[dim]{low} to {high}[/]",
            pair.better or "not significant",
        )
    console.print(table)


def write_differences(path: Path, record: ComparisonRecord) -> None:
    """Write one row for every two networks and each metric by which they are compared.

    Raises:
        StorageError: no room or no permission.
    """
    rows = [pair.model_dump() for pair in record.differences]
    write_table(path, "comparison", list(Difference.model_fields), rows)


def _flat(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {f"{key}_{inner}": number for inner, number in value.items()}
    return {key: value}


def markdown_table(record: ComparisonRecord) -> str:
    """Metrics and costs in Markdown, the best value of each metric in bold."""
    columns = columns_of(record.task, record.models)
    best = best_values(record.models)
    header = ["network", *columns.values(), "parameters", "MACs", "one image"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for model in record.models:
        cells = [model.name]
        for key in columns:
            value, _, interval = str(model.metrics[key]).partition(" ")
            is_best = model.metrics[key].value == best[key]
            cells.append(f"**{value}** {interval}" if is_best else f"{value} {interval}")
        costs = cost_cells(model)
        cells += [costs["parameters"], costs["MACs"], costs["latency"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
