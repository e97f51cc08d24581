"""Prediction sets of a run."""

from __future__ import annotations

from halometry.calibration.conformal import DEFAULT_COVERAGE
from halometry.calibration.prediction_sets import PredictionSets
from halometry.errors import RunError
from halometry.runs.ensemble import Ensemble
from halometry.runs.open import AnyRun


def prediction_sets_for(run: AnyRun, coverage: float | None) -> PredictionSets | None:
    """Return the maker of a run's prediction sets.

    Args:
        run: the run.
        coverage: probability that a set contains the truth; None takes 0.9.

    Returns:
        None where the run is not calibrated and no coverage is asked for.

    Raises:
        RunError: a coverage is asked for and the run is not calibrated.
        UsageError: the coverage is not between 0 and 1.
    """
    conformal = run.conformal()
    if conformal is None:
        if coverage is None:
            return None
        hint = "leave --coverage out, or see 'halometry calibrate'"
        if isinstance(run, Ensemble):
            hint = "an ensemble has no calibration; leave --coverage out"
        raise RunError(f"{run.source}: has no conformal scores for prediction sets; {hint}")
    sets = PredictionSets(
        conformal,
        run.config.class_names,
        DEFAULT_COVERAGE if coverage is None else coverage,
    )
    conformal.thresholds(sets.coverage)  # a wrong coverage is refused before the work
    return sets
