"""Subhalo populations: point masses, truncated NFW halos, and pyHalo's line-of-sight halos."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from halometry.extras import import_optional
from halometry.simulation.config import Halos, Subhalos
from halometry.simulation.cosmology import (
    ARCSEC_IN_RADIANS,
    Cosmology,
    astropy_cosmology,
    critical_density,
    distances,
    mass_within,
)
from halometry.simulation.preset import Preset

DEFAULT_BARYON_DENSITY = 0.05  # over the critical density, for cosmologies without baryons


@dataclass(frozen=True)
class SubhaloPopulation:
    """Subhalos of one image, as arrays (n,); the mass is 0 in empty slots.

    Attributes:
        mass: mass, solar masses; the total mass of a truncated halo.
        x, y: position from the lens, arcsec.
        z: redshift.
        scale_radius, truncation_radius: radii of a truncated NFW halo, arcsec; 0 for a point mass.
    """

    mass: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    scale_radius: np.ndarray
    truncation_radius: np.ndarray

    @classmethod
    def empty(cls, slots: int) -> SubhaloPopulation:
        """Return a population of empty slots."""
        return cls(*(np.zeros(slots) for _ in fields(cls)))

    def heaviest(self, slots: int) -> SubhaloPopulation:
        """Return the heaviest subhalos in a given number of slots; the other slots are empty."""
        order = np.argsort(-self.mass, kind="stable")[:slots]
        columns = np.zeros((len(fields(self)), slots))
        for column, field in zip(columns, fields(self), strict=True):
            column[: len(order)] = getattr(self, field.name)[order]
        return SubhaloPopulation(*columns)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the arrays by the names of `Scene`."""
        return {f"subhalo_{f.name}": getattr(self, f.name) for f in fields(self)}


def draw_subhalos(
    preset: Preset, z_lens: float, z_source: float, rng: np.random.Generator
) -> SubhaloPopulation:
    """Draw the subhalos of one image.

    Args:
        preset: preset with `subhalos` or `halos`.
        z_lens, z_source: redshifts of the lens and of the source.
        rng: random number generator.

    Returns:
        The population in `preset.max_halos` slots.

    Raises:
        UnavailableError: the preset needs pyHalo, which is not installed.
    """
    if preset.halos is not None:
        drawn = _draw_with_pyhalo(preset.halos, preset.cosmology, z_lens, z_source, rng)
    else:
        assert preset.subhalos is not None
        drawn = _draw_in_lens_plane(preset.subhalos, preset, z_lens, rng)
    # `subhalos` exceed the slots in one of 1e20 images.
    return drawn.heaviest(preset.max_halos)


def _draw_in_lens_plane(
    subhalos: Subhalos, preset: Preset, z_lens: float, rng: np.random.Generator
) -> SubhaloPopulation:
    """Draw point masses or truncated NFW halos in the lens plane."""
    number = round(float(subhalos.number.draw(rng)))
    mass = preset.mass_scale * subhalos.mass.draw(rng, number)
    radius, angle = subhalos.radius.draw(rng, number), subhalos.angle.draw(rng, number)
    scale_radius = truncation_radius = np.zeros(number)
    if subhalos.concentration_scatter is not None and subhalos.truncation is not None:
        concentration = mean_concentration(mass, z_lens, preset.cosmology)
        concentration = concentration * 10 ** subhalos.concentration_scatter.draw(rng, number)
        tau = subhalos.truncation.draw(rng, number)
        scale_radius = nfw_scale_radius(mass, concentration, z_lens, preset.cosmology)
        truncation_radius = tau * scale_radius
        mass = truncated_mass(mass, concentration, tau)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return SubhaloPopulation(mass, x, y, np.full(number, z_lens), scale_radius, truncation_radius)


def mean_concentration(mass: Any, z: float, cosmology: Cosmology) -> Any:
    """Mean concentration c200 of NFW halos at a redshift (Dutton & Maccio 2014).

    Args:
        mass: M200, solar masses.
        z: redshift.
        cosmology: flat cosmology.
    """
    h = astropy_cosmology(cosmology).h
    slope = -0.101 + 0.026 * z
    intercept = 0.520 + (0.905 - 0.520) * math.exp(-0.617 * z**1.21)
    return 10 ** (intercept + slope * np.log10(np.asarray(mass) / (1e12 / h)))


