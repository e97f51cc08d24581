"""What 18 real images of `common_test_1` say of the recipe that made them.

    python research/real_images.py --data ../shared/data/common_test_1 \
        --work runs/real_images.jsonl --out results/real_images.json --figures docs/images

Every published image is fitted by `halometry.fit_lens`: `no` with the preset's constants held and
free, `vort` with a line of mass, `sphere` with as many point masses as the data ask for. The
identical fits of simulated images of the preset are the measure of what is found in the real ones,
and those of simulated images without substructure give the rate of false alarms. Repeat the command
to go on after a stop.
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
from laws import analysis
from PIL import Image as Picture

from halometry.datasets.inputs import natural_sort_key
from halometry.datasets.readers import Image, read_image
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
ADDED: dict[str, dict[str, Any]] = {
    "no": {},
    "sphere": {"subhalo_method": "greedy"},
    "vort": {"vortex": True},
    "false_alarms": {"subhalos": 1},
}
CLASS = {"no": 0, "sphere": 1, "vort": 2, "false_alarms": 0}
SHOWN = (("no", "1"), ("sphere", "2"), ("vort", "2"))
MAPPED = (("vort", "1"), ("vort", "2"), ("sphere", "2"), ("no", "1"))


@dataclass(frozen=True)
class Work:
    """One fit to be done: a key, and how to do it."""

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
        "what": "fits of 18 real images of common_test_1, and of simulated ones beside them",
        "command": command(),
        **provenance(),
        "preset": PRESET,
        "seed": options.seed,
        "least_gain": MIN_DELTA_2LNL,
        **analysis(done, options.seed),
        "fits": {key: fit for key, fit in done.items() if key.startswith("real/")},
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _all_work(options: argparse.Namespace) -> Iterator[Work]:
    held = Fitter(PRESET)
    freed = Fitter(PRESET, free=CONSTANTS)
    real = {kind: _files(options.data / kind) for kind in ("no", "vort", "sphere")}
    for path in real["no"]:
        yield _real(freed, path, "free", {})
    for kind, paths in real.items():
        for path in paths:
            yield _real(held, path, "real", ADDED[kind])
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


def _real(fitter: Fitter, path: Path, how: str, added: dict[str, Any]) -> Work:
    return Work(
        f"{how}/{path.parent.name}/{path.stem}", lambda: fitter.fit(read_image(path), **added)
    )


def _simulated(fitter: Fitter, seed: int, k: int, kind: str) -> Callable[[], Fit]:
    def run() -> Fit:
        counts = sample(fitter.preset, seed, k, 1)[0][0].double().numpy()
        pixels = ((counts - counts.min()) / np.ptp(counts)).astype(np.float32)
        return fitter.fit(Image(pixels, None, f"simulated {k}"), **ADDED[kind])

    return run


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"), key=lambda p: natural_sort_key(p.name))


def _draw(options: argparse.Namespace) -> None:
    """A few of the real images, fitted once more for their pixels."""
    _figure(options, "real_fits.jpg", [(kind, stem, ADDED[kind]) for kind, stem in SHOWN])
    _figure(options, "mapped.jpg", [(kind, stem, {"mass_map": True}) for kind, stem in MAPPED])


def _figure(
    options: argparse.Namespace, name: str, shown: list[tuple[str, str, dict[str, Any]]]
) -> None:
    path = options.figures / name
    if path.exists():
        return
    fitter, panels = Fitter(PRESET), []
    for kind, stem, how in shown:
        fit = fitter.fit(read_image(options.data / kind / f"{stem}.npy"), **how)
        panels.append(replace(fit_panel(fit), title=f"{kind}, real"))
    save_figure(fit_figure(panels), path)
    with Picture.open(path) as drawn:
        drawn.save(path, quality=45)  # noise is costly in bytes


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with no, sphere, vort")
    parser.add_argument("--work", type=Path, required=True, help="fits that are done")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--figures", type=Path, help="a folder for a figure of a few fits")
    parser.add_argument("--simulated", type=int, default=18, help="simulated images a class")
    parser.add_argument("--false-alarms", type=int, default=100, help="images without substructure")
    parser.add_argument("--seed", type=int, default=77)
    return parser.parse_args()


if __name__ == "__main__":
    main()
