"""Deflections, Einstein radii and images of lenses against closed forms."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from halometry.simulation import draw_scenes, einstein_radius, load_preset, render
from halometry.simulation.instrument import ImageSpec
from halometry.simulation.lenses import deflection
from halometry.simulation.profiles import reduced_deflection_angle_line
from halometry.simulation.render import convolve_gaussian, pixel_grid
from halometry.simulation.scene import Scene

positions = st.floats(-3, 3)


def line(x: Tensor, y: Tensor, length: float, radius: float = 0.3, phi: float = 0.0) -> Tensor:
    values = (0.0, 0.0, phi, length, radius)
    arguments = [torch.tensor(v, dtype=torch.float64) for v in values]
    return torch.stack(reduced_deflection_angle_line(*arguments, x, y))


def as_double(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def test_einstein_radius_of_both_distance_formulas() -> None:
    assert einstein_radius(1e12, 0.5, 1.0, "luminosity_as_published") == pytest.approx(
        1.2815, abs=2e-4
    )
    assert einstein_radius(1e12, 0.5, 1.0) == pytest.approx(1.66, abs=0.005)


def test_einstein_radius_equals_astropy() -> None:
    from astropy import constants, units
    from astropy.cosmology import FlatLambdaCDM

    cosmology = FlatLambdaCDM(H0=70, Om0=0.3)
    lens, source = cosmology.angular_diameter_distance([0.45, 1.1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in newer versions of astropy
        between = cosmology.angular_diameter_distance_z1z2(0.45, 1.1)
    mass = 3e11 * constants.M_sun
    square = 4 * constants.G * mass / constants.c**2 * between / (lens * source)
    expected = np.sqrt(square.to_value("")) * units.rad
    assert einstein_radius(3e11, 0.45, 1.1) == pytest.approx(expected.to_value("arcsec"), rel=1e-5)


@given(x=positions, y=positions, length=st.floats(0.1, 4))
@settings(max_examples=60, deadline=None)
def test_line_deflects_as_many_point_masses(x: float, y: float, length: float) -> None:
    if abs(y) < 0.05:
        y = 0.05
    at = torch.tensor([x, y], dtype=torch.float64)
    points = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 - 0.5
    dx, dy = at[0] - points * length, at[1]
    r2 = dx**2 + dy**2
    expected = 0.3**2 * torch.stack([(dx / r2).mean(), (dy / r2).mean()])
    torch.testing.assert_close(line(at[0], at[1], length), expected, rtol=1e-4, atol=1e-7)


def test_short_line_deflects_as_a_point_mass() -> None:
    x, y = as_double(0.7, -0.4)
    expected = 0.3**2 * torch.stack([x, y]) / (x**2 + y**2)
    torch.testing.assert_close(line(x, y, 1e-4), expected, rtol=1e-6, atol=0)


def test_line_deflection_rotates_with_its_angle() -> None:
    x, y = as_double(0.7, -0.4)
    phi = 0.6
    cos, sin = math.cos(phi), math.sin(phi)
    ax, ay = line(x * cos + y * sin, y * cos - x * sin, 1.5)
    turned = torch.stack([ax * cos - ay * sin, ax * sin + ay * cos])
    torch.testing.assert_close(line(x, y, 1.5, phi=phi), turned)


@given(x=positions, y=positions)
@settings(max_examples=60, deadline=None)
def test_line_deflection_has_no_divergence_or_curl_outside_the_line(x: float, y: float) -> None:
    if abs(y) < 0.1:
        y = 0.1
    at = torch.tensor([x, y], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda p: line(p[0], p[1], 1.5))(at)
    assert abs(float(jacobian[0, 0] + jacobian[1, 1])) < 1e-8
    assert abs(float(jacobian[0, 1] - jacobian[1, 0])) < 1e-8


def test_flux_of_line_deflection_through_a_circle_is_its_mass() -> None:
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)[:-1]
    x, y = 2 * angle.cos(), 2 * angle.sin()
    ax, ay = line(x, y, 1.5)
    flux = (ax * angle.cos() + ay * angle.sin()).mean() * 2  # mean of a_r times r
    assert float(flux) == pytest.approx(0.3**2, rel=1e-9)


def test_line_deflection_is_finite_in_single_precision() -> None:
    axis = torch.linspace(-1, 1, 201)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    arguments = [torch.tensor(v) for v in (0.0, 0.0, 0.0, 1.0, 0.3)]
    ax, ay = reduced_deflection_angle_line(*arguments, x, y)
    assert ax.isfinite().all()
    assert ay.isfinite().all()


def round_lens(**changes: float) -> Scene:
    """A round lens without shear or substructure over a round source behind its center."""
    scene = draw_scenes(load_preset("common_test_1"), seed=0, start=0, count=1)
    zero = torch.zeros(1, dtype=torch.float64)
    values = dict.fromkeys(("shear", "source_x", "source_y"), 0.0) | {"source_axis_ratio": 1.0}
    from dataclasses import replace

    return replace(scene, **{k: zero + v for k, v in (values | changes).items()})


def test_isothermal_sphere_deflects_by_its_einstein_radius() -> None:
    x = torch.tensor([[0.3, 1.0, -2.0]], dtype=torch.float64)
    y = torch.tensor([[0.4, -1.0, 0.5]], dtype=torch.float64)
    ax, ay = deflection(round_lens(einstein_radius=1.2), x, y)
    torch.testing.assert_close((ax**2 + ay**2).sqrt(), torch.full_like(ax, 1.2), rtol=1e-3, atol=0)


def test_nearly_round_ellipsoid_deflects_as_a_sphere() -> None:
    spec = load_preset("common_test_1").image
    x, y = pixel_grid(spec, torch.zeros(1, dtype=torch.float64))
    round_, nearly = round_lens(), round_lens(lens_axis_ratio=0.9998)
    for a, b in zip(deflection(round_, x, y), deflection(nearly, x, y), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_centered_source_gives_a_ring_of_the_einstein_radius() -> None:
    preset = load_preset("common_test_1")
    scene = round_lens(einstein_radius=1.3, source_radius=0.05)
    image = render(scene, preset)[0, 0] - preset.image.sky
    x, y = pixel_grid(ImageSpec(pixels=150, pixel_scale=0.05), image)
    radius = (x**2 + y**2).sqrt()
    assert float((image * radius).sum() / image.sum()) == pytest.approx(1.3, abs=0.02)


def test_flux_without_lens_is_that_of_the_sersic_profile() -> None:
    preset = load_preset("common_test_1")
    scene = round_lens(einstein_radius=0.0, source_axis_ratio=0.6)
    flux = float((render(scene, preset) - preset.image.sky).sum()) * 0.05**2
    n, k = 1.5, 2 * 1.5 - 1 / 3 + 4 / 405 / 1.5 + 46 / 25515 / 1.5**2
    total = 100 * 0.5**2 * 2 * math.pi * n * math.exp(k) * k ** (-2 * n) * math.gamma(2 * n)
    assert flux == pytest.approx(total, rel=0.01)  # the image cuts off the wings


@pytest.mark.parametrize("sigma", [0.2, 0.42, 0.5, 0.69, 0.71, 1.0, 1.7])
def test_gaussian_convolution_keeps_flux_and_has_the_right_width(sigma: float) -> None:
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[0, 0, 20, 20] = 1
    blurred = convolve_gaussian(image, sigma)[0, 0]
    axis = torch.arange(41, dtype=torch.float64) - 20
    assert float(blurred.sum()) == pytest.approx(1)
    assert float((blurred.sum(0) * axis**2).sum()) == pytest.approx(sigma**2, rel=0.01)


@pytest.mark.parametrize("name", ["common_test_1", "halo_mass", "model_1"])
def test_single_precision_error_is_below_the_noise(name: str) -> None:
    preset = load_preset(name)
    scene = draw_scenes(preset, seed=3, start=0, count=6)
    double = render(scene, preset)
    single = render(scene.to("cpu", torch.float32), preset)
    worst = ((single.double() - double).abs() / double.sqrt().clamp_min(1)).max()
    assert float(worst) < 0.05  # of the Poisson noise


def test_rendering_has_finite_derivatives() -> None:
    preset = load_preset("demo_classification")
    scene = draw_scenes(preset, seed=0, start=0, count=3)
    tensors = {n: t.clone() for n, t in scene._tensors().items() if t.is_floating_point()}
    for tensor in tensors.values():
        tensor.requires_grad_()
    from dataclasses import replace

    watched: dict[str, Tensor] = tensors
    render(replace(scene, **watched), preset).sum().backward()
    for name in ("einstein_radius", "shear", "source_x", "subhalo_mass", "vortex_mass", "vortex_x"):
        gradient = tensors[name].grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert (gradient != 0).any(), name
