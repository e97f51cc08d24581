"""What is in each image: a batch of named parameters, each image from its own random stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halometry.simulation.cosmology import einstein_radius
from halometry.simulation.preset import Preset

UNITS = {
    "class_index": "",
    "f_sub": "subhalo mass over halo mass",
    "halo_mass": "Msun",
    "z_lens": "",
    "z_source": "",
    "einstein_radius": "arcsec",
    "lens_axis_ratio": "",
    "lens_position_angle": "rad",
    "shear": "",
    "shear_angle": "rad",
    "source_index": "",
    "source_radius": "arcsec",
    "source_brightness": "counts/pixel",
    "source_axis_ratio": "",
    "source_position_angle": "rad",
    "source_x": "arcsec",
    "source_y": "arcsec",
    "subhalo_mass": "Msun",
    "subhalo_x": "arcsec",
    "subhalo_y": "arcsec",
    "line_mass": "Msun",
    "line_length": "arcsec",
    "line_angle": "rad",
    "line_x": "arcsec",
    "line_y": "arcsec",
}


TINY = 1e-30  # a share of the halo's mass that is none, but whose root has a derivative


class Purpose(IntEnum):
    """What a random stream is for; streams of different purposes are independent."""

    SCENE = 0
    NOISE = 1


def stream(seed: int, image: int, purpose: Purpose) -> np.random.Generator:
    """The random stream of one image for one purpose."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(image, int(purpose)))
    return np.random.Generator(np.random.PCG64(sequence))


@dataclass(frozen=True)
class Scene:
    """A batch of lenses: every true parameter of every image.

    All attributes are tensors (N,), but `subhalo_mass`, `subhalo_x` and `subhalo_y`, which are
    (N, n) with mass 0 where there is none. Units stand in `UNITS`: masses in solar masses,
    angles in radians from the x axis, positions in arcsec from the lens. `class_index` is 0, 1
    or 2 for no, sphere and vort. A line of mass 0 is none.

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
    shear: Tensor
    shear_angle: Tensor
    source_index: Tensor
    source_radius: Tensor
    source_brightness: Tensor
    source_axis_ratio: Tensor
    source_position_angle: Tensor
    source_x: Tensor
    source_y: Tensor
    subhalo_mass: Tensor
    subhalo_x: Tensor
    subhalo_y: Tensor
    line_mass: Tensor
    line_length: Tensor
    line_angle: Tensor
    line_x: Tensor
    line_y: Tensor
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
        return self.einstein_radius[:, None] * share.clamp_min(TINY).sqrt()

    @property
    def line_radius(self) -> Tensor:
        """Einstein radius that the line's mass would have as a point (N,), arcsec."""
        return self.einstein_radius * (self.line_mass / self.halo_mass).clamp_min(TINY).sqrt()

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Scene:
        """The same scene on a device, its real numbers in a precision."""
        return self._each(lambda t: t.to(device, dtype if t.is_floating_point() else None))

    def rows(self, index: Tensor | slice) -> Scene:
        """Some of the images."""
        return self._each(lambda t: t[index])

    def parameters(self) -> dict[str, np.ndarray]:
        """Every parameter as an array with the images along the first dimension."""
        return {name: value.cpu().numpy() for name, value in self._tensors().items()}

    def _each(self, change: Callable[[Tensor], Tensor]) -> Scene:
        changed: dict[str, Any] = {name: change(t) for name, t in self._tensors().items()}
        return replace(self, **changed)

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "task"}


def draw_scenes(preset: Preset, seed: int, start: int, count: int) -> Scene:
    """Draw the scenes of images `start` to `start + count`.

    Image k follows from (preset, seed, k) alone. In a classification its class is k modulo 3,
    so that any set is balanced.

    Args:
        preset: what to draw from.
        seed: of the set.
        start: number of the first image.
        count: how many images.
    """
    drawn = [_draw(preset, seed, k) for k in range(start, start + count)]
    columns = {name: np.array([one[name] for one in drawn]) for name in UNITS if name in drawn[0]}
    columns["einstein_radius"] = einstein_radius(
        columns["halo_mass"], columns["z_lens"], columns["z_source"], preset.distances
    )
    columns["f_sub"] = columns["subhalo_mass"].sum(axis=1) / columns["halo_mass"]
    tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in columns.items()}
    return Scene(**tensors, task=preset.task)


def _draw(preset: Preset, seed: int, image: int) -> dict[str, float | int | np.ndarray]:
    rng = stream(seed, image, Purpose.SCENE)
    lens, source = preset.lens, preset.source
    kind = image % 3 if preset.task == "classification" else 1
    source_x, source_y = source.draw_position(rng)
    one: dict[str, float | int | np.ndarray] = {
        "class_index": kind,
        "halo_mass": lens.mass.draw(rng),
        "z_lens": lens.z_lens.draw(rng),
        "z_source": lens.z_source.draw(rng),
        "lens_axis_ratio": lens.axis_ratio.draw(rng),
        "lens_position_angle": lens.position_angle.draw(rng),
        "shear": lens.shear.draw(rng),
        "shear_angle": lens.shear_angle.draw(rng),
        "source_index": source.sersic_index.draw(rng),
        "source_radius": source.radius.draw(rng),
        "source_brightness": source.brightness.draw(rng),
        "source_axis_ratio": source.axis_ratio.draw(rng),
        "source_position_angle": source.position_angle.draw(rng),
        "source_x": source_x,
        "source_y": source_y,
    }
    one |= _draw_subhalos(preset, rng if kind == 1 else None)
    return one | _draw_line(preset, rng if kind == 2 else None, float(one["halo_mass"]))


def _draw_subhalos(preset: Preset, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
    places = preset.max_subhalos
    mass, x, y = np.zeros(places), np.zeros(places), np.zeros(places)
    if rng is not None:
        law = preset.subhalos
        # More than the places kept come once in 1e20 images; they would be left out.
        number = min(int(law.number.draw(rng)), places)
        mass[:number] = preset.mass_scale * law.mass.draw(rng, number)
        radius, angle = law.radius.draw(rng, number), law.angle.draw(rng, number)
        x[:number], y[:number] = radius * np.cos(angle), radius * np.sin(angle)
    return {"subhalo_mass": mass, "subhalo_x": x, "subhalo_y": y}


def _draw_line(
    preset: Preset, rng: np.random.Generator | None, halo_mass: float
) -> dict[str, float]:
    law = preset.line
    if rng is None or law is None:
        return dict.fromkeys(("line_mass", "line_angle", "line_x", "line_y"), 0.0) | {
            "line_length": 1.0
        }
    offset, towards = law.offset.draw(rng), law.offset_angle.draw(rng)
    return {
        "line_mass": preset.mass_scale * law.mass_fraction.draw(rng) * halo_mass,
        "line_length": law.length.draw(rng),
        "line_angle": law.angle.draw(rng),
        "line_x": offset * np.cos(towards),
        "line_y": offset * np.sin(towards),
    }
