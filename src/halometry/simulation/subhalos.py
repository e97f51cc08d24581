"""Populations of subhalos: point masses, truncated NFW halos, and pyHalo's along the line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from halometry.errors import UnavailableError
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

DEFAULT_BARYON_DENSITY = (
    0.05  # over the critical density, for pyHalo where the cosmology has no word
)


@dataclass(frozen=True)
class SubhaloPopulation:
    """The subhalos of one image; each attribute is an array (n,), masses 0 where there is none.

    Attributes:
        mass: solar masses; of a truncated halo all that it has.
        x, y: arcsec from the lens.
        z: redshift.
        scale_radius, truncation_radius: arcsec; 0 for a point.
    """

    mass: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    scale_radius: np.ndarray
    truncation_radius: np.ndarray

    @classmethod
    def empty(cls, slots: int) -> SubhaloPopulation:
        """Room for `places`, and nothing in it."""
        return cls(*(np.zeros(slots) for _ in fields(cls)))

    def heaviest(self, slots: int) -> SubhaloPopulation:
        """The heaviest, and room up to `places`."""
        order = np.argsort(-self.mass, kind="stable")[:slots]
        kept = np.zeros((len(fields(self)), slots))
        for row, field in zip(kept, fields(self), strict=True):
            row[: len(order)] = getattr(self, field.name)[order]
        return SubhaloPopulation(*kept)

    def columns(self) -> dict[str, np.ndarray]:
        """By the names of a `Scene`."""
        return {f"subhalo_{f.name}": getattr(self, f.name) for f in fields(self)}


def draw_subhalos(
    preset: Preset, z_lens: float, z_source: float, rng: np.random.Generator
) -> SubhaloPopulation:
    """The subhalos of one image, as its preset says."""
    if preset.halos is not None:
        drawn = _draw_with_pyhalo(preset.halos, preset.cosmology, z_lens, z_source, rng)
    else:
        assert preset.subhalos is not None
        drawn = _draw_in_lens_plane(preset.subhalos, preset, z_lens, rng)
    # More than the places kept come once in 1e20 images of `subhalos`.
    return drawn.heaviest(preset.max_halos)


def _draw_in_lens_plane(
    law: Subhalos, preset: Preset, z_lens: float, rng: np.random.Generator
) -> SubhaloPopulation:
    number = round(float(law.number.draw(rng)))
    mass = preset.mass_scale * law.mass.draw(rng, number)
    radius, angle = law.radius.draw(rng, number), law.angle.draw(rng, number)
    scale_radius = truncation_radius = np.zeros(number)
    if law.concentration_scatter is not None and law.truncation is not None:
        concentration = mean_concentration(mass, z_lens, preset.cosmology)
        concentration = concentration * 10 ** law.concentration_scatter.draw(rng, number)
        tau = law.truncation.draw(rng, number)
        scale_radius = nfw_scale_radius(mass, concentration, z_lens, preset.cosmology)
        truncation_radius = tau * scale_radius
        mass = truncated_mass(mass, concentration, tau)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return SubhaloPopulation(mass, x, y, np.full(number, z_lens), scale_radius, truncation_radius)


def mean_concentration(mass: Any, z: float, which: Cosmology) -> Any:
    """The mean c200 of NFW halos of M200 (solar masses) at a redshift (Dutton & Maccio 2014)."""
    h = astropy_cosmology(which).h
    slope = -0.101 + 0.026 * z
    zero = 0.520 + (0.905 - 0.520) * math.exp(-0.617 * z**1.21)
    return 10 ** (zero + slope * np.log10(np.asarray(mass) / (1e12 / h)))


def nfw_scale_radius(mass: Any, concentration: Any, z: float, which: Cosmology) -> Any:
    """The scale radius of an NFW halo of M200 and c200, arcsec."""
    density = 4 / 3 * math.pi * 200 * critical_density(z, which)
    virial = (np.asarray(mass) / density) ** (1 / 3)
    return virial / concentration / (distances(z, z + 1.0, which=which).lens * ARCSEC_IN_RADIANS)


def truncated_mass(mass: Any, concentration: Any, tau: Any) -> Any:
    """All the mass of a truncated NFW halo (Baltz, Marshall & Oguri 2009, eq. A.4).

    Args:
        mass, concentration: M200 and c200 of the halo before truncation.
        tau: truncation radius over scale radius.

    Returns:
        As `mass`.

    Example:
        >>> print(f"{truncated_mass(1e9, 12.0, 12.0):.2e}")
        1.03e+09
    """
    c = np.asarray(concentration)
    return np.asarray(mass) / (np.log(1 + c) - c / (1 + c)) * _tnfw_mass_factor(np.asarray(tau))


def _tnfw_mass_factor(tau: Any) -> Any:
    """All the mass of a truncated halo over 4 pi rho_s r_s^3."""
    t2 = tau**2
    return t2 / (t2 + 1) ** 2 * ((t2 - 1) * np.log(tau) + math.pi * tau - (t2 + 1))


def _draw_with_pyhalo(
    law: Halos, which: Cosmology, z_lens: float, z_source: float, rng: np.random.Generator
) -> SubhaloPopulation:
    flat = astropy_cosmology(which)
    options = {
        "sigma_sub": law.sigma_sub.draw(rng),
        "LOS_normalization": law.line_of_sight.draw(rng),
        "log_m_host": math.log10(law.host_mass.draw(rng)),
        "log_mlow": math.log10(law.lowest_mass),
        "log_mhigh": math.log10(law.highest_mass),
        "cone_opening_angle_arcsec": law.cone_diameter,
        "kwargs_cosmo": {
            "H0": flat.H0.value,
            "Om0": flat.Om0,
            "Ob0": flat.Ob0 or DEFAULT_BARYON_DENSITY,
        },
    }
    if law.half_mode_mass is not None:
        options["log_mc"] = math.log10(law.half_mode_mass.draw(rng))
    with _numpy_seed(int(rng.integers(2**32))), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of what it calls in astropy
        model = _import_pyhalo_model(law.dark_matter)
        return _population_from_pyhalo(model(z_lens, z_source, **options).halos, z_source, which)


def _import_pyhalo_model(dark_matter: str) -> Callable[..., Any]:
    try:
        from pyHalo.PresetModels.cdm import CDM
        from pyHalo.PresetModels.wdm import WDM
    except ImportError as error:
        raise UnavailableError(
            "the preset's 'halos' come from pyHalo, which is not installed:"
            " pip install 'halometry[halos]'"
        ) from error
    return WDM if dark_matter == "wdm" else CDM


def _population_from_pyhalo(
    halos: list[Any], z_source: float, which: Cosmology
) -> SubhaloPopulation:
    """pyHalo's truncated NFW halos, from the parameters that it has for lenstronomy."""
    rows = []
    for halo in halos:
        (profile,), _ = halo.lenstronomy_params
        scale, truncation = profile["Rs"], profile["r_trunc"]
        # The deflection at the scale radius of the halo before truncation gives its density.
        radius2 = profile["alpha_Rs"] * scale / (1 - math.log(2))
        radius2 = radius2 * _tnfw_mass_factor(truncation / scale)
        mass = mass_within(np.sqrt(radius2), halo.z, z_source, which=which)
        rows.append((mass, halo.x, halo.y, halo.z, scale, truncation))
    return SubhaloPopulation(*np.array(rows, dtype="float64").reshape(-1, 6).T)


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """pyHalo draws from NumPy's global stream: give it a seed, and put it back afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
