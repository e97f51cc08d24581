"""Median and central intervals of a posterior."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from halometry.calibration.posterior import CREDIBLE_LEVELS


@dataclass(frozen=True)
class PosteriorSummary:
    """Median of a posterior, and the ends of its central 68 % and 95 % intervals."""

    median: float
    lo68: float
    hi68: float
    lo95: float
    hi95: float

    def interval(self, level: str) -> tuple[float, float]:
        """Both ends of the interval of level `68` or `95`."""
        return (self.lo68, self.hi68) if level == "68" else (self.lo95, self.hi95)

    def to_dict(self) -> dict[str, float]:
        """Return the five numbers by name, for JSON."""
        return asdict(self)


def summarize(values: np.ndarray, weights: np.ndarray) -> PosteriorSummary:
    """Compute the summary of weighted draws, or of a density on a regular grid.

    Args:
        values: draws or grid points (S,), in any order.
        weights: of these, not negative (S,).

    Example:
        >>> summarize(np.arange(101.0), np.ones(101)).median
        50.0
    """
    probabilities = [0.5] + [
        (1 + sign * level) / 2 for level in CREDIBLE_LEVELS.values() for sign in (-1, 1)
    ]
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    cumulative = (np.cumsum(weights) - weights / 2) / weights.sum()
    return PosteriorSummary(*np.interp(probabilities, cumulative, values).tolist())
