"""Coordinates without bounds, and the physical parameters that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from halometry.simulation.scene import UNITS

MIN_POSITIVE = 1e-8  # keeps logarithms defined
MIN_VECTOR_LENGTH = 1e-12  # and the direction of a vector of no length, short against any step

Fields = dict[str, Tensor]


@dataclass(frozen=True)
class ParameterBlock:
    """Some coordinates without bounds, and the fields of a scene that they stand for.

    Attributes:
        name: of the block; one that `free` may ask for.
        steps: the largest step of each coordinate in one iteration.
        fields: coordinates (B, n) to fields of the scene, (B,) each.
        coordinates: fields, by a function from their name, to coordinates (B, n).
        tell: coordinates (B, n) to what people read, (B,) each.
        units: of what people read, by name.
        rough: coordinates that move edges or singular points between the rays of pixels, where a
            derivative says little of the next ray, and the step to take differences over instead;
            None for half a pixel.
    """

    name: str
    steps: tuple[float, ...]
    fields: Callable[[Tensor], Fields]
    coordinates: Callable[[Callable[[str], Tensor]], Tensor]
    derived_parameters: Callable[[Tensor], Fields]
    units: dict[str, str]
    wide_steps: tuple[tuple[int, float | None], ...] = ()


def positive_block(name: str, unit: str, step: float = 0.3) -> ParameterBlock:
    """A quantity above zero, by its logarithm."""
    return ParameterBlock(
        name,
        (step,),
        lambda c: {name: c[:, 0].exp()},
        lambda get: get(name).clamp_min(MIN_POSITIVE).log()[:, None],
        lambda c: {name: c[:, 0].exp()},
        {name: unit},
    )


def shear_block() -> ParameterBlock:
    """External shear, by gamma_1 = |gamma| cos 2 phi and gamma_2 = |gamma| sin 2 phi."""

    def fields(c: Tensor) -> Fields:
        size, angle = _polar(c)
        return {"shear": size, "shear_angle": angle}

    return ParameterBlock(
        "shear",
        (0.1, 0.1),
        fields,
        lambda get: _cartesian(get("shear"), get("shear_angle")),
        lambda c: {"shear_1": c[:, 0], "shear_2": c[:, 1], **fields(c)},
        {"shear_1": "", "shear_2": "", "shear": "", "shear_angle": "rad"},
    )


def source_position_block() -> ParameterBlock:
    """Where the source is."""

    def fields(c: Tensor) -> Fields:
        return {"source_x": c[:, 0], "source_y": c[:, 1]}

    return ParameterBlock(
        "source_position",
        (0.2, 0.2),
        fields,
        lambda get: torch.stack([get("source_x"), get("source_y")], dim=1),
        fields,
        {"source_x": "arcsec", "source_y": "arcsec"},
    )


def ellipticity_block(of: str) -> ParameterBlock:
    """Axis ratio q and position angle, by -ln(q) / 2 in the directions cos 2 phi and sin 2 phi.

    Told also as e_1 and e_2 of modulus (1 - q) / (1 + q).
    """
    ratio, angle = f"{of}_axis_ratio", f"{of}_position_angle"

    def fields(c: Tensor) -> Fields:
        size, phi = _polar(c)
        return {ratio: (-2 * size).exp(), angle: phi}

    def tell(c: Tensor) -> Fields:
        size, phi = _polar(c)
        e = _cartesian(torch.tanh(size), phi)
        return {f"{of}_e1": e[:, 0], f"{of}_e2": e[:, 1], **fields(c)}

    return ParameterBlock(
        f"{of}_ellipticity",
        (0.3, 0.3),
        fields,
        lambda get: _cartesian(-0.5 * get(ratio).log(), get(angle)),
        tell,
        {f"{of}_e1": "", f"{of}_e2": "", ratio: "", angle: "rad"},
    )


def vortex_block() -> ParameterBlock:
    """A line of mass, by the logarithm of its mass fraction an arcsec and by its two ends."""

    def fields(c: Tensor) -> Fields:
        dx, dy = c[:, 3] - c[:, 1], c[:, 4] - c[:, 2]
        length = (dx**2 + dy**2 + MIN_POSITIVE).sqrt()
        return {
            "vortex_fraction": c[:, 0].exp() * length,
            "vortex_length": length,
            "vortex_angle": torch.atan2(dy, dx),
            "vortex_x": (c[:, 1] + c[:, 3]) / 2,
            "vortex_y": (c[:, 2] + c[:, 4]) / 2,
        }

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        length, angle = get("vortex_length"), get("vortex_angle")
        dx, dy = length * angle.cos() / 2, length * angle.sin() / 2
        density = (get("vortex_fraction").clamp_min(MIN_POSITIVE) / length).log()
        x, y = get("vortex_x"), get("vortex_y")
        return torch.stack([density, x - dx, y - dy, x + dx, y + dy], dim=1)

    def tell(c: Tensor) -> Fields:
        told = fields(c)
        told["vortex_angle"] = torch.remainder(told["vortex_angle"], torch.pi)
        return told | {"vortex_density": c[:, 0].exp()}

    units = {
        "vortex_fraction": "vortex mass over halo mass",
        "vortex_density": "vortex_fraction/arcsec",
    }
    units |= {f"vortex_{k}": UNITS[f"vortex_{k}"] for k in ("length", "angle", "x", "y")}
    # Across the line the deflection jumps, and with it the image.
    rough = tuple((i, None) for i in (1, 2, 3, 4))
    return ParameterBlock(
        "vortex", (0.5, 0.3, 0.3, 0.3, 0.3), fields, coordinates, tell, units, rough
    )


def subhalo_block(number: int) -> ParameterBlock:
    """A point mass: the logarithm of its mass over the halo's, and its place."""
    names = tuple(f"subhalo_{number}_{k}" for k in ("fraction", "x", "y"))

    def fields(c: Tensor) -> Fields:
        return dict(zip(names, (c[:, 0].exp(), c[:, 1], c[:, 2]), strict=True))

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        fraction, x, y = (get(name) for name in names)
        return torch.stack([fraction.clamp_min(MIN_POSITIVE).log(), x, y], dim=1)

    units = dict(zip(names, ("subhalo mass over halo mass", "arcsec", "arcsec"), strict=True))
    rough = ((0, 0.1), (1, None), (2, None))
    return ParameterBlock(
        f"subhalo_{number}", (0.7, 0.1, 0.1), fields, coordinates, fields, units, rough
    )


