"""Fits of 18 published images of `common_test_1`, and what they say of the preset that made them.

    python research/published_images.py --data ../shared/data/common_test_1 \
        --work runs/published_images.jsonl --out results/published_images.json --figures docs/images

Images of class `no` are fitted with the preset's constants held, and with them free; images of
class `vort` with a vortex; images of class `sphere` with as many point masses as the data support.
The same fits of simulated images of the preset are the reference. Fits of simulated images without
substructure give the rate of false alarms. Repeat the command to continue after a stop.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from published_images_analysis import analysis

from halometry.datasets.inputs import natural_sort_key
from halometry.datasets.readers import Image, read_image
from halometry.io import write_json
from halometry.lensfit import Fit, Fitter
from halometry.lensfit.command import fit_panel
from halometry.lensfit.figure import fit_figure
from halometry.lensfit.substructure import MIN_DELTA_2LNL
from halometry.plotting import save_figure
from halometry.provenance import command, provenance
from halometry.simulation import sample

PRESET = "common_test_1"
CONSTANTS = (
    "source_radius",
    "source_index",
    "source_brightness",
    "psf_sigma",
    "sky",
    "lens_ellipticity",
)
FIT_OPTIONS: dict[str, dict[str, Any]] = {
    "no": {},
    "sphere": {"subhalo_method": "greedy"},
    "vort": {"vortex": True},
    "false_alarms": {"subhalos": 1},
}
CLASS = {"no": 0, "sphere": 1, "vort": 2, "false_alarms": 0}
FIGURE_FITS = (("no", "1"), ("sphere", "2"), ("vort", "2"))
FIGURE_MAPS = (("no", "1"), ("sphere", "2"), ("vort", "2"))
FIGURE_SAMPLED = (("sphere", "2"), ("sphere", "3"))


@dataclass(frozen=True)
class Work:
    """One fit to run, and its key in the record."""

    key: str
    run: Callable[[], Fit]


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    done: dict[str, Any] = {}
    if options.work.exists():
        for line in options.work.open():
            done |= json.loads(line)
    options.work.parent.mkdir(parents=True, exist_ok=True)
    with options.work.open("a") as file:
        for work in _all_work(options):
            if work.key not in done:
                fit = work.run()
                done[work.key] = fit.record()
                file.write(json.dumps({work.key: done[work.key]}) + "\n")
                file.flush()
                print(f"{work.key}: {fit.reduced_chi2:.4f}, {fit.diagnostics}", flush=True)
    if options.figures:
        _draw(options)
    record = {
        "what": "fits of 18 published images of common_test_1, and of simulated ones",
        "command": command(),
        **provenance(),
        "preset": PRESET,
        "seed": options.seed,
        "min_delta_2lnL": MIN_DELTA_2LNL,
        **analysis(done, options.seed),
        "fits": {key: fit for key, fit in done.items() if key.startswith("published/")},
    }
    write_json(options.out, "measurement", record)


def _all_work(options: argparse.Namespace) -> Iterator[Work]:
    held = Fitter(PRESET)
    freed = Fitter(PRESET, free=CONSTANTS)
    published = {kind: _files(options.data / kind) for kind in ("no", "vort", "sphere")}
    for path in published["no"]:
        yield _published(freed, path, "free", {})
    for kind, paths in published.items():
        for path in paths:
            yield _published(held, path, "published", FIT_OPTIONS[kind])
    counts = {
        "vort": options.simulated,
        "sphere": options.simulated,
        "false_alarms": options.false_alarms,
    }
    for i in range(max(counts.values())):
        for kind, count in counts.items():
            if i < count:
                k = 3 * i + CLASS[kind]
                yield Work(f"simulated/{kind}/{k}", _simulated(held, options.seed, k, kind))


def _published(fitter: Fitter, path: Path, how: str, added: dict[str, Any]) -> Work:
    return Work(
        f"{how}/{path.parent.name}/{path.stem}", lambda: fitter.fit(read_image(path), **added)
    )


def _simulated(fitter: Fitter, seed: int, k: int, kind: str) -> Callable[[], Fit]:
    def run() -> Fit:
        counts = sample(fitter.preset, seed, k, 1)[0][0].double().numpy()
        pixels = ((counts - counts.min()) / np.ptp(counts)).astype(np.float32)
        return fitter.fit(Image(pixels, None, f"simulated {k}"), **FIT_OPTIONS[kind])

    return run


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"), key=lambda p: natural_sort_key(p.name))


def _draw(options: argparse.Namespace) -> None:
    """Draw fits of a few published images."""
    _figure(
        options,
        "published_fits.jpg",
        [(kind, stem, FIT_OPTIONS[kind]) for kind, stem in FIGURE_FITS],
    )
    _figure(options, "mapped.jpg", [(kind, stem, {"mass_map": True}) for kind, stem in FIGURE_MAPS])
    sampled = [(kind, stem, {"subhalo_method": "mcmc"}) for kind, stem in FIGURE_SAMPLED]
    _figure(options, "sampled.jpg", sampled)


def _figure(
    options: argparse.Namespace, name: str, shown: list[tuple[str, str, dict[str, Any]]]
) -> None:
    path = options.figures / name
    fitter, panels = Fitter(PRESET), []
    for kind, stem, how in shown:
        fit = fitter.fit(read_image(options.data / kind / f"{stem}.npy"), **how)
        panels.append(replace(fit_panel(fit), title=f"{kind}, published"))
    save_figure(fit_figure(panels), path)
    with Picture.open(path) as drawn:
        drawn.save(path, quality=60)  # small in spite of the noise


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with no, sphere, vort")
    parser.add_argument("--work", type=Path, required=True, help="finished fits")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--figures", type=Path, help="a folder for a figure of a few fits")
    parser.add_argument("--simulated", type=int, default=18, help="simulated images per class")
    parser.add_argument("--false-alarms", type=int, default=100, help="images without substructure")
    parser.add_argument("--seed", type=int, default=77)
    return parser.parse_args()


if __name__ == "__main__":
    main()
