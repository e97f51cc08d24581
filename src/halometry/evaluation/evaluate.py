"""Evaluation of a run on held-out images: metrics with intervals, figures, all predictions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from halometry.calibration.posterior import Posterior
from halometry.calibration.temperature import undo_temperature
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.calibration_error import calibration_record, coverage_record
from halometry.evaluation.calibration_figure import reliability_figure
from halometry.evaluation.figures import (
    RocCurve,
    confusion_figure,
    precision_recall_figure,
    regression_figure,
    roc_figure,
)
from halometry.evaluation.held_out import rows_to_evaluate
from halometry.evaluation.metrics import (
    classification_metrics,
    confusion_matrix,
    regression_metrics,
    roc_curves,
)
from halometry.evaluation.posterior_checks import posterior_metrics, posterior_record
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.evaluation.precision_recall import (
    class_frequencies,
    precision_metrics,
    precision_recall_curves,
)
from halometry.evaluation.predictions import make_predictions, write_predictions
from halometry.evaluation.records import (
    CalibrationRecord,
    CoverageRecord,
    EvaluationRecord,
    PosteriorRecord,
    write_record,
)
from halometry.io import check_writable
from halometry.log import logger, with_progress
from halometry.parallel import Workers
from halometry.plotting import save_figure
from halometry.runs.checks import check_compatible
from halometry.runs.open import AnyRun, open_run
from halometry.runs.predict_rows import point_predictions, posterior_of, predict_rows
from halometry.runs.prediction_sets import prediction_sets_for

METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a run for labeled images, and its metrics.

    Attributes:
        run: the run.
        truth: labels (N,): class indices or mass fractions.
        outputs: probabilities (N, K) or mass fractions (N,), the means of posteriors.
        image_names: N names.
        rows: positions of the images in the data set (N,).
        metrics: metrics with 95 % intervals.
        description: which images these are.
        posterior: posteriors of the mass fractions, of a run that gives them.
        posterior_checks: checks of these posteriors.
        calibration: calibration of the class probabilities; None for regression.
        coverage: coverage of conformal sets or intervals, of a calibrated run.
    """

    run: AnyRun
    truth: np.ndarray
    outputs: np.ndarray
    image_names: list[str]
    rows: np.ndarray
    metrics: dict[str, Interval]
    description: str
    posterior: Posterior | None = None
    posterior_checks: PosteriorRecord | None = None
    calibration: CalibrationRecord | None = None
    coverage: CoverageRecord | None = None

    @property
    def uncalibrated(self) -> np.ndarray:
        """Probabilities without temperature and biases (N, K)."""
        config = self.run.config
        return undo_temperature(self.outputs, config.temperature, config.bias)

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """Number of images by true class (rows) and predicted class (columns), or None."""
        if self.run.config.class_names is None:
            return None
        return confusion_matrix(self.truth, self.outputs)

    @cached_property
    def roc(self) -> dict[str, RocCurve]:
        """False positive rates, true positive rates and AUC of each class; empty of masses.

        Of two classes only the positive one has a curve.
        """
        curves = roc_curves(self.truth, self.outputs, self.run.config.class_names or ())
        return {
            name: (fpr, tpr, self.metrics[f"auc_{name}"].value)
            for name, (fpr, tpr) in curves.items()
        }


