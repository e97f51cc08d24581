"""Reading and writing of files: headers, JSON, tables, atomic writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from halometry import __version__
from halometry.errors import FormatError, StorageError
from halometry.io import (
    FORMATS,
    atomic_write,
    check_header,
    check_writable,
    header,
    read_json,
    write_json,
    write_table,
)


@pytest.mark.parametrize("name", FORMATS)
def test_header_names_format_and_versions(name: str) -> None:
    assert header(name) == {
        "format": f"halometry-{name}",
        "format_version": FORMATS[name],
        "halometry_version": __version__,
    }


def test_header_is_accepted_as_text_and_from_any_halometry_version() -> None:
    check_header({"format": "halometry-ood", "format_version": "1"}, "ood", "a.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"a\.json: is not a halometry-run file \(it says: no format\)"),
        (header("split"), r"is not a halometry-run file \(it says: halometry-split\)"),
        (header("run") | {"format_version": 99}, "has format version 99, this .* version 1"),
    ],
)
def test_other_formats_and_versions_are_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        check_header(content, "run", "a.json")


def test_json_round_trip_starts_with_the_header(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, "split", {"seed": 1, "name": "Å"})
    assert read_json(path, "split") == header("split") | {"seed": 1, "name": "Å"}
    assert [*json.loads(path.read_text())][:3] == [*header("split")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[1]", "is not a halometry-split file"),
        ('{"format": "halometry-run", "format_version": 1}', "is not a halometry-split file"),
    ],
)
def test_invalid_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_json(path, "split")


def test_missing_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.json: cannot be read"):
        read_json(tmp_path / "a.json", "split")


def test_table_is_plain_csv_with_its_header_in_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_table(path, "history", ["step", "loss"], [[1, 0.5], {"loss": 0.25}, ["a,b", ""]])
    assert path.read_text() == 'step,loss\n1,0.5\n,0.25\n"a,b",\n'
    assert read_json(tmp_path / "a.csv.json", "history")["columns"] == ["step", "loss"]


def test_interrupted_write_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with (
        pytest.raises(StorageError, match=r"a\.txt: cannot be written \(No space left"),
        atomic_write(path) as partial,
    ):
        partial.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_check_writable_leaves_no_file(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a.txt")
    assert not list((tmp_path / "new").iterdir())


def test_check_writable_refuses_folders_and_files_as_folders(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder; give the name of a file"):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file, not a folder; choose another place"):
        check_writable(tmp_path / "file" / "a.txt")
