"""The parts of a preset: lens, light, source, substructure; every parameter with its law."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from halometry.config import StrictModel
from halometry.simulation.distributions import Quantity, within
from halometry.simulation.file_ref import FileRef

Angle = Annotated[Quantity, within("rad", -10, 10)]
Position = Annotated[Quantity, within("arcsec", -20, 20)]
Distance = Annotated[Quantity, within("arcsec", 0, 20)]
AxisRatio = Annotated[Quantity, within("", 0.05, 1)]
SersicIndex = Annotated[Quantity, within("", 0.3, 8)]
Radius = Annotated[Quantity, within("arcsec", 0.01, 20)]
Brightness = Annotated[Quantity, within("counts/pixel", 0, 1e7, also="counts/s/pixel")]
Magnitude = Annotated[Quantity, within("mag", 5, 40)]


class Multipole(StrictModel):
    """A deviation of the lens from an ellipse.

    Attributes:
        amplitude: of the isodensity contours' radius, as a share of the Einstein radius.
        angle: towards the first maximum.
    """

    amplitude: Annotated[Quantity, within("", -0.2, 0.2)]
    angle: Angle


class Lens(StrictModel):
    """The main lens at the center: an elliptical power law with external shear and multipoles.

    Attributes:
        mass: within the Einstein radius; or
        einstein_radius: itself.
        slope: of the three-dimensional density; 2, isothermal, where it is not given.
        multipole_3, multipole_4: of orders 3 and 4.
    """

    mass: Annotated[Quantity, within("Msun", 1e10, 1e14)] | None = None
    einstein_radius: Annotated[Quantity, within("arcsec", 0.01, 20)] | None = None
    z_lens: Annotated[Quantity, within("", 0.01, 5)]
    z_source: Annotated[Quantity, within("", 0.02, 10)]
    axis_ratio: AxisRatio
    position_angle: Angle
    slope: Annotated[Quantity, within("", 1.2, 2.8)] | None = None
    shear: Annotated[Quantity, within("", 0, 0.5)]
    shear_angle: Angle
    multipole_3: Multipole | None = None
    multipole_4: Multipole | None = None

    @model_validator(mode="after")
    def _check_consistent(self) -> Lens:
        if self.z_lens.support[1] >= self.z_source.support[0]:
            raise ValueError("'z_lens' must always be below 'z_source'")
        if (self.mass is None) == (self.einstein_radius is None):
            raise ValueError("give either 'mass' or 'einstein_radius'")
        return self


class LensLight(StrictModel):
    """The lens galaxy's own light, a Sersic profile at the center.

    Its axis ratio and position angle are the mass's where they are not given. `brightness` is
    that at `radius`, which is of the intermediate axis.
    """

    sersic_index: SersicIndex
    radius: Radius
    brightness: Brightness | None = None
    magnitude: Magnitude | None = None
    axis_ratio: AxisRatio | None = None
    position_angle: Angle | None = None

    @model_validator(mode="after")
    def _check_consistent(self) -> LensLight:
        _require_one_of(self, "brightness", "magnitude")
        return self


class Source(StrictModel):
    """An elliptical Sersic profile, or pictures of galaxies.

    Its center is drawn from `offset` and `offset_angle`, or from `x` and `y`.

    Attributes:
        sersic_index, axis_ratio: of a Sersic profile.
        picture: or a file of pictures (n, h, w) or (h, w), one of which is drawn for each image.
        radius: of the intermediate axis; of a picture, half its longer side.
        brightness: at `radius`; of a picture, of its brightest pixel.
        magnitude: or that of all its light.
    """

    sersic_index: SersicIndex | None = None
    axis_ratio: AxisRatio | None = None
    picture: FileRef | None = None
    radius: Radius
    brightness: Brightness | None = None
    magnitude: Magnitude | None = None
    position_angle: Angle
    offset: Distance | None = None
    offset_angle: Angle | None = None
    x: Position | None = None
    y: Position | None = None

    @model_validator(mode="after")
    def _check_consistent(self) -> Source:
        polar = (self.offset is not None, self.offset_angle is not None)
        cartesian = (self.x is not None, self.y is not None)
        if (all(polar), any(cartesian)) != (True, False) and (
            any(polar),
            all(cartesian),
        ) != (False, True):
            raise ValueError("give either 'offset' and 'offset_angle', or 'x' and 'y'")
        shape = (self.sersic_index is not None, self.axis_ratio is not None)
        if any(shape) if self.picture else not all(shape):
            raise ValueError("give either 'sersic_index' and 'axis_ratio', or 'picture'")
        _require_one_of(self, "brightness", "magnitude")
        if self.picture:
            _ = self.pictures  # complains where there are none
        return self

    @cached_property
    def pictures(self) -> np.ndarray | None:
        """Pictures (n, h, w), brightest pixel 1, without sky and borders; None without a file."""
        if self.picture is None:
            return None
        pictures = self.picture.read()
        if pictures.ndim == 2:
            pictures = pictures[None]
        if pictures.ndim != 3 or min(pictures.shape[1:]) < 8:
            raise ValueError(
                f"{self.picture.file}: must hold pictures (n, h, w) of 8 px or more, not"
                f" {pictures.shape}"
            )
        return np.stack([_isolate_galaxy(one, self.picture.file) for one in pictures])

    def draw_position(self, rng: np.random.Generator) -> tuple[float, float]:
        """Where the source's center is, (x, y) in arcsec from the lens."""
        if self.x is not None and self.y is not None:
            return self.x.draw(rng), self.y.draw(rng)
        assert self.offset is not None
        assert self.offset_angle is not None
        offset, towards = self.offset.draw(rng), self.offset_angle.draw(rng)
        return float(offset * np.cos(towards)), float(offset * np.sin(towards))


