"""Prediction sets: sets of class names and intervals of masses with a stated coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.calibration.conformal import Conformal
from halometry.calibration.posterior import Posterior


@dataclass(frozen=True)
class PredictionSet:
    """Prediction set of one image; see `Conformal`.

    Attributes:
        classes: classes in the set, most probable first; None for masses.
        interval: ends of the interval of the mass fraction; None for classes.
    """

    classes: tuple[str, ...] | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PredictionSets:
    """Maker of the prediction sets of a run.

    Args:
        conformal: conformal scores of the run.
        class_names: names of the classes; None for masses.
        coverage: probability that a set contains the truth.
    """

    conformal: Conformal
    class_names: tuple[str, ...] | None
    coverage: float

    def predict(self, predictions: np.ndarray | Posterior) -> list[PredictionSet]:
        """Return the sets of probabilities (N, K), mass fractions (N,) or N posteriors."""
        sets = self.conformal.predict(predictions, self.coverage)
        if isinstance(predictions, Posterior) or self.class_names is None:
            return [PredictionSet(interval=(low, high)) for low, high in sets.tolist()]
        orders = np.argsort(-predictions, axis=1)
        return [
            PredictionSet(classes=tuple(self.class_names[k] for k in order if inside[k]))
            for order, inside in zip(orders, sets, strict=True)
        ]
