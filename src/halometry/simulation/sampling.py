"""Scenes drawn from a preset, each image from its own random stream."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from halometry.errors import UsageError
from halometry.simulation.config import LensLight, Multipole, Source, Vortex
from halometry.simulation.cosmology import einstein_radius, mass_within
from halometry.simulation.distributions import Quantity
from halometry.simulation.instrument import ImageSpec
from halometry.simulation.preset import Preset
from halometry.simulation.rng import Purpose, image_rng
from halometry.simulation.scene import UNITS, Scene
from halometry.simulation.subhalos import SubhaloPopulation, draw_subhalos

Parameters = dict[str, Any]


def draw_scenes(preset: Preset, seed: int, start: int, count: int) -> Scene:
    """Draw the scenes of images `start` to `start + count`.

    Image k follows from (preset, seed, k) alone. In a classification its class is k modulo the
    number of classes, so that any set is balanced.

    Args:
        preset: what to draw from.
        seed: of the set.
        start: number of the first image.
        count: how many images.

    Raises:
        UsageError: no images are asked for, or a negative number.
        UnavailableError: the preset's halos come from pyHalo, which is not installed.
    """
    if count < 1 or start < 0:
        raise UsageError(f"images {start} to {start + count}: there are none; count from 0 upwards")
    drawn = [_draw_scene(preset, seed, k) for k in range(start, start + count)]
    columns = {name: np.array([one[name] for one in drawn]) for name in UNITS if name in drawn[0]}
    redshifts = columns["z_lens"], columns["z_source"], preset.distances, preset.cosmology
    if preset.lens.mass is not None:
        columns["einstein_radius"] = einstein_radius(columns["halo_mass"], *redshifts)
    else:
        columns["halo_mass"] = mass_within(columns["einstein_radius"], *redshifts)
    columns["vortex_mass"] = columns.pop("vortex_mass") * columns["halo_mass"]
    at_the_lens = np.isclose(columns["subhalo_z"], columns["z_lens"][:, None], rtol=0, atol=1e-6)
    in_subhalos = np.where(at_the_lens, columns["subhalo_mass"], 0).sum(axis=1)
    columns["f_sub"] = in_subhalos / columns["halo_mass"]
    tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in columns.items()}
    return Scene(**tensors, task=preset.task)


def scene_units(preset: Preset) -> dict[str, str]:
    """The units of a preset's scenes: brightness is per second where it has an exposure."""
    if preset.image.exposure is None:
        return UNITS
    rate = {f"{light}_brightness": "counts/s/pixel" for light in ("source", "lens_light")}
    return UNITS | rate


def _draw_scene(preset: Preset, seed: int, image: int) -> Parameters:
    rng = image_rng(seed, image, Purpose.SCENE)
    position = image % len(preset.kinds)
    kind = preset.kinds[position]
    one: Parameters = {"class_index": position} | _draw_lens(preset, rng)
    one |= _draw_source(preset.source, preset.image, rng)
    one |= _draw_lens_light(preset.lens_light, preset.image, one, rng)
    one |= _draw_detector(preset.image, rng)
    population = SubhaloPopulation.empty(preset.max_halos)
    if kind == "sphere":
        population = draw_subhalos(preset, one["z_lens"], one["z_source"], rng)
    one |= population.columns()
    return one | _draw_vortex(preset.vortex if kind == "vort" else None, preset.mass_scale, rng)


def _draw_lens(preset: Preset, rng: np.random.Generator) -> Parameters:
    lens = preset.lens
    size = "halo_mass" if lens.mass is not None else "einstein_radius"
    law = lens.mass or lens.einstein_radius
    assert law is not None
    one = {
        size: law.draw(rng),
        "z_lens": lens.z_lens.draw(rng),
        "z_source": lens.z_source.draw(rng),
        "lens_axis_ratio": lens.axis_ratio.draw(rng),
        "lens_position_angle": lens.position_angle.draw(rng),
        "lens_slope": lens.slope.draw(rng) if lens.slope is not None else 2.0,
        "shear": lens.shear.draw(rng),
        "shear_angle": lens.shear_angle.draw(rng),
    }
    return (
        one | _draw_multipole(3, lens.multipole_3, rng) | _draw_multipole(4, lens.multipole_4, rng)
    )


