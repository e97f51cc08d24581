"""Parametrization of a fit: which parameters of a preset are fitted, and as which coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from halometry.errors import UsageError, did_you_mean
from halometry.lensfit.parameter_blocks import (
    Fields,
    ParameterBlock,
    ellipticity_block,
    multipole_block,
    positive_block,
    shear_block,
    source_position_block,
)
from halometry.simulation.distributions import Quantity
from halometry.simulation.preset import Preset
from halometry.simulation.scene import Scene

INSTRUMENT_UNITS = {  # of parameters that are part of the preset's image, not of the scene
    "psf_sigma": "arcsec",
    "sky": "counts/pixel",
}


@dataclass(frozen=True)
class Parametrization:
    """Fitted parameters: blocks of coordinates, one after the other along a vector theta.

    Attributes:
        blocks: in order.
        template: one scene with the values that are held, including substructure that is held.
    """

    blocks: tuple[ParameterBlock, ...]
    template: Scene

    def __len__(self) -> int:
        return sum(len(block.steps) for block in self.blocks)

    @property
    def steps(self) -> Tensor:
        """Largest change of each coordinate in one iteration (P,)."""
        flat = [step for block in self.blocks for step in block.steps]
        return torch.tensor(flat, dtype=torch.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the blocks."""
        return tuple(block.name for block in self.blocks)

    def wide_steps(self, half_pixel: float) -> dict[int, float]:
        """Return the coordinates to differentiate over a wide central difference, with its step.

        Args:
            half_pixel: half the size of a pixel, arcsec.
        """
        return {
            self.index(block.name) + i: half_pixel if step is None else step
            for block in self.blocks
            for i, step in block.wide_steps
        }

    @property
    def units(self) -> dict[str, str]:
        """Unit of each parameter that `derived_parameters` returns."""
        return {k: v for block in self.blocks for k, v in block.units.items()}

    def index(self, name: str) -> int:
        """Return the index of the first coordinate of a block."""
        before = self.blocks[: self.names.index(name)]
        return sum(len(block.steps) for block in before)

    def without(self, *names: str) -> Parametrization:
        """Return the parametrization without some blocks."""
        return Parametrization(tuple(b for b in self.blocks if b.name not in names), self.template)

    def with_blocks(self, *blocks: ParameterBlock) -> Parametrization:
        """Return the parametrization with more blocks at the end."""
        return Parametrization(self.blocks + blocks, self.template)

    def fields(self, theta: Tensor) -> Fields:
        """Return all fitted fields, (B,) each, of coordinates (B, P)."""
        return self._merge_blocks(theta, lambda block: block.fields)

    def derived_parameters(self, theta: Tensor) -> Fields:
        """Return all reported parameters, (B,) each, of coordinates (B, P)."""
        return self._merge_blocks(theta, lambda block: block.derived_parameters)

    def coordinates(self, values: Callable[[str], Tensor]) -> Tensor:
        """Return the coordinates (B, P) of fields.

        Args:
            values: function from the name of a field to its values (B,).
        """
        return torch.cat([block.coordinates(values) for block in self.blocks], dim=1)

    def scene(self, theta: Tensor) -> Scene:
        """Return the scenes of coordinates (B, P); differentiable."""
        fields = self.fields(theta)
        base = self.template.rows(torch.zeros(len(theta), dtype=torch.long, device=theta.device))
        changes: dict[str, Any] = {
            k: v for k, v in fields.items() if hasattr(base, k) and k not in INSTRUMENT_UNITS
        }
        if "vortex_fraction" in fields:
            changes["vortex_mass"] = fields["vortex_fraction"] * base.halo_mass
        subhalos = [b.name for b in self.blocks if b.name.startswith("subhalo_")]
        if subhalos:
            fraction, x, y = (
                torch.stack([fields[f"{name}_{part}"] for name in subhalos], dim=1)
                for part in ("fraction", "x", "y")
            )
            base = with_point_masses(base, fraction, x, y)
        return replace(base, **changes)

    def _merge_blocks(
        self, theta: Tensor, function_of: Callable[[ParameterBlock], Callable[[Tensor], Fields]]
    ) -> Fields:
        """Apply one function of each block to its coordinates and merge what they return."""
        parts = torch.split(theta, [len(block.steps) for block in self.blocks], dim=1)
        merged: Fields = {}
        for block, part in zip(self.blocks, parts, strict=True):
            merged |= function_of(block)(part)
        return merged


def with_point_masses(scene: Scene, fraction: Tensor, x: Tensor, y: Tensor) -> Scene:
    """Return the same lenses with point masses as their only subhalos.

    Args:
        scene: B lenses.
        fraction: mass of each point mass over the mass of the halo (B, n).
        x, y: positions (B, n), arcsec.
    """
    zeros = torch.zeros_like(fraction)
    return replace(
        scene,
        subhalo_mass=fraction * scene.halo_mass[:, None],
        subhalo_x=x,
        subhalo_y=y,
        subhalo_z=scene.z_lens[:, None].expand_as(fraction),
        subhalo_scale_radius=zeros,
        subhalo_truncation_radius=zeros,
    )


