"""Which networks the same images tell apart, and by how much, all pairs considered at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from halometry.evaluation.bootstrap import CONFIDENCE_LEVEL, Interval, bootstrap_samples
from halometry.evaluation.metrics import LOWER_IS_BETTER, comparison_statistics


@dataclass(frozen=True)
class Difference:
    """How two networks differ in a metric, on the same images.

    Attributes:
        metric: `auc`, `r2` or `mse`.
        first, second: the networks.
        estimate: the first's value less the second's; the intervals of all pairs of a comparison
            hold the true differences together, with a probability of 95 %.
    """

    metric: str
    first: str
    second: str
    interval: Interval

    @property
    def better(self) -> str | None:
        """The network that is better than the other; None where the images do not tell."""
        if self.interval.low <= 0 <= self.interval.high:
            return None
        above = self.interval.low > 0
        return self.first if above != (self.metric in LOWER_IS_BETTER) else self.second

    def to_dict(self) -> dict[str, Any]:
        """As `results.json` holds it."""
        pair = {"metric": self.metric, "first": self.first, "second": self.second}
        return pair | self.interval.to_dict() | {"better": self.better}


def differences(
    truth: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """The differences between every two networks, with simultaneous 95 % intervals.

    Every resample is the same for all networks, so that what makes images hard for all of them
    cancels. The intervals of a metric are as wide as the largest of all pairs' deviations, each in
    units of its standard error, is in 95 % of the resamples: whoever looks for the largest
    difference among many pairs is not misled by their number.

    Args:
        truth: class indices or mass fractions (N,).
        outputs: of each network, probabilities (N, K) or mass fractions (N,).
        resamples: of the bootstrap, class by class where there are classes.
        seed: of the resampling.

    Returns:
        Of the mean one-against-the-rest AUC; or of R² and then of the MSE.

    Reference:
        Romano & Wolf (2005), Econometrica 73, 1237: the studentised bootstrap maximum.

    Example:
        >>> truth = np.linspace(0, 0.1, 50)
        >>> near, far = truth + 0.001 * np.cos(9e3 * truth), truth[::-1]
        >>> [(one.metric, one.better) for one in differences(truth, {"a": far, "b": near})]
        [('r2', 'b'), ('mse', 'b')]
    """
    pairs = list(combinations(outputs, 2))
    found: list[Difference] = []
    if not pairs:
        return found
    statistics = {name: comparison_statistics(truth, one) for name, one in outputs.items()}
    for metric in next(iter(statistics.values()))[0]:
        groups = next(iter(statistics.values()))[1]

        def apart(rows: np.ndarray, metric: str = metric) -> np.ndarray:
            values = {name: one[metric](rows) for name, (one, _) in statistics.items()}
            return np.stack([values[a] - values[b] for a, b in pairs], axis=1)

        values = apart(np.concatenate(groups)[None])[0]
        estimates = simultaneous_intervals(
            values, bootstrap_samples(apart, groups, resamples, seed)
        )
        found += [Difference(metric, *two, one) for two, one in zip(pairs, estimates, strict=True)]
    return found


def simultaneous_intervals(values: np.ndarray, samples: np.ndarray) -> list[Interval]:
    """Intervals that hold together, from resamples of several quantities.

    Args:
        values: of the quantities (P,).
        samples: of each resample (R, P).
    """
    errors = samples.std(axis=0)
    scale = np.where(errors > 0, errors, np.inf)  # what never changes is known
    largest = (np.abs(samples - values) / scale).max(axis=1)
    half = np.quantile(largest, CONFIDENCE_LEVEL) * errors
    return [
        Interval(float(value), float(value - by), float(value + by))
        for value, by in zip(values, half, strict=True)
    ]


def find_difference(
    found: Sequence[Mapping[str, Any]], metric: str, first: str, second: str
) -> Interval:
    """The difference of two networks in a metric, the first's value less the second's."""
    for one in found:
        if one["metric"] == metric and {one["first"], one["second"]} == {first, second}:
            value, low, high = one["value"], one["low"], one["high"]
            if one["first"] == first:
                return Interval(value, low, high)
            return Interval(-value, -high, -low)
    raise KeyError((metric, first, second))
