"""Distances, and Einstein radii from masses and redshifts, in a flat universe of astropy's."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from astropy import constants, cosmology, units
from pydantic import Field, field_validator, model_validator

from halometry.config import Strict
from halometry.errors import did_you_mean

Distances = Literal["angular_diameter", "luminosity_as_published"]
Z_MAX = 10.0
ARCSEC = float(np.radians(1 / 3600))


class Cosmology(Strict):
    """A flat universe: one of astropy's realisations, or matter and a cosmological constant.

    Attributes:
        name: of astropy's realisation, such as `Planck18`; or
        H0: km/s/Mpc; 70 if not given.
        Om0: density of matter over the critical density, today; 0.3 if not given.
    """

    name: str | None = None
    H0: float | None = Field(default=None, ge=20, le=200)
    Om0: float | None = Field(default=None, ge=0.01, le=1)

    @model_validator(mode="after")
    def _one_way(self) -> Cosmology:
        if self.name is not None and (self.H0, self.Om0) != (None, None):
            raise ValueError("give either 'name' or 'H0' and 'Om0'")
        return self

    @field_validator("name")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        known = [one for one in cosmology.available if one != "default"]
        if name is not None and name not in known:
            raise ValueError(f"unknown cosmology, {did_you_mean(name, known)}")
        return name


DEFAULT = Cosmology()


class Lengths(NamedTuple):
    """Distances in Mpc, of the arguments' common shape."""

    lens: np.ndarray
    source: np.ndarray
    between: np.ndarray


@lru_cache(maxsize=8)
def universe(which: Cosmology = DEFAULT) -> cosmology.FLRW:
    """The cosmology as astropy has it."""
    if which.name is None:
        return cosmology.FlatLambdaCDM(H0=which.H0 or 70.0, Om0=which.Om0 or 0.3)
    return getattr(cosmology, which.name)


@lru_cache(maxsize=8)
def _table(which: Cosmology) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and comoving distances (Mpc), dense enough for a relative error below 1e-5."""
    z = np.linspace(0, Z_MAX, 10001)
    return z, universe(which).comoving_distance(z).to_value(units.Mpc)


@lru_cache(maxsize=1)
def _scale() -> float:
    """4 G / c^2 for one solar mass, in Mpc."""
    length = 4 * constants.G * constants.M_sun / constants.c**2
    return float(length.to_value(units.Mpc))


def distances(
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    which: Cosmology = DEFAULT,
) -> Lengths:
    """Distances to the lens, to the source, and from one to the other.

    Args:
        z_lens, z_source: redshifts up to 10.
        kind: `angular_diameter`, or `luminosity_as_published`: see `einstein_radius`.
        which: the universe.

    Returns:
        Mpc.
    """
    z, comoving = _table(which)
    to_lens, to_source = np.interp(z_lens, z, comoving), np.interp(z_source, z, comoving)
    z_lens, z_source = np.asarray(z_lens), np.asarray(z_source)
    if kind == "luminosity_as_published":
        lens, source = to_lens * (1 + z_lens), to_source * (1 + z_source)
        return Lengths(lens, source, source - lens)
    lens, source = to_lens / (1 + z_lens), to_source / (1 + z_source)
    return Lengths(lens, source, (to_source - to_lens) / (1 + z_source))


def einstein_radius(
    mass: Any,
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    which: Cosmology = DEFAULT,
) -> Any:
    """The Einstein radius of a mass, theta = sqrt(4 G M / c^2 * D_LS / (D_L D_S)).

    Args:
        mass: within the Einstein radius, solar masses.
        z_lens: redshift of the lens, up to 10.
        z_source: redshift of the source, above the lens's.
        kind: `angular_diameter` is the physics (Schneider, Ehlers & Falco 1992, eq. 2.6).
            `luminosity_as_published` takes luminosity distances and D_LS = D_S - D_L. This is
            wrong; it reproduces the published sets.
        which: the universe; flat with H0 = 70 km/s/Mpc and Om0 = 0.3 unless told otherwise.

    Returns:
        arcsec, of the arguments' common shape.

    Example:
        >>> print(f"{einstein_radius(1e12, 0.5, 1.0):.4f}")
        1.6645
        >>> print(f"{einstein_radius(1e12, 0.5, 1.0, "luminosity_as_published"):.4f}")
        1.2815
    """
    lengths = distances(z_lens, z_source, kind, which)
    square = _scale() * np.asarray(mass) * lengths.between / (lengths.lens * lengths.source)
    return np.sqrt(square) / ARCSEC


def mass_within(
    radius: Any,
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    which: Cosmology = DEFAULT,
) -> Any:
    """The mass of which `einstein_radius` makes this radius (arcsec), solar masses."""
    lengths = distances(z_lens, z_source, kind, which)
    square = (np.asarray(radius) * ARCSEC) ** 2
    return square * lengths.lens * lengths.source / (lengths.between * _scale())


def critical_density(z: Any, which: Cosmology = DEFAULT) -> Any:
    """The critical density of the universe at a redshift, solar masses per cubic Mpc."""
    return universe(which).critical_density(z).to_value(units.Msun / units.Mpc**3)
