"""Shards: the HDF5 files that a large dataset is divided into."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from halometry.errors import DataError

MAX_SHARDS = 200  # HDF5 may open all of them, and some systems allow 256 open files
SHARDS_TABLE = "shards"  # the dataset of the index that lists them


@dataclass(frozen=True)
class ShardRange:
    """A file of a dataset and the range of images that it holds.

    Attributes:
        file: path from the folder of the index, such as `lenses.shards/00000.h5`.
        start: number of the first image in the dataset.
        count: number of images.
    """

    file: str
    start: int
    count: int

    def first_test_image(self, test_from: int) -> int:
        """Number, within the shard, of its first test image; `count` if it has none.

        Args:
            test_from: number of the first test image in the dataset.
        """
        return min(max(test_from - self.start, 0), self.count)


@dataclass(frozen=True)
class Shard(ShardRange):
    """A finished file of a dataset.

    Attributes:
        bytes: size of the file.
        sha256: checksum of the file, in hexadecimal digits.
    """

    bytes: int
    sha256: str

    @classmethod
    def from_file(cls, shard: ShardRange, base: Path) -> Shard:
        """Return a shard with the size and the checksum of its file.

        Args:
            shard: the shard.
            base: folder of the index.
        """
        path = base / shard.file
        return cls(shard.file, shard.start, shard.count, path.stat().st_size, checksum(path))


def shard_folder(index: Path) -> Path:
    """Folder of the shards of an index, beside it.

    Example:
        >>> shard_folder(Path("sets/lenses.h5")).as_posix()
        'sets/lenses.shards'
    """
    return index.with_name(index.name.removesuffix(".h5").removesuffix(".hdf5") + ".shards")


def min_shard_size(count: int) -> int:
    """Smallest number of images in a shard with which a dataset has at most `MAX_SHARDS`."""
    return -(-count // MAX_SHARDS)


def plan_shards(index: Path, count: int, size: int) -> list[ShardRange]:
    """Divide a dataset into shards.

    Args:
        index: path of the dataset.
        count: number of images.
        size: images in each shard; the last may have fewer.
    """
    folder = shard_folder(index).name
    return [
        ShardRange(f"{folder}/{k:05d}.h5", start, min(size, count - start))
        for k, start in enumerate(range(0, count, size))
    ]


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_table(shards: list[Shard]) -> np.ndarray:
    """Table of shards, as the index keeps it: a column for each attribute."""
    names = [shard.file.encode() for shard in shards]
    columns = [("file", f"S{max(map(len, names))}"), ("start", "<i8"), ("count", "<i8"),
               ("bytes", "<i8"), ("sha256", "S64")]  # fmt: skip
    rows = [
        (name, shard.start, shard.count, shard.bytes, shard.sha256.encode())
        for name, shard in zip(names, shards, strict=True)
    ]
    return np.array(rows, dtype=columns)


def read_shards(file: h5py.File) -> list[Shard]:
    """Shards that an open store lists; none if it is a single file."""
    if SHARDS_TABLE not in file:
        return []
    return [
        Shard(
            file=row["file"].decode(),
            start=int(row["start"]),
            count=int(row["count"]),
            bytes=int(row["bytes"]),
            sha256=row["sha256"].decode(),
        )
        for row in file[SHARDS_TABLE][:]
    ]


def shard_base(index: Path, shards: list[Shard]) -> Path:
    """Folder that the paths of shards start from.

    It is the folder of the index. If the index is a symbolic link, it is the folder of the link or
    of its target, whichever has the shards; HDF5 looks in the same places.
    """
    beside = index.absolute().parent
    if shards and not (beside / shards[0].file).exists():
        return index.resolve().parent
    return beside


def check_shards(index: Path, file: h5py.File) -> None:
    """Check that the shards of a store exist and have their size; HDF5 would read zeros instead.

    Args:
        index: path of the store.
        file: the store, open.

    Raises:
        DataError: a shard is missing or has another size.
    """
    shards = read_shards(file)
    base = shard_base(index, shards)
    for shard in shards:
        path = base / shard.file
        if not path.parent.is_dir():
            raise DataError(
                f"{index}: its images are in the folder {Path(shard.file).parent}/, which is not"
                " beside it; move or copy the two together"
            )
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}), but {index} has images"
                f" {shard.start} to {shard.start + shard.count - 1} in it; copy or make it again"
            ) from error
        if size != shard.bytes:
            raise DataError(
                f"{path}: has {size:,} bytes where {index} expects {shard.bytes:,};"
                " copy or make it again"
            )
