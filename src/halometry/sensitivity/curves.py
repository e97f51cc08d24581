"""Completeness against mass, and the mass at which a given fraction of subhalos is detected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from halometry.evaluation.bootstrap import CONFIDENCE_LEVEL, Interval, binomial_interval, bootstrap

NETWORK = "network"
FIXED_LENS, FITTED_LENS = "ideal_fixed_lens", "ideal_fitted_lens"
BLIND_SEARCH = "ideal_blind_search"
COMPLETENESS_LEVELS = (0.5, 0.9)  # of the masses in tables

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DetectionOutcomes:
    """Detections of single subhalos in many lenses, for each mass.

    Attributes:
        log10_masses: log10 of solar masses, rising (M,).
        smooth_scores: the network's scores of lenses without a subhalo (S,).
        scores: its scores of N lenses with one (M, N).
        probabilities: detection probability of each by the ideal observers, by name (M, N).
        false_positives: false-positive rate of all observers.
    """

    log10_masses: np.ndarray
    smooth_scores: np.ndarray
    scores: np.ndarray
    probabilities: dict[str, np.ndarray]
    false_positives: float

    @property
    def observers(self) -> tuple[str, ...]:
        """The network and the ideal observers."""
        return NETWORK, *self.probabilities

    def completeness(self, observer: str) -> list[Interval]:
        """Fraction detected of each mass, with its 95 % interval (binomial for the network)."""
        if observer == NETWORK:
            threshold = score_threshold(self.smooth_scores, self.false_positives)
            is_detected = self.scores > threshold
            return [binomial_interval(int(row.sum()), row.size) for row in is_detected]
        return [_mean_interval(row) for row in self.probabilities[observer]]

    def log10_mass(self, observer: str, level: float, resamples: int = 1000) -> Interval:
        """log10 of the mass at which a fraction is detected, with a bootstrap over lenses.

        It is the largest mass if the fraction is not reached; see `is_reached`.
        """
        return self._bootstrap(lambda rows: self._log10_mass(observer, level, rows), resamples)

    def delta_log10_mass(
        self, observer: str, other: str, level: float, resamples: int = 1000
    ) -> Interval:
        """log10 of the ratio of the masses of two observers, with a paired bootstrap."""
        return self._bootstrap(
            lambda rows: (
                self._log10_mass(observer, level, rows) - self._log10_mass(other, level, rows)
            ),
            resamples,
        )

    def is_reached(self, observer: str, level: float) -> bool:
        """Whether this fraction of some mass is detected."""
        return bool(np.isfinite(self._crossing(observer, level, self._all_rows()))[0])

    def _log10_mass(self, observer: str, level: float, rows: np.ndarray) -> np.ndarray:
        return np.minimum(self._crossing(observer, level, rows), self.log10_masses[-1])

    def _crossing(self, observer: str, level: float, rows: np.ndarray) -> np.ndarray:
        return first_crossing(level, self.log10_masses, isotonic(self._fractions(observer, rows)))

    def _fractions(self, observer: str, rows: np.ndarray) -> np.ndarray:
        """Completeness (R, M) of resamples (R, S + N): rows of smooth lenses, then of others."""
        smooth_rows, rows = np.split(rows, [len(self.smooth_scores)], axis=1)
        if observer != NETWORK:
            return self.probabilities[observer][:, rows].mean(axis=-1).T
        threshold = score_threshold(self.smooth_scores[smooth_rows], self.false_positives)
        return (self.scores[:, rows] > threshold[:, None]).mean(axis=-1).T

    def _groups(self) -> list[np.ndarray]:
        return [np.arange(len(self.smooth_scores)), np.arange(self.scores.shape[1])]

    def _all_rows(self) -> np.ndarray:
        return np.concatenate(self._groups())[None]

    def _bootstrap(self, statistic: Statistic, resamples: int) -> Interval:
        value = float(statistic(self._all_rows())[0])
        return bootstrap(statistic, self._groups(), value, resamples=resamples)


def score_threshold(scores: np.ndarray, false_positives: float) -> np.ndarray:
    """Threshold (...) that at most a fraction of the smooth lenses' scores (..., S) exceeds."""
    threshold: np.ndarray = np.quantile(scores, 1 - false_positives, axis=-1, method="higher")
    return threshold


def isotonic(values: np.ndarray) -> np.ndarray:
    """Compute the isotonic least-squares fit to each row of values (R, M).

    At i it is the maximum, over starts j up to i, of the smallest mean from j to any k from i on
    (Robertson, Wright & Dykstra 1988, Order Restricted Statistical Inference, eq. 1.4.4).

    Example:
        >>> isotonic(np.array([[0.0, 0.4, 0.2, 1.0]]))
        array([[0. , 0.3, 0.3, 1. ]])
    """
    size = values.shape[1]
    sums = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
    first, last = np.arange(size)[:, None], np.arange(size)[None]
    is_range = last >= first
    means = (sums[:, None, 1:] - sums[:, :-1, None]) / np.where(is_range, last - first + 1, 1)
    means = np.where(is_range, means, np.inf)
    smallest = np.minimum.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.where(is_range, smallest, -np.inf).max(axis=1)


def first_crossing(level: float, positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Position at which each row of values first reaches a level, by linear interpolation.

    Args:
        level: the level.
        positions: of the values (M,), rising.
        values: (R, M).

    Returns:
        (R,): the first position if a row starts above the level, infinity if it never reaches it.

    Example:
        >>> first_crossing(0.5, np.array([8.0, 9.0, 10.0]), np.array([[0.0, 0.4, 0.8], [0, 0, 0]]))
        array([9.25,  inf])
    """
    is_above = values >= level
    i = is_above.argmax(axis=1)
    before = np.maximum(i - 1, 0)
    low, high = (np.take_along_axis(values, k[:, None], axis=1)[:, 0] for k in (before, i))
    part = np.where(i > 0, (level - low) / np.where(high > low, high - low, 1), 0)
    crossing = positions[before] + part * (positions[i] - positions[before])
    return np.where(is_above.any(axis=1), crossing, np.inf)


def _mean_interval(probabilities: np.ndarray) -> Interval:
    """Mean over lenses, with the interval of a normal distribution."""
    mean = float(probabilities.mean())
    error = (
        float(ndtri((1 + CONFIDENCE_LEVEL) / 2))
        * float(probabilities.std())
        / len(probabilities) ** 0.5
    )
    return Interval(mean, max(mean - error, 0.0), min(mean + error, 1.0))
