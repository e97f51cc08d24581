"""Predictions and metrics of a run on images of a shifted preset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.evaluation.bootstrap import Interval, binomial_interval
from halometry.evaluation.calibration_error import expected_calibration_error
from halometry.evaluation.metrics import classification_metrics, regression_metrics
from halometry.log import Tracker
from halometry.runs.ood import PredictWithOOD
from halometry.runs.open import AnyRun
from halometry.runs.predict_rows import point_predictions
from halometry.simulation import Preset, sample

BATCH_SIZE = 32


@dataclass(frozen=True)
class ShiftStep:
    """Metrics of a run on images of one shifted preset.

    Attributes:
        shift: name in `SHIFTS`; None for the training preset itself.
        factor: factor on the shifted quantity; for added lens light, its fraction of the source's.
        metrics: metrics of `evaluate`, and `ece` for classification; also `ood_fraction`, the
            fraction of images flagged as out of distribution, if the run has a detector.
        change: mean AUC, or R², minus that of the training preset, on the same scenes; None for
            the training preset.
    """

    shift: str | None
    factor: float
    metrics: dict[str, Interval]
    change: Interval | None


@dataclass(frozen=True)
class Robustness:
    """Result of `measure_robustness`.

    Attributes:
        run: the evaluated run.
        preset: the preset that is shifted.
        seed: of the images, including the offset.
        count: images per step.
        unshifted: metrics on the preset itself.
        steps: metrics on the shifted presets, shift by shift.
        command: command line that repeats the measurement.
        device: device of the predictions.
    """

    run: AnyRun
    preset: Preset
    seed: int
    count: int
    unshifted: ShiftStep
    steps: list[ShiftStep]
    command: str
    device: str


@dataclass(frozen=True)
class PresetPredictions:
    """True labels and predictions for images of one preset.

    Attributes:
        true: class indices or mass fractions (N,).
        outputs: probabilities (N, K), or mass fractions (N,).
        is_ood: whether each image is flagged as out of distribution (N,); None without a
            detector.
    """

    true: np.ndarray
    outputs: np.ndarray
    is_ood: np.ndarray | None


def predict_preset(
    run: AnyRun,
    predict_fn: PredictWithOOD,
    preset: Preset,
    *,
    seed: int,
    count: int,
    progress: Tracker,
) -> PresetPredictions:
    """Simulate images 0 to `count` of a preset and seed, and predict them."""
    true, outputs = [], []
    is_ood: list[bool] = []
    for first in range(0, count, BATCH_SIZE):
        size = min(BATCH_SIZE, count - first)
        images, scene = sample(preset, seed, first, size)
        true.append(scene.labels.numpy())
        predictions, results = predict_fn(images.numpy())
        outputs.append(predictions.astype(np.float64))
        is_ood += [result.reason is not None for result in results or []]
        progress.advance(size)
    points = point_predictions(run, np.concatenate(outputs))
    flags = np.array(is_ood) if is_ood else None
    return PresetPredictions(np.concatenate(true), points, flags)


def compute_metrics(
    run: AnyRun, predictions: PresetPredictions, resamples: int
) -> dict[str, Interval]:
    """Compute the metrics of a `ShiftStep`, with bootstrap or binomial intervals."""
    names = run.config.class_names
    true, outputs = predictions.true, predictions.outputs
    if names is not None:
        metrics = classification_metrics(true, outputs, names, resamples=resamples)
        metrics["ece"] = expected_calibration_error(true, outputs, resamples=resamples)
    else:
        metrics = regression_metrics(true, outputs, resamples=resamples)
    if (is_ood := predictions.is_ood) is not None:
        metrics["ood_fraction"] = binomial_interval(int(is_ood.sum()), len(is_ood))
    return metrics
