"""How well `fit --subhalos sampled` knows the mass fraction of fresh images of `halo_mass`.

    python research/sampled_masses.py --work runs/sampled.jsonl --out results/sampled_masses.json \\
        --runs halo_mass/d4net halo_mass/d4net_deep

It is told the preset, as any fit is, and nothing else of an image. Trained networks answer the same
images. Counted are the images whose true mass fraction lies within the 68 and 95 % intervals.
Repeat the command to go on after a stop; it does not go on with another preset or seed.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mass_bound import answers

from halometry.datasets.readers import Image
from halometry.errors import UsageError
from halometry.evaluation.bootstrap import binomial_interval, bootstrap
from halometry.evaluation.metrics import regression_metrics
from halometry.lensfit import Fitter
from halometry.provenance import command, provenance
from halometry.simulation import draw_scenes, load_preset, observe, render

NAME = "sampled subhalos"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="rows of what is done")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--preset", default="halo_mass")
    parser.add_argument("--count", type=int, default=90)
    parser.add_argument("--seed", type=int, default=9011)
    parser.add_argument("--runs", nargs="*", default=[], help="trained ones to set beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.work.open()] if options.work.exists() else []
    if any((row["preset"], row["seed"]) != (options.preset, options.seed) for row in rows):
        raise UsageError(f"{options.work}: holds rows of another preset or seed")
    if len(rows) < options.count:
        fitter = Fitter(options.preset)
        with options.work.open("a") as file:
            for k in range(len(rows), options.count):
                rows.append(_one(fitter, options.preset, options.seed, k))
                file.write(json.dumps(rows[-1]) + "\n")
                file.flush()
    rows = rows[: options.count]
    truth = np.array([row["truth"] for row in rows])
    preset = load_preset(options.preset)
    scene = draw_scenes(preset, options.seed, 0, len(rows))
    found = {NAME: np.array([row["mean"] for row in rows])}
    for run in options.runs:
        found[run] = answers(run, scene, preset, options.seed)
    record = {
        "what": "the mass fraction of fresh images by sampling their subhalos, and by networks",
        "command": command(),
        **provenance(),
        "threads": 1,
        "preset": options.preset,
        "seed": options.seed,
        "images": len(rows),
        "interval": "95 %, bootstrap over images, binomial for shares",
        **summary(found, truth),
        **_of_posterior(rows),
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


def _one(fitter: Fitter, preset: str, seed: int, k: int) -> dict[str, Any]:
    """Sample the subhalos of image k."""
    scene = draw_scenes(fitter.preset, seed, k, 1)
    with torch.no_grad():
        expected = render(scene.to("cpu", torch.float32), fitter.preset)
    counts = observe(expected, fitter.preset, seed, k, scene.background_rms)
    fit = fitter.fit(Image(counts[0].numpy(), None, f"{k}"), subhalo_method="mcmc")
    assert fit.subhalo_posterior is not None
    mass = fit.subhalo_posterior.mass_fractions
    told = fit.subhalo_posterior.record()
    radius = fit.parameter("einstein_radius")
    return {
        "preset": preset,
        "seed": seed,
        "image": k,
        "truth": float(scene.f_sub[0]),
        "mean": float(mass.mean()),
        "error": float(mass.std()),
        **told["mass_fraction"],
        "scale_reduction": told["scale_reduction"],
        "radius_pull": (radius.value - float(scene.einstein_radius[0])) / radius.error,
        "reduced_chi_square": fit.reduced_chi2,
        "doubt": fit.warning,
        "seconds": fit.diagnostics.seconds,
    }


def summary(found: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, Any]:
    """Figures of merit of each, and the share of the networks' squared error that is left."""
    first = (found[NAME] - truth) ** 2
    told: dict[str, Any] = {}
    rows = [["who", "MSE", "R²", "squared error of sampling over this one's"]]
    for name, mass in found.items():
        metrics = regression_metrics(truth, mass)
        if name != NAME:
            error = (mass - truth) ** 2
            metrics["left"] = bootstrap(
                partial(_ratio_of_rows, first, error),
                [np.arange(len(truth))],
                first.mean() / error.mean(),
            )
        told[name] = {metric: value.to_dict() for metric, value in metrics.items()}
        rows.append([name, *(str(metrics.get(metric, "")) for metric in ("mse", "r2", "left"))])
    return {"who": told, "rows": rows}


def _ratio_of_rows(over: np.ndarray, under: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Ratio of the means of each resample (row of `rows`)."""
    return over[rows].mean(axis=1) / under[rows].mean(axis=1)


def _of_posterior(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How often intervals hold the truth, and what else the rows tell."""
    values = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "doubt"}
    inside = {
        level: (values[f"low_{level}"] <= values["truth"])
        & (values["truth"] <= values[f"high_{level}"])
        for level in ("68", "95")
    }
    pull = (values["mean"] - values["truth"]) / values["error"]
    quantiles = (0.25, 0.5, 0.75)
    return {
        "coverage": {
            level: binomial_interval(int(hit.sum()), len(rows)).to_dict()
            for level, hit in inside.items()
        },
        "pull": {"mean": float(pull.mean()), "standard_deviation": float(pull.std())},
        "einstein_radius_pull": {
            "mean": float(values["radius_pull"].mean()),
            "standard_deviation": float(values["radius_pull"].std()),
        },
        "scale_reduction": np.quantile(values["scale_reduction"], quantiles).tolist(),
        "doubtful": sum(bool(row["doubt"]) for row in rows),
        "seconds": np.quantile(values["seconds"], quantiles).tolist(),
    }


if __name__ == "__main__":
    main()
