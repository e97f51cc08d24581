"""Parts of a fit: counts, derivatives, likelihood, optimizer, detection map."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from halometry.datasets.readers import Image
from halometry.lensfit.detection import linearize_image
from halometry.lensfit.fitter import Fitter
from halometry.lensfit.likelihood import Model, PoissonLikelihood, with_larger_pixels
from halometry.lensfit.observation import (
    FitData,
    estimate_noise,
    estimate_offset,
    prepare_data,
    recover_counts,
)
from halometry.lensfit.optimize import (
    covariance,
    fisher_information,
    maximize_likelihood,
    robust_covariance,
)
from halometry.lensfit.parameter_blocks import ParameterBlock, subhalo_block, vortex_block
from halometry.lensfit.parametrization import (
    PARAMETER_BLOCKS,
    Parametrization,
    build_parametrization,
)
from halometry.lensfit.substructure import _peaks, _subhalo_kernel
from halometry.runs.execution import pinned_threads
from halometry.simulation import draw_scenes, load_preset, render, sample
from halometry.simulation.distributions import Quantity

PRESET = "demo_classification"


@pytest.fixture(scope="module")
def fitter() -> Fitter:
    return Fitter(PRESET, draws=50)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(40, (48, 48)).astype(np.float64)


def image(pixels: np.ndarray, path: str = "image.npy") -> Image:
    return Image(pixels[None].astype(np.float32), None, path)


def truth(parametrization: Parametrization, k: int) -> Tensor:
    scene = draw_scenes(load_preset(PRESET), 5, k, 1)
    return parametrization.coordinates(lambda name: getattr(scene, name))


@pytest.mark.parametrize(("zero", "unit"), [(0.0, 1 / 900), (-3.2, 0.07), (1e-3, 5e4)])
def test_recover_counts_undoes_linear_scaling(counts: np.ndarray, zero: float, unit: float) -> None:
    found = recover_counts(image(zero + unit * counts))
    assert found.are_counts
    assert not found.offset_known
    np.testing.assert_array_equal(found.values, counts - counts.min())


def test_recover_counts_accepts_whole_numbers_but_not_pictures(counts: np.ndarray) -> None:
    assert recover_counts(image(counts)).offset_known
    assert not recover_counts(image(counts, "image.jpg")).are_counts
    smooth = np.random.default_rng(1).normal(size=(48, 48))
    assert not recover_counts(image(smooth)).are_counts


def test_estimate_noise_of_smooth_image() -> None:
    y, x = np.mgrid[:64, :64] / 64
    noisy = 50 * np.exp(-((x - 0.5) ** 2) / 0.02) + np.random.default_rng(0).normal(0, 3, (64, 64))
    assert estimate_noise(noisy + y) == pytest.approx(3, rel=0.1)


def test_estimate_offset_has_documented_accuracy() -> None:
    images = sample(load_preset("common_test_1_broad"), 3, 0, 30)[0][:, 0].double().numpy()
    off = []
    for one in images:
        around = uniform_filter(one, 5)
        off.append(
            (estimate_offset(one - 7.0) - 7) / one[around <= np.quantile(around, 0.25)].mean()
        )
    assert abs(np.mean(off)) < 3 * 0.02 / np.sqrt(len(off))
    assert 0.015 < np.std(off) < 0.03


def test_parametrization_inverts_coordinates(fitter: Fitter) -> None:
    scene = draw_scenes(fitter.preset, 5, 0, 8)
    parametrization = Parametrization(
        tuple(PARAMETER_BLOCKS.values())[:8], fitter.parametrization.template
    )
    again = parametrization.scene(parametrization.coordinates(lambda name: getattr(scene, name)))
    for name in ("einstein_radius", "shear", "source_x", "source_axis_ratio", "source_index"):
        torch.testing.assert_close(getattr(again, name), getattr(scene, name))
    turn = (
        again.shear_angle - scene.shear_angle
    ) / torch.pi  # a shear is symmetric under a turn by pi
    torch.testing.assert_close(turn, turn.round(), atol=1e-6, rtol=0)


def test_vortex_block_inverts_coordinates() -> None:
    values = {
        "vortex_fraction": 0.03,
        "vortex_length": 1.5,
        "vortex_angle": 0.4,
        "vortex_x": 0.2,
        "vortex_y": -0.6,
    }
    tensors = {k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()}
    block = vortex_block()
    derived = block.derived_parameters(block.coordinates(tensors.__getitem__))
    for name, value in values.items():
        assert float(derived[name]) == pytest.approx(value, rel=1e-6)
    assert float(derived["vortex_density"]) == pytest.approx(0.03 / 1.5, rel=1e-6)


def test_model_expectation_equals_rendered_image(fitter: Fitter) -> None:
    theta = truth(fitter.parametrization, 0)
    scene = draw_scenes(fitter.preset, 5, 0, 1)
    model = Model(fitter.preset, fitter.parametrization)
    torch.testing.assert_close(model.expected(theta), render(scene, fitter.preset).flatten(1))


@pytest.mark.parametrize(
    ("preset", "free"),
    [
        (PRESET, ()),
        (PRESET, ("psf_sigma", "sky", "source_index", "lens_ellipticity")),
        ("hst", ()),  # lenses are series whose length depends on the flattest lens of the batch
    ],
)
@pytest.mark.filterwarnings("ignore:.*jit.script.*")  # torch's own
def test_model_derivatives_equal_automatic_differentiation(
    preset: str, free: tuple[str, ...]
) -> None:
    fitter = Fitter(preset, free=free, draws=5)
    theta = fitter._coordinates(fitter.parametrization)[:5]
    model = fitter.coarse.model(fitter.parametrization)
    expected, derivatives = model.linearized(theta)
    torch.testing.assert_close(expected, model.expected(theta))
    for i in range(len(fitter.parametrization)):
        along = torch.zeros_like(theta)
        along[:, i] = 1
        _, exact = torch.func.jvp(model.expected, (theta,), (along,))
        apart = (derivatives[:, i] - exact).norm(dim=1) / exact.norm(dim=1)
        assert float(apart.max()) < 3e-4


@pytest.mark.parametrize("block", [vortex_block(), subhalo_block(1)])
def test_substructure_derivatives_agree_with_finer_rendering(
    fitter: Fitter, block: ParameterBlock
) -> None:
    at = {"vortex": (-4.0, 0.1, 0.4, 0.9, -0.3)}.get(block.name, (-5.0, 0.62, 1.07))
    added = torch.tensor([at], dtype=torch.float64)
    theta = torch.cat([truth(fitter.parametrization, 0), added], dim=1)
    parametrization = fitter.parametrization.with_blocks(block)
    _, derivatives = Model(fitter.preset, parametrization).linearized(theta)
    smooth = Model(with_larger_pixels(fitter.preset, 1, 8), parametrization)
    for i in range(len(fitter.parametrization), len(parametrization)):
        step = torch.zeros_like(theta)
        step[:, i] = 0.02
        expected = (smooth.expected(theta + step) - smooth.expected(theta - step))[0] / 0.04
        likeness = torch.nn.functional.cosine_similarity(derivatives[0, i], expected, dim=0)
        assert float(likeness) > 0.9


def test_fisher_information_equals_curvature_of_likelihood(fitter: Fitter) -> None:
    model, theta = Model(fitter.preset, fitter.parametrization), truth(fitter.parametrization, 0)
    expected = model.expected(theta)
    likelihood = PoissonLikelihood(expected[0])  # data without noise: the optimum is the truth
    optimum = maximize_likelihood(model, likelihood, theta)
    step = 1e-4 * covariance(optimum.fisher[0], fitter.parametrization.steps).diagonal().sqrt()
    for i in range(len(step)):
        moved = theta.clone()
        moved[:, i] += 100 * step[i]  # a hundredth of a standard error
        rise = float(likelihood.deviance(model.expected(moved)))
        assert rise == pytest.approx(
            float(optimum.fisher[0, i, i] * (100 * step[i]) ** 2), rel=0.05
        )


def test_poisson_likelihood_with_gaussian_noise_has_right_variance() -> None:
    rng = np.random.default_rng(0)
    expected = torch.full((1, 40_000), 30.0, dtype=torch.float64)
    data = torch.from_numpy(rng.poisson(30, 40_000) + rng.normal(0, 5, 40_000))
    likelihood = PoissonLikelihood(data, 25.0)
    residual = likelihood.score(expected) / likelihood.inverse_variance(expected).sqrt()
    assert float(residual.var()) == pytest.approx(1, abs=0.03)
    at_truth, above = (likelihood.deviance(expected * f) for f in (1, 1.01))
    assert float(at_truth) < float(above)


def test_best_offset_matches_sky(fitter: Fitter) -> None:
    rng = np.random.default_rng(3)
    drawn = rng.poisson(fitter.preset.image.sky, (48, 48))
    pixels = recover_counts(image((drawn - drawn.min()) / np.ptp(drawn)))
    data = prepare_data(pixels, fitter.preset.image, "cpu")
    sky = torch.full((48 * 48,), fitter.preset.image.sky, dtype=torch.float64)
    assert data.with_best_offset(sky, 1).offset == drawn.min()


def test_sky_per_second_is_multiplied_by_exposure(fitter: Fitter) -> None:
    spec = fitter.preset.image
    slow = spec.model_copy(
        update={"exposure": Quantity(value=100.0), "sky": spec.sky / 100, "background": None}
    )
    drawn = np.random.default_rng(3).poisson(spec.sky, (48, 48))
    pixels = recover_counts(image((drawn - drawn.min()) / np.ptp(drawn)))
    one, other = (prepare_data(pixels, each, "cpu") for each in (spec, slow))
    assert list(one.offsets) == list(other.offsets)
    rates = build_parametrization(
        fitter.preset.model_copy(update={"image": slow}), fitter.parametrization.template, ["sky"]
    )
    assert rates.units["sky"] == "counts/s/pixel"
    assert fitter.parametrization.units["einstein_radius"] == "arcsec"


@pytest.mark.parametrize("open_exposure", [True, False])
def test_starts_match_brightness_of_image(open_exposure: bool) -> None:
    preset = load_preset(PRESET)
    bright = Quantity(log_uniform=(50.0, 200.0), unit="counts/pixel")
    update: dict[str, object] = {"source": preset.source.model_copy(update={"brightness": bright})}
    if open_exposure:
        distribution = Quantity(log_uniform=(0.2, 5.0), unit="s")
        update["image"] = preset.image.model_copy(update={"exposure": distribution})
    fitter = Fitter(preset.model_copy(update=update), draws=50)
    one = fitter.scenes.rows(slice(7, 8))
    other = replace(one, source_brightness=0.4 * one.source_brightness)
    if open_exposure:
        other = replace(other, exposure=torch.ones_like(one.exposure))
    counts = render(other, fitter.preset)[0, 0]
    starts = fitter.parametrization.fields(
        fitter._select_starts(data_of_counts(counts), fitter.parametrization)
    )
    for name in ("source_brightness", "exposure") if open_exposure else ("source_brightness",):
        assert float(starts[name][0]) == pytest.approx(float(getattr(other, name)), rel=1e-6)


def data_of_counts(counts: Tensor) -> FitData:
    """Return data whose pixels are expectations (H, W)."""
    return FitData(counts, 0.0, None, 0, range(1))


def test_maximize_likelihood_finds_truth_from_each_start(fitter: Fitter) -> None:
    model, theta = Model(fitter.preset, fitter.parametrization), truth(fitter.parametrization, 0)
    likelihood = PoissonLikelihood(model.expected(theta)[0])
    off = torch.tensor([0.05, 0.03, -0.02, 0.08, -0.05, 0.1, 0.1], dtype=torch.float64)
    optimum = maximize_likelihood(model, likelihood, torch.cat([theta + off, theta, theta - off]))
    assert float(optimum.deviance.max()) < 0.1
    assert optimum.converged.all()


def test_detection_map_peaks_at_true_subhalo(fitter: Fitter) -> None:
    parametrization, theta = fitter.parametrization, truth(fitter.parametrization, 0)
    with_mass = Model(fitter.preset, parametrization.with_blocks(subhalo_block(1)))
    radius = float(theta[0, 0].exp())
    at = torch.tensor([[np.log(2e-3), radius, 0.3]], dtype=torch.float64)
    seen = with_mass.expected(torch.cat([theta, at], dim=1))[0]
    model, data = (
        Model(fitter.preset, parametrization),
        FitData(seen.view(48, 48), 0.0, None, 0, range(1)),
    )
    optimum = maximize_likelihood(model, data.likelihood(1), theta)
    scores = linearize_image(model, data, optimum)
    (peak,) = _peaks(scores, *scores.delta_2lnl_map(_subhalo_kernel(scores)), 1)
    gain, fraction, x, y = peak
    assert (x, y) == pytest.approx((radius, 0.3), abs=1.5 * scores.pixel_scale)
    assert fraction == pytest.approx(2e-3, rel=0.6)
    assert gain == pytest.approx(float(optimum.deviance), rel=0.5)


def test_robust_covariance_with_noise_that_varies_across_image() -> None:
    torch.manual_seed(0)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 40, dtype=torch.float64)] * 2, indexing="ij")
    light = torch.exp(-8 * (x**2 + y**2))
    derivatives = torch.stack([light, light * x]).flatten(1)
    sigma = 0.1 + 3 * light  # but assumed to be the same everywhere
    fisher = fisher_information(derivatives[None], torch.ones(1, 1600, dtype=torch.float64))[0]
    steps = torch.ones(2, dtype=torch.float64)
    found, errors = [], []
    for _ in range(300):
        noise = sigma * torch.randn(40, 40, dtype=torch.float64)
        theta = torch.linalg.solve(fisher, derivatives @ noise.flatten())
        scores = noise - (theta @ derivatives).view(40, 40)
        spread = robust_covariance(derivatives, scores, fisher, steps)
        found.append(theta)
        errors.append(spread.diagonal().sqrt())
    scatter = torch.stack(found).std(dim=0)
    torch.testing.assert_close(torch.stack(errors).mean(dim=0), scatter, rtol=0.15, atol=0)
    plain = covariance(fisher, steps) * (sigma**2).mean()
    assert (plain.diagonal().sqrt() < 0.6 * scatter).all()


def test_fit_uses_one_thread_and_restores_their_number(
    fitter: Fitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    climb = Fitter._optimize

    def watched(*arguments: Any) -> Any:
        taken.append(torch.get_num_threads())
        return climb(*arguments)

    monkeypatch.setattr(Fitter, "_optimize", watched)
    counts = sample(fitter.preset, 5, 0, 1)[0][0].numpy()
    with pinned_threads(2):
        fitter.fit(Image(counts.astype(np.float32), None, "made.npy"))
        assert torch.get_num_threads() == 2
    assert taken == [1]
