"""The sets that weights learnt from before their own: those of the runs they were begun from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halometry.datasets.dataset import LabelledImages
from halometry.datasets.splits import Split
from halometry.errors import RunError
from halometry.runs.config import DataRecord


@dataclass(frozen=True)
class Lesson:
    """A set that weights learnt from.

    Attributes:
        data: which.
        split: what its images were for.
    """

    data: DataRecord
    split: Split

    @property
    def known(self) -> np.ndarray:
        """Rows that weights were fitted to or chosen by."""
        return np.concatenate([self.split.train, self.split.selection])


def lessons_to_json(lessons: Iterable[Lesson]) -> str:
    """Lessons as JSON."""
    content = [
        {"data": one.data.model_dump(mode="json"), "split": one.split.to_json()} for one in lessons
    ]
    return json.dumps(content) + "\n"


def lessons_from_json(text: str, path: Path) -> list[Lesson]:
    """Lessons from what `lessons_to_json` made.

    Args:
        text: the JSON.
        path: where it was found.

    Raises:
        RunError: it is not that.
    """
    try:
        return [
            Lesson(DataRecord.model_validate(one["data"]), Split.from_json(one["split"]))
            for one in json.loads(text)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: does not say what its start had learnt from") from error


def unseen(lessons: Iterable[Lesson], data: LabelledImages, rows: np.ndarray) -> np.ndarray:
    """The rows of a set that no lesson fitted or chose weights by."""
    for one in lessons:
        if one.data.begins_like(data):
            rows = np.setdiff1d(rows, one.known)
    return rows
