"""Distances, and Einstein radii from masses and redshifts, in a flat universe of astropy's."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from astropy import constants, cosmology, units
from pydantic import Field, field_validator, model_validator

from halometry.config import StrictModel
from halometry.errors import did_you_mean

Distances = Literal["angular_diameter", "luminosity_as_published"]
MAX_REDSHIFT = 10.0
ARCSEC_IN_RADIANS = float(np.radians(1 / 3600))


class Cosmology(StrictModel):
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
    def _check_consistent(self) -> Cosmology:
        if self.name is not None and (self.H0, self.Om0) != (None, None):
            raise ValueError("give either 'name' or 'H0' and 'Om0'")
        return self

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        known = [one for one in cosmology.available if one != "default"]
        if name is not None and name not in known:
            raise ValueError(f"unknown cosmology, {did_you_mean(name, known)}")
        return name


DEFAULT_COSMOLOGY = Cosmology()


class LensingDistances(NamedTuple):
    """Distances in Mpc, of the arguments' common shape."""

    lens: np.ndarray
    source: np.ndarray
    between: np.ndarray


@lru_cache(maxsize=8)
def astropy_cosmology(which: Cosmology = DEFAULT_COSMOLOGY) -> cosmology.FLRW:
    """The cosmology as astropy has it."""
    if which.name is None:
        return cosmology.FlatLambdaCDM(H0=which.H0 or 70.0, Om0=which.Om0 or 0.3)
    return getattr(cosmology, which.name)


@lru_cache(maxsize=8)
def _comoving_distance_table(which: Cosmology) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and comoving distances (Mpc), dense enough for a relative error below 1e-5."""
    z = np.linspace(0, MAX_REDSHIFT, 10001)
    return z, astropy_cosmology(which).comoving_distance(z).to_value(units.Mpc)


@lru_cache(maxsize=1)
def _four_g_over_c2() -> float:
    """4 G / c^2 for one solar mass, in Mpc."""
    length = 4 * constants.G * constants.M_sun / constants.c**2
    return float(length.to_value(units.Mpc))


def distances(
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    which: Cosmology = DEFAULT_COSMOLOGY,
) -> LensingDistances:
    """Distances to the lens, to the source, and from one to the other.

    Args:
        z_lens, z_source: redshifts up to 10.
        kind: `angular_diameter`, or `luminosity_as_published`: see `einstein_radius`.
        which: the universe.

    Returns:
        Mpc.
    """
    z, comoving = _comoving_distance_table(which)
    to_lens, to_source = np.interp(z_lens, z, comoving), np.interp(z_source, z, comoving)
    z_lens, z_source = np.asarray(z_lens), np.asarray(z_source)
    if kind == "luminosity_as_published":
        lens, source = to_lens * (1 + z_lens), to_source * (1 + z_source)
        return LensingDistances(lens, source, source - lens)
    lens, source = to_lens / (1 + z_lens), to_source / (1 + z_source)
    return LensingDistances(lens, source, (to_source - to_lens) / (1 + z_source))


def einstein_radius(
    mass: Any,
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    which: Cosmology = DEFAULT_COSMOLOGY,
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
    square = (
        _four_g_over_c2() * np.asarray(mass) * lengths.between / (lengths.lens * lengths.source)
    )
    return np.sqrt(square) / ARCSEC_IN_RADIANS


def mass_within(
    radius: Any,
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    which: Cosmology = DEFAULT_COSMOLOGY,
) -> Any:
    """The mass of which `einstein_radius` makes this radius (arcsec), solar masses."""
    lengths = distances(z_lens, z_source, kind, which)
    square = (np.asarray(radius) * ARCSEC_IN_RADIANS) ** 2
    return square * lengths.lens * lengths.source / (lengths.between * _four_g_over_c2())


def critical_density(z: Any, which: Cosmology = DEFAULT_COSMOLOGY) -> Any:
    """The critical density of the universe at a redshift, solar masses per cubic Mpc."""
    return astropy_cosmology(which).critical_density(z).to_value(units.Msun / units.Mpc**3)
