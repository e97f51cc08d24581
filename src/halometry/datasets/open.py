"""Opening of labeled datasets, from stores or folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halometry.config import Task
from halometry.datasets.dataset import LabeledImages, LazyImages, check_dataset, read_images
from halometry.datasets.folders import open_folder
from halometry.datasets.store import is_store, open_store, read_attributes
from halometry.errors import DataError, UsageError, did_you_mean
from halometry.log import with_progress

IMAGES_PER_CHECK = 1024


@with_progress
def open_dataset(
    path: str | Path, task: Task | None = None, *, progress: bool = True
) -> LabeledImages:
    """Open a labeled dataset.

    Args:
        path: a store, or a folder in a layout of the documentation's page on formats: class
            folders, perhaps in `train`, `val` and `test` or with these words in their names, or
            object arrays with a mass fraction.
        task: expected type of the labels.
        progress: whether to show progress bars.

    Raises:
        DataError: there is no such dataset, or it cannot be used.
        UsageError: the labels are of the other task.
    """
    path = Path(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = f"; {did_you_mean(path.name, siblings)}" if siblings else ""
        raise DataError(f"{path}: no such file or folder{hint if 'mean' in hint else ''}")
    if is_store(path):
        data = _from_store(path)
    elif path.is_dir():
        data = open_folder(path)
    else:
        raise DataError(f"{path}: is a single file; give a store or a folder of labeled images")
    check_dataset(data)
    if task is not None and data.task != task:
        labels = "mass fractions" if data.task == "regression" else "classes"
        raise UsageError(f"{path}: holds {labels}; use --task {data.task}")
    return data


def _from_store(path: Path) -> LabeledImages:
    with open_store(path) as file:
        attributes = read_attributes(file)
        try:
            labels = file["labels"][:]
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path}: is damaged; make or copy it again") from error
        count, channels, height, width = file["images"].shape
        size = file["images"].size * file["images"].dtype.itemsize
    labels = _convert_labels(path, labels, attributes["task"])
    class_names = tuple(attributes["class_names"]) if "class_names" in attributes else None
    content = f", classes {', '.join(class_names)}" if class_names else ", mass fractions"
    preset = f" of {attributes['preset']}," if "preset" in attributes else ""
    if "seed" in attributes:
        preset += f" seed {attributes['seed']},"
    if "mass_map_preset" in attributes:
        preset += " mapped,"
    images = read_images(path, size)
    _check_pixels(path, images)
    test_from = int(attributes.get("test_from", count))
    if test_from < count:
        content += f", the last {count - test_from:,} for testing"
    return LabeledImages(
        images=images,
        labels=labels,
        task=attributes["task"],
        class_names=class_names,
        names=[f"images[{i}]" for i in range(count)],
        source=str(path),
        description=f"{count:,} images{preset} {channels} x {height} x {width}{content}",
        roles=np.where(np.arange(count) < test_from, "train", "test"),
        attributes=attributes,
    )


def _convert_labels(path: Path, labels: np.ndarray, task: Task) -> np.ndarray:
    """Convert the labels of a store to int64 classes or float64 mass fractions.

    Raises:
        DataError: class indices are not whole numbers.
    """
    if task == "regression":
        return labels.astype(np.float64)
    whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels):
        raise DataError(f"{path}: its labels are not all whole numbers, as class indices are")
    return whole


def _check_pixels(path: Path, images: np.ndarray | LazyImages) -> None:
    """Check that the pixels of a store are finite."""
    if images.dtype.kind != "f":
        return
    for start in range(0, len(images), IMAGES_PER_CHECK):
        finite = np.isfinite(images[start : start + IMAGES_PER_CHECK]).all(axis=(1, 2, 3))
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise DataError(f"{path}#{first}: has pixels that are not finite (NaN or infinite)")
