"""Smooth probability density from a few quantiles, of a posterior or of a set of labels."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from halometry.errors import DataError

MAX_SCORE = 3.0  # normal score of the outermost quantile of a set of labels
LABELS_BEYOND = 10  # labels that must lie beyond the outermost quantile
N_QUANTILES = 13  # of a set of labels
MIN_LABELS = 100


def density_from_quantiles(
    values: np.ndarray, scores: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """Compute densities of which some quantiles are known.

    The normal score of the distribution function, Phi^-1(F(x)), is interpolated with a monotone
    cubic spline and extrapolated with straight lines. A normal distribution is reproduced
    exactly, for any choice of its quantiles.

    Args:
        values: quantiles (N, Q) of N distributions; each row rises.
        scores: Phi^-1 of their probabilities (Q,), rising.
        positions: points at which to compute the densities (G,).

    Returns:
        Densities (N, G), in units of 1 / `values`.

    Reference:
        Fritsch & Butland (1984), SIAM J. Sci. Stat. Comput. 5, 300, eq. 5, for the slopes.

    Example:
        >>> scores = np.array([-1.0, 0.0, 1.0])
        >>> density_from_quantiles(np.array([[1.0, 3.0, 5.0]]), scores, np.array([3.0])).round(4)
        array([[0.1995]])
    """
    steps = np.diff(values, axis=1)
    secants = np.diff(scores) / steps
    slopes = np.concatenate(
        [secants[:, :1], _inner_slopes(steps, secants), secants[:, -1:]], axis=1
    )
    # The interval of each position; positions outside belong to the first and the last one.
    piece = (positions[None, :, None] >= values[:, None, 1:-1]).sum(axis=2)

    def of_piece(table: np.ndarray) -> np.ndarray:
        return np.take_along_axis(table, piece, axis=1)

    width, left, right = of_piece(steps), of_piece(slopes[:, :-1]), of_piece(slopes[:, 1:])
    secant = of_piece(secants)
    t = (positions - of_piece(values[:, :-1])) / width
    inside = np.clip(t, 0, 1)
    rise = left + inside * (2 * (3 * secant - 2 * left - right))
    slope = rise + inside**2 * (3 * (left + right - 2 * secant))
    cubic = inside * (left + inside * (3 * secant - 2 * left - right))
    score = scores[piece] + width * (cubic + inside**3 * (left + right - 2 * secant))
    score = score + width * (t - inside) * np.where(t < 0, left, right)
    density: np.ndarray = slope * np.exp(-0.5 * score**2) / np.sqrt(2 * np.pi)
    return density


def _inner_slopes(steps: np.ndarray, secants: np.ndarray) -> np.ndarray:
    """Slopes at the inner quantiles (N, Q - 2): harmonic means of the adjacent secants."""
    before, after = 2 * steps[:, 1:] + steps[:, :-1], steps[:, 1:] + 2 * steps[:, :-1]
    slopes: np.ndarray = (before + after) / (before / secants[:, :-1] + after / secants[:, 1:])
    return slopes


def label_quantiles(labels: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute quantiles of labels, as far out as there are enough labels.

    Args:
        labels: (n,).
        source: name of the set, for messages.

    Returns:
        The quantiles (Q,) and their normal scores (Q,).

    Raises:
        DataError: there are too few labels, or many of them are equal.
    """
    if len(labels) < MIN_LABELS:
        raise DataError(f"{source}: has {len(labels)} masses; at least {MIN_LABELS} are needed")
    outermost = min(MAX_SCORE, -float(ndtri(LABELS_BEYOND / len(labels))))
    scores = np.linspace(-outermost, outermost, N_QUANTILES)
    values = np.quantile(labels, ndtr(scores))
    if (np.diff(values) <= 0).any():
        raise DataError(f"{source}: many of its masses are equal, so that they have no density")
    return values, scores
