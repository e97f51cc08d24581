"""Merge comparisons of networks with different numbers of epochs on the same test images.

    python research/merged.py runs/a/results.json runs/b/results.json --out results/both.json

`halometry compare` trains all its networks with one recipe. Networks with different numbers of
epochs have separate comparisons, which this script merges into one table: the networks in the order
of the files, each with the command of its comparison. A file may be merged itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from halometry.compare.schema import (
    ComparisonRecord,
    read_comparison_record,
    write_comparison_record,
)
from halometry.provenance import command


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path, help="results.json of `compare`")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    options = parser.parse_args()
    records = [read_comparison_record(path) for path in options.records]
    write_comparison_record(options.out, merge(records))


def merge(records: Sequence[ComparisonRecord]) -> ComparisonRecord:
    """Return one record with the networks of several.

    Raises:
        ValueError: they are not of the same test images.
    """
    first = records[0]
    for record in records:
        data = record.data.model_copy(update={"description": first.data.description})
        if (record.task, data, record.seed) != (first.task, first.data, first.seed):
            raise ValueError("the records differ in task, data or seed")
    models = [
        model.model_copy(
            update={"command": model.command or record.command, "date": model.date or record.date}
        )
        for record in records
        for model in record.models
    ]
    return first.model_copy(
        update={
            "date": max(record.date for record in records),
            "command": command(),
            "models": tuple(models),
            "differences": (),
            "best_minus_second": None,
            "conclusion": (),
        }
    )


if __name__ == "__main__":
    main()
