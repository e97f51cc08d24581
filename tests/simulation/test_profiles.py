"""Mass profiles and Einstein radii against closed forms and other codes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from halometry.simulation import draw_scenes, einstein_radius, load_preset
from halometry.simulation.cosmology import Cosmology, distances, mass_within
from halometry.simulation.lenses import deflection
from halometry.simulation.profiles import (
    mass_fraction_tnfw,
    reduced_deflection_angle_epl,
    reduced_deflection_angle_line,
    reduced_deflection_angle_multipole,
)
from halometry.simulation.subhalos import mean_concentration, truncated_mass
from helpers.presets import float64_tensors, position_grid


def potential_line(
    x0: Tensor, y0: Tensor, phi: Tensor, length: Tensor, Rein: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """R^2 times the mean of log|z - t| over the points t of a line, by its antiderivative in t.

    That is -Re[(z - t) log(z - t) - (z - t)].
    """
    cos, sin = torch.cos(phi), torch.sin(phi)
    dx, dy = x - x0, y - y0
    along, across = dx * cos + dy * sin, dy * cos - dx * sin

    def part(u: Tensor) -> Tensor:  # Re[w log w - w] of w = u + i across
        log = 0.5 * torch.log(u**2 + across**2)
        return u * log - across * torch.atan2(across, u) - u

    return Rein**2 / length * (part(along + length / 2) - part(along - length / 2))


def test_line_deflection_is_the_gradient_of_its_potential() -> None:
    values = float64_tensors(0.2, -0.1, 0.7, 1.3, 0.4)
    at = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at.requires_grad_()
    potential_line(*values, at[:, 0], at[:, 1]).sum().backward()
    expected = torch.stack(reduced_deflection_angle_line(*values, at[:, 0], at[:, 1]), dim=1)
    torch.testing.assert_close(at.grad, expected.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [3, 4])
def test_multipole_deflection_is_the_gradient_of_its_potential(order: int) -> None:
    x0, y0, a_m, phi_m = float64_tensors(0.1, -0.2, 0.05, 0.4)
    at = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at.requires_grad_()
    dx, dy = at[:, 0] - x0, at[:, 1] - y0
    angle = order * (torch.atan2(dy, dx) - phi_m)
    (torch.hypot(dx, dy) * a_m / (1 - order**2) * torch.cos(angle)).sum().backward()
    got = reduced_deflection_angle_multipole(x0, y0, order, a_m, phi_m, at[:, 0], at[:, 1])
    torch.testing.assert_close(at.grad, torch.stack(got, dim=1).detach(), rtol=1e-9, atol=1e-12)


def test_truncated_halo_mass_fraction_rises_from_0_to_1() -> None:
    scale, tau = float64_tensors(0.1, 5.0)
    near, far = float64_tensors(1e-6, 1e4)
    assert float(mass_fraction_tnfw(near, scale, tau)) == pytest.approx(0, abs=1e-6)
    assert float(mass_fraction_tnfw(far, scale, tau)) == pytest.approx(1, abs=1e-3)
    r = torch.logspace(-3, 2, 4000, dtype=torch.float64)
    fraction = mass_fraction_tnfw(r * scale, scale, tau)
    assert (fraction.diff() > 0).all()  # through r = r_s too, where the formula changes
    assert float((fraction.diff() / fraction[1:]).diff().abs().max()) < 2e-4


def test_halo_truncated_at_r200_has_about_m200() -> None:
    assert truncated_mass(1e9, 12.0, 12.0) == pytest.approx(1e9, rel=0.05)
    assert truncated_mass(1e9, 12.0, 1.0) < 0.3e9


def test_mean_concentration_equals_colossus() -> None:
    concentration = pytest.importorskip("colossus.halo.concentration", reason="needs colossus")
    from colossus.cosmology import cosmology

    cosmology.setCosmology("planck13")  # cosmology of the relation
    h = cosmology.getCurrent().h
    for mass, z in ((1e10, 0.0), (1e12, 0.5), (1e9, 1.0)):
        expected = concentration.modelDutton14(mass * h, z, "200c")[0]
        assert mean_concentration(mass, z, Cosmology(H0=100 * h)) == pytest.approx(expected, 1e-3)


def test_series_of_flattened_power_law_has_enough_terms() -> None:
    x, y = position_grid(2, 40)
    slope = torch.full((1,), 2.1, dtype=torch.float64)
    lens = replace(draw_scenes(load_preset("euclid"), 0, 0, 1), lens_slope=slope)
    bare = dict.fromkeys(("shear", "multipole_3", "multipole_4"), 0 * slope)
    for q in (0.05, 0.1, 0.5):
        flat = replace(lens, lens_axis_ratio=0 * slope + q, **bare)
        arguments = float64_tensors(0.0, 0.0, q, float(lens.lens_position_angle), 1.0, 1.1)
        arguments[4] = lens.einstein_radius[0]
        many = torch.stack(reduced_deflection_angle_epl(*arguments, x, y, 2000, 1e-5))
        torch.testing.assert_close(torch.cat(deflection(flat, x, y)), many, rtol=0, atol=1e-6)


def test_named_cosmology_equals_astropy() -> None:
    from astropy.cosmology import Planck18

    planck = einstein_radius(1e12, 0.5, 1.0, cosmology=Cosmology(name="Planck18"))
    same = Cosmology(H0=float(Planck18.H0.value), Om0=float(Planck18.Om0))
    assert planck == pytest.approx(einstein_radius(1e12, 0.5, 1.0, cosmology=same), rel=2e-3)
    assert planck != pytest.approx(einstein_radius(1e12, 0.5, 1.0), rel=1e-3)
    assert mass_within(planck, 0.5, 1.0, cosmology=Cosmology(name="Planck18")) == pytest.approx(
        1e12
    )


def test_as_run_presets_reproduce_the_weaker_deflections_of_deeplensesim() -> None:
    # Source redshifts of the images, and of DeepLenseSim's deflections.
    near, far = distances(0.5, 1.0), distances(0.5, 2.5)
    ratio = float(near.between / near.source * far.source / far.between)
    published = einstein_radius(1e12, 0.5, 1.0, "luminosity_as_published")
    assert published * ratio == pytest.approx(0.81, abs=0.005)
    for name in ("model_2_as_run", "model_3_as_run"):
        scene = draw_scenes(load_preset(name), 0, 0, 3)
        heaviest = scene.subhalo_radius[1, 0] ** 2 / (scene.subhalo_mass[1, 0] / 0.634)
        assert float(heaviest) == pytest.approx(published**2 * ratio / 1e12, rel=0.01)
        assert float(scene.vortex_radius[2] ** 2) == pytest.approx(
            published**2 * ratio * 0.03, rel=0.01
        )
