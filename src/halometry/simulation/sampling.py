"""Drawing of scenes from a preset; each image has its own random number generator."""

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

Parameters = dict[str, Any]  # of one image, by the names of `Scene`


def draw_scenes(preset: Preset, seed: int, start: int, count: int) -> Scene:
    """Draw the scenes of images `start` to `start + count` of a preset.

    Image k depends on (preset, seed, k) only. In a classification its class is k modulo the number
    of classes, so that each dataset is balanced.

    Args:
        preset: preset of the images.
        seed: seed of the dataset.
        start: number of the first image, from 0.
        count: number of images, at least 1.

    Raises:
        UsageError: `start` or `count` is out of range.
        UnavailableError: the preset needs pyHalo, which is not installed.
    """
    if count < 1 or start < 0:
        raise UsageError(f"images {start} to {start + count}: there are none; count from 0 upwards")
    drawn = [_draw_scene(preset, seed, k) for k in range(start, start + count)]
    columns = {
        name: np.array([parameters[name] for parameters in drawn])
        for name in UNITS
        if name in drawn[0]
    }
    redshifts = columns["z_lens"], columns["z_source"], preset.distances, preset.cosmology
    if preset.lens.mass is not None:
        columns["einstein_radius"] = einstein_radius(columns["halo_mass"], *redshifts)
    else:
        columns["halo_mass"] = mass_within(columns["einstein_radius"], *redshifts)
    columns["vortex_mass"] = columns.pop("vortex_mass") * columns["halo_mass"]
    in_lens_plane = np.isclose(columns["subhalo_z"], columns["z_lens"][:, None], rtol=0, atol=1e-6)
    total_mass = np.where(in_lens_plane, columns["subhalo_mass"], 0).sum(axis=1)
    columns["f_sub"] = total_mass / columns["halo_mass"]
    tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in columns.items()}
    return Scene(**tensors, task=preset.task)


def scene_units(preset: Preset) -> dict[str, str]:
    """Return the units of a preset's scenes; with an exposure, brightness is per second."""
    if preset.image.exposure is None:
        return UNITS
    rate = {f"{light}_brightness": "counts/s/pixel" for light in ("source", "lens_light")}
    return UNITS | rate


def _draw_scene(preset: Preset, seed: int, image: int) -> Parameters:
    """Draw the parameters of one image; `vortex_mass` is still a fraction of the halo's mass."""
    rng = image_rng(seed, image, Purpose.SCENE)
    position = image % len(preset.kinds)
    kind = preset.kinds[position]
    scene: Parameters = {"class_index": position} | _draw_lens(preset, rng)
    scene |= _draw_source(preset.source, preset.image, rng)
    scene |= _draw_lens_light(preset.lens_light, preset.image, scene, rng)
    scene |= _draw_detector(preset.image, rng)
    population = SubhaloPopulation.empty(preset.max_halos)
    if kind == "sphere":
        population = draw_subhalos(preset, scene["z_lens"], scene["z_source"], rng)
    scene |= population.columns()
    return scene | _draw_vortex(preset.vortex if kind == "vort" else None, preset.mass_scale, rng)


def _draw_lens(preset: Preset, rng: np.random.Generator) -> Parameters:
    """Draw the main lens, with shear and multipoles; it has either a mass or an Einstein radius."""
    lens = preset.lens
    size_name = "halo_mass" if lens.mass is not None else "einstein_radius"
    size = lens.mass or lens.einstein_radius
    assert size is not None
    parameters = {
        size_name: size.draw(rng),
        "z_lens": lens.z_lens.draw(rng),
        "z_source": lens.z_source.draw(rng),
        "lens_axis_ratio": lens.axis_ratio.draw(rng),
        "lens_position_angle": lens.position_angle.draw(rng),
        "lens_slope": lens.slope.draw(rng) if lens.slope is not None else 2.0,
        "shear": lens.shear.draw(rng),
        "shear_angle": lens.shear_angle.draw(rng),
    }
    parameters |= _draw_multipole(3, lens.multipole_3, rng)
    return parameters | _draw_multipole(4, lens.multipole_4, rng)


