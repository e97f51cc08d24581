"""One self-contained page for one or several comparisons."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image as Picture

from halometry.attribution.explain import Attribution, attribution_figure
from halometry.calibration.temperature import undo_temperature
from halometry.compare.figures import pareto_figure
from halometry.compare.ranking import above_chance, best_model, latency, pareto_front, quality
from halometry.compare.tables import best_values, cost_cells, metric_keys
from halometry.evaluation import figures
from halometry.evaluation.bootstrap import Interval, format_interval
from halometry.evaluation.calibration_figure import reliability_figure
from halometry.evaluation.metrics import (
    LOWER_IS_BETTER,
    METRIC_TITLES,
    UNRANKED,
    key_metric,
    metric_title,
)
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.io import write_text
from halometry.plotting import IMAGE_COLORMAP, colors_by_name, stretch


@dataclass(frozen=True)
class ExampleImages:
    """Arrays for the report's pictures.

    Attributes:
        truth: labels of the test images (N,).
        outputs: for each network probabilities (N, K) or masses (N,).
        samples: images (H, W) with labels: what the set looks like.
        worst: what was most mistaken: `name`, `image`, `truth`, `predicted` (by network).
        looks: what the best network's answers for some of them rest on.
    """

    truth: np.ndarray
    outputs: dict[str, np.ndarray]
    samples: list[tuple[np.ndarray, str]] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list)
    looks: list[Attribution] = field(default_factory=list)


def write_report(
    path: str | Path,
    comparisons: Sequence[tuple[dict[str, Any], ExampleImages]],
    title: str,
    intro: str | None = None,
    trained: Sequence[tuple[dict[str, Any], ExampleImages]] = (),
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        comparisons: each a record as `results.json` holds it, and its gallery.
        trained: the same of weights that came trained, as `at_work` gives it.
        title, intro: of the page.

    Raises:
        StorageError: no room or no permission.
    """
    environment = Environment(
        loader=PackageLoader("halometry.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [_section(record, gallery) for record, gallery in comparisons]
    page = environment.get_template("report.html.j2").render(
        title=title,
        intro=intro,
        sections=sections,
        record=comparisons[0][0],
        trained=[_trained(record, gallery) for record, gallery in trained],
    )
    write_text(Path(path), page)
    return Path(path)


def _section(record: dict[str, Any], gallery: ExampleImages) -> dict[str, Any]:
    """What the template needs of one comparison."""
    models, key, best = record["models"], key_metric(record), best_model(record)
    histories = {model["name"]: model["history"] for model in models}
    made = {
        "pareto": _pareto(record, key),
        "learning": figures.learning_figure(histories, METRIC_TITLES[key]),
    }
    if record["task"] == "classification":
        made["roc"] = figures.roc_figure(_curves(record))
        made["confusion"] = _confusion(record)
        made["reliability"] = _reliability(record, gallery)
    else:
        made["regression"] = _regression(gallery)
    if gallery.looks:
        made["looks"] = attribution_figure(gallery.looks)
    posteriors = {m["name"]: m["posterior"] for m in models if m.get("posterior") is not None}
    if posteriors:
        made["posterior"] = posterior_figure(posteriors)
    return {
        "record": record,
        "name": record["task"],
        "best": best["name"],
        "truth": all(one.substructure is not None for one in gallery.looks),
        "headline": _headline(record, best, key),
        "metrics": _metric_rows(record),
        "differences": [_difference_row(one) for one in record["differences"]],
        "costs": [{"name": model["name"], **cost_cells(model)} for model in models],
        "colors": colors_by_name(histories),
        "figures": {name: Markup(figures.to_svg(one)) for name, one in made.items()},
        "samples": [{"picture": picture(image), "label": text} for image, text in gallery.samples],
        "worst": [one | {"picture": picture(one["image"])} for one in gallery.worst],
    }


def _difference_row(one: dict[str, Any]) -> dict[str, str]:
    """A difference as text."""
    value, low, high = format_interval(one["value"], one["low"], one["high"])
    numbers = {"value": value, "interval": f"{low} to {high}"}
    return one | numbers | {"title": metric_title(one["metric"])}


def _trained(record: dict[str, Any], gallery: ExampleImages) -> dict[str, Any]:
    """What the template needs of weights that came trained."""
    classes = record["task"] == "classification"
    made = _confusion(record) if classes else _regression(gallery)
    cards = [str(Interval(**model["card"])).partition(" ") for model in record["models"]]
    return {
        "record": record,
        "metrics": _metric_rows(record),
        "cards": [{"value": value, "interval": interval} for value, _, interval in cards],
        "colors": colors_by_name(gallery.outputs),
        "figure": Markup(figures.to_svg(made)),
        "worst": [one | {"picture": picture(one["image"])} for one in gallery.worst],
    }


def _confusion(record: dict[str, Any]) -> Figure:
    matrices = {model["name"]: np.array(model["confusion"]) for model in record["models"]}
    return figures.confusion_figure(matrices, record["data"]["class_names"])


def _reliability(record: dict[str, Any], gallery: ExampleImages) -> Figure:
    drawn = {}
    for model in record["models"]:
        calibration = model["trust"]["calibration"]
        after = gallery.outputs[model["name"]]
        drawn[model["name"]] = (
            gallery.truth,
            after,
            undo_temperature(after, calibration["temperature"], calibration["bias"]),
        )
    return reliability_figure(drawn)


def _regression(gallery: ExampleImages) -> Figure:
    pairs = {name: (gallery.truth, output) for name, output in gallery.outputs.items()}
    return figures.regression_figure(pairs)


def _headline(record: dict[str, Any], best: dict[str, Any], key: str) -> list[dict[str, str]]:
    """The few big numbers at the top of a section."""
    estimate = Interval(**best["metrics"][key])
    value, low, high = format_interval(estimate.value, estimate.low, estimate.high)
    fastest = _front(record, key)[0]
    return [
        {
            "value": value,
            "label": f"{METRIC_TITLES[key]} of {best['name']}, the best [{low}, {high}]",
        },
        {
            "value": f"{latency(fastest):.1f} ms",
            "label": f"an image with {fastest['name']}, the fastest "
            f"({METRIC_TITLES[key]} {quality(fastest, key):.3f})",
        },
        {
            "value": f"{record['data']['test']:,}",
            "label": f"test images no network had seen, of {record['data']['images']:,}",
        },
    ]


def _front(record: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The Pareto front of what has learnt the task; of all, if nothing has."""
    return pareto_front(above_chance(record["models"], key) or record["models"], key)


def _metric_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a model: each metric as value, interval, and whether it is the best."""
    best = best_values(record)
    rows = []
    for model in record["models"]:
        cells = []
        for key in metric_keys(record):
            cell = {
                "title": metric_title(key),
                "hint": "lower is better" if key in LOWER_IS_BETTER else "",
            }
            numbers = model["metrics"].get(key)
            if numbers is None:
                cells.append(cell | {"value": "–", "interval": "", "best": False})
                continue
            value, low, high = format_interval(numbers["value"], numbers["low"], numbers["high"])
            is_best = key not in UNRANKED and numbers["value"] == best[key]
            cells.append(cell | {"value": value, "interval": f"{low} to {high}", "best": is_best})
        rows.append({"name": model["name"], "start": model["start"], "cells": cells})
    return rows


def _curves(record: dict[str, Any]) -> dict[str, dict[str, figures.Curve]]:
    return {
        model["name"]: {
            name: (
                np.array(curve[0]),
                np.array(curve[1]),
                model["metrics"][f"auc_{name}"]["value"],
            )
            for name, curve in model["roc"].items()
        }
        for model in record["models"]
    }


def _pareto(record: dict[str, Any], key: str) -> Any:
    front = _front(record, key)
    points = [
        {
            "on_front": model in front,
            "name": model["name"],
            "latency_ms": latency(model),
            "quality": quality(model, key),
            "low": model["metrics"][key]["low"],
            "high": model["metrics"][key]["high"],
            "parameters": model["cost"]["parameters"],
        }
        for model in record["models"]
    ]
    return pareto_figure(points, METRIC_TITLES[key])


def pareto(record: dict[str, Any]) -> Any:
    """The accuracy-against-latency figure of a comparison."""
    return _pareto(record, key_metric(record))


def picture(image: np.ndarray, side: int = 160) -> str:
    """An image (H, W) as a data address for a page."""
    from matplotlib import colormaps

    rgb = (colormaps[IMAGE_COLORMAP](stretch(image)[::-1])[..., :3] * 255).astype(np.uint8)
    made = Picture.fromarray(rgb)
    factor = max(1, round(side / image.shape[1]))
    if factor > 1:
        size = (image.shape[1] * factor, image.shape[0] * factor)
        made = made.resize(size, Picture.Resampling.NEAREST)
    text = io.BytesIO()
    made.quantize(128).save(text, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(text.getvalue()).decode()
