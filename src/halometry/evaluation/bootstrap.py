"""An interval on every figure of merit, by the bootstrap over images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

CONFIDENCE_LEVEL = 0.95
MAX_RESAMPLED_VALUES = 4_000_000  # numbers resampled at a time, to bound memory


@dataclass(frozen=True)
class Interval:
    """A figure of merit with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """With as many digits as the interval's width makes sensible.

        Example:
            >>> str(Interval(0.95213, 0.94102, 0.96308))
            '0.952 [0.941, 0.963]'
        """
        return "{} [{}, {}]".format(*format_interval(self.value, self.low, self.high))


def format_interval(value: float, low: float, high: float) -> tuple[str, str, str]:
    """The three numbers as text, to two digits of the interval's half-width."""
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
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A percentile interval from resampled images.

    Args:
        statistic: from row numbers (R, N), one resample a line, to values (R,).
        groups: rows that are resampled among themselves; the classes of a classification, so
            that none is ever missing, or all rows together.
        value: the statistic of the images themselves.
        resamples: how many.
        seed: of the resampling.

    Reference:
        Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    edges = (1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2
    low, high = np.nanquantile(bootstrap_samples(statistic, groups, resamples, seed), edges)
    return Interval(float(value), float(low), float(high))


def bootstrap_samples(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: list[np.ndarray],
    resamples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """A statistic of resampled images, as `bootstrap` takes them.

    Returns:
        (resamples, ...): whatever the statistic gives for each.
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
    """A share of images with the interval of the binomial distribution itself.

    Args:
        hits: images that have what is counted.
        count: of all images, at least one.

    Reference:
        Clopper & Pearson (1934), Biometrika 26, 404.

    Example:
        >>> str(binomial_interval(68, 100))
        '0.680 [0.579, 0.770]'
    """
    from scipy.stats import binomtest  # slow to import, and no prediction needs it

    interval = binomtest(hits, count).proportion_ci(CONFIDENCE_LEVEL, method="exact")
    return Interval(hits / count, float(interval.low), float(interval.high))
