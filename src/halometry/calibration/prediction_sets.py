"""Sets of classes and intervals of masses beside a run's answers, at a stated level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.calibration.conformal import LEVEL, Conformal
from halometry.errors import RunError
from halometry.models.posterior import Posterior
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import Trained


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


def regions_of(run: Trained, level: float | None) -> Regions | None:
    """What makes a run's regions; None of a run without scores, where no level is asked for.

    Raises:
        RunError: a level is asked for and the run has no scores.
        UsageError: the level is not between 0 and 1.
    """
    conformal = run.conformal()
    if conformal is None:
        if level is None:
            return None
        why = "leave --level out, or see 'halometry calibrate'"
        if isinstance(run, Ensemble):
            why = "several runs together have no calibration; leave --level out"
        raise RunError(f"{run.source}: has nothing to make sets or intervals from; {why}")
    made = Regions(conformal, run.config.class_names, LEVEL if level is None else level)
    conformal.thresholds(made.level)  # a wrong level is refused before the work
    return made
