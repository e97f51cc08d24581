"""Answers and figures of merit of a run at one distance from its training preset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.evaluation.intervals import Estimate, bootstrap
from halometry.evaluation.metrics import classification_metrics, regression_metrics
from halometry.progress import Tracker
from halometry.simulation import Preset, sample
from halometry.training.exported import Trained
from halometry.training.run import Answerer

BATCH = 32
BINS = 15  # of confidence


@dataclass(frozen=True)
class Step:
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
    metrics: dict[str, Estimate]
    change: Estimate | None


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
    """

    run: Trained
    preset: Preset
    seed: int
    count: int
    own: Step
    steps: list[Step]


@dataclass(frozen=True)
class Judged:
    """Truth (N,), answers (N, K) or (N,), and which images were found unlike the training set."""

    truth: np.ndarray
    outputs: np.ndarray
    unlike: np.ndarray | None


def judge(
    run: Trained, answerer: Answerer, preset: Preset, seed: int, count: int, progress: Tracker
) -> Judged:
    """Answers for `count` images of a preset, from image 0 of a seed on."""
    truth, outputs, unlike = [], [], []
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        images, scene = sample(preset, seed, first, size)
        raw = images.numpy()
        truth.append(scene.labels.numpy())
        outputs.append(answerer(raw).astype(np.float64))
        unlike.append(unlike_training(run, raw))
        progress.advance(size)
    told = [one for one in unlike if one is not None]
    return Judged(
        np.concatenate(truth), np.concatenate(outputs), np.concatenate(told) if told else None
    )


def metrics_of(run: Trained, judged: Judged, resamples: int) -> dict[str, Estimate]:
    """Figures of merit with intervals, as `Step` has them."""
    names = run.config.class_names
    truth, outputs = judged.truth, judged.outputs
    if names is not None:
        metrics = classification_metrics(truth, outputs, names, resamples)
        metrics["ece"] = calibration_error(truth, outputs, resamples)
    else:
        metrics = regression_metrics(truth, outputs, resamples)
    if (unlike := judged.unlike) is not None:
        rows = [np.arange(len(truth))]
        metrics["unlike"] = bootstrap(
            lambda drawn: unlike[drawn].mean(axis=1), rows, float(unlike.mean()), resamples
        )
    return metrics


def unlike_training(run: Trained, images: np.ndarray) -> np.ndarray | None:
    """Which of some images (B, C, H, W) a run finds unlike its training set (B,).

    Returns:
        None where the run does not keep what is needed to tell.
    """
    return None


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, resamples: int) -> Estimate:
    """Mean distance of confidence from accuracy over bins of confidence.

    Args:
        truth: class indices (N,).
        probabilities: (N, K).
        resamples: of the bootstrap.

    Reference:
        Guo et al. (2017), ICML, eq. 3, with 15 bins.
    """
    confidence = probabilities.max(axis=1)
    gaps = (probabilities.argmax(axis=1) == truth) - confidence
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)

    def error(rows: np.ndarray) -> np.ndarray:
        total = np.zeros(len(rows))
        for k in np.unique(bins):
            total += np.abs(np.where(bins == k, gaps, 0.0)[rows].sum(axis=1))
        return total / rows.shape[1]

    everything = np.arange(len(truth))
    return bootstrap(error, [everything], float(error(everything[None])[0]), resamples)
