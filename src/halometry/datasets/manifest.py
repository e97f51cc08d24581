"""Manifest: the settings that a dataset is made with, and which of its shards are finished."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from halometry.datasets.index import list_shards
from halometry.datasets.shards import Shard, ShardRange, shard_folder
from halometry.datasets.store import is_store, open_store
from halometry.errors import DataError, StorageError, UsageError
from halometry.io import header, write_text

MANIFEST, CHECKSUMS, LOCK = "manifest.yaml", "SHA256SUMS", ".lock"
SHARD_NAME = re.compile(r"\d{5}\.h5")
PARTIAL_NAME = re.compile(r".+\.[0-9a-f]{8}\.partial")
MAX_DIFFERENCES_SHOWN = 3
MAX_VALUE_LENGTH = 40  # characters of a value in a message


class Manifest:
    """The folder of a dataset's shards, and `manifest.yaml` in it with the dataset's settings.

    A shard gets its name only when it is complete, so a process may be killed at any moment.

    Args:
        index: path of the dataset.
    """

    def __init__(self, index: Path) -> None:
        self.index, self.folder = index, shard_folder(index)
        self.path = self.folder / MANIFEST

    def check_foreign_files(self) -> None:
        """Check that no files of others are where the dataset is to be written.

        Raises:
            UsageError: there is an index without a manifest, or the folder has other files.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder}: is where the shards belong, but is a file")
        if self.path.exists():
            return
        if self.index.exists():
            raise UsageError(
                f"{self.index}: exists already; choose another --out or add --overwrite"
            )
        if not self.folder.exists():
            return
        foreign = [path.name for path in self.folder.iterdir() if not _is_own_file(path.name)]
        if foreign:
            raise UsageError(
                f"{self.folder}: is where the shards belong, but holds {foreign[0]};"
                " choose another --out"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder if needed, and lock it for this process; the lock ends with the process.

        Raises:
            UsageError: another process makes this dataset.
            StorageError: the folder cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be made ({error.strerror})") from error
        try:
            if not _lock_file(file):
                raise UsageError(
                    f"{self.index}: another process is making this set; wait for it, or choose"
                    " another --out"
                )
            yield
        finally:
            os.close(file)

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Write the settings of a new dataset, or compare them with those of an existing one.

        Raises:
            UsageError: the existing dataset has other settings.
        """
        text = yaml.safe_dump(header("manifest") | settings, sort_keys=False, allow_unicode=True)
        if not self.path.exists():
            self.clear()  # shards without a manifest may be of any dataset
            write_text(self.path, text)
            return
        try:
            existing = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(
                f"{self.path}: cannot be read; choose another --out or add --overwrite"
            ) from error
        if differences := _differences(existing, yaml.safe_load(text)):
            hidden = len(differences) - MAX_DIFFERENCES_SHOWN
            raise UsageError(
                f"{self.folder}: holds a set with {', '.join(differences[:MAX_DIFFERENCES_SHOWN])}"
                f"{f' and {hidden} more differences' if hidden > 0 else ''};"
                " choose another --out or add --overwrite"
            )

    def clear(self) -> None:
        """Remove the dataset, its manifest last; files of other kinds stay.

        Raises:
            UsageError: the index is not an HDF5 file.
            StorageError: no permission.
        """
        if self.index.exists() and not is_store(self.index):
            raise UsageError(f"{self.index}: is no store, and stays; choose another --out")
        files = [path for path in self.folder.iterdir() if _is_own_file(path.name)]
        files.sort(key=lambda path: path.name == MANIFEST)
        try:
            for path in (self.index, *files):
                if path.name != LOCK:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{error.filename}: cannot be removed ({error.strerror})") from error

    def remove_partial_files(self) -> None:
        """Remove unfinished files of processes that were killed."""
        beside = self.index.parent.glob("*.partial")
        partial_indices = [path for path in beside if path.name.startswith(f"{self.index.name}.")]
        for path in (*self.folder.iterdir(), *partial_indices):
            if PARTIAL_NAME.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()

    def finished_shards(self, plan: list[ShardRange]) -> dict[str, Shard]:
        """Shards of a plan that are finished, by their file.

        A shard that the index lists must have the size given there. Another one must be readable.
        """
        base, listed = self.index.parent, {shard.file: shard for shard in list_shards(self.index)}
        finished = {}
        for planned in plan:
            with suppress(OSError, DataError):
                shard = listed.get(planned.file)
                if shard is None:
                    open_store(base / planned.file).close()
                    finished[planned.file] = Shard.from_file(planned, base)
                elif (base / shard.file).stat().st_size == shard.bytes:
                    finished[planned.file] = shard
        return finished

    def write_checksums(self, shards: list[Shard]) -> None:
        """Write the checksums of all shards to `SHA256SUMS`, for the program `sha256sum`.

        Raises:
            StorageError: no room or no permission.
        """
        lines = [f"{shard.sha256}  {Path(shard.file).name}\n" for shard in shards]
        write_text(self.folder / CHECKSUMS, "".join(lines))


def _is_own_file(name: str) -> bool:
    own_names = (MANIFEST, CHECKSUMS, LOCK)
    return name in own_names or any(kind.fullmatch(name) for kind in (SHARD_NAME, PARTIAL_NAME))


def _lock_file(file: int) -> bool:
    """Lock an open file; False if another process has locked it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # a system, or a network file system, without locks
        pass
    return True


def _differences(existing: Any, wanted: Any) -> list[str]:
    """Differences between two nested settings, as text."""
    old, new = _flatten(existing), _flatten(wanted)
    return [
        f"{key} {_shorten(old.get(key, 'not set'))} (now {_shorten(new.get(key, 'not set'))})"
        for key in old | new
        if old.get(key) != new.get(key)
    ]


def _shorten(value: Any) -> str:
    return shorten(str(value), MAX_VALUE_LENGTH, placeholder=" ...")


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one mapping with keys such as `image.pixels`."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
