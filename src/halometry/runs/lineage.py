"""Lineage of weights: the datasets that their initial weights were trained on."""

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
    """Dataset that weights were trained on.

    Attributes:
        data: the dataset.
        split: its rows for training, validation, calibration and test.
    """

    data: DataRecord
    split: Split

    @property
    def seen_rows(self) -> np.ndarray:
        """Rows for training and validation."""
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
    lineage: Iterable[LineageEntry], data: LabeledImages, rows: np.ndarray
) -> np.ndarray:
    """Remove the rows of a dataset that weights were trained or selected with."""
    for entry in lineage:
        if entry.data.shares_images_with(data):
            rows = np.setdiff1d(rows, entry.seen_rows)
    return rows


WEIGHTS_OF_RUN = "weights of the run {} on {}"  # text of `RunConfig.initial_weights`
_WEIGHTS_OF_RUN = re.compile(WEIGHTS_OF_RUN.format("(?P<run>.+)", "(?P<images>.+)"))


def without_paths(config: RunConfig) -> RunConfig:
    """Replace the paths of a configuration by labels, for use on other machines."""
    changed: dict[str, Any] = {"data": _without_path(config.data)}
    match = _WEIGHTS_OF_RUN.fullmatch(config.initial_weights)
    if match is not None and not (hub.is_address(match["run"]) or match["run"] in list_weights()):
        label = WEIGHTS_OF_RUN.format(Path(match["run"]).name, match["images"])
        changed["initial_weights"] = label
    return config.model_copy(update=changed)


def without_path(entry: LineageEntry) -> LineageEntry:
    """Replace the path of a dataset by its label, for use on other machines."""
    return replace(entry, data=_without_path(entry.data))


def _without_path(data: DataRecord) -> DataRecord:
    return data.model_copy(update={"path": dataset_label(data.path, data.preset, data.seed)})


def dataset_label(path: str, preset: Any, seed: Any) -> str:
    """Label of a dataset without its path: preset and seed, or the name of the file."""
    return f"{preset}, seed {seed}" if preset else Path(path).name
