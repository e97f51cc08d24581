"""Cache of datasets in folders: their files, packed into one store."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_cache_dir

from halometry.config import Task
from halometry.datasets.readers import Image, read_image
from halometry.datasets.store import StoreWriter, open_store
from halometry.errors import DataError, ReadError, StorageError
from halometry.log import logger, track

MAX_FILES_PROBED = 20  # to find the shape of the images
IMAGES_PER_WRITE = 256
STALE_AFTER_SECONDS = 24 * 3600
CACHE_VERSION = "2"  # version of the packing; files of other versions are not used


@dataclass(frozen=True)
class CacheInfo:
    """Path of the cache and its size in bytes."""

    path: str
    bytes: int


def cache_folder() -> Path:
    """Folder of the cache: `$HALOMETRY_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("HALOMETRY_CACHE") or user_cache_dir("halometry"))


def cache_info() -> CacheInfo:
    """Return the path of the cache and its size."""
    folder, size = cache_folder(), 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process may have removed it
            size += path.stat().st_size if path.is_file() else 0
    return CacheInfo(str(folder), size)


@contextmanager
def explained_cache_errors() -> Iterator[None]:
    """Add to a StorageError that the file is in the cache, and how to move the cache."""
    try:
        yield
    except StorageError as error:
        raise StorageError(
            f"the cache {error}, or set HALOMETRY_CACHE to a folder with room"
        ) from error


def _remove_stale_files() -> None:
    """Remove partial files that are a day old; the processes that wrote them were killed."""
    for path in cache_folder().glob("packed-*.partial"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_AFTER_SECONDS:
                path.unlink()


@dataclass(frozen=True)
class FileEntry:
    """File of a dataset in a folder.

    Attributes:
        name: path from the root of the dataset.
        label: class index, or -1.
        size: size in bytes.
        changed: time of the last change, in nanoseconds.
    """

    name: str
    label: int
    size: int
    changed: int


def cache_key(root: Path, entries: Sequence[FileEntry]) -> str:
    """Hash that changes when a file is added, removed, renamed or changed."""
    listing = hashlib.sha256(f"{CACHE_VERSION}\n{root.resolve()}\n".encode())
    for entry in entries:
        listing.update(f"{entry.name}\0{entry.label}\0{entry.size}\0{entry.changed}\n".encode())
    return listing.hexdigest()[:16]


def pack_files(root: Path, entries: Sequence[FileEntry], task: Task) -> Path:
    """Pack files into a store in the cache, unless it exists.

    Args:
        root: folder of the dataset.
        entries: its files.
        task: type of the labels; for `regression` they are read from the files.

    Returns:
        Path of the store.

    Raises:
        DataError: a file cannot be read, or the images have different shapes.
        StorageError: the cache cannot be written.
    """
    store = cache_folder() / f"packed-{cache_key(root, entries)}.h5"
    if store.is_file():
        try:
            open_store(store).close()
            return store
        except DataError:
            store.unlink()  # damaged, or of an older format
    _remove_stale_files()
    with explained_cache_errors():
        _pack(store, root, entries, task)
    return store


def _pack(store: Path, root: Path, entries: Sequence[FileEntry], task: Task) -> None:
    reference = _reference_image(root, entries)
    bad: list[ReadError] = []
    writer = StoreWriter(
        store,
        count=len(entries),
        shape=reference.pixels.shape,
        dtype="float32",
        task=task,
        compress=False,
    )
    with writer, track(f"packing {root}", len(entries)) as progress:
        for start in range(0, len(entries), IMAGES_PER_WRITE):
            part = entries[start : start + IMAGES_PER_WRITE]
            images = np.zeros((len(part), *reference.pixels.shape), np.float32)
            labels = np.zeros(len(part), np.float64 if task == "regression" else np.int64)
            for i, entry in enumerate(part):
                try:
                    image = read_image(root / entry.name)
                    _check_image(image, reference, task)
                except ReadError as error:
                    bad.append(error)
                    continue
                images[i] = image.pixels  # a gray image is repeated if the others have color
                label = image.label if task == "regression" else entry.label
                labels[i] = entry.label if label is None else label
            writer.write(start, images, labels)
            progress.advance(len(part))
        if bad:
            raise DataError(_bad_files_message(bad))
    logger.info(
        f"packed {len(entries):,} files of {root} once, into the cache; they are not read again"
    )


def _bad_files_message(bad: list[ReadError]) -> str:
    more = f" (and {len(bad) - 1} more bad files)" if len(bad) > 1 else ""
    return f"{bad[0]}{more}; correct or remove it and try again"


def _reference_image(root: Path, entries: Sequence[FileEntry]) -> Image:
    """Image whose shape the others must have: the first that is readable, if possible in color."""
    bad: list[ReadError] = []
    reference: Image | None = None
    everywhere = entries[
        :: max(1, len(entries) // MAX_FILES_PROBED)
    ]  # classes come one after the other
    for entry in everywhere[:MAX_FILES_PROBED]:
        try:
            image = read_image(root / entry.name)
        except ReadError as error:
            bad.append(error)
            continue
        if reference is None or len(image.pixels) > len(reference.pixels):
            reference = image
        if len(reference.pixels) == 3:
            break
    if reference is None:
        raise DataError(_bad_files_message(bad))
    return reference


def _check_image(image: Image, reference: Image, task: Task) -> None:
    channels, *size = reference.pixels.shape
    if len(image.pixels) not in (1, channels) or list(image.pixels.shape[1:]) != size:
        raise ReadError(
            image.path,
            f"has shape {image.pixels.shape}, but {reference.path} has {reference.pixels.shape};"
            " all images of a set must have one shape",
        )
    if task == "regression" and image.label is None:
        raise ReadError(image.path, "carries no mass fraction, other files of the folder do")