def _isolate_galaxy(picture: np.ndarray, file: str) -> np.ndarray:
    """A picture above its border's median, fading out towards its edges, brightest pixel 1."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    height, width = picture.shape
    y = np.abs(np.linspace(-1, 1, height))[:, None]
    x = np.abs(np.linspace(-1, 1, width))[None, :]
    fade = np.clip((1 - np.hypot(x, y)) / 0.2, 0, 1)
    light = np.clip(picture - np.median(border), 0, None) * fade * fade * (3 - 2 * fade)
    if light.max() <= 0:
        raise ValueError(f"{file}: a picture in it has nothing brighter than its border")
    return light / light.max()


class Subhalos(StrictModel):
    """Subhalos in the lens plane, in a circle around the center (class `sphere`).

    Attributes:
        profile: `point` masses, as the published sets have them, or `tnfw`, truncated NFW halos
            (Baltz, Marshall & Oguri 2009).
        number: how many; rounded to a whole number.
        mass: of a point; of a truncated halo, M200 before it is truncated.
        radius, angle: where, from the center.
        concentration_scatter: about the relation of Dutton & Maccio (2014), for `tnfw`.
        truncation: radius of truncation over scale radius, for `tnfw`.
    """

    profile: Literal["point", "tnfw"] = "point"
    number: Annotated[Quantity, within("", 0, 1000)]
    mass: Annotated[Quantity, within("Msun", 1e3, 1e12)]
    radius: Distance
    angle: Angle
    concentration_scatter: Annotated[Quantity, within("dex", -2, 2)] | None = None
    truncation: Annotated[Quantity, within("", 0.1, 1000)] | None = None

    @model_validator(mode="after")
    def _check_consistent(self) -> Subhalos:
        given = (self.concentration_scatter is not None, self.truncation is not None)
        if self.profile == "tnfw" and not all(given):
            raise ValueError("'tnfw' needs 'concentration_scatter' and 'truncation'")
        if self.profile == "point" and any(given):
            raise ValueError("a 'point' has neither 'concentration_scatter' nor 'truncation'")
        return self

    @property
    def max_halos(self) -> int:
        """Room kept in a batch and in a store: ten sigma above the mean."""
        return int(self.number.support[1]) + 1


class Halos(StrictModel):
    """Subhalos and halos along the line of sight from pyHalo (class `sphere`), truncated NFW.

    Attributes:
        dark_matter: `cdm`, or `wdm` with a half-mode mass.
        sigma_sub: subhalos of 1e8 solar masses in a decade, per kpc^2.
        line_of_sight: halos along the line of sight over what Sheth & Tormen (1999) expect.
        host_mass: of the lens's dark matter halo.
        half_mode_mass: below which warm dark matter has few halos.
        lowest_mass, highest_mass: of the halos, solar masses.
        field: diameter of the cone in the lens plane, arcsec.
        places: room kept for halos in an image; the heaviest are kept.
    """

    dark_matter: Literal["cdm", "wdm"] = "cdm"
    sigma_sub: Annotated[Quantity, within("1/kpc^2", 0, 1)]
    line_of_sight: Annotated[Quantity, within("", 0, 10)]
    host_mass: Annotated[Quantity, within("Msun", 1e11, 1e15)]
    half_mode_mass: Annotated[Quantity, within("Msun", 1e4, 1e11)] | None = None
    lowest_mass: float = Field(default=1e7, ge=1e5, le=1e9)
    highest_mass: float = Field(default=1e10, ge=1e7, le=1e11)
    cone_diameter: float = Field(default=6.0, gt=0, le=60)
    max_halos: int = Field(default=1500, ge=1, le=20000)

    @model_validator(mode="after")
    def _check_consistent(self) -> Halos:
        if (self.dark_matter == "wdm") != (self.half_mode_mass is not None):
            raise ValueError("'half_mode_mass' belongs to 'wdm', and 'wdm' needs it")
        if self.lowest_mass >= self.highest_mass:
            raise ValueError("'lowest_mass' must be below 'highest_mass'")
        return self


class Vortex(StrictModel):
    """A straight uniform line of mass, a vortex (class `vort`)."""

    mass_fraction: Annotated[Quantity, within("", 0, 1)]
    length: Annotated[Quantity, within("arcsec", 0.001, 20)]
    angle: Angle
    offset: Distance
    offset_angle: Angle


def _require_one_of(part: StrictModel, *names: str) -> None:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        raise ValueError(f"give either {' or '.join(map(repr, names))}")
