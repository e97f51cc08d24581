"""Coverage of the errors of `fit_lens`: 500 simulated images of `common_test_1`, class `no`.

    python research/fit_coverage.py --work runs/fit_coverage.jsonl --out results/fit_coverage.json

Each image is scaled to [0, 1], as the published ones are, so that its counts have to be recovered.
The script counts the images whose true parameters lie within the 68.27 and 95.45 % intervals: each
parameter alone, and all together by the covariance. It also counts the fits with a lower likelihood
than the truth, which are wrong optima. Repeat the command to continue after a stop.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2

from halometry.datasets.readers import Image
from halometry.evaluation import bootstrap as intervals
from halometry.io import write_json
from halometry.lensfit import Fit, Fitter
from halometry.provenance import command, provenance
from halometry.simulation import Scene, draw_scenes, observe, render

LEVELS = {"68": 0.6827, "95": 0.9545}
MAX_EXCESS_DEVIANCE = 0.1  # of a fit over the truth; above, the optimum is wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="rows of finished images")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--preset", default="common_test_1")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument(
        "--read-noise", type=float, default=0.0, help="counts, after which noise is estimated"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    fitter = Fitter(options.preset)
    setup = time.perf_counter() - begin
    options.work.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.work.open()] if options.work.exists() else []
    with options.work.open("a") as file:
        for k in range(len(rows), options.count):
            if options.read_noise:
                rows.append(_fit_noisy(fitter, options.seed, 3 * k, options.read_noise))
            else:
                rows.append(_fit_scaled(fitter, options.seed, 3 * k))
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
    record = {
        "what": "fraction of images whose true parameters lie in the intervals of `fit_lens`",
        "command": command(),
        **provenance(),
        "threads": 1,
        "preset": options.preset,
        "class": "no",
        "seed": options.seed,
        "read_noise": options.read_noise,
        "setup_seconds": setup,
        **summary(rows),
    }
    write_json(options.out, "measurement", record)
    print(json.dumps(record, indent=1))


def _fit_scaled(fitter: Fitter, seed: int, k: int) -> dict[str, Any]:
    """Fit image k, of class `no`, and compare the fit with the scene."""
    scene = draw_scenes(fitter.preset, seed, k, 1)
    with torch.no_grad():
        counts = observe(render(scene, fitter.preset), fitter.preset, seed, k)[0].double().numpy()
    pixels = ((counts - counts.min()) / np.ptp(counts)).astype(np.float32)
    fit = fitter.fit(Image(pixels, None, f"{k}"))
    truth = truth_of(fit, scene)
    deviation = truth - fit.theta
    return {
        "image": k,
        "parameters": fit.theta.numel(),
        "pulls": _pulls(fit, truth, scene),
        "distance": float(deviation @ torch.linalg.solve(fit.covariance, deviation)),
        "excess_deviance": fit.deviance - fitter.deviance(fit, truth),
        "offset_right": bool(fit.data.min() == counts.min()),
        "reduced_chi2": fit.reduced_chi2,
        "agreeing_starts": fit.diagnostics.agreeing_starts,
        "converged": fit.converged,
        "seconds": fit.diagnostics.seconds,
    }


def _fit_noisy(fitter: Fitter, seed: int, k: int, read_noise: float) -> dict[str, Any]:
    """Fit image k with added Gaussian noise, so that its pixels are not counts."""
    scene = draw_scenes(fitter.preset, seed, k, 1)
    with torch.no_grad():
        counts = observe(render(scene, fitter.preset), fitter.preset, seed, k)[0].double().numpy()
    counts += read_noise * np.random.default_rng([seed, k]).normal(size=counts.shape)
    pixels = ((counts - counts.min()) / np.ptp(counts)).astype(np.float32)
    fit = fitter.fit(Image(pixels, None, f"{k}"))
    assert not fit.is_counts
    pulls = {}
    for parameter in fit.parameters:
        if parameter.unit != "rad" and hasattr(scene, parameter.name):
            deviation = parameter.value - float(getattr(scene, parameter.name)[0])
            pulls[parameter.name] = deviation / parameter.error
    return {
        "image": k,
        "pulls": pulls,
        "reduced_chi2": fit.reduced_chi2,
        "converged": fit.converged,
        "seconds": fit.diagnostics.seconds,
    }


def truth_of(fit: Fit, scene: Scene) -> torch.Tensor:
    """Return the true coordinates (P,)."""
    return fit.parametrization.coordinates(lambda name: getattr(scene, name))[0]


def _pulls(fit: Fit, truth: torch.Tensor, scene: Scene) -> dict[str, float]:
    """Return (value - truth) / error of all reported parameters; angles modulo pi."""
    derived = {
        name: float(value)
        for name, value in fit.parametrization.derived_parameters(truth[None]).items()
    }
    pulls = {}
    for parameter in fit.parameters:
        deviation = parameter.value - derived[parameter.name]
        if parameter.unit == "rad":
            deviation = (deviation + np.pi / 2) % np.pi - np.pi / 2
        pulls[parameter.name] = deviation / parameter.error
    return pulls


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the coverage with binomial intervals, and statistics of the other columns."""
    pulls = {name: np.array([row["pulls"][name] for row in rows]) for name in rows[0]["pulls"]}
    inside = {
        name: {level: np.abs(p) < chi2.ppf(q, 1) ** 0.5 for level, q in LEVELS.items()}
        for name, p in pulls.items()
    }
    rates = {}
    if "distance" in rows[0]:
        distance, size = np.array([row["distance"] for row in rows]), rows[0]["parameters"]
        inside["all together"] = {n: distance < chi2.ppf(q, size) for n, q in LEVELS.items()}
        rates["wrong_optimum"] = fraction_interval(
            np.array([row["excess_deviance"] > MAX_EXCESS_DEVIANCE for row in rows])
        )
        rates["offset_right"] = fraction_interval(np.array([row["offset_right"] for row in rows]))
    seconds = np.array([row["seconds"] for row in rows])
    chi = np.array([row["reduced_chi2"] for row in rows])
    return {
        "images": len(rows),
        "coverage": {
            name: {level: fraction_interval(hits) for level, hits in by_level.items()}
            for name, by_level in inside.items()
        },
        "pull": {
            name: {"mean": float(p.mean()), "standard_deviation": float(p.std())}
            for name, p in pulls.items()
        },
        **rates,
        "not_converged": fraction_interval(np.array([not row["converged"] for row in rows])),
        "reduced_chi2": {"mean": float(chi.mean()), "standard_deviation": float(chi.std())},
        "seconds": dict(
            zip(
                ("lower_quartile", "median", "upper_quartile", "max"),
                np.quantile(seconds, (0.25, 0.5, 0.75, 1)).tolist(),
                strict=True,
            )
        ),
    }


def fraction_interval(hits: np.ndarray) -> dict[str, float]:
    """Return the fraction of true values (N,), with its interval."""
    return intervals.binomial_interval(int(hits.sum()), len(hits)).to_dict()


if __name__ == "__main__":
    main()
