"""Published images beside simulated ones: a montage, profiles, and labels of the mass set.

python research/published_beside_simulated.py --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import ks_2samp

from halometry.datasets.readers import read_image
from halometry.io import write_json
from halometry.plotting import (
    COLORS,
    IMAGE_COLORMAP,
    create_figure,
    hide_axes,
    save_figure,
    stretch,
    with_style,
)
from halometry.provenance import provenance
from halometry.simulation import draw_scenes, load_preset, sample
from halometry.simulation.render import pixel_grid

CLASSES = ("no", "sphere", "vort")
IMAGES_PER_CLASS = 6  # in the montage; as many as there are published ones
N_SIMULATED = 300  # for the profiles
N_LABELS = 20_000  # as many as were published
BOOTSTRAPS = 200
SEED = 11
Images = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with common_test_1, halo_mass")
    parser.add_argument("--figures", type=Path, default=Path("docs/images"))
    parser.add_argument("--out", type=Path, default=Path("results/published_beside_simulated.json"))
    options = parser.parse_args()
    published, simulated, radius = (
        read_published_images(options.data / "common_test_1"),
        *simulate_images(),
    )
    save_figure(montage(published, simulated), options.figures / "common_test_1_beside.jpg")
    save_figure(
        profiles(published, simulated, radius), options.figures / "common_test_1_profiles.png"
    )
    published_labels = np.load(options.data / "halo_mass" / "masses.npy")
    drawn = draw_scenes(load_preset("halo_mass"), SEED, 0, N_LABELS).f_sub.numpy()
    save_figure(labels(published_labels, drawn), options.figures / "halo_mass_labels.png")
    record: dict[str, Any] = {
        "what": "pixels of common_test_1 and labels of halo_mass, published and simulated",
        "command": "python research/published_beside_simulated.py --data ../shared/data",
        **provenance(),
        "seed": SEED,
        "pixels": {"published": _pixels(published), "simulated": _pixels(simulated)},
        "labels": _labels(published_labels, drawn),
    }
    record["rows"] = _rows(record["labels"], record["pixels"])
    write_json(options.out, "measurement", record)
    print(record["pixels"], record["labels"])


def read_published_images(folder: Path) -> Images:
    """Read images scaled to [0, 1], (N, H, W) for each class."""
    files = {name: sorted((folder / name).glob("*.npy")) for name in CLASSES}
    return {
        name: np.stack([read_image(file).pixels[0] for file in paths])
        for name, paths in files.items()
    }


def simulate_images() -> tuple[Images, np.ndarray]:
    """Simulate such images, and return the radius of each pixel (H, W), arcsec."""
    preset = load_preset("common_test_1")
    images, scene = sample(preset, SEED, 0, N_SIMULATED)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    scaled, which = ((images - low) / (high - low))[:, 0].numpy(), scene.class_index.numpy()
    x, y = pixel_grid(preset.image.model_copy(update={"supersampling": 1}), images)
    radius = (x**2 + y**2).sqrt().numpy()
    return {name: scaled[which == k] for k, name in enumerate(preset.classes)}, radius


@with_style
def montage(published: Images, simulated: Images) -> Figure:
    """A row of published images above a row of simulated ones, for each class."""
    made, axes = create_figure(1.1 * IMAGES_PER_CLASS, 7.2, 2 * len(CLASSES), IMAGES_PER_CLASS)
    for k, name in enumerate(CLASSES):
        for row, (what, sets) in enumerate((("published", published), ("simulated", simulated))):
            for panel, image in zip(axes[2 * k + row], sets[name], strict=False):
                hide_axes(panel)
                panel.imshow(stretch(image), cmap=IMAGE_COLORMAP, origin="lower")
            title = axes[2 * k + row, 0]
            title.set_title(f"{name}, {what}", fontsize=8, pad=2, color=COLORS[row])
    return made


@with_style
def profiles(published: Images, simulated: Images, radius: np.ndarray) -> Figure:
    """Mean brightness against radius with its error, and the distribution of the brightness."""
    made, axes = create_figure(9, 3.4, 1, 2)
    bins, levels = np.arange(0, 3.75, 0.1), np.geomspace(3e-3, 1, 40)
    which = np.digitize(radius, bins) - 1
    middle = (bins[:-1] + bins[1:]) / 2
    for color, (what, sets) in zip(
        COLORS, (("published", published), ("simulated", simulated)), strict=False
    ):
        images = np.concatenate(list(sets.values()))
        each = np.stack([images[:, which == k].mean(axis=1) for k in range(len(middle))], axis=1)
        mean, error = each.mean(axis=0), each.std(axis=0) / np.sqrt(len(each))
        axes[0, 0].fill_between(middle, mean - error, mean + error, color=color, alpha=0.3)
        axes[0, 0].plot(middle, mean, color=color, label=f"{what}, {len(images)} images")
        fractions = [(images > level).mean() for level in levels]
        style = "-" if what == "published" else "--"
        axes[0, 1].loglog(levels, fractions, style, color=color, lw=2, label=what)
    axes[0, 1].legend()
    axes[0, 0].set(xlabel="distance from the center (arcsec)", ylabel="mean of scaled pixels")
    axes[0, 1].set(xlabel="scaled brightness", ylabel="fraction of pixels above it")
    axes[0, 0].legend()
    return made


@with_style
def labels(published: np.ndarray, drawn: np.ndarray) -> Figure:
    """Histograms of the mass fractions."""
    made, axes = create_figure(5.5, 3, 1, 1)
    bins = np.linspace(0, 0.11, 56)
    for color, (what, values) in zip(
        COLORS, (("published", published), ("simulated", drawn)), strict=False
    ):
        axes[0, 0].hist(values, bins, histtype="step", color=color, label=what, linewidth=1.5)
    axes[0, 0].set(xlabel="mass in subhalos over the halo's mass", ylabel="images")
    axes[0, 0].legend()
    return made


def _rows(labels: dict[str, float], pixels: dict[str, Any]) -> list[list[str]]:
    """Table with a header."""
    ks = f"{labels['ks']:.3f} [{labels['low']:.3f}, {labels['high']:.3f}]"
    rows = [["", "published", "simulated"], ["`halo_mass`: KS distance of the labels", "", ks]]
    for name in ("mean", "standard_deviation"):
        values = (f"{labels[key]:.5f}" for key in (f"{name}_published", name))
        rows.append([f"`halo_mass`: {name.replace('_', ' ')} of the labels", *values])
    for kind in CLASSES:
        both = [pixels[which][kind] for which in ("published", "simulated")]
        values = (f"{one['mean']:.4f}, {one['standard_deviation']:.4f}" for one in both)
        words = f"`common_test_1`, {kind}: mean and standard deviation of scaled pixels"
        rows.append([words, *values])
    return rows


def _pixels(sets: Images) -> dict[str, dict[str, float]]:
    return {
        name: {
            "images": len(images),
            "mean": float(images.mean()),
            "standard_deviation": float(images.std()),
        }
        for name, images in sets.items()
    }


def _labels(published: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """KS distance with a 95 % interval, from the bootstrap over both sets."""
    rng = np.random.default_rng(SEED)
    again = [
        ks_2samp(rng.choice(published, len(published)), rng.choice(drawn, len(drawn))).statistic
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.quantile(again, (0.025, 0.975))
    return {
        "images": len(drawn),
        "ks": float(ks_2samp(published, drawn).statistic),
        "low": float(low),
        "high": float(high),
        "mean": float(drawn.mean()),
        "mean_published": float(published.mean()),
        "standard_deviation": float(drawn.std()),
        "standard_deviation_published": float(published.std()),
    }


if __name__ == "__main__":
    main()
