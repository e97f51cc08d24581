"""Stores: content, atomic writes, user-written files, errors."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from halometry.datasets.dataset import LazyImages
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.store import StoreWriter
from halometry.errors import DataError, StorageError, UsageError
from halometry.simulation import UNITS


def test_simulate_stores_images_labels_parameters_and_preset(tmp_path: Path) -> None:
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


def write_own_store(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update(format="halometry-dataset", format_version=1, task="classification")
        file.attrs.update(class_names=["no", "sub"], preset="mine")
        file["images"], file["labels"] = images, labels
    return path


@pytest.mark.parametrize("kind", [">f4", ">i2", "<f8"])
@pytest.mark.parametrize("labels", [">i8", "int32", "float64", "uint8"])
def test_own_store_may_have_any_byte_order(tmp_path: Path, kind: str, labels: str) -> None:
    images = np.arange(6 * 16).reshape(6, 1, 4, 4).astype(kind)
    path = write_own_store(
        tmp_path / "mine.h5", images, np.array([0, 1, 0, 1, 1, 0]).astype(labels)
    )
    data = open_dataset(path)
    assert data.images.dtype.isnative
    assert data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.images, images)
    assert LazyImages(path)[np.array([1, 2])].dtype.isnative
    assert torch.from_numpy(LazyImages(path)[1:3]).shape == (2, 1, 4, 4)


def test_fractional_class_indices_are_refused(tmp_path: Path) -> None:
    path = write_own_store(tmp_path / "mine.h5", np.ones((3, 1, 4, 4)), np.array([0.0, 1.0, 0.5]))
    with pytest.raises(DataError, match="labels are not all whole numbers"):
        open_dataset(path)


def test_larger_dataset_starts_with_the_smaller_one(tmp_path: Path) -> None:
    small = open_dataset(simulate("demo_classification", 12, seed=5, out=tmp_path / "s.h5"))
    large = open_dataset(simulate("demo_classification", 50, seed=5, out=tmp_path / "l.h5"))
    np.testing.assert_array_equal(small.images, large.images[:12])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "--count 0: must be at least 1"),
        ({"count": 5, "n_test": 5}, "--n-test 5: must be below --count 5"),
        ({"count": 5, "seed": -1}, "--seed -1: must not be negative"),
    ],
)
def test_simulate_refuses_invalid_options(
    tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulate("demo_mass", out=tmp_path / "a.h5", **options)


def test_simulate_refuses_existing_file_without_overwrite(tmp_path: Path) -> None:
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


def test_interrupted_write_keeps_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt), writer(path) as store:
        store.write(0, np.ones((1, 1, 8, 8)), np.zeros(1))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_full_disk_is_reported_and_leaves_no_file(
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


def test_full_disk_in_process_is_reported_and_leaves_no_file(tmp_path: Path) -> None:
    """A limit of the file size, in a process of its own, acts like a full disk."""
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
    with pytest.raises(DataError, match="is not a halometry-dataset file"):
        open_dataset(tmp_path / "foreign.h5")
    path = simulate("demo_mass", 20, out=tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="is damaged or not an HDF5 file"):
        open_dataset(path)


def store(path: Path, **changed: Any) -> Path:
    """A store as a user writes it."""
    images = np.random.default_rng(0).random((12, 1, 16, 16)).astype(np.float32)
    content = {"images": images, "labels": np.arange(12) % 2} | changed
    with h5py.File(path, "w") as file:
        file.attrs.update(format="halometry-dataset", format_version=1, task="classification")
        file.attrs["class_names"] = ["a", "b"]
        for name, values in content.items():
            file[name] = values
    return path


def test_own_store_is_read(tmp_path: Path) -> None:
    data = open_dataset(store(tmp_path / "a.h5"))
    assert (len(data), data.class_names) == (12, ("a", "b"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.zeros(3)}, r"labels of shape \(3,\) do not make a dataset"),
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
def test_invalid_store_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(store(tmp_path / "a.h5", **changed))


def test_dataset_larger_than_memory_is_read_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = simulate("demo_mass", 20, out=tmp_path / "a.h5")
    in_memory = open_dataset(path)

    class LittleMemory:
        available = 1000

    monkeypatch.setattr("psutil.virtual_memory", LittleMemory)
    lazy = open_dataset(path)
    assert isinstance(lazy.images, LazyImages)
    rows = np.array([1, 4, 17])
    np.testing.assert_array_equal(lazy.images[rows], in_memory.images[rows])
    lazy.images.close()
