"""Answers and figures of merit of a run at one distance from its training preset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.evaluation.bootstrap import Interval, binomial_interval
from halometry.evaluation.calibration_error import expected_calibration_error
from halometry.evaluation.metrics import classification_metrics, regression_metrics
from halometry.log import Tracker
from halometry.runs.ood import Watch
from halometry.runs.open import AnyRun
from halometry.runs.predict_rows import points_of
from halometry.runs.run import Answerer
from halometry.simulation import Preset, sample

BATCH_SIZE = 32


@dataclass(frozen=True)
class ShiftStep:
    """A run on images at one distance from its training preset.

    Attributes:
        shift: a name in `SHIFTS`; None of the training preset itself.
        factor: what is multiplied by, or of the lens's light its share.
        metrics: those of `evaluate`, and `ece` of a classification; where the run can tell,
            `unlike`, the share of images it finds unlike its training set.
        change: of the mean AUC, or of R², from the training preset's, on the same scenes.
    """

    shift: str | None
    factor: float
    metrics: dict[str, Interval]
    change: Interval | None


@dataclass(frozen=True)
class Robustness:
    """A run on images that move away from its training preset.

    Attributes:
        run: the run.
        preset: it was trained on.
        seed: of the images.
        count: images a step.
        own: the preset itself.
        steps: the others, shift by shift.
        command: that does the same again.
        device: it ran on.
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
    """Truth (N,), answers (N, K) or (N,), and which images were found unlike the training set."""

    truth: np.ndarray
    outputs: np.ndarray
    unlike: np.ndarray | None


def evaluate_preset(
    run: AnyRun,
    predict_fn: Answerer,
    detector: Watch | None,
    preset: Preset,
    seed: int,
    count: int,
    progress: Tracker,
) -> PresetPredictions:
    """Answers for `count` images of a preset, from image 0 of a seed on."""
    truth, outputs = [], []
    unlike: list[bool] = []
    for first in range(0, count, BATCH_SIZE):
        size = min(BATCH_SIZE, count - first)
        images, scene = sample(preset, seed, first, size)
        truth.append(scene.labels.numpy())
        outputs.append(predict_fn(images.numpy()).astype(np.float64))
        if detector is not None:
            unlike += [novelty.unusual is not None for novelty in detector.judge()]
        progress.advance(size)
    points = points_of(run, np.concatenate(outputs))
    return PresetPredictions(
        np.concatenate(truth), points, np.array(unlike) if detector is not None else None
    )


def metrics_of(run: AnyRun, judged: PresetPredictions, resamples: int) -> dict[str, Interval]:
    """Figures of merit with intervals, as `Step` has them."""
    names = run.config.class_names
    truth, outputs = judged.truth, judged.outputs
    if names is not None:
        metrics = classification_metrics(truth, outputs, names, resamples)
        metrics["ece"] = expected_calibration_error(truth, outputs, resamples)
    else:
        metrics = regression_metrics(truth, outputs, resamples)
    if (unlike := judged.unlike) is not None:
        metrics["unlike"] = binomial_interval(int(unlike.sum()), len(unlike))
    return metrics
