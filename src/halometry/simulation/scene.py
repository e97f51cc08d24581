"""What is in each image: a batch of named parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

UNITS = {
    "class_index": "",
    "f_sub": "subhalo mass over halo mass",
    "halo_mass": "Msun",
    "z_lens": "",
    "z_source": "",
    "einstein_radius": "arcsec",
    "lens_axis_ratio": "",
    "lens_position_angle": "rad",
    "lens_slope": "",
    "shear": "",
    "shear_angle": "rad",
    "multipole_3": "",
    "multipole_3_angle": "rad",
    "multipole_4": "",
    "multipole_4_angle": "rad",
    "source_index": "",
    "source_radius": "arcsec",
    "source_brightness": "counts/pixel",
    "source_axis_ratio": "",
    "source_position_angle": "rad",
    "source_x": "arcsec",
    "source_y": "arcsec",
    "source_picture": "",
    "lens_light_index": "",
    "lens_light_radius": "arcsec",
    "lens_light_brightness": "counts/pixel",
    "lens_light_axis_ratio": "",
    "lens_light_position_angle": "rad",
    "exposure": "s",
    "background_rms": "counts/pixel",
    "subhalo_mass": "Msun",
    "subhalo_x": "arcsec",
    "subhalo_y": "arcsec",
    "subhalo_z": "",
    "subhalo_scale_radius": "arcsec",
    "subhalo_truncation_radius": "arcsec",
    "vortex_mass": "Msun",
    "vortex_length": "arcsec",
    "vortex_angle": "rad",
    "vortex_x": "arcsec",
    "vortex_y": "arcsec",
}


MIN_MASS_FRACTION = (
    1e-30  # a share of the halo's mass that is none, but whose root has a derivative
)


@dataclass(frozen=True)
class Scene:
    """A batch of lenses: every true parameter of every image.

    All attributes are tensors (N,), but those of subhalos, which are (N, n) with mass 0 where
    there is none. Units stand in `UNITS`: masses in solar masses, angles in radians from the x
    axis, positions in arcsec from the lens. `class_index` counts the preset's classes.

    A line of mass 0 is none, a slope of 2 isothermal, and a `source_picture` of -1 a Sersic
    profile. Multipoles are shares of the Einstein radius. A subhalo with a scale radius of 0 is a
    point; the mass of one with another is all that it has when truncated. Brightness is per second
    where the preset has an exposure; `exposure` is 1 where it has none.
    `background_rms` is that of the whole exposure.

    Coordinates have x to the right and y up the image's rows.
    """

    class_index: Tensor
    f_sub: Tensor
    halo_mass: Tensor
    z_lens: Tensor
    z_source: Tensor
    einstein_radius: Tensor
    lens_axis_ratio: Tensor
    lens_position_angle: Tensor
    lens_slope: Tensor
    shear: Tensor
    shear_angle: Tensor
    multipole_3: Tensor
    multipole_3_angle: Tensor
    multipole_4: Tensor
    multipole_4_angle: Tensor
    source_index: Tensor
    source_radius: Tensor
    source_brightness: Tensor
    source_axis_ratio: Tensor
    source_position_angle: Tensor
    source_x: Tensor
    source_y: Tensor
    source_picture: Tensor
    lens_light_index: Tensor
    lens_light_radius: Tensor
    lens_light_brightness: Tensor
    lens_light_axis_ratio: Tensor
    lens_light_position_angle: Tensor
    exposure: Tensor
    background_rms: Tensor
    subhalo_mass: Tensor
    subhalo_x: Tensor
    subhalo_y: Tensor
    subhalo_z: Tensor
    subhalo_scale_radius: Tensor
    subhalo_truncation_radius: Tensor
    vortex_mass: Tensor
    vortex_length: Tensor
    vortex_angle: Tensor
    vortex_x: Tensor
    vortex_y: Tensor
    task: str = "classification"

    def __len__(self) -> int:
        return len(self.f_sub)

    @property
    def labels(self) -> Tensor:
        """Class indices (int64) or mass fractions (float64), (N,)."""
        return self.class_index if self.task == "classification" else self.f_sub

    @property
    def subhalo_radius(self) -> Tensor:
        """Einstein radii of the subhalos as point masses (N, n), arcsec."""
        share = self.subhalo_mass / self.halo_mass[:, None]
        return self.einstein_radius[:, None] * share.clamp_min(MIN_MASS_FRACTION).sqrt()

    @property
    def vortex_radius(self) -> Tensor:
        """Einstein radius that the line's mass would have as a point (N,), arcsec."""
        return (
            self.einstein_radius
            * (self.vortex_mass / self.halo_mass).clamp_min(MIN_MASS_FRACTION).sqrt()
        )

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Scene:
        """The same scene on a device, its real numbers in a precision."""
        return self._map_tensors(lambda t: t.to(device, dtype if t.is_floating_point() else None))

    def rows(self, index: Tensor | slice) -> Scene:
        """Some of the images."""
        return self._map_tensors(lambda t: t[index])

    def parameters(self) -> dict[str, np.ndarray]:
        """Every parameter as an array with the images along the first dimension."""
        return {name: value.cpu().numpy() for name, value in self._tensors().items()}

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> Scene:
        changed: dict[str, Any] = {name: change(t) for name, t in self._tensors().items()}
        return replace(self, **changed)

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "task"}
