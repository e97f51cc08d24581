"""Heads that put out a density of the encoded target instead of one value of it.

What the network puts out are the parameters of a density in one dimension, so that a network with
such a head is a network as any other: trained by likelihood, kept, and exported in the same way.
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

MAX_LOG_SCALE = 5.0  # of a density's width, in standard deviations of the labels
SPLINE_BOUND = 4.0  # of the spline, in widths
SPLINE_BINS = 8


class Density(ABC):
    """A family of densities of one variable.

    Attributes:
        parameters: P, how many numbers a network has to put out.
        hidden: widths of the head's hidden layers where a recipe names none.
    """

    parameters: int
    hidden: tuple[int, ...] = (64,)

    @abstractmethod
    def log_density(self, outputs: Tensor, values: Tensor) -> Tensor:
        """The logarithm of the density.

        Args:
            outputs: of the network, (B, P).
            values: of the variable, (B, V) or (1, V).

        Returns:
            (B, V).
        """


class Gaussian(Density):
    """A normal distribution; the network puts out its mean and the logarithm of its variance.

    Reference:
        Nix & Weigend (1994), Estimating the mean and variance of the target probability
        distribution, ICNN '94.

    Example:
        >>> Gaussian().log_density(torch.zeros(1, 2), torch.zeros(1, 1))
        tensor([[-0.9189]])
    """

    parameters = 2

    def log_density(self, outputs: Tensor, values: Tensor) -> Tensor:
        scaled, log_scale = standardize(outputs, values)
        return log_standard_normal(scaled) - log_scale


class Flow(Density):
    """A conditional normalizing flow: a normal distribution bent by a spline.

    The variable is shifted and scaled as a Gaussian's, then mapped by a monotonic spline of
    rational quadratics, after which it is normal. The network puts out shift, scale, and the
    spline's bins and slopes; with all of these zero it is the Gaussian.

    Reference:
        Durkan et al. (2019), Neural Spline Flows, https://arxiv.org/abs/1906.04032; the spline is
        zuko's, https://zuko.readthedocs.io.

    Example:
        >>> Flow().log_density(torch.zeros(1, Flow.parameters), torch.zeros(1, 1))
        tensor([[-0.9189]])
    """

    parameters = 2 + 3 * SPLINE_BINS - 1

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
    """Values (B, V) less a mean and over a scale, and the logarithm of the scale (B, 1).

    Args:
        outputs: (B, P), of which the first is the mean, and the second the logarithm of the
            variance, bent so that a wild step of training cannot make it overflow.
        values: (B, V) or (1, V).
    """
    mean, log_variance = outputs[:, :1], outputs[:, 1:2]
    log_scale = MAX_LOG_SCALE * torch.tanh(log_variance / 2 / MAX_LOG_SCALE)
    return (values - mean) * torch.exp(-log_scale), log_scale


def log_standard_normal(values: Tensor) -> Tensor:
    """The logarithm of the standard normal density."""
    return -0.5 * values.square() - 0.5 * math.log(2 * math.pi)


def density_on_grid(log_density: Tensor, width: float) -> Tensor:
    """Densities on a grid that add up to one, from their logarithms (B, G) at its centers."""
    return functional.softmax(log_density, dim=-1) / width
