"""Accuracy and coverage of mass fractions by `fit --subhalo-method mcmc` on new images.

    python research/sampled_masses.py --work runs/sampled.jsonl --out results/sampled_masses.json \\
        --runs halo_mass/d4net halo_mass/d4net_deep

The fit knows the preset, as any fit does, and nothing else of an image. Trained networks predict
the same images for comparison. The script counts the images whose true mass fraction lies within
the 68 and 95 % intervals. Repeat the command to continue after a stop, with the same preset and
seed.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mass_bound import predict_scenes

from halometry.datasets.readers import Image
from halometry.errors import UsageError
from halometry.evaluation.bootstrap import binomial_interval, bootstrap
from halometry.evaluation.metrics import regression_metrics
from halometry.io import write_json
from halometry.lensfit import Fitter
from halometry.provenance import command, provenance
from halometry.simulation import draw_scenes, load_preset, observe, render

NAME = "sampled subhalos"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="rows of finished images")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--preset", default="halo_mass")
    parser.add_argument("--count", type=int, default=90)
    parser.add_argument("--seed", type=int, default=9011)
    parser.add_argument("--runs", nargs="*", default=[], help="trained runs to compare with")
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
                rows.append(_sample_image(fitter, options.preset, options.seed, k))
                file.write(json.dumps(rows[-1]) + "\n")
                file.flush()
    rows = rows[: options.count]
    truth = np.array([row["truth"] for row in rows])
    preset = load_preset(options.preset)
    scene = draw_scenes(preset, options.seed, 0, len(rows))
    found = {NAME: np.array([row["mean"] for row in rows])}
    for run in options.runs:
        found[run] = predict_scenes(run, scene, preset, options.seed)
    record = {
        "what": "mass fractions of new images by sampling their subhalos, and by networks",
        "command": command(),
        **provenance(),
        "threads": 1,
        "preset": options.preset,
        "seed": options.seed,
        "images": len(rows),
        "interval": "95 %, bootstrap over images, binomial for fractions",
        **summary(found, truth),
        **_posterior_statistics(rows),
    }
    write_json(options.out, "measurement", record)
    print(json.dumps(record, indent=1))


def _sample_image(fitter: Fitter, preset: str, seed: int, k: int) -> dict[str, Any]:
    """Sample the subhalos of image k and compare the posterior with the truth."""
    scene = draw_scenes(fitter.preset, seed, k, 1)
    with torch.no_grad():
        expected = render(scene.to("cpu", torch.float32), fitter.preset)
    counts = observe(expected, fitter.preset, seed, k, scene.background_rms)
    fit = fitter.fit(Image(counts[0].numpy(), None, f"{k}"), subhalo_method="mcmc")
    assert fit.subhalo_posterior is not None
    mass = fit.subhalo_posterior.mass_fractions
    summary = fit.subhalo_posterior.record()
    radius = fit.parameter("einstein_radius")
    return {
        "preset": preset,
        "seed": seed,
        "image": k,
        "truth": float(scene.f_sub[0]),
        "mean": float(mass.mean()),
        "error": float(mass.std()),
        **summary["mass_fraction"],
        "r_hat": summary["r_hat"],
        "radius_pull": (radius.value - float(scene.einstein_radius[0])) / radius.error,
        "reduced_chi2": fit.reduced_chi2,
        "warning": fit.warning,
        "seconds": fit.diagnostics.seconds,
    }


def summary(found: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, Any]:
    """Return the metrics of each method, and its ratio of squared errors to those of sampling."""
    first = (found[NAME] - truth) ** 2
    metrics_by_method: dict[str, Any] = {}
    rows = [["who", "MSE", "R²", "squared error of sampling over this one's"]]
    for name, mass in found.items():
        metrics = regression_metrics(truth, mass)
        if name != NAME:
            error = (mass - truth) ** 2
            metrics["mse_ratio"] = bootstrap(
                partial(_ratio_of_rows, first, error),
                [np.arange(len(truth))],
                first.mean() / error.mean(),
            )
        metrics_by_method[name] = {metric: value.to_dict() for metric, value in metrics.items()}
        rows.append(
            [name, *(str(metrics.get(metric, "")) for metric in ("mse", "r2", "mse_ratio"))]
        )
    return {"methods": metrics_by_method, "rows": rows}


def _ratio_of_rows(over: np.ndarray, under: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Ratio of the means of each resample (row of `rows`)."""
    return over[rows].mean(axis=1) / under[rows].mean(axis=1)


def _posterior_statistics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the coverage of the intervals, and statistics of the other columns."""
    values = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "warning"}
    inside = {
        level: (values[f"lo{level}"] <= values["truth"]) & (values["truth"] <= values[f"hi{level}"])
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
        "r_hat": np.quantile(values["r_hat"], quantiles).tolist(),
        "warnings": sum(bool(row["warning"]) for row in rows),
        "seconds": np.quantile(values["seconds"], quantiles).tolist(),
    }


if __name__ == "__main__":
    main()
