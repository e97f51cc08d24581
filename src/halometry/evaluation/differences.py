"""Paired differences between networks on the same images, with simultaneous intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from halometry.evaluation.bootstrap import CONFIDENCE_LEVEL, Interval, bootstrap_samples
from halometry.evaluation.metrics import LOWER_IS_BETTER, comparison_statistics
from halometry.evaluation.records import Record


class Difference(Record):
    """Difference of two networks in a metric, on the same images.

    Attributes:
        metric: `auc`, `r2` or `mse`.
        first, second: the networks.
        value: metric of the first minus that of the second.
        low, high: limits of its 95 % interval. The intervals of all pairs of a comparison contain
            the true differences simultaneously with a probability of 95 %.
        better: the better network; None where the interval contains zero.
    """

    metric: str
    first: str
    second: str
    value: float
    low: float
    high: float
    better: str | None

    @classmethod
    def from_interval(cls, metric: str, first: str, second: str, interval: Interval) -> Difference:
        """A difference, and which network is the better one."""
        better = None
        if not interval.low <= 0 <= interval.high:
            first_is_better = (interval.low > 0) != (metric in LOWER_IS_BETTER)
            better = first if first_is_better else second
        return cls(metric=metric, first=first, second=second, better=better, **interval.to_dict())

    @property
    def interval(self) -> Interval:
        """The difference with its interval."""
        return Interval(self.value, self.low, self.high)


def differences(
    truth: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Differences between every two networks, with simultaneous 95 % intervals.

    Each resample is the same for all networks, so that the effect of difficult images cancels. The
    intervals of a metric have a common width in units of the standard error: the 95 % quantile,
    over the resamples, of the largest deviation among all pairs. They allow for the number of
    pairs.

    Args:
        truth: class indices or mass fractions (N,).
        outputs: for each network, probabilities (N, K) or mass fractions (N,).
        resamples: of the bootstrap, stratified by class for a classification.
        seed: of the resampling.

    Returns:
        Differences of the mean one-vs-rest AUC; or of R² and then of the MSE.

    Reference:
        Romano & Wolf (2005), Econometrica 73, 1237: the studentized bootstrap maximum.

    Example:
        >>> truth = np.linspace(0, 0.1, 50)
        >>> near, far = truth + 0.001 * np.cos(9e3 * truth), truth[::-1]
        >>> [(d.metric, d.better) for d in differences(truth, {"a": far, "b": near})]
        [('r2', 'b'), ('mse', 'b')]
    """
    pairs = list(combinations(outputs, 2))
    if not pairs:
        return []
    statistics = {name: comparison_statistics(truth, output) for name, output in outputs.items()}
    metrics, groups = next(iter(statistics.values()))
    results: list[Difference] = []
    for metric in metrics:

        def pairwise(rows: np.ndarray, metric: str = metric) -> np.ndarray:
            values = {name: functions[metric](rows) for name, (functions, _) in statistics.items()}
            return np.stack([values[a] - values[b] for a, b in pairs], axis=1)

        values = pairwise(np.concatenate(groups)[None])[0]
        samples = bootstrap_samples(pairwise, groups, resamples=resamples, seed=seed)
        intervals = simultaneous_intervals(values, samples)
        results += [
            Difference.from_interval(metric, first, second, interval)
            for (first, second), interval in zip(pairs, intervals, strict=True)
        ]
    return results


def simultaneous_intervals(values: np.ndarray, samples: np.ndarray) -> list[Interval]:
    """Intervals that contain the true values of several quantities simultaneously.

    Args:
        values: of the quantities (P,).
        samples: values for each bootstrap resample (R, P).
    """
    errors = samples.std(axis=0)
    scale = np.where(errors > 0, errors, np.inf)  # a quantity that never changes is exact
    largest = (np.abs(samples - values) / scale).max(axis=1)
    half = np.quantile(largest, CONFIDENCE_LEVEL) * errors
    return [
        Interval(float(value), float(value - width), float(value + width))
        for value, width in zip(values, half, strict=True)
    ]


def find_difference(pairs: Sequence[Difference], metric: str, first: str, second: str) -> Interval:
    """Metric of one network minus that of another, from the differences of all pairs.

    Raises:
        KeyError: there is no such pair.
    """
    for pair in pairs:
        if pair.metric == metric and (pair.first, pair.second) == (first, second):
            return pair.interval
        if pair.metric == metric and (pair.first, pair.second) == (second, first):
            return Interval(-pair.value, -pair.high, -pair.low)
    raise KeyError((metric, first, second))
