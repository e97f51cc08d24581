"""Starting points of a fit: coarse images, linear fits of scenes to them, distinct optima."""

from __future__ import annotations

import torch
from torch import Tensor

from halometry.lensfit.optimize import Optimum

MIN_START_DISTANCE_STEPS = 0.2  # between two optima that count as different
MIN_COARSE_PIXELS = 40  # along a side of a coarse image
MAX_COARSE_PIXEL_ARCSEC = 0.2
MAX_BINNING = 8  # of a coarse image


def coarse_binning(pixels: int, pixel_scale: float) -> int:
    """Return the pixels along a side that are binned into one of a coarse image.

    Args:
        pixels: along a side of the image; a multiple of the result.
        pixel_scale: arcsec.
    """
    divisors = (
        b for b in range(1, MAX_BINNING + 1) if pixels % b == 0 and pixels // b >= MIN_COARSE_PIXELS
    )
    return max((b for b in divisors if b * pixel_scale <= MAX_COARSE_PIXEL_ARCSEC), default=1)


def distinct_optima(optimum: Optimum, count: int) -> Tensor:
    """Return the coordinates of the best optima that differ from one another, best first."""
    steps = optimum.parametrization.steps.to(optimum.theta)
    distinct: list[Tensor] = []
    for theta in optimum.theta[optimum.deviance.argsort()]:
        distances = [float(((theta - other) / steps).abs().max()) for other in distinct]
        if all(distance > MIN_START_DISTANCE_STEPS for distance in distances):
            distinct.append(theta)
        if len(distinct) == count:
            break
    return torch.stack(distinct)


def fit_linear(model: Tensor, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit data as a linear function of each model, with a positive factor, by least squares.

    Args:
        model: (B, N).
        data: (N,).

    Returns:
        Factor, constant, and sum of squared residuals of each model, (B,) each.
    """
    mean = model.mean(dim=1, keepdim=True)
    varied, d = model - mean, data - data.mean()
    factor = ((varied @ d) / (varied**2).sum(dim=1)).clamp_min(1e-12)
    constant = data.mean() - factor * mean[:, 0]
    return factor, constant, ((d - factor[:, None] * varied) ** 2).sum(dim=1)
