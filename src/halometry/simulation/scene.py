"""Scenes: the true parameters of a batch of images."""

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


MIN_MASS_FRACTION = 1e-30  # replaces 0, so that square roots have a finite derivative


@dataclass(frozen=True)
class Scene:
    """Batch of lenses: all true parameters of N images.

    Attributes are tensors (N,). Those of subhalos are (N, n), with mass 0 in empty slots. `UNITS`
    has the units: masses are in solar masses, angles in radians from the x axis, positions in
    arcsec from the lens. x increases with the columns of an image, y with its rows.

    - `class_index` is the index of the class in the preset.
    - `lens_slope` is 2 for an isothermal lens.
    - `multipole_3` and `multipole_4` are fractions of the Einstein radius.
    - `source_picture` is the index of a picture, -1 for a Sersic profile.
    - `vortex_mass` is 0 without a vortex.
    - `subhalo_scale_radius` is 0 for a point mass; otherwise `subhalo_mass` is the total mass of
      the truncated halo.
    - `source_brightness` and `lens_light_brightness` are per second where the preset has an
      exposure; otherwise `exposure` is 1.
    - `background_rms` is that of the whole exposure.
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
        """Labels (N,): class indices (int64) or mass fractions (float64)."""
        return self.class_index if self.task == "classification" else self.f_sub

    @property
    def subhalo_radius(self) -> Tensor:
        """Einstein radii of the subhalos as point masses (N, n), arcsec."""
        fraction = self.subhalo_mass / self.halo_mass[:, None]
        return self.einstein_radius[:, None] * fraction.clamp_min(MIN_MASS_FRACTION).sqrt()

    @property
    def vortex_radius(self) -> Tensor:
        """Einstein radius of a point with the mass of the vortex (N,), arcsec."""
        fraction = self.vortex_mass / self.halo_mass
        return self.einstein_radius * fraction.clamp_min(MIN_MASS_FRACTION).sqrt()

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Scene:
        """Return the scene on a device, with floating-point numbers of a precision."""
        return self._map_tensors(lambda t: t.to(device, dtype if t.is_floating_point() else None))

    def rows(self, index: Tensor | slice) -> Scene:
        """Return the scene of some of the images, selected by indices, a mask or a slice."""
        return self._map_tensors(lambda t: t[index])

    def parameters(self) -> dict[str, np.ndarray]:
        """Return all parameters as arrays by name, with images along the first dimension."""
        return {name: value.cpu().numpy() for name, value in self._tensors().items()}

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> Scene:
        changed: dict[str, Any] = {name: change(t) for name, t in self._tensors().items()}
        return replace(self, **changed)

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "task"}
