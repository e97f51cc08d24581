"""Comparisons of networks with different numbers of passes, on the same test images, as one.

    python research/merged.py runs/a/results.json runs/b/results.json --out results/both.json

`halometry compare` gives all its networks the same recipe. Where one had more passes than another,
each has a comparison of its own, and this puts them into one table: the networks in the order of
the files, each with the command that made it. A file may be one that was put together before.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from halometry.provenance import command

SAME = ("task", "data", "seed")  # of all that are put together


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path, help="result files of `compare`")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    options = parser.parse_args()
    records = [json.loads(path.read_text(encoding="utf-8")) for path in options.records]
    options.out.write_text(json.dumps(merged(records), indent=1) + "\n", encoding="utf-8")


def merged(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record with the models of several.

    Raises:
        ValueError: they are not of the same test images.
    """
    first = records[0]
    for key in SAME:
        if any(_told(record, key) != _told(first, key) for record in records):
            raise ValueError(f"the records differ in {key}")
    models = [
        {"command": record["command"], "date": record["date"]} | model
        for record in records
        for model in record["models"]
    ]
    kept = ("format", "version", *SAME, "recipe", "versions", "machine")
    return {
        **{key: first[key] for key in kept},
        "date": max(record["date"] for record in records),
        "command": command(),
        "models": models,
    }


def _told(record: dict[str, Any], key: str) -> Any:
    """What a record says, but for words that later versions say otherwise."""
    value = record[key]
    return {k: v for k, v in value.items() if k != "description"} if key == "data" else value


if __name__ == "__main__":
    main()
