"""Labelled sets: the community's folders as they are, stores, and what is wrong with others."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from halometry.data import cache
from halometry.data.cache import cache_folder
from halometry.data.dataset import open_dataset
from halometry.data.generate import simulate
from halometry.data.labelled import LazyImages
from halometry.data.split import Split, split_dataset
from halometry.data.store import StoreWriter
from halometry.errors import DataError, StorageError, UsageError
from halometry.simulation import UNITS

Tree = Callable[..., Path]
RNG = np.random.default_rng(0)


def image(side: int = 20) -> np.ndarray:
    return RNG.random((1, side, side))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def make(counts: dict[str, int], side: int = 20) -> Path:
        for folder, count in counts.items():
            (tmp_path / folder).mkdir(parents=True)
            for i in range(count):
                np.save(tmp_path / folder / f"{i + 1}.npy", image(side))
        return tmp_path

    return make


def mass_files(folder: Path, labels: list[Any]) -> Path:
    folder.mkdir(parents=True)
    for i, label in enumerate(labels):
        content = np.empty(2, dtype=object)
        content[0], content[1] = RNG.poisson(50, (20, 20)), label
        np.save(folder / f"image_{i}.npy", content, allow_pickle=True)
    return folder.parent


def test_the_published_classification_folders(tree: Tree) -> None:
    classes = ("no", "sphere", "vort")
    counts = {f"train/{c}": 10 for c in classes} | {f"val/{c}": 4 for c in classes}
    data = open_dataset(tree(counts))
    assert data.class_names == classes
    assert data.task == "classification"
    assert data.images.shape == (42, 1, 20, 20)
    assert data.roles is not None
    assert (data.roles == "test").sum() == 12
    assert "30 images in train/, 12 in val/ (the test set by custom)" in data.description
    assert data.names[0] == "train/no/1.npy"
    assert data.names[-1] == "val/vort/4.npy"
    np.testing.assert_array_equal(np.bincount(data.labels), [14, 14, 14])


def test_in_published_folders_only_the_selection_set_is_carved(tree: Tree) -> None:
    counts = {f"{part}/{c}": n for part, n in (("train", 20), ("val", 5)) for c in ("no", "vort")}
    data = open_dataset(tree(counts))
    split = split_dataset(data, seed=3)
    assert [data.names[i].split("/")[0] for i in split.test] == ["val"] * 10
    assert {data.names[i].split("/")[0] for i in [*split.train, *split.selection]} == {"train"}
    assert (len(split.train), len(split.selection)) == (36, 4)


def test_class_folders_of_any_name_are_in_natural_order(tree: Tree) -> None:
    data = open_dataset(tree({"b": 5, "a10": 5, "a9": 5}))
    assert data.class_names == ("a9", "a10", "b")


def test_the_published_mass_set(tmp_path: Path) -> None:
    labels = [0.02, 0.04, np.float64(0.05)]
    data = open_dataset(mass_files(tmp_path / "lens_data", labels))
    assert data.task == "regression"
    np.testing.assert_allclose(data.labels, [0.02, 0.04, 0.05])
    assert open_dataset(tmp_path / "lens_data").labels.dtype == np.float64


def test_files_are_read_once_while_unchanged(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_damaged_cache_is_made_again(tree: Tree) -> None:
    root = tree({"a": 6, "b": 6})
    first = open_dataset(root)
    (packed,) = cache.cache_folder().glob("packed-*.h5")
    packed.write_bytes(packed.read_bytes()[:100])
    np.testing.assert_array_equal(open_dataset(root).images, first.images)
    assert cache.cache_info().bytes > 1000


def test_a_missing_path_gets_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "lenses.h5").touch()
    with pytest.raises(DataError, match=r"lense\.h5: no such file or folder; did you mean 'lenses"):
        open_dataset(tmp_path / "lense.h5")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found; a folder of class folders"):
        open_dataset(tmp_path)


def test_one_class_only_is_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match="one class only \\(no\\); at least two class folders"):
        open_dataset(tree({"no": 5}))


def test_classes_that_differ_between_parts_are_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"val: has classes a, .*train has a, b"):
        open_dataset(tree({"train/a": 3, "train/b": 3, "val/a": 3}))


def test_mixed_shapes_are_refused_by_name(tree: Tree) -> None:
    root = tree({"a": 3, "b": 3})
    np.save(root / "b" / "2.npy", image(24))
    message = r"b/2\.npy: has shape \(1, 24, 24\), but .*a/1\.npy has \(1, 20, 20\)"
    with pytest.raises(DataError, match=message):
        open_dataset(root)
    assert not list(cache.cache_folder().glob("*"))


def test_bad_files_are_named_and_counted(tree: Tree) -> None:
    root = tree({"a": 5, "b": 5})
    for name in ("a/2.npy", "b/3.npy", "b/4.npy"):
        (root / name).write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"a/2\.npy: is not a NumPy file.*\(and 2 more bad files\)"):
        open_dataset(root)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", image())
    with pytest.raises(DataError, match="its images have no labels; put them into class folders"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("label", [1.7, -0.1, float("nan")])
def test_a_label_outside_its_range_is_refused(tmp_path: Path, label: float) -> None:
    root = mass_files(tmp_path / "lens_data", [0.02, label, 0.03])
    with pytest.raises(DataError, match=r"1 labels are not mass fractions.*image_1\.npy"):
        open_dataset(root)


def test_the_other_task_is_refused(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds classes; use --task classification"):
        open_dataset(tree({"a": 3, "b": 3}), task="regression")


def test_a_store_keeps_everything(tmp_path: Path) -> None:
    path = simulate("demo_mass", 12, seed=5, out=tmp_path / "new" / "m.h5")
    data = open_dataset(path, task="regression")
    assert data.images.dtype == np.int32
    assert data.attributes["preset"] == "demo_mass"
    assert data.attributes["seed"] == 5
    with h5py.File(path) as file:
        assert set(file["parameters"]) == set(UNITS)
        assert file["parameters/einstein_radius"].attrs["unit"] == "arcsec"
        np.testing.assert_array_equal(file["parameters/f_sub"], data.labels)
        assert "power_law" in file.attrs["preset_yaml"]


def test_a_larger_store_begins_with_the_smaller_one(tmp_path: Path) -> None:
    small = open_dataset(simulate("demo_classification", 12, seed=5, out=tmp_path / "s.h5"))
    large = open_dataset(simulate("demo_classification", 50, seed=5, out=tmp_path / "l.h5"))
    np.testing.assert_array_equal(small.images, large.images[:12])


def test_a_store_may_set_a_test_set_aside(tmp_path: Path) -> None:
    path = simulate("demo_classification", 60, seed=5, out=tmp_path / "s.h5", test=15)
    split = split_dataset(open_dataset(path), seed=0)
    np.testing.assert_array_equal(split.test, np.arange(45, 60))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "--count 0: must be at least 1"),
        ({"count": 5, "test": 5}, "--test 5: must be below --count 5"),
        ({"count": 5, "seed": -1}, "--seed -1: must not be negative"),
    ],
)
def test_simulate_refuses_what_cannot_be(
    tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulate("demo_mass", out=tmp_path / "a.h5", **options)


def test_simulate_does_not_overwrite_unasked(tmp_path: Path) -> None:
    out = store(tmp_path / "a.h5")
    with pytest.raises(UsageError, match="exists already; choose another --out or add --overwrite"):
        simulate("demo_mass", 10, out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    simulate("demo_mass", 12, out=out, overwrite=True)
    assert len(open_dataset(out)) == 12
    with pytest.raises(UsageError, match="is a folder; give the name of a file"):
        simulate("demo_mass", 10, out=tmp_path)


def writer(path: Path, count: int = 4) -> StoreWriter:
    return StoreWriter(path, count=count, shape=(1, 8, 8), task="regression")


def test_an_interrupted_store_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt), writer(path) as store:
        store.write(0, np.ones((1, 1, 8, 8)), np.zeros(1))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.h5"
    with (
        pytest.raises(StorageError, match=r"a\.h5: cannot be written: the disk is full; free"),
        writer(path) as store,
    ):
        monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
        store.write(0, np.ones((1, 1, 8, 8)), np.zeros(1))
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_disk_is_said_and_leaves_no_piece(tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own, does what a full disk does."""
    import subprocess
    import sys

    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import halometry\n"
        "from halometry.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "try:\n"
        "    halometry.simulate('demo_mass', 200, out=sys.argv[1])\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    out = tmp_path / "a.h5"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=False
    )
    assert "00000.h5: cannot be written: the disk is full; free space" in done.stdout, done.stderr
    assert done.stderr == ""
    assert done.returncode == 0
    assert not [*tmp_path.rglob("*.h5"), *tmp_path.rglob("*.partial")]


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match="is an HDF5 file of another kind, not a halometry store"):
        open_dataset(tmp_path / "foreign.h5")
    path = simulate("demo_mass", 20, out=tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="is damaged or not an HDF5 file"):
        open_dataset(path)


