"""A user's own files, one after the other: what can be read and what cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from halometry.datasets.readers import (
    Image,
    image_from_array,
    is_readable,
    pixel_problem,
    read_image,
)
from halometry.datasets.store import is_store, open_store
from halometry.errors import DataError, ReadError, UsageError

ImageInput = str | Path | np.ndarray | Sequence[str | Path] | Sequence[np.ndarray]


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts 2 before 10.

    Example:
        >>> sorted(["10.npy", "2.npy"], key=natural)
        ['2.npy', '10.npy']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def find_files(path: Path) -> list[Path]:
    """The images and stores below a path, in natural order; a file is itself.

    Shards are left to the index beside their folder, which has all their images.
    """
    if not path.is_dir():
        return [path]
    visible = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    below = (p for p in visible if p.parent == path or not _in_an_index(p))
    found = [p for p in below if is_readable(p.name) or p.suffix in (".h5", ".hdf5")]
    return sorted(found, key=lambda p: natural_sort_key(str(p)))


def _in_an_index(file: Path) -> bool:
    folder = file.parent
    indices = (folder.with_suffix(suffix) for suffix in (".h5", ".hdf5"))
    return folder.suffix == ".shards" and any(index.is_file() for index in indices)


def count_images(paths: Sequence[str | Path]) -> int:
    """How many images `iter_images` will give; a file that cannot be read counts as one."""
    return sum(_count_stored(file) if is_store(file) else 1 for file in _unique_files(paths))


def _unique_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files below some paths, which may lie in each other."""
    found: dict[str, Path] = {}
    for path in paths:
        for file in find_files(Path(path)):
            found.setdefault(os.path.abspath(file), file)
    return list(found.values())


def _count_stored(file: Path) -> int:
    try:
        with open_store(file) as store:
            return len(store["labels"])
    except DataError:
        return 1


def read_inputs(given: ImageInput, channels: int) -> tuple[Iterator[Image | ReadError], int]:
    """The images that a user gives, and how many there are; for a bad one the error instead.

    Args:
        given: files, folders (searched through) and stores; or an array of one image, (H, W) or
            (C, H, W) with C 1 or 3, of several, (B, H, W) or (B, C, H, W), or a list of such
            images; PyTorch's arrays on the CPU do, too.
        channels: that images are to have: of one, three maps are three images; of three, one.

    Raises:
        DataError: there are none.
        UsageError: what is given is something else.
    """
    if _is_array(given):
        whole = np.asarray(given)
        given = [*whole] if _holds_several(whole, channels) else [whole]
        if not given:
            raise DataError("the array holds no images")
    if isinstance(given, str | Path):
        given = [given]
    if not isinstance(given, Iterable):
        raise UsageError(f"give paths of images or an array, not {type(given).__name__}")
    several = [*given]
    if several and all(map(_is_array, several)):
        return _from_arrays([np.asarray(array) for array in several]), len(several)
    paths = [Path(item) for item in several if isinstance(item, str | Path)]
    if len(paths) < len(several):
        raise UsageError("give paths of images, or arrays, but nothing else and not both")
    total = count_images(paths)
    if total == 0:
        raise DataError(f"{', '.join(map(str, paths)) or 'no path given'}: no images found")
    return iter_images(paths), total


def _is_array(item: object) -> bool:
    """Whether it can become an array of numbers; a column of paths cannot."""
    if not hasattr(item, "__array__"):
        return False
    try:
        return np.asarray(item).dtype.kind in "biuf"
    except (TypeError, RuntimeError) as error:  # of PyTorch's on a GPU, or with a gradient
        raise UsageError(f"cannot be read as an array of images: {error}") from error


def _holds_several(array: np.ndarray, channels: int) -> bool:
    if array.ndim != 3:
        return array.ndim == 4
    return array.shape[0] not in (1, channels) and array.shape[2] not in (1, 3)


def _from_arrays(arrays: list[np.ndarray]) -> Iterator[Image | ReadError]:
    for i, array in enumerate(arrays):
        try:
            yield image_from_array(array, f"array[{i}]")
        except ReadError as error:
            yield error


def iter_images(paths: Sequence[str | Path]) -> Iterator[Image | ReadError]:
    """Every image of files, folders and stores, once; for a bad file the error instead.

    Args:
        paths: files, folders (searched through), stores.
    """
    for file in _unique_files(paths):
        if is_store(file):
            yield from _from_store(file)
        else:
            try:
                yield read_image(file)
            except ReadError as error:
                yield error


def _from_store(file: Path) -> Iterator[Image | ReadError]:
    try:
        with open_store(file) as store:
            try:
                images, labels = store["images"], store["labels"][:]
            except (OSError, RuntimeError) as error:
                raise DataError(f"{file}: is damaged") from error
            masses = store.attrs.get("task") == "regression"
            mapped = store.attrs.get("mass_map_preset")
            for i, label in enumerate(labels):
                name = f"{file}#{i}"
                try:
                    pixels = np.asarray(images[i], dtype=np.float32)
                except (OSError, RuntimeError):
                    yield ReadError(name, "is damaged")
                    continue
                if (fault := pixel_problem(pixels)) is not None:
                    yield ReadError(name, fault)
                else:
                    yield Image(pixels, float(label) if masses else None, name, mapped)
    except DataError as error:
        yield ReadError(file, str(error).removeprefix(f"{file}: "))
