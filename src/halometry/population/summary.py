"""A posterior in five numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from halometry.calibration.posterior import LEVELS


@dataclass(frozen=True)
class Summary:
    """The median of a posterior, and the ends of its central 68 and 95 % intervals."""

    median: float
    low_68: float
    high_68: float
    low_95: float
    high_95: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for JSON."""
        return asdict(self)


def summarize(values: np.ndarray, weights: np.ndarray) -> Summary:
    """The five numbers of weighted draws, or of a density on a regular grid.

    Args:
        values: (S,), in any order.
        weights: not negative (S,).

    Example:
        >>> summarize(np.arange(101.0), np.ones(101)).median
        50.0
    """
    shares = [0.5] + [(1 + way * level) / 2 for level in LEVELS.values() for way in (-1, 1)]
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    reached = (np.cumsum(weights) - weights / 2) / weights.sum()
    return Summary(*np.interp(shares, reached, values).tolist())
