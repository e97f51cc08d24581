"""One HDF5 file through which the shards of a set are read as if they were one."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
from h5py import h5d, h5p, h5s

from halometry.datasets.shards import (
    SHARDS_TABLE,
    Shard,
    checksum,
    read_shards,
    shard_base,
    shard_table,
)
from halometry.datasets.store import ErrorLatchingFile, open_store, read_attributes, storage_error
from halometry.errors import DataError
from halometry.io import atomic_write

SHARD_ATTRIBUTES = ("start", "test_from")  # attributes that a shard has for itself


def write_index(index: Path, shards: list[Shard], test_from: int) -> None:
    """Write the file that presents shards as one store, by HDF5's virtual datasets.

    Its bytes follow from the shards.

    Args:
        index: the file to write, beside the folder of the shards.
        shards: finished, in their order.
        test_from: number of the first image for testing.

    Raises:
        StorageError: no room or no permission; what was there is as it was.
    """
    with atomic_write(index) as partial:
        disk = ErrorLatchingFile(partial, "w+")
        with disk, h5py.File(disk, "w") as file, open_store(index.parent / shards[0].file) as one:
            kept = {key: value for key, value in one.attrs.items() if key not in SHARD_ATTRIBUTES}
            file.attrs.update(kept | {"test_from": test_from})
            for name in ("images", "labels", *(f"parameters/{key}" for key in one["parameters"])):
                _join(file, name, one[name], shards)
            file.create_dataset(SHARDS_TABLE, data=shard_table(shards))
        if disk.failure is not None:
            raise storage_error(index, disk.failure) from disk.failure


def _join(file: h5py.File, name: str, like: h5py.Dataset, shards: list[Shard]) -> None:
    """A virtual dataset over the datasets of this name in all shards."""
    each = like.shape[1:]
    whole = h5s.create_simple((sum(shard.count for shard in shards), *each))
    layout = h5p.create(h5p.DATASET_CREATE)  # h5py.VirtualLayout would write down the time
    layout.set_layout(h5d.VIRTUAL)
    layout.set_obj_track_times(False)
    for shard in shards:
        part, source = whole.copy(), h5s.create_simple((shard.count, *each))
        part.select_hyperslab((shard.start, *(0 for _ in each)), (shard.count, *each))
        path = shard.file.replace("%", "%%")  # HDF5 reads %b as the number of a block
        layout.set_virtual(part, os.fsencode(path), name.encode(), source)
    file.require_group(name.rpartition("/")[0] or "/")
    h5d.create(file.id, name.encode(), like.id.get_type(), whole, layout)
    file[name].attrs.update(like.attrs)


def is_index_of(index: Path, shards: list[Shard], test_from: int) -> bool:
    """Whether a file presents exactly these shards already."""
    try:
        with open_store(index) as file:
            found = read_shards(file), read_attributes(file).get("test_from")
    except DataError:
        return False
    return found == (shards, test_from)


def verify_shards(path: str | Path) -> int:
    """Compare every shard of a store with the checksum that the index has of it.

    Args:
        path: the index.

    Returns:
        How many shards were compared.

    Raises:
        DataError: a shard is missing or differs, or the store is a single file and has no
            checksums.

    Example:
        >>> verify("lenses.h5")  # doctest: +SKIP
        3
    """
    path = Path(path)
    with open_store(path) as file:
        shards = read_shards(file)
    if not shards:
        raise DataError(f"{path}: is a single file, without checksums to compare with")
    home = shard_base(path, shards)
    bad = [shard.file for shard in shards if checksum(home / shard.file) != shard.sha256]
    if bad:
        raise DataError(
            f"{path}: {len(bad)} of {len(shards)} shards are damaged ({', '.join(bad[:3])}"
            f"{', ...' if len(bad) > 3 else ''}); copy them again, or repeat the command that"
            " made the set"
        )
    return len(shards)
