"""Mean and standard deviation of a population's masses, from the posteriors of its lenses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc, gammaln, ndtr, ndtri

from halometry.calibration.posterior import CREDIBLE_LEVELS
from halometry.errors import DataError
from halometry.population.density import density_from_quantiles, label_quantiles
from halometry.population.summary import PosteriorSummary, summarize

# Normal scores of the quantiles of a posterior: both lower ends, the median, both upper ends.
_L68, _L95 = CREDIBLE_LEVELS["68"], CREDIBLE_LEVELS["95"]
QUANTILE_SCORES = ndtri([(1 - _L95) / 2, (1 - _L68) / 2, 0.5, (1 + _L68) / 2, (1 + _L95) / 2])
COARSE_GRID, FINE_GRID = 24, 32  # values of mean and of std on the first grid, and on later ones
MAX_ZOOMS = 6
NEGLIGIBLE = 1e-7  # of the maximum of a marginal; the next grid excludes it
MIN_CELLS, MAX_CELLS = 128, 1024  # of the mass
CELLS_PER_WIDTH = 4.0  # cells in half of the narrowest 68 % interval
MAX_MASS_OUTSIDE = 0.99  # part of a lens's posterior that may lie outside the prior's support
TRUNCATION_HEIGHT = 0.1  # height of the posterior at the end of the prior, over its maximum
MAX_STD = 2.0  # of a population, in standard deviations of the training set
MIN_STD_IN_CELLS = 0.75  # above, density times cell width is accurate to 1e-5
CHUNK_SIZE = 8_000_000  # numbers at a time, which limits the memory
LENSES_PER_CHUNK = 1000  # likewise

Function = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # of mass, mean and std


@dataclass(frozen=True)
class MassDistribution:
    """Distribution of masses with a given mean and standard deviation.

    Attributes:
        density: probability density at a mass, given mean and standard deviation.
        cdf: cumulative distribution function, likewise.
    """

    density: Function
    cdf: Function


def _gamma_density(mass: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    shape, scale = (mean / std) ** 2, std**2 / mean
    constant = gammaln(shape) + shape * np.log(scale)
    density: np.ndarray = np.exp((shape - 1) * np.log(mass) - mass / scale - constant)
    return density


def _gamma_cdf(mass: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    probability: np.ndarray = gammainc((mean / std) ** 2, mass * mean / std**2)
    return probability


def _log_normal_score(
    mass: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    width = np.sqrt(np.log1p((std / mean) ** 2))
    return np.log(mass / mean) / width + width / 2, width


def _log_normal_density(mass: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    score, width = _log_normal_score(mass, mean, std)
    density: np.ndarray = np.exp(-0.5 * score**2) / (np.sqrt(2 * np.pi) * width * mass)
    return density


def _log_normal_cdf(mass: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    probability: np.ndarray = ndtr(_log_normal_score(mass, mean, std)[0])
    return probability


MASS_DISTRIBUTIONS = {
    "gamma": MassDistribution(_gamma_density, _gamma_cdf),
    "log_normal": MassDistribution(_log_normal_density, _log_normal_cdf),
}


@dataclass(frozen=True)
class MassPosterior:
    """Posterior of the mean and the standard deviation of a population's masses, on a grid.

    Attributes:
        mass_distribution: assumed distribution, a name in `MASS_DISTRIBUTIONS`.
        mean: centers of equal cells (M,).
        std: standard deviations, centers of equal cells (S,).
        posterior: probability of each cell (M, S); the sum is one.
        prior_support: smallest and largest mass at which the density of the training set is known.
        max_std: upper end of the flat prior of `std`.
        is_used: whether the posterior of each lens lies within `prior_support` (N,).
    """

    mass_distribution: str
    mean: np.ndarray
    std: np.ndarray
    posterior: np.ndarray
    prior_support: tuple[float, float]
    max_std: float
    is_used: np.ndarray

    def summaries(self) -> list[PosteriorSummary]:
        """Median and intervals of the mean and of the standard deviation."""
        return [
            summarize(self.mean, self.posterior.sum(axis=1)),
            summarize(self.std, self.posterior.sum(axis=0)),
        ]

    def truncations(self) -> list[str]:
        """Ends of the prior at which the posterior is not negligible, as text."""
        axes = [
            ("mean", self.mean, self.posterior.sum(axis=1), self.prior_support),
            ("std", self.std, self.posterior.sum(axis=0), (-np.inf, self.max_std)),
        ]
        ends = []
        for name, values, heights, (low, high) in axes:
            step = values[1] - values[0]
            is_high = heights[[0, -1]] > TRUNCATION_HEIGHT * heights.max()
            if is_high[0] and values[0] - low < step:
                ends.append(f"{name} >= {low:.3g}")
            if is_high[1] and high - values[-1] < step:
                ends.append(f"{name} <= {high:.3g}")
        return ends

    def fraction_outside_support(self) -> float:
        """Fraction of the population outside `prior_support`, at the posterior medians."""
        mean, std = (np.array(summary.median) for summary in self.summaries())
        cdf = MASS_DISTRIBUTIONS[self.mass_distribution].cdf
        low, high = (cdf(np.array(end), mean, std) for end in self.prior_support)
        return float(1 - high + low)


def mass_posterior(
    quantiles: np.ndarray, labels: np.ndarray, source: str, mass_distribution: str = "gamma"
) -> MassPosterior:
    """Compute the posterior of a population's mean mass and its standard deviation.

    The posterior of a lens is its likelihood times the density of the training set's labels. The
    likelihood of N lenses is therefore prod_i integral posterior_i(f) / training(f)
    population(f) df. Both priors are flat: the mean lies within the training set's masses, the
    standard deviation is at most twice theirs. The integral is a sum over cells of f, each with
    the probability of the population in the cell, so that a narrow population is accurate too.
    Outside the training set's masses the likelihood is unknown; the population's probability
    there is added to the outermost cells.

    Args:
        quantiles: of the mass of each lens (N, 5), rising: lower ends of its 95 % and 68 %
            intervals, median, upper ends.
        labels: masses of the training set (n,).
        source: name of that set, for messages.
        mass_distribution: of the population, a name in `MASS_DISTRIBUTIONS`.

    Raises:
        DataError: the labels have no density, or the masses of all lenses lie outside them.

    Reference:
        Hogg, Myers & Bovy (2010), ApJ 725, 2166; Mandel, Farr & Gair (2019), MNRAS 486, 1086,
        eq. 7 without selection; Wagner-Carena et al. (2021), ApJ 909, 187, for lenses.
    """
    edges, scores = label_quantiles(labels, source)
    support = float(edges[0]), float(edges[-1])
    half_width = (quantiles[:, 3] - quantiles[:, 1]).min() / 2
    cells = int(np.clip(CELLS_PER_WIDTH * np.ptp(edges) / half_width, MIN_CELLS, MAX_CELLS))
    ends = np.linspace(*support, cells + 1)
    centers = (ends[1:] + ends[:-1]) / 2
    blocks = np.array_split(quantiles, -(-len(quantiles) // LENSES_PER_CHUNK))
    posteriors = np.concatenate(
        [density_from_quantiles(block, QUANTILE_SCORES, centers) for block in blocks]
    )
    is_used = posteriors.sum(axis=1) * (ends[1] - ends[0]) > 1 - MAX_MASS_OUTSIDE
    if not is_used.any():
        raise DataError(
            "the masses of all lenses lie outside those of the training set,"
            f" {support[0]:.3g} to {support[1]:.3g} ({source})"
        )
    likelihood = posteriors[is_used] / density_from_quantiles(edges[None], scores, centers)
    likelihood /= likelihood.max(axis=1, keepdims=True)
    max_std = MAX_STD * float(labels.std())
    box = np.array([support, (0.0, max_std)])
    distribution = MASS_DISTRIBUTIONS[mass_distribution]
    mean, std, posterior = _on_grid(likelihood, ends, box, COARSE_GRID, distribution)
    for _ in range(MAX_ZOOMS):
        zoomed = np.array([_range(mean, posterior, 1, box[0]), _range(std, posterior, 0, box[1])])
        has_converged = (np.ptp(zoomed, axis=1) > 0.6 * np.ptp(box, axis=1)).all()
        box = zoomed
        mean, std, posterior = _on_grid(likelihood, ends, box, FINE_GRID, distribution)
        if has_converged:
            break
    return MassPosterior(mass_distribution, mean, std, posterior, support, max_std, is_used)


def _on_grid(
    likelihood: np.ndarray,
    ends: np.ndarray,
    box: np.ndarray,
    size: int,
    distribution: MassDistribution,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, standard deviations, and the posterior of each pair (size, size) within a box."""
    centers = (np.arange(size) + 0.5) / size
    mean, std = box[:, :1] + centers * np.ptp(box, axis=1)[:, None]
    population = _cell_probabilities(distribution, ends, mean[:, None, None], std[:, None])
    population = population.reshape(size**2, -1)
    step = max(1, CHUNK_SIZE // len(population))
    log_likelihood = np.zeros(size**2)
    for first in range(0, len(likelihood), step):
        of_lenses = population @ likelihood[first : first + step].T
        log_likelihood += np.log(np.maximum(of_lenses, 1e-300)).sum(axis=1)
    posterior = np.exp(log_likelihood - log_likelihood.max()).reshape(size, size)
    return mean, std, posterior / posterior.sum()


def _cell_probabilities(
    distribution: MassDistribution, ends: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
    """Probability of each cell of mass (M, S, G); the outermost cells include all beyond them.

    This is the density times the width of the cell. For distributions narrower than a cell it is
    the difference of the cumulative distribution function, which is much slower.
    """
    width = ends[1] - ends[0]
    cells = width * distribution.density((ends[1:] + ends[:-1]) / 2, mean, std)
    narrow = std[:, 0] < MIN_STD_IN_CELLS * width
    if narrow.any():
        cells[:, narrow] = np.diff(distribution.cdf(ends, mean, std[narrow]), axis=2)
    cells[..., :1] += distribution.cdf(ends[:1], mean, std)
    cells[..., -1:] += 1 - distribution.cdf(ends[-1:], mean, std)
    return cells


def _range(values: np.ndarray, posterior: np.ndarray, axis: int, box: np.ndarray) -> np.ndarray:
    """Range of an axis outside which the posterior is negligible, with a margin, within its box."""
    marginal = posterior.sum(axis=axis)
    relevant = values[marginal > NEGLIGIBLE * marginal.max()]
    cell = np.ptp(box) / len(values)
    return np.clip([relevant[0] - 1.5 * cell, relevant[-1] + 1.5 * cell], *box)
