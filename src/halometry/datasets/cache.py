"""Many small files packed once into a store beside the user's caches."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_cache_dir

from halometry.config import Task
from halometry.datasets.readers import Image, read_image
from halometry.datasets.store import StoreWriter, open_store
from halometry.errors import DataError, ReadError, StorageError
from halometry.log import logger, track

MAX_FILES_PROBED = 20  # files that may tell what a set is like
IMAGES_PER_WRITE = 256  # images written at a time
STALE_AFTER_SECONDS = 24 * 3600  # seconds
CACHE_VERSION = "2"  # of the packing: a change makes old caches unused


@dataclass(frozen=True)
class CacheInfo:
    """Where the cache is and how much it holds, in bytes."""

    path: str
    bytes: int


def cache_folder() -> Path:
    """`$HALOMETRY_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("HALOMETRY_CACHE") or user_cache_dir("halometry"))


def cache_info() -> CacheInfo:
    """Where the cache is and how much it holds."""
    folder = cache_folder()
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return CacheInfo(str(folder), size)


def _remove_stale_files() -> None:
    """Remove what was left half-packed by a process that was killed, a day ago or more."""
    for path in cache_folder().glob("packed-*.partial"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_AFTER_SECONDS:
                path.unlink()


@dataclass(frozen=True)
class FileEntry:
    """A file of a set: its path below the root, class index or -1, size and time of change."""

    name: str
    label: int
    size: int
    changed: int


def cache_key(root: Path, entries: Sequence[FileEntry]) -> str:
    """Changes when a file is added, removed, renamed or written anew."""
    listing = hashlib.sha256(f"{CACHE_VERSION}\n{root.resolve()}\n".encode())
    for entry in entries:
        listing.update(f"{entry.name}\0{entry.label}\0{entry.size}\0{entry.changed}\n".encode())
    return listing.hexdigest()[:16]


def pack_files(root: Path, entries: Sequence[FileEntry], task: Task) -> Path:
    """The store that holds the images of these files; they are read only if it is not there.

    Args:
        root: folder of the set.
        entries: its files.
        task: `regression` takes the labels that the files carry.

    Raises:
        DataError: a bad file (named, with the reason, and how many more), or mixed shapes.
        StorageError: the cache cannot be written.
    """
    store = cache_folder() / f"packed-{cache_key(root, entries)}.h5"
    if store.is_file():
        try:
            open_store(store).close()
            return store
        except DataError:
            store.unlink()  # half-written by an older program, or damaged
    _remove_stale_files()
    try:
        _pack(store, root, entries, task)
    except StorageError as error:
        raise StorageError(
            f"the cache {error}, or set HALOMETRY_CACHE to a folder with room"
        ) from error
    return store


def _pack(store: Path, root: Path, entries: Sequence[FileEntry], task: Task) -> None:
    first = _reference_image(root, entries)
    bad: list[ReadError] = []
    by_folder = task == "classification"
    writer = StoreWriter(
        store,
        count=len(entries),
        shape=first.pixels.shape,
        dtype="float32",
        task=task,
        compress=False,
    )
    with writer, track(f"packing {root}", len(entries)) as progress:
        for start in range(0, len(entries), IMAGES_PER_WRITE):
            part = entries[start : start + IMAGES_PER_WRITE]
            images = np.zeros((len(part), *first.pixels.shape), np.float32)
            labels = np.zeros(len(part), np.float64 if task == "regression" else np.int64)
            for i, entry in enumerate(part):
                try:
                    image = read_image(root / entry.name)
                    _check(image, first, task)
                except ReadError as error:
                    bad.append(error)
                    continue
                images[i] = image.pixels  # a gray one is repeated where the set has color
                labels[i] = entry.label if image.label is None or by_folder else image.label
            writer.write(start, images, labels)
            progress.advance(len(part))
        if bad:
            raise DataError(_bad_files_message(bad))
    logger.info(
        f"packed {len(entries):,} files of {root} once, into the cache; they are not read again"
    )


def _bad_files_message(bad: list[ReadError]) -> str:
    more = f" (and {len(bad) - 1} more bad files)" if len(bad) > 1 else ""
    return f"{bad[0]}{more}; mend or remove it and try again"


def _reference_image(root: Path, entries: Sequence[FileEntry]) -> Image:
    """The first image that can be read, one with color rather: the others must be like it."""
    bad: list[ReadError] = []
    found: Image | None = None
    everywhere = entries[
        :: max(1, len(entries) // MAX_FILES_PROBED)
    ]  # classes come one after the other
    for entry in everywhere[:MAX_FILES_PROBED]:
        try:
            image = read_image(root / entry.name)
        except ReadError as error:
            bad.append(error)
            continue
        if found is None or len(image.pixels) > len(found.pixels):
            found = image
        if len(found.pixels) == 3:
            break
    if found is None:
        raise DataError(_bad_files_message(bad))
    return found


def _check(image: Image, first: Image, task: Task) -> None:
    channels, *size = first.pixels.shape
    if len(image.pixels) not in (1, channels) or list(image.pixels.shape[1:]) != size:
        raise ReadError(
            image.path,
            f"has shape {image.pixels.shape}, but {first.path} has {first.pixels.shape};"
            " all images of a set must have one shape",
        )
    if task == "regression" and image.label is None:
        raise ReadError(image.path, "carries no mass fraction, other files of the folder do")
