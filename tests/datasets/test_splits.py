"""Splits: complete, stratified, with published test sets, refused for too few images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import PART_LETTERS, Split, split_dataset
from halometry.errors import DataError
from helpers.folders import Tree


def test_published_test_folder_is_the_test_set(tree: Tree) -> None:
    counts = {f"{part}/{c}": n for part, n in (("train", 20), ("val", 5)) for c in ("no", "vort")}
    data = open_dataset(tree(counts))
    split = split_dataset(data, seed=3)
    assert [data.names[i].split("/")[0] for i in split.test] == ["val"] * 10
    assert {
        data.names[i].split("/")[0] for i in [*split.train, *split.validation, *split.calibration]
    } == {"train"}
    assert (len(split.train), len(split.validation), len(split.calibration)) == (36, 2, 2)


def test_store_with_test_from_defines_the_test_set(tmp_path: Path) -> None:
    path = simulate("demo_classification", 60, seed=5, out=tmp_path / "s.h5", n_test=15)
    split = split_dataset(open_dataset(path), seed=0)
    np.testing.assert_array_equal(split.test, np.arange(45, 60))


def test_split_is_complete_stratified_and_round_trips(tree: Tree) -> None:
    data = open_dataset(tree({"a": 50, "b": 30}))
    split = split_dataset(data, seed=1)
    together = np.concatenate([getattr(split, name) for name in PART_LETTERS])
    np.testing.assert_array_equal(np.sort(together), np.arange(80))
    np.testing.assert_array_equal(np.bincount(data.labels[split.test]), [5, 3])
    rows = {name: getattr(split, name) for name in PART_LETTERS}
    again = Split.from_dict(split.to_dict())
    assert again.seed == 1
    for name, part in rows.items():
        np.testing.assert_array_equal(getattr(again, name), part)
    other = split_dataset(data, seed=2)
    assert not np.array_equal(other.test, split.test)


def test_too_few_images_are_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match="6 images are too few to train, validate and test"):
        split_dataset(open_dataset(tree({"a": 3, "b": 3})), seed=0)


def test_small_class_has_images_in_every_part(tree: Tree) -> None:
    data = open_dataset(tree({"a": 50, "b": 4}))
    split = split_dataset(data, seed=0)
    for part in (split.train, split.validation, split.test):
        assert set(data.labels[part]) == {0, 1}
    with pytest.raises(DataError, match="2 images of class 'c' are too few to train, validate"):
        split_dataset(open_dataset(tree({"c": 2})), seed=0)


def test_few_masses_have_two_validation_and_two_test_images(tmp_path: Path) -> None:
    data = open_dataset(simulate("demo_mass", 10, out=tmp_path / "a.h5"))
    split = split_dataset(data, seed=0)
    assert [len(getattr(split, name)) for name in PART_LETTERS] == [6, 2, 0, 2]


def test_default_fractions(tmp_path: Path) -> None:
    data = open_dataset(simulate("demo_mass", 1000, out=tmp_path / "a.h5"))
    split = split_dataset(data, seed=0)
    assert [len(getattr(split, name)) for name in PART_LETTERS] == [810, 45, 45, 100]
