"""Layouts of class folders: parts, capitals, and folders that contradict each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from halometry.datasets.open import open_dataset
from halometry.datasets.show import show
from halometry.datasets.splits import split_dataset
from halometry.errors import DataError, HalometryWarning
from helpers.folders import Tree, image, mass_files

LENS_FINDING = {
    f"{part}_{name}": n
    for part in ("train", "test")
    for name, n in (("lenses", 2), ("nonlenses", 7))
}


def roles_by_class(path: Path) -> tuple[tuple[str, ...], Counter[tuple[str, str]]]:
    """Class names of a dataset, and the number of images by role and class."""
    data = open_dataset(path)
    assert data.class_names is not None
    assert data.roles is not None
    names = [data.class_names[label] for label in data.labels]
    return data.class_names, Counter(zip(data.roles.tolist(), names, strict=True))


def test_lens_finding_folders_have_two_classes(tree: Tree) -> None:
    root = tree(LENS_FINDING)
    classes, counts = roles_by_class(root)
    assert classes == ("lenses", "nonlenses")
    for role in ("train", "test"):
        assert counts[role, "lenses"] == 2
        assert counts[role, "nonlenses"] == 7
    data = open_dataset(root)
    assert data.names[0] == "train_lenses/1.npy"
    assert data.names[-1] == "test_nonlenses/7.npy"
    assert "9 images in train_*/, 9 in test_*/ (the test set)" in data.description


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation", "Test", "VAL"])
@pytest.mark.parametrize("pattern", ["{}_{}", "{}-{}", "{1}_{0}", "{}/{}"])
def test_part_in_the_name_of_a_folder(tree: Tree, held_out: str, pattern: str) -> None:
    root = tree({pattern.format(p, c): 3 for p in ("train", held_out) for c in ("b", "a")})
    classes, counts = roles_by_class(root)
    assert classes == ("a", "b")
    assert counts == Counter({(r, c): 3 for r in ("train", "test") for c in ("a", "b")})


@pytest.mark.parametrize("pattern", ["{}/{}", "{}_{}"])
@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_validation_folder_beside_test_folder_is_used_for_validation(
    tree: Tree, caplog: pytest.LogCaptureFixture, pattern: str, validation: str
) -> None:
    parts = ("train", validation, "test")
    root = tree({pattern.format(part, name): 6 for part in parts for name in ("a", "b")})
    caplog.set_level("INFO", logger="halometry")
    data = open_dataset(root)
    assert data.roles is not None
    assert [*data.roles] == ["train"] * 12 + ["validation"] * 12 + ["test"] * 12
    title = validation + ("/" if "/" in pattern else "_*/")
    assert f"{title} for validation and calibration" in caplog.text
    assert f"12 in {title} (for validation), 12 in " in data.description
    split = split_dataset(data, seed=2)
    np.testing.assert_array_equal(split.train, np.arange(12))
    assert (len(split.validation), len(split.calibration)) == (6, 6)
    held_out = np.sort(np.concatenate([split.validation, split.calibration]))
    np.testing.assert_array_equal(held_out, np.arange(12, 24))
    np.testing.assert_array_equal(split.test, np.arange(24, 36))


def test_validation_folder_without_test_folder_is_the_test_set(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    open_dataset(tree({f"{part}/{c}": 3 for part in ("train", "valid") for c in ("a", "b")}))
    assert "valid/ is the test set, because there is no test/" in caplog.text


def test_capitals_do_not_count(tree: Tree) -> None:
    counts = {f"Train/{c}": 3 for c in ("No", "Sphere", "VORT")}
    root = tree(counts | {f"VAL/{c}": 2 for c in ("no", "sphere", "Vort")})
    classes, counted = roles_by_class(root)
    assert classes == ("no", "sphere", "vort")
    assert {number for key, number in counted.items() if key[0] == "train"} == {3}
    assert open_dataset(root).names[-1] == "VAL/Vort/2.npy"


def test_unpublished_classes_are_named_as_in_train(tree: Tree) -> None:
    root = tree({"train/axion": 3, "train/CDM": 3, "test/Axion": 3, "test/cdm": 3})
    assert open_dataset(root).class_names == ("axion", "CDM")


@pytest.mark.parametrize(
    "folders", [("train/a", "train/b"), ("Train_a", "Train_b"), ("test/a", "test/b")]
)
def test_single_part_is_split_at_random(tree: Tree, folders: tuple[str, str]) -> None:
    data = open_dataset(tree(dict.fromkeys(folders, 6)))
    assert data.class_names == ("a", "b")
    assert data.roles is None


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["a", "A", "b"], r"has [aA]/ and [aA]/ for one class \(capitals do not count\)"),
        (["train/a", "train/A", "val/a"], r"has train/[aA]/ and train/[aA]/ for one class"),
        (["train_a", "Train_A", "train_b"], r"has \w+_[aA]/ and \w+_[aA]/ for one class"),
        (["train/a", "train/b", "Train/a"], r"has (T|t)rain/ and (T|t)rain/ for one part"),
        (["train/a", "val/a", "valid/a"], "has val/ and valid/ for one part; keep one"),
        (["train/a", "train/b", "test/a"], r"test/ has classes a; train/ has a, b"),
        (["train_a", "train_b", "test_a"], r"test_\*/ has classes a; train_\*/ has a, b"),
        (["train/a", "train/b", "val"], r"val: has images, but no class folders"),
        (["val/a", "val/b", "test/a", "test/b"], "has test/ and val/, but no train/"),
        (["train_a", "test_a", "b"], "has test_a/ beside b/; name all folders as PART_CLASS"),
        (["no", "sphere", "test"], "has images directly in test/; classes need a folder each"),
        (["train", "b"], "has images directly in train/"),
        (["train/a", "test/a"], r"train: has images of one class only \(a\)"),
        (["train_a", "test_a"], r"has images of one class only \(a\)"),
    ],
)
def test_contradicting_folders_are_refused(tree: Tree, folders: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(tree(dict.fromkeys(folders, 3)))


def test_empty_part_is_refused(tree: Tree) -> None:
    root = tree({"train/a": 3, "train/b": 3})
    (root / "val").mkdir()
    with pytest.raises(DataError, match="val: is empty; give it the classes, or move it"):
        open_dataset(root)


def test_class_that_is_empty_in_one_part_is_refused(tree: Tree) -> None:
    root = tree({"train/a": 3, "train/b": 3, "val/a": 3})
    (root / "val/b").mkdir()
    with (
        pytest.warns(HalometryWarning, match="no class, because no image is directly inside: b/"),
        pytest.raises(DataError, match="val/ has classes a; train/ has a, b"),
    ):
        open_dataset(root)


def test_folders_and_files_that_are_not_used_are_named(tree: Tree) -> None:
    root = tree({"a": 3, "b": 3, "b/more": 2, "c/deep": 3})
    np.save(root / "1.npy", image())
    with pytest.warns(HalometryWarning) as record:
        data = open_dataset(root)
    assert data.class_names == ("a", "b")
    assert len(data) == 6
    messages = "\n".join(str(one.message) for one in record)
    assert "no class, because no image is directly inside: c/" in messages
    assert "has images beside its class folders, which are not used" in messages
    assert "b: images in folders inside are not used: more/" in messages


def test_hidden_files_and_folders_are_ignored(tree: Tree) -> None:
    hidden = {".ipynb_checkpoints": 1, "__MACOSX": 1, "train/.cache": 1, "train/a/.thumbs": 1}
    root = tree({"train/a": 3, "train/b": 3, "val/a": 3, "val/b": 3} | hidden)
    (root / "train" / "a" / "._1.npy").write_bytes(b"resource fork")
    (root / "train" / ".DS_Store").touch()
    assert len(open_dataset(root)) == 12


def test_folders_beside_parts_and_lens_data_are_logged(
    tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    root = tree({"train/a": 3, "train/b": 3, "runs": 1})
    mass_files(tmp_path / "lens_data", [0.02, 0.04, 0.05])
    assert open_dataset(root).task == "classification"
    assert "not used: lens_data/, runs/" in caplog.text


def test_link_without_target_in_place_of_a_class_is_refused(tree: Tree) -> None:
    root = tree({"a": 3, "b": 3})
    (root / "c").symlink_to("gone")
    with pytest.raises(DataError, match=r"c: cannot be read \(link without target\)"):
        open_dataset(root)


def test_lens_finding_folders_are_shown_with_their_labels(
    tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "lenses.png"
    assert show(tree(LENS_FINDING), out, count=4) == out
    assert out.stat().st_size > 10_000
    assert "without labels" not in caplog.text


def test_shown_images_without_usable_labels_are_explained(
    tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    show(tree({"train/a": 3, "train/b": 3, "val/a": 3}), tmp_path / "lenses.png", count=4)
    assert "shown without labels" in caplog.text
    assert "val/ has classes a; train/ has a, b" in caplog.text
