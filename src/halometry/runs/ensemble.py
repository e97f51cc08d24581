"""Ensemble: several runs as one predictor, which predicts their mean."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import yaml

from halometry.calibration.conformal import Conformal
from halometry.calibration.posterior import Posterior, common_grid
from halometry.errors import RunError
from halometry.massmaps.presets import preset_hash
from halometry.runs.config import RunConfig
from halometry.runs.exported import ExportedRun
from halometry.runs.run import PredictFn, Run

SEPARATOR = ","


@dataclass(frozen=True)
class Ensemble:
    """Several runs whose predictions are averaged.

    `open_run` makes one from names with commas between them. Probabilities, densities of
    posteriors, or mass fractions are averaged: Lakshminarayanan et al. (2017),
    https://arxiv.org/abs/1612.01474.

    Attributes:
        members: two runs or more of one task, for images of one kind.

    Raises:
        RunError: the runs do not fit together.
    """

    members: tuple[Run | ExportedRun, ...]

    def __post_init__(self) -> None:
        first = self.members[0]
        for other in self.members[1:]:
            for name, a, b in (
                ("task", first.config.task, other.config.task),
                ("classes", first.config.class_names, other.config.class_names),
                ("images", first.config.data.shape, other.config.data.shape),
                ("mass maps", _mass_map_label(first), _mass_map_label(other)),
            ):
                if a != b:
                    raise RunError(
                        f"{self.source}: cannot form an ensemble, since their {name} differ"
                        f" ({a} and {b})"
                    )
            if (first.config.grid is None) != (other.config.grid is None):
                raise RunError(
                    f"{self.source}: cannot form an ensemble, since some predict posteriors and"
                    " others masses"
                )

    @property
    def config(self) -> RunConfig:
        """Configuration of `strictest_member`, with a common grid and without temperature."""
        grids = [one.config.grid for one in self.members if one.config.grid is not None]
        grid = common_grid(grids) if grids else None
        update = {"grid": grid, "temperature": 1.0, "bias": ()}
        return self.strictest_member.config.model_copy(update=update)

    @property
    def strictest_member(self) -> Run | ExportedRun:
        """First member that accepts images of one size only; the first one if none does."""
        return min(self.members, key=lambda one: one.config.preprocessing.size is not None)

    @property
    def name(self) -> str:
        """Names of the backbones."""
        counts = Counter(member.name for member in self.members)
        return " + ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())

    @property
    def source(self) -> str:
        """Sources of the members, separated by commas."""
        return SEPARATOR.join(member.source for member in self.members)

    def conformal(self) -> Conformal | None:
        """Return None, since the scores of the members are not those of their mean."""
        return None

    def predict_fn(self, device: str = "auto") -> PredictFn:
        """Return a function that maps raw images to the mean prediction of the members.

        Raises:
            RunError, UsageError: as the members'.
        """
        functions = [member.predict_fn(device) for member in self.members]
        grids, grid = [member.config.grid for member in self.members], self.config.grid

        def predict(images: np.ndarray) -> np.ndarray:
            predictions = [function(images) for function in functions]
            if grid is not None:
                pairs = zip(grids, predictions, strict=True)
                predictions = [
                    Posterior(g, p).on_grid(grid).density for g, p in pairs if g is not None
                ]
            mean: np.ndarray = np.mean(predictions, axis=0)
            return mean

        return predict


def _mass_map_label(run: Run | ExportedRun) -> str:
    """Label of the preset by which mass was mapped in a run's images."""
    text = run.config.data.mass_map_preset
    if text is None:
        return "none"
    return f"by {yaml.safe_load(text)['name']} ({preset_hash(text)[:6]})"  # names may be shared
