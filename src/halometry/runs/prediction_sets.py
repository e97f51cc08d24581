"""TODO docstring."""

from __future__ import annotations

from halometry.calibration.conformal import LEVEL
from halometry.calibration.prediction_sets import Regions
from halometry.errors import RunError
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun


def regions_of(run: AnyRun, level: float | None) -> Regions | None:
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
