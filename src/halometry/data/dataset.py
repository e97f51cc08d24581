"""A labelled set in memory, from a store or from folders of images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import psutil

from halometry.data.store import attributes_of, is_store, open_store
from halometry.errors import DataError, UsageError, did_you_mean

Task = Literal["classification", "regression"]


class LazyImages:
    """Images of a store that stay on disk; takes sorted integer arrays, slices, and numbers.

    Args:
        path: the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File = open_store(path)
        self.shape: tuple[int, ...] = self._file["images"].shape
        self.dtype: np.dtype[Any] = self._file["images"].dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._file["images"][rows])

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    Attributes:
        images: (N, C, H, W), in memory, or on disk where they would not fit.
        labels: class indices int64 (N,), or mass fractions float64 (N,).
        task: what the labels are.
        class_names: in the order of the indices; None for regression.
        names: of the images.
        source: the path they came from.
        description: one line on what was found.
        fingerprint: changes when the set does.
        roles: `train` or `test` for each image where the layout says so, else None.
        attributes: whatever else is known, such as the preset.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray
    task: Task
    class_names: tuple[str, ...] | None
    names: list[str]
    source: str
    description: str
    fingerprint: str
    roles: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


def open_dataset(path: str | Path, task: Task | None = None) -> LabelledImages:
    """Open a labelled set.

    Args:
        path: a store, or a folder in one of the layouts of the documentation's page on formats:
            class folders, perhaps under `train` and `val` or `test`, or object arrays with a
            mass fraction each.
        task: raise if the labels are of the other kind.

    Raises:
        DataError: there is no such set, or it cannot be used; one line names the file and reason.
        UsageError: labels of the other task.
    """
    path = Path(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = f"; {did_you_mean(path.name, siblings)}" if siblings else ""
        raise DataError(f"{path}: no such file or folder{hint if 'mean' in hint else ''}")
    if is_store(path):
        data = _from_store(path)
    elif path.is_dir():
        from halometry.data.folders import open_folder

        data = open_folder(path)
    else:
        raise DataError(f"{path}: is a single file; give a store or a folder of labelled images")
    check(data)
    if task is not None and data.task != task:
        other = "mass fractions" if data.task == "regression" else "classes"
        raise UsageError(f"{path}: holds {other}; use --task {data.task}")
    return data


def _from_store(path: Path) -> LabelledImages:
    with open_store(path) as file:
        attributes = attributes_of(file)
        try:
            labels = file["labels"][:]
            names = _names(file)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path}: is damaged; make or copy it again") from error
        count, channels, height, width = file["images"].shape
        kept = file["images"].size * file["images"].dtype.itemsize
    class_names = tuple(attributes["class_names"]) if "class_names" in attributes else None
    of = f", classes {', '.join(class_names)}" if class_names else ", mass fractions"
    preset = (
        f" of {attributes['preset']}, seed {attributes['seed']}," if "preset" in attributes else ""
    )
    test_from = int(attributes.get("test_from", count))
    if test_from < count:
        of += f", the last {count - test_from:,} for testing"
    status = path.stat()
    identity = f"{status.st_size}:{status.st_mtime_ns}:{_digest(labels)}"
    return LabelledImages(
        images=read_images(path, kept),
        labels=labels,
        task=attributes["task"],
        class_names=class_names,
        names=names or [f"images[{i}]" for i in range(count)],
        source=str(path),
        description=f"{count:,} images{preset} {channels} x {height} x {width}{of}",
        fingerprint=hashlib.sha256(identity.encode()).hexdigest()[:16],
        roles=np.where(np.arange(count) < test_from, "train", "test"),
        attributes=attributes,
    )


def read_images(path: Path, size: int) -> np.ndarray | LazyImages:
    """The images of a store: in memory where they take less than half of what is free."""
    if size > psutil.virtual_memory().available // 2:
        return LazyImages(path)
    with open_store(path) as file:
        try:
            return np.asarray(file["images"][:])
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path}: is damaged; make or copy it again") from error


def _names(file: h5py.File) -> list[str]:
    return [str(name) for name in file["names"].asstr()[:]] if "names" in file else []


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def check(data: LabelledImages) -> None:
    """Refuse a set that nothing can be learnt from.

    Raises:
        DataError: no images, a single class, or a label outside its range.
    """
    if len(data) == 0:
        raise DataError(f"{data.source}: holds no images")
    if data.task == "classification":
        present = np.unique(data.labels)
        classes = len(data.class_names or ())
        if len(present) < 2:
            raise DataError(f"{data.source}: has images of one class only; at least two are needed")
        if present.min() < 0 or present.max() >= classes:
            raise DataError(
                f"{data.source}: class index {present.max()} is outside 0 to {classes - 1}"
            )
        return
    wrong = np.flatnonzero(~((data.labels >= 0) & (data.labels <= 1)))
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{data.source}: {len(wrong)} labels are not mass fractions between 0 and 1,"
            f" the first is {data.labels[first]:g} of {data.names[first]}"
        )
