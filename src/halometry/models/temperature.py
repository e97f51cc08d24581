"""Temperature scaling: one number that makes a network's probabilities mean what they say."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor

SMALLEST = 1e-30  # below it a probability counts as this in the fit
WIDEST = 4.0  # of the logarithm of a temperature, either way

Array = TypeVar("Array", Tensor, np.ndarray)


def tempered(probabilities: Array, temperature: float) -> Array:
    """Probabilities at a temperature: above one less sure, below one surer, in the same order.

    Of one network's probabilities this is the softmax of its outputs over the temperature; of a
    mean over several forms of an image or several networks it is applied to the mean, which
    calibrates what is given as the answer.

    Args:
        probabilities: (..., K).
        temperature: T; at 1 they come back as they are.

    Returns:
        (..., K), proportional to p^(1/T).

    Reference:
        Guo et al. (2017), https://arxiv.org/abs/1706.04599, section 4.2; that a mean is to be
        calibrated, and not what it is taken of: Rahaman & Thiery (2021),
        https://arxiv.org/abs/2007.08792.

    Example:
        >>> tempered(np.array([0.8, 0.2]), 2.0).round(3)
        array([0.667, 0.333])
    """
    if temperature == 1:
        return probabilities
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(-1)[..., None]


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature at which the cross-entropy of some answers is least.

    A weak prior on the logarithm, a Gaussian of width 1 around none, keeps it finite where no
    answer is wrong; from a few hundred images on it does not count.

    Args:
        truth: class indices (N,).
        probabilities: at temperature 1 (N, K).
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    right = logs[np.arange(len(truth)), truth]

    def cost(log_temperature: float) -> float:
        share = np.exp(-log_temperature)
        scaled = share * logs
        top = scaled.max(axis=1)
        totals = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((totals - share * right).sum() + log_temperature**2 / 2)

    found = minimize_scalar(cost, bounds=(-WIDEST, WIDEST), method="bounded")
    return float(np.exp(found.x))
