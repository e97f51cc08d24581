"""Whether probabilities mean what they say, and whether sets and intervals hold the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf
from scipy.stats import norm

from halometry.calibration.conformal import Conformal
from halometry.calibration.posterior import Posterior
from halometry.evaluation.bootstrap import CONFIDENCE_LEVEL as INTERVAL
from halometry.evaluation.bootstrap import Interval, binomial_interval, bootstrap, bootstrap_samples

RELIABILITY_BINS = 15
NOMINAL_COVERAGES = (0.68, 0.9, 0.95)  # of sets and intervals, at which they are judged


@dataclass(frozen=True)
class Reliability:
    """Answers in bins of equally many, by the probability of the class that they name.

    Attributes:
        counts: images in each bin (B,).
        confidence: mean probability of the class named (B,).
        accuracy: share of answers that are right (B,).
        low, high: ends of the accuracy's 95 % interval, Clopper & Pearson's (B,).
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, for JSON."""
        return {key: np.round(value, 6).tolist() for key, value in vars(self).items()}


def reliability(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = RELIABILITY_BINS
) -> Reliability:
    """Confidence and accuracy in bins of equally many images.

    Args:
        truth: class indices (N,).
        probabilities: (N, K).
        bins: how many, at most one an image.
    """
    confidence, right = _named(truth, probabilities)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    counts = np.array([len(part) for part in parts])
    hits = np.array([int(right[part].sum()) for part in parts])
    shares = [
        binomial_interval(int(hit), int(count)) for hit, count in zip(hits, counts, strict=True)
    ]
    low, high = np.array([(one.low, one.high) for one in shares]).T
    means = np.array([confidence[part].mean() for part in parts])
    return Reliability(counts, means, hits / counts, low, high)


def expected_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, resamples: int = 1000, seed: int = 0
) -> Interval:
    """How far the probability of the class named is from the share of right answers, on average.

    In 15 bins of equally many images. Noise in a bin only adds to its distance: the value is too
    large, by something between nothing, where all bins are far off, and `by_noise`, where none
    is. The interval allows for all of that: from the value less as much and 1.96 standard errors,
    to the value and 1.96 standard errors, which are the bootstrap's. It is on the safe side.

    Args:
        truth: class indices (N,).
        probabilities: (N, K).
        resamples: of the bootstrap, class by class.
        seed: of the resampling.

    Reference:
        Naeini, Cooper & Hauskrecht (2015), AAAI; Guo et al. (2017),
        https://arxiv.org/abs/1706.04599, equation 3.

    Example:
        >>> sure, truth = np.tile([0.9, 0.1], (100, 1)), np.arange(100) % 5 == 0  # 80 % right
        >>> round(expected_calibration_error(truth.astype(int), sure).value, 3)
        0.1
    """
    confidence, right = _named(truth, probabilities)
    gaps = confidence - right
    groups = [np.flatnonzero(truth == k) for k in np.unique(truth)]

    def error(rows: np.ndarray) -> np.ndarray:
        order = np.argsort(confidence[rows], axis=1, kind="stable")
        ordered = np.take_along_axis(gaps[rows], order, axis=1)
        parts = np.array_split(ordered, min(RELIABILITY_BINS, rows.shape[1]), axis=1)
        return np.abs([part.sum(axis=1) for part in parts]).sum(axis=0) / rows.shape[1]

    value = float(error(np.arange(len(truth))[None])[0])
    reach = norm.ppf((1 + INTERVAL) / 2) * float(
        bootstrap_samples(error, groups, resamples, seed).std()
    )
    bias = ece_bias(reliability(truth, probabilities))
    return Interval(value, max(0.0, value - bias - reach), value + reach)


def debiased_ece(found: Reliability) -> float:
    """The expected calibration error less what noise adds to it, zero at least.

    A bin's distance d, with a binomial error s, has the expectation of |d + s Z| once more; by
    how much that exceeds |d| is taken off. This is the correction of Kumar, Liang & Ma (2019,
    https://arxiv.org/abs/1909.10155, section 5) for the absolute distance in place of the squared
    one, for which it is exact; here about half of the bias remains where there is nothing but.

    Args:
        found: bins of answers.
    """
    distance, error = np.abs(found.confidence - found.accuracy), _binomial_errors(found)
    ratio = distance / (math.sqrt(2) * error)
    folded = error * math.sqrt(2 / math.pi) * np.exp(-(ratio**2)) + distance * erf(ratio)
    return max(0.0, float(np.average(2 * distance - folded, weights=found.counts)))


def ece_bias(found: Reliability) -> float:
    """The calibration error that so many answers would have if they meant what they say.

    Args:
        found: bins of answers.
    """
    errors = _binomial_errors(found)
    return float(np.average(math.sqrt(2 / math.pi) * errors, weights=found.counts))


def _binomial_errors(found: Reliability) -> np.ndarray:
    """The standard errors of the bins' shares of right answers, were they as the answers say."""
    return np.sqrt(found.confidence * (1 - found.confidence) / found.counts) + 1e-12


def calibration_record(
    truth: np.ndarray, probabilities: np.ndarray, untempered: np.ndarray, resamples: int = 1000
) -> dict[str, Any]:
    """The calibration error with its bins, and what it was before calibration.

    Args:
        truth: class indices (N,).
        probabilities, untempered: (N, K), as they are and without these.
        resamples: of the bootstrap.
    """
    record: dict[str, Any] = {
        "bins": f"{RELIABILITY_BINS} of equally many images, by the probability of the class named",
        "interval": "95 %, bootstrap over images, and below it what noise may add",
    }
    for when, answers in (("after", probabilities), ("before", untempered)):
        found = reliability(truth, answers)
        record[when] = {
            "ece": expected_calibration_error(truth, answers, resamples).to_dict(),
            "ece_debiased": debiased_ece(found),
            "ece_by_noise": ece_bias(found),
            "mean_confidence": float(answers.max(axis=1).mean()),
            "accuracy": float((answers.argmax(axis=1) == truth).mean()),
            "reliability": found.to_dict(),
        }
    return record


def coverage_record(
    truth: np.ndarray,
    answers: np.ndarray | Posterior,
    conformal: Conformal,
    class_names: tuple[str, ...] | None,
    resamples: int = 1000,
) -> dict[str, Any]:
    """How often sets or intervals hold the truth at several levels, and how large they are.

    Args:
        truth: class indices or mass fractions (N,).
        answers: probabilities (N, K), mass fractions (N,), or N posteriors.
        conformal: what they are made from.
        class_names: K names, or None for masses.
        resamples: of the bootstrap of the mean size.
    """
    levels = []
    for level in NOMINAL_COVERAGES:
        regions = conformal.predict(answers, level)
        if class_names is None:
            held = (regions[:, 0] <= truth) & (truth <= regions[:, 1])
            sizes, more = regions[:, 1] - regions[:, 0], {}
        else:
            held, sizes = regions[np.arange(len(truth)), truth], regions.sum(axis=1)
            shares = np.bincount(sizes, minlength=len(class_names) + 1) / len(sizes)
            more = {
                "classes": {name: _share(held[truth == k]) for k, name in enumerate(class_names)},
                "share_by_size": np.round(shares, 6).tolist(),
            }
        size = bootstrap(
            lambda rows, sizes=sizes: sizes[rows].mean(axis=1),  # type: ignore[misc]
            [np.arange(len(truth))],
            float(sizes.mean()),
            resamples,
        )
        levels.append(
            {"level": level, "coverage": _share(held), "mean_size": size.to_dict()} | more
        )
    return {
        "from": conformal.images,
        "untouched": conformal.held_out,
        "interval": "95 %, Clopper-Pearson; of sizes, bootstrap over images",
        "levels": levels,
    }


def _share(held: np.ndarray) -> dict[str, float]:
    return binomial_interval(int(held.sum()), len(held)).to_dict()


def format_calibration(trust: Mapping[str, Any]) -> list[str]:
    """What `calibration` and `conformal` of an evaluation come to, a line each."""
    lines = []
    if calibration := trust.get("calibration"):
        before = calibration["before"]["ece"]["value"]
        lines.append(
            f"calibration error {Interval(**calibration['after']['ece'])}, less its bias"
            f" {calibration['after']['ece_debiased']:.4f}; {before:.4f} before calibration"
        )
    for one in trust.get("conformal", {}).get("levels", ()):
        kind = "sets" if "classes" in one else "intervals"
        unit = " classes" if "classes" in one else ""
        lines.append(
            f"{kind} of {100 * one['level']:g} %: hold the truth in"
            f" {Interval(**one['coverage'])} of the images, mean size"
            f" {Interval(**one['mean_size'])}{unit}"
        )
    return lines


def _named(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the class that an answer names, and whether it is the true one."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
