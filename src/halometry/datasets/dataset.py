"""Labeled datasets: images with labels, in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import psutil
import torch
import yaml
from torch import Tensor

from halometry.config import Task, validate
from halometry.datasets.store import is_store, open_store
from halometry.errors import ConfigError, DataError
from halometry.log import logger

if TYPE_CHECKING:
    from halometry.simulation import Preset

MAX_FINGERPRINT_IMAGES = 64  # that the fingerprint of a dataset depends on


class LazyImages:
    """Images of a store that are read when indexed, with a sorted integer array, slice or number.

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
        return to_native_byte_order(self._file["images"][rows])

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyImages, (self.path,)  # another process opens the file again

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class LabeledImages:
    """Dataset of images with labels.

    Attributes:
        images: (N, C, H, W), in memory, or on disk if they are large.
        labels: class indices int64 (N,), or mass fractions float64 (N,).
        task: type of the labels.
        class_names: in the order of the class indices; None for regression.
        names: names of the images.
        source: path of the dataset.
        description: one line for the user.
        roles: `train`, `validation` or `test` for each image if the dataset defines them, else
            None.
        attributes: attributes of the store. Of simulated images these are `preset` (its name),
            `seed` and `preset_yaml`; the last alone is the preset that other images follow.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray
    task: Task
    class_names: tuple[str, ...] | None
    names: list[str]
    source: str
    description: str
    roles: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def image_path(self, row: int) -> str:
        """Path of an image, as `predict` gives it: `#k` stands for image k of a store."""
        name = self.names[row]
        if name == f"images[{row}]":
            return f"{self.source}#{row}"
        return str(Path(self.source) / name)

    def display_image(self, row: int) -> np.ndarray:
        """Image (H, W) to display: the mean of its channels; of mass maps the first channel."""
        image = np.asarray(self.images[np.array([row])])[0].astype(np.float32)
        is_mapped = "mass_map_preset" in self.attributes
        pixels: np.ndarray = image[0] if is_mapped else image.mean(axis=0)
        return pixels

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, labels and images; the same for a copy of the dataset in another place.

        It depends on at most `MAX_FINGERPRINT_IMAGES` of the images. Mass maps have the
        fingerprint of the plain images that they were computed from.
        """
        if self.attributes.get("plain_count") == len(self):
            return str(self.attributes["plain_fingerprint"])
        digest = hashlib.sha256(repr((self.task, self.images.shape, self.class_names)).encode())
        digest.update("\0".join(self.names).encode())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        rows = np.unique(np.linspace(0, len(self) - 1, MAX_FINGERPRINT_IMAGES).astype(int))
        digest.update(np.ascontiguousarray(self.images[rows], dtype=np.float32).tobytes())
        return digest.hexdigest()[:16]


def to_native_byte_order(values: Any) -> np.ndarray:
    """Convert values to an array in the byte order of this machine."""
    array = np.asarray(values)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_images(path: Path, size: int) -> np.ndarray | LazyImages:
    """Read the images of a store, if they take less than half of the available memory.

    Args:
        path: the store.
        size: size of the images in bytes.
    """
    if size > psutil.virtual_memory().available // 2:
        return LazyImages(path)
    with open_store(path) as file:
        try:
            return to_native_byte_order(file["images"][:])
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path}: is damaged; make or copy it again") from error


def has_parameters(data: LabeledImages, names: Iterable[str]) -> bool:
    """Whether the store of a dataset has these true parameters, row by row.

    A dataset may be the first images of its store, but no other part of it.
    """
    if not is_store(data.source):
        return False
    with open_store(data.source) as file:
        stored, labels = file.get("parameters", {}), file["labels"][: len(data)]
        return all(name in stored for name in names) and np.array_equal(labels, data.labels)


def check_dataset(data: LabeledImages) -> None:
    """Check that a dataset can be used for training.

    Raises:
        DataError: it has no images, a single class, or a label outside its range.
    """
    if len(data) == 0:
        raise DataError(f"{data.source}: holds no images")
    if data.task == "classification":
        present = np.unique(data.labels)
        classes = len(data.class_names or ())
        if len(present) < 2:
            raise DataError(f"{data.source}: has images of one class only; at least two are needed")
        outside = present[(present < 0) | (present >= classes)]
        if len(outside):
            raise DataError(
                f"{data.source}: class index {outside[0]} is outside 0 to {classes - 1};"
                " its labels and class_names do not fit"
            )
        return
    wrong = np.flatnonzero(~((data.labels >= 0) & (data.labels <= 1)))
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{data.source}: {len(wrong)} labels are not mass fractions between 0 and 1,"
            f" the first is {data.labels[first]:g} of {data.names[first]}"
        )


def preset_from_dataset(data: LabeledImages) -> Preset | None:
    """Preset that the images follow; None if it is not known, or if its files are missing."""
    text = data.attributes.get("preset_yaml")
    if text is None:
        return None
    from halometry.simulation import Preset  # here, because predictions need no physics

    try:
        return validate(Preset, yaml.safe_load(text), f"the preset in {data.source}")
    except ConfigError as error:  # it names files that do not exist here
        logger.info(f"no online images, nor mass maps: {error}")
        return None


def take_rows(images: Any, rows: np.ndarray) -> Tensor:
    """Images (B, C, H, W) at sorted rows (B,) of a tensor, an array or `LazyImages`."""
    if isinstance(images, Tensor):
        return images[torch.from_numpy(rows).to(images.device)]
    return torch.from_numpy(np.ascontiguousarray(images[rows]))
