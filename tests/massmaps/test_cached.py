"""Mass maps in the user's cache: content, continuation, which images are known as the same."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from halometry.datasets.cache import cache_folder, cache_info
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.open import open_dataset
from halometry.datasets.readers import Image
from halometry.datasets.store import StoreWriter
from halometry.errors import DataError, ReadError, StorageError, UsageError
from halometry.massmaps.cached import mapped_dataset, mapped_rows
from halometry.massmaps.dataset import map_mass
from halometry.massmaps.mapper import MassMapper
from halometry.simulation import load_preset
from helpers.folders import published_layout

PRESET = "demo_classification"
COUNT = 21  # images of the folder, the last 6 in val/


class Calls(list[str]):
    """Names of the images that were mapped."""


@pytest.fixture(autouse=True)
def mapped_images(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Replace the fit of the lens by the root of the counts; it takes most of the time."""
    calls = Calls()

    def map_quickly(mapper: MassMapper, image: Image) -> np.ndarray:
        calls.append(image.path)
        counts = mapper.prepare(image).values.numpy()
        return np.stack([np.sqrt(counts), counts, -counts]).astype(np.float32)

    monkeypatch.setattr(MassMapper, "map_image", map_quickly)
    return calls


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_layout(tmp_path_factory.mktemp("published") / "dataset", PRESET, COUNT, 6)


@pytest.fixture
def data(folder: Path) -> LabeledImages:
    return open_dataset(folder)


def rows_of(data: LabeledImages, rows: list[int], **changes: Any) -> LabeledImages:
    """Some images of a dataset, as a dataset."""
    assert data.roles is not None
    return replace(
        data,
        images=data.images[np.array(rows)],
        labels=data.labels[rows],
        names=[data.names[row] for row in rows],
        roles=data.roles[rows],
        **changes,
    )


def test_maps_have_names_order_labels_and_roles_of_the_images(data: LabeledImages) -> None:
    mapped = mapped_dataset(data, load_preset(PRESET), workers=1)
    assert mapped.names == data.names
    assert mapped.names[-1].startswith("val/vort/")
    assert mapped.source == data.source
    assert mapped.class_names == data.class_names
    assert mapped.roles is not None
    np.testing.assert_array_equal(mapped.roles, data.roles)
    np.testing.assert_array_equal(mapped.labels, data.labels)
    np.testing.assert_allclose(mapped.images[:, 0], np.sqrt(data.images[:, 0]), rtol=1e-3)
    assert mapped.description.endswith("as mass maps 3 x 48 x 48")


def test_order_is_kept_where_test_images_lie_between_others(data: LabeledImages) -> None:
    mixed = replace(data, roles=np.where(np.arange(COUNT) % 3 == 1, "test", "train"))
    mapped = mapped_dataset(mixed, load_preset(PRESET), workers=1)
    np.testing.assert_allclose(mapped.images[:, 0], np.sqrt(data.images[:, 0]), rtol=1e-3)
    assert mapped.roles is not None
    np.testing.assert_array_equal(mapped.roles, mixed.roles)


def test_second_call_reads_the_cache(
    data: LabeledImages, mapped_images: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "halometry")
    preset = load_preset(PRESET)
    first = mapped_dataset(data, preset, workers=1)
    assert len(mapped_images) >= COUNT
    assert f"{data.source}: mass maps of {COUNT} images" in caplog.text
    assert str(cache_folder()) in caplog.text
    assert f"mapping {COUNT} images: about " in caplog.text
    mapped_images.clear()
    described = preset.model_copy(update={"name": "mine", "description": "Other words."})
    for same in (preset, preset.to_yaml(), described):
        again = mapped_dataset(data, same, workers=1)
        np.testing.assert_array_equal(again.images[:], first.images[:])
    assert not mapped_images
    mapped_dataset(data, preset.model_copy(update={"mass_scale": 2.0}), workers=1)
    assert len(mapped_images) >= COUNT


