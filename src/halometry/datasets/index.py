"""Index: the HDF5 file through which the shards of a dataset are read as one store."""

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
from halometry.datasets.store import ErrorLatchingFile, open_store, storage_error
from halometry.errors import DataError
from halometry.io import atomic_write

SHARD_ATTRIBUTES = ("start", "test_from")  # these differ between shards


def write_index(index: Path, shards: list[Shard], test_from: int) -> None:
    """Write a file that presents shards as one store, through HDF5's virtual datasets.

    Its bytes depend on the shards only.

    Args:
        index: the file to write, beside the folder of the shards.
        shards: finished shards, in order.
        test_from: number of the first test image.

    Raises:
        StorageError: no room or no permission; an earlier file is unchanged.
    """
    with atomic_write(index) as partial:
        target = ErrorLatchingFile(partial, "w+")
        first_path = index.parent / shards[0].file
        with target, h5py.File(target, "w") as file, open_store(first_path) as first:
            common = {k: v for k, v in first.attrs.items() if k not in SHARD_ATTRIBUTES}
            file.attrs.update(common | {"test_from": test_from})
            for name in ("images", "labels", *(f"parameters/{k}" for k in first["parameters"])):
                _write_virtual_dataset(file, name, first[name], shards)
            file.create_dataset(SHARDS_TABLE, data=shard_table(shards))
        if target.failure is not None:
            raise storage_error(index, target.failure) from target.failure


def _write_virtual_dataset(
    file: h5py.File, name: str, like: h5py.Dataset, shards: list[Shard]
) -> None:
    """Write a dataset that presents the datasets of this name in all shards."""
    item_shape = like.shape[1:]
    whole = h5s.create_simple((sum(shard.count for shard in shards), *item_shape))
    layout = h5p.create(h5p.DATASET_CREATE)  # h5py.VirtualLayout would write the time
    layout.set_layout(h5d.VIRTUAL)
    layout.set_obj_track_times(False)
    for shard in shards:
        part, source = whole.copy(), h5s.create_simple((shard.count, *item_shape))
        part.select_hyperslab((shard.start, *(0 for _ in item_shape)), (shard.count, *item_shape))
        path = shard.file.replace("%", "%%")  # HDF5 reads %b as the number of a block
        layout.set_virtual(part, os.fsencode(path), name.encode(), source)
    file.require_group(name.rpartition("/")[0] or "/")
    h5d.create(file.id, name.encode(), like.id.get_type(), whole, layout)
    file[name].attrs.update(like.attrs)


def list_shards(index: Path) -> list[Shard]:
    """Shards that an index lists, whether or not they exist; none if it cannot be read."""
    try:
        with h5py.File(index, "r") as file:
            return read_shards(file)
    except OSError:
        return []


def verify_shards(path: str | Path) -> int:
    """Compare every shard of a store with its checksum in the index.

    Args:
        path: the index.

    Returns:
        Number of shards.

    Raises:
        DataError: a shard is missing or differs, or the store is a single file without checksums.

    Example:
        >>> verify_shards("lenses.h5")  # doctest: +SKIP
        3
    """
    path = Path(path)
    with open_store(path) as file:
        shards = read_shards(file)
    if not shards:
        raise DataError(f"{path}: is a single file, without checksums to compare with")
    base = shard_base(path, shards)
    damaged = [shard.file for shard in shards if checksum(base / shard.file) != shard.sha256]
    if damaged:
        raise DataError(
            f"{path}: {len(damaged)} of {len(shards)} shards are damaged"
            f" ({', '.join(damaged[:3])}{', ...' if len(damaged) > 3 else ''}); copy them again, or"
            " delete them and repeat the command that made the set"
        )
    return len(shards)
