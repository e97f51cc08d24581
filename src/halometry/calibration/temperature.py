"""Temperature scaling: a few numbers that make a network's probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

SMALLEST = 1e-30  # below it a probability counts as this in the fit
WIDEST = 4.0  # of the logarithm of a temperature, either way
PRIOR = 0.3  # width of that on the biases

Array = TypeVar("Array", Tensor, np.ndarray)


def tempered(probabilities: Array, temperature: float, bias: Sequence[float] = ()) -> Array:
    """Probabilities at a temperature: above one less sure, below one surer; and a bias a class.

    Of one network's probabilities this is the softmax of its outputs over the temperature plus the
    biases; of a mean over several forms of an image or several networks it is applied to the mean,
    which calibrates what is given as the answer.

    Args:
        probabilities: (..., K).
        temperature: T; at 1 and without a bias they come back as they are.
        bias: b (K,), of the logarithms; none if empty.

    Returns:
        (..., K), proportional to p^(1/T) exp(b).

    Reference:
        Guo et al. (2017), https://arxiv.org/abs/1706.04599, section 4.2; with biases Alexandari
        et al. (2020), https://arxiv.org/abs/1901.06852, section 3; that a mean is to be
        calibrated, and not what it is taken of: Rahaman & Thiery (2021),
        https://arxiv.org/abs/2007.08792.

    Example:
        >>> tempered(np.array([0.8, 0.2]), 2.0).round(3)
        array([0.667, 0.333])
        >>> tempered(np.array([0.8, 0.2]), 1.0, [0.0, np.log(4)]).round(3)
        array([0.5, 0.5])
    """
    if temperature == 1 and not any(bias):
        return probabilities
    powers = probabilities ** (1 / temperature)
    if any(bias):
        factors = np.exp(np.asarray(bias))
        if isinstance(powers, Tensor):
            powers = powers * powers.new_tensor(factors.tolist())
        else:
            powers = powers * factors
    return powers / powers.sum(-1)[..., None]


def untempered(answers: Array, temperature: float, bias: Sequence[float] = ()) -> Array:
    """What `tempered` made such answers of.

    Example:
        >>> untempered(tempered(np.array([0.8, 0.2]), 2.0, [0.3, -0.3]), 2.0, [0.3, -0.3]).round(3)
        array([0.8, 0.2])
    """
    return tempered(answers, 1 / temperature, [-temperature * one for one in bias])


def fit_temperature(
    truth: np.ndarray, probabilities: np.ndarray
) -> tuple[float, tuple[float, ...]]:
    """The temperature and the biases at which the cross-entropy of some answers is least.

    Weak priors, Gaussians around none, of width 1 on the temperature's logarithm and of 0.3 on the
    biases, keep them finite where no answer is wrong; from a thousand images on they count little.

    Args:
        truth: class indices (N,).
        probabilities: at temperature 1 (N, K).

    Returns:
        T, and b (K,), which add up to zero.
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    classes = logs.shape[1]
    is_true = np.eye(classes)[truth]

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        share, bias = np.exp(-values[0]), values[1:]
        scaled = share * logs + bias
        normalized = scaled - logsumexp(scaled, axis=1, keepdims=True)
        wrong = np.exp(normalized) - is_true
        loss = -(is_true * normalized).sum() + values[0] ** 2 / 2 + (bias**2).sum() / (2 * PRIOR**2)
        along = values[0] - share * (wrong * logs).sum()
        return float(loss), np.append(along, wrong.sum(axis=0) + bias / PRIOR**2)

    limits = [(-WIDEST, WIDEST), *[(-WIDEST, WIDEST)] * classes]
    found = minimize(cost, np.zeros(1 + classes), jac=True, bounds=limits, method="L-BFGS-B").x
    bias = found[1:] - found[1:].mean()
    return float(np.exp(found[0])), tuple(bias.tolist())
