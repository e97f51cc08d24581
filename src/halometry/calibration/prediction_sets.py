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

    @property
    def cells(self) -> list[str]:
        """As a table holds it: classes joined by `|`, or two numbers."""
        if self.interval is not None:
            return [f"{end:.6g}" for end in self.interval]
        return ["|".join(self.classes or ())]


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

    @property
    def columns(self) -> list[str]:
        """What a table calls them: `set_90`, or `conformal_low_90` and `conformal_high_90`."""
        percent = f"{100 * self.level:g}"
        if self.names:
            return [f"set_{percent}"]
        return [f"conformal_{end}_{percent}" for end in ("low", "high")]

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
