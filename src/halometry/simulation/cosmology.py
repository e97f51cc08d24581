"""Einstein radii from masses and redshifts, in a flat universe with H0 = 70 km/s/Mpc, Om0 = 0.3."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from astropy import constants, units
from astropy.cosmology import FlatLambdaCDM

Distances = Literal["angular_diameter", "published"]

COSMOLOGY = FlatLambdaCDM(H0=70, Om0=0.3)
Z_MAX = 6.0


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and comoving distances (Mpc), dense enough for a relative error below 1e-6."""
    z = np.linspace(0, Z_MAX, 6001)
    return z, COSMOLOGY.comoving_distance(z).to_value(units.Mpc)


@lru_cache(maxsize=1)
def _scale() -> float:
    """4 G / c^2 for one solar mass, in Mpc."""
    length = 4 * constants.G * constants.M_sun / constants.c**2
    return float(length.to_value(units.Mpc))


def einstein_radius(
    mass: Any, z_lens: Any, z_source: Any, distances: Distances = "angular_diameter"
) -> Any:
    """The Einstein radius of a mass, theta = sqrt(4 G M / c^2 * D_LS / (D_L D_S)).

    Args:
        mass: within the Einstein radius, solar masses.
        z_lens, z_source: redshifts up to 6, z_source above z_lens.
        distances: `angular_diameter` is the physics (Schneider, Ehlers & Falco 1992, eq. 2.6).
            `published` takes luminosity distances and D_LS = D_S - D_L, as the published sets
            did: it is wrong, and needed to reproduce them.

    Returns:
        arcsec, of the arguments' common shape.

    Example:
        >>> print(f"{einstein_radius(1e12, 0.5, 1.0):.4f}")
        1.6645
        >>> print(f"{einstein_radius(1e12, 0.5, 1.0, 'published'):.4f}")
        1.2815
    """
    z, comoving = _table()
    to_lens, to_source = np.interp(z_lens, z, comoving), np.interp(z_source, z, comoving)
    z_lens, z_source = np.asarray(z_lens), np.asarray(z_source)
    if distances == "published":
        lens, source = to_lens * (1 + z_lens), to_source * (1 + z_source)
        between = source - lens
    else:
        lens, source = to_lens / (1 + z_lens), to_source / (1 + z_source)
        between = (to_source - to_lens) / (1 + z_source)
    radians = np.sqrt(_scale() * np.asarray(mass) * between / (lens * source))
    return np.degrees(radians) * 3600
