"""Splits of a dataset into training, validation, calibration and test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halometry.datasets.dataset import LabeledImages
from halometry.errors import DataError, FormatError
from halometry.io import read_json, write_json
from halometry.seeds import SPLIT_ENTROPY

MIN_IMAGES = 10  # of a dataset that is split
PART_LETTERS = {"train": "t", "validation": "v", "calibration": "c", "test": "x"}


@dataclass(frozen=True)
class Split:
    """Rows of the training, validation, calibration and test images of a dataset.

    Attributes:
        train, validation, calibration, test: rows in ascending order, int64.
        seed: seed of the split.
    """

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the seed, and a letter of `PART_LETTERS` for each image (`-` for none)."""
        rows = np.concatenate([getattr(self, name) for name in PART_LETTERS])
        letters = np.full(rows.max(initial=-1) + 1, "-")
        for name, letter in PART_LETTERS.items():
            letters[getattr(self, name)] = letter
        return {"seed": self.seed, "parts": "".join(letters)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Split:
        """Make a split from the keys that `to_dict` returns.

        Raises:
            ValueError, KeyError, TypeError: a key is missing or invalid.
        """
        letters = np.array(list(content["parts"]))
        rows = {
            name: np.flatnonzero(letters == letter).astype(np.int64)
            for name, letter in PART_LETTERS.items()
        }
        return cls(**rows, seed=int(content["seed"]))


def write_split(path: Path, split: Split) -> None:
    """Write a split as JSON.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(path, "split", split.to_dict())


def read_split(path: Path) -> Split:
    """Read a split that `write_split` wrote.

    Raises:
        FormatError: the file is missing or damaged.
    """
    try:
        return Split.from_dict(read_json(path, "split"))
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: cannot be read ({error!r})") from error


def split_dataset(
    data: LabeledImages,
    seed: int,
    *,
    test_fraction: float = 0.1,
    validation_fraction: float = 0.1,
) -> Split:
    """Split a labeled dataset at random, each class in proportion.

    Args:
        data: the dataset. Its roles may define the test set, and the images for validation and
            calibration; the others are split.
        seed: seed of the split.
        test_fraction: fraction of all images for the test set.
        validation_fraction: fraction of the others for validation and calibration, half each.

    Raises:
        DataError: too few images.
    """
    rng = np.random.default_rng([seed, SPLIT_ENTROPY])
    rows = np.arange(len(data))
    min_count = 1 if data.task == "classification" else 2  # images of each part
    roles = np.full(len(data), "train") if data.roles is None else data.roles
    has_test_set, has_validation_set = (
        bool((roles == name).any()) for name in ("test", "validation")
    )
    parts: dict[str, list[np.ndarray]] = {name: [] for name in PART_LETTERS}
    groups = (
        [rows[data.labels == k] for k in np.unique(data.labels)]
        if data.task == "classification"
        else [rows]
    )
    for group in groups:
        test, held_out, train = (
            group[roles[group] == name] for name in ("test", "validation", "train")
        )
        train = rng.permutation(train)
        if not has_test_set:
            n_test = max(min_count, round(test_fraction * len(train)))
            test, train = np.split(train, [n_test])
        if has_validation_set:
            held_out = rng.permutation(held_out)
        else:
            n_held_out = max(min_count, round(validation_fraction * len(train)))
            held_out, train = np.split(train, [n_held_out])
        n_validation = max(min_count, -(-len(held_out) // 2))
        parts["test"].append(test)
        parts["validation"].append(held_out[:n_validation])
        parts["calibration"].append(held_out[n_validation:])
        parts["train"].append(train)
        if min(len(test), len(held_out), len(train)) < min_count:
            raise DataError(_too_few(data, group))
    if len(rows) < MIN_IMAGES:
        raise DataError(_too_few(data, rows))
    joined = {
        name: np.sort(np.concatenate(groups)).astype(np.int64) for name, groups in parts.items()
    }
    return Split(**joined, seed=seed)


def _too_few(data: LabeledImages, rows: np.ndarray) -> str:
    of_class = ""
    if data.class_names and len(rows) < len(data):
        of_class = f" of class '{data.class_names[int(data.labels[rows[0]])]}'"
    return (
        f"{data.source}: {len(rows)} images{of_class} are too few to train, validate and test;"
        f" at least {MIN_IMAGES} are needed, and three of every class"
    )
