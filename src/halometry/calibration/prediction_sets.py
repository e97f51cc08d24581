"""Sets of classes and intervals of masses beside a run's answers, at a stated level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.calibration.conformal import Conformal
from halometry.calibration.posterior import Posterior


@dataclass(frozen=True)
class Region:
    """What holds the truth of an image as often as its level says; see `Conformal`.

    Attributes:
        classes: those in the set, most probable first; None for masses.
        interval: of the mass fraction; None for classes.
    """

    classes: tuple[str, ...] | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Regions:
    """Makes regions of a run's answers.

    Args:
        conformal: of the run.
        names: of its classes, if it has any.
        level: of the regions.
    """

    conformal: Conformal
    names: tuple[str, ...] | None
    level: float

    def of(self, outputs: np.ndarray | Posterior) -> list[Region]:
        """The regions of some answers: probabilities (N, K), mass fractions (N,) or posteriors."""
        found = self.conformal.regions(outputs, self.level)
        if isinstance(outputs, Posterior) or self.names is None:
            return [Region(interval=(low, high)) for low, high in found.tolist()]
        ranks = np.argsort(-outputs, axis=1)
        return [
            Region(classes=tuple(self.names[k] for k in order if inside[k]))
            for order, inside in zip(ranks, found, strict=True)
        ]
