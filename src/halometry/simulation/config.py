"""Parts of a preset: lens, light, source and substructure, with a distribution per parameter."""

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
    """A multipole of the lens: a deviation of its isodensity contours from ellipses.

    Attributes:
        amplitude: deviation of the contours' radius, as a fraction of the Einstein radius.
        angle: direction of the first maximum, rad.
    """

    amplitude: Annotated[Quantity, within("", -0.2, 0.2)]
    angle: Angle


class Lens(StrictModel):
    """The main lens: an elliptical power law at the center, with external shear and multipoles.

    Attributes:
        mass: mass within the Einstein radius, solar masses; give this or `einstein_radius`.
        einstein_radius: Einstein radius, arcsec.
        z_lens, z_source: redshifts of the lens and of the source.
        axis_ratio, position_angle: shape of the mass distribution; the angle in rad.
        slope: slope of the three-dimensional density; 2 (isothermal) if not given.
        shear, shear_angle: strength and direction (rad) of the external shear.
        multipole_3, multipole_4: multipoles of orders 3 and 4.
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
    """Light of the lens galaxy: a Sersic profile at the center.

    Attributes:
        sersic_index: Sersic index n.
        radius: half-light radius along the intermediate axis, arcsec.
        brightness: surface brightness at `radius`; give this or `magnitude`.
        magnitude: magnitude of the total light.
        axis_ratio, position_angle: shape; those of the mass if not given.
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
    """The source: an elliptical Sersic profile, or a picture of a galaxy.

    Attributes:
        sersic_index, axis_ratio: shape of a Sersic profile; give these or `picture`.
        picture: file with pictures (n, h, w) or (h, w); one is drawn for each image.
        radius: half-light radius along the intermediate axis, or half of a picture's longer side,
            arcsec.
        brightness: surface brightness at `radius`, or of a picture's brightest pixel; give this or
            `magnitude`.
        magnitude: magnitude of the total light, without lensing.
        position_angle: orientation, rad.
        offset, offset_angle: polar coordinates of the center (arcsec, rad); give these or `x`, `y`.
        x, y: Cartesian coordinates of the center, arcsec.
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
            _ = self.pictures  # raises if the file has none
        return self

    @cached_property
    def pictures(self) -> np.ndarray | None:
        """Pictures (n, h, w) without sky, brightest pixel 1; None for a Sersic profile."""
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
        return np.stack([_isolate_galaxy(picture, self.picture.file) for picture in pictures])

    def draw_position(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw the position (x, y) of the source's center, arcsec from the lens."""
        if self.x is not None and self.y is not None:
            return self.x.draw(rng), self.y.draw(rng)
        assert self.offset is not None
        assert self.offset_angle is not None
        offset, angle = self.offset.draw(rng), self.offset_angle.draw(rng)
        return float(offset * np.cos(angle)), float(offset * np.sin(angle))


def _isolate_galaxy(picture: np.ndarray, file: str) -> np.ndarray:
    """Subtract the median of a picture's border, fade out its edges, scale its maximum to 1."""
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
    """Subhalos in the lens plane, within a circle around the center (class `sphere`).

    Attributes:
        profile: `point` for point masses, as in the published sets, or `tnfw` for truncated NFW
            halos (Baltz, Marshall & Oguri 2009).
        number: number of subhalos, rounded to an integer.
        mass: mass of a point, or M200 of a halo before truncation, solar masses.
        radius, angle: polar coordinates of a subhalo (arcsec, rad).
        concentration_scatter: scatter about the relation of Dutton & Maccio (2014), dex; `tnfw`
            only.
        truncation: truncation radius over scale radius; `tnfw` only.
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
        """Number of slots for subhalos in a batch and in a store: ten sigma above the mean."""
        return int(self.number.support[1]) + 1


class Halos(StrictModel):
    """Truncated NFW subhalos and line-of-sight halos from pyHalo (class `sphere`).

    Attributes:
        dark_matter: `cdm` for cold, `wdm` for warm dark matter with a half-mode mass.
        sigma_sub: number of subhalos per kpc^2 and decade of mass at 1e8 solar masses.
        line_of_sight: number of line-of-sight halos, relative to Sheth & Tormen (1999).
        host_mass: mass of the lens's dark matter halo, solar masses.
        half_mode_mass: half-mode mass, below which warm dark matter has few halos, solar masses.
        lowest_mass, highest_mass: mass range of the halos, solar masses.
        cone_diameter: diameter of the simulated cone in the lens plane, arcsec.
        max_halos: number of slots for halos in an image; the heaviest halos fill them.
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
    """A vortex: a straight line of uniform mass density (class `vort`).

    Attributes:
        mass_fraction: mass of the line over the mass of the lens.
        length: length of the line, arcsec.
        angle: direction of the line, rad.
        offset, offset_angle: polar coordinates of its center (arcsec, rad).
    """

    mass_fraction: Annotated[Quantity, within("", 0, 1)]
    length: Annotated[Quantity, within("arcsec", 0.001, 20)]
    angle: Angle
    offset: Distance
    offset_angle: Angle


def _require_one_of(part: StrictModel, *names: str) -> None:
    """Raise ValueError unless exactly one of the named attributes is given."""
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        raise ValueError(f"give either {' or '.join(map(repr, names))}")
