"""Report of one or several comparisons: a single HTML page that loads nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image as Picture

from halometry import __version__
from halometry.attribution.explain import Attribution, attribution_figure
from halometry.calibration.temperature import undo_temperature
from halometry.compare.figures import learning_figure, pareto_figure
from halometry.compare.ranking import best_model, pareto_front, rank_models
from halometry.compare.schema import BundledRecord, ComparisonRecord, EvaluatedModel, ModelRecord
from halometry.compare.tables import best_values, cost_cells, metric_keys, published_rows
from halometry.evaluation.bootstrap import Interval, format_interval
from halometry.evaluation.calibration_figure import reliability_figure
from halometry.evaluation.differences import Difference
from halometry.evaluation.figures import confusion_figure, regression_figure, roc_figure
from halometry.evaluation.metrics import LOWER_IS_BETTER, METRIC_TITLES, UNRANKED, metric_title
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.io import write_text
from halometry.plotting import IMAGE_COLORMAP, colors_by_name, stretch, to_svg


@dataclass(frozen=True)
class WorstImage:
    """Image with a large error, averaged over the networks.

    Attributes:
        name: of the image.
        image: (H, W).
        truth: true class or mass fraction, as text.
        predicted: prediction of each network, as text.
    """

    name: str
    image: np.ndarray
    truth: str
    predicted: dict[str, str]


@dataclass(frozen=True)
class ExampleImages:
    """Images for the report, and the predictions for all test images.

    Attributes:
        truth: labels of the test images (N,).
        outputs: for each network, probabilities (N, K) or mass fractions (N,).
        samples: some images (H, W) with their labels.
        worst: images with the largest errors.
        attributions: attributions of the best network for some of the samples.
    """

    truth: np.ndarray
    outputs: dict[str, np.ndarray]
    samples: list[tuple[np.ndarray, str]] = field(default_factory=list)
    worst: list[WorstImage] = field(default_factory=list)
    attributions: list[Attribution] = field(default_factory=list)


@dataclass(frozen=True)
class ReportSection:
    """Section of the report: one comparison.

    Attributes:
        record: the comparison.
        examples: its images.
    """

    record: ComparisonRecord
    examples: ExampleImages

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Figures of the section by name."""
        record, examples, key = self.record, self.examples, self.record.key_metric
        models = record.models
        histories = {model.name: model.history for model in models}
        figures = {
            "pareto": pareto_figure(models, key),
            "learning": learning_figure(histories, METRIC_TITLES[key]),
        }
        if record.task == "classification":
            figures["roc"] = _roc_figure(models)
            figures["confusion"] = _confusion_figure(models, record.data.class_names)
            figures["reliability"] = _reliability_figure(models, examples)
        else:
            figures["regression"] = _regression_figure(examples)
        if examples.attributions:
            figures["attributions"] = attribution_figure(examples.attributions)
        posteriors = {m.name: m.posterior for m in models if m.posterior is not None}
        if posteriors:
            figures["posterior"] = posterior_figure(posteriors)
        return figures


@dataclass(frozen=True)
class BundledSection:
    """Section of the report: the package's weights of one preset on new images.

    Attributes:
        record: the evaluation.
        examples: its images.
    """

    record: BundledRecord
    examples: ExampleImages


def write_report(
    path: str | Path,
    sections: Sequence[ReportSection],
    title: str,
    *,
    intro: str | None = None,
    bundled: Sequence[BundledSection] = (),
) -> Path:
    """Write the report.

    Args:
        path: the HTML file.
        sections: one per comparison.
        title, intro: of the page.
        bundled: one for each preset whose bundled weights were evaluated.

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
        bundled=[_bundled_context(section) for section in bundled],
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
        "differences": [_difference_row(pair) for pair in record.differences],
        "published": published_rows(record),
        "costs": [{"name": model.name, **cost_cells(model)} for model in models],
        "colors": colors_by_name(model.name for model in models),
        "figures": {name: Markup(to_svg(drawn)) for name, drawn in section.figures.items()},
        "samples": [
            {"picture": picture(image), "label": label} for image, label in examples.samples
        ],
        "worst": _worst_rows(examples),
    }


def _bundled_context(section: BundledSection) -> dict[str, Any]:
    """Variables of the template for the bundled weights of one preset."""
    record, models = section.record, section.record.models
    drawn = (
        _confusion_figure(models, record.class_names)
        if record.task == "classification"
        else _regression_figure(section.examples)
    )
    return {
        "record": record,
        "key": METRIC_TITLES[record.key_metric],
        "metrics": _metric_rows(models),
        "published": [_interval_cell(model.published) for model in models],
        "colors": colors_by_name(model.name for model in models),
        "figure": Markup(to_svg(drawn)),
        "worst": _worst_rows(section.examples),
    }


def _interval_cell(interval: Interval) -> dict[str, str]:
    value, low, high = format_interval(interval.value, interval.low, interval.high)
    return {"value": value, "interval": f"{low} to {high}"}


def _worst_rows(examples: ExampleImages) -> list[dict[str, Any]]:
    return [vars(worst) | {"picture": picture(worst.image)} for worst in examples.worst]


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
            else "",
        }
        for ranked in rank_models(record.models, key)
    ]


def _headline(record: ComparisonRecord) -> list[dict[str, str]]:
    """The large numbers at the top of a section."""
    key = record.key_metric
    best, fastest = best_model(record.models, key), pareto_front(record.models, key)[0]
    accuracy, title = _interval_cell(best.metrics[key]), METRIC_TITLES[key]
    return [
        {
            "value": accuracy["value"],
            "label": f"{title} of {best.name}, the most accurate ({accuracy['interval']})",
        },
        {
            "value": f"{fastest.latency:.1f} ms",
            "label": f"latency of {fastest.name}, the fastest"
            f" ({title} {fastest.metrics[key].value:.3f})",
        },
        {"value": f"{record.data.test:,}", "label": f"test images, of {record.data.images:,}"},
    ]


def _metric_rows(models: Sequence[EvaluatedModel]) -> list[dict[str, Any]]:
    """One row per network: each metric as value, interval, and whether it is the best."""
    best = best_values(models)
    rows = []
    for model in models:
        cells = []
        for key in metric_keys(models):
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


def _confusion_figure(
    models: Sequence[EvaluatedModel], class_names: tuple[str, ...] | None
) -> Figure:
    matrices = {model.name: np.array(model.confusion) for model in models}
    return confusion_figure(matrices, class_names or ())


def _reliability_figure(models: Sequence[ModelRecord], examples: ExampleImages) -> Figure:
    arrays = {}
    for model in models:
        probabilities, calibration = examples.outputs[model.name], model.calibration
        uncalibrated = (
            undo_temperature(probabilities, calibration.temperature, calibration.bias)
            if calibration
            else probabilities
        )
        arrays[model.name] = (examples.truth, probabilities, uncalibrated)
    return reliability_figure(arrays)


def _regression_figure(examples: ExampleImages) -> Figure:
    return regression_figure(
        {name: (examples.truth, output) for name, output in examples.outputs.items()}
    )


def _roc_figure(models: Sequence[ModelRecord]) -> Figure:
    return roc_figure(
        {
            model.name: {
                name: (np.array(fpr), np.array(tpr), model.metrics[f"auc_{name}"].value)
                for name, (fpr, tpr) in (model.roc or {}).items()
            }
            for model in models
        }
    )


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
