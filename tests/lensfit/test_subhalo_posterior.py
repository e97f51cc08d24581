"""Sampled subhalos: their laws, their effects, the chains, and what `fit` tells of them."""

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
from halometry.lensfit.subhalos import posterior as sampled
from halometry.lensfit.subhalos.mcmc import SubhaloMCMC
from halometry.lensfit.subhalos.priors import SubhaloPrior
from halometry.lensfit.subhalos.response import (
    GRID_SPACING_ARCSEC,
    LinearResponse,
    compute_response,
)
from halometry.lensfit.tables import print_fits
from halometry.simulation import Preset, Scene, draw_scenes, load_preset, observe, render

# The demonstration's small images, with masses as in halo_mass.
PRESET = load_preset("demo_mass").model_copy(update={"mass_scale": 1.0})
FEW = SubhaloPrior(
    mean_number=2.0,
    min_fraction=0.01,
    max_fraction=0.1,
    slope=-1.5,
    min_radius=0.0,
    max_radius=0.35,
)


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "STEPS_PER_ROUND", (400, 2000))


def grid(reach: float) -> np.ndarray:
    steps = round(reach / GRID_SPACING_ARCSEC) + 1
    return np.arange((2 * steps + 1) ** 2).reshape(2 * steps + 1, 2 * steps + 1)


def effects(pull: float, product: float, laws: SubhaloPrior) -> LinearResponse:
    """An image that tells of the whole mass alone."""
    side = grid(laws.max_radius)
    size = side.size
    return LinearResponse(
        side,
        np.array([laws.max_fraction]),
        np.full((size, size), product, dtype=np.float32),
        np.full(size, pull),
        np.zeros((1, size)),
    )


