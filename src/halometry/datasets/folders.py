"""Datasets in folders, in the layouts of published datasets."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from halometry.config import Task
from halometry.datasets.cache import FileEntry, pack_files
from halometry.datasets.dataset import LabeledImages, read_images
from halometry.datasets.inputs import natural_sort_key
from halometry.datasets.readers import is_readable, read_image
from halometry.datasets.store import open_store
from halometry.errors import DataError, ReadError
from halometry.log import logger

PUBLISHED_CLASS_ORDERS = (("no", "sphere", "vort"), ("no_sub", "sub"))
TEST_FOLDERS = ("test", "val")  # val/ is the test set of published datasets


def open_folder(path: Path) -> LabeledImages:
    """Open a folder of labeled images.

    Args:
        path: a folder with `train/` and `val/` or `test/`, and class folders in each; a folder of
            class folders; or a folder, perhaps with `lens_data/`, of object arrays
            `[image, mass fraction]`.

    Raises:
        DataError: the folder has another layout, or a file cannot be used.
    """
    held_out = next((name for name in TEST_FOLDERS if (path / name).is_dir()), None)
    if (path / "train").is_dir() and held_out and _class_folders(path / "train"):
        if held_out == "test" and (path / "val").is_dir():
            logger.info(
                f"{path}: test/ is the test set; val/ is not used, and a tenth of train/ is for"
                " validation"
            )
        return _classes(path, ("train", held_out))
    if (path / "lens_data").is_dir():
        return _masses(path / "lens_data")
    if _class_folders(path):
        return _classes(path, ("",))
    entries = _scan(path, "", -1)
    if not entries:
        raise DataError(
            f"{path}: no images found; a folder of class folders, or of object arrays"
            " [image, mass fraction], is expected"
        )
    return _masses(path)


def _class_folders(path: Path) -> list[str]:
    """Names of the folders that contain images, in the published order if there is one."""
    with os.scandir(path) as items:
        folders = [f.name for f in items if f.is_dir() and not f.name.startswith(".")]
    classes = [name for name in folders if _has_image(path / name)]
    for order in PUBLISHED_CLASS_ORDERS:
        if set(classes) == set(order):
            return list(order)
    return sorted(classes, key=natural_sort_key)


def _has_image(path: Path) -> bool:
    with os.scandir(path) as items:
        return any(_is_image(f.name) for f in items)


def _is_image(name: str) -> bool:
    return is_readable(name) and not name.startswith(".")


def _scan(root: Path, folder: str, label: int) -> list[FileEntry]:
    """Images directly in one folder, in natural order.

    Args:
        root: folder of the dataset.
        folder: path from there.
        label: class index of the images.
    """
    entries = []
    with os.scandir(root / folder) as files:
        for file in files:
            if _is_image(file.name):
                try:
                    status = file.stat()
                except OSError as error:  # a link without a target
                    raise DataError(
                        f"{file.path}: cannot be read ({error.strerror}); correct or remove it"
                    ) from error
                name = str(Path(folder) / file.name)
                entries.append(FileEntry(name, label, status.st_size, status.st_mtime_ns))
    return sorted(entries, key=lambda entry: natural_sort_key(entry.name))


def _classes(root: Path, parts: tuple[str, ...]) -> LabeledImages:
    names = _class_folders(root / parts[0])
    if set(names) <= {"train", *TEST_FOLDERS}:
        raise DataError(
            f"{root / parts[0]}: has images directly in {'/ and '.join(names)}/; classes need a"
            " folder each in these, and masses one folder of object arrays for all"
        )
    if len(names) < 2:
        raise DataError(
            f"{root / parts[0]}: has images of one class only ({names[0]});"
            " at least two class folders are needed"
        )
    entries: list[FileEntry] = []
    roles: list[str] = []
    for part in parts:
        part_names = _class_folders(root / part)
        if set(part_names) != set(names):
            raise DataError(
                f"{root / part}: has classes {', '.join(part_names) or 'none'},"
                f" {root / parts[0]} has {', '.join(names)}"
            )
        for label, name in enumerate(names):
            images = _scan(root, str(Path(part) / name), label)
            entries += images
            roles += ["train" if part in ("", "train") else "test"] * len(images)
    data = _load(root, entries, "classification", tuple(names))
    if len(parts) == 1:
        return _with_description(data, f"{len(entries):,} images in class folders", None)
    n_train = roles.count("train")
    content = (
        f"{n_train:,} images in train/, {len(roles) - n_train:,} in {parts[1]}/ (the test set)"
    )
    return _with_description(data, content, np.array(roles))


def _masses(root: Path) -> LabeledImages:
    entries = [e for e in _scan(root, "", -1) if e.name.lower().endswith(".npy")]
    if not entries:
        raise DataError(f"{root}: no .npy files found; object arrays [image, mass] are expected")
    try:
        labeled = read_image(root / entries[0].name).label is not None
    except ReadError:
        labeled = True  # packing reports the error
    if not labeled:
        raise DataError(
            f"{root}: its images have no labels; put them into class folders to train or"
            " evaluate, or use 'predict'"
        )
    data = _load(root, entries, "regression", None)
    return _with_description(data, f"{len(entries):,} object arrays", None)


def _load(
    root: Path, entries: list[FileEntry], task: Task, class_names: tuple[str, ...] | None
) -> LabeledImages:
    store = pack_files(root, entries, task)
    with open_store(store) as file:
        labels = file["labels"][:]
        size = file["images"].size * file["images"].dtype.itemsize
    return LabeledImages(
        images=read_images(store, size),
        labels=labels,
        task=task,
        class_names=class_names,
        names=[entry.name for entry in entries],
        source=str(root),
        description="",
    )


def _with_description(data: LabeledImages, content: str, roles: np.ndarray | None) -> LabeledImages:
    _, channels, height, width = data.images.shape
    labels = f"classes {', '.join(data.class_names)}" if data.class_names else "mass fractions"
    return replace(
        data, description=f"{content}, {channels} x {height} x {width}, {labels}", roles=roles
    )
