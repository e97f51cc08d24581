"""Datasets in folders, in the layouts of published datasets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from halometry.config import Task
from halometry.datasets.cache import FileEntry, pack_files
from halometry.datasets.dataset import LabeledImages, read_images
from halometry.datasets.inputs import natural_sort_key
from halometry.datasets.layouts import (
    ClassLayout,
    Role,
    find_class_folders,
    find_part_folders,
    log_unused,
    visible_entries,
)
from halometry.datasets.readers import is_readable, read_image
from halometry.datasets.store import open_store
from halometry.errors import DataError, ReadError
from halometry.log import warn

LENS_DATA = "lens_data"  # folder of the published mass set
USES: dict[Role | None, str] = {
    None: "",
    "train": "",
    "validation": " (for validation)",
    "test": " (the test set)",
}


def open_folder(path: Path) -> LabeledImages:
    """Open a folder of labeled images.

    The layouts are, in the order in which they are looked for:

    - class folders in `train/`, and in `test/`, a validation folder (`val/`, `valid/` or
      `validation/`), or both;
    - `lens_data/` with object arrays `[image, mass fraction]`;
    - class folders with their part in the name, such as `train_lenses/`, `train_nonlenses/`,
      `test_lenses/` and `test_nonlenses/`;
    - class folders;
    - object arrays.

    The validation folder is the test set if there is no `test/`, as published datasets have it.
    Beside `test/` it is used for validation and calibration, and all of `train/` for training.
    Capitals in the names of folders do not count.

    Args:
        path: the folder.

    Raises:
        DataError: the folder has another layout, or a file cannot be used.
    """
    if (layout := find_part_folders(path)) is not None:
        return _classes(path, layout)
    if (lens_data := _lens_data(path)) is not None:
        return _masses(lens_data)
    if (layout := find_class_folders(path)) is not None:
        return _classes(path, layout)
    if not _scan(path, "", -1):
        raise DataError(
            f"{path}: no images found; a folder of class folders, or of object arrays"
            " [image, mass fraction], is expected"
        )
    return _masses(path)


def _lens_data(path: Path) -> Path | None:
    folders = [e.name for e in visible_entries(path) if e.is_dir()]
    names = [name for name in folders if name.casefold() == LENS_DATA]
    if len(names) > 1:
        raise DataError(f"{path}: has {names[0]}/ and {names[1]}/; give one of them")
    if not names:
        return None
    log_unused(path, names)
    return path / names[0]


def _scan(root: Path, folder: str, label: int) -> list[FileEntry]:
    """Images directly in one folder, in natural order.

    Args:
        root: folder of the dataset.
        folder: path from there.
        label: class index of the images.
    """
    entries: list[FileEntry] = []
    unused: list[str] = []
    for file in visible_entries(root / folder):
        if is_readable(file.name):
            status = file.stat()
            name = str(Path(folder) / file.name)
            entries.append(FileEntry(name, label, status.st_size, status.st_mtime_ns))
        elif file.is_dir():
            unused.append(file.name)
    if folder and unused:
        warn(f"{root / folder}: images in folders inside are not used: {'/, '.join(unused)}/")
    return sorted(entries, key=lambda entry: natural_sort_key(entry.name))


def _classes(root: Path, layout: ClassLayout) -> LabeledImages:
    entries: list[FileEntry] = []
    roles: list[str] = []
    counts: list[str] = []
    for part in layout.parts:
        before = len(entries)
        for label, folder in enumerate(part.folders):
            entries += _scan(root, folder, label)
        count = len(entries) - before
        roles += [part.role or "train"] * count
        counts.append(f"{count:,} in {part.title}{USES[part.role]}")
    data = _load(root, entries, "classification", layout.class_names)
    if len(layout.parts) == 1:
        place = layout.parts[0].title or "class folders"
        return _with_description(data, f"{len(entries):,} images in {place}", None)
    content = ", ".join(counts).replace(" in ", " images in ", 1)
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
