"""What a preset says of its subhalos, as their posterior is sampled by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.errors import UsageError
from halometry.simulation.distributions import PowerLaw
from halometry.simulation.preset import Preset

MAX_RADIUS_ARCSEC = 4.0  # arcsec; the memory that effects take grows with the fourth power
MAX_ANGLE_GAP_RAD = 0.01  # rad, that an angle's range may differ from a whole one


@dataclass(frozen=True)
class SubhaloPrior:
    """What a preset says of its subhalos.

    Attributes:
        number: the mean of a Poisson law.
        low, high, slope: of one mass as a share of the halo's, f^slope between both ends.
        inner, outer: distance from the lens, arcsec, uniform between.
    """

    mean_number: float
    min_fraction: float
    max_fraction: float
    slope: float
    min_radius: float
    max_radius: float

    @classmethod
    def from_preset(cls, preset: Preset) -> SubhaloPrior:
        """Those of a preset.

        Raises:
            UsageError: it has no subhalos, or other laws or profiles than these.
        """
        law, halo = preset.subhalos, preset.lens.mass
        if "sphere" not in preset.kinds:
            raise UsageError(f"preset {preset.name}: has no subhalos whose posterior to sample")
        if (
            law is None
            or law.truncation is not None
            or not law.number.poisson
            or not isinstance(mass := law.mass.power_law, PowerLaw)
            or mass.slope == -1
            or law.radius.uniform is None
            or law.angle.uniform is None
            or abs(np.ptp(law.angle.support) - 2 * np.pi) > MAX_ANGLE_GAP_RAD
            or halo is None
            or halo.value is None
        ):
            raise UsageError(
                f"preset {preset.name}: sampling takes point masses of a power law (not of slope"
                " -1) and a Poisson number, uniform in distance and angle, in a halo of one mass"
            )
        inner, outer = law.radius.support
        if outer > MAX_RADIUS_ARCSEC:
            raise UsageError(
                f"preset {preset.name}: has subhalos {outer:g} arcsec from the lens; sampling"
                f" takes none beyond {MAX_RADIUS_ARCSEC:g}"
            )
        low, high = (end * preset.mass_scale / halo.value for end in (mass.low, mass.high))
        return cls(float(law.number.poisson), low, high, mass.slope, inner, outer)

    def mass_quantile(self, quantile: np.ndarray) -> np.ndarray:
        """Mass fractions at quantiles of their law."""
        k = self.slope + 1
        share: np.ndarray = self.min_fraction**k + quantile * (
            self.max_fraction**k - self.min_fraction**k
        )
        return share ** (1 / k)
