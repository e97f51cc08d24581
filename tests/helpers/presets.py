"""Presets with changed keys, and positions, for tests of the simulation."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import Tensor

from halometry.simulation import load_preset
from halometry.simulation.preset import Preset


def write_preset(tmp_path: Path, name: str, **changes: object) -> Path:
    """Write a preset with changed keys to a YAML file and return its path.

    Args:
        tmp_path: folder of the file.
        name: name of the preset.
        changes: new values by key; the key `b` within `a` is `a__b`. None removes a key.
    """
    content = yaml.safe_load(load_preset(name).to_yaml())
    for path, value in changes.items():
        part = content
        *parents, key = path.split("__")
        for parent in parents:
            part = part[parent]
        part[key] = value
        if value is None:
            del part[key]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def changed_preset(tmp_path: Path, name: str = "euclid", **changes: object) -> Preset:
    """Load a preset with changed keys; the arguments are those of `write_preset`."""
    return load_preset(write_preset(tmp_path, name, **changes))


def float64_tensors(*values: float) -> list[Tensor]:
    """Scalar tensors in double precision."""
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def position_grid(half: float, count: int) -> tuple[Tensor, Tensor]:
    """Positions x and y (count, count) from -half to half, in double precision."""
    axis = torch.linspace(-half, half, count, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y
