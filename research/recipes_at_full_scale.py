"""The published recipe and ours on the same test images, from runs that are finished.

    python research/recipes_at_full_scale.py --data masses.h5 \
        --baseline runs/published/regression_baseline --default runs/published/regression_default \
        --out results/regression_recipes.json

`research/published_comparison.py` makes the runs, each recipe in a folder of its own; this judges
those networks that both have, and says by how much they differ, image by image. One seed: intervals
hold the choice of test images, not that of the seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from recipes import HEAD, compared, row

import halometry
from halometry.provenance import command, provenance


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the set that all learnt from")
    parser.add_argument("--baseline", type=Path, required=True, help="a folder of `compare`")
    parser.add_argument("--default", type=Path, required=True, help="another, by our recipe")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    options = parser.parse_args()
    folders = {"baseline": options.baseline / "runs", "default": options.default / "runs"}
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders.values()]
    data = halometry.open_dataset(options.data)
    pairs: list[dict[str, Any]] = []
    for name in [name for name in names[0] if name in names[1]]:
        judged = {recipe: halometry.evaluate(of / name, data) for recipe, of in folders.items()}
        pairs.append(compared(data.task, name, judged))
    record = {
        "what": "the published recipe and ours on the same set and test images",
        "command": command(),
        **provenance(),
        "data": data.description,
        "test": len(judged["default"].truth),
        "pairs": pairs,
        "rows": [HEAD, *map(row, pairs)],
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(" | ".join(cells) for cells in record["rows"]))


if __name__ == "__main__":
    main()
