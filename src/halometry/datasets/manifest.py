"""What a set in the making is to be, and which of its shards are finished."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from halometry.datasets.shards import Shard, checksum, shard_folder
from halometry.datasets.store import is_store, storage_error
from halometry.errors import StorageError, UsageError
from halometry.io import write_text

SETTINGS, SUMS, LOCK = "set.yaml", "SHA256SUMS", ".lock"
SHARD_NAME = re.compile(r"\d{5}\.h5")
PARTIAL = re.compile(r".+\.[0-9a-f]{8}\.partial")
SUM_LINE = re.compile(r"([0-9a-f]{64})  (\d{5}\.h5)")
NAMED = 3  # differences that a message lists
LONGEST = 40  # letters of a value in it


class Ledger:
    """The folder of a set's shards: `set.yaml` with its configuration, and `SHA256SUMS`.

    A shard is finished once its checksum is written down here, so that a process may be killed
    at any moment.

    Args:
        index: path of the set.
    """

    def __init__(self, index: Path) -> None:
        self.index, self.folder = index, shard_folder(index)

    def refuse_foreign(self) -> None:
        """Refuse files that are no set in the making, or a single store.

        Raises:
            UsageError: the index is there without a configuration, or the folder is another's.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder}: is where the shards belong, but is a file")
        if (self.folder / SETTINGS).exists():
            return
        if self.index.exists():
            raise UsageError(
                f"{self.index}: exists already; choose another --out or add --overwrite"
            )
        if not self.folder.exists():
            return
        strangers = [path.name for path in self.folder.iterdir() if not _is_ours(path.name)]
        if strangers:
            raise UsageError(
                f"{self.folder}: is where the shards belong, but holds {strangers[0]};"
                " choose another --out"
            )

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep the folder, which is made if need be, for this process; a kill releases it.

        Raises:
            UsageError: another process is making this set.
            StorageError: the folder cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be made ({error.strerror})") from error
        try:
            if not _take(lock):
                raise UsageError(
                    f"{self.index}: another process is making this set; wait for it, or choose"
                    " another --out"
                )
            yield
        finally:
            os.close(lock)

    def agree(self, settings: dict[str, Any]) -> None:
        """Write down what the set is to be, or make sure that this was written down earlier.

        Raises:
            UsageError: something else is there.
        """
        path = self.folder / SETTINGS
        if not path.exists():
            write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
            return
        try:
            there = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(
                f"{path}: cannot be read; choose another --out or add --overwrite"
            ) from error
        if differences := _differences(there, yaml.safe_load(yaml.safe_dump(settings))):
            more = len(differences) - NAMED
            raise UsageError(
                f"{self.folder}: holds a set with {', '.join(differences[:NAMED])}"
                f"{f' and {more} more differences' if more > 0 else ''};"
                " choose another --out or add --overwrite"
            )

    def clear(self) -> None:
        """Remove the set, its configuration last; files of other kinds stay.

        Raises:
            UsageError: the index is no store.
            StorageError: no permission.
        """
        if self.index.exists() and not is_store(self.index):
            raise UsageError(f"{self.index}: is no store, and stays; choose another --out")
        ours = [path for path in self.folder.iterdir() if _is_ours(path.name)]
        last = (SUMS, SETTINGS)
        ours.sort(key=lambda path: (path.name in last, path.name == SETTINGS))
        try:
            for path in (self.index, *ours):
                if path.name != LOCK:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{error.filename}: cannot be removed ({error.strerror})") from error

    def sweep(self) -> None:
        """Remove what a process that was killed had begun to write."""
        beside = self.index.parent.glob("*.partial")
        for path in [*self.folder.iterdir(), *beside]:
            of_index = path.name.startswith(f"{self.index.name}.")
            if PARTIAL.fullmatch(path.name) and (path.parent == self.folder or of_index):
                with suppress(OSError):
                    path.unlink()

    def verified(self, plan: list[Shard], seen: Callable[[Shard], None]) -> list[Shard]:
        """The finished ones among planned shards whose bytes are still what they were.

        Args:
            plan: file, start and count of each.
            seen: is told of each one that was looked at.
        """
        sums = self._sums()
        good = []
        for shard in plan:
            path = self.index.parent / shard.file
            with suppress(OSError):
                expected = sums.get(path.name)
                if expected is not None and checksum(path) == expected:
                    size = path.stat().st_size
                    good.append(Shard(shard.file, shard.start, shard.count, size, expected))
            seen(shard)
        return good

    def _sums(self) -> dict[str, str]:
        try:
            lines = (self.folder / SUMS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return {}
        found = [SUM_LINE.fullmatch(line) for line in lines]  # the last may be cut short
        return {match[2]: match[1] for match in found if match}

    def record(self, shard: Shard) -> None:
        """Note a shard as finished.

        Raises:
            StorageError: no room or no permission.
        """
        path = self.folder / SUMS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(_line(shard))
        except OSError as error:
            raise storage_error(path, error) from error

    def rewrite(self, shards: list[Shard]) -> None:
        """Write the checksums of these shards and of no others, in their order."""
        text = "".join(map(_line, shards))
        path = self.folder / SUMS
        if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
            write_text(path, text)


def _line(shard: Shard) -> str:
    return f"{shard.sha256}  {Path(shard.file).name}\n"


def _is_ours(name: str) -> bool:
    known = name in (SETTINGS, SUMS, LOCK)
    return known or any(kind.fullmatch(name) for kind in (SHARD_NAME, PARTIAL))


def _take(lock: int) -> bool:
    """Whether a lock could be had, or there are none on this system."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network's file system without locks
        return True
    return True


def _differences(there: Any, here: Any) -> list[str]:
    """What differs between two nested configurations, in words."""
    old, new = _flat(there), _flat(here)
    keys = [*old, *(key for key in new if key not in old)]
    return [
        f"{key} {_short(old.get(key, 'not set'))} (now {_short(new.get(key, 'not set'))})"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _short(value: Any) -> str:
    """A value on one line, though it may be a description."""
    return shorten(str(value), LONGEST, placeholder=" ...")


def _flat(values: Any, before: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {before: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{before}.{key}" if before else str(key))
    return flat
