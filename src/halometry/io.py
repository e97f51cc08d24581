"""Files that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError

from halometry.errors import StorageError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` only once all is written.

    Raises:
        StorageError: no room or no permission; `path` is as it was before.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{path}: cannot be written ({reason}); free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def partial_path(path: Path) -> Path:
    """Where `path` is written until it is whole; another for each who writes."""
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")


def write_text(path: Path, content: str) -> None:
    """Write a whole file or nothing.

    Raises:
        StorageError: no room or no permission.
    """
    with atomic_write(path) as partial:
        partial.write_text(content, encoding="utf-8")


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]
) -> None:
    """Write a whole CSV file or nothing.

    Args:
        path: the file.
        columns: their names.
        rows: cells in that order, or by column; what a row has nothing in stays empty.

    Raises:
        StorageError: no room or no permission.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(name, "") for name in columns] if isinstance(row, Mapping) else row
        writer.writerow(cells)
    write_text(path, text.getvalue())


def check_writable(path: Path) -> None:
    """Find out before the work whether its result can be written to `path`.

    Raises:
        StorageError: no permission, a folder where a file should be, or no room at all.
    """
    if path.is_dir():
        raise StorageError(f"{path}: is a folder; give the name of a file")
    if path.parent.is_file():
        raise StorageError(f"{path.parent}: is a file, not a folder; choose another place")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_path(path)
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error
