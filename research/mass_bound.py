"""Lower bound of the error of the mass fraction of `halo_mass`, if positions are known.

    python research/mass_bound.py --out results/mass_bound.json

An ideal observer of simulated images knows the noise, and the number and positions of the subhalos.
Lens, shear and source are fitted together with the masses of the subhalos. The image is taken as
linear in all of them around the truth. Its information on the masses f is then their Fisher
information F, with the lens's parameters projected out, and a vector b = F f + noise of
covariance F.

- `linear`: squared error of the best linear estimate, with the mean and variance of the preset's
  distribution of masses: 1^T (F + S^-1)^-1 1. No linear estimate has a smaller one.
- `posterior`: squared error of the posterior mean with the distribution of masses as prior, by
  Gibbs sampling. The chain starts at the truth, which is a draw from the posterior. No estimate
  with this or less knowledge has a smaller mean squared error. It bounds the error of any network,
  as far as the image is linear.

With `--run` a network predicts the same scenes, with their noise.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import halometry
from halometry.evaluation.bootstrap import bootstrap, format_interval
from halometry.io import write_json
from halometry.lensfit.likelihood import Model
from halometry.lensfit.linear import project_out
from halometry.lensfit.parametrization import build_parametrization
from halometry.log import track
from halometry.provenance import command, provenance
from halometry.runs.mapped_inputs import mapping_images
from halometry.runs.predict_rows import point_predictions
from halometry.seeds import SENSITIVITY_SEED_OFFSET
from halometry.sensitivity.ideal_observer import variance_of_sum
from halometry.simulation import Preset, Scene, draw_scenes, load_preset, observe, render
from halometry.simulation.distributions import PowerLaw
from halometry.simulation.lenses import SOFTENING, deflection
from halometry.simulation.light import source_light
from halometry.simulation.render import bin_pixels, convolve_psf, pixel_axes

# Smallest mass for which the response is rendered; lighter subhalos scale with it. Its Einstein
# radius is half a subpixel.
MIN_MASS_MSUN = 1e8
CELLS = 1000  # of the grid on which a mass is drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--preset", default="halo_mass")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sweeps", type=int, default=400)
    parser.add_argument("--run", help="a regression run to compare with")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    preset = load_preset(options.preset)
    scene = draw_scenes(preset, options.seed + SENSITIVITY_SEED_OFFSET, 0, options.count)
    with torch.no_grad(), track("information", options.count) as progress:
        known = []
        for k in range(options.count):
            known.append(information(scene.rows(slice(k, k + 1)), preset))
            progress.advance()
    result = errors(known, mass_distribution(preset), options.sweeps, options.seed)
    truth = scene.f_sub.numpy()
    if options.run:
        result["network"] = (
            predict_scenes(options.run, scene, preset, options.seed + SENSITIVITY_SEED_OFFSET)
            - truth
        ) ** 2
    record = {
        "what": "mean squared error of the mass fraction for known positions of subhalos",
        "command": command(),
        **provenance(),
        "preset": options.preset,
        "seed": options.seed,
        "images": options.count,
        "sweeps": options.sweeps,
        "interval": "95 %, bootstrap over images",
        "seconds": time.perf_counter() - begin,
        **summary(result, truth),
    }
    write_json(options.out, "measurement", record)
    print(json.dumps(record, indent=1))


def information(scene: Scene, preset: Preset) -> tuple[Tensor, Tensor]:
    """Compute the Fisher information (K, K) on the mass fractions of an image's subhalos.

    Returns:
        The information, and the true mass fractions (K,).
    """
    scene = scene.to("cpu", torch.float64)
    parametrization = build_parametrization(preset, scene)  # of the lens alone; subhalos are held
    theta = parametrization.coordinates(lambda name: getattr(scene, name))
    expected, derivatives = Model(preset, parametrization).linearized(theta)
    noise = (expected[0] + scene.background_rms**2).sqrt()
    fraction = scene.subhalo_mass[0] / scene.halo_mass
    present = torch.nonzero(fraction > 0)[:, 0].tolist()
    if not present:
        return torch.zeros(0, 0).double(), fraction[:0].double()
    changed = _ChangedScene(scene, preset)
    responses = []
    for i in present:
        top = max(float(fraction[i]), MIN_MASS_MSUN / float(scene.halo_mass))
        with_ = expected[0] if top == float(fraction[i]) else changed(i, top)
        responses.append((with_ - changed(i, 0.0)) / top / noise)
    every = torch.stack(responses)[None].double()
    left = project_out(every, (derivatives / noise).double())[0]
    return left @ left.T, fraction[present].double()


class _ChangedScene:
    """Renderer of one scene with another mass of one subhalo; keeps all other deflections."""

    def __init__(self, scene: Scene, preset: Preset) -> None:
        self.scene, self.spec = scene, preset.image
        self.x, self.y = pixel_axes(preset.image, scene.einstein_radius)
        self.deflection = deflection(scene, self.x, self.y, preset.cosmology)

    def __call__(self, i: int, fraction: float) -> Tensor:
        """Compute the expected counts (N,) with another mass fraction of subhalo i."""
        scene = self.scene
        dx, dy = self.x - scene.subhalo_x[0, i], self.y - scene.subhalo_y[0, i]
        before = scene.subhalo_mass[0, i] / scene.halo_mass
        strength = scene.einstein_radius**2 * (fraction - before) / (dx**2 + dy**2 + SOFTENING**2)
        ax, ay = self.deflection
        light = source_light(scene, self.x - ax - strength * dx, self.y - ay - strength * dy, None)
        light = bin_pixels(light, self.spec.supersampling)
        return (convolve_psf(light[:, None], self.spec) + self.spec.sky).flatten()


def mass_distribution(preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    """Return the distribution of a subhalo's mass fraction: a grid and probabilities (CELLS,)."""
    assert preset.subhalos is not None
    assert preset.lens.mass is not None
    distribution = preset.subhalos.mass.power_law
    assert isinstance(distribution, PowerLaw)
    edges = np.geomspace(distribution.low, distribution.high, CELLS + 1) * preset.mass_scale
    middle = np.sqrt(edges[1:] * edges[:-1])
    probability = middle ** (distribution.slope + 1)
    return middle / preset.lens.mass.support[0], probability / probability.sum()


