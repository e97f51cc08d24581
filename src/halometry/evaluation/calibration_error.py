"""Calibration of class probabilities, and coverage of conformal sets and intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erf
from scipy.stats import norm

from halometry.calibration.conformal import Conformal
from halometry.calibration.posterior import Posterior
from halometry.evaluation.bootstrap import (
    CONFIDENCE_LEVEL,
    Interval,
    binomial_interval,
    bootstrap,
    bootstrap_samples,
)
from halometry.evaluation.records import (
    CalibrationErrors,
    CalibrationRecord,
    CoverageLevel,
    CoverageRecord,
    ReliabilityBins,
)

RELIABILITY_BINS = 15
NOMINAL_COVERAGES = (0.68, 0.9, 0.95)  # at which conformal sets and intervals are evaluated


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in B bins of equally many images, sorted by confidence.

    The confidence of a prediction is the probability of the predicted class.

    Attributes:
        counts: number of images in each bin (B,).
        confidence: mean confidence (B,).
        accuracy: fraction of correct predictions (B,).
        low, high: limits of the binomial 95 % interval of the accuracy (B,).
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def to_record(self) -> ReliabilityBins:
        """The bins for JSON, rounded to six decimals."""
        return ReliabilityBins(
            **{key: np.round(value, 6).tolist() for key, value in vars(self).items()}
        )


def reliability(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = RELIABILITY_BINS
) -> Reliability:
    """Confidence and accuracy in bins of equally many images.

    Args:
        truth: class indices (N,).
        probabilities: (N, K).
        bins: number of bins; no more than one per image is used.
    """
    confidence, correct = _confidence(truth, probabilities)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    counts = np.array([len(part) for part in parts])
    hits = np.array([int(correct[part].sum()) for part in parts])
    intervals = [
        binomial_interval(int(hit), int(count)) for hit, count in zip(hits, counts, strict=True)
    ]
    low, high = np.array([(interval.low, interval.high) for interval in intervals]).T
    means = np.array([confidence[part].mean() for part in parts])
    return Reliability(counts, means, hits / counts, low, high)


def expected_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Expected calibration error (ECE): mean distance between confidence and accuracy.

    It is computed in 15 bins of equally many images. Noise in a bin increases its distance, so
    that the value is biased upwards: by nothing if all bins are far off, by `ece_bias` if the
    probabilities are calibrated. The interval allows for the whole range. It extends from the
    value minus `ece_bias` minus 1.96 standard errors to the value plus 1.96 standard errors; the
    standard error is that of the bootstrap. The interval is conservative.

    Args:
        truth: class indices (N,).
        probabilities: (N, K).
        resamples: of the bootstrap, stratified by class.
        seed: of the resampling.

    Reference:
        Naeini, Cooper & Hauskrecht (2015), AAAI; Guo et al. (2017),
        https://arxiv.org/abs/1706.04599, equation 3.

    Example:
        >>> sure, truth = np.tile([0.9, 0.1], (100, 1)), np.arange(100) % 5 == 0  # 80 % correct
        >>> round(expected_calibration_error(truth.astype(int), sure).value, 3)
        0.1
    """
    confidence, correct = _confidence(truth, probabilities)
    gaps = confidence - correct
    groups = [np.flatnonzero(truth == k) for k in np.unique(truth)]

    def error(rows: np.ndarray) -> np.ndarray:
        order = np.argsort(confidence[rows], axis=1, kind="stable")
        ordered = np.take_along_axis(gaps[rows], order, axis=1)
        parts = np.array_split(ordered, min(RELIABILITY_BINS, rows.shape[1]), axis=1)
        return np.abs([part.sum(axis=1) for part in parts]).sum(axis=0) / rows.shape[1]

    value = float(error(np.arange(len(truth))[None])[0])
    samples = bootstrap_samples(error, groups, resamples=resamples, seed=seed)
    half_width = norm.ppf((1 + CONFIDENCE_LEVEL) / 2) * float(samples.std())
    bias = ece_bias(reliability(truth, probabilities))
    return Interval(value, max(0.0, value - bias - half_width), value + half_width)


def debiased_ece(bins: Reliability) -> float:
    """Expected calibration error minus an estimate of its bias; at least zero.

    In a bin with distance d and binomial error s, the expectation of |d + s Z| exceeds |d|. This
    excess, computed with the measured d, is subtracted. It is the correction of Kumar, Liang & Ma
    (2019, https://arxiv.org/abs/1909.10155, section 5), which is exact for the squared distance,
    applied to the absolute distance. About half of the bias remains for calibrated probabilities.
    """
    distance, error = np.abs(bins.confidence - bins.accuracy), _binomial_errors(bins)
    ratio = distance / (math.sqrt(2) * error)
    folded = error * math.sqrt(2 / math.pi) * np.exp(-(ratio**2)) + distance * erf(ratio)
    return max(0.0, float(np.average(2 * distance - folded, weights=bins.counts)))


