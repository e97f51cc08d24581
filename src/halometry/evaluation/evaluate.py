"""Judge a run on images it never saw: metrics with intervals, figures, every single answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from halometry.calibration.posterior import Posterior
from halometry.calibration.temperature import undo_temperature
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.evaluation import figures
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.calibration_error import calibration_record, coverage_record
from halometry.evaluation.calibration_figure import reliability_figure
from halometry.evaluation.held_out import rows_to_evaluate
from halometry.evaluation.metrics import (
    classification_metrics,
    confusion_matrix,
    regression_metrics,
    roc_curves,
)
from halometry.evaluation.posterior_checks import posterior_metrics, posterior_record
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.evaluation.predictions import make_predictions, write_predictions
from halometry.io import check_writable, write_text
from halometry.log import logger
from halometry.runs.checks import check_compatible
from halometry.runs.open import AnyRun, open_run
from halometry.runs.predict_rows import point_predictions, posterior_of, predict_rows
from halometry.runs.prediction_sets import prediction_sets_for


@dataclass(frozen=True)
class Evaluation:
    """What a run makes of a labeled set.

    Attributes:
        run: the run.
        truth: labels (N,): class indices or mass fractions.
        outputs: probabilities (N, K) or mass fractions (N,), the means of posteriors.
        names: of the images.
        rows: positions of the images in the set.
        metrics: each with its 95 % interval.
        description: which images these are.
        posterior: of the masses, where the run gives any.
        trust: `calibration` and `conformal`, as `metrics.json` holds them.
    """

    run: AnyRun
    truth: np.ndarray
    outputs: np.ndarray
    image_names: list[str]
    rows: np.ndarray
    metrics: dict[str, Interval]
    description: str
    posterior: Posterior | None = None
    trust: dict[str, Any] = field(default_factory=dict)

    @property
    def network_outputs(self) -> np.ndarray:
        """What the network gave: probabilities, mass fractions or densities."""
        return self.outputs if self.posterior is None else self.posterior.density

    @property
    def untempered(self) -> np.ndarray:
        """Probabilities before temperature and biases (N, K)."""
        config = self.run.config
        return undo_temperature(self.outputs, config.temperature, config.bias)

    @property
    def confusion(self) -> np.ndarray | None:
        """Images of each true class (rows) called each class (columns), of a classification."""
        if self.run.config.class_names is None:
            return None
        return confusion_matrix(self.truth, self.outputs)


def evaluate(
    run: str | Path | AnyRun,
    data: str | Path | LabeledImages,
    out: str | Path | None = None,
    device: str = "auto",
    resamples: int = 1000,
) -> Evaluation:
    """Measure how good a run is.

    Args:
        run: a run, as `load_run` takes it, or an .onnx file that `export` made of one; or several
            of these, with commas between them.
        data: a labeled set. Where it is the set the run was trained on, only the test images
            kept aside then are used.
        out: a folder for `metrics.json`, `predictions.csv` and figures.
        device: `auto`, `cpu`, or as PyTorch names it.
        resamples: of the bootstrap behind each interval.

    Raises:
        RunError, DataError: the run cannot be used, or not with these images.
    """
    run = open_run(run)
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    check_compatible(run, labeled)
    rows, description = rows_to_evaluate(run, labeled)
    if out is not None:
        check_writable(Path(out) / "metrics.json")
    predictions = predict_rows(
        run, labeled, rows, device=device, description=f"evaluating {run.name}"
    )
    outputs = point_predictions(run, predictions)
    posterior = posterior_of(run, predictions)
    truth = labeled.labels[rows]
    names = run.config.class_names
    metrics = (
        classification_metrics(truth, outputs, names, resamples=resamples)
        if names
        else regression_metrics(truth, outputs, resamples=resamples)
    )
    if posterior is not None:
        metrics |= posterior_metrics(truth, posterior, resamples)
    image_names = [labeled.names[i] for i in rows]
    evaluation = Evaluation(run, truth, outputs, image_names, rows, metrics, description, posterior)
    evaluation.trust.update(_trust(evaluation, resamples))
    if names:
        evaluation.metrics["ece"] = Interval(**evaluation.trust["calibration"]["after"]["ece"])
    if out is not None:
        write_evaluation(evaluation, Path(out), labeled)
    return evaluation


def _trust(evaluation: Evaluation, resamples: int) -> dict[str, Any]:
    """Whether the answers are as sure as they should be, and sets and intervals hold the truth."""
    names, conformal = evaluation.run.config.class_names, evaluation.run.conformal()
    truth, outputs = evaluation.truth, evaluation.outputs
    trust = {}
    if names:
        trust["calibration"] = calibration_record(truth, outputs, evaluation.untempered, resamples)
        config = evaluation.run.config
        trust["calibration"] |= {"temperature": config.temperature, "bias": list(config.bias)}
    if conformal is not None:
        posterior = evaluation.posterior
        answers = outputs if posterior is None else posterior
        trust["conformal"] = coverage_record(truth, answers, conformal, names, resamples)
    return trust


def write_evaluation(evaluation: Evaluation, out: Path, data: LabeledImages) -> None:
    """Write `metrics.json`, `predictions.csv` and the figures of one run."""
    out.mkdir(parents=True, exist_ok=True)
    config, confusion = evaluation.run.config, evaluation.confusion
    name = evaluation.run.name
    if confusion is not None and config.class_names is not None:
        curves = {name: roc_of(evaluation)}
        figures.save_figure(figures.roc_figure(curves), out / "roc.png")
        matrices = {name: confusion}
        figures.save_figure(
            figures.confusion_figure(matrices, config.class_names), out / "confusion.png"
        )
        drawn = {config.backbone: (evaluation.truth, evaluation.outputs, evaluation.untempered)}
        figures.save_figure(reliability_figure(drawn), out / "reliability.png")
    else:
        pairs = {name: (evaluation.truth, evaluation.outputs)}
        figures.save_figure(figures.regression_figure(pairs), out / "true_against_predicted.png")
    if evaluation.posterior is not None:
        reliability = {name: posterior_record(evaluation.truth, evaluation.posterior)}
        figures.save_figure(posterior_figure(reliability), out / "posterior.png")
    write_text(
        out / "metrics.json", json.dumps(evaluation_record(evaluation, data), indent=1) + "\n"
    )
    _write_predictions(out / "predictions.csv", evaluation)
    logger.info(f"{name}: {evaluation.description} -> {out}")


def evaluation_record(evaluation: Evaluation, data: LabeledImages) -> dict[str, Any]:
    """What `metrics.json` holds of an evaluation."""
    config, confusion = evaluation.run.config, evaluation.confusion
    record: dict[str, Any] = {
        "format": "halometry-metrics",
        "version": 1,
        "run": evaluation.run.source,
        "backbone": evaluation.run.name,
        "task": config.task,
        "data": data.source,
        "images": evaluation.description,
        "count": len(evaluation.truth),
        "interval": "95 %, percentile bootstrap over images; that of ece allows for its bias,"
        " that of the accuracy is binomial",
        "metrics": {key: value.to_dict() for key, value in evaluation.metrics.items()},
        "versions": config.versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    record |= evaluation.trust
    if confusion is not None and config.class_names is not None:
        record |= {"class_names": list(config.class_names), "confusion": confusion.tolist()}
    if evaluation.posterior is not None:
        record["interval"] += "; of coverages binomial"
        record["posterior"] = posterior_record(evaluation.truth, evaluation.posterior)
    return record


def roc_of(evaluation: Evaluation) -> dict[str, Any]:
    """Each class's ROC curve and area, as `figures.roc_figure` takes them."""
    names = evaluation.run.config.class_names or ()
    curves = roc_curves(evaluation.truth, evaluation.outputs, names)
    return {
        name: (fpr, tpr, evaluation.metrics[f"auc_{name}"].value)
        for name, (fpr, tpr) in curves.items()
    }


def _write_predictions(path: Path, evaluation: Evaluation) -> None:
    names, regions = evaluation.run.config.class_names, prediction_sets_for(evaluation.run, None)
    true = [names[int(label)] if names else float(label) for label in evaluation.truth]
    predictions = make_predictions(
        evaluation.run,
        evaluation.image_names,
        evaluation.network_outputs,
        regions=regions,
        true=true,
    )
    coverage = regions.coverage if regions else None
    write_predictions(path, evaluation.run, predictions, coverage=coverage)
