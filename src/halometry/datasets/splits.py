"""Which images train, which choose the checkpoint, and which judge: seeded, and written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halometry.datasets.dataset import LabeledImages
from halometry.errors import DataError, FormatError
from halometry.io import read_json, write_json
from halometry.simulation.rng import SPLIT_ENTROPY

SMALLEST = 10  # images, below which no split makes sense
# An image's part, as it is written down.
LETTERS = {"train": "t", "validation": "v", "calibration": "c", "test": "x"}


@dataclass(frozen=True)
class Split:
    """Rows of a set by what they are for; each an int64 array.

    Attributes:
        train, validation, calibration, test: rows in ascending order.
        seed: the split was made with.
    """

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The seed, and the part of each image as one letter of `LETTERS` (`-` for none)."""
        rows = np.concatenate([getattr(self, name) for name in LETTERS])
        letters = np.full(rows.max(initial=-1) + 1, "-")
        for name, letter in LETTERS.items():
            letters[getattr(self, name)] = letter
        return {"seed": self.seed, "parts": "".join(letters)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Split:
        """A split from the keys that `to_dict` gives.

        Raises:
            ValueError, KeyError, TypeError: a key is missing or wrong.
        """
        letters = np.array(list(content["parts"]))
        rows = {
            name: np.flatnonzero(letters == letter).astype(np.int64)
            for name, letter in LETTERS.items()
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
    data: LabeledImages, seed: int, test: float = 0.1, validation: float = 0.1
) -> Split:
    """Split a labeled set at random, each class in proportion.

    Args:
        data: the set. Where its layout says which images are for testing, they are, and only
            the validation set is carved from the others.
        seed: of the split.
        test: share of all images.
        validation: share of the rest, half of it for choosing the checkpoint, half for
            calibration.

    Raises:
        DataError: too few images.
    """
    rng = np.random.default_rng([seed, SPLIT_ENTROPY])
    rows = np.arange(len(data))
    fewest = 1 if data.task == "classification" else 2  # of which something can be said
    fixed = data.roles is not None and bool((data.roles == "test").any())
    parts: dict[str, list[np.ndarray]] = {name: [] for name in LETTERS}
    groups = (
        [rows[data.labels == k] for k in np.unique(data.labels)]
        if data.task == "classification"
        else [rows]
    )
    for group in groups:
        if fixed:
            assert data.roles is not None
            held = group[data.roles[group] == "test"]
            rest = rng.permutation(group[data.roles[group] != "test"])
        else:
            mixed = rng.permutation(group)
            held, rest = np.split(mixed, [max(fewest, round(test * len(mixed)))])
        chosen, train = np.split(rest, [max(fewest, round(validation * len(rest)))])
        parts["test"].append(held)
        half = max(fewest, -(-len(chosen) // 2))
        parts["validation"].append(chosen[:half])
        parts["calibration"].append(chosen[half:])
        parts["train"].append(train)
        if min(len(held), len(chosen), len(train)) < fewest:
            raise DataError(_too_few(data, group))
    joined = {name: np.sort(np.concatenate(of)).astype(np.int64) for name, of in parts.items()}
    if len(rows) < SMALLEST:
        raise DataError(_too_few(data, rows))
    return Split(**joined, seed=seed)


def _too_few(data: LabeledImages, rows: np.ndarray) -> str:
    of = ""
    if data.class_names and len(rows) < len(data):
        of = f" of class '{data.class_names[int(data.labels[rows[0]])]}'"
    return (
        f"{data.source}: {len(rows)} images{of} are too few to train, select and test;"
        f" at least {SMALLEST} are needed, and three of every class"
    )
