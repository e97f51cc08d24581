"""Deflections and light profiles against caustics, an independent code."""

from __future__ import annotations

import pytest
import torch
from caustics.lenses import func
from caustics.light.func import brightness_sersic, k_sersic
from torch import Tensor

from halometry.simulation import Scene, draw_scenes, load_preset
from halometry.simulation.lenses import deflection
from halometry.simulation.light import source_light
from halometry.simulation.profiles import mass_fraction_tnfw
from halometry.simulation.render import pixel_grid

CLOSE = {"rtol": 0, "atol": 2e-5}  # the two codes soften centers differently


@pytest.fixture(scope="module")
def scenes() -> Scene:
    return draw_scenes(load_preset("model_1_as_run"), seed=1, start=0, count=6)


@pytest.fixture(scope="module")
def positions() -> tuple[Tensor, Tensor]:
    preset = load_preset("model_1_as_run")
    return pixel_grid(preset.image, torch.zeros(1, dtype=torch.float64))


def column(values: Tensor) -> Tensor:
    return values[:, None, None]


def test_total_deflection_equals_caustics(scenes: Scene, positions: tuple[Tensor, Tensor]) -> None:
    x, y = positions
    zero = torch.zeros(6, 1, 1, dtype=torch.float64)
    ellipse = (column(scenes.lens_axis_ratio), column(scenes.lens_position_angle))
    radius = column(scenes.einstein_radius)
    expected = torch.stack(func.reduced_deflection_angle_sie(zero, zero, *ellipse, radius, x, y))
    shear = column(scenes.shear)  # along x
    expected += torch.stack(func.reduced_deflection_angle_external_shear(0, 0, shear, zero, x, y))
    for i in range(scenes.subhalo_mass.shape[1]):
        at = column(scenes.subhalo_x[:, i]), column(scenes.subhalo_y[:, i])
        point = column(scenes.subhalo_radius[:, i])
        expected += torch.stack(func.reduced_deflection_angle_point(*at, point, x, y))
    no_vortex = scenes.vortex_mass == 0
    ours = torch.stack(deflection(scenes, x, y))
    torch.testing.assert_close(ours[:, no_vortex], expected[:, no_vortex], **CLOSE)
    assert not torch.allclose(ours[:, ~no_vortex], expected[:, ~no_vortex], atol=1e-3)


def test_sersic_profile_equals_caustics(scenes: Scene, positions: tuple[Tensor, Tensor]) -> None:
    x, y = (axis.expand(6, -1, -1) for axis in positions)
    expected = brightness_sersic(
        column(scenes.source_x),
        column(scenes.source_y),
        column(scenes.source_axis_ratio),
        column(scenes.source_position_angle),
        column(scenes.source_index),
        column(scenes.source_radius / scenes.source_axis_ratio.sqrt()),
        column(scenes.source_brightness),
        x,
        y,
        column(k_sersic(scenes.source_index)),
    )
    torch.testing.assert_close(source_light(scenes, x, y, None), expected, rtol=1e-7, atol=1e-12)


def test_truncated_halo_mass_fraction_equals_caustics() -> None:
    r, one = torch.logspace(-2, 1, 50, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    scale, tau = 0.3 * one, 4.0 * one
    within = func.mass_enclosed_2d_tnfw(r, scale, tau, one)
    whole = func.mass_enclosed_2d_tnfw(1e7 * one, scale, tau, one)
    torch.testing.assert_close(mass_fraction_tnfw(r, scale, tau), within / whole, rtol=1e-4, atol=0)