def nfw_scale_radius(mass: Any, concentration: Any, z: float, cosmology: Cosmology) -> Any:
    """Scale radius (arcsec) of an NFW halo at a redshift, from M200 (solar masses) and c200."""
    density = 4 / 3 * math.pi * 200 * critical_density(z, cosmology)
    r_200 = (np.asarray(mass) / density) ** (1 / 3)
    distance = distances(z, z + 1.0, cosmology=cosmology).lens
    return r_200 / concentration / (distance * ARCSEC_IN_RADIANS)


def truncated_mass(mass: Any, concentration: Any, tau: Any) -> Any:
    """Total mass of a truncated NFW halo (Baltz, Marshall & Oguri 2009, eq. A.4).

    Args:
        mass, concentration: M200 and c200 of the halo before truncation.
        tau: truncation radius over scale radius.

    Returns:
        Total mass in the unit of `mass`.

    Example:
        >>> print(f"{truncated_mass(1e9, 12.0, 12.0):.2e}")
        1.03e+09
    """
    c = np.asarray(concentration)
    return np.asarray(mass) / (np.log(1 + c) - c / (1 + c)) * _tnfw_mass_factor(np.asarray(tau))


def _tnfw_mass_factor(tau: Any) -> Any:
    """Total mass of a truncated NFW halo over 4 pi rho_s r_s^3; tau is r_t / r_s."""
    t2 = tau**2
    return t2 / (t2 + 1) ** 2 * ((t2 - 1) * np.log(tau) + math.pi * tau - (t2 + 1))


def _draw_with_pyhalo(
    halos: Halos, cosmology: Cosmology, z_lens: float, z_source: float, rng: np.random.Generator
) -> SubhaloPopulation:
    """Draw subhalos and line-of-sight halos with pyHalo."""
    flat = astropy_cosmology(cosmology)
    options = {
        "sigma_sub": halos.sigma_sub.draw(rng),
        "LOS_normalization": halos.line_of_sight.draw(rng),
        "log_m_host": math.log10(halos.host_mass.draw(rng)),
        "log_mlow": math.log10(halos.lowest_mass),
        "log_mhigh": math.log10(halos.highest_mass),
        "cone_opening_angle_arcsec": halos.cone_diameter,
        "kwargs_cosmo": {
            "H0": flat.H0.value,
            "Om0": flat.Om0,
            "Ob0": flat.Ob0 or DEFAULT_BARYON_DENSITY,
        },
    }
    if halos.half_mode_mass is not None:
        options["log_mc"] = math.log10(halos.half_mode_mass.draw(rng))
    with _numpy_seed(int(rng.integers(2**32))), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyHalo uses deprecated functions of astropy
        model = _import_pyhalo_model(halos.dark_matter)
        return _population_from_pyhalo(
            model(z_lens, z_source, **options).halos, z_source, cosmology
        )


def _import_pyhalo_model(dark_matter: str) -> Callable[..., Any]:
    """Import pyHalo's preset for cold or warm dark matter."""
    module = import_optional(f"pyHalo.PresetModels.{dark_matter}", extra="halos")
    model: Callable[..., Any] = getattr(module, dark_matter.upper())
    return model


def _population_from_pyhalo(
    halos: list[Any], z_source: float, cosmology: Cosmology
) -> SubhaloPopulation:
    """Convert pyHalo's truncated NFW halos, by their parameters for lenstronomy."""
    rows = []
    for halo in halos:
        (profile,), _ = halo.lenstronomy_params
        scale, truncation = profile["Rs"], profile["r_trunc"]
        # `alpha_Rs` is the deflection at the scale radius without truncation: it fixes the density.
        radius2 = profile["alpha_Rs"] * scale / (1 - math.log(2))
        radius2 = radius2 * _tnfw_mass_factor(truncation / scale)
        mass = mass_within(np.sqrt(radius2), halo.z, z_source, cosmology=cosmology)
        rows.append((mass, halo.x, halo.y, halo.z, scale, truncation))
    return SubhaloPopulation(*np.array(rows, dtype="float64").reshape(-1, 6).T)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Context with a seed for NumPy's global generator, which pyHalo uses; restored afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
