"""The dataset that tests of interrupted simulations make and continue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halometry.datasets.generate import simulate

PRESET, COUNT, SEED, SHARD = "demo_mass", 200, 3, 32
OPTIONS: dict[str, Any] = {"seed": SEED, "shard_size": SHARD, "n_test": 20}


def again(out: Path, count: int = COUNT, **changed: Any) -> Path:
    """Make the dataset, or continue it."""
    return simulate(PRESET, count, out=out, **(OPTIONS | changed))


def content(index: Path) -> dict[str, bytes]:
    """Bytes of all files of a dataset."""
    files = [index, *index.with_suffix(".shards").iterdir()]
    return {path.name: path.read_bytes() for path in files}
