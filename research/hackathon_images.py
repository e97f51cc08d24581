"""Images of the ML4SCI hackathon of 2020: read, simulated, and written as the real ones were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from halometry.simulation import Preset, load_preset, sample

AT_ONCE = 100  # images rendered at a time


def read(files: Sequence[Path]) -> np.ndarray:
    """Gray levels (N, H, W), uint8."""
    return np.stack([np.asarray(Image.open(file).convert("L")) for file in files])


def write(images: np.ndarray, folder: Path, quality: int = 75) -> None:
    """Gray levels (N, H, W) as JPEG files, numbered."""
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k:06d}.jpg", "JPEG", quality=quality)


def through_files(images: np.ndarray, quality: int = 75) -> np.ndarray:
    """Written to files and read again by the lines that read the real ones, (N, H, W)."""
    with TemporaryDirectory() as folder:
        write(images, Path(folder), quality)
        return read(sorted(Path(folder).glob("*.jpg")))


def of_one_class(name: str, kind: str = "no_sub") -> Preset:
    """A preset, by name or file, with one of its classes only."""
    preset = load_preset(name)
    return preset.model_copy(update={"classes": {kind: preset.classes[kind]}})


def simulate(
    name: str, count: int, seed: int, changes: Mapping[str, Any], kind: str = "no_sub"
) -> np.ndarray:
    """Images of one class as their JPEG files have them, (count, H, W), uint8.

    Args:
        name: of the preset, or its file.
        count: how many.
        seed: of the set.
        changes: to the preset's `image`.
        kind: the class.
    """
    preset = of_one_class(name, kind)
    image = preset.image.model_copy(update=dict(changes))
    preset = preset.model_copy(update={"image": image})
    made = [
        sample(preset, seed, first, min(AT_ONCE, count - first))[0]
        for first in range(0, count, AT_ONCE)
    ]
    return np.concatenate([part[:, 0].numpy() for part in made]).astype(np.uint8)
