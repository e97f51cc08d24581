"""Which parameters of a scene are fitted, as coordinates without bounds, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from halometry.errors import UsageError, did_you_mean
from halometry.simulation.preset import Preset
from halometry.simulation.quantity import Quantity
from halometry.simulation.scene import UNITS, Scene

TINY = 1e-8  # keeps the direction of a vector of no length defined
INSTRUMENT = ("psf_sigma", "sky")  # free parameters that are the preset's and not the scene's
INSTRUMENT_UNITS = {"psf_sigma": "arcsec", "sky": "counts/pixel"}

Fields = dict[str, Tensor]


@dataclass(frozen=True)
class Block:
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
    tell: Callable[[Tensor], Fields]
    units: dict[str, str]
    rough: tuple[tuple[int, float | None], ...] = ()


def positive(name: str, unit: str, step: float = 0.3) -> Block:
    """A quantity above zero, by its logarithm."""
    return Block(
        name,
        (step,),
        lambda c: {name: c[:, 0].exp()},
        lambda get: get(name).clamp_min(TINY).log()[:, None],
        lambda c: {name: c[:, 0].exp()},
        {name: unit},
    )


def shear() -> Block:
    """External shear, by gamma_1 = |gamma| cos 2 phi and gamma_2 = |gamma| sin 2 phi."""

    def fields(c: Tensor) -> Fields:
        size, angle = _polar(c)
        return {"shear": size, "shear_angle": angle}

    return Block(
        "shear",
        (0.1, 0.1),
        fields,
        lambda get: _cartesian(get("shear"), get("shear_angle")),
        lambda c: {"shear_1": c[:, 0], "shear_2": c[:, 1], **fields(c)},
        {"shear_1": "", "shear_2": "", "shear": "", "shear_angle": "rad"},
    )


def position() -> Block:
    """Where the source is."""

    def fields(c: Tensor) -> Fields:
        return {"source_x": c[:, 0], "source_y": c[:, 1]}

    return Block(
        "source_position",
        (0.2, 0.2),
        fields,
        lambda get: torch.stack([get("source_x"), get("source_y")], dim=1),
        fields,
        {"source_x": "arcsec", "source_y": "arcsec"},
    )


def ellipticity(of: str) -> Block:
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

    return Block(
        f"{of}_ellipticity",
        (0.3, 0.3),
        fields,
        lambda get: _cartesian(-0.5 * get(ratio).log(), get(angle)),
        tell,
        {f"{of}_e1": "", f"{of}_e2": "", ratio: "", angle: "rad"},
    )


def line() -> Block:
    """A line of mass, by the logarithm of its mass fraction an arcsec and by its two ends."""

    def fields(c: Tensor) -> Fields:
        dx, dy = c[:, 3] - c[:, 1], c[:, 4] - c[:, 2]
        length = (dx**2 + dy**2 + TINY).sqrt()
        return {
            "line_fraction": c[:, 0].exp() * length,
            "line_length": length,
            "line_angle": torch.atan2(dy, dx),
            "line_x": (c[:, 1] + c[:, 3]) / 2,
            "line_y": (c[:, 2] + c[:, 4]) / 2,
        }

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        length, angle = get("line_length"), get("line_angle")
        dx, dy = length * angle.cos() / 2, length * angle.sin() / 2
        density = (get("line_fraction").clamp_min(TINY) / length).log()
        x, y = get("line_x"), get("line_y")
        return torch.stack([density, x - dx, y - dy, x + dx, y + dy], dim=1)

    def tell(c: Tensor) -> Fields:
        told = fields(c)
        told["line_angle"] = torch.remainder(told["line_angle"], torch.pi)
        return told | {"line_density": c[:, 0].exp()}

    units = {"line_fraction": "line mass over halo mass", "line_density": "line_fraction/arcsec"}
    units |= {f"line_{k}": UNITS[f"line_{k}"] for k in ("length", "angle", "x", "y")}
    # Across the line the deflection jumps, and with it the image.
    rough = tuple((i, None) for i in (1, 2, 3, 4))
    return Block("line", (0.5, 0.3, 0.3, 0.3, 0.3), fields, coordinates, tell, units, rough)


def subhalo(number: int) -> Block:
    """A point mass: the logarithm of its mass over the halo's, and its place."""
    names = tuple(f"subhalo_{number}_{k}" for k in ("fraction", "x", "y"))

    def fields(c: Tensor) -> Fields:
        return dict(zip(names, (c[:, 0].exp(), c[:, 1], c[:, 2]), strict=True))

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        fraction, x, y = (get(name) for name in names)
        return torch.stack([fraction.clamp_min(TINY).log(), x, y], dim=1)

    units = dict(zip(names, ("subhalo mass over halo mass", "arcsec", "arcsec"), strict=True))
    rough = ((0, 0.1), (1, None), (2, None))
    return Block(f"subhalo_{number}", (0.7, 0.1, 0.1), fields, coordinates, fields, units, rough)