def _draw_multipole(order: int, law: Multipole | None, rng: np.random.Generator) -> Parameters:
    amplitude, angle = (law.amplitude.draw(rng), law.angle.draw(rng)) if law else (0.0, 0.0)
    return {f"multipole_{order}": amplitude, f"multipole_{order}_angle": angle}


def _draw_source(source: Source, spec: ImageSpec, rng: np.random.Generator) -> Parameters:
    x, y = source.draw_position(rng)
    picture, index, ratio = -1, 1.0, 1.0
    if source.pictures is not None:
        picture = int(rng.integers(len(source.pictures)))
    elif source.sersic_index is not None and source.axis_ratio is not None:
        index, ratio = source.sersic_index.draw(rng), source.axis_ratio.draw(rng)
    radius = source.radius.draw(rng)
    if source.brightness is not None:
        brightness = source.brightness.draw(rng)
    else:
        assert source.magnitude is not None
        if source.pictures is not None:  # in units of the brightest pixel and of arcsec^2
            one = source.pictures[picture]
            light = float(one.sum()) * (2 * radius / max(one.shape)) ** 2
        else:
            light = sersic_flux(index, radius)
        brightness = _draw_brightness(source.magnitude, light, spec, rng)
    return {
        "source_index": index,
        "source_radius": radius,
        "source_brightness": brightness,
        "source_axis_ratio": ratio,
        "source_position_angle": source.position_angle.draw(rng),
        "source_x": x,
        "source_y": y,
        "source_picture": picture,
    }


def _draw_lens_light(
    law: LensLight | None, spec: ImageSpec, lens: Parameters, rng: np.random.Generator
) -> Parameters:
    if law is None:
        values = (1.0, 1.0, 0.0, 1.0, 0.0)
    else:
        index, radius = law.sersic_index.draw(rng), law.radius.draw(rng)
        if law.brightness is not None:
            brightness = law.brightness.draw(rng)
        else:
            assert law.magnitude is not None
            brightness = _draw_brightness(law.magnitude, sersic_flux(index, radius), spec, rng)
        ratio, angle = law.axis_ratio, law.position_angle
        values = (
            index,
            radius,
            brightness,
            ratio.draw(rng) if ratio is not None else lens["lens_axis_ratio"],
            angle.draw(rng) if angle is not None else lens["lens_position_angle"],
        )
    names = ("index", "radius", "brightness", "axis_ratio", "position_angle")
    return {f"lens_light_{name}": value for name, value in zip(names, values, strict=True)}


def _draw_brightness(
    law: Quantity, light: float, spec: ImageSpec, rng: np.random.Generator
) -> float:
    """Counts a pixel where a shape is one, from the magnitude of its light (arcsec^2)."""
    assert spec.zero_point is not None
    counts = 10 ** (0.4 * (spec.zero_point - law.draw(rng)))
    return float(counts * spec.pixel_scale**2 / light)


def sersic_flux(index: float, radius: float) -> float:
    """All the light of a Sersic profile of brightness one at its radius.

    Args:
        index: n.
        radius: of the intermediate axis, in any unit.

    Returns:
        In that unit squared (Graham & Driver 2005, eq. 4, with the k of Ciotti & Bertin 1999).

    Example:
        >>> print(f"{sersic_flux(1.0, 1.0):.3f}")
        11.948
    """
    from caustics.light.func import k_sersic

    k = k_sersic(index)
    return 2 * math.pi * radius**2 * index * math.exp(k) * k ** (-2 * index) * math.gamma(2 * index)


def _draw_detector(spec: ImageSpec, rng: np.random.Generator) -> Parameters:
    exposure = spec.exposure.draw(rng) if spec.exposure is not None else 1.0
    rms = spec.background.draw(rng) if spec.background is not None else spec.background_rms
    return {"exposure": exposure, "background_rms": rms * exposure}


def _draw_vortex(law: Vortex | None, mass_scale: float, rng: np.random.Generator) -> Parameters:
    """A line; its mass is a share of the halo's as yet."""
    if law is None:
        return dict.fromkeys(("vortex_mass", "vortex_angle", "vortex_x", "vortex_y"), 0.0) | {
            "vortex_length": 1.0
        }
    offset, towards = law.offset.draw(rng), law.offset_angle.draw(rng)
    return {
        "vortex_mass": mass_scale * law.mass_fraction.draw(rng),
        "vortex_length": law.length.draw(rng),
        "vortex_angle": law.angle.draw(rng),
        "vortex_x": offset * np.cos(towards),
        "vortex_y": offset * np.sin(towards),
    }
