"""Completeness against mass, and the mass at which a share of the subhalos is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from halometry.evaluation.bootstrap import CONFIDENCE_LEVEL, Interval, binomial_interval, bootstrap

NETWORK = "network"
COMPLETENESS_LEVELS = (0.5, 0.9)  # completeness at which masses are told

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DetectionOutcomes:
    """What became of many lenses with one subhalo, mass by mass, and of some without.

    Attributes:
        masses: log10 of solar masses, rising (M,).
        smooth: the network's scores of lenses without a subhalo (S,).
        scores: of N lenses with one (M, N).
        chances: of other observers, by name: how probable it is that each is found (M, N).
        false_positives: share of smooth lenses that everybody calls lumpy.
    """

    log10_masses: np.ndarray
    smooth_scores: np.ndarray
    scores: np.ndarray
    probabilities: dict[str, np.ndarray]
    false_positives: float

    @property
    def observers(self) -> tuple[str, ...]:
        """The network, and the others."""
        return NETWORK, *self.probabilities

    def completeness(self, observer: str) -> list[Interval]:
        """The share found of each mass, with its 95 % interval: binomial for the network."""
        if observer == NETWORK:
            hits = self.scores > score_threshold(self.smooth_scores, self.false_positives)
            return [binomial_interval(int(one.sum()), one.size) for one in hits]
        return [_mean(chances) for chances in self.probabilities[observer]]

    def log10_mass(self, observer: str, level: float, resamples: int = 1000) -> Interval:
        """log10 of the mass of which a share is found, bootstrapped over lenses.

        Where so many are not found of the heaviest, that is given: see `reached`.
        """
        return self._bootstrap(lambda rows: self._mass(observer, level, rows), resamples)

    def delta_log10_mass(
        self, observer: str, other: str, level: float, resamples: int = 1000
    ) -> Interval:
        """How much heavier (dex) subhalos must be for one observer than for another, paired."""
        return self._bootstrap(
            lambda rows: self._mass(observer, level, rows) - self._mass(other, level, rows),
            resamples,
        )

    def is_reached(self, observer: str, level: float) -> bool:
        """Whether so many of the heaviest are found."""
        return bool(np.isfinite(self._found(observer, level, self._all()))[0])

    def _mass(self, observer: str, level: float, rows: np.ndarray) -> np.ndarray:
        return np.minimum(self._found(observer, level, rows), self.log10_masses[-1])

    def _found(self, observer: str, level: float, rows: np.ndarray) -> np.ndarray:
        return first_crossing(level, self.log10_masses, isotonic(self._shares(observer, rows)))

    def _shares(self, observer: str, rows: np.ndarray) -> np.ndarray:
        """Completeness (R, M) of resamples (R, S + N): rows of smooth lenses, then of others."""
        of_smooth, of_lumpy = np.split(rows, [len(self.smooth_scores)], axis=1)
        if observer != NETWORK:
            return self.probabilities[observer][:, of_lumpy].mean(axis=-1).T
        limit = score_threshold(self.smooth_scores[of_smooth], self.false_positives)
        return (self.scores[:, of_lumpy] > limit[:, None]).mean(axis=-1).T

    def _groups(self) -> list[np.ndarray]:
        return [np.arange(len(self.smooth_scores)), np.arange(self.scores.shape[1])]

    def _all(self) -> np.ndarray:
        return np.concatenate(self._groups())[None]

    def _bootstrap(self, statistic: Statistic, resamples: int) -> Interval:
        return bootstrap(statistic, self._groups(), float(statistic(self._all())[0]), resamples)


def score_threshold(scores: np.ndarray, false_positives: float) -> np.ndarray:
    """The score (...) that a share of smooth lenses' scores (..., S) exceeds, at most."""
    threshold: np.ndarray = np.quantile(scores, 1 - false_positives, axis=-1, method="higher")
    return threshold


def isotonic(values: np.ndarray) -> np.ndarray:
    """The nearest sequences (R, M) that never fall, in the least squares of values (R, M).

    At i the largest, over beginnings j up to i, of the smallest mean from j to any k from i on
    (Robertson, Wright & Dykstra 1988, Order Restricted Statistical Inference, eq. 1.4.4).

    Example:
        >>> rising(np.array([[0.0, 0.4, 0.2, 1.0]]))
        array([[0. , 0.3, 0.3, 1. ]])
    """
    size = values.shape[1]
    sums = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
    first, last = np.arange(size)[:, None], np.arange(size)[None]
    inside = last >= first
    means = (sums[:, None, 1:] - sums[:, :-1, None]) / np.where(inside, last - first + 1, 1)
    means = np.where(inside, means, np.inf)
    lowest = np.minimum.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.where(inside, lowest, -np.inf).max(axis=1)


def first_crossing(level: float, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where rows of values (R, M) first reach a level, on straight lines between points `at` (M,).

    Returns:
        (R,): the first point where they begin above it, infinity where they do not reach it.

    Example:
        >>> crossing(0.5, np.array([8.0, 9.0, 10.0]), np.array([[0.0, 0.4, 0.8], [0, 0, 0]]))
        array([9.25,  inf])
    """
    above = values >= level
    i = above.argmax(axis=1)
    before = np.maximum(i - 1, 0)
    low, high = (np.take_along_axis(values, k[:, None], axis=1)[:, 0] for k in (before, i))
    part = np.where(i > 0, (level - low) / np.where(high > low, high - low, 1), 0)
    found = at[before] + part * (at[i] - at[before])
    return np.where(above.any(axis=1), found, np.inf)


def _mean(chances: np.ndarray) -> Interval:
    """A mean over lenses, with the interval of a normal law."""
    mean = float(chances.mean())
    error = float(ndtri((1 + CONFIDENCE_LEVEL) / 2)) * float(chances.std()) / len(chances) ** 0.5
    return Interval(mean, max(mean - error, 0.0), min(mean + error, 1.0))
