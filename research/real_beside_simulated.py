"""Real images of the community's classification set beside simulated ones: montage and profiles.

python research/real_beside_simulated.py --data ../shared/data/common_test_1 --out docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from halometry.data.images import read_image
from halometry.evaluation.figures import stretched
from halometry.evaluation.style import COLOURS, LENS_MAP, bare, figure, save, styled
from halometry.simulation import load_preset, sample
from halometry.simulation.render import pixel_grid

CLASSES = ("no", "sphere", "vort")
EACH = 6  # of a class, as many as there are real ones
MANY = 300  # simulated for the profiles
SEED = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with a folder a class")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the figures")
    options = parser.parse_args()
    real = {
        name: [read_image(file).pixels[0] for file in sorted((options.data / name).glob("*.npy"))]
        for name in CLASSES
    }
    preset = load_preset("common_test_1")
    images, scene = sample(preset, SEED, 0, MANY)
    counts = images[:, 0].numpy()
    low, high = counts.min(axis=(1, 2), keepdims=True), counts.max(axis=(1, 2), keepdims=True)
    scaled = (counts - low) / (high - low)
    simulated = {
        name: scaled[scene.class_index.numpy() == k] for k, name in enumerate(preset.classes)
    }
    save(montage(real, simulated), options.out / "common_test_1_beside.jpg")
    x, y = (
        axis.numpy()
        for axis in pixel_grid(preset.image.model_copy(update={"supersampling": 1}), images)
    )
    save(profiles(real, simulated, np.hypot(x, y)), options.out / "common_test_1_profiles.png")


@styled
def montage(real: dict[str, list[np.ndarray]], simulated: dict[str, np.ndarray]):
    """Three rows of real images, each above a row of simulated ones of the same class."""
    made, axes = figure(1.1 * EACH, 7.2, 2 * len(CLASSES), EACH)
    for k, name in enumerate(CLASSES):
        for row, (what, images) in enumerate(
            (("real", real[name]), ("simulated", simulated[name]))
        ):
            for panel, image in zip(axes[2 * k + row], images, strict=False):
                bare(panel)
                panel.imshow(stretched(image), cmap=LENS_MAP, origin="lower")
            axes[2 * k + row, 0].set_title(f"{name}, {what}", fontsize=8, pad=2, color=COLOURS[row])
    return made


@styled
def profiles(
    real: dict[str, list[np.ndarray]], simulated: dict[str, np.ndarray], radius: np.ndarray
):
    """Mean brightness at each distance from the centre, and how often each brightness comes."""
    made, axes = figure(9, 3.4, 1, 2)
    bins = np.arange(0, 3.75, 0.1)
    which = np.digitize(radius.ravel(), bins) - 1
    inside = which < len(bins) - 1
    levels = np.geomspace(3e-3, 1, 40)
    for colour, (label, sets) in zip(
        COLOURS, (("real", real), ("simulated", simulated)), strict=False
    ):
        every = np.concatenate([np.stack(list(images)) for images in sets.values()])
        flat = every.reshape(len(every), -1)[:, inside]
        count = np.bincount(which[inside], minlength=len(bins) - 1)
        each = np.stack([np.bincount(which[inside], row) / count for row in flat])
        middle = (bins[:-1] + bins[1:]) / 2
        error = each.std(axis=0) / np.sqrt(len(each))
        axes[0, 0].fill_between(
            middle, each.mean(0) - error, each.mean(0) + error, color=colour, alpha=0.3
        )
        axes[0, 0].plot(
            middle, each.mean(axis=0), color=colour, label=f"{label}, {len(every)} images"
        )
        above = [(every > level).mean() for level in levels]
        axes[0, 1].loglog(levels, above, color=colour, label=label)
    axes[0, 0].set(xlabel="distance from the centre (arcsec)", ylabel="mean of scaled pixels")
    axes[0, 1].set(xlabel="scaled brightness", ylabel="share of pixels above it")
    axes[0, 0].legend()
    return made


if __name__ == "__main__":
    main()