def test_cache_notices_a_change_of_any_pixel(
    data: LabeledImages, mapped_images: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.datasets.dataset.MAX_FINGERPRINT_IMAGES", 2)
    images = data.images[:].copy()
    images[7, 0, 3, 3] += 1
    changed = replace(data, images=images)
    assert changed.fingerprint == data.fingerprint
    mapped_dataset(data, load_preset(PRESET), workers=1)
    mapped_images.clear()
    mapped_dataset(changed, load_preset(PRESET), workers=1)
    assert len(mapped_images) >= COUNT


def test_interrupted_call_is_continued(
    data: LabeledImages, mapped_images: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.massmaps.dataset.DEFAULT_SHARD_SIZE", 8)
    write = StoreWriter.write

    def write_until_interrupt(writer: StoreWriter, *parts: Any) -> None:
        if writer.path.name == "00002.h5":
            raise KeyboardInterrupt
        write(writer, *parts)

    preset = load_preset(PRESET)
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", write_until_interrupt)
        with pytest.raises(KeyboardInterrupt):
            mapped_dataset(data, preset, workers=1)
    mapped_images.clear()
    continued = mapped_dataset(data, preset, workers=1)
    assert mapped_images == [data.image_path(row) for row in range(16, COUNT)]
    np.testing.assert_allclose(continued.images[:, 0], np.sqrt(data.images[:, 0]), rtol=1e-3)


def test_only_the_asked_rows_are_mapped(data: LabeledImages, mapped_images: Calls) -> None:
    rows, preset = np.array([20, 3, 17]), load_preset(PRESET)
    images, positions = mapped_rows(data, rows, preset, workers=1)
    assert mapped_images == [data.image_path(row) for row in (3, 17, 20)]
    roots = np.sqrt(data.images[:][rows, 0])
    np.testing.assert_allclose(images[:][positions, 0], roots, rtol=1e-3)
    mapped_dataset(data, preset, workers=1)
    mapped_images.clear()
    images, positions = mapped_rows(data, rows, preset, workers=1)  # from the maps of all images
    assert not mapped_images
    assert len(images) == COUNT
    np.testing.assert_allclose(images[:][positions, 0], roots, rtol=1e-3)


def test_damaged_maps_are_repaired(data: LabeledImages) -> None:
    preset = load_preset(PRESET)
    before = mapped_dataset(data, preset, workers=1).images[:]
    (shard,) = cache_folder().rglob("0*.h5")
    shard.write_bytes(shard.read_bytes()[:1000])
    np.testing.assert_array_equal(mapped_dataset(data, preset, workers=1).images[:], before)


def test_maps_are_known_as_the_images_that_they_show(data: LabeledImages, tmp_path: Path) -> None:
    preset = load_preset(PRESET)
    cached = mapped_dataset(data, preset, workers=1)
    explicit = open_dataset(map_mass(data, tmp_path / "mapped.h5", preset=preset))
    assert data.fingerprint == cached.fingerprint == explicit.fingerprint
    part = rows_of(explicit, [0, 1, 2])
    assert part.fingerprint != data.fingerprint
    mixed = replace(data, roles=np.where(np.arange(COUNT) % 3 == 1, "test", "train"))
    moved = open_dataset(map_mass(mixed, tmp_path / "moved.h5", preset=preset))
    assert moved.fingerprint != data.fingerprint  # its image k is another one


def test_maps_by_the_same_preset_are_used_as_they_are(data: LabeledImages) -> None:
    preset = load_preset(PRESET)
    mapped = mapped_dataset(data, preset, workers=1)
    described = preset.model_copy(update={"description": "Other words."})
    assert mapped_dataset(mapped, described) is mapped
    with pytest.raises(DataError, match="was mapped by another preset"):
        mapped_dataset(mapped, preset.model_copy(update={"mass_scale": 2.0}))


def test_images_that_cannot_be_mapped_are_named(data: LabeledImages) -> None:
    preset, images = load_preset(PRESET), data.images[:].copy()
    images[4] = np.random.default_rng(0).normal(images[4])
    with pytest.raises(ReadError, match=rf"{data.source}/{data.names[4]}: .*no counts"):
        mapped_dataset(replace(data, images=images), preset)
    with pytest.raises(UsageError, match="its images are 3 x 48 x 48, those of preset"):
        mapped_dataset(replace(data, images=np.repeat(images, 3, axis=1)), preset)
    assert not list(cache_folder().glob("mapped-*"))


def test_lack_of_room_is_reported_before_mapping(
    data: LabeledImages, mapped_images: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"the cache .* GB are free; .* HALOMETRY_CACHE"):
        mapped_dataset(data, load_preset(PRESET))
    assert not mapped_images


def test_size_of_the_cache_contains_the_maps(data: LabeledImages) -> None:
    before = cache_info().bytes
    mapped = mapped_dataset(data, load_preset(PRESET), workers=1)
    assert cache_info().bytes > before + mapped.images[:].nbytes
