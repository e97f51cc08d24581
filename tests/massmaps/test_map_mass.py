"""Datasets of mass maps: content, continuation after an interruption, errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halometry.datasets.dataset import LabeledImages, LazyImages
from halometry.datasets.open import open_dataset
from halometry.datasets.shards import read_shards
from halometry.datasets.show import show
from halometry.datasets.store import StoreWriter, open_store
from halometry.errors import HalometryWarning, ReadError, UsageError
from halometry.massmaps.dataset import map_mass
from halometry.simulation import load_preset, sample
from helpers.folders import Tree

SMALL, LARGE = "demo_classification", "common_test_1"
SEED = 11


def test_mapped_dataset_keeps_labels_roles_and_parameters(lenses: Path, mapped: Path) -> None:
    before, after = open_dataset(lenses), open_dataset(mapped)
    assert after.images.shape == (len(before), 3, 48, 48)
    np.testing.assert_array_equal(before.labels, after.labels)
    np.testing.assert_array_equal(before.roles, after.roles)
    with open_store(lenses) as source, open_store(mapped) as maps:
        assert set(source["parameters"]) == set(maps["parameters"])
        np.testing.assert_array_equal(
            source["parameters"]["source_x"], maps["parameters"]["source_x"]
        )
        np.testing.assert_allclose(
            maps["images"][:5, 0], np.sqrt(source["images"][:5, 0]), rtol=1e-3
        )


def test_show_draws_mapped_dataset_with_its_maps(mapped: Path, tmp_path: Path) -> None:
    data = open_dataset(mapped)
    np.testing.assert_array_equal(data.display_image(3), data.images[3, 0])
    picture = show(mapped, tmp_path / "mapped.png", count=3)
    assert picture is not None
    assert picture.stat().st_size > 10_000


def test_dataset_of_another_preset_is_mapped_without_truth(lenses: Path, tmp_path: Path) -> None:
    other = load_preset(SMALL).model_copy(update={"name": "other"})
    few = first_images(open_dataset(lenses), 3)
    made = open_dataset(map_mass(few, tmp_path / "mapped.h5", preset=other))
    assert made.attributes["no_truth_init"] == 1
    assert open_dataset(map_mass(few, tmp_path / "own.h5")).attributes["no_truth_init"] == 0


def first_images(data: LabeledImages, count: int) -> LabeledImages:
    """The first images of a dataset, as a dataset."""
    assert data.roles is not None
    return replace(
        data,
        images=data.images[:count],
        labels=data.labels[:count],
        names=data.names[:count],
        roles=data.roles[:count],
    )


def test_image_without_counts_is_reported_before_mapping(lenses: Path, tmp_path: Path) -> None:
    few = first_images(open_dataset(lenses), 3)
    images = few.images[:].astype(np.float32)
    images[2] = np.random.default_rng(0).normal(images[2])
    with pytest.raises(ReadError, match=r"lenses.h5#2: .*no counts"):
        map_mass(replace(few, images=images), tmp_path / "mapped.h5", no_truth_init=True)
    assert not list(tmp_path.iterdir())


def test_interrupted_mapping_is_continued_to_the_same_images(
    lenses: Path, mapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.massmaps.dataset.DEFAULT_SHARD_SIZE", 32)
    out, write = tmp_path / "mapped.h5", StoreWriter.write
    seen: list[int] = []

    def write_until_interrupt(
        writer: StoreWriter, start: int, images: np.ndarray, *others: Any
    ) -> None:
        seen.append(len(images))
        if sum(seen) == 80:  # in the third shard of the first call
            raise KeyboardInterrupt
        write(writer, start, images, *others)

    monkeypatch.setattr(StoreWriter, "write", write_until_interrupt)
    with pytest.raises(KeyboardInterrupt):
        map_mass(lenses, out)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.partial"))
    seen.clear()
    map_mass(lenses, out, workers=2)
    assert sum(seen) == 90 - 64
    written = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("0*.h5"))]
    with open_store(mapped) as one, open_store(out) as other:
        assert len(read_shards(other)) == 3
        np.testing.assert_array_equal(one["images"], other["images"])
        np.testing.assert_array_equal(one["labels"], other["labels"])
    assert map_mass(lenses, out) == out  # complete: no file is written
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("0*.h5"))] == written


def test_worker_processes_give_the_same_maps(lenses: Path, mapped: Path, tmp_path: Path) -> None:
    again = map_mass(lenses, tmp_path / "again.h5", workers=2)
    with open_store(mapped) as one, open_store(again) as other:
        np.testing.assert_array_equal(one["images"], other["images"])


def test_test_images_of_folders_come_last(tmp_path: Path) -> None:
    counts, scene = sample(load_preset(SMALL), SEED, 0, 6)
    folders = LabeledImages(
        images=counts.numpy(),
        labels=scene.labels.numpy(),
        task="classification",
        class_names=("no", "sphere", "vort"),
        names=[f"{k}.npy" for k in range(6)],
        source="a folder",
        description="",
        roles=np.array(["test", "train"] * 3),
    )
    made = open_dataset(map_mass(folders, tmp_path / "mapped.h5", preset=SMALL, workers=1))
    assert made.roles is not None
    assert made.roles.tolist() == ["train"] * 3 + ["test"] * 3
    order = [1, 3, 5, 0, 2, 4]
    assert made.labels.tolist() == [folders.labels[k] for k in order]
    np.testing.assert_allclose(made.images[:, 0], counts[order, 0].sqrt(), rtol=1e-3)


def test_validation_folder_that_maps_do_not_keep_is_named(tree: Tree, tmp_path: Path) -> None:
    root = tree({f"{part}/{name}": 2 for part in ("train", "val", "test") for name in ("a", "b")})
    with (
        pytest.warns(HalometryWarning, match="keeps the test set, but not the validation set"),
        pytest.raises(UsageError, match="--preset"),
    ):
        map_mass(root, tmp_path / "mapped.h5")


def test_test_images_come_last_with_their_parameters(lenses: Path, tmp_path: Path) -> None:
    data = open_dataset(lenses)
    roles = np.where(np.arange(len(data)) % 3 == 1, "test", "train")
    mixed = replace(data, images=LazyImages(lenses), roles=roles)
    order = np.argsort(roles == "test", kind="stable")
    with open_store(map_mass(mixed, tmp_path / "mapped.h5")) as made, open_store(lenses) as own:
        np.testing.assert_array_equal(made["labels"], data.labels[order])
        for name in ("source_x", "subhalo_mass"):
            np.testing.assert_array_equal(
                made["parameters"][name], own["parameters"][name][:][order]
            )
        roots = np.sqrt(own["images"][:][order, 0])
        np.testing.assert_allclose(made["images"][:, 0], roots, rtol=1e-3)


def test_invalid_datasets_and_options_are_refused(
    lenses: Path, mapped: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="mapped already"):
        map_mass(mapped, tmp_path / "out.h5")
    with pytest.raises(UsageError, match="150 x 150"):
        map_mass(lenses, tmp_path / "out.h5", preset=LARGE)
    with pytest.raises(UsageError, match="holds a set with no_truth_init False"):
        map_mass(lenses, mapped, no_truth_init=True)
    other = load_preset(SMALL).model_copy(update={"name": "other", "mass_scale": 2.0})
    with pytest.raises(UsageError, match=r"preset\.mass_scale .* \(now 2\.0\)"):
        map_mass(lenses, mapped, preset=other, no_truth_init=True)
    with pytest.raises(UsageError, match="workers 0"):
        map_mass(lenses, tmp_path / "out.h5", workers=0)
    without_preset = replace(open_dataset(lenses), attributes={})
    with pytest.raises(UsageError, match="--preset"):
        map_mass(without_preset, tmp_path / "out.h5")
    assert not list(tmp_path.iterdir())
