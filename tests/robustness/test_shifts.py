"""Presets that are moved: the same scenes but for one thing, which moves as told."""

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

MOVES = {  # what of a scene each shift moves, and by which power of the factor
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


def brightness(preset: Preset) -> float:
    """Expected counts of the first scene, in all."""
    scene = draw_scenes(preset, 0, 0, 1).to("cpu", torch.float64)
    return float(render(scene, preset).sum())


@pytest.mark.parametrize("name", [name for name in list_presets() if "as_run" not in name])
def test_scenes_stay_but_for_what_is_moved(name: str) -> None:
    preset = load_preset(name)
    if preset.halos is not None:
        preset = preset.model_copy(
            update={"halos": None, "subhalos": load_preset("model_1").subhalos}
        )
    before = draw_scenes(preset, 3, 0, 4).parameters()
    moved = 0
    for shift, powers in MOVES.items():
        for factor in SHIFTS[shift].steps:
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
                    as_told = np.allclose(values, before[key] * float(factor) ** power, rtol=1e-9)
                    assert as_told or same, (shift, factor, key)
                else:
                    assert same, (shift, factor, key)
            moved += 1
    assert moved >= 15


def test_counts_are_what_the_detector_makes_of_them() -> None:
    preset = load_preset("demo_classification")
    whole, sky = brightness(preset), preset.image.sky * preset.image.pixels**2
    twice = {name: shift_preset(preset, name, 2) for name in ("sky", "exposure", "psf")}
    assert all(twice.values())
    assert brightness(twice["sky"]) == pytest.approx(whole + sky)
    assert brightness(twice["exposure"]) == pytest.approx(2 * whole)
    assert brightness(twice["psf"]) == pytest.approx(whole, rel=0.01)  # a little leaves the image
    assert twice["psf"].image.psf_sigma == pytest.approx(2 * preset.image.psf_sigma)


def test_larger_pixels_see_the_same_sky() -> None:
    preset = load_preset("common_test_1")
    larger = shift_preset(preset, "pixel_scale", 1.25)
    assert larger is not None
    assert larger.image.sky == pytest.approx(1.25**2 * preset.image.sky)
    light = [brightness(p) - p.image.sky * p.image.pixels**2 for p in (preset, larger)]
    assert light[1] == pytest.approx(light[0], rel=0.02)  # all the light is in either image


def test_a_larger_source_has_the_same_light() -> None:
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


def test_magnitudes_move_the_light_of_the_lens() -> None:
    preset = load_preset("euclid")
    scenes = [draw_scenes(p, 0, 0, 3) for p in (preset, shift_preset(preset, "lens_light", 4)) if p]
    ratio = scenes[1].lens_light_brightness / scenes[0].lens_light_brightness
    np.testing.assert_allclose(ratio.numpy(), 4, rtol=1e-6)


def test_light_is_added_where_there_is_none() -> None:
    preset = load_preset("demo_classification")
    assert shift_preset(preset, "added_lens_light", 0) == preset
    lit = shift_preset(preset, "added_lens_light", 0.1)
    assert lit is not None
    assert shift_preset(lit, "added_lens_light", 0.1) is None
    assert shift_preset(preset, "lens_light", 2) is None
    images = [sample(p, 0, 0, 1)[0][0, 0] for p in (preset, lit)]
    bright = (images[1] - images[0])[22:26, 22:26].mean()
    assert bright > 10 * (images[1] - images[0])[:4, :4].abs().mean()


def test_nothing_of_it_is_none_and_too_much_is_refused() -> None:
    preset = load_preset("common_test_1")
    assert shift_preset(preset, "background", 2) is None
    with pytest.raises(ConfigError, match="common_test_1, shear x 2: 'lens.shear': must stay betw"):
        shift_preset(preset, "shear", 2)
    with pytest.raises(UsageError, match="unknown shift 'skye', did you mean 'sky'"):
        shift_preset(preset, "skye", 2)
    with pytest.raises(UsageError, match="a Poisson law times a factor is no Poisson law"):
        scale_quantity(Quantity(poisson=3), 2)


def test_a_preset_with_files_of_its_own_can_be_moved(tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", np.ones((3, 3)))
    preset = changed_preset(
        tmp_path, "demo_mass", image__psf={"file": "psf.npy"}, image__psf_sigma=0.0
    )
    moved = shift_preset(preset, "sky", 2)
    assert moved is not None
    assert moved.image.psf == preset.image.psf
    assert "psf.npy" in moved.to_yaml()
    assert str(tmp_path) not in moved.to_yaml()


@pytest.mark.parametrize(
    "law",
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
def test_a_law_times_a_factor_draws_its_draws_times_it(law: Quantity) -> None:
    drawn = [one.draw(np.random.default_rng(1), 50) for one in (law, scale_quantity(law, math.pi))]
    np.testing.assert_allclose(drawn[1], math.pi * drawn[0], rtol=1e-9)
