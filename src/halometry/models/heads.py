"""Posterior densities: families of densities whose parameters a network predicts.

A density is a function of the encoded target (`TargetConfig`). The network is trained by maximum
likelihood.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from zuko.transforms import MonotonicRQSTransform

DensityFamily = Literal["none", "gaussian", "flow"]

MAX_LOG_SCALE = 5.0  # bound of the logarithm of a scale, in standard deviations of the labels
SPLINE_BOUND = 4.0  # range of the spline, in scales
SPLINE_BINS = 8


class Density(ABC):
    """Family of probability densities of one variable.

    Attributes:
        n_parameters: number of parameters P that a network predicts.
        hidden: widths of the head's hidden layers where a recipe gives none.
    """

    n_parameters: int
    hidden: tuple[int, ...] = (64,)

    @abstractmethod
    def log_density(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Logarithm of the density.

        Args:
            outputs: parameters, the outputs of the network (B, P).
            values: values of the variable (B, V) or (1, V).

        Returns:
            (B, V).
        """


class Gaussian(Density):
    """Normal distribution; its parameters are the mean and the logarithm of the variance.

    Reference:
        Nix & Weigend (1994), Estimating the mean and variance of the target probability
        distribution, ICNN '94.

    Example:
        >>> Gaussian().log_density(torch.zeros(1, 2), torch.zeros(1, 1))
        tensor([[-0.9189]])
    """

    n_parameters = 2

    def log_density(self, outputs: Tensor, values: Tensor) -> Tensor:
        scaled, log_scale = standardize(outputs, values)
        return log_standard_normal(scaled) - log_scale


class Flow(Density):
    """Normalizing flow: a normal distribution transformed by a monotonic spline.

    The variable is shifted and scaled, then mapped by a monotonic rational-quadratic spline to a
    normally distributed variable. Parameters are the mean, the logarithm of the variance, and the
    bins and slopes of the spline. Where all are zero it is the standard normal distribution.

    Reference:
        Durkan et al. (2019), Neural Spline Flows, https://arxiv.org/abs/1906.04032; the spline is
        zuko's, https://zuko.readthedocs.io.

    Example:
        >>> Flow().log_density(torch.zeros(1, Flow.n_parameters), torch.zeros(1, 1))
        tensor([[-0.9189]])
    """

    n_parameters = 2 + 3 * SPLINE_BINS - 1

    def log_density(self, outputs: Tensor, values: Tensor) -> Tensor:
        scaled, log_scale = standardize(outputs, values)
        bins = outputs[:, None, 2:]
        widths, heights, slopes = (
            bins[..., :SPLINE_BINS],
            bins[..., SPLINE_BINS : 2 * SPLINE_BINS],
            bins[..., 2 * SPLINE_BINS :],
        )
        spline = MonotonicRQSTransform(widths, heights, slopes, bound=SPLINE_BOUND)
        normal, log_slope = spline.call_and_ladj(scaled)
        return log_standard_normal(normal) + log_slope - log_scale


DENSITIES: dict[str, Density] = {"gaussian": Gaussian(), "flow": Flow()}


def standardize(outputs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract a mean from values and divide by a scale.

    Args:
        outputs: (B, P); the first is the mean, the second the logarithm of the variance, which is
            bounded so that it cannot overflow in training.
        values: (B, V) or (1, V).

    Returns:
        The standardized values (B, V), and the logarithm of the scale (B, 1).
    """
    mean, log_variance = outputs[:, :1], outputs[:, 1:2]
    log_scale = MAX_LOG_SCALE * torch.tanh(log_variance / 2 / MAX_LOG_SCALE)
    return (values - mean) * torch.exp(-log_scale), log_scale


def log_standard_normal(values: Tensor) -> Tensor:
    """Logarithm of the standard normal density."""
    return -0.5 * values.square() - 0.5 * math.log(2 * math.pi)


def density_on_grid(log_density: Tensor, width: float) -> Tensor:
    """Normalize densities on a grid, given by their logarithms at the centers (B, G)."""
    return functional.softmax(log_density, dim=-1) / width
