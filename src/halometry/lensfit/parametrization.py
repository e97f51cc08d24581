"""Which parameters of a preset are fitted."""

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

INSTRUMENT_UNITS = {"psf_sigma": "arcsec", "sky": "counts/pixel"}  # the preset's, not the scene's


@dataclass(frozen=True)
class Parametrization:
    """The fitted parameters: blocks one after the other along a vector of coordinates.

    Attributes:
        blocks: in order.
        template: one scene, with all that is held; its substructure is none, or held too.
    """

    blocks: tuple[ParameterBlock, ...]
    template: Scene

    def __len__(self) -> int:
        return sum(len(block.steps) for block in self.blocks)

    @property
    def steps(self) -> Tensor:
        """The largest step of each coordinate (P,)."""
        flat = [step for block in self.blocks for step in block.steps]
        return torch.tensor(flat, dtype=torch.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the blocks."""
        return tuple(block.name for block in self.blocks)

    def wide_steps(self, half_a_pixel: float) -> dict[int, float]:
        """Coordinates to take differences of, and over which step."""
        return {
            self.index(block.name) + i: half_a_pixel if step is None else step
            for block in self.blocks
            for i, step in block.wide_steps
        }

    @property
    def units(self) -> dict[str, str]:
        """Of everything that `tell` tells."""
        return {k: v for block in self.blocks for k, v in block.units.items()}

    def index(self, name: str) -> int:
        """Where a block begins."""
        before = self.blocks[: self.names.index(name)]
        return sum(len(block.steps) for block in before)

    def without(self, *names: str) -> Parametrization:
        """All blocks but some."""
        return Parametrization(tuple(b for b in self.blocks if b.name not in names), self.template)

    def with_blocks(self, *more: ParameterBlock) -> Parametrization:
        """More parameters at the end."""
        return Parametrization(self.blocks + more, self.template)

    def fields(self, theta: Tensor) -> Fields:
        """All fitted fields of coordinates (B, P)."""
        return self._merge_blocks(theta, lambda block: block.fields)

    def derived_parameters(self, theta: Tensor) -> Fields:
        """What people read of coordinates (B, P)."""
        return self._merge_blocks(theta, lambda block: block.derived_parameters)

    def coordinates(self, values: Callable[[str], Tensor]) -> Tensor:
        """Coordinates (B, P) of fields, each (B,), by a function from their names."""
        return torch.cat([block.coordinates(values) for block in self.blocks], dim=1)

    def scene(self, theta: Tensor) -> Scene:
        """The scenes of coordinates (B, P); differentiable."""
        fields = self.fields(theta)
        base = self.template.rows(torch.zeros(len(theta), dtype=torch.long, device=theta.device))
        changes: dict[str, Any] = {
            k: v for k, v in fields.items() if hasattr(base, k) and k not in INSTRUMENT_UNITS
        }
        if "vortex_fraction" in fields:
            changes["vortex_mass"] = fields["vortex_fraction"] * base.halo_mass
        places = [b.name for b in self.blocks if b.name.startswith("subhalo_")]
        if places:
            share, x, y = (
                torch.stack([fields[f"{p}_{part}"] for p in places], dim=1)
                for part in ("fraction", "x", "y")
            )
            base = with_point_masses(base, share, x, y)
        return replace(base, **changes)

    def _merge_blocks(
        self, theta: Tensor, of: Callable[[ParameterBlock], Callable[[Tensor], Fields]]
    ) -> Fields:
        parts = torch.split(theta, [len(block.steps) for block in self.blocks], dim=1)
        told: Fields = {}
        for block, part in zip(self.blocks, parts, strict=True):
            told |= of(block)(part)
        return told


def with_point_masses(scene: Scene, share: Tensor, x: Tensor, y: Tensor) -> Scene:
    """The same lenses with point masses (B, n), shares of the halo's, as their only subhalos."""
    nothing = torch.zeros_like(share)
    return replace(
        scene,
        subhalo_mass=share * scene.halo_mass[:, None],
        subhalo_x=x,
        subhalo_y=y,
        subhalo_z=scene.z_lens[:, None].expand_as(share),
        subhalo_scale_radius=nothing,
        subhalo_truncation_radius=nothing,
    )


def build_parametrization(
    preset: Preset, template: Scene, free: Iterable[str] = ()
) -> Parametrization:
    """The parameters that vary in a preset, and those asked for besides.

    The source's position is always fitted; all else whose law is a single value is held, but for
    what the preset calls uncertain.

    Args:
        preset: whose laws say what varies.
        template: a scene of the preset, without substructure.
        free: names of `KNOWN` to fit though the preset holds them.

    Raises:
        UsageError: a name that is not known.
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
    """The fields of scenes by name, and of the preset that they share, each (B,)."""

    def get(name: str) -> Tensor:
        if name not in INSTRUMENT_UNITS:
            found: Tensor = getattr(scene, name)
            return found
        return torch.full_like(scene.einstein_radius, getattr(preset.image, name))

    return get


def _units_per_second(units: dict[str, str]) -> dict[str, str]:
    """The units where brightness and sky are per second, as `units_of` has them."""
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
    """Whether a preset has what a parameter belongs to."""
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
    lens, source, light = preset.lens, preset.source, preset.lens_light
    laws: dict[str, tuple[Quantity | None, ...]] = {
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
        laws["einstein_radius"] = (lens.mass, lens.z_lens, lens.z_source)
    else:
        laws["einstein_radius"] = (lens.einstein_radius,)
    for order, law in ((3, lens.multipole_3), (4, lens.multipole_4)):
        if law is not None:
            laws[f"multipole_{order}"] = (law.amplitude, law.angle)
    if light is not None:
        ratio, angle = light.axis_ratio or lens.axis_ratio, light.position_angle
        laws["lens_light_ellipticity"] = (ratio, angle or lens.position_angle)
        laws["lens_light_radius"] = (light.radius,)
        laws["lens_light_index"] = (light.sersic_index,)
        laws["lens_light_brightness"] = (light.brightness, light.magnitude)
    return any(law is not None and law.value is None for law in laws.get(name, ()))
