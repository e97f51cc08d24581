"""What a preset says of its subhalos, as their posterior is sampled by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.errors import UsageError
from halometry.simulation.preset import Preset
from halometry.simulation.quantity import PowerLaw


@dataclass(frozen=True)
class Laws:
    """What a preset says of its subhalos.

    Attributes:
        number: the mean of a Poisson law.
        low, high, slope: of one mass as a share of the halo's, f^slope between both ends.
        inner, outer: distance from the lens, arcsec, uniform between.
    """

    number: float
    low: float
    high: float
    slope: float
    inner: float
    outer: float

    @classmethod
    def of(cls, preset: Preset) -> Laws:
        """Those of a preset.

        Raises:
            UsageError: it has no subhalos, or other laws or profiles than these.
        """
        law, halo = preset.subhalos, preset.lens.mass
        if law is None:
            raise UsageError(f"preset {preset.name}: has no subhalos whose posterior to sample")
        mass, radius = law.mass.power_law, law.radius
        if (
            halo is None
            or law.number.poisson is None
            or not isinstance(mass, PowerLaw)
            or radius.uniform is None
            or np.ptp(law.angle.support) < 6.28
            or halo.value is None
            or law.truncation is not None
            or mass.slope == -1
        ):
            raise UsageError(
                f"preset {preset.name}: sampling takes point masses of a power law and a Poisson"
                " number, uniform in distance and angle, in a halo of one mass"
            )
        low, high = (end * preset.mass_scale / halo.value for end in (mass.low, mass.high))
        inner, outer = radius.support
        return cls(float(law.number.poisson), low, high, mass.slope, inner, outer)

    def masses(self, quantile: np.ndarray) -> np.ndarray:
        """Mass fractions at quantiles of their law."""
        k = self.slope + 1
        share: np.ndarray = self.low**k + quantile * (self.high**k - self.low**k)
        return share ** (1 / k)

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance of the whole mass fraction."""
        k = self.slope + 1

        def mean(power: int) -> float:
            whole = self.high**k - self.low**k
            return k / (k + power) * (self.high ** (k + power) - self.low ** (k + power)) / whole

        return self.number * mean(1), self.number * mean(2)