def multipole(order: int) -> Block:
    """A multipole of the lens, by its amplitude in the directions cos m phi and sin m phi."""
    name, angle = f"multipole_{order}", f"multipole_{order}_angle"

    def fields(c: Tensor) -> Fields:
        size = (c[:, 0] ** 2 + c[:, 1] ** 2 + TINY**2).sqrt()
        return {name: size, angle: torch.atan2(c[:, 1], c[:, 0]) / order}

    def coordinates(get: Callable[[str], Tensor]) -> Tensor:
        size, phase = get(name), order * get(angle)
        return torch.stack([size * phase.cos(), size * phase.sin()], dim=1)

    return Block(name, (0.02, 0.02), fields, coordinates, fields, {name: "", angle: "rad"})


@dataclass(frozen=True)
class Layout:
    """The fitted parameters: blocks one after the other along a vector of coordinates.

    Attributes:
        blocks: in order.
        template: one scene, with all that is held; its substructure is none.
    """

    blocks: tuple[Block, ...]
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

    def rough(self, half_a_pixel: float) -> dict[int, float]:
        """Coordinates to take differences of, and over which step."""
        return {
            self.index(block.name) + i: half_a_pixel if step is None else step
            for block in self.blocks
            for i, step in block.rough
        }

    @property
    def units(self) -> dict[str, str]:
        """Of everything that `tell` tells."""
        return {k: v for block in self.blocks for k, v in block.units.items()}

    def index(self, name: str) -> int:
        """Where a block begins."""
        before = self.blocks[: self.names.index(name)]
        return sum(len(block.steps) for block in before)

    def without(self, *names: str) -> Layout:
        """All blocks but some."""
        return Layout(tuple(b for b in self.blocks if b.name not in names), self.template)

    def with_blocks(self, *more: Block) -> Layout:
        """More parameters at the end."""
        return Layout(self.blocks + more, self.template)

    def fields(self, theta: Tensor) -> Fields:
        """All fitted fields of coordinates (B, P)."""
        return self._each(theta, lambda block: block.fields)

    def tell(self, theta: Tensor) -> Fields:
        """What people read of coordinates (B, P)."""
        return self._each(theta, lambda block: block.tell)

    def coordinates(self, values: Callable[[str], Tensor]) -> Tensor:
        """Coordinates (B, P) of fields, each (B,), by a function from their names."""
        return torch.cat([block.coordinates(values) for block in self.blocks], dim=1)

    def scene(self, theta: Tensor) -> Scene:
        """The scenes of coordinates (B, P); differentiable."""
        fields = self.fields(theta)
        base = self.template.rows(torch.zeros(len(theta), dtype=torch.long, device=theta.device))
        changes: dict[str, Any] = {
            k: v for k, v in fields.items() if hasattr(base, k) and k not in INSTRUMENT
        }
        if "line_fraction" in fields:
            changes["line_mass"] = fields["line_fraction"] * base.halo_mass
        places = [b.name for b in self.blocks if b.name.startswith("subhalo_")]
        if places:
            share = torch.stack([fields[f"{p}_fraction"] for p in places], dim=1)
            nothing = torch.zeros_like(share)
            changes["subhalo_mass"] = share * base.halo_mass[:, None]
            changes["subhalo_z"] = base.z_lens[:, None].expand_as(share)
            changes["subhalo_scale_radius"] = nothing
            changes["subhalo_truncation_radius"] = nothing
            for axis in ("x", "y"):
                changes[f"subhalo_{axis}"] = torch.stack(
                    [fields[f"{p}_{axis}"] for p in places], dim=1
                )
        return replace(base, **changes)

    def _each(self, theta: Tensor, of: Callable[[Block], Callable[[Tensor], Fields]]) -> Fields:
        parts = torch.split(theta, [len(block.steps) for block in self.blocks], dim=1)
        told: Fields = {}
        for block, part in zip(self.blocks, parts, strict=True):
            told |= of(block)(part)
        return told


