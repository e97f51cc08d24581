"""Gain in 2 ln L by one subhalo: the linear approximation of `sensitivity` against full fits.

    python research/likelihood_gain.py --out results/likelihood_gain.json

One subhalo is added to lenses of `common_test_1`, on the Einstein ring and where the preset draws
them. Its gain in 2 ln L is measured in four ways:

- `linear`: square of the normalized change of the image, after lens and source are projected out;
- `noise-free`: loss in 2 ln L when the expected image, without noise, is fitted by a smooth lens;
- `with noise`: difference between fits of a noisy image with and without the true subhalo, which
  is held; one image scatters by twice the square root of the gain;
- `fit`: gain of `fit_lens` by one point mass, which it has to find; it also fits the noise, which
  adds 3 or more.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch

from halometry.datasets.readers import Image
from halometry.evaluation.bootstrap import bootstrap
from halometry.io import write_json
from halometry.lensfit import Fitter
from halometry.lensfit.likelihood import Model, PoissonLikelihood
from halometry.lensfit.linear import project_out
from halometry.lensfit.optimize import maximize_likelihood
from halometry.lensfit.parametrization import build_parametrization
from halometry.log import track
from halometry.provenance import command, provenance
from halometry.seeds import SENSITIVITY_SEED_OFFSET
from halometry.sensitivity import SmoothLenses
from halometry.sensitivity.lenses import add_subhalo, expected_counts, move_to_ring
from halometry.simulation import Scene, observe

MASSES = (8.5, 9.0, 9.5)
KINDS = ("linear", "noise-free", "with noise", "fit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--preset", default="common_test_1")
    parser.add_argument("--count", type=int, default=20, help="lenses")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fitter = Fitter(options.preset)
    gains = {}
    with torch.no_grad(), track("fitting", 6 * options.count) as progress:
        for mass in MASSES:
            for place in ("anywhere", "on the ring"):
                gains_of_lenses = []
                for k in range(options.count):
                    gains_of_lenses.append(
                        _gains(fitter, options.seed + SENSITIVITY_SEED_OFFSET, k, mass, place)
                    )
                    progress.advance()
                gains[mass, place] = np.array(gains_of_lenses)
    record = {
        "what": "gain in 2 ln L by one subhalo, to first order and by fits; medians of lenses",
        "command": command(),
        **provenance(),
        "preset": options.preset,
        "seed": options.seed,
        "lenses": options.count,
        "interval": "95 %, bootstrap over lenses",
        "rows": _table(gains),
        "gains": [
            {"log10_mass": mass, "place": place, **dict(zip(KINDS, g.T.tolist(), strict=True))}
            for (mass, place), g in gains.items()
        ],
    }
    write_json(options.out, "measurement", record)
    print(json.dumps(record["rows"], indent=1))


def _gains(fitter: Fitter, seed: int, k: int, mass: float, place: str) -> list[float]:
    """Return the four gains of one lens, in the order of `KINDS`."""
    preset = fitter.preset
    lens = SmoothLenses.draw(preset, seed, k, 1)
    scene = add_subhalo(lens.scene, preset, 10**mass, seed, k)
    if place == "on the ring":
        scene = move_to_ring(scene)
    expected = expected_counts(scene, preset)
    unexplained = project_out(lens.normalized_differences(expected)[None], lens.derivatives)[0]
    side = preset.image.shape
    counts = observe(expected.view(1, *side), preset, seed, k, scene.background_rms)
    flat = counts.double().flatten()
    without, with_ = (_deviance(fitter, one, lens.scene, flat) for one in (lens.scene, scene))
    image = Image(counts[0].numpy(), None, f"{k}")
    return [
        float(unexplained.square().sum()),
        _deviance(fitter, lens.scene, lens.scene, expected[0]),
        without - with_,
        fitter.fit(image, subhalos=1).diagnostics.delta_2lnl,
    ]


def _deviance(fitter: Fitter, held: Scene, start: Scene, data: torch.Tensor) -> float:
    """Compute -2 ln L of the best lens and source, with substructure held, from the truth on."""
    parametrization = build_parametrization(fitter.preset, held)
    theta = parametrization.coordinates(lambda name: getattr(start, name))
    return float(
        maximize_likelihood(
            Model(fitter.preset, parametrization), PoissonLikelihood(data), theta
        ).deviance
    )


def _median_of_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Median of values resample (row of `rows`)."""
    return np.median(values[rows], axis=1)


def _table(gains: dict[tuple[float, str], np.ndarray]) -> list[list[str]]:
    head = ["log10 of the mass (Msun), place", *KINDS, "noise-free over linear"]
    rows = [head]
    for (mass, place), values in gains.items():
        ratio = values[:, 1] / values[:, 0]
        interval = bootstrap(
            partial(_median_of_rows, ratio),
            [np.arange(len(ratio))],
            float(np.median(ratio)),
        )
        rows.append(
            [f"{mass:g}, {place}", *(f"{v:.1f}" for v in np.median(values, axis=0)), str(interval)]
        )
    return rows


if __name__ == "__main__":
    main()
