"""Fractions of classes in a population, from the class probabilities of its lenses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halometry.log import warn
from halometry.population.summary import Summary, summarize

EM_STEPS, EM_CHANGE = 5000, 1e-6
FREEDOM = 4  # degrees, of the draws' t law: tails heavier than any posterior's here
ROUNDS = 6  # in which the draws' law may be fitted to what they found
ENOUGH = 0.25  # share of the draws that count
DOUBTFUL = 400  # draws that count; below, intervals are rough
CHUNK = 4_000_000  # numbers at a time, to bound memory
TINY = 1e-300


@dataclass(frozen=True)
class Fractions:
    """The posterior of class fractions, as weighted draws.

    Attributes:
        draws: fractions (S, K), each row adds up to one.
        weights: (S,), which add up to one.
    """

    draws: np.ndarray
    weights: np.ndarray

    @property
    def effective(self) -> float:
        """How many equally weighted draws these are worth (Kish 1965)."""
        return float(1 / (self.weights**2).sum())

    def summaries(self) -> list[Summary]:
        """Median and intervals of each class's fraction."""
        return [summarize(column, self.weights) for column in self.draws.T]


def class_fractions(
    probabilities: np.ndarray,
    prior: np.ndarray,
    concentration: float = 1.0,
    draws: int = 8192,
    seed: int = 0,
) -> Fractions:
    """The posterior of a population's class fractions.

    A network's probability of a class is the likelihood of its image under that class, times the
    class's share among the training images, up to a factor. So N lenses have the likelihood
    prod_i sum_k fraction_k probability_ik / share_k, which with a Dirichlet prior is the
    posterior. It is drawn from by importance: a t law in the fractions' logarithms, begun at the
    mode, which EM finds, and fitted to its own draws.

    Args:
        probabilities: of each class for each lens (N, K).
        prior: share of each class among the training images (K,).
        concentration: of the Dirichlet prior; 1 makes all fractions equally likely.
        draws: how many.
        seed: of the draws.

    Reference:
        Saerens, Latinne & Decaestecker (2002), Neural Computation 14, 21, for the ratios and EM;
        Hogg, Myers & Bovy (2010), ApJ 725, 2166, for populations from single posteriors;
        Cappe et al. (2008), Statistics and Computing 18, 447, for draws fitted to their target.

    Example:
        >>> certain = np.repeat(np.eye(2), [30, 10], axis=0)  # 30 of one class, 10 of the other
        >>> found = class_fractions(certain, np.array([0.5, 0.5]))
        >>> print(f"{found.summaries()[0].median:.2f}")  # of Beta(31, 11)
        0.74
    """
    ratios = probabilities / prior
    ratios = ratios / ratios.max(axis=1, keepdims=True)
    mode = _mode(ratios, concentration)
    last = int(mode.argmax())  # the others are told by their ratio to this one
    others = np.delete(np.arange(len(mode)), last)
    center = np.log(mode[others] / mode[last])
    spread = np.linalg.inv(_curvature(ratios, mode, concentration)[np.ix_(others, others)])
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        logits, chance = _t_draws(center, spread, draws, rng)
        fractions = _fractions(logits, others, last)
        target = _log_posterior(fractions, ratios, concentration)
        weights = np.exp(target - chance - (target - chance).max())
        weights /= weights.sum()
        found = Fractions(fractions, weights)
        if found.effective > ENOUGH * draws:
            break
        center = weights @ logits
        spread = (logits - center).T @ ((logits - center) * weights[:, None])
        spread += 1e-9 * np.eye(len(center))
    if found.effective < DOUBTFUL:
        warn(f"{found.effective:.0f} of {draws} draws count; the intervals are rough")
    return found


def _mode(ratios: np.ndarray, concentration: float) -> np.ndarray:
    """Where the posterior of the fractions' logarithms is highest (K,); never on an edge."""
    shares = np.full(ratios.shape[1], 1 / ratios.shape[1])
    for _ in range(EM_STEPS):
        belongs = ratios * shares
        counts = (belongs / belongs.sum(axis=1, keepdims=True)).sum(axis=0) + concentration
        before, shares = shares, counts / counts.sum()
        if np.abs(np.log(shares / before)).max() < EM_CHANGE:
            break
    return shares


def _curvature(ratios: np.ndarray, shares: np.ndarray, concentration: float) -> np.ndarray:
    """Minus the second derivatives of the log posterior by the fractions' logarithms (K, K)."""
    belongs = ratios * shares
    belongs /= belongs.sum(axis=1, keepdims=True)
    total = len(ratios) + concentration * len(shares)
    drawn = np.diag(belongs.sum(axis=0)) - belongs.T @ belongs
    curvature: np.ndarray = total * (np.diag(shares) - np.outer(shares, shares)) - drawn
    return curvature


def _t_draws(
    center: np.ndarray, spread: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (S, D) of a multivariate t law, and the logarithm of their density up to a constant."""
    factor = np.linalg.cholesky(spread)
    normal = rng.standard_normal((draws, len(center)))
    stretch = np.sqrt(FREEDOM / rng.chisquare(FREEDOM, draws))
    standard = normal * stretch[:, None]
    chance = np.log1p((standard**2).sum(axis=1) / FREEDOM) * (-(FREEDOM + len(center)) / 2)
    return center + standard @ factor.T, chance


def _fractions(logits: np.ndarray, others: np.ndarray, last: int) -> np.ndarray:
    """Fractions (S, K) from the logarithms of their ratios to the last (S, K - 1)."""
    whole = np.zeros((len(logits), logits.shape[1] + 1))
    whole[:, others] = logits
    whole -= whole.max(axis=1, keepdims=True)
    shares = np.maximum(np.exp(whole), TINY)
    fractions: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return fractions


def _log_posterior(fractions: np.ndarray, ratios: np.ndarray, concentration: float) -> np.ndarray:
    """Of the fractions' logarithms (S,), up to a constant; so the prior's power is whole."""
    size = max(1, CHUNK // len(ratios))
    parts = [
        np.log(np.maximum(fractions[first : first + size] @ ratios.T, TINY)).sum(axis=1)
        for first in range(0, len(fractions), size)
    ]
    posterior: np.ndarray = np.concatenate(parts)
    return posterior + concentration * np.log(fractions).sum(axis=1)