def errors(
    known: list[tuple[Tensor, Tensor]],
    distribution: tuple[np.ndarray, np.ndarray],
    sweeps: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Compute squared errors or their expectations of B images, (B,) each."""
    grid, probability = distribution
    mean = float(grid @ probability)
    variance = float((grid - mean) ** 2 @ probability)
    most = max(len(f) for _, f in known)
    fisher, truth = np.zeros((len(known), most, most)), np.zeros((len(known), most))
    for k, (one, f) in enumerate(known):
        fisher[k, : len(f), : len(f)] = one
        truth[k, : len(f)] = f
    there = truth > 0
    prior = torch.from_numpy(np.where(there, variance, 0.0))
    # Information far below the prior's, so that the matrix is positive definite.
    more = 1e-3 * torch.eye(most, dtype=torch.float64)
    root = torch.linalg.cholesky(torch.from_numpy(fisher) + more)
    linear = variance_of_sum(root, prior).numpy()  # only products of responses matter
    rng = np.random.default_rng(seed)
    noise = np.einsum("bij,bj->bi", root.numpy(), rng.standard_normal(truth.shape))
    data = np.einsum("bij,bj->bi", fisher, truth) + noise
    total, spread, late = _gibbs(fisher, data, truth, distribution, sweeps, seed)
    return {
        "linear": linear,
        "posterior": spread,
        "posterior_mean_squared_error": (total - truth.sum(axis=1)) ** 2,
        "half_squared_distance_of_last_draw": (late - truth.sum(axis=1)) ** 2 / 2,
    }


def _gibbs(
    fisher: np.ndarray,
    data: np.ndarray,
    start: np.ndarray,
    distribution: tuple[np.ndarray, np.ndarray],
    sweeps: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample the masses of B images; return mean, variance and last draw of their sum (B,)."""
    grid, probability = (torch.from_numpy(values) for values in distribution)
    log_probability, half_square = probability.log(), grid**2 / 2
    f, matrix, b = (torch.from_numpy(one.copy()) for one in (start, fisher, data))
    there, generator = f > 0, torch.Generator().manual_seed(seed)
    sums = torch.empty(sweeps, len(f), dtype=torch.float64)
    with track("posterior", sweeps) as progress:
        for sweep in range(sweeps):
            for i in torch.nonzero(there.any(dim=0))[:, 0].tolist():
                which = torch.nonzero(there[:, i])[:, 0]
                own = matrix[which, i, i]
                pull = b[which, i] - (matrix[which, i] * f[which]).sum(dim=1) + own * f[which, i]
                log = log_probability + pull[:, None] * grid - own[:, None] * half_square
                chance = (log - log.amax(dim=1, keepdim=True)).float().exp_()
                drawn = torch.multinomial(chance, 1, generator=generator)[:, 0]
                f[which, i] = grid[drawn]
            sums[sweep] = f.sum(dim=1)
            progress.advance()
    return sums.mean(dim=0).numpy(), sums.var(dim=0).numpy(), sums[-1].numpy()


def predict_scenes(name: str, scene: Scene, preset: Preset, seed: int) -> np.ndarray:
    """Return the mass fractions (B,) that a network predicts from the images of scenes."""
    run = halometry.load_run(name, "regression")
    found = []
    with mapping_images(run, run.predict_fn("cpu"), len(scene), 1) as answerer:
        for first in range(0, len(scene), 32):
            some = scene.rows(slice(first, first + 32))
            with torch.no_grad():
                expected = render(some.to("cpu", torch.float32), preset)
            counts = observe(expected, preset, seed, first, some.background_rms)
            found.append(answerer(counts.numpy()).astype(np.float64))
    return point_predictions(run, np.concatenate(found))


def summary(result: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, Any]:
    """Return mean squared errors and R², with intervals."""
    squares = (truth - truth.mean()) ** 2
    groups = [np.arange(len(truth))]
    metrics: dict[str, Any] = {"variance_of_truth": float(squares.mean())}
    rows = [["who", "MSE, 1e-5", "R²"]]
    names = {
        "network": "the network",
        "linear": "known positions, best linear estimate",
        "posterior": "known positions, any estimate",
    }
    for name, errors_ in result.items():
        mse = bootstrap(partial(_mse_of_rows, errors_), groups, errors_.mean())
        r2 = bootstrap(
            partial(_r2_of_rows, errors_, truth),
            groups,
            1 - errors_.mean() / truth.var(),
        )
        metrics[name] = {"mse": mse.to_dict(), "r2": r2.to_dict()}
        if name in names:
            scaled = (1e5 * x for x in (mse.value, mse.low, mse.high))
            rows.append([names[name], "{} [{}, {}]".format(*format_interval(*scaled)), str(r2)])
    return {**metrics, "rows": rows}


def _mse_of_rows(squared_errors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean squared error of each resample (row of `rows`)."""
    return squared_errors[rows].mean(axis=1)


def _r2_of_rows(squared_errors: np.ndarray, truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Coefficient of determination of each resample (row of `rows`)."""
    return 1 - squared_errors[rows].mean(axis=1) / truth[rows].var(axis=1)


if __name__ == "__main__":
    main()
