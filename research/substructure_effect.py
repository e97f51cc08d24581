"""What substructure does to an image: image, effect over noise, and convergence, for each class.

python research/substructure_effect.py

The effect is the expected image with substructure minus that without, over the noise of a pixel.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from halometry.plotting import (
    IMAGE_COLORMAP,
    MASS_COLORMAP,
    create_figure,
    hide_axes,
    save_figure,
    stretch,
    with_style,
)
from halometry.simulation import draw_scenes, load_preset, observe, render
from halometry.simulation.substructure_maps import substructure_map

PRESET, SEED = "common_test_1", 7
ROWS = (9, 4, 11)  # images of the three classes, as in `pipeline.py`
MAX_EFFECT = 4.0  # end of the color scale
SHOWN_ARCSEC = 2.5


@with_style
def draw() -> Figure:
    """Draw one row per class."""
    preset = load_preset(PRESET)
    figure, axes = create_figure(6.2, 6.3, len(ROWS), 3)
    half = preset.image.pixel_scale * preset.image.pixels / 2
    extent = (-half, half, -half, half)
    for panels, row in zip(axes, ROWS, strict=True):
        scene = draw_scenes(preset, SEED, row, 1).to("cpu", torch.float32)
        smooth = replace(
            scene,
            subhalo_mass=torch.zeros_like(scene.subhalo_mass),
            vortex_mass=torch.zeros_like(scene.vortex_mass),
        )
        with torch.no_grad():
            expected = render(scene, preset)
            effect = (expected - render(smooth, preset)) / expected.sqrt()
            image = observe(expected, preset, SEED, row, scene.background_rms)
            mass = substructure_map(scene, preset)[0].numpy()
        panels[0].imshow(stretch(image[0, 0].numpy()), cmap=IMAGE_COLORMAP, origin="lower",
                         extent=extent)  # fmt: skip
        panels[1].imshow(effect[0, 0], cmap="RdBu_r", vmin=-MAX_EFFECT, vmax=MAX_EFFECT,
                         origin="lower", extent=extent)  # fmt: skip
        norm = PowerNorm(0.5, 0, 1, clip=True)
        panels[2].imshow(mass, cmap=MASS_COLORMAP, norm=norm, origin="lower", extent=extent)
        for panel in panels:
            hide_axes(panel)
            panel.set_xlim(-SHOWN_ARCSEC, SHOWN_ARCSEC)
            panel.set_ylim(-SHOWN_ARCSEC, SHOWN_ARCSEC)
        panels[0].set_ylabel((preset.class_names or ("",))[int(scene.labels[0])])
        left = -0.9 * SHOWN_ARCSEC
        panels[0].plot([left, left + 1], [left, left], color="white", lw=2)
        panels[0].text(left + 0.5, left + 0.15, '1"', color="white", fontsize=8, ha="center")
    titles = ("image", "with minus without", "substructure")
    labels = ("", "over noise", "convergence")
    for column, (title, label) in enumerate(zip(titles, labels, strict=True)):
        axes[0, column].set_title(title, loc="center", fontsize=10)
        if label:
            bar = figure.colorbar(axes[0, column].images[0], ax=list(axes[:, column]),
                                  location="bottom", shrink=0.9, aspect=18, pad=0.02)  # fmt: skip
            bar.set_label(label, fontsize=9)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=8)
    bar.set_ticks([0, 0.1, 0.5, 1], labels=["0", "0.1", "0.5", "1"])
    return figure


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/lenses.jpg"))
    save_figure(draw(), parser.parse_args().out)


if __name__ == "__main__":
    main()
