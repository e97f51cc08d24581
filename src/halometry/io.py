"""Writing and reading of files: writes are atomic, and every file names its format.

Every file that halometry writes carries the keys `format`, `format_version` and
`halometry_version`; see `header`.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError

from halometry import __version__
from halometry.errors import FormatError, StorageError

FORMATS = {  # version of each format, raised by changes that older code cannot read
    "run": 1,
    "split": 1,
    "lineage": 1,
    "conformal": 1,
    "ood": 1,
    "weights": 1,
    "training": 1,
    "history": 1,
    "dataset": 1,
    "manifest": 1,
    "predictions": 1,
    "evaluation": 1,
    "comparison": 1,
    "fits": 1,
    "robustness": 1,
    "attribution": 1,
    "sensitivity": 1,
    "population": 1,
    "onnx": 1,
    "measurement": 1,
}
PREFIX = "halometry-"
HEADER_KEYS = ("format", "format_version", "halometry_version")


def header(name: str) -> dict[str, Any]:
    """Keys that name the format of a file and the version that wrote it.

    Args:
        name: format, one of `FORMATS`.

    Example:
        >>> header("run")["format"], header("run")["format_version"]
        ('halometry-run', 1)
    """
    return {
        "format": f"{PREFIX}{name}",
        "format_version": FORMATS[name],
        "halometry_version": __version__,
    }


def check_header(content: Mapping[str, Any], name: str, where: str | Path) -> None:
    """Check that a file has a format and the version of it that this package reads.

    Args:
        content: keys of the file; values may be text, as in the metadata of safetensors files.
        name: expected format, one of `FORMATS`.
        where: the file, for the message.

    Raises:
        FormatError: it has another format or version.
    """
    expected = header(name)
    if content.get("format") != expected["format"]:
        found = content.get("format", "no format")
        raise FormatError(f"{where}: is not a {expected['format']} file (it says: {found})")
    if str(content.get("format_version")) != str(expected["format_version"]):
        raise FormatError(
            f"{where}: has format version {content.get('format_version')}, this halometry reads"
            f" version {expected['format_version']}"
        )


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context with a temporary path that replaces `path` at its end, unless an error is raised.

    Raises:
        StorageError: no room or no permission; `path` is unchanged.
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
    """Temporary path beside `path`, different in each call."""
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")


def write_text(path: Path, content: str) -> None:
    """Write a text file, atomically.

    Raises:
        StorageError: no room or no permission.
    """
    with atomic_write(path) as partial:
        partial.write_text(content, encoding="utf-8")


def write_json(path: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file that begins with its `header`.

    Args:
        path: the file.
        name: format, one of `FORMATS`.
        content: other keys.

    Raises:
        StorageError: no room or no permission.
    """
    write_text(path, json.dumps(header(name) | dict(content), indent=1) + "\n")


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON file that `write_json` wrote.

    Raises:
        FormatError: it cannot be read, or has another format or version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise FormatError(f"{path}: is not a {PREFIX}{name} file")
    check_header(content, name, path)
    return content


def write_table(
    path: Path,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any] | Mapping[str, Any]],
) -> None:
    """Write a CSV file, and its `header` to a JSON file beside it: `NAME.csv` and `NAME.csv.json`.

    Args:
        path: the CSV file.
        name: format, one of `FORMATS`.
        columns: names of the columns, the first line of the file.
        rows: cells in the order of the columns, or by name; missing ones stay empty.

    Raises:
        StorageError: no room or no permission.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(column, "") for column in columns] if isinstance(row, Mapping) else row
        writer.writerow(cells)
    write_text(path, text.getvalue())
    write_json(path.with_name(f"{path.name}.json"), name, {"columns": list(columns)})


def check_writable(path: Path) -> None:
    """Check that a file can be written, before the work that makes its content.

    Raises:
        StorageError: no permission, no room, or the path is a folder.
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
