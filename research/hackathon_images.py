"""Images of the ML4SCI hackathon of 2020: reading, simulation, and writing as JPEG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from halometry.simulation import Preset, load_preset, sample

BATCH_SIZE = 100  # images rendered at a time


def read(files: Sequence[Path]) -> np.ndarray:
    """Read image files as gray levels (N, H, W), uint8."""
    return np.stack([np.asarray(Image.open(file).convert("L")) for file in files])


def write(images: np.ndarray, folder: Path, quality: int = 75) -> None:
    """Write gray levels (N, H, W) as numbered JPEG files."""
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k:06d}.jpg", "JPEG", quality=quality)


def through_files(images: np.ndarray, quality: int = 75) -> np.ndarray:
    """Write images as JPEG files and read them like the published ones, (N, H, W)."""
    with TemporaryDirectory() as folder:
        write(images, Path(folder), quality)
        return read(sorted(Path(folder).glob("*.jpg")))


def load_one_class(name: str, kind: str = "no_sub") -> Preset:
    """Load a preset, by name or file, with only one of its classes."""
    preset = load_preset(name)
    return preset.model_copy(update={"classes": {kind: preset.classes[kind]}})


def simulate(
    name: str, count: int, seed: int, changes: Mapping[str, Any], kind: str = "no_sub"
) -> np.ndarray:
    """Simulate images of one class, JPEG compression included, (count, H, W), uint8.

    Args:
        name: of the preset, or its file.
        count: number of images.
        seed: of the data set.
        changes: new values of keys of the preset's `image`.
        kind: the class.
    """
    preset = load_one_class(name, kind)
    image = preset.image.model_copy(update=dict(changes))
    preset = preset.model_copy(update={"image": image})
    batches = [
        sample(preset, seed, first, min(BATCH_SIZE, count - first))[0]
        for first in range(0, count, BATCH_SIZE)
    ]
    return np.concatenate([part[:, 0].numpy() for part in batches]).astype(np.uint8)
