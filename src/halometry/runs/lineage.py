"""The sets that weights learnt from before their own: those of the runs they were begun from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from halometry import hub
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.splits import Split
from halometry.errors import FormatError
from halometry.io import read_json, write_json
from halometry.resources import list_weights
from halometry.runs.config import DataRecord, RunConfig


@dataclass(frozen=True)
class LineageEntry:
    """A set that weights learnt from.

    Attributes:
        data: which.
        split: what its images were for.
    """

    data: DataRecord
    split: Split

    @property
    def seen_rows(self) -> np.ndarray:
        """Rows that weights were fitted to or chosen by."""
        return np.concatenate([self.split.train, self.split.validation])


def lineage_to_dict(lineage: Iterable[LineageEntry]) -> dict[str, Any]:
    """A lineage as the keys of `lineage.json`."""
    return {
        "datasets": [
            {"data": entry.data.model_dump(mode="json"), "split": entry.split.to_dict()}
            for entry in lineage
        ]
    }


def lineage_from_dict(content: Mapping[str, Any]) -> list[LineageEntry]:
    """A lineage from the keys that `lineage_to_dict` gives.

    Raises:
        ValueError, KeyError, TypeError: a key is missing or wrong.
    """
    return [
        LineageEntry(DataRecord.model_validate(entry["data"]), Split.from_dict(entry["split"]))
        for entry in content["datasets"]
    ]


def write_lineage(path: Path, lineage: Iterable[LineageEntry]) -> None:
    """Write a lineage as JSON.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(path, "lineage", lineage_to_dict(lineage))


def read_lineage(path: Path) -> list[LineageEntry]:
    """Read a lineage that `write_lineage` wrote.

    Raises:
        FormatError: the file is missing or damaged.
    """
    try:
        return lineage_from_dict(read_json(path, "lineage"))
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: cannot be read ({error!r})") from error


def exclude_seen_rows(
    lessons: Iterable[LineageEntry], data: LabeledImages, rows: np.ndarray
) -> np.ndarray:
    """The rows of a set that no lesson fitted or chose weights by."""
    for one in lessons:
        if one.data.shares_images_with(data):
            rows = np.setdiff1d(rows, one.seen_rows)
    return rows


START = "weights of the run {} on {}"


_FROM_A_RUN = re.compile(START.format("(?P<run>.+)", "(?P<images>.+)"))


def without_paths(config: RunConfig) -> RunConfig:
    """A configuration for others, without paths of this machine: what images and start were."""
    changed: dict[str, Any] = {"data": _nameless(config.data)}
    start = _FROM_A_RUN.fullmatch(config.start)
    if start is not None and not (hub.is_address(start["run"]) or start["run"] in list_weights()):
        run = Path(start["run"]).name
        changed["start"] = START.format(run, start["images"])
    return config.model_copy(update=changed)


def without_path(lesson: LineageEntry) -> LineageEntry:
    """A lesson for others, without the path of its set."""
    return replace(lesson, data=_nameless(lesson.data))


def _nameless(data: DataRecord) -> DataRecord:
    return data.model_copy(update={"path": dataset_label(data.path, data.preset, data.seed)})


def dataset_label(path: str, preset: Any, seed: Any) -> str:
    """What a set is called where its path says nothing."""
    return f"{preset}, seed {seed}" if preset else Path(path).name
