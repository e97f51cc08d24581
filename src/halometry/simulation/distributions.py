"""A parameter of a preset: a number or a distribution, with its unit and where it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from scipy.special import ndtr, ndtri

from halometry.config import StrictModel

MIN_TRUNCATED_PROBABILITY = (
    1e-9  # share of a law that must lie between its ends, so that it can be drawn
)
SMALLEST_POSITIVE = 1e-300


class PowerLaw(StrictModel):
    """dN/dx proportional to x**slope between `low` and `high`."""

    slope: float
    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _check_bounds(self) -> PowerLaw:
        if self.low >= self.high:
            raise ValueError("'low' must be below 'high'")
        return self


class TruncatedNormal(StrictModel):
    """A normal law of which only what lies between `low` and `high` comes."""

    mean: float
    sigma: float = Field(gt=0)
    low: float
    high: float

    @model_validator(mode="after")
    def _check_bounds(self) -> TruncatedNormal:
        _check_bounds(self.mean, self.sigma, self.low, self.high)
        return self


class LogNormal(StrictModel):
    """A law whose logarithm is normal, of which only what lies between `low` and `high` comes."""

    median: float = Field(gt=0)
    sigma: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float

    @model_validator(mode="after")
    def _check_bounds(self) -> LogNormal:
        ends = math.log(self.low), math.log(max(self.high, SMALLEST_POSITIVE))
        _check_bounds(math.log(self.median), self.sigma, *ends)
        return self


def _check_bounds(mean: float, sigma: float, low: float, high: float) -> None:
    if low >= high:
        raise ValueError("'low' must be below 'high'")
    if ndtr((high - mean) / sigma) - ndtr((low - mean) / sigma) < MIN_TRUNCATED_PROBABILITY:
        raise ValueError("next to nothing of the law lies between 'low' and 'high'")


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
    """Exactly one law, a unit, and a source.

    Attributes:
        value: always the same number.
        uniform, log_uniform: between two numbers.
        normal: mean and standard deviation.
        truncated_normal, log_normal: see `TruncatedNormal` and `LogNormal`.
        poisson: a count with this mean.
        power_law: see `PowerLaw`.
        uniform_disk: distance from the center of a point uniform in a disk of this radius.
        unit: as the parameter's `Range` asks for.
        source: publication, fit, or reason.
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
        given = [law for law in DISTRIBUTIONS if getattr(self, law) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(DISTRIBUTIONS)}, not {len(given)}")
        for law in ("uniform", "log_uniform"):
            pair = getattr(self, law)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"'{law}' must go from the smaller to the larger number")
        if self.normal is not None and self.normal[1] < 0:
            raise ValueError("'normal' is [mean, sigma], and sigma must not be negative")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError("'log_uniform' must begin above zero")
        return self

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest number that come; five sigma of a normal, ten of a count."""
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
        """One number, or an array of `size`, from a random stream."""
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
            law = self.truncated_normal
            return _draw_truncated_normal(rng, law.mean, law.sigma, law.low, law.high, size)
        if self.log_normal is not None:
            one = self.log_normal
            ends = math.log(one.low), math.log(one.high)
            return np.exp(_draw_truncated_normal(rng, math.log(one.median), one.sigma, *ends, size))
        if self.poisson is not None:
            return rng.poisson(self.poisson, size)
        if self.uniform_disk is not None:
            return self.uniform_disk * np.sqrt(rng.uniform(0, 1, size))
        assert self.power_law is not None
        low, high, exponent = self.power_law.low, self.power_law.high, self.power_law.slope + 1
        share = rng.uniform(0, 1, size)
        if abs(exponent) < 1e-9:
            return low * (high / low) ** share
        return (low**exponent + share * (high**exponent - low**exponent)) ** (1 / exponent)


def _draw_truncated_normal(
    rng: np.random.Generator, mean: float, sigma: float, low: float, high: float, size: int | None
) -> Any:
    """A normal law between two ends."""
    least, most = ndtr((low - mean) / sigma), ndtr((high - mean) / sigma)
    return mean + sigma * ndtri(rng.uniform(least, most, size))


@dataclass(frozen=True)
class Range:
    """What a parameter must be: its unit, and the range of every number that may come.

    Attributes:
        unit: what its unit must be.
        low, high: in that unit.
        also: another unit that it may have.
    """

    unit: str
    low: float
    high: float
    also: str | None = None

    def __call__(self, given: Quantity) -> Quantity:
        """The parameter, if it is as it must be.

        Raises:
            ValueError: it is not.
        """
        if given.unit not in (self.unit, self.also):
            choice = f"'{self.unit}' or '{self.also}'" if self.also else f"'{self.unit}'"
            raise ValueError(f"its unit must be {choice}, not '{given.unit}'")
        smallest, largest = given.support
        if smallest < self.low or largest > self.high:
            allowed = f"{self.low:g} and {self.high:g} {given.unit}".rstrip()
            raise ValueError(f"must stay between {allowed}; {smallest:g} to {largest:g} may come")
        return given


def within(unit: str, low: float, high: float, also: str | None = None) -> AfterValidator:
    """What a parameter's type is annotated with; see `Range`."""
    return AfterValidator(Range(unit, low, high, also))
