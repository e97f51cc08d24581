"""Model card of published weights, as the Hugging Face Hub reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from halometry.errors import RunError
from halometry.evaluation.bootstrap import Interval, format_interval
from halometry.evaluation.metrics import METRIC_TITLES, key_metric, metric_title
from halometry.evaluation.precision_recall import shown_metrics
from halometry.runs.config import RunConfig
from halometry.runs.recipe import Recipe
from halometry.runs.run import load_run

CARD = "README.md"
HUB_METRICS = {"auc": "roc_auc", "r2": "r_squared"}  # names of the Hub that differ from ours
HUB_TASKS = {"classification": "image-classification", "regression": "other"}


def model_card(name: str, config: RunConfig, record: dict[str, Any]) -> str:
    """Render the model card, in Markdown with a YAML header.

    Args:
        name: by which the weights are loaded.
        config: of the run.
        record: `metrics.json` of published weights.

    Reference:
        Mitchell et al. (2019), Model Cards for Model Reporting, FAT* '19.
    """
    environment = Environment(
        loader=PackageLoader("halometry.publish"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    recipe = config.recipe.model_dump(mode="json", exclude={"name", "description"})
    defaults = Recipe().model_dump(mode="json")
    changes = {key: value for key, value in recipe.items() if value != defaults[key]}
    return environment.get_template("card.md.j2").render(
        header=card_metadata(name, config, record).to_yaml(),
        name=name,
        config=config,
        record=record,
        test=record["test"],
        metrics=_metric_rows(record),
        recipe=yaml.safe_dump(changes, sort_keys=False),
    )


def read_card(run: str | Path) -> str:
    """Read the model card of published weights.

    Args:
        run: as `load_run` takes it.

    Raises:
        RunError: it has none.
    """
    loaded = load_run(run)
    try:
        return (loaded.path / CARD).read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{run}: has no card; 'halometry publish' writes one") from error


def summarize_weights(run: str | Path) -> tuple[str, str, str]:
    """Return task, number of parameters, and main metric with its interval, as text."""
    loaded = load_run(run)
    record, task = loaded.training_metrics(), loaded.config.task
    key = key_metric(task)
    interval = Interval(**record["test"]["metrics"][key])
    parameters = f"{record['parameters'] / 1e6:.2f} M"
    return task, parameters, f"{METRIC_TITLES[key]} {interval}"


def card_metadata(name: str, config: RunConfig, record: dict[str, Any]) -> ModelCardData:
    """Return the YAML header of the card, which the Hub searches and displays."""
    test = record["test"]
    results = [
        EvalResult(
            task_type=f"image-{config.task}",
            dataset_type=test["preset"] or "images",
            dataset_name=test["data"],
            dataset_split="test",
            metric_type=hub_metric(key),
            metric_name=f"{metric_title(key)}, 95 % interval {' to '.join(_format(numbers)[1:])}",
            metric_value=numbers["value"],
        )
        for key, numbers in test["metrics"].items()
    ]
    return ModelCardData(
        model_name=name,
        license=record["license"],
        library_name="halometry",
        pipeline_tag=HUB_TASKS[config.task],
        tags=["gravitational-lensing", "dark-matter", "astronomy", config.task, config.backbone],
        eval_results=results,
    )


def hub_metric(key: str) -> str:
    """Return the name of a metric on the Hub.

    Example:
        >>> hub_metric("auc"), hub_metric("auc_vort"), hub_metric("mse")
        ('roc_auc', 'roc_auc_vort', 'mse')
    """
    first, _, rest = key.partition("_")
    return "_".join(filter(None, [HUB_METRICS.get(first, first), rest]))


def _metric_rows(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of the card's table: metric, value, interval."""
    rows = []
    test = record["test"]
    for key in shown_metrics(test["metrics"], test.get("confusion")):
        value, low, high = _format(test["metrics"][key])
        rows.append((metric_title(key), value, f"{low} to {high}"))
    return rows


def _format(numbers: dict[str, float]) -> tuple[str, str, str]:
    interval = Interval(**numbers)
    return format_interval(interval.value, interval.low, interval.high)
