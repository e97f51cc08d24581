"""What several tests of the sky make."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import Tensor

from halometry.simulation import load_preset
from halometry.simulation.preset import Preset


def write_preset(tmp_path: Path, name: str, **changes: object) -> Path:
    """A preset's file with some of its keys, written `a__b`, changed; None removes one."""
    content = yaml.safe_load(load_preset(name).to_yaml())
    for place, value in changes.items():
        inner = content
        *path, last = place.split("__")
        for key in path:
            inner = inner[key]
        inner[last] = value
        if value is None:
            del inner[last]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def changed_preset(tmp_path: Path, name: str = "euclid", **changes: object) -> Preset:
    """The same, loaded."""
    return load_preset(write_preset(tmp_path, name, **changes))


def float64_tensors(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def position_grid(half: float, count: int) -> tuple[Tensor, Tensor]:
    axis = torch.linspace(-half, half, count, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y
