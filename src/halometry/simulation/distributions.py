"""Parameters of presets: a value or a distribution, with its unit and its source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from scipy.special import ndtr, ndtri

from halometry.config import StrictModel

MIN_TRUNCATED_PROBABILITY = 1e-9  # of a normal distribution between its bounds; less is refused
SMALLEST_POSITIVE = 1e-300  # keeps logarithms defined


class PowerLaw(StrictModel):
    """Power law: dN/dx proportional to x**slope between `low` and `high`."""

    slope: float
    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _check_bounds(self) -> PowerLaw:
        if self.low >= self.high:
            raise ValueError("'low' must be below 'high'")
        return self


class TruncatedNormal(StrictModel):
    """Normal distribution, truncated to `low` to `high`."""

    mean: float
    sigma: float = Field(gt=0)
    low: float
    high: float

    @model_validator(mode="after")
    def _check_bounds(self) -> TruncatedNormal:
        _check_bounds(self.mean, self.sigma, self.low, self.high)
        return self


class LogNormal(StrictModel):
    """Log-normal distribution, truncated to `low` to `high`; sigma is of the natural logarithm."""

    median: float = Field(gt=0)
    sigma: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float

    @model_validator(mode="after")
    def _check_bounds(self) -> LogNormal:
        bounds = math.log(self.low), math.log(max(self.high, SMALLEST_POSITIVE))
        _check_bounds(math.log(self.median), self.sigma, *bounds)
        return self


def _check_bounds(mean: float, sigma: float, low: float, high: float) -> None:
    if low >= high:
        raise ValueError("'low' must be below 'high'")
    if ndtr((high - mean) / sigma) - ndtr((low - mean) / sigma) < MIN_TRUNCATED_PROBABILITY:
        raise ValueError("next to nothing of the distribution lies between 'low' and 'high'")


Pair = tuple[float, float]
DISTRIBUTIONS = (
    "value",
    "uniform",
    "log_uniform",
    "normal",
    "truncated_normal",
    "log_normal",
    "poisson",
    "power_law",
    "uniform_disk",
)


class Quantity(StrictModel):
    """A parameter of a preset: exactly one distribution, with a unit and a source.

    Attributes:
        value: constant.
        uniform, log_uniform: uniform in x, or in log x, between two numbers.
        normal: mean and standard deviation.
        truncated_normal, log_normal: see `TruncatedNormal` and `LogNormal`.
        poisson: integer count with this mean.
        power_law: see `PowerLaw`.
        uniform_disk: distance from the center of a point that is uniform in a disk of this radius.
        unit: unit of the numbers; each parameter accepts one or two, see `Range`.
        source: publication, fit or reason for the numbers.
    """

    value: float | None = None
    uniform: Pair | None = None
    log_uniform: Pair | None = None
    normal: Pair | None = None
    truncated_normal: TruncatedNormal | None = None
    log_normal: LogNormal | None = None
    poisson: float | None = Field(default=None, ge=0)
    power_law: PowerLaw | None = None
    uniform_disk: float | None = Field(default=None, gt=0)
    unit: str = ""
    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _refuse_bare_number(cls, content: Any) -> Any:
        if isinstance(content, int | float):
            raise ValueError(f"write {{value: {content}}}, with its unit and source")
        return content

    @model_validator(mode="after")
    def _check_one_distribution(self) -> Quantity:
        given = [name for name in DISTRIBUTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(DISTRIBUTIONS)}, not {len(given)}")
        for name in ("uniform", "log_uniform"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"'{name}' must go from the smaller to the larger number")
        if self.normal is not None and self.normal[1] < 0:
            raise ValueError("'normal' is [mean, sigma], and sigma must not be negative")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError("'log_uniform' must begin above zero")
        return self

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest number; of a normal at 5 sigma, of a Poisson count at 10 sigma."""
        if self.value is not None:
            return self.value, self.value
        if self.normal is not None:
            mean, sigma = self.normal
            return mean - 5 * sigma, mean + 5 * sigma
        if self.truncated_normal is not None:
            return self.truncated_normal.low, self.truncated_normal.high
        if self.log_normal is not None:
            return self.log_normal.low, self.log_normal.high
        if self.poisson is not None:
            return 0.0, self.poisson + 10 * math.sqrt(self.poisson)
        if self.power_law is not None:
            return self.power_law.low, self.power_law.high
        if self.uniform_disk is not None:
            return 0.0, self.uniform_disk
        pair = self.uniform or self.log_uniform
        assert pair is not None
        return pair

    def draw(self, rng: np.random.Generator, size: int | None = None) -> Any:
        """Draw one number, or an array of `size` numbers, with a random number generator."""
        if self.value is not None:
            return self.value if size is None else np.full(size, self.value)
        if self.uniform is not None:
            return rng.uniform(*self.uniform, size)
        if self.log_uniform is not None:
            low, high = np.log(self.log_uniform)
            return np.exp(rng.uniform(float(low), float(high), size))
        if self.normal is not None:
            return rng.normal(*self.normal, size)
        if self.truncated_normal is not None:
            normal = self.truncated_normal
            bounds = normal.low, normal.high
            return _draw_truncated_normal(rng, normal.mean, normal.sigma, *bounds, size)
        if self.log_normal is not None:
            normal_of_log = math.log(self.log_normal.median), self.log_normal.sigma
            bounds = math.log(self.log_normal.low), math.log(self.log_normal.high)
            return np.exp(_draw_truncated_normal(rng, *normal_of_log, *bounds, size))
        if self.poisson is not None:
            return rng.poisson(self.poisson, size)
        if self.uniform_disk is not None:
            return self.uniform_disk * np.sqrt(rng.uniform(0, 1, size))
        assert self.power_law is not None
        low, high, exponent = self.power_law.low, self.power_law.high, self.power_law.slope + 1
        fraction = rng.uniform(0, 1, size)
        if abs(exponent) < 1e-9:
            return low * (high / low) ** fraction
        return (low**exponent + fraction * (high**exponent - low**exponent)) ** (1 / exponent)


def _draw_truncated_normal(
    rng: np.random.Generator, mean: float, sigma: float, low: float, high: float, size: int | None
) -> Any:
    """Draw from a truncated normal distribution by its inverse cumulative distribution."""
    lower, upper = ndtr((low - mean) / sigma), ndtr((high - mean) / sigma)
    return mean + sigma * ndtri(rng.uniform(lower, upper, size))


@dataclass(frozen=True)
class Range:
    """Validator of a parameter: its unit, and the range in which its support must lie.

    Attributes:
        unit: required unit.
        low, high: range, in that unit.
        also: second accepted unit.
    """

    unit: str
    low: float
    high: float
    also: str | None = None

    def __call__(self, given: Quantity) -> Quantity:
        """Return the parameter unchanged.

        Raises:
            ValueError: wrong unit, or the distribution leaves the range.
        """
        if given.unit not in (self.unit, self.also):
            choice = f"'{self.unit}' or '{self.also}'" if self.also else f"'{self.unit}'"
            raise ValueError(f"its unit must be {choice}, not '{given.unit}'")
        smallest, largest = given.support
        if smallest < self.low or largest > self.high:
            allowed = f"{self.low:g} and {self.high:g} {given.unit}".rstrip()
            raise ValueError(f"must stay between {allowed}, not {smallest:g} to {largest:g}")
        return given


def within(unit: str, low: float, high: float, also: str | None = None) -> AfterValidator:
    """Return a pydantic validator of a parameter's unit and range; see `Range`."""
    return AfterValidator(Range(unit, low, high, also))