def store(path: Path, **changed: Any) -> Path:
    """A store of a user's own making."""
    images = np.random.default_rng(0).random((12, 1, 16, 16)).astype(np.float32)
    content = {"images": images, "labels": np.arange(12) % 2} | changed
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["task"] = "halometry-store", "classification"
        file.attrs["class_names"] = ["a", "b"]
        for name, values in content.items():
            file[name] = values
    return path


def test_a_store_of_ones_own_is_read(tmp_path: Path) -> None:
    data = open_dataset(store(tmp_path / "a.h5"))
    assert (len(data), data.class_names) == (12, ("a", "b"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.zeros(3)}, r"labels of shape \(3,\) do not make a store"),
        ({"images": np.zeros((12, 16, 16))}, r"images of shape \(12, 16, 16\)"),
        ({"labels": np.full(12, 1) + np.arange(12) % 2}, "class index 2 is outside 0 to 1"),
        ({"labels": np.arange(12) % 2 - 1}, "class index -1 is outside 0 to 1"),
        ({"images": np.zeros((0, 1, 16, 16)), "labels": np.zeros(0)}, "holds no images"),
        (
            {"images": np.where(np.arange(12) == 5, np.nan, 1.0).reshape(12, 1, 1, 1)},
            r"a\.h5#5: has pixels that are not finite",
        ),
    ],
)
def test_a_store_that_makes_no_sense_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(store(tmp_path / "a.h5", **changed))


