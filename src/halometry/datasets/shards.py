"""The files that a large set is divided into, as its index lists them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from halometry.errors import DataError

SHARDS_TABLE = "shards"  # the dataset of the index that lists them


@dataclass(frozen=True)
class Shard:
    """A finished file of a set.

    Attributes:
        file: its path from the folder of the index, such as `lenses.shards/00000.h5`.
        start: number of its first image in the set.
        count: its images.
        bytes: its size.
        sha256: of its bytes, in hexadecimal digits.
    """

    file: str
    start: int
    count: int
    bytes: int
    sha256: str

    def written(self, home: Path) -> Shard:
        """The same with size and checksum of its file, which is there by now.

        Args:
            home: the folder of the index.
        """
        path = home / self.file
        return replace(self, bytes=path.stat().st_size, sha256=checksum(path))

    def test_from(self, of_the_set: int) -> int:
        """Number within the shard of its first image for testing; its images if it has none."""
        return min(max(of_the_set - self.start, 0), self.count)


def shard_folder(index: Path) -> Path:
    """Where the shards of an index lie: beside it.

    Example:
        >>> shard_folder(Path("sets/lenses.h5")).as_posix()
        'sets/lenses.shards'
    """
    return index.with_name(index.name.removesuffix(".h5").removesuffix(".hdf5") + ".shards")


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_table(shards: list[Shard]) -> np.ndarray:
    """Shards as a table with a column for each of their attributes."""
    names = [shard.file.encode() for shard in shards]
    columns = [("file", f"S{max(map(len, names))}"), ("start", "<i8"), ("count", "<i8"),
               ("bytes", "<i8"), ("sha256", "S64")]  # fmt: skip
    rows = [
        (name, shard.start, shard.count, shard.bytes, shard.sha256.encode())
        for name, shard in zip(names, shards, strict=True)
    ]
    return np.array(rows, dtype=columns)


def read_shards(file: h5py.File) -> list[Shard]:
    """The shards that an open store lists; none if it is a single file."""
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
    """The folder that the shards' paths start from; HDF5 looks in the same places.

    It is the index's own; of an index that is a symbolic link, the link's or the target's.
    """
    beside = index.absolute().parent
    if shards and not (beside / shards[0].file).exists():
        return index.resolve().parent
    return beside


def check_shards(index: Path, file: h5py.File) -> None:
    """Notice shards that are missing or cut short, for which HDF5 would read zeros.

    Args:
        index: path of the store.
        file: the same, open.

    Raises:
        DataError: naming the first such shard.
    """
    shards = read_shards(file)
    home = shard_base(index, shards)
    for shard in shards:
        path = home / shard.file
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
