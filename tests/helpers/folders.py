"""Folders of images and of mass files, written for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Tree = Callable[..., Path]
RNG = np.random.default_rng(0)


def image(side: int = 20) -> np.ndarray:
    return RNG.random((1, side, side))


def mass_files(folder: Path, labels: list[Any]) -> Path:
    folder.mkdir(parents=True)
    for i, label in enumerate(labels):
        content = np.empty(2, dtype=object)
        content[0], content[1] = RNG.poisson(50, (20, 20)), label
        np.save(folder / f"image_{i}.npy", content, allow_pickle=True)
    return folder.parent