def multipole_block(order: int) -> ParameterBlock:
    """A multipole of the lens, by its amplitude in the directions cos m phi and sin m phi."""
    name, angle = f"multipole_{order}", f"multipole_{order}_angle"

    def fields(c: Tensor) -> Fields:
        size = (c[:, 0] ** 2 + c[:, 1] ** 2 + MIN_VECTOR_LENGTH**2).sqrt()
        return {name: size, angle: torch.atan2(c[:, 1], c[:, 0]) / order}

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        size, phase = get(name), order * get(angle)
        return torch.stack([size * phase.cos(), size * phase.sin()], dim=1)

    return ParameterBlock(name, (0.02, 0.02), fields, coordinates, fields, {name: "", angle: "rad"})


def pixel_unit_block() -> ParameterBlock:
    """The unit and the zero of pixels that are not counts."""

    def fields(c: Tensor) -> Fields:
        return {"unit": c[:, 0].exp(), "zero": c[:, 1]}

    return ParameterBlock(
        "scale",
        (0.3, torch.inf),
        fields,
        lambda get: torch.stack([get("unit").clamp_min(MIN_POSITIVE).log(), get("zero")], dim=1),
        fields,
        {"unit": "pixel value/count", "zero": "pixel value"},
    )


def _polar(c: Tensor) -> tuple[Tensor, Tensor]:
    """Modulus, and half the angle, of the last dimension's two components."""
    size = (c[:, 0] ** 2 + c[:, 1] ** 2 + MIN_VECTOR_LENGTH**2).sqrt()
    return size, torch.atan2(c[:, 1], c[:, 0]) / 2


def _cartesian(size: Tensor, angle: Tensor) -> Tensor:
    """(B, 2) of a modulus in twice an angle's direction."""
    return torch.stack([size * torch.cos(2 * angle), size * torch.sin(2 * angle)], dim=1)