def ece_bias(bins: Reliability) -> float:
    """Expected calibration error of calibrated probabilities, due to the finite number of images.

    It is an upper limit to the bias of the expected calibration error.
    """
    errors = _binomial_errors(bins)
    return float(np.average(math.sqrt(2 / math.pi) * errors, weights=bins.counts))


def _binomial_errors(bins: Reliability) -> np.ndarray:
    """Standard errors of the accuracy in each bin if the probabilities are calibrated."""
    return np.sqrt(bins.confidence * (1 - bins.confidence) / bins.counts) + 1e-12


def calibration_record(
    truth: np.ndarray,
    probabilities: np.ndarray,
    uncalibrated: np.ndarray,
    *,
    temperature: float = 1.0,
    bias: tuple[float, ...] = (),
    resamples: int = 1000,
) -> CalibrationRecord:
    """Calibration errors with and without temperature scaling.

    Args:
        truth: class indices (N,).
        probabilities, uncalibrated: (N, K), with and without temperature and biases.
        temperature, bias: of the run.
        resamples: of the bootstrap.
    """
    return CalibrationRecord(
        bins=f"{RELIABILITY_BINS} of equally many images, by the probability of the predicted"
        " class",
        interval="95 %, bootstrap over images; its lower limit allows for the bias",
        after=_calibration_errors(truth, probabilities, resamples),
        before=_calibration_errors(truth, uncalibrated, resamples),
        temperature=temperature,
        bias=bias,
    )


def _calibration_errors(
    truth: np.ndarray, probabilities: np.ndarray, resamples: int
) -> CalibrationErrors:
    bins = reliability(truth, probabilities)
    return CalibrationErrors(
        ece=expected_calibration_error(truth, probabilities, resamples=resamples),
        ece_debiased=debiased_ece(bins),
        ece_bias=ece_bias(bins),
        mean_confidence=float(probabilities.max(axis=1).mean()),
        accuracy=float((probabilities.argmax(axis=1) == truth).mean()),
        reliability=bins.to_record(),
    )


def coverage_record(
    truth: np.ndarray,
    outputs: np.ndarray | Posterior,
    conformal: Conformal,
    class_names: tuple[str, ...] | None,
    *,
    resamples: int = 1000,
) -> CoverageRecord:
    """Coverage and mean size of conformal sets or intervals at several nominal coverages.

    Args:
        truth: class indices or mass fractions (N,).
        outputs: probabilities (N, K), mass fractions (N,), or N posteriors.
        conformal: conformity scores of the calibration images.
        class_names: K names, or None for masses.
        resamples: of the bootstrap of the mean size.
    """
    levels = []
    for nominal in NOMINAL_COVERAGES:
        predicted = conformal.predict(outputs, nominal)
        by_class = by_size = None
        if class_names is None:
            covered = (predicted[:, 0] <= truth) & (truth <= predicted[:, 1])
            sizes = predicted[:, 1] - predicted[:, 0]
        else:
            covered, sizes = predicted[np.arange(len(truth)), truth], predicted.sum(axis=1)
            counts = np.bincount(sizes, minlength=len(class_names) + 1)
            by_size = tuple(np.round(counts / len(sizes), 6).tolist())
            by_class = {name: _fraction(covered[truth == k]) for k, name in enumerate(class_names)}
        mean_size = bootstrap(
            lambda rows, sizes=sizes: sizes[rows].mean(axis=1),  # type: ignore[misc]
            [np.arange(len(truth))],
            float(sizes.mean()),
            resamples=resamples,
        )
        levels.append(
            CoverageLevel(
                nominal=nominal,
                coverage=_fraction(covered),
                mean_size=mean_size,
                classes=by_class,
                fraction_by_size=by_size,
            )
        )
    return CoverageRecord(
        images=conformal.images,
        held_out=conformal.held_out,
        interval="95 %, Clopper-Pearson; of sizes, bootstrap over images",
        levels=tuple(levels),
    )


def _fraction(hits: np.ndarray) -> Interval:
    return binomial_interval(int(hits.sum()), len(hits))


def format_calibration(
    calibration: CalibrationRecord | None, coverage: CoverageRecord | None
) -> list[str]:
    """Calibration error and coverages as lines of text."""
    lines = []
    if calibration is not None:
        lines.append(
            f"calibration error {calibration.after.ece},"
            f" debiased {calibration.after.ece_debiased:.4f};"
            f" {calibration.before.ece.value:.4f} before calibration"
        )
    for level in coverage.levels if coverage else ():
        kind, unit = ("sets", " classes") if level.classes else ("intervals", "")
        lines.append(
            f"conformal {kind} of {100 * level.nominal:g} %: coverage {level.coverage}, mean size"
            f" {level.mean_size}{unit}"
        )
    return lines


def _confidence(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the predicted class, and whether that class is the true one (N,)."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