def _draw_multipole(
    order: int, multipole: Multipole | None, rng: np.random.Generator
) -> Parameters:
    """Draw amplitude and angle of a multipole; zero without one."""
    amplitude, angle = 0.0, 0.0
    if multipole is not None:
        amplitude, angle = multipole.amplitude.draw(rng), multipole.angle.draw(rng)
    return {f"multipole_{order}": amplitude, f"multipole_{order}_angle": angle}


def _draw_source(source: Source, spec: ImageSpec, rng: np.random.Generator) -> Parameters:
    """Draw the source."""
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
        if source.pictures is not None:  # flux in units of the brightest pixel and of arcsec^2
            pixels = source.pictures[picture]
            flux = float(pixels.sum()) * (2 * radius / max(pixels.shape)) ** 2
        else:
            flux = sersic_flux(index, radius)
        brightness = _draw_brightness(source.magnitude, flux, spec, rng)
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
    light: LensLight | None, spec: ImageSpec, lens: Parameters, rng: np.random.Generator
) -> Parameters:
    """Draw the light of the lens galaxy; zero brightness without any."""
    if light is None:
        values = (1.0, 1.0, 0.0, 1.0, 0.0)
    else:
        index, radius = light.sersic_index.draw(rng), light.radius.draw(rng)
        if light.brightness is not None:
            brightness = light.brightness.draw(rng)
        else:
            assert light.magnitude is not None
            brightness = _draw_brightness(light.magnitude, sersic_flux(index, radius), spec, rng)
        ratio, angle = light.axis_ratio, light.position_angle
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
    magnitude: Quantity, flux: float, spec: ImageSpec, rng: np.random.Generator
) -> float:
    """Draw a magnitude and convert it to a brightness in counts per pixel.

    Args:
        magnitude: total magnitude.
        flux: total light (arcsec^2) of the profile with a brightness of 1.
        spec: gives zero point and pixel scale.
        rng: random number generator.
    """
    assert spec.zero_point is not None
    counts = 10 ** (0.4 * (spec.zero_point - magnitude.draw(rng)))
    return float(counts * spec.pixel_scale**2 / flux)


def sersic_flux(index: float, radius: float) -> float:
    """Compute the total light of a Sersic profile with a brightness of 1 at its half-light radius.

    Args:
        index: Sersic index n.
        radius: half-light radius along the intermediate axis, in any unit.

    Returns:
        Total light in that unit squared (Graham & Driver 2005, eq. 4, with k of Ciotti & Bertin
        1999).

    Example:
        >>> print(f"{sersic_flux(1.0, 1.0):.3f}")
        11.948
    """
    from caustics.light.func import k_sersic

    k = k_sersic(index)
    return 2 * math.pi * radius**2 * index * math.exp(k) * k ** (-2 * index) * math.gamma(2 * index)


def _draw_detector(spec: ImageSpec, rng: np.random.Generator) -> Parameters:
    """Draw exposure time and Gaussian background."""
    exposure = spec.exposure.draw(rng) if spec.exposure is not None else 1.0
    rms = spec.background.draw(rng) if spec.background is not None else spec.background_rms
    return {"exposure": exposure, "background_rms": rms * exposure}


def _draw_vortex(vortex: Vortex | None, mass_scale: float, rng: np.random.Generator) -> Parameters:
    """Draw a vortex, with its mass as a fraction of the halo's mass; zero mass without one."""
    if vortex is None:
        return dict.fromkeys(("vortex_mass", "vortex_angle", "vortex_x", "vortex_y"), 0.0) | {
            "vortex_length": 1.0
        }
    offset, offset_angle = vortex.offset.draw(rng), vortex.offset_angle.draw(rng)
    return {
        "vortex_mass": mass_scale * vortex.mass_fraction.draw(rng),
        "vortex_length": vortex.length.draw(rng),
        "vortex_angle": vortex.angle.draw(rng),
        "vortex_x": offset * np.cos(offset_angle),
        "vortex_y": offset * np.sin(offset_angle),
    }
