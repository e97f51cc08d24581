"""The layouts in which the community keeps its images, recognized as they are."""

from __future__ import annotations

import os
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
TEST_FOLDERS = ("test", "val")  # in the community's sets, val/ is the test set by custom


def open_folder(path: Path) -> LabeledImages:
    """Open a folder of labeled images.

    Args:
        path: `train/` and `val/` or `test/` with class folders in each; or class folders; or
            `lens_data/` with, or itself a folder of, object arrays `[image, mass fraction]`.

    Raises:
        DataError: no such layout, or files that cannot be used.
    """
    held_out = next((name for name in TEST_FOLDERS if (path / name).is_dir()), None)
    if (path / "train").is_dir() and held_out and _class_folders(path / "train"):
        if held_out == "test" and (path / "val").is_dir():
            logger.info(
                f"{path}: test/ is the test set; val/ is not used, a tenth of train/ takes its part"
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
    """Names of the folders with images in them, the published order first."""
    with os.scandir(path) as found:
        folders = [f.name for f in found if f.is_dir() and not f.name.startswith(".")]
    classes = [name for name in folders if _has_image(path / name)]
    for order in PUBLISHED_CLASS_ORDERS:
        if set(classes) == set(order):
            return list(order)
    return sorted(classes, key=natural_sort_key)


def _has_image(path: Path) -> bool:
    with os.scandir(path) as found:
        return any(_is_image(f.name) for f in found)


def _is_image(name: str) -> bool:
    return is_readable(name) and not name.startswith(".")


def _scan(root: Path, below: str, label: int) -> list[FileEntry]:
    """The images directly in one folder, in natural order."""
    entries = []
    with os.scandir(root / below) as found:
        for file in found:
            if _is_image(file.name):
                try:
                    status = file.stat()
                except OSError as error:  # a link to nowhere
                    raise DataError(
                        f"{file.path}: cannot be read ({error.strerror}); mend or remove it"
                    ) from error
                name = str(Path(below) / file.name)
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
        there = _class_folders(root / part)
        if set(there) != set(names):
            raise DataError(
                f"{root / part}: has classes {', '.join(there) or 'none'},"
                f" {root / parts[0]} has {', '.join(names)}"
            )
        for label, name in enumerate(names):
            found = _scan(root, str(Path(part) / name), label)
            entries += found
            roles += ["train" if part in ("", "train") else "test"] * len(found)
    data = _load(root, entries, "classification", tuple(names))
    if len(parts) == 1:
        return _with_description(data, f"{len(entries):,} images in class folders", None)
    for_training = roles.count("train")
    where = f"{for_training:,} images in train/, {len(roles) - for_training:,} in {parts[1]}/"
    custom = " (the test set by custom)" if parts[1] == "val" else " (the test set)"
    return _with_description(data, where + custom, np.array(roles))


def _masses(root: Path) -> LabeledImages:
    entries = [e for e in _scan(root, "", -1) if e.name.lower().endswith(".npy")]
    if not entries:
        raise DataError(f"{root}: no .npy files found; object arrays [image, mass] are expected")
    try:
        labeled = read_image(root / entries[0].name).label is not None
    except ReadError:
        labeled = True  # packing says what is wrong with it
    if not labeled:
        raise DataError(
            f"{root}: its images have no labels; put them into class folders to train or judge,"
            " or use 'predict'"
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


def _with_description(data: LabeledImages, found: str, roles: np.ndarray | None) -> LabeledImages:
    from dataclasses import replace

    _, channels, height, width = data.images.shape
    of = f"classes {', '.join(data.class_names)}" if data.class_names else "mass fractions"
    return replace(data, description=f"{found}, {channels} x {height} x {width}, {of}", roles=roles)
