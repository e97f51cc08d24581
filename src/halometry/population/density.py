"""A smooth density from a few quantiles: of a lens's posterior, or of a training set's labels."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from halometry.errors import DataError

MOST_SCORE = 3.0  # of a set of labels; beyond, too few of them come
BEYOND = 10  # labels that must lie beyond the outermost quantile
STEPS = 13  # quantiles of a set of labels
FEWEST = 100  # labels


def density(values: np.ndarray, scores: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The density of which some quantiles are known.

    The normal score of the distribution function, Phi^-1(F(x)), is interpolated by a monotone
    cubic and goes on in a straight line: a normal law comes back exactly, whatever its quantiles.

    Args:
        values: quantiles (N, Q) of N laws, each row rising.
        scores: Phi^-1 of their shares (Q,), rising.
        at: where the densities are wanted (G,).

    Returns:
        (N, G), in units of one over `values`.

    Reference:
        Fritsch & Butland (1984), SIAM J. Sci. Stat. Comput. 5, 300, eq. 5, for the slopes.

    Example:
        >>> scores = np.array([-1.0, 0.0, 1.0])
        >>> density(np.array([[1.0, 3.0, 5.0]]), scores, np.array([3.0])).round(4)  # N(3, 2)
        array([[0.1995]])
    """
    steps = np.diff(values, axis=1)
    secants = np.diff(scores) / steps
    slopes = np.concatenate([secants[:, :1], _between(steps, secants), secants[:, -1:]], axis=1)
    # The piece that each position lies in; those outside belong to the first and the last.
    piece = (at[None, :, None] >= values[:, None, 1:-1]).sum(axis=2)

    def of_piece(table: np.ndarray) -> np.ndarray:
        return np.take_along_axis(table, piece, axis=1)

    width, left, right = of_piece(steps), of_piece(slopes[:, :-1]), of_piece(slopes[:, 1:])
    secant = of_piece(secants)
    t = (at - of_piece(values[:, :-1])) / width
    inside = np.clip(t, 0, 1)
    rise = left + inside * (2 * (3 * secant - 2 * left - right))
    slope = rise + inside**2 * (3 * (left + right - 2 * secant))
    cubic = inside * (left + inside * (3 * secant - 2 * left - right))
    score = scores[piece] + width * (cubic + inside**3 * (left + right - 2 * secant))
    score = score + width * (t - inside) * np.where(t < 0, left, right)
    law: np.ndarray = slope * np.exp(-0.5 * score**2) / np.sqrt(2 * np.pi)
    return law


def _between(steps: np.ndarray, secants: np.ndarray) -> np.ndarray:
    """Slopes at the inner quantiles (N, Q - 2): harmonic means of the secants beside them."""
    before, after = 2 * steps[:, 1:] + steps[:, :-1], steps[:, 1:] + 2 * steps[:, :-1]
    slopes: np.ndarray = (before + after) / (before / secants[:, :-1] + after / secants[:, 1:])
    return slopes


def quantiles_of(labels: np.ndarray, told: str) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of labels, from as far out as there are enough of them.

    Args:
        labels: (n,).
        told: what messages call them.

    Returns:
        The quantiles (Q,) and their normal scores (Q,).

    Raises:
        DataError: too few labels, or many that are equal.
    """
    if len(labels) < FEWEST:
        raise DataError(f"{told}: has {len(labels)} masses; at least {FEWEST} tell a distribution")
    most = min(MOST_SCORE, -float(ndtri(BEYOND / len(labels))))
    scores = np.linspace(-most, most, STEPS)
    values = np.quantile(labels, ndtr(scores))
    if (np.diff(values) <= 0).any():
        raise DataError(f"{told}: many of its masses are equal, so that they have no density")
    return values, scores
