"""Parameter blocks: unbounded coordinates of a fit and the physical parameters they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from halometry.simulation.scene import UNITS

MIN_POSITIVE = 1e-8  # lower limit of arguments of logarithms
MIN_VECTOR_LENGTH = 1e-12  # added in quadrature, so that the angle of a null vector has a gradient

Fields = dict[str, Tensor]


@dataclass(frozen=True)
class ParameterBlock:
    """A few unbounded coordinates and their relation to fields of a scene.

    Attributes:
        name: name of the block, as the option `free` accepts it.
        steps: largest change of each coordinate in one iteration.
        fields: function from coordinates (B, n) to fields of the scene, (B,) each.
        coordinates: function from a getter of fields by name to coordinates (B, n).
        derived_parameters: function from coordinates (B, n) to reported parameters, (B,) each.
        units: unit of each reported parameter.
        wide_steps: index and step of coordinates that are differentiated over a wide, central
            difference. They move edges or singular points between the rays of pixels, where the
            derivative says little about the neighboring ray. A step of None is half a pixel.
    """

    name: str
    steps: tuple[float, ...]
    fields: Callable[[Tensor], Fields]
    coordinates: Callable[[Callable[[str], Tensor]], Tensor]
    derived_parameters: Callable[[Tensor], Fields]
    units: dict[str, str]
    wide_steps: tuple[tuple[int, float | None], ...] = ()


def positive_block(name: str, unit: str, step: float = 0.3) -> ParameterBlock:
    """Block of one positive quantity; the coordinate is its natural logarithm."""
    return ParameterBlock(
        name,
        (step,),
        lambda c: {name: c[:, 0].exp()},
        lambda get: get(name).clamp_min(MIN_POSITIVE).log()[:, None],
        lambda c: {name: c[:, 0].exp()},
        {name: unit},
    )


def shear_block() -> ParameterBlock:
    """Block of the external shear: gamma_1 = |gamma| cos 2 phi and gamma_2 = |gamma| sin 2 phi."""

    def fields(c: Tensor) -> Fields:
        size, angle = _to_polar(c)
        return {"shear": size, "shear_angle": angle}

    return ParameterBlock(
        "shear",
        (0.1, 0.1),
        fields,
        lambda get: _from_polar(get("shear"), get("shear_angle")),
        lambda c: {"shear_1": c[:, 0], "shear_2": c[:, 1], **fields(c)},
        {"shear_1": "", "shear_2": "", "shear": "", "shear_angle": "rad"},
    )


def source_position_block() -> ParameterBlock:
    """Block of the source's position x and y, in arcsec."""

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


def ellipticity_block(component: str) -> ParameterBlock:
    """Block of an axis ratio q and position angle phi.

    The coordinates are -ln(q) / 2 times cos 2 phi and sin 2 phi. Also reported are e_1 and e_2, of
    modulus (1 - q) / (1 + q).

    Args:
        component: `lens`, `source` or `lens_light`.
    """
    ratio, angle = f"{component}_axis_ratio", f"{component}_position_angle"
    e1, e2 = f"{component}_e1", f"{component}_e2"

    def fields(c: Tensor) -> Fields:
        size, phi = _to_polar(c)
        return {ratio: (-2 * size).exp(), angle: phi}

    def derived_parameters(c: Tensor) -> Fields:
        size, phi = _to_polar(c)
        e = _from_polar(torch.tanh(size), phi)
        return {e1: e[:, 0], e2: e[:, 1], **fields(c)}

    return ParameterBlock(
        f"{component}_ellipticity",
        (0.3, 0.3),
        fields,
        lambda get: _from_polar(-0.5 * get(ratio).log(), get(angle)),
        derived_parameters,
        {e1: "", e2: "", ratio: "", angle: "rad"},
    )


def vortex_block() -> ParameterBlock:
    """Block of a vortex (a line of mass): log mass fraction per arcsec, x and y of both ends."""

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

    def derived_parameters(c: Tensor) -> Fields:
        values = fields(c)
        values["vortex_angle"] = torch.remainder(values["vortex_angle"], torch.pi)
        return values | {"vortex_density": c[:, 0].exp()}

    units = {
        "vortex_fraction": "vortex mass over halo mass",
        "vortex_density": "vortex_fraction/arcsec",
    }
    units |= {f"vortex_{k}": UNITS[f"vortex_{k}"] for k in ("length", "angle", "x", "y")}
    # The deflection is discontinuous across the line, and so is the image.
    wide_steps = tuple((i, None) for i in (1, 2, 3, 4))
    return ParameterBlock(
        "vortex",
        (0.5, 0.3, 0.3, 0.3, 0.3),
        fields,
        coordinates,
        derived_parameters,
        units,
        wide_steps,
    )


def subhalo_block(number: int) -> ParameterBlock:
    """Block of one point mass: log of its fraction of the halo's mass, and its x and y in arcsec.

    Args:
        number: of the subhalo, from 1; part of the names.
    """
    names = tuple(f"subhalo_{number}_{k}" for k in ("fraction", "x", "y"))

    def fields(c: Tensor) -> Fields:
        return dict(zip(names, (c[:, 0].exp(), c[:, 1], c[:, 2]), strict=True))

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        fraction, x, y = (get(name) for name in names)
        return torch.stack([fraction.clamp_min(MIN_POSITIVE).log(), x, y], dim=1)

    units = dict(zip(names, ("subhalo mass over halo mass", "arcsec", "arcsec"), strict=True))
    return ParameterBlock(
        f"subhalo_{number}",
        (0.7, 0.1, 0.1),
        fields,
        coordinates,
        fields,
        units,
        wide_steps=((0, 0.1), (1, None), (2, None)),
    )


def multipole_block(order: int) -> ParameterBlock:
    """Block of a multipole of the lens: its amplitude times cos m phi and sin m phi.

    Args:
        order: m.
    """
    name, angle = f"multipole_{order}", f"multipole_{order}_angle"

    def fields(c: Tensor) -> Fields:
        size = (c[:, 0] ** 2 + c[:, 1] ** 2 + MIN_VECTOR_LENGTH**2).sqrt()
        return {name: size, angle: torch.atan2(c[:, 1], c[:, 0]) / order}

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        size, phase = get(name), order * get(angle)
        return torch.stack([size * phase.cos(), size * phase.sin()], dim=1)

    units = {name: "", angle: "rad"}
    return ParameterBlock(name, (0.02, 0.02), fields, coordinates, fields, units)


def pixel_unit_block() -> ParameterBlock:
    """Block of the unit and the zero point of pixels that are not counts."""

    def fields(c: Tensor) -> Fields:
        return {"unit": c[:, 0].exp(), "zero": c[:, 1]}

    return ParameterBlock(
        "pixel_unit",
        (0.3, torch.inf),
        fields,
        lambda get: torch.stack([get("unit").clamp_min(MIN_POSITIVE).log(), get("zero")], dim=1),
        fields,
        {"unit": "pixel value/count", "zero": "pixel value"},
    )


def _to_polar(c: Tensor) -> tuple[Tensor, Tensor]:
    """Modulus and half the angle of vectors (B, 2)."""
    size = (c[:, 0] ** 2 + c[:, 1] ** 2 + MIN_VECTOR_LENGTH**2).sqrt()
    return size, torch.atan2(c[:, 1], c[:, 0]) / 2


def _from_polar(size: Tensor, angle: Tensor) -> Tensor:
    """Vectors (B, 2) of a modulus (B,) at twice an angle (B,)."""
    return torch.stack([size * torch.cos(2 * angle), size * torch.sin(2 * angle)], dim=1)
