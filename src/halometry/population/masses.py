"""The mean and the spread of a population's masses, from the posteriors of its lenses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc, gammaln, ndtr, ndtri

from halometry.calibration.posterior import LEVELS
from halometry.errors import DataError
from halometry.population.density import density, quantiles_of
from halometry.population.summary import Summary, summarize

# Of the columns with a posterior's quantiles, in their order: normal scores of their shares.
SCORES = ndtri([(1 - LEVELS["95"]) / 2, (1 - LEVELS["68"]) / 2, 0.5,
                (1 + LEVELS["68"]) / 2, (1 + LEVELS["95"]) / 2])  # fmt: skip
COARSE, FINE = 24, 32  # values of mean and of spread on the first grid, and on the others
ZOOMS = 6
NEGLIGIBLE = 1e-7  # of the highest: the next grid leaves it out
FEWEST_CELLS, MOST_CELLS = 128, 1024  # of the mass
CELLS_A_LENS = 4.0  # in half of the narrowest 68 % interval
OUTSIDE = 0.99  # share of a lens's posterior that may lie beyond the training set's masses
CUT = 0.1  # of the posterior's height, at the end of the prior
WIDEST = 2.0  # greatest spread of a population, in standard deviations of the training set
NARROW = 0.75  # cells; above, the sum over cells is right to 1e-5
CHUNK = 8_000_000  # numbers at a time, to bound memory
AT_ONCE = 1000  # lenses, likewise

Function = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # of mass, mean and spread


@dataclass(frozen=True)
class Law:
    """A law of masses with a mean and a standard deviation: density and distribution function."""

    density: Function
    reached: Function


def _gamma_density(mass: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    shape, scale = (mean / spread) ** 2, spread**2 / mean
    constant = gammaln(shape) + shape * np.log(scale)
    density: np.ndarray = np.exp((shape - 1) * np.log(mass) - mass / scale - constant)
    return density


def _gamma_reached(mass: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    share: np.ndarray = gammainc((mean / spread) ** 2, mass * mean / spread**2)
    return share


def _log_normal_score(
    mass: np.ndarray, mean: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    width = np.sqrt(np.log1p((spread / mean) ** 2))
    return np.log(mass / mean) / width + width / 2, width


def _log_normal_density(mass: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    score, width = _log_normal_score(mass, mean, spread)
    density: np.ndarray = np.exp(-0.5 * score**2) / (np.sqrt(2 * np.pi) * width * mass)
    return density


def _log_normal_reached(mass: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    share: np.ndarray = ndtr(_log_normal_score(mass, mean, spread)[0])
    return share


LAWS = {
    "gamma": Law(_gamma_density, _gamma_reached),
    "log_normal": Law(_log_normal_density, _log_normal_reached),
}


@dataclass(frozen=True)
class MassPopulation:
    """The posterior of the mean and the spread of a population's mass fractions, on a grid.

    Attributes:
        law: of the masses, a name in `LAWS`.
        mean: (M,), the middles of equal cells.
        spread: standard deviations (S,), the same.
        posterior: of each cell (M, S); they add up to one.
        known: the least and the greatest mass that the training set tells of.
        widest: the greatest spread that is possible beforehand.
        used: which of the lenses had a posterior within these (N,).
    """

    law: str
    mean: np.ndarray
    spread: np.ndarray
    posterior: np.ndarray
    known: tuple[float, float]
    widest: float
    used: np.ndarray

    def summaries(self) -> list[Summary]:
        """Median and intervals of the mean and of the spread."""
        return [
            summarize(self.mean, self.posterior.sum(axis=1)),
            summarize(self.spread, self.posterior.sum(axis=0)),
        ]

    def cut(self) -> list[str]:
        """Where the posterior ends only because the prior does, in words."""
        sides = [
            ("mean", self.mean, self.posterior.sum(axis=1), self.known),
            ("spread", self.spread, self.posterior.sum(axis=0), (-np.inf, self.widest)),
        ]
        found = []
        for name, values, heights, (low, high) in sides:
            step = values[1] - values[0]
            reached = heights[[0, -1]] > CUT * heights.max()
            if reached[0] and values[0] - low < step:
                found.append(f"{name}s of at least {low:.3g}")
            if reached[1] and high - values[-1] < step:
                found.append(f"{name}s of at most {high:.3g}")
        return found

    def beyond(self) -> float:
        """Share of the population beyond what the training set tells of, at the medians."""
        mean, spread = (np.array(one.median) for one in self.summaries())
        low, high = (LAWS[self.law].reached(np.array(end), mean, spread) for end in self.known)
        return float(1 - high + low)


def mass_population(
    quantiles: np.ndarray, labels: np.ndarray, told: str, law: str = "gamma"
) -> MassPopulation:
    """The posterior of a population's mean mass and spread.

    A lens's posterior is its likelihood times the density of the training set's labels, so that
    N lenses have the likelihood prod_i integral posterior_i(f) / training(f) law(f) df. Mean and
    spread are equally likely beforehand, the mean within the training set's masses, the spread up
    to twice theirs. The integral is a sum over cells of f, each with its whole share of the law,
    so that a narrow one is no trouble; what of the law lies beyond the training set's masses
    counts as at their ends, where the likelihood is known last.

    Args:
        quantiles: of the mass of each lens (N, 5): lower end of its 95 % and 68 % intervals,
            median, upper ends; rising.
        labels: of the training set (n,).
        told: what messages call that set.
        law: a name in `LAWS`.

    Raises:
        DataError: the labels tell no density, or no lens's mass is among them.

    Reference:
        Hogg, Myers & Bovy (2010), ApJ 725, 2166; Mandel, Farr & Gair (2019), MNRAS 486, 1086,
        eq. 7 without selection; Wagner-Carena et al. (2021), ApJ 909, 187, for lenses.
    """
    edges, scores = quantiles_of(labels, told)
    known = float(edges[0]), float(edges[-1])
    half = (quantiles[:, 3] - quantiles[:, 1]).min() / 2
    cells = int(np.clip(CELLS_A_LENS * np.ptp(edges) / half, FEWEST_CELLS, MOST_CELLS))
    ends = np.linspace(*known, cells + 1)
    middle = (ends[1:] + ends[:-1]) / 2
    blocks = np.array_split(quantiles, -(-len(quantiles) // AT_ONCE))
    posteriors = np.concatenate([density(block, SCORES, middle) for block in blocks])
    used = posteriors.sum(axis=1) * (ends[1] - ends[0]) > 1 - OUTSIDE
    if not used.any():
        raise DataError(
            "the masses of these lenses are none of the training set's, which tells of"
            f" {known[0]:.3g} to {known[1]:.3g} ({told})"
        )
    likelihood = posteriors[used] / density(edges[None], scores, middle)
    likelihood /= likelihood.max(axis=1, keepdims=True)
    widest = WIDEST * float(labels.std())
    box = np.array([known, (0.0, widest)])
    mean, spread, posterior = _on_grid(likelihood, ends, box, COARSE, LAWS[law])
    for _ in range(ZOOMS):
        within = np.array(
            [_range(mean, posterior, 1, box[0]), _range(spread, posterior, 0, box[1])]
        )
        settled = (np.ptp(within, axis=1) > 0.6 * np.ptp(box, axis=1)).all()
        box = within
        mean, spread, posterior = _on_grid(likelihood, ends, box, FINE, LAWS[law])
        if settled:
            break
    return MassPopulation(law, mean, spread, posterior, known, widest, used)


def _on_grid(
    likelihood: np.ndarray, ends: np.ndarray, box: np.ndarray, size: int, law: Law
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, spreads, and the posterior of each pair (size, size) within a box."""
    shares = (np.arange(size) + 0.5) / size
    mean, spread = box[:, :1] + shares * np.ptp(box, axis=1)[:, None]
    masses = _shares(law, ends, mean[:, None, None], spread[:, None]).reshape(size**2, -1)
    step = max(1, CHUNK // len(masses))
    total = np.zeros(size**2)
    for first in range(0, len(likelihood), step):
        each = masses @ likelihood[first : first + step].T
        total += np.log(np.maximum(each, 1e-300)).sum(axis=1)
    posterior = np.exp(total - total.max()).reshape(size, size)
    return mean, spread, posterior / posterior.sum()


def _shares(law: Law, ends: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The share of a law in each cell of mass (M, S, G), what is beyond in the outermost ones.

    That is density times width, but of a law narrower than a cell the difference of its
    distribution function, which takes far longer.
    """
    width = ends[1] - ends[0]
    shares = width * law.density((ends[1:] + ends[:-1]) / 2, mean, spread)
    narrow = spread[:, 0] < NARROW * width
    if narrow.any():
        shares[:, narrow] = np.diff(law.reached(ends, mean, spread[narrow]), axis=2)
    shares[..., :1] += law.reached(ends[:1], mean, spread)
    shares[..., -1:] += 1 - law.reached(ends[-1:], mean, spread)
    return shares


def _range(values: np.ndarray, posterior: np.ndarray, axis: int, box: np.ndarray) -> np.ndarray:
    """The part of an axis that counts, a cell wider on both sides, within its box."""
    marginal = posterior.sum(axis=axis)
    counts = values[marginal > NEGLIGIBLE * marginal.max()]
    cell = np.ptp(box) / len(values)
    return np.clip([counts[0] - 1.5 * cell, counts[-1] + 1.5 * cell], *box)
