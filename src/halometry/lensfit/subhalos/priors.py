"""Prior of the subhalos of a lens, as a preset defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.errors import UsageError
from halometry.simulation.distributions import PowerLaw
from halometry.simulation.preset import Preset

# Largest distance of subhalos from the lens: the memory of the linear response grows with its
# fourth power.
MAX_RADIUS_ARCSEC = 4.0
MAX_ANGLE_GAP_RAD = 0.01  # largest difference of the range of angles from a full circle


@dataclass(frozen=True)
class SubhaloPrior:
    """Prior of the number, masses and positions of subhalos.

    Attributes:
        mean_number: mean of the Poisson distribution of their number.
        min_fraction, max_fraction, slope: the mass f of a subhalo over the mass of the halo is
            distributed as f^slope between the limits.
        min_radius, max_radius: the distance from the lens, arcsec, is uniform between the limits;
            the angle is uniform.
    """

    mean_number: float
    min_fraction: float
    max_fraction: float
    slope: float
    min_radius: float
    max_radius: float

    @classmethod
    def from_preset(cls, preset: Preset) -> SubhaloPrior:
        """Return the prior of a preset.

        Raises:
            UsageError: the preset has no subhalos, or other distributions or profiles than these.
        """
        subhalos, halo = preset.subhalos, preset.lens.mass
        if "sphere" not in preset.kinds:
            raise UsageError(f"preset {preset.name}: has no subhalos whose posterior to sample")
        if (
            subhalos is None
            or subhalos.truncation is not None
            or not subhalos.number.poisson
            or not isinstance(mass := subhalos.mass.power_law, PowerLaw)
            or mass.slope == -1
            or subhalos.radius.uniform is None
            or subhalos.angle.uniform is None
            or abs(np.ptp(subhalos.angle.support) - 2 * np.pi) > MAX_ANGLE_GAP_RAD
            or halo is None
            or halo.value is None
        ):
            raise UsageError(
                f"preset {preset.name}: sampling takes point masses of a power law (not of slope"
                " -1) and a Poisson number, uniform in distance and angle, in a halo of one mass"
            )
        min_radius, max_radius = subhalos.radius.support
        if max_radius > MAX_RADIUS_ARCSEC:
            raise UsageError(
                f"preset {preset.name}: has subhalos {max_radius:g} arcsec from the lens; sampling"
                f" takes none beyond {MAX_RADIUS_ARCSEC:g}"
            )
        low, high = (end * preset.mass_scale / halo.value for end in (mass.low, mass.high))
        number = float(subhalos.number.poisson)
        return cls(number, low, high, mass.slope, min_radius, max_radius)

    def mass_quantile(self, probability: np.ndarray) -> np.ndarray:
        """Return the mass fractions (...) at cumulative probabilities (...)."""
        k = self.slope + 1
        low, high = self.min_fraction**k, self.max_fraction**k
        powers: np.ndarray = low + probability * (high - low)
        return powers ** (1 / k)
