"""Report of one or several comparisons: a single HTML page that loads nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps
from PIL import Image as Picture

from halometry import __version__
from halometry.compare.examples import ExampleImages, PredictedImage
from halometry.compare.ranking import above_chance, best_model, pareto_front, rank_models
from halometry.compare.report_figures import Panels, section_panels
from halometry.compare.schema import ComparisonRecord, ModelRecord
from halometry.compare.tables import best_values, cost_cells, metric_keys, published_rows
from halometry.evaluation.bootstrap import Interval, format_interval
from halometry.evaluation.differences import Difference
from halometry.evaluation.metrics import (
    LOWER_IS_BETTER,
    METRIC_DEFINITIONS,
    METRIC_TITLES,
    UNRANKED,
    metric_title,
)
from halometry.evaluation.precision_recall import shown_metrics
from halometry.io import write_text
from halometry.plotting import IMAGE_COLORMAP, colors_by_name, stretch, to_svg


@dataclass(frozen=True)
class ReportSection:
    """Section of the report: one comparison.

    Attributes:
        record: the comparison.
        examples: its images.
    """

    record: ComparisonRecord
    examples: ExampleImages


def write_report(
    path: str | Path,
    sections: Sequence[ReportSection],
    title: str,
    *,
    intro: str | None = None,
    trained: tuple[str, Sequence[PredictedImage]] | None = None,
) -> Path:
    """Write the report.

    Args:
        path: the HTML file.
        sections: one per comparison.
        title, intro: of the page.
        trained: name of weights of the package, and images that they predicted.

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
    page = environment.get_template("report.html.j2").render(
        title=title,
        intro=intro,
        sections=[_section_context(section) for section in sections],
        record=sections[0].record,
        halometry_version=__version__,
        trained=trained and {"name": trained[0], "images": _picture_rows(trained[1])},
    )
    write_text(Path(path), page)
    return Path(path)


def _section_context(section: ReportSection) -> dict[str, Any]:
    """Variables of the template for one comparison."""
    record, examples, models = section.record, section.examples, section.record.models
    return {
        "record": record,
        "name": record.task,
        "best": best_model(models, record.key_metric).name,
        "has_true_maps": all(one.substructure is not None for one in examples.attributions),
        "headline": _headline(record),
        "ranking": _ranking_rows(record),
        "metrics": _metric_rows(models),
        "definitions": [
            (metric_title(key), METRIC_DEFINITIONS[key]) for key in _defined_metrics(models)
        ],
        "differences": [_difference_row(pair) for pair in record.differences],
        "published": published_rows(record),
        "costs": [{"name": model.name, **cost_cells(model)} for model in models],
        "colors": colors_by_name(model.name for model in models),
        "figures": {
            name: _svg_panels(panels) for name, panels in section_panels(record, examples).items()
        },
        "samples": [
            {"picture": picture(image), "label": label} for image, label in examples.samples
        ],
        "worst": _picture_rows(examples.worst),
    }


def _svg_panels(panels: Panels) -> list[dict[str, str]]:
    return [{"label": label, "svg": Markup(to_svg(drawn))} for label, drawn in panels.items()]


def _interval_cell(interval: Interval) -> dict[str, str]:
    value, low, high = format_interval(interval.value, interval.low, interval.high)
    return {"value": value, "interval": f"{low} to {high}"}


def _picture_rows(images: Sequence[PredictedImage]) -> list[dict[str, Any]]:
    return [vars(one) | {"picture": picture(one.image)} for one in images]


def _difference_row(pair: Difference) -> dict[str, str | None]:
    names = {"first": pair.first, "second": pair.second, "better": pair.better}
    return names | _interval_cell(pair.interval) | {"title": metric_title(pair.metric)}


def _ranking_rows(record: ComparisonRecord) -> list[dict[str, Any]]:
    """One row per network, best first: rank, key metric, latency, Pareto front."""
    key = record.key_metric
    return [
        {
            "rank": ranked.rank or "–",
            "name": ranked.model.name,
            "title": METRIC_TITLES[key],
            **_interval_cell(ranked.model.metrics[key]),
            "latency": cost_cells(ranked.model)["latency"],
            "remark": "not better than chance"
            if ranked.rank is None
            else "yes"
            if ranked.on_pareto_front
            else "no",
        }
        for ranked in rank_models(record.models, key)
    ]


def _headline(record: ComparisonRecord) -> list[dict[str, str]]:
    """The large numbers at the top of a section."""
    key = record.key_metric
    best, fastest = best_model(record.models, key), pareto_front(record.models, key)[0]
    accuracy, title = _interval_cell(best.metrics[key]), METRIC_TITLES[key]
    n_useful = len(above_chance(record.models, key))
    group = "network" if n_useful in (0, len(record.models)) else "network better than chance"
    return [
        {
            "value": accuracy["value"],
            "label": f"{title} of {best.name}, the most accurate network"
            f" (95 % interval {accuracy['interval']})",
        },
        {
            "value": f"{fastest.latency:.1f} ms",
            "label": f"latency of {fastest.name}, the fastest {group}"
            f" ({title} {fastest.metrics[key].value:.3f})",
        },
        {
            "value": f"{record.data.test:,}",
            "label": f"test images; the data set has {record.data.images:,} images in total",
        },
    ]


def _defined_metrics(models: Sequence[ModelRecord]) -> list[str]:
    """Keys of `METRIC_DEFINITIONS` that explain the table of metrics."""
    shown = shown_metrics(metric_keys(models), models[0].confusion)
    keys = ["average_precision" if key.startswith("ap_") else key for key in shown]
    return [key for key in dict.fromkeys(keys) if key in METRIC_DEFINITIONS]


def _metric_rows(models: Sequence[ModelRecord]) -> list[dict[str, Any]]:
    """One row per network: each metric as value, interval, and whether it is the best."""
    best = best_values(models)
    rows = []
    for model in models:
        cells = []
        for key in shown_metrics(metric_keys(models), models[0].confusion):
            hint = "lower is better" if key in LOWER_IS_BETTER else ""
            cell = {"title": metric_title(key), "hint": hint}
            interval = model.metrics.get(key)
            if interval is None:
                cells.append(cell | {"value": "–", "interval": "", "best": False})
            else:
                is_best = key not in UNRANKED and interval.value == best[key]
                cells.append(cell | _interval_cell(interval) | {"best": is_best})
        rows.append({"name": model.name, "start": model.start, "cells": cells})
    return rows


def picture(image: np.ndarray, side: int = 160) -> str:
    """PNG picture of an image (H, W) as a `data:` URL, enlarged to about `side` pixels."""
    rgb = (colormaps[IMAGE_COLORMAP](stretch(image)[::-1])[..., :3] * 255).astype(np.uint8)
    pixels = Picture.fromarray(rgb)
    factor = max(1, round(side / image.shape[1]))
    if factor > 1:
        size = (image.shape[1] * factor, image.shape[0] * factor)
        pixels = pixels.resize(size, Picture.Resampling.NEAREST)
    buffer = io.BytesIO()
    pixels.quantize(128).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
