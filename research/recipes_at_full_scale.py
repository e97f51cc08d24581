"""Comparison of the baseline and the default recipe on the same test images, from finished runs.

    python research/recipes_at_full_scale.py --data masses.h5 \
        --baseline runs/published/regression_baseline --default runs/published/regression_default \
        --out results/regression_recipes.json

`research/published_comparison.py` makes the runs, each recipe in a folder of its own. This script
evaluates the networks that both folders have, and their paired differences. There is one seed, so
intervals cover the choice of test images, not that of the seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from recipes import HEAD, compare_recipes, table_row

import halometry
from halometry.io import header
from halometry.provenance import command, provenance


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the training set of all runs")
    parser.add_argument("--baseline", type=Path, required=True, help="a folder of `compare`")
    parser.add_argument(
        "--default", type=Path, required=True, help="another one, with the default recipe"
    )
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    options = parser.parse_args()
    folders = {"baseline": options.baseline / "runs", "default": options.default / "runs"}
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders.values()]
    data = halometry.open_dataset(options.data)
    pairs: list[dict[str, Any]] = []
    for name in [name for name in names[0] if name in names[1]]:
        evaluations = {
            recipe: halometry.evaluate(folder / name, data) for recipe, folder in folders.items()
        }
        pairs.append(compare_recipes(data.task, name, evaluations))
    record = {
        **header("measurement"),
        "what": "the baseline and the default recipe on the same set and test images",
        "command": command(),
        **provenance(),
        "data": data.description,
        "test": len(evaluations["default"].truth),
        "pairs": pairs,
        "rows": [HEAD, *map(table_row, pairs)],
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(" | ".join(cells) for cells in record["rows"]))


if __name__ == "__main__":
    main()
