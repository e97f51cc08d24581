"""The project's own file of labeled images: HDF5, open to anyone with h5py."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from halometry import __version__
from halometry.config import TASKS, Task
from halometry.datasets.shards import check_shards
from halometry.errors import DataError, StorageError
from halometry.io import partial_path

FORMAT, FORMAT_VERSION = "halometry-store", 1


class StoreWriter:
    """Write a store piece by piece; it appears under its name only when it is whole.

    Args:
        path: the file to write.
        count: images in all.
        shape: (C, H, W) of an image.
        dtype: of the images, `int32` for counts.
        task: what the labels are: class indices or mass fractions.
        class_names: of a classification.
        attributes: anything else worth knowing, kept as HDF5 attributes.
        units: of the parameters, by name.
        compress: smaller, and several times slower to read.

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
        self._disk = ErrorLatchingFile(self.partial, "w+")
        self._file = h5py.File(self._disk, "w")
        packing: dict[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 1}
        self._images = self._file.create_dataset(
            "images",
            (self.count, *self.shape),
            self.dtype,
            **({"chunks": (1, *self.shape), **packing} if self.compress else {}),
        )
        label_type = "int64" if self.task == "classification" else "float64"
        self._labels = self._file.create_dataset("labels", (self.count,), label_type)
        self._file.create_group("parameters")
        self._parameters: dict[str, h5py.Dataset] = {}
        attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, "task": self.task}
        attributes |= {"halometry_version": __version__, **self.attributes}
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
        if self._disk.failure is not None:
            raise storage_error(self.path, self._disk.failure) from self._disk.failure

    def _new_parameter(self, name: str, like: np.ndarray) -> h5py.Dataset:
        shape = (self.count, *like.shape[1:])
        made = self._file["parameters"].create_dataset(name, shape, like.dtype, compression="gzip")
        made.attrs["unit"] = self.units.get(name, "")
        return made

    def _flush(self) -> None:
        """Give every dataset its place in the file in a fixed order.

        HDF5 places what is left of a dataset when its last handle goes, and Python lets go of
        one when it likes: a profiler or a debugger would change the bytes. So handles are kept.
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
            self._disk.close()
            if error is None:
                if self._disk.failure is not None:
                    raise self._disk.failure
                os.replace(self.partial, self.path)
        except OSError as failure:
            if error is None:
                raise storage_error(self.path, failure) from failure
        finally:
            self.partial.unlink(missing_ok=True)


def is_store(path: str | Path) -> bool:
    """Whether a path looks like an HDF5 file by its first bytes or its name."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n" or path.suffix in (".h5", ".hdf5")
    except OSError:  # no file, or one that may not be read: whoever reads it says so
        return False


def open_store(path: str | Path) -> h5py.File:
    """Open a store for reading.

    Raises:
        DataError: damaged, another kind of HDF5 file, or shards missing or cut short; whether
            every byte of them is right is for `halometry.datasets.index.verify` to say.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: is damaged or not an HDF5 file; make or copy it again") from error
    missing = [key for key in ("images", "labels") if key not in file]
    if file.attrs.get("format") != FORMAT or missing:
        file.close()
        raise DataError(f"{path}: is an HDF5 file of another kind, not a halometry store")
    images, labels = file["images"].shape, file["labels"].shape
    if len(images) != 4 or labels != images[:1] or file.attrs.get("task") not in TASKS:
        file.close()
        raise DataError(
            f"{path}: images of shape {images} and labels of shape {labels} do not make a store;"
            " (N, C, H, W), (N,) and the attribute 'task' are expected"
        )
    try:
        check_shards(Path(path), file)
    except DataError:
        file.close()
        raise
    return file


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes of a store as plain Python values."""
    plain = {}
    for key, value in file.attrs.items():
        plain[key] = value.item() if isinstance(value, np.generic) else value
    if "class_names" in plain:
        plain["class_names"] = [str(name) for name in plain["class_names"]]
    return plain


class ErrorLatchingFile(io.FileIO):
    """A file that remembers the first failure to write and takes everything after it in silence.

    HDF5 cannot close a file that it cannot write to: it would lose data without a word, or fill
    the screen. So it never learns of a full disk; who writes looks at `failure` instead.
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
        """Nothing to do: writes are not buffered."""


def storage_error(path: Path, error: Exception) -> StorageError:
    """What to tell a user whose file cannot be written."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        reason = "the disk is full; free space or choose another place"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "no permission to write there; choose another place"
    else:
        reason = os.strerror(code) if code else " ".join(str(error).split())
    return StorageError(f"{path}: cannot be written: {reason}")
