"""Confidence intervals of metrics: bootstrap over images, and binomial intervals of fractions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict

CONFIDENCE_LEVEL = 0.95
MAX_RESAMPLED_VALUES = 4_000_000  # at a time, to limit memory


@dataclass(frozen=True)
class Interval:
    """Value with the limits of its 95 % confidence interval.

    Example:
        >>> str(Interval(0.95213, 0.94102, 0.96308))
        '0.952 [0.941, 0.963]'
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "{} [{}, {}]".format(*format_interval(self.value, self.low, self.high))


def format_interval(value: float, low: float, high: float) -> tuple[str, str, str]:
    """Value and limits as text, rounded to two digits of the interval's half-width."""
    half = (high - low) / 2
    if value == low == high == 0:
        return "0", "0", "0"
    if not all(map(math.isfinite, (value, low, high))):
        return tuple(f"{number:.3g}" for number in (value, low, high))  # type: ignore[return-value]
    digits = 3 if half == 0 else max(0, 1 - math.floor(math.log10(half)))
    if digits > 6 or max(abs(value), abs(low), abs(high)) < 1e-3:
        return tuple(f"{number:.2e}" for number in (value, low, high))  # type: ignore[return-value]
    return tuple(f"{number:.{digits}f}" for number in (value, low, high))  # type: ignore[return-value]


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: list[np.ndarray],
    value: float,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic of images.

    Args:
        statistic: function of row numbers (R, N), one resample per line, that returns (R,).
        groups: rows that are resampled separately: the classes of a classification, so that no
            class is ever missing, or all rows in one group.
        value: the statistic of the original images.
        resamples: number of resamples, R.
        seed: of the resampling.

    Reference:
        Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    limits = (1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2
    samples = bootstrap_samples(statistic, groups, resamples=resamples, seed=seed)
    low, high = np.nanquantile(samples, limits)
    return Interval(float(value), float(low), float(high))


def bootstrap_samples(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: list[np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Values of a statistic for bootstrap resamples of images.

    Args:
        statistic, groups, resamples, seed: see `bootstrap`.

    Returns:
        (resamples, ...): the statistic of each resample.
    """
    rng = np.random.default_rng(seed)
    total = sum(len(group) for group in groups)
    values: list[np.ndarray] = []
    while (done := sum(map(len, values))) < resamples:
        size = min(resamples - done, max(1, MAX_RESAMPLED_VALUES // total))
        rows = [group[rng.integers(0, len(group), (size, len(group)))] for group in groups]
        values.append(statistic(np.concatenate(rows, axis=1)))
    return np.concatenate(values)


def binomial_interval(hits: int, count: int) -> Interval:
    """Fraction of images with its exact binomial confidence interval.

    Args:
        hits: number of images with a property.
        count: number of all images, at least one.

    Reference:
        Clopper & Pearson (1934), Biometrika 26, 404.

    Example:
        >>> str(binomial_interval(68, 100))
        '0.680 [0.579, 0.770]'
    """
    from scipy.stats import binomtest  # slow to import, and not needed for predictions

    interval = binomtest(hits, count).proportion_ci(CONFIDENCE_LEVEL, method="exact")
    return Interval(hits / count, float(interval.low), float(interval.high))