def visited(chains: SubhaloMCMC, steps: int, every: int = 10) -> dict[str, np.ndarray]:
    totals, numbers, masses, radii = [], [], [], []
    for _ in range(steps // every):
        chains.run(every)
        totals.append(chains.mass_fraction)
        numbers.append(chains.number.copy())
        there = chains.mass > 0
        masses.append(chains.mass[there])
        radii.append(np.hypot(chains.x, chains.y)[there])
    return {
        "total": np.concatenate(totals),
        "number": np.concatenate(numbers),
        "mass": np.concatenate(masses),
        "radius": np.concatenate(radii),
    }


def moments(laws: SubhaloPrior) -> tuple[float, float]:
    """Mean and variance of the mass fraction: of a Poisson sum, by the moments of one mass."""
    masses = laws.mass_quantile((np.arange(100_000) + 0.5) / 100_000)
    return laws.mean_number * float(masses.mean()), laws.mean_number * float((masses**2).mean())


def test_laws_have_the_moments_of_simulated_labels() -> None:
    preset = load_preset("halo_mass")
    mean, variance = moments(SubhaloPrior.from_preset(preset))
    labels = draw_scenes(preset, 3, 0, 3000).f_sub
    assert float(labels.mean()) == pytest.approx(mean, rel=0.03)
    assert float(labels.var()) == pytest.approx(variance, rel=0.08)


@pytest.mark.parametrize("inner", [0.0, 0.15])
def test_a_chain_that_sees_nothing_draws_from_the_prior(inner: float) -> None:
    laws = replace(FEW, min_radius=inner)
    chains = SubhaloMCMC(laws, 32, seed=1)
    chains.set_response(effects(0.0, 0.0, laws))
    seen = visited(chains, 8000)
    mean, variance = moments(laws)
    assert seen["number"].mean() == pytest.approx(FEW.mean_number, rel=0.05)
    assert seen["number"].var() == pytest.approx(FEW.mean_number, rel=0.1)
    assert seen["total"].mean() == pytest.approx(mean, rel=0.06)
    assert seen["total"].var() == pytest.approx(variance, rel=0.15)
    for quantile in (0.1, 0.5, 0.9):
        at = FEW.mass_quantile(np.array(quantile))
        assert (seen["mass"] < at).mean() == pytest.approx(quantile, abs=0.03)
        radius = inner + quantile * (FEW.max_radius - inner)
        assert (seen["radius"] < radius).mean() == pytest.approx(quantile, abs=0.03)


def test_a_chain_has_the_posterior_that_weighted_draws_of_the_prior_have() -> None:
    pull, product = 180.0, 2000.0  # the whole mass is 0.09 +- 0.022
    chains = SubhaloMCMC(FEW, 32, seed=2)
    chains.set_response(effects(pull, product, FEW))
    chains.run(1000)
    seen = visited(chains, 8000)
    random = np.random.default_rng(3)
    number = random.poisson(FEW.mean_number, 200_000)
    masses = FEW.mass_quantile(random.random((len(number), 14)))
    total = (masses * (np.arange(14) < number[:, None])).sum(axis=1)
    weight = np.exp(pull * total - product * total**2 / 2 - pull**2 / product / 2)
    weight /= weight.sum()
    mean = weight @ total
    assert seen["total"].mean() == pytest.approx(mean, rel=0.02)
    assert seen["total"].std() == pytest.approx((weight @ (total - mean) ** 2) ** 0.5, rel=0.06)
    assert seen["number"].mean() == pytest.approx(weight @ number, rel=0.05)


def test_effects_between_places_and_masses_are_means_of_their_neighbors() -> None:
    two = LinearResponse(
        grid(0.3), np.array([0.01, 0.04]), np.eye(1), np.zeros(1), np.zeros((1, 1))
    )
    middle = (len(two.grid_index) - 1) // 2
    which, much = two.interpolate(np.array(0.0), np.array(GRID_SPACING_ARCSEC), np.array(0.04))
    assert which[much > 0].tolist() == [2 * two.grid_index[middle + 1, middle] + 1]
    assert much.sum() == pytest.approx(0.04)
    which, much = two.interpolate(
        np.array(0.25 * GRID_SPACING_ARCSEC), np.array(0.0), np.array(0.02)
    )
    assert much.sum() == pytest.approx(0.02)
    right = which // 2 == two.grid_index[middle, middle + 1]
    assert much[right].sum() == pytest.approx(0.25 * 0.02)
    assert much[which % 2 == 1].sum() == pytest.approx(0.01)  # halfway in the logarithm
    _, much = two.interpolate(
        np.array(0.0), np.array(0.0), np.array(0.001)
    )  # lighter than rendered
    assert much.sum() == pytest.approx(0.001)


def lumpy(mass: float, x: float, y: float) -> Scene:
    """A lens with one subhalo."""
    scene = draw_scenes(PRESET, 8, 0, 1).to("cpu", torch.float32)
    return with_point_masses(scene, *(torch.tensor([[value]]) for value in (mass, x, y)))


@pytest.mark.parametrize(("mass", "x", "y"), [(0.002, 0.9, 0.6), (0.005, -0.8, -0.7)])
def test_the_likelihood_by_effects_is_that_of_a_fit(mass: float, x: float, y: float) -> None:
    """Of a subhalo's place, against images without it, the lens fitted beside it or not."""
    fitter, laws = Fitter(PRESET, draws=1), SubhaloPrior.from_preset(PRESET)
    scene = lumpy(mass, x, y)
    image = render(scene, fitter.preset)[0, 0].double()
    model = fitter.full.model(fitter.parametrization)
    start = fitter.parametrization.coordinates(lambda name: getattr(scene, name).double())
    likelihood = PoissonLikelihood(image.flatten())
    with torch.no_grad():
        smooth = maximize_likelihood(model, likelihood, start)
        told = compute_response(model, FitData(image, 0.0, None, 0, range(1)), smooth, laws)
    which, much = told.interpolate(np.array(x), np.array(y), np.array(mass))
    among = told.products[np.ix_(which, which)]
    gain = 2 * (much @ told.projection[which]) - much @ among @ much
    best = float(smooth.deviance[0])  # of an image without noise, whose own deviance is 0
    assert best > 4
    assert gain == pytest.approx(best, rel=0.1)


def test_fit_tells_the_posterior_of_the_mass(tmp_path: Path) -> None:
    preset = PRESET
    scene = draw_scenes(preset, 21, 4, 1)
    counts = observe(render(scene.to("cpu", torch.float32), preset), preset, 21, 4)[0]
    scaled = (counts - counts.min()) / (counts.max() - counts.min())  # as the published sets are
    np.save(tmp_path / "lens.npy", scaled.numpy())
    (found,) = found_all = fit_lens(
        tmp_path / "lens.npy", PRESET, tmp_path / "out", subhalos="sampled"
    )
    out = StringIO()
    print_fits([*found_all, *found_all], Console(file=out, width=120))
    assert "mass fraction" in out.getvalue()
    assert not isinstance(found, Exception)
    assert found.subhalo_posterior is not None
    mass = found.parameter("mass_fraction")
    assert abs(mass.value - float(scene.f_sub[0])) < 5 * mass.error
    assert mass.error < moments(SubhaloPrior.from_preset(preset))[1] ** 0.5
    radius = found.parameter("einstein_radius")
    assert abs(radius.value - float(scene.einstein_radius[0])) < 5 * radius.error
    assert abs(found.reduced_chi2 - 1) < 5 * found.reduced_chi2_std
    assert found.subhalo_posterior.mean_mass.sum() == pytest.approx(mass.value, rel=0.05)
    told = json.loads((tmp_path / "out" / "fits.json").read_text())["fits"][0]["posterior"]
    levels = [*told["mass_fraction"].values()]
    assert levels == sorted(levels)
    with (tmp_path / "out" / "fits.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["mass_fraction"]) == pytest.approx(mass.value, rel=1e-5)
    assert (tmp_path / "out" / "0001-lens.png").stat().st_size > 10_000


def test_the_same_seed_gives_the_same_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "STEPS_PER_ROUND", (400,))
    preset = PRESET
    scene = draw_scenes(preset, 22, 0, 1).to("cpu", torch.float32)
    image = Image(observe(render(scene, preset), preset, 22, 0)[0].numpy(), None, "one")
    first, second = (Fitter(preset, draws=50).fit(image, subhalos="sampled") for _ in range(2))
    assert first.subhalo_posterior is not None
    assert second.subhalo_posterior is not None
    assert np.array_equal(
        first.subhalo_posterior.mass_fractions, second.subhalo_posterior.mass_fractions
    )


def test_chains_that_do_not_agree_are_doubted() -> None:
    apart = np.tile(np.arange(4.0), (10, 1)) + np.random.default_rng(0).normal(0, 0.1, (10, 4))
    draws = sampled.SubhaloPosterior(apart, apart, torch.zeros(40, 1), np.zeros((2, 2)))
    assert draws.r_hat > sampled.MAX_R_HAT
    together = np.random.default_rng(0).normal(0, 1, (500, 4))
    assert (
        sampled.SubhaloPosterior(together, together, torch.zeros(1, 1), np.zeros((2, 2))).r_hat
        < 1.01
    )


def test_an_image_without_counts_is_a_row_that_says_so(tmp_path: Path) -> None:
    preset = PRESET
    scene = draw_scenes(preset, 21, 4, 1).to("cpu", torch.float32)
    counts = observe(render(scene, preset), preset, 21, 4)[0].numpy()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, counts.shape)
    np.save(tmp_path / "lens.npy", (counts + noise).astype(np.float32))
    (found,) = fit_lens(tmp_path / "lens.npy", preset, subhalos="sampled")
    assert isinstance(found, ReadError)
    assert "its pixels are no counts" in found.reason


def changed(**parts: object) -> Preset:
    """The preset with another law of its subhalos."""
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
        (PRESET, {"vortex": True}, "takes no --vortex beside them"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    tmp_path: Path, preset: str | Preset, options: dict[str, Any], message: str
) -> None:
    np.save(tmp_path / "1.npy", np.zeros((48, 48), dtype=np.float32))
    with pytest.raises(UsageError, match=message):
        fit_lens(tmp_path / "1.npy", preset, subhalos="sampled", **options)
