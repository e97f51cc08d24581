"""Stores: HDF5 files of labeled images, which any HDF5 library reads."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from halometry.config import TASKS, Task
from halometry.datasets.shards import check_shards
from halometry.errors import DataError, FormatError, StorageError
from halometry.io import check_header, header, partial_path


class StoreWriter:
    """Writer of a store, in parts; the file gets its name only when it is complete.

    Args:
        path: the file to write.
        count: number of images.
        shape: (C, H, W) of an image.
        dtype: type of the images, `int32` for counts.
        task: type of the labels: class indices or mass fractions.
        class_names: names of the classes of a classification.
        attributes: other HDF5 attributes.
        units: units of the parameters, by name.
        compress: whether to compress images; they are then several times slower to read.

    Raises:
        StorageError: no room or no permission; nothing is left behind.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        count: int,
        shape: tuple[int, int, int],
        dtype: str = "int32",
        task: Task,
        class_names: tuple[str, ...] | None = None,
        attributes: dict[str, str | int | float] | None = None,
        units: dict[str, str] | None = None,
        compress: bool = True,
    ) -> None:
        self.path = Path(path)
        self.partial = partial_path(self.path)
        self.count, self.shape, self.dtype = count, shape, dtype
        self.task, self.class_names = task, class_names
        self.attributes, self.units = attributes or {}, units or {}
        self.compress = compress

    def __enter__(self) -> StoreWriter:
        try:
            self._create()
        except OSError as error:
            raise storage_error(self.path, error) from error
        return self

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._target = ErrorLatchingFile(self.partial, "w+")
        self._file = h5py.File(self._target, "w")
        compression: dict[str, Any] = {
            "shuffle": True,
            "compression": "gzip",
            "compression_opts": 1,
        }
        self._images = self._file.create_dataset(
            "images",
            (self.count, *self.shape),
            self.dtype,
            **({"chunks": (1, *self.shape), **compression} if self.compress else {}),
        )
        label_type = "int64" if self.task == "classification" else "float64"
        self._labels = self._file.create_dataset("labels", (self.count,), label_type)
        self._file.create_group("parameters")
        self._parameters: dict[str, h5py.Dataset] = {}
        attributes = header("dataset") | {"task": self.task} | self.attributes
        if self.class_names:
            attributes["class_names"] = list(self.class_names)
        self._file.attrs.update(attributes)

    def write(
        self,
        start: int,
        images: np.ndarray,
        labels: np.ndarray,
        parameters: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Write images (n, C, H, W), labels (n,) and parameters (n, ...) from row `start`."""
        stop = start + len(images)
        try:
            self._images[start:stop] = images
            self._labels[start:stop] = labels
            for name, values in (parameters or {}).items():
                if name not in self._parameters:
                    self._parameters[name] = self._new_parameter(name, values)
                self._parameters[name][start:stop] = values
        except (OSError, RuntimeError) as error:
            raise storage_error(self.path, error) from error
        if self._target.failure is not None:
            raise storage_error(self.path, self._target.failure) from self._target.failure

    def _new_parameter(self, name: str, like: np.ndarray) -> h5py.Dataset:
        shape = (self.count, *like.shape[1:])
        dataset = self._file["parameters"].create_dataset(
            name, shape, like.dtype, compression="gzip"
        )
        dataset.attrs["unit"] = self.units.get(name, "")
        return dataset

    def _flush(self) -> None:
        """Write all datasets to the file in a fixed order.

        HDF5 writes the rest of a dataset when its last handle is closed. When Python closes it
        would depend on profilers and debuggers, so the handles are kept until here.
        """
        for dataset in (self._images, self._labels, *self._parameters.values()):
            dataset.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._flush()
            self._file.close()
            self._target.close()
            if error is None:
                if self._target.failure is not None:
                    raise self._target.failure
                os.replace(self.partial, self.path)
        except OSError as failure:
            if error is None:
                raise storage_error(self.path, failure) from failure
        finally:
            self.partial.unlink(missing_ok=True)


def is_store(path: str | Path) -> bool:
    """Whether a file is HDF5 by its first bytes or its name."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n" or path.suffix in (".h5", ".hdf5")
    except OSError:  # the reader reports a file that is missing or cannot be read
        return False


def open_store(path: str | Path) -> h5py.File:
    """Open a store for reading.

    Raises:
        DataError: the file is damaged or of another format, or a shard is missing or truncated.
            `halometry.datasets.index.verify_shards` checks every byte.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: is damaged or not an HDF5 file; make or copy it again") from error
    try:
        _check_content(Path(path), file)
        check_shards(Path(path), file)
    except DataError:
        file.close()
        raise
    return file


def _check_content(path: Path, file: h5py.File) -> None:
    try:
        check_header(file.attrs, "dataset", path)
    except FormatError as error:
        raise DataError(str(error)) from error
    shapes = [file[name].shape if name in file else None for name in ("images", "labels")]
    images, labels = shapes
    valid = images is not None and len(images) == 4 and labels == images[:1]
    if not valid or file.attrs.get("task") not in TASKS:
        raise DataError(
            f"{path}: images of shape {images} and labels of shape {labels} do not make a dataset;"
            " (N, C, H, W), (N,) and the attribute 'task' are expected"
        )


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """Attributes of a store as plain Python values."""
    attributes = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in file.attrs.items()
    }
    if "class_names" in attributes:
        attributes["class_names"] = [str(name) for name in attributes["class_names"]]
    return attributes


class ErrorLatchingFile(io.FileIO):
    """File that keeps its first write error and ignores all later writes.

    HDF5 cannot close a file that it cannot write to: it loses data without an error or prints many.
    So it is not told of a full disk, and the caller checks `failure`.

    Attributes:
        failure: the first error.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.failure is None:
            try:
                written = 0
                while written < len(view):
                    written += super().write(view[written:]) or 0
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""


def storage_error(path: Path, error: Exception) -> StorageError:
    """Return the error to raise for a file that cannot be written.

    Args:
        path: the file.
        error: what the system or HDF5 raised.
    """
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        reason = "the disk is full; free space or choose another place"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "no permission to write there; choose another place"
    else:
        reason = os.strerror(code) if code else " ".join(str(error).split())
    return StorageError(f"{path}: cannot be written: {reason}")
