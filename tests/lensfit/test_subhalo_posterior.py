"""Posterior of subhalos: prior, linear response, Markov chains, and what `fit_lens` reports."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from halometry.datasets.readers import Image
from halometry.errors import ReadError, UsageError
from halometry.lensfit import Fitter
from halometry.lensfit.command import fit_lens
from halometry.lensfit.likelihood import PoissonLikelihood
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import maximize_likelihood
from halometry.lensfit.parametrization import with_point_masses
from halometry.lensfit.subhalos import posterior
from halometry.lensfit.subhalos.mcmc import SubhaloMCMC
from halometry.lensfit.subhalos.priors import SubhaloPrior
from halometry.lensfit.subhalos.response import (
    GRID_SPACING_ARCSEC,
    LinearResponse,
    compute_response,
)
from halometry.lensfit.tables import print_fits
from halometry.simulation import Preset, Scene, draw_scenes, load_preset, observe, render

# The small images of the demonstration, with masses as in the preset halo_mass.
PRESET = load_preset("demo_mass").model_copy(update={"mass_scale": 1.0})
PRIOR = SubhaloPrior(
    mean_number=2.0,
    min_fraction=0.01,
    max_fraction=0.1,
    slope=-1.5,
    min_radius=0.0,
    max_radius=0.35,
)


@pytest.fixture(autouse=True)
def short_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior, "STEPS_PER_ROUND", (400, 2000))


def grid(reach: float) -> np.ndarray:
    steps = round(reach / GRID_SPACING_ARCSEC) + 1
    return np.arange((2 * steps + 1) ** 2).reshape(2 * steps + 1, 2 * steps + 1)


def mass_response(pull: float, product: float, prior: SubhaloPrior) -> LinearResponse:
    """Return the response of an image that is sensitive to the summed mass alone."""
    side = grid(prior.max_radius)
    size = side.size
    return LinearResponse(
        side,
        np.array([prior.max_fraction]),
        np.full((size, size), product, dtype=np.float32),
        np.full(size, pull),
        np.zeros((1, size)),
    )


def run_and_collect(chains: SubhaloMCMC, steps: int, thinning: int = 10) -> dict[str, np.ndarray]:
    totals, numbers, masses, radii = [], [], [], []
    for _ in range(steps // thinning):
        chains.run(thinning)
        totals.append(chains.mass_fraction)
        numbers.append(chains.number.copy())
        occupied = chains.mass > 0
        masses.append(chains.mass[occupied])
        radii.append(np.hypot(chains.x, chains.y)[occupied])
    return {
        "total": np.concatenate(totals),
        "number": np.concatenate(numbers),
        "mass": np.concatenate(masses),
        "radius": np.concatenate(radii),
    }


def moments(prior: SubhaloPrior) -> tuple[float, float]:
    """Return mean and variance of the mass fraction, which is a Poisson sum of masses."""
    masses = prior.mass_quantile((np.arange(100_000) + 0.5) / 100_000)
    return prior.mean_number * float(masses.mean()), prior.mean_number * float((masses**2).mean())


def test_prior_has_moments_of_simulated_mass_fractions() -> None:
    preset = load_preset("halo_mass")
    mean, variance = moments(SubhaloPrior.from_preset(preset))
    labels = draw_scenes(preset, 3, 0, 3000).f_sub
    assert float(labels.mean()) == pytest.approx(mean, rel=0.03)
    assert float(labels.var()) == pytest.approx(variance, rel=0.08)


@pytest.mark.parametrize("inner", [0.0, 0.15])
def test_chains_without_data_draw_from_prior(inner: float) -> None:
    prior = replace(PRIOR, min_radius=inner)
    chains = SubhaloMCMC(prior, 32, seed=1)
    chains.set_response(mass_response(0.0, 0.0, prior))
    seen = run_and_collect(chains, 8000)
    mean, variance = moments(prior)
    assert seen["number"].mean() == pytest.approx(PRIOR.mean_number, rel=0.05)
    assert seen["number"].var() == pytest.approx(PRIOR.mean_number, rel=0.1)
    assert seen["total"].mean() == pytest.approx(mean, rel=0.06)
    assert seen["total"].var() == pytest.approx(variance, rel=0.15)
    for quantile in (0.1, 0.5, 0.9):
        at = PRIOR.mass_quantile(np.array(quantile))
        assert (seen["mass"] < at).mean() == pytest.approx(quantile, abs=0.03)
        radius = inner + quantile * (PRIOR.max_radius - inner)
        assert (seen["radius"] < radius).mean() == pytest.approx(quantile, abs=0.03)


def test_chains_agree_with_importance_sampling() -> None:
    pull, product = 180.0, 2000.0  # the whole mass is 0.09 +- 0.022
    chains = SubhaloMCMC(PRIOR, 32, seed=2)
    chains.set_response(mass_response(pull, product, PRIOR))
    chains.run(1000)
    seen = run_and_collect(chains, 8000)
    random = np.random.default_rng(3)
    number = random.poisson(PRIOR.mean_number, 200_000)
    masses = PRIOR.mass_quantile(random.random((len(number), 14)))
    total = (masses * (np.arange(14) < number[:, None])).sum(axis=1)
    weight = np.exp(pull * total - product * total**2 / 2 - pull**2 / product / 2)
    weight /= weight.sum()
    mean = weight @ total
    assert seen["total"].mean() == pytest.approx(mean, rel=0.02)
    assert seen["total"].std() == pytest.approx((weight @ (total - mean) ** 2) ** 0.5, rel=0.06)
    assert seen["number"].mean() == pytest.approx(weight @ number, rel=0.05)


def test_response_is_interpolated_between_nodes() -> None:
    two = LinearResponse(
        grid(0.3), np.array([0.01, 0.04]), np.eye(1), np.zeros(1), np.zeros((1, 1))
    )
    middle = (len(two.grid_index) - 1) // 2
    nodes, weights = two.interpolate(np.array(0.0), np.array(GRID_SPACING_ARCSEC), np.array(0.04))
    assert nodes[weights > 0].tolist() == [2 * two.grid_index[middle + 1, middle] + 1]
    assert weights.sum() == pytest.approx(0.04)
    nodes, weights = two.interpolate(
        np.array(0.25 * GRID_SPACING_ARCSEC), np.array(0.0), np.array(0.02)
    )
    assert weights.sum() == pytest.approx(0.02)
    right = nodes // 2 == two.grid_index[middle, middle + 1]
    assert weights[right].sum() == pytest.approx(0.25 * 0.02)
    assert weights[nodes % 2 == 1].sum() == pytest.approx(0.01)  # in the middle of the logarithms
    _, weights = two.interpolate(
        np.array(0.0), np.array(0.0), np.array(0.001)
    )  # below the rendered masses
    assert weights.sum() == pytest.approx(0.001)


def lens_with_subhalo(mass: float, x: float, y: float) -> Scene:
    """Return a lens with one subhalo."""
    scene = draw_scenes(PRESET, 8, 0, 1).to("cpu", torch.float32)
    return with_point_masses(scene, *(torch.tensor([[value]]) for value in (mass, x, y)))


@pytest.mark.parametrize(("mass", "x", "y"), [(0.002, 0.9, 0.6), (0.005, -0.8, -0.7)])
def test_likelihood_of_linear_response_agrees_with_full_fit(
    mass: float, x: float, y: float
) -> None:
    """The gain in 2 ln L by a true subhalo, with the lens fitted again, is that of a full fit."""
    fitter, prior = Fitter(PRESET, draws=1), SubhaloPrior.from_preset(PRESET)
    scene = lens_with_subhalo(mass, x, y)
    image = render(scene, fitter.preset)[0, 0].double()
    model = fitter.full.model(fitter.parametrization)
    start = fitter.parametrization.coordinates(lambda name: getattr(scene, name).double())
    likelihood = PoissonLikelihood(image.flatten())
    with torch.no_grad():
        smooth = maximize_likelihood(model, likelihood, start)
        response = compute_response(model, FitData(image, 0.0, None, 0, range(1)), smooth, prior)
    nodes, weights = response.interpolate(np.array(x), np.array(y), np.array(mass))
    among = response.products[np.ix_(nodes, nodes)]
    gain = 2 * (weights @ response.projection[nodes]) - weights @ among @ weights
    best = float(smooth.deviance[0])  # the true deviance is 0, as there is no noise
    assert best > 4
    assert gain == pytest.approx(best, rel=0.1)


def test_fit_lens_reports_posterior_of_mass_fraction(tmp_path: Path) -> None:
    preset = PRESET
    scene = draw_scenes(preset, 21, 4, 1)
    counts = observe(render(scene.to("cpu", torch.float32), preset), preset, 21, 4)[0]
    scaled = (counts - counts.min()) / (counts.max() - counts.min())  # as the published sets are
    np.save(tmp_path / "lens.npy", scaled.numpy())
    (fit,) = results = fit_lens(
        tmp_path / "lens.npy", PRESET, out=tmp_path / "out", subhalo_method="mcmc"
    )
    out = StringIO()
    print_fits([*results, *results], Console(file=out, width=120))
    assert "mass fraction" in out.getvalue()
    assert not isinstance(fit, Exception)
    assert fit.subhalo_posterior is not None
    mass = fit.parameter("mass_fraction")
    assert abs(mass.value - float(scene.f_sub[0])) < 5 * mass.error
    assert mass.error < moments(SubhaloPrior.from_preset(preset))[1] ** 0.5
    radius = fit.parameter("einstein_radius")
    assert abs(radius.value - float(scene.einstein_radius[0])) < 5 * radius.error
    assert abs(fit.reduced_chi2 - 1) < 5 * fit.reduced_chi2_std
    assert fit.subhalo_posterior.mean_mass.sum() == pytest.approx(mass.value, rel=0.05)
    record = json.loads((tmp_path / "out" / "fits.json").read_text())["fits"][0]["posterior"]
    levels = [*record["mass_fraction"].values()]
    assert levels == sorted(levels)
    with (tmp_path / "out" / "fits.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["mass_fraction"]) == pytest.approx(mass.value, rel=1e-5)
    assert (tmp_path / "out" / "0001-lens.png").stat().st_size > 10_000


def test_posterior_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior, "STEPS_PER_ROUND", (400,))
    preset = PRESET
    scene = draw_scenes(preset, 22, 0, 1).to("cpu", torch.float32)
    image = Image(observe(render(scene, preset), preset, 22, 0)[0].numpy(), None, "one")
    first, second = (Fitter(preset, draws=50).fit(image, subhalo_method="mcmc") for _ in range(2))
    assert first.subhalo_posterior is not None
    assert second.subhalo_posterior is not None
    assert np.array_equal(
        first.subhalo_posterior.mass_fractions, second.subhalo_posterior.mass_fractions
    )


def test_r_hat_detects_disagreeing_chains() -> None:
    apart = np.tile(np.arange(4.0), (10, 1)) + np.random.default_rng(0).normal(0, 0.1, (10, 4))
    draws = posterior.SubhaloPosterior(apart, apart, torch.zeros(40, 1), np.zeros((2, 2)))
    assert draws.r_hat > posterior.MAX_R_HAT
    together = np.random.default_rng(0).normal(0, 1, (500, 4))
    assert (
        posterior.SubhaloPosterior(together, together, torch.zeros(1, 1), np.zeros((2, 2))).r_hat
        < 1.01
    )


def test_mcmc_returns_error_for_image_without_counts(tmp_path: Path) -> None:
    preset = PRESET
    scene = draw_scenes(preset, 21, 4, 1).to("cpu", torch.float32)
    counts = observe(render(scene, preset), preset, 21, 4)[0].numpy()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, counts.shape)
    np.save(tmp_path / "lens.npy", (counts + noise).astype(np.float32))
    (fit,) = fit_lens(tmp_path / "lens.npy", preset, subhalo_method="mcmc")
    assert isinstance(fit, ReadError)
    assert "its pixels are no counts" in fit.reason


def changed(**parts: object) -> Preset:
    """Return the preset with other distributions of its subhalos."""
    assert PRESET.subhalos is not None
    subhalos = type(PRESET.subhalos).model_validate(PRESET.subhalos.model_dump() | parts)
    return PRESET.model_copy(update={"subhalos": subhalos})


SMOOTH = {"task": "classification", "classes": {"no": "no"}}


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        (PRESET.model_copy(update=SMOOTH), {}, "has no subhalos whose posterior to sample"),
        (changed(number={"poisson": 0.0, "source": "x"}), {}, "takes point masses of a power law"),
        (
            changed(angle={"uniform": [0.0, 3.0], "unit": "rad", "source": "x"}),
            {},
            "uniform in distance and angle",
        ),
        (
            changed(radius={"uniform": [0.0, 6.0], "unit": "arcsec", "source": "x"}),
            {},
            "has subhalos 6 arcsec from the lens; sampling takes none beyond 4",
        ),
        (PRESET, {"device": "cuda"}, "runs on the CPU; give --device cpu, not cuda"),
        ("model_1_as_run", {}, "sampling takes"),
        ("euclid", {}, "a Poisson number, uniform in distance and angle, in a halo of one mass"),
        (PRESET, {"vortex": True}, "cannot fit a vortex, too"),
    ],
)
def test_mcmc_refuses_unsupported_presets_and_options(
    tmp_path: Path, preset: str | Preset, options: dict[str, Any], message: str
) -> None:
    np.save(tmp_path / "1.npy", np.zeros((48, 48), dtype=np.float32))
    with pytest.raises(UsageError, match=message):
        fit_lens(tmp_path / "1.npy", preset, subhalo_method="mcmc", **options)
