"""Folders of images and of mass files, written for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from halometry.datasets.open import open_dataset
from halometry.simulation import load_preset, sample

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


def published_classes(store: Path, folder: Path) -> Path:
    """Write a simulated set as the community's: `train/` and `val/`, scaled images (1, H, W)."""
    data = open_dataset(store)
    assert data.class_names is not None
    for row, label in enumerate(data.labels):
        counts = np.asarray(data.images[np.array([row])])[0].astype(np.float64)
        scaled = (counts - counts.min()) / np.ptp(counts)
        place = folder / ("val" if row % 5 == 0 else "train") / data.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / f"{row}.npy", scaled)
    return folder


def published_masses(store: Path, folder: Path) -> Path:
    """Write a simulated set as the community's: object arrays `[counts, f_sub]`."""
    data = open_dataset(store)
    folder.mkdir(parents=True)
    for row, label in enumerate(data.labels):
        content = np.empty(2, dtype=object)
        counts = np.asarray(data.images[np.array([row])])[0, 0]
        content[0], content[1] = counts.astype(np.int64), float(label)
        np.save(folder / f"image_{row}.npy", content, allow_pickle=True)
    return folder


def published_layout(folder: Path, preset: str, count: int, n_test: int, seed: int = 5) -> Path:
    """Write images of a preset as the community's folders: `train/` and `val/`, one per class.

    Args:
        folder: the folder to make.
        preset: name of a preset for classification.
        count: number of images.
        n_test: number of images at the end that are in `val/`.
        seed: of the images.
    """
    counts, scene = sample(load_preset(preset), seed, 0, count)
    names = load_preset(preset).class_names or ()
    for k, (pixels, label) in enumerate(zip(counts.numpy(), scene.labels.tolist(), strict=True)):
        part = folder / ("train" if k < count - n_test else "val") / names[int(label)]
        part.mkdir(parents=True, exist_ok=True)
        np.save(part / f"{k}.npy", pixels)
    return folder
