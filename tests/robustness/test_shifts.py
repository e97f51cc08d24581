"""Distribution shifts: the scenes of a shifted preset differ in the shifted property only."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from halometry.errors import ConfigError, UsageError
from halometry.robustness.shifts import SHIFTS, scale_quantity, shift_preset
from halometry.simulation import Preset, draw_scenes, list_presets, load_preset, render, sample
from halometry.simulation.distributions import LogNormal, PowerLaw, Quantity, TruncatedNormal
from halometry.simulation.sampling import sersic_flux
from helpers.presets import changed_preset

SCALED_PARAMETERS = {  # parameters of a scene that a shift multiplies, and the factor's power
    "sky": {},
    "background": {"background_rms": 1},
    "exposure": {"exposure": 1, "background_rms": 1, "source_brightness": 1,
                 "lens_light_brightness": 1},
    "psf": {},
    "pixel_scale": {"source_brightness": 2, "lens_light_brightness": 2},
    "shear": {"shear": 1},
    "source_size": {"source_radius": 1, "source_brightness": -2},
    "lens_light": {"lens_light_brightness": 1},
}  # fmt: skip


def total_counts(preset: Preset) -> float:
    """Sum of the expected counts of the first image."""
    scene = draw_scenes(preset, 0, 0, 1).to("cpu", torch.float64)
    return float(render(scene, preset).sum())


@pytest.mark.parametrize("name", [name for name in list_presets() if "as_run" not in name])
def test_shift_multiplies_its_parameters_and_no_others(name: str) -> None:
    preset = load_preset(name)
    if preset.halos is not None:
        preset = preset.model_copy(
            update={"halos": None, "subhalos": load_preset("model_1").subhalos}
        )
    before = draw_scenes(preset, 3, 0, 4).parameters()
    tested = 0
    for shift, powers in SCALED_PARAMETERS.items():
        for factor in SHIFTS[shift].factors:
            try:
                other = shift_preset(preset, shift, factor)
            except (ConfigError, UsageError):
                continue
            if other is None:
                continue
            after = draw_scenes(other, 3, 0, 4).parameters()
            for key, values in after.items():
                power = powers.get(key, 0)
                same = np.allclose(values, before[key], rtol=1e-9)
                if power:
                    scaled = np.allclose(values, before[key] * float(factor) ** power, rtol=1e-9)
                    assert scaled or same, (shift, factor, key)
                else:
                    assert same, (shift, factor, key)
            tested += 1
    assert tested >= 15


def test_detector_shifts_change_total_counts_as_expected() -> None:
    preset = load_preset("demo_classification")
    whole, sky = total_counts(preset), preset.image.sky * preset.image.pixels**2
    twice = {name: shift_preset(preset, name, 2) for name in ("sky", "exposure", "psf")}
    assert all(twice.values())
    assert total_counts(twice["sky"]) == pytest.approx(whole + sky)
    assert total_counts(twice["exposure"]) == pytest.approx(2 * whole)
    assert total_counts(twice["psf"]) == pytest.approx(whole, rel=0.01)  # a little leaves the image
    assert twice["psf"].image.psf_sigma == pytest.approx(2 * preset.image.psf_sigma)


def test_pixel_scale_shift_keeps_total_light_and_sky_brightness() -> None:
    preset = load_preset("common_test_1")
    larger = shift_preset(preset, "pixel_scale", 1.25)
    assert larger is not None
    assert larger.image.sky == pytest.approx(1.25**2 * preset.image.sky)
    light = [total_counts(p) - p.image.sky * p.image.pixels**2 for p in (preset, larger)]
    assert light[1] == pytest.approx(light[0], rel=0.02)  # both images contain all the light


def test_source_size_shift_keeps_total_light() -> None:
    for name in ("common_test_1", "euclid"):
        preset = load_preset(name)
        scenes = [
            draw_scenes(p, 0, 0, 3) for p in (preset, shift_preset(preset, "source_size", 1.5)) if p
        ]
        fluxes = [
            [float(b) * sersic_flux(float(n), float(r)) for b, n, r in
             zip(s.source_brightness, s.source_index, s.source_radius, strict=True)]
            for s in scenes
        ]  # fmt: skip
        np.testing.assert_allclose(fluxes[1], fluxes[0], rtol=1e-6)


def test_lens_light_shift_multiplies_light_given_as_magnitude() -> None:
    preset = load_preset("euclid")
    scenes = [draw_scenes(p, 0, 0, 3) for p in (preset, shift_preset(preset, "lens_light", 4)) if p]
    ratio = scenes[1].lens_light_brightness / scenes[0].lens_light_brightness
    np.testing.assert_allclose(ratio.numpy(), 4, rtol=1e-6)


def test_added_lens_light_applies_only_without_lens_light() -> None:
    preset = load_preset("demo_classification")
    assert shift_preset(preset, "added_lens_light", 0) == preset
    with_light = shift_preset(preset, "added_lens_light", 0.1)
    assert with_light is not None
    assert shift_preset(with_light, "added_lens_light", 0.1) is None
    assert shift_preset(preset, "lens_light", 2) is None
    images = [sample(p, 0, 0, 1)[0][0, 0] for p in (preset, with_light)]
    bright = (images[1] - images[0])[22:26, 22:26].mean()
    assert bright > 10 * (images[1] - images[0])[:4, :4].abs().mean()


def test_missing_property_gives_none_and_invalid_shifts_raise() -> None:
    preset = load_preset("common_test_1")
    assert shift_preset(preset, "background", 2) is None
    with pytest.raises(ConfigError, match="common_test_1, shear x 2: 'lens.shear': must stay betw"):
        shift_preset(preset, "shear", 2)
    with pytest.raises(UsageError, match="unknown shift 'skye', did you mean 'sky'"):
        shift_preset(preset, "skye", 2)
    with pytest.raises(UsageError, match="a Poisson distribution cannot be multiplied"):
        scale_quantity(Quantity(poisson=3), 2)


def test_preset_that_refers_to_files_can_be_shifted(tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", np.ones((3, 3)))
    preset = changed_preset(
        tmp_path, "demo_mass", image__psf={"file": "psf.npy"}, image__psf_sigma=0.0
    )
    shifted = shift_preset(preset, "sky", 2)
    assert shifted is not None
    assert shifted.image.psf == preset.image.psf
    assert "psf.npy" in shifted.to_yaml()
    assert str(tmp_path) not in shifted.to_yaml()


@pytest.mark.parametrize(
    "quantity",
    [
        Quantity(value=2),
        Quantity(uniform=(1, 2)),
        Quantity(log_uniform=(1, 2)),
        Quantity(normal=(1, 2)),
        Quantity(truncated_normal=TruncatedNormal(mean=1, sigma=2, low=0, high=3)),
        Quantity(log_normal=LogNormal(median=1, sigma=2, low=0.1, high=3)),
        Quantity(power_law=PowerLaw(slope=-1.9, low=1, high=9)),
        Quantity(uniform_disk=3),
    ],
)
def test_scaled_distribution_multiplies_the_draws(quantity: Quantity) -> None:
    draws, scaled_draws = (
        q.draw(np.random.default_rng(1), 50) for q in (quantity, scale_quantity(quantity, math.pi))
    )
    np.testing.assert_allclose(scaled_draws, math.pi * draws, rtol=1e-9)
