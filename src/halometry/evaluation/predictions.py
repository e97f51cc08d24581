"""What a run says of single files, in Python and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from halometry.calibration.posterior import LEVELS, Posterior
from halometry.calibration.prediction_sets import Region, Regions
from halometry.io import write_table
from halometry.ood.detector import Novelty
from halometry.runs.open import AnyRun


@dataclass(frozen=True)
class Answer:
    """What a run says of one file.

    Attributes:
        file: its path; for an image of a store, with `#` and its number.
        values: probability of each class, or the mass fraction as `f_sub`, of a posterior the
            median; empty on an error.
        error: why there is no answer, or None.
        region: what holds the truth at a stated level, of a run that was calibrated.
        posterior: of the mass fraction, of this one image, where the run gives any.
        novelty: how the image compares with those that the run knows, if it can tell.
    """

    file: str
    values: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    region: Region | None = None
    posterior: Posterior | None = field(default=None, compare=False, repr=False)
    novelty: Novelty | None = None

    @property
    def best(self) -> str | None:
        """The most probable class, of a classification."""
        if len(self.values) < 2:
            return None
        return max(self.values, key=self.values.__getitem__)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The ends of the mass's 68 and 95 % intervals, of a posterior; nothing else."""
        if self.posterior is None:
            return {}
        ends = {name: self.posterior.interval(level)[0] for name, level in LEVELS.items()}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def write_answers(
    path: Path, run: AnyRun, answers: Sequence[Answer], regions: Regions | None
) -> None:
    """Write answers as CSV: file, class, values, intervals, regions, how familiar, error.

    Raises:
        StorageError: no room or no permission.
    """
    names = run.config.class_names
    knows = any(answer.novelty for answer in answers)
    columns = {
        "values": ["class", *names] if names else ["f_sub"],
        "intervals": _ends() if run.config.grid is not None else [],
        "region": regions.columns if regions else [],
        "novelty": ["familiarity", "unusual"] if knows else [],
    }
    rows = []
    for answer in answers:
        cells = _cells(answer)
        row = [cells[group] or [""] * len(wanted) for group, wanted in columns.items()]
        rows.append([answer.file, *chain.from_iterable(row), answer.error])
    write_table(
        path, "predictions", ["file", *chain.from_iterable(columns.values()), "error"], rows
    )


def _ends() -> list[str]:
    return [f"{end}_{level}" for level in LEVELS for end in ("low", "high")]


def _cells(answer: Answer) -> dict[str, list[str]]:
    """The cells of an answer by the columns they belong to; none where it has nothing to say."""
    values = [f"{value:.6g}" for value in answer.values.values()]
    novelty = answer.novelty
    return {
        "values": [answer.best, *values] if answer.best else values,
        "intervals": [f"{end:.6g}" for ends in answer.intervals.values() for end in ends],
        "region": answer.region.cells if answer.region else [],
        "novelty": [f"{novelty.familiarity:.3g}", novelty.unusual or ""] if novelty else [],
    }
