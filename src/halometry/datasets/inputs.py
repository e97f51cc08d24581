"""Images that a user gives: files, folders, stores and arrays, one after the other."""

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
    """Key that sorts names by the numbers in them, 2 before 10.

    Example:
        >>> sorted(["10.npy", "2.npy"], key=natural_sort_key)
        ['2.npy', '10.npy']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def find_files(path: Path) -> list[Path]:
    """Find the images and stores below a folder, in natural order; a file is returned as it is.

    Shards are left out if their index is beside their folder: it has all their images.
    """
    if not path.is_dir():
        return [path]
    visible = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    files = [
        p
        for p in visible
        if (is_readable(p.name) or p.suffix in (".h5", ".hdf5"))
        and (p.parent == path or not _is_indexed_shard(p))
    ]
    return sorted(files, key=lambda p: natural_sort_key(str(p)))


def _is_indexed_shard(file: Path) -> bool:
    folder = file.parent
    indices = (folder.with_suffix(suffix) for suffix in (".h5", ".hdf5"))
    return folder.suffix == ".shards" and any(index.is_file() for index in indices)


def count_images(paths: Sequence[str | Path]) -> int:
    """Number of images that `iter_images` yields; a file that cannot be read counts as one."""
    return sum(_count_stored(file) if is_store(file) else 1 for file in _unique_files(paths))


def _unique_files(paths: Sequence[str | Path]) -> list[Path]:
    """Files below paths, each once; a path may be inside another."""
    files: dict[str, Path] = {}
    for path in paths:
        for file in find_files(Path(path)):
            files.setdefault(os.path.abspath(file), file)
    return list(files.values())


def _count_stored(file: Path) -> int:
    try:
        with open_store(file) as store:
            return len(store["labels"])
    except DataError:
        return 1


def read_inputs(inputs: ImageInput, channels: int) -> tuple[Iterator[Image | ReadError], int]:
    """Read the images that a user gives.

    Args:
        inputs: files, folders (searched recursively) and stores; or an array of one image, (H, W)
            or (C, H, W) with C 1 or 3, or of several images, (B, H, W) or (B, C, H, W); or a list
            of such images. Tensors on the CPU are taken as arrays.
        channels: number of channels of an image, which decides whether an array (3, H, W) is
            three images or one.

    Returns:
        Iterator over the images, with an error instead of an image that cannot be read; and the
        number of images.

    Raises:
        DataError: there are no images.
        UsageError: `inputs` is something else.
    """
    if _is_array(inputs):
        array = np.asarray(inputs)
        inputs = [*array] if _has_several_images(array, channels) else [array]
        if not inputs:
            raise DataError("the array holds no images")
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    if not isinstance(inputs, Iterable):
        raise UsageError(f"give paths of images or an array, not {type(inputs).__name__}")
    items = [*inputs]
    if items and all(map(_is_array, items)):
        return _from_arrays([np.asarray(item) for item in items]), len(items)
    paths = [Path(item) for item in items if isinstance(item, str | Path)]
    if len(paths) < len(items):
        raise UsageError("give paths of images, or arrays, but nothing else and not both")
    total = count_images(paths)
    if total == 0:
        raise DataError(f"{', '.join(map(str, paths)) or 'no path given'}: no images found")
    return iter_images(paths), total


def _is_array(item: object) -> bool:
    """Whether an object is an array of numbers, or can be converted to one."""
    if not hasattr(item, "__array__"):
        return False
    try:
        return np.asarray(item).dtype.kind in "biuf"
    except (TypeError, RuntimeError) as error:  # a tensor on a GPU, or with a gradient
        raise UsageError(f"cannot be read as an array of images: {error}") from error


def _has_several_images(array: np.ndarray, channels: int) -> bool:
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
    """Read the images of files, folders and stores, each once.

    Args:
        paths: files, folders (searched recursively) and stores.

    Yields:
        Each image, or the error if it cannot be read.
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
            is_regression = store.attrs.get("task") == "regression"
            mass_map_preset = store.attrs.get("mass_map_preset")
            for i, label in enumerate(labels):
                name = f"{file}#{i}"
                try:
                    pixels = np.asarray(images[i], dtype=np.float32)
                except (OSError, RuntimeError):
                    yield ReadError(name, "is damaged")
                    continue
                if (problem := pixel_problem(pixels)) is not None:
                    yield ReadError(name, problem)
                else:
                    mass_fraction = float(label) if is_regression else None
                    yield Image(pixels, mass_fraction, name, mass_map_preset)
    except DataError as error:
        yield ReadError(file, str(error).removeprefix(f"{file}: "))
