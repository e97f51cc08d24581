"""Temperature scaling: calibration of probabilities by a temperature and class biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

MIN_PROBABILITY = 1e-30  # smaller probabilities count as this in the fit
MAX_ABS_PARAMETER = 4.0  # bound of the logarithm of the temperature and of the biases
BIAS_PRIOR_STD = 0.3

Array = TypeVar("Array", Tensor, np.ndarray)


def apply_temperature(
    probabilities: Array, temperature: float, bias: Sequence[float] = ()
) -> Array:
    """Apply a temperature and class biases to probabilities: p^(1/T) exp(b), normalized.

    For one network this is the softmax of its logits divided by T plus b. For a mean over copies
    of an image or over networks it is applied to the mean, which calibrates the prediction itself.

    Args:
        probabilities: (..., K).
        temperature: T. Above 1 probabilities become less confident, below 1 more.
        bias: b (K,); empty for none.

    Returns:
        (..., K).

    References:
        Guo et al. (2017), https://arxiv.org/abs/1706.04599, section 4.2; with biases Alexandari
        et al. (2020), https://arxiv.org/abs/1901.06852, section 3; for the calibration of a mean
        Rahaman & Thiery (2021), https://arxiv.org/abs/2007.08792.

    Example:
        >>> apply_temperature(np.array([0.8, 0.2]), 2.0).round(3)
        array([0.667, 0.333])
        >>> apply_temperature(np.array([0.8, 0.2]), 1.0, [0.0, np.log(4)]).round(3)
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


def undo_temperature(probabilities: Array, temperature: float, bias: Sequence[float] = ()) -> Array:
    """Invert `apply_temperature`.

    Example:
        >>> calibrated = apply_temperature(np.array([0.8, 0.2]), 2.0, [0.3, -0.3])
        >>> undo_temperature(calibrated, 2.0, [0.3, -0.3]).round(3)
        array([0.8, 0.2])
    """
    return apply_temperature(probabilities, 1 / temperature, [-temperature * b for b in bias])


def fit_temperature(
    truth: np.ndarray, probabilities: np.ndarray, *, class_weights: Sequence[float] = ()
) -> tuple[float, tuple[float, ...]]:
    """Fit temperature and class biases by minimizing the cross-entropy.

    Gaussian priors, with a standard deviation of 1 for the logarithm of the temperature and of 0.3
    for the biases, keep the result finite where no prediction is wrong. From a thousand images on
    their effect is small. The priors are around zero. Class weights in the training loss multiply
    the odds of a class by its weight, so the prior of its bias is then around minus the logarithm
    of the weight.

    Args:
        truth: true class indices (N,).
        probabilities: uncalibrated probabilities (N, K).
        class_weights: weights of the classes in the training loss (K,); empty if they were equal.

    Returns:
        T, and b (K,), whose sum is zero.
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), MIN_PROBABILITY))
    classes = logs.shape[1]
    center = -np.log(class_weights) if len(class_weights) else np.zeros(classes)
    is_true = np.eye(classes)[truth]

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = np.exp(-values[0]), values[1:]
        scaled = scale * logs + center + shift
        normalized = scaled - logsumexp(scaled, axis=1, keepdims=True)
        residual = np.exp(normalized) - is_true
        prior = (shift**2).sum() / (2 * BIAS_PRIOR_STD**2)
        loss = -(is_true * normalized).sum() + values[0] ** 2 / 2 + prior
        slope = values[0] - scale * (residual * logs).sum()
        return float(loss), np.append(slope, residual.sum(axis=0) + shift / BIAS_PRIOR_STD**2)

    limits = [(-MAX_ABS_PARAMETER, MAX_ABS_PARAMETER)] * (1 + classes)
    best = minimize(cost, np.zeros(1 + classes), jac=True, bounds=limits, method="L-BFGS-B").x
    bias = center + best[1:]
    bias -= bias.mean()
    return float(np.exp(best[0])), tuple(bias.tolist())
