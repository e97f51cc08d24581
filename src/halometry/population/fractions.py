"""Posterior of the class fractions of a population, by Gibbs sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.log import warn
from halometry.population.summary import PosteriorSummary, summarize

MIN_EFFECTIVE_SAMPLE_SIZE = 400  # with fewer, the ends of the intervals are inaccurate


@dataclass(frozen=True)
class FractionPosterior:
    """Posterior of class fractions, as draws of a Markov chain.

    Attributes:
        draws: fractions (S, K); each row adds up to one.
    """

    draws: np.ndarray

    @property
    def effective_sample_size(self) -> float:
        """Number of independent draws with the same accuracy, of the slowest class."""
        return min(map(effective_sample_size, self.draws.T))

    def summaries(self) -> list[PosteriorSummary]:
        """Median and intervals of each class's fraction."""
        weights = np.ones(len(self.draws))
        return [summarize(fraction, weights) for fraction in self.draws.T]


def fraction_posterior(
    probabilities: np.ndarray,
    training_fractions: np.ndarray,
    *,
    concentration: float = 1.0,
    draws: int = 4000,
    burn_in: int = 500,
    seed: int = 0,
) -> FractionPosterior:
    """Sample the posterior of a population's class fractions.

    The network's probability of class k for lens i, divided by the class's fraction of the
    training set, is proportional to the likelihood of the image given the class. The likelihood
    of N lenses is therefore prod_i sum_k fraction_k probability_ik / training_fraction_k. The
    prior is a Dirichlet distribution. The sampler alternates between the classes of the lenses,
    given the fractions, and the fractions, given the classes (Dirichlet again).

    Args:
        probabilities: of each class for each lens (N, K).
        training_fractions: fraction of each class in the training set (K,).
        concentration: of the Dirichlet prior; 1 is a flat prior.
        draws: number of draws S.
        burn_in: draws before these, which are discarded.
        seed: of the chain.

    Reference:
        Diebolt & Robert (1994), JRSS B 56, 363, for the sampler; Saerens, Latinne & Decaestecker
        (2002), Neural Computation 14, 21, for the ratios; Hogg, Myers & Bovy (2010), ApJ 725,
        2166, for populations from the posteriors of single objects.

    Example:
        >>> certain = np.repeat(np.eye(2), [30, 10], axis=0)  # 30 of one class, 10 of the other
        >>> posterior = fraction_posterior(certain, np.array([0.5, 0.5]))
        >>> print(f"{posterior.summaries()[0].median:.2f}")  # of Beta(31, 11)
        0.74
    """
    ratios = (probabilities / training_fractions).T
    ratios = ratios / ratios.max(axis=0)
    classes, count = ratios.shape
    rng = np.random.default_rng(seed)
    fractions = np.full(classes, 1 / classes)
    members = np.full(classes, count)
    chain = np.empty((burn_in + draws, classes))
    for step in range(len(chain)):
        cumulative = np.cumsum(fractions[:, None] * ratios, axis=0)
        uniform = rng.random(count) * cumulative[-1]
        members[:-1] = (uniform < cumulative[:-1]).sum(axis=1)  # lenses of classes up to k
        chain[step] = fractions = rng.dirichlet(np.diff(members, prepend=0) + concentration)
    posterior = FractionPosterior(chain[burn_in:])
    if (size := posterior.effective_sample_size) < MIN_EFFECTIVE_SAMPLE_SIZE:
        warn(
            f"the effective sample size of the class fractions is {size:.0f} of {draws} draws;"
            " their intervals are inaccurate"
        )
    return posterior


def effective_sample_size(draws: np.ndarray) -> float:
    """Number of independent draws whose mean is as accurate as that of a chain (S,).

    Reference:
        Geyer (1992), Statistical Science 7, 473: pairs of autocorrelations are summed while their
        sums are positive.

    Example:
        >>> independent = np.random.default_rng(0).normal(size=10_000)
        >>> round(effective_sample_size(independent) / 10_000, 1)
        1.0
    """
    size = len(draws)
    spectrum = np.fft.rfft(draws - draws.mean(), 2 * size)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[:size]
    if covariance[0] == 0:
        return float(size)
    pairs = (covariance[: size // 2 * 2] / covariance[0]).reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    last = negative[0] if len(negative) else len(pairs)
    return float(size / max(2 * pairs[:last].sum() - 1, 1 / size))