@with_progress
def evaluate(
    run: str | Path | AnyRun,
    data: str | Path | LabeledImages,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    resamples: int = 1000,
    workers: Workers = "auto",
    progress: bool = True,
) -> Evaluation:
    """Evaluate a run on labeled images that it was not trained on.

    Args:
        run: a run, as `load_run` takes it, or an .onnx file that `export` made from one; or
            several of these, separated by commas.
        data: a labeled data set. If it is the training set of the run, only its test images are
            used. If the run takes mass maps, those of plain images are computed once, into the
            cache.
        out: a folder for `metrics.json`, `predictions.csv` and figures.
        device: `auto`, `cpu`, or as PyTorch names it.
        resamples: number of bootstrap resamples for each interval.
        workers: processes that compute mass maps; `auto` takes one for each core.
        progress: whether to show progress bars.

    Raises:
        RunError, DataError: the run cannot be used, or not with these images.
        StorageError: the cache has no room for mass maps.
    """
    run = open_run(run)
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data)
    check_compatible(run, labeled)
    rows, description = rows_to_evaluate(run, labeled)
    if out is not None:
        check_writable(Path(out) / METRICS)
    predictions = predict_rows(
        run,
        labeled,
        rows,
        device=device,
        workers=workers,
        description=f"evaluating {run.name}",
    )
    outputs, posterior = point_predictions(run, predictions), posterior_of(run, predictions)
    truth = labeled.labels[rows]
    class_names, conformal = run.config.class_names, run.conformal()
    calibration = coverage = None
    if class_names:
        metrics = classification_metrics(truth, outputs, class_names, resamples=resamples)
        temperature, bias = run.config.temperature, run.config.bias
        calibration = calibration_record(
            truth,
            outputs,
            undo_temperature(outputs, temperature, bias),
            temperature=temperature,
            bias=tuple(bias),
            resamples=resamples,
        )
        metrics["ece"] = calibration.after.ece
        metrics |= precision_metrics(truth, outputs, class_names, resamples=resamples)
    else:
        metrics = regression_metrics(truth, outputs, resamples=resamples)
    if posterior is not None:
        metrics |= posterior_metrics(truth, posterior, resamples=resamples)
    if conformal is not None:
        predicted = outputs if posterior is None else posterior
        coverage = coverage_record(truth, predicted, conformal, class_names, resamples=resamples)
    evaluation = Evaluation(
        run,
        truth,
        outputs,
        [labeled.names[i] for i in rows],
        rows,
        metrics,
        description,
        posterior,
        None if posterior is None else posterior_record(truth, posterior),
        calibration,
        coverage,
    )
    if out is not None:
        write_evaluation(evaluation, Path(out), labeled)
    return evaluation


def write_evaluation(evaluation: Evaluation, out: Path, data: LabeledImages) -> None:
    """Write `metrics.json`, `predictions.csv` and the figures of an evaluation."""
    out.mkdir(parents=True, exist_ok=True)
    class_names, name = evaluation.run.config.class_names, evaluation.run.name
    truth, outputs = evaluation.truth, evaluation.outputs
    if evaluation.confusion is not None and class_names is not None:
        roc = roc_figure({name: evaluation.roc}, two_classes=len(class_names) == 2)
        save_figure(roc, out / "roc.png")
        curves = {name: precision_recall_curves(truth, outputs, class_names)}
        frequencies = class_frequencies(truth, class_names)
        save_figure(precision_recall_figure(curves, frequencies), out / "precision_recall.png")
        save_figure(
            confusion_figure({name: evaluation.confusion}, class_names), out / "confusion.png"
        )
        reliability = {name: (truth, outputs, evaluation.uncalibrated)}
        save_figure(reliability_figure(reliability), out / "reliability.png")
    else:
        save_figure(regression_figure({name: (truth, outputs)}), out / "true_against_predicted.png")
    if evaluation.posterior_checks is not None:
        save_figure(posterior_figure({name: evaluation.posterior_checks}), out / "posterior.png")
    record = evaluation_record(evaluation, data)
    write_record(out / METRICS, "evaluation", record)
    _write_predictions(out / PREDICTIONS, evaluation, data)
    logger.info(f"{name}: {evaluation.description} -> {out}")


def evaluation_record(evaluation: Evaluation, data: LabeledImages) -> EvaluationRecord:
    """Contents of `metrics.json` of an evaluation."""
    config, confusion = evaluation.run.config, evaluation.confusion
    interval = (
        "95 %, percentile bootstrap over images; that of ece allows for its bias, that of the"
        " accuracy is binomial"
    )
    if evaluation.posterior is not None:
        interval += "; of coverages binomial"
    return EvaluationRecord(
        run=evaluation.run.source,
        backbone=evaluation.run.name,
        task=config.task,
        data=data.source,
        images=evaluation.description,
        count=len(evaluation.truth),
        interval=interval,
        metrics=evaluation.metrics,
        calibration=evaluation.calibration,
        coverage=evaluation.coverage,
        class_names=config.class_names,
        confusion=None if confusion is None else confusion.tolist(),
        posterior=evaluation.posterior_checks,
        versions=config.versions,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _write_predictions(path: Path, evaluation: Evaluation, data: LabeledImages) -> None:
    class_names, posterior = evaluation.run.config.class_names, evaluation.posterior
    sets = prediction_sets_for(evaluation.run, None)
    predictions = make_predictions(
        evaluation.run,
        [data.image_path(row) for row in evaluation.rows],
        evaluation.outputs if posterior is None else posterior.density,
        sets=sets,
        true=[
            class_names[int(label)] if class_names else float(label) for label in evaluation.truth
        ],
    )
    coverage = sets.coverage if sets else None
    write_predictions(path, evaluation.run, predictions, coverage=coverage)
