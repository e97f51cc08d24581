"""Which images train, which choose the checkpoint, and which judge: seeded, and written down."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from halometry.datasets.dataset import LabeledImages
from halometry.errors import DataError

SMALLEST = 10  # images, below which no split makes sense
# An image's part, as it is written down.
LETTERS = {"train": "t", "validation": "v", "calibration": "c", "test": "x"}


@dataclass(frozen=True)
class Split:
    """Rows of a set by what they are for; each an int64 array.

    Attributes:
        train, validation, calibration, test: rows; `test` keeps the set's order. Splits of earlier
            versions have nothing for calibration.
        seed: the split was made with.
    """

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    seed: int

    def to_json(self) -> str:
        """The split as JSON, with a letter for each image: see `LETTERS`."""
        rows = np.concatenate([getattr(self, name) for name in LETTERS])
        letters = np.full(rows.max(initial=-1) + 1, "-")
        for name, letter in LETTERS.items():
            letters[getattr(self, name)] = letter
        return json.dumps({"seed": self.seed, "images": "".join(letters)}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Split:
        """A split from what `to_json` made, or from lists of rows, as earlier versions wrote it.

        Raises:
            ValueError, KeyError: it is not that.
        """
        content = json.loads(text)
        if "images" in content:
            letters = np.array(list(content["images"]))
            content |= {name: np.flatnonzero(letters == of) for name, of in LETTERS.items()}
        content.setdefault("calibration", [])
        rows = {name: np.array(content[name], dtype=np.int64) for name in LETTERS}
        return cls(**rows, seed=int(content["seed"]))


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
    rng = np.random.default_rng([seed, 0x5E1EC7])
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
