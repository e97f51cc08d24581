"""Rewrite files of the formats used before the first release in the current formats.

    python research/migrate_formats.py src/halometry/runs/weights/*/*
    python research/migrate_formats.py results/*.json

A folder is taken for a run folder, a file for a result file. Only names, keys and the layout
change; numbers and the tensors' bytes stay. Files in the current format are left as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from halometry.io import write_json


def migrate_run(folder: Path) -> None:
    """Rewrite all files of a run folder."""
    _migrate_split(folder / "split.json")
    _migrate_lineage(folder / "earlier.json")


def _migrate_split(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    if "format" not in content:
        write_json(path, "split", _split(content))


def _migrate_lineage(path: Path) -> None:
    if not path.is_file():
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    datasets = [
        {"data": entry["data"], "split": _split(json.loads(entry["split"]))} for entry in content
    ]
    write_json(path.with_name("lineage.json"), "lineage", {"datasets": datasets})
    path.unlink()


def _split(content: dict[str, Any]) -> dict[str, Any]:
    return {"seed": content["seed"], "parts": content["images"]}


def migrate_result(path: Path) -> None:
    """Rewrite a result file."""
    raise NotImplementedError(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="run folders and result files")
    for path in parser.parse_args().paths:
        if path.is_dir():
            migrate_run(path)
        else:
            migrate_result(path)


if __name__ == "__main__":
    main()
