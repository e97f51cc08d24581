"""Figures of a report, as panels that a page arranges by its width: one per network or class."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from halometry.attribution.explain import attribution_figure
from halometry.calibration.temperature import undo_temperature
from halometry.compare.examples import ExampleImages
from halometry.compare.figures import loss_figure, pareto_figure, validation_figure
from halometry.compare.schema import ComparisonRecord, ModelRecord
from halometry.evaluation.calibration_figure import reliability_figure
from halometry.evaluation.figures import (
    confusion_figure,
    precision_recall_figure,
    regression_figure,
    regression_limits,
    roc_figure,
)
from halometry.evaluation.metrics import METRIC_TITLES
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.evaluation.precision_recall import (
    class_frequencies,
    precision_is_shown,
    precision_recall_curves,
)
from halometry.plotting import colors_by_name

Panels = dict[str, Figure]  # by a description for readers who cannot see it


def section_panels(record: ComparisonRecord, examples: ExampleImages) -> dict[str, Panels]:
    """Panels of each figure of a comparison, by the figure's name."""
    key, models = record.key_metric, record.models
    title = METRIC_TITLES[key]
    histories = {model.name: model.history for model in models}
    figures = {
        "pareto": {f"{title} against latency of each network": pareto_figure(models, key)},
        "learning": {
            "Losses against training images": loss_figure(histories),
            f"{title} against training images": validation_figure(histories, title),
        },
    }
    if record.task == "classification":
        matrices = {model.name: np.array(model.confusion) for model in models}
        names = record.data.class_names or ()
        figures["roc"] = _roc_panels(models)
        if precision_is_shown(matrices[models[0].name]):
            figures["precision_recall"] = _precision_recall_panels(examples, names)
        figures["confusion"] = _confusion_panels(matrices, names)
        figures["reliability"] = _reliability_panels(models, examples)
    else:
        figures["regression"] = _regression_panels(examples)
    if examples.attributions:
        drawn = attribution_figure(examples.attributions)
        figures["attributions"] = {"Test images above their attribution maps": drawn}
    posteriors = {m.name: m.posterior for m in models if m.posterior is not None}
    if posteriors:
        figures["posterior"] = {"Checks of the posteriors": posterior_figure(posteriors)}
    return figures


def _roc_panels(models: tuple[ModelRecord, ...]) -> Panels:
    panels = {}
    for name in models[0].roc or {}:
        curves = {}
        for model in models:
            fpr, tpr = (model.roc or {})[name]
            area = model.metrics[f"auc_{name}"].value
            curves[model.name] = {name: (np.array(fpr), np.array(tpr), area)}
        two_classes = len(models[0].roc or {}) == 1
        panels[f"ROC curves of class {name}"] = roc_figure(curves, two_classes=two_classes)
    return panels


def _precision_recall_panels(examples: ExampleImages, class_names: tuple[str, ...]) -> Panels:
    curves = {
        network: precision_recall_curves(examples.truth, output, class_names)
        for network, output in examples.outputs.items()
    }
    return {
        f"Precision against recall of class {name}": precision_recall_figure(
            {network: {name: of_class[name]} for network, of_class in curves.items()},
            {name: frequency},
        )
        for name, frequency in class_frequencies(examples.truth, class_names).items()
    }


def _confusion_panels(matrices: dict[str, np.ndarray], class_names: tuple[str, ...]) -> Panels:
    return {
        f"Confusion matrix of {name}": confusion_figure({name: matrix}, class_names)
        for name, matrix in matrices.items()
    }


def _reliability_panels(models: tuple[ModelRecord, ...], examples: ExampleImages) -> Panels:
    colors = colors_by_name(model.name for model in models)
    panels = {}
    for model in models:
        probabilities, calibration = examples.outputs[model.name], model.calibration
        uncalibrated = (
            undo_temperature(probabilities, calibration.temperature, calibration.bias)
            if calibration
            else probabilities
        )
        arrays = {model.name: (examples.truth, probabilities, uncalibrated)}
        panels[f"Reliability diagram of {model.name}"] = reliability_figure(arrays, colors=colors)
    return panels


def _regression_panels(examples: ExampleImages) -> Panels:
    colors = colors_by_name(examples.outputs)
    limits = regression_limits([examples.truth, *examples.outputs.values()])
    return {
        f"Predicted against true mass fractions of {name}": regression_figure(
            {name: (examples.truth, output)}, colors=colors, limits=limits
        )
        for name, output in examples.outputs.items()
    }
