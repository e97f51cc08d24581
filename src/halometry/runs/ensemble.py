"""Several runs as one predictor, whose answer is the mean of theirs."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import yaml

from halometry.calibration.conformal import Conformal
from halometry.calibration.posterior import Posterior, common_grid
from halometry.errors import RunError
from halometry.runs.config import RunConfig
from halometry.runs.exported import ExportedRun
from halometry.runs.run import Answerer, Run

SEPARATOR = ","


@dataclass(frozen=True)
class Ensemble:
    """Runs that answer together; made by `open_trained` from names with commas between them.

    The mean of probabilities, or of posteriors' densities, is the mixture that says of each
    network that it may be the right one: Lakshminarayanan et al. (2017),
    https://arxiv.org/abs/1612.01474. Of masses it is their mean.

    Attributes:
        members: two runs or more, that answer the same question for the same images.
        config: what they have in common, from the one that takes the fewest sizes of images.

    Raises:
        RunError: they do not fit together.
    """

    members: tuple[Run | ExportedRun, ...]

    def __post_init__(self) -> None:
        first = self.members[0]
        for other in self.members[1:]:
            for what, mine, its in (
                ("task", first.config.task, other.config.task),
                ("classes", first.config.class_names, other.config.class_names),
                ("images", first.config.data.shape, other.config.data.shape),
                ("maps of mass", *(_maps(one) for one in (first, other))),
            ):
                if mine != its:
                    raise RunError(
                        f"{self.source}: cannot answer together, for their {what} differ"
                        f" ({mine} and {its})"
                    )
            if (first.config.grid is None) != (other.config.grid is None):
                raise RunError(
                    f"{self.source}: cannot answer together, for some give posteriors and others"
                    " only masses"
                )

    @property
    def config(self) -> RunConfig:
        grids = [one.config.grid for one in self.members if one.config.grid is not None]
        grid = common_grid(grids) if grids else None
        update = {"grid": grid, "temperature": 1.0, "bias": ()}
        return self.strictest.config.model_copy(update=update)

    @property
    def strictest(self) -> Run | ExportedRun:
        """The member that speaks for all: the first that takes images of one size only."""
        return min(self.members, key=lambda one: one.config.preprocessing.size is not None)

    @property
    def name(self) -> str:
        counts = Counter(member.name for member in self.members)
        return " + ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())

    @property
    def source(self) -> str:
        return SEPARATOR.join(member.source for member in self.members)

    def conformal(self) -> Conformal | None:
        """None: the members' scores are not those of their mean."""
        return None

    def answerer(self, device: str = "auto") -> Answerer:
        """What maps raw images to the mean of the members' answers.

        Raises:
            RunError, UsageError: as the members'.
        """
        answerers = [member.answerer(device) for member in self.members]
        grids, grid = [member.config.grid for member in self.members], self.config.grid

        def answer(images: np.ndarray) -> np.ndarray:
            answers = [one(images) for one in answerers]
            if grid is not None:
                pairs = zip(grids, answers, strict=True)
                answers = [Posterior(g, a).on(grid).density for g, a in pairs if g is not None]
            mean: np.ndarray = np.mean(answers, axis=0)
            return mean

        return answer


def _maps(run: Run | ExportedRun) -> str:
    """By which preset mass was mapped in the images that a run takes."""
    mapped = run.config.data.mass_map_preset
    if mapped is None:
        return "none"
    digest = hashlib.sha256(mapped.encode()).hexdigest()[:6]  # presets may share a name
    return f"by {yaml.safe_load(mapped)['name']} ({digest})"