def build_parametrization(
    preset: Preset, template: Scene, free: Iterable[str] = ()
) -> Parametrization:
    """Return the parameters that vary in a preset, and further ones that are asked for.

    The source's position is always fitted. A parameter whose distribution is a single value is
    held, unless it is in `free` or in the preset's `image.fit_per_image`.

    Args:
        preset: its distributions say which parameters vary.
        template: a scene of the preset, without substructure.
        free: names in `PARAMETER_BLOCKS` to fit although the preset holds them.

    Raises:
        UsageError: a name is unknown, or belongs to a part that the preset lacks.
    """
    wanted = {*free, *(preset.image.fit_per_image or ())}
    for name in wanted:
        if name not in PARAMETER_BLOCKS:
            raise UsageError(
                f"--free {name}: not a parameter; {did_you_mean(name, PARAMETER_BLOCKS)}"
            )
        if not _has_parameter(preset, name):
            raise UsageError(
                f"--free {name}: preset {preset.name} has no such part that could be fitted"
            )
    blocks = [
        block
        for name, block in PARAMETER_BLOCKS.items()
        if name in wanted or name == "source_position" or _varies(preset, name)
    ]
    if preset.image.exposure is not None:
        blocks = [replace(block, units=_units_per_second(block.units)) for block in blocks]
    return Parametrization(tuple(blocks), template)


def scene_values(preset: Preset, scene: Scene) -> Callable[[str], Tensor]:
    """Return a function from the name of a field to its values (B,) in scenes and their preset."""

    def get(name: str) -> Tensor:
        if name in INSTRUMENT_UNITS:
            return torch.full_like(scene.einstein_radius, getattr(preset.image, name))
        values: Tensor = getattr(scene, name)
        return values

    return get


def _units_per_second(units: dict[str, str]) -> dict[str, str]:
    """Replace counts by counts per second, the unit of presets with an exposure time."""
    return {name: unit.replace("counts/pixel", "counts/s/pixel") for name, unit in units.items()}


PARAMETER_BLOCKS = {
    block.name: block
    for block in (
        positive_block("einstein_radius", "arcsec", 0.15),
        shear_block(),
        source_position_block(),
        ellipticity_block("source"),
        positive_block("source_radius", "arcsec"),
        positive_block("source_index", ""),
        positive_block("source_brightness", "counts/pixel"),
        ellipticity_block("lens"),
        positive_block("lens_slope", "", 0.1),
        multipole_block(3),
        multipole_block(4),
        ellipticity_block("lens_light"),
        positive_block("lens_light_radius", "arcsec"),
        positive_block("lens_light_index", ""),
        positive_block("lens_light_brightness", "counts/pixel"),
        positive_block("exposure", "s"),
        *(positive_block(name, unit) for name, unit in INSTRUMENT_UNITS.items()),
    )
}


def _has_parameter(preset: Preset, name: str) -> bool:
    """Whether a preset has the part that a parameter describes."""
    lens, spec = preset.lens, preset.image
    if name == "psf_sigma":
        return spec.psf_sigma > 0
    optional = {
        "lens_slope": lens.slope,
        "multipole_3": lens.multipole_3,
        "multipole_4": lens.multipole_4,
        "exposure": spec.exposure,
    }
    if name.startswith("lens_light"):
        return preset.lens_light is not None
    return optional.get(name, lens) is not None


def _varies(preset: Preset, name: str) -> bool:
    """Whether a parameter of a preset differs from scene to scene."""
    lens, source, light = preset.lens, preset.source, preset.lens_light
    quantities: dict[str, tuple[Quantity | None, ...]] = {
        "shear": (lens.shear, lens.shear_angle),
        "source_ellipticity": (source.axis_ratio, source.position_angle),
        "source_radius": (source.radius,),
        "source_index": (source.sersic_index,),
        "source_brightness": (source.brightness, source.magnitude),
        "lens_ellipticity": (lens.axis_ratio, lens.position_angle),
        "lens_slope": (lens.slope,),
        "exposure": (preset.image.exposure,),
    }
    if lens.mass is not None:
        quantities["einstein_radius"] = (lens.mass, lens.z_lens, lens.z_source)
    else:
        quantities["einstein_radius"] = (lens.einstein_radius,)
    for order, multipole in ((3, lens.multipole_3), (4, lens.multipole_4)):
        if multipole is not None:
            quantities[f"multipole_{order}"] = (multipole.amplitude, multipole.angle)
    if light is not None:
        ratio, angle = light.axis_ratio or lens.axis_ratio, light.position_angle
        quantities["lens_light_ellipticity"] = (ratio, angle or lens.position_angle)
        quantities["lens_light_radius"] = (light.radius,)
        quantities["lens_light_index"] = (light.sersic_index,)
        quantities["lens_light_brightness"] = (light.brightness, light.magnitude)
    return any(q is not None and q.value is None for q in quantities.get(name, ()))