def layout_of(preset: Preset, template: Scene, free: Iterable[str] = ()) -> Layout:
    """The parameters that vary in a preset, and those asked for besides.

    The source's position is always fitted; all else whose law is a single value is held.

    Args:
        preset: whose laws say what varies.
        template: a scene of the preset, without substructure.
        free: names of `KNOWN` to fit though the preset holds them.

    Raises:
        UsageError: a name that is not known.
    """
    wanted = set(free)
    for name in wanted:
        if name not in KNOWN:
            raise UsageError(f"--free {name}: not a parameter; {did_you_mean(name, KNOWN)}")
        if not _present(preset, name):
            raise UsageError(f"--free {name}: preset {preset.name} has no such part")
    blocks = [
        block
        for name, block in KNOWN.items()
        if name in wanted or name == "source_position" or _varies(preset, name)
    ]
    return Layout(tuple(blocks), template)


def scale() -> Block:
    """The unit and the zero of pixels that are not counts."""

    def fields(c: Tensor) -> Fields:
        return {"unit": c[:, 0].exp(), "zero": c[:, 1]}

    return Block(
        "scale",
        (0.3, torch.inf),
        fields,
        lambda get: torch.stack([get("unit").clamp_min(TINY).log(), get("zero")], dim=1),
        fields,
        {"unit": "pixel value/count", "zero": "pixel value"},
    )


KNOWN = {
    block.name: block
    for block in (
        positive("einstein_radius", "arcsec", 0.15),
        shear(),
        position(),
        ellipticity("source"),
        positive("source_radius", "arcsec"),
        positive("source_index", ""),
        positive("source_brightness", "counts/pixel"),
        ellipticity("lens"),
        positive("lens_slope", "", 0.1),
        multipole(3),
        multipole(4),
        ellipticity("lens_light"),
        positive("lens_light_radius", "arcsec"),
        positive("lens_light_index", ""),
        positive("lens_light_brightness", "counts/pixel"),
        positive("exposure", "s"),
        *(positive(name, unit) for name, unit in INSTRUMENT_UNITS.items()),
    )
}


def _present(preset: Preset, name: str) -> bool:
    """Whether a preset has what a parameter belongs to."""
    lens = preset.lens
    optional = {
        "lens_slope": lens.slope,
        "multipole_3": lens.multipole_3,
        "multipole_4": lens.multipole_4,
        "exposure": preset.image.exposure,
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


def _polar(c: Tensor) -> tuple[Tensor, Tensor]:
    """Modulus, and half the angle, of the last dimension's two components."""
    size = (c[:, 0] ** 2 + c[:, 1] ** 2 + TINY**2).sqrt()
    return size, torch.atan2(c[:, 1], c[:, 0]) / 2


def _cartesian(size: Tensor, angle: Tensor) -> Tensor:
    """(B, 2) of a modulus in twice an angle's direction."""
    return torch.stack([size * torch.cos(2 * angle), size * torch.sin(2 * angle)], dim=1)
