"""Rendered images, magnifications and derivatives against exact results."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from caustics.lenses.func import reduced_deflection_angle_sie as caustics_sie
from torch import Tensor
from torch.nn import functional

from halometry.simulation import Scene, draw_scenes, load_preset, render
from halometry.simulation.lenses import deflection
from halometry.simulation.profiles import reduced_deflection_angle_sie
from halometry.simulation.render import bin_pixels, convolve_gaussian


def round_lens(**changes: float) -> Scene:
    """A round lens of 1.2 arcsec, no shear, over a small round Gaussian source."""
    scene = draw_scenes(load_preset("common_test_1"), seed=0, start=0, count=1)
    values = {"einstein_radius": 1.2, "shear": 0.0, "source_axis_ratio": 1.0, "source_y": 0.0}
    values |= {"source_index": 0.5, "source_radius": 0.1}
    for name, value in (values | changes).items():
        like = torch.zeros_like(getattr(scene, name))
        like[0, ...] = 0.0
        like.flatten()[0] = value
        scene = replace(scene, **{name: like})
    return scene


def point_lens(radius: float) -> Scene:
    """A point mass at the center of a lens with negligible mass."""
    z = float(round_lens().z_lens)
    fraction = (radius / 1e-9) ** 2
    return round_lens(einstein_radius=1e-9, halo_mass=1.0, subhalo_mass=fraction, subhalo_z=z)


def trace_ray(scene: Scene, x: float) -> tuple[float, float]:
    """Source position and magnification of an image at (x, 0)."""

    def mapped(at: Tensor) -> Tensor:
        ax, ay = deflection(scene, at[0][None, None], at[1][None, None])
        return at - torch.stack([ax[0, 0, 0], ay[0, 0, 0]])

    at = torch.tensor([x, 0.0], dtype=torch.float64)
    jacobian = torch.func.jacrev(mapped)(at)
    return float(mapped(at)[0]), 1 / float(torch.linalg.det(jacobian))


@pytest.mark.parametrize("beta", [0.05, 0.3, 1.5])
def test_point_mass_has_two_images_with_known_magnification(beta: float) -> None:
    radius = 0.8
    root = math.sqrt(beta**2 + 4 * radius**2)
    u = beta / radius
    total = (u**2 + 2) / (u * math.sqrt(u**2 + 4))
    magnified = 0.0
    for image in ((beta + root) / 2, (beta - root) / 2):
        source, magnification = trace_ray(point_lens(radius), image)
        assert source == pytest.approx(beta, abs=1e-8)
        magnified += abs(magnification)
    assert magnified == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("beta", [0.05, 0.6, 1.1])
def test_isothermal_sphere_has_two_images_with_known_magnification(beta: float) -> None:
    for image, expected in ((beta + 1.2, 1 + 1.2 / beta), (beta - 1.2, 1 - 1.2 / beta)):
        source, magnification = trace_ray(round_lens(), image)
        assert source == pytest.approx(beta, abs=1e-8)
        assert magnification == pytest.approx(expected, rel=1e-4)


def test_lensed_flux_of_small_source_is_its_magnification() -> None:
    preset = load_preset("common_test_1")
    spec = preset.image.model_copy(update={"supersampling": 4, "sky": 0.0})
    preset = preset.model_copy(update={"image": spec})
    beta = 0.6
    lensed = float(render(round_lens(source_x=beta), preset).sum())
    plain = float(render(round_lens(source_x=beta, einstein_radius=0.0), preset).sum())
    assert lensed / plain == pytest.approx(2 * 1.2 / beta, rel=0.02)


@pytest.mark.parametrize(("n", "tolerance"), [(0.5, 1e-3), (1.0, 1e-3), (1.5, 0.01)])
def test_flux_without_lensing_is_that_of_the_sersic_profile(n: float, tolerance: float) -> None:
    preset = load_preset("common_test_1")
    scene = round_lens(
        einstein_radius=0.0, source_index=n, source_radius=0.4, source_axis_ratio=0.5
    )
    flux = float((render(scene, preset) - preset.image.sky).sum()) * preset.image.pixel_scale**2
    k = 2 * n - 1 / 3 + 4 / 405 / n + 46 / 25515 / n**2 + 131 / 1148175 / n**3
    k -= 2194697 / 30690717750 / n**4
    peak = float(scene.source_brightness)
    total = peak * 0.4**2 * 2 * math.pi * n * math.exp(k) * k ** (-2 * n) * math.gamma(2 * n)
    assert flux == pytest.approx(total, rel=tolerance)


def test_supersampling_error_decreases_quadratically() -> None:
    preset = load_preset("common_test_1")
    scene = draw_scenes(preset, seed=2, start=0, count=3)
    smooth = replace(scene, source_index=torch.full_like(scene.source_index, 0.5))

    def image(supersampling: int) -> Tensor:
        spec = preset.image.model_copy(update={"supersampling": supersampling})
        return render(smooth, preset.model_copy(update={"image": spec}))[[0, 2]]

    finest = image(8)
    errors = [float((image(n) - finest).norm() / finest.norm()) for n in (1, 2, 4)]
    assert errors[0] < 0.02
    assert errors[1] < 0.35 * errors[0]
    assert errors[2] < 0.35 * errors[1]


def test_isothermal_ellipsoid_equals_caustics() -> None:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1000, generator=random, dtype=torch.float64)
    values = [torch.tensor(v, dtype=torch.float64) for v in (0.2, -0.1, 0.6, 0.8, 1.1)]
    for computed, expected in zip(
        reduced_deflection_angle_sie(*values, x, y, 1e-9), caustics_sie(*values, x, y), strict=True
    ):
        torch.testing.assert_close(computed, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_binning_averages_pixels(factor: int) -> None:
    images = torch.randn(2, 12, 18, dtype=torch.float64)
    torch.testing.assert_close(bin_pixels(images, factor), functional.avg_pool2d(images, factor))


@pytest.mark.parametrize("sigma", [0.71, 1.0, 2.6])
def test_gaussian_blur_equals_a_convolution(sigma: float) -> None:
    images = torch.randn(2, 1, 30, 24, dtype=torch.float64)
    reach = max(1, round(4 * sigma))
    profile = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = profile[:, None] * profile / profile.sum() ** 2
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    expected = functional.conv2d(padded, kernel[None, None])
    torch.testing.assert_close(convolve_gaussian(images, sigma), expected)


PARAMETERS = ("einstein_radius", "shear", "source_x", "subhalo_x", "vortex_x", "vortex_length")


@pytest.mark.parametrize("name", PARAMETERS)
def test_forward_and_reverse_derivatives_equal_finite_differences(name: str) -> None:
    preset = load_preset("demo_classification")
    scene = draw_scenes(preset, seed=0, start=0, count=3)
    scene = replace(scene, lens_axis_ratio=torch.full_like(scene.shear, 0.7))
    values = getattr(scene, name)
    direction = torch.ones_like(values)

    def image(at: Tensor) -> Tensor:
        return render(replace(scene, **{name: at}), preset)

    _, forward = torch.func.jvp(image, (values,), (direction,))
    step = 1e-6
    difference = (image(values + step) - image(values - step)) / (2 * step)
    assert float((forward - difference).norm()) < 1e-3 * float(difference.norm())
    weights = torch.randn(forward.shape, generator=torch.Generator().manual_seed(1)).double()
    _, pull = torch.func.vjp(image, values)
    backward = float((pull(weights)[0] * direction).sum())
    assert backward == pytest.approx(float((weights * forward).sum()), rel=1e-6)


def test_jacobian_for_many_parameters_works_with_vmap() -> None:
    preset = load_preset("demo_classification")
    scene = draw_scenes(preset, seed=0, start=1, count=1)

    def image(at: Tensor) -> Tensor:
        moved = scene.subhalo_x + at
        return render(replace(scene, subhalo_x=moved), preset)

    jacobian = torch.func.jacfwd(image)(torch.zeros_like(scene.subhalo_x))
    assert jacobian.shape == (1, *preset.image.shape, *scene.subhalo_x.shape)
    present = (scene.subhalo_mass > 0)[0]
    assert (jacobian.abs().sum(dim=(0, 1, 2, 3))[0, present] > 0).all()
