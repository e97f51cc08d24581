"""Datasets in folders: published layouts, the cache, errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from halometry.datasets import cache
from halometry.datasets.cache import cache_folder
from halometry.datasets.inputs import natural_sort_key
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, StorageError, UsageError
from helpers.folders import Tree, image, mass_files


def test_published_classification_folders_are_read(tree: Tree) -> None:
    classes = ("no", "sphere", "vort")
    counts = {f"train/{c}": 10 for c in classes} | {f"val/{c}": 4 for c in classes}
    data = open_dataset(tree(counts))
    assert data.class_names == classes
    assert data.task == "classification"
    assert data.images.shape == (42, 1, 20, 20)
    assert data.roles is not None
    assert (data.roles == "test").sum() == 12
    assert "30 images in train/, 12 in val/ (the test set)" in data.description
    assert data.names[0] == "train/no/1.npy"
    assert data.names[-1] == "val/vort/4.npy"
    np.testing.assert_array_equal(np.bincount(data.labels), [14, 14, 14])


def test_class_folders_are_in_natural_order(tree: Tree) -> None:
    data = open_dataset(tree({"b": 5, "a10": 5, "a9": 5}))
    assert data.class_names == ("a9", "a10", "b")


def test_published_mass_dataset_is_read(tmp_path: Path) -> None:
    labels = [0.02, 0.04, np.float64(0.05)]
    data = open_dataset(mass_files(tmp_path / "lens_data", labels))
    assert data.task == "regression"
    np.testing.assert_allclose(data.labels, [0.02, 0.04, 0.05])
    assert open_dataset(tmp_path / "lens_data").labels.dtype == np.float64


def test_unchanged_files_are_read_from_the_cache(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree({"a": 6, "b": 6})
    first = open_dataset(root)

    def never(path: Path) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(cache, "read_image", never)
    again = open_dataset(root)
    np.testing.assert_array_equal(first.images, again.images)
    assert first.fingerprint == again.fingerprint
    monkeypatch.undo()
    time.sleep(0.01)
    np.save(root / "a" / "1.npy", image())
    changed = open_dataset(root)
    assert changed.fingerprint != first.fingerprint
    assert not np.array_equal(changed.images[0], first.images[0])


def test_damaged_cache_is_rebuilt(tree: Tree) -> None:
    root = tree({"a": 6, "b": 6})
    first = open_dataset(root)
    (packed,) = cache.cache_folder().glob("packed-*.h5")
    packed.write_bytes(packed.read_bytes()[:100])
    np.testing.assert_array_equal(open_dataset(root).images, first.images)
    assert cache.cache_info().bytes > 1000


def test_missing_path_hints_at_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "lenses.h5").touch()
    with pytest.raises(DataError, match=r"lense\.h5: no such file or folder; did you mean 'lenses"):
        open_dataset(tmp_path / "lense.h5")


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found; a folder of class folders"):
        open_dataset(tmp_path)


def test_single_class_is_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match="one class only \\(no\\); at least two class folders"):
        open_dataset(tree({"no": 5}))


def test_broken_link_is_reported(tree: Tree) -> None:
    folder = tree({"a": 3, "b": 3})
    (folder / "b" / "9.npy").symlink_to("gone.npy")
    with pytest.raises(DataError, match=r"b/9\.npy: cannot be read .*; correct or remove it"):
        open_dataset(folder)


def test_natural_order_with_unicode_digits() -> None:
    assert sorted(["10².npy", "2².npy"], key=natural_sort_key) == ["2².npy", "10².npy"]


@pytest.mark.parametrize("held", ["val", "test"])
def test_train_and_test_folders_are_not_classes(tmp_path: Path, held: str) -> None:
    for part in ("train", held):
        (tmp_path / part).mkdir()
        for k in range(3):
            np.save(tmp_path / part / f"{k}.npy", np.random.default_rng(k).random((8, 8)))
    with pytest.raises(DataError, match="has images directly in"):
        open_dataset(tmp_path)


def test_different_classes_in_train_and_val_are_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"val/ has classes a; train/ has a, b"):
        open_dataset(tree({"train/a": 3, "train/b": 3, "val/a": 3}))


def test_different_shapes_are_refused(tree: Tree) -> None:
    root = tree({"a": 3, "b": 3})
    np.save(root / "b" / "2.npy", image(24))
    message = r"b/2\.npy: has shape \(1, 24, 24\), but .*a/1\.npy has \(1, 20, 20\)"
    with pytest.raises(DataError, match=message):
        open_dataset(root)
    assert not list(cache.cache_folder().glob("*"))


def test_unreadable_files_are_reported_and_counted(tree: Tree) -> None:
    root = tree({"a": 5, "b": 5})
    for name in ("a/2.npy", "b/3.npy", "b/4.npy"):
        (root / name).write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"a/2\.npy: is not a NumPy file.*\(and 2 more bad files\)"):
        open_dataset(root)


def test_folder_without_labels_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", image())
    with pytest.raises(DataError, match="its images have no labels; put them into class folders"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("label", [1.7, -0.1, float("nan")])
def test_label_outside_its_range_is_refused(tmp_path: Path, label: float) -> None:
    root = mass_files(tmp_path / "lens_data", [0.02, label, 0.03])
    with pytest.raises(DataError, match=r"1 labels are not mass fractions.*image_1\.npy"):
        open_dataset(root)


def test_dataset_of_the_other_task_is_refused(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds classes; use --task classification"):
        open_dataset(tree({"a": 3, "b": 3}), task="regression")


def test_gray_image_in_color_dataset_has_equal_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            np.save(tmp_path / name / f"{i}.npy", rng.random((3, 16, 16)))
    gray = np.repeat(rng.random((1, 16, 16)), 3, axis=0)
    np.save(tmp_path / "a" / "0.npy", gray)
    np.save(tmp_path / "b" / "4.npy", gray)
    data = open_dataset(tmp_path)
    assert data.images.shape == (12, 3, 16, 16)
    for row in (0, 10):
        np.testing.assert_array_equal(data.images[row], gray.astype(np.float32))


def test_color_is_detected_in_the_second_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, channels in (("a", 1), ("b", 3)):
        (tmp_path / name).mkdir()
        for i in range(25):
            np.save(tmp_path / name / f"{i}.npy", rng.random((channels, 8, 8)))
    assert open_dataset(tmp_path).images.shape == (50, 3, 8, 8)


def test_two_processes_may_pack_the_same_folder(tree: Tree) -> None:
    root = tree({"a": 300, "b": 300})
    script = "import sys; from halometry import open_dataset; d = open_dataset(sys.argv[1]);"
    script += "print(float(d.images.sum()))"
    command = [sys.executable, "-c", script, str(root)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sums[0] == sums[1] == f"{float(open_dataset(root).images.sum())}\n"
    assert [p.suffix for p in cache_folder().iterdir()] == [".h5"]


def test_unwritable_cache_is_reported(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HALOMETRY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="or set HALOMETRY_CACHE to a folder with room"):
        open_dataset(tree({"a": 6, "b": 6}))


def test_stale_partial_files_in_the_cache_are_removed(tree: Tree) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    old, new = (cache_folder() / f"packed-{name}.h5.partial" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    open_dataset(tree({"a": 6, "b": 6}))
    assert (old.exists(), new.exists()) == (False, True)


def test_single_image_is_not_a_dataset(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", image())
    with pytest.raises(DataError, match="is a single file; give a store or a folder"):
        open_dataset(tmp_path / "1.npy")


def test_shared_datasets_are_read(shared_data: Path) -> None:
    data = open_dataset(shared_data / "common_test_1")
    assert data.class_names == ("no", "sphere", "vort")
    assert len(data) == 18
    color = open_dataset(shared_data / "lens_finding")
    assert color.images.shape == (40, 3, 64, 64)
    assert color.images.dtype == np.float32


def test_fingerprint_is_that_of_a_copy_and_changes_with_content(tree: Tree, tmp_path: Path) -> None:
    root = tree({"a": 6, "b": 6})
    first = open_dataset(root)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert open_dataset(tmp_path / "copy").fingerprint == first.fingerprint
    (tmp_path / "copy" / "a" / "1.npy").rename(tmp_path / "copy" / "a" / "9.npy")
    assert open_dataset(tmp_path / "copy").fingerprint != first.fingerprint
    swapped = replace(first, labels=1 - first.labels)
    assert swapped.fingerprint != first.fingerprint


def test_class_folder_overrides_label_in_file(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(6):
            pair = np.empty(2, dtype=object)
            pair[0], pair[1] = np.random.default_rng(i + 10 * k).random((20, 20)), 0.5
            np.save(tmp_path / name / f"{i}.npy", pair, allow_pickle=True)
    data = open_dataset(tmp_path)
    np.testing.assert_array_equal(data.labels, np.repeat([0, 1], 6))
