"""True against predicted mass fractions: raw images, mass maps, and MCMC sampling of subhalos.

    python research/true_against_predicted.py --sampled runs/sampled.jsonl

New images of `halo_mass`, mapped without their true lenses. The file of `--sampled` is the `--work`
file of `research/sampled_masses.py`; it holds the first of the same images. Networks predict once;
repeat the command to add sampled images to the results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mass_bound import predict_scenes
from matplotlib.figure import Figure

from halometry.io import write_json
from halometry.plotting import COLORS, MUTED_COLOR, create_figure, save_figure, with_style
from halometry.provenance import command, provenance
from halometry.simulation import draw_scenes, load_preset

PRESET, SEED = "halo_mass", 9011  # as in `sampled_masses.py`
RUNS = ("halo_mass/d4net", "halo_mass/d4net_mapped")
SAMPLING = "MCMC, no network"
LIMITS = (0.0, 0.09)


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="images for the networks")
    parser.add_argument("--sampled", type=Path, help="finished images of `sampled_masses.py`")
    parser.add_argument("--results", type=Path, default=Path("results/true_against_predicted.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/true_against_predicted.png"))
    options = parser.parse_args()
    if options.results.exists():
        record = json.loads(options.results.read_text(encoding="utf-8"))
    else:
        record = predict(options.count)
    truth = np.array(record["truth"])
    if options.sampled:
        rows = [json.loads(line) for line in options.sampled.read_text().splitlines()]
        np.testing.assert_allclose([row["truth"] for row in rows], truth[: len(rows)])
        record["predicted"][SAMPLING] = [row["mean"] for row in rows]
    write_json(options.results, "measurement", record)
    found = {name: np.array(values) for name, values in record["predicted"].items()}
    save_figure(draw(truth, found), options.out)


def predict(count: int) -> dict[str, Any]:
    """Record of the networks' predictions for new images."""
    preset = load_preset(PRESET)
    scene = draw_scenes(preset, SEED, 0, count)
    return {
        "what": "mass fractions of new images: true, and predicted by each method",
        "command": command(),
        **provenance(),
        "preset": PRESET,
        "seed": SEED,
        "truth": scene.f_sub.tolist(),
        "predicted": {run: predict_scenes(run, scene, preset, SEED).tolist() for run in RUNS},
    }


@with_style
def draw(truth: np.ndarray, found: Mapping[str, np.ndarray]) -> Figure:
    """One panel per method, with its RMSE; R² would depend on which images a method has.

    Args:
        truth: true mass fractions (N,).
        found: for each method the predicted mass fractions of the first images (n,), n <= N.
    """
    figure, axes = create_figure(8.3, 3.35, 1, len(found), sharex=True, sharey=True)
    for panel, (name, values), color in zip(axes[0], found.items(), COLORS, strict=False):
        true = truth[: len(values)]
        rmse = np.sqrt(np.mean((values - true) ** 2))
        panel.plot(LIMITS, LIMITS, color=MUTED_COLOR, lw=1, ls=":")
        panel.plot(true, values, "o", ms=3.5, color=color, alpha=0.6, mew=0)
        panel.set_title(name, fontsize=9.5)
        panel.text(0.05, 0.94, f"RMSE {rmse:.4f}\n{len(values)} images", va="top", fontsize=9.5,
                   transform=panel.transAxes)  # fmt: skip
        panel.set_xlabel("true f_sub")
        panel.set_box_aspect(1)
    axes[0, 0].set_xlim(LIMITS)
    axes[0, 0].set_ylim(LIMITS)
    axes[0, 0].set_ylabel("predicted f_sub")
    return figure


if __name__ == "__main__":
    main()