def test_a_grey_picture_among_colours_has_them_all_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            np.save(tmp_path / name / f"{i}.npy", rng.random((3, 16, 16)))
    grey = np.repeat(rng.random((1, 16, 16)), 3, axis=0)
    np.save(tmp_path / "a" / "0.npy", grey)
    np.save(tmp_path / "b" / "4.npy", grey)
    data = open_dataset(tmp_path)
    assert data.images.shape == (12, 3, 16, 16)
    for row in (0, 10):
        np.testing.assert_array_equal(data.images[row], grey.astype(np.float32))


def test_two_that_pack_the_same_folder_do_not_meet(tree: Tree) -> None:
    root = tree({"a": 300, "b": 300})
    script = "import sys; from halometry import open_dataset; d = open_dataset(sys.argv[1]);"
    script += "print(float(d.images.sum()))"
    command = [sys.executable, "-c", script, str(root)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sums[0] == sums[1] == f"{float(open_dataset(root).images.sum())}\n"
    assert [p.suffix for p in cache_folder().iterdir()] == [".h5"]


def test_a_cache_that_cannot_be_written_is_said(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HALOMETRY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="or set HALOMETRY_CACHE to a folder with room"):
        open_dataset(tree({"a": 6, "b": 6}))


def test_what_a_killed_process_left_in_the_cache_goes_after_a_day(tree: Tree) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    old, new = (cache_folder() / f"packed-{name}.h5.partial" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    open_dataset(tree({"a": 6, "b": 6}))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_single_picture_is_no_set(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", image())
    with pytest.raises(DataError, match="is a single file; give a store or a folder"):
        open_dataset(tmp_path / "1.npy")


def test_a_set_larger_than_memory_stays_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = simulate("demo_mass", 20, out=tmp_path / "a.h5")
    in_memory = open_dataset(path)

    class Little:
        available = 1000

    monkeypatch.setattr("psutil.virtual_memory", Little)
    lazy = open_dataset(path)
    assert isinstance(lazy.images, LazyImages)
    rows = np.array([1, 4, 17])
    np.testing.assert_array_equal(lazy.images[rows], in_memory.images[rows])
    lazy.images.close()


def test_a_split_is_complete_stratified_and_comes_back(tree: Tree) -> None:
    data = open_dataset(tree({"a": 50, "b": 30}))
    split = split_dataset(data, seed=1)
    together = np.concatenate([split.train, split.selection, split.test])
    np.testing.assert_array_equal(np.sort(together), np.arange(80))
    np.testing.assert_array_equal(np.bincount(data.labels[split.test]), [5, 3])
    rows = {name: getattr(split, name) for name in ("train", "selection", "test")}
    as_lists = json.dumps({"seed": 1} | {name: part.tolist() for name, part in rows.items()})
    for text in (split.to_json(), as_lists):
        again = Split.from_json(text)
        assert again.seed == 1
        for name, part in rows.items():
            np.testing.assert_array_equal(getattr(again, name), part)
    assert len(split.to_json()) < 80 + 40
    other = split_dataset(data, seed=2)
    assert not np.array_equal(other.test, split.test)


def test_too_few_images_are_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match="6 images are too few to train, select and test"):
        split_dataset(open_dataset(tree({"a": 3, "b": 3})), seed=0)


def test_a_small_class_has_images_for_everything(tree: Tree) -> None:
    data = open_dataset(tree({"a": 50, "b": 4}))
    split = split_dataset(data, seed=0)
    for part in (split.train, split.selection, split.test):
        assert set(data.labels[part]) == {0, 1}
    with pytest.raises(DataError, match="2 images of class 'c' are too few to train, select"):
        split_dataset(open_dataset(tree({"c": 2})), seed=0)


def test_few_masses_leave_two_to_select_and_two_to_test(tmp_path: Path) -> None:
    data = open_dataset(simulate("demo_mass", 10, out=tmp_path / "a.h5"))
    split = split_dataset(data, seed=0)
    assert (len(split.train), len(split.selection), len(split.test)) == (6, 2, 2)


def test_the_published_shares(tmp_path: Path) -> None:
    data = open_dataset(simulate("demo_mass", 1000, out=tmp_path / "a.h5"))
    split = split_dataset(data, seed=0)
    assert (len(split.train), len(split.selection), len(split.test)) == (810, 90, 100)


def test_the_real_folders_are_read(shared_data: Path) -> None:
    data = open_dataset(shared_data / "common_test_1")
    assert data.class_names == ("no", "sphere", "vort")
    assert len(data) == 18
    colour = open_dataset(shared_data / "lens_finding")
    assert colour.images.shape == (40, 3, 64, 64)
    assert colour.images.dtype == np.float32


def test_a_copy_is_the_same_set_and_a_change_makes_another(tree: Tree, tmp_path: Path) -> None:
    root = tree({"a": 6, "b": 6})
    first = open_dataset(root)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert open_dataset(tmp_path / "copy").fingerprint == first.fingerprint
    (tmp_path / "copy" / "a" / "1.npy").rename(tmp_path / "copy" / "a" / "9.npy")
    assert open_dataset(tmp_path / "copy").fingerprint != first.fingerprint
    swapped = replace(first, labels=1 - first.labels)
    assert swapped.fingerprint != first.fingerprint


def test_the_folder_says_the_class_whatever_a_file_carries(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(6):
            pair = np.empty(2, dtype=object)
            pair[0], pair[1] = np.random.default_rng(i + 10 * k).random((20, 20)), 0.5
            np.save(tmp_path / name / f"{i}.npy", pair, allow_pickle=True)
    data = open_dataset(tmp_path)
    np.testing.assert_array_equal(data.labels, np.repeat([0, 1], 6))
