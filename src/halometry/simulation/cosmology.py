"""Cosmological distances, and Einstein radii from masses and redshifts, in a flat universe."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from astropy import constants, units
from astropy import cosmology as astropy_cosmologies
from pydantic import Field, field_validator, model_validator

from halometry.config import StrictModel
from halometry.errors import did_you_mean

Distances = Literal["angular_diameter", "luminosity_as_published"]
MAX_REDSHIFT = 10.0
ARCSEC_IN_RADIANS = float(np.radians(1 / 3600))


class Cosmology(StrictModel):
    """Flat cosmology: a realization of astropy, or matter with a cosmological constant.

    Attributes:
        name: name of astropy's realization, such as `Planck18`; excludes the others.
        H0: Hubble constant, km/s/Mpc; 70 if not given.
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
        known = [key for key in astropy_cosmologies.available if key != "default"]
        if name is not None and name not in known:
            raise ValueError(f"unknown cosmology, {did_you_mean(name, known)}")
        return name


DEFAULT_COSMOLOGY = Cosmology()


class LensingDistances(NamedTuple):
    """Distances of a lens system, Mpc.

    Attributes:
        lens: from the observer to the lens, D_L.
        source: from the observer to the source, D_S.
        between: from the lens to the source, D_LS.
    """

    lens: np.ndarray
    source: np.ndarray
    between: np.ndarray


@lru_cache(maxsize=8)
def astropy_cosmology(cosmology: Cosmology = DEFAULT_COSMOLOGY) -> astropy_cosmologies.FLRW:
    """Return astropy's object for a cosmology."""
    if cosmology.name is None:
        return astropy_cosmologies.FlatLambdaCDM(H0=cosmology.H0 or 70.0, Om0=cosmology.Om0 or 0.3)
    return getattr(astropy_cosmologies, cosmology.name)


@lru_cache(maxsize=8)
def _comoving_distance_table(cosmology: Cosmology) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and comoving distances (Mpc); linear interpolation has a relative error < 1e-5."""
    z = np.linspace(0, MAX_REDSHIFT, 10001)
    return z, astropy_cosmology(cosmology).comoving_distance(z).to_value(units.Mpc)


@lru_cache(maxsize=1)
def _four_g_over_c2() -> float:
    """4 G / c^2 times one solar mass, Mpc."""
    length = 4 * constants.G * constants.M_sun / constants.c**2
    return float(length.to_value(units.Mpc))


def distances(
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    cosmology: Cosmology = DEFAULT_COSMOLOGY,
) -> LensingDistances:
    """Compute the distances to the lens, to the source, and between them.

    Args:
        z_lens, z_source: redshifts up to 10.
        kind: `angular_diameter` or `luminosity_as_published`, see `einstein_radius`.
        cosmology: flat cosmology.

    Returns:
        Distances in Mpc, of the common shape of the redshifts.
    """
    z, comoving = _comoving_distance_table(cosmology)
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
    cosmology: Cosmology = DEFAULT_COSMOLOGY,
) -> Any:
    """Compute the Einstein radius of a mass, theta = sqrt(4 G M / c^2 * D_LS / (D_L D_S)).

    Args:
        mass: mass within the Einstein radius, solar masses.
        z_lens: redshift of the lens, up to 10.
        z_source: redshift of the source, above that of the lens.
        kind: `angular_diameter` is the correct formula (Schneider, Ehlers & Falco 1992, eq. 2.6).
            `luminosity_as_published` uses luminosity distances and D_LS = D_S - D_L. It is wrong,
            and reproduces the published sets.
        cosmology: flat cosmology; H0 = 70 km/s/Mpc and Om0 = 0.3 by default.

    Returns:
        Einstein radius in arcsec, of the common shape of the arguments.

    Example:
        >>> print(f"{einstein_radius(1e12, 0.5, 1.0):.4f}")
        1.6645
        >>> print(f"{einstein_radius(1e12, 0.5, 1.0, 'luminosity_as_published'):.4f}")
        1.2815
    """
    lengths = distances(z_lens, z_source, kind, cosmology)
    square = (
        _four_g_over_c2() * np.asarray(mass) * lengths.between / (lengths.lens * lengths.source)
    )
    return np.sqrt(square) / ARCSEC_IN_RADIANS


def mass_within(
    radius: Any,
    z_lens: Any,
    z_source: Any,
    kind: Distances = "angular_diameter",
    cosmology: Cosmology = DEFAULT_COSMOLOGY,
) -> Any:
    """Compute the mass (solar masses) within an Einstein radius (arcsec).

    The inverse of `einstein_radius`.
    """
    lengths = distances(z_lens, z_source, kind, cosmology)
    square = (np.asarray(radius) * ARCSEC_IN_RADIANS) ** 2
    return square * lengths.lens * lengths.source / (lengths.between * _four_g_over_c2())


def critical_density(z: Any, cosmology: Cosmology = DEFAULT_COSMOLOGY) -> Any:
    """Compute the critical density at a redshift, solar masses per cubic Mpc."""
    return astropy_cosmology(cosmology).critical_density(z).to_value(units.Msun / units.Mpc**3)
