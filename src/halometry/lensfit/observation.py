"""One image's pixels as the likelihood takes them, at any binning and any count of the darkest."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from halometry.datasets.readers import PICTURE_SUFFIXES, Image
from halometry.lensfit.likelihood import (
    GaussianLikelihood,
    Likelihood,
    PoissonLikelihood,
    bin_pixels,
)
from halometry.simulation.instrument import ImageSpec


@dataclass(frozen=True, eq=False)
class FitData:
    """What is fitted.

    Attributes:
        values: (H, W) float64.
        extra: variance of the Gaussian noise, counts squared.
        sigma: noise of pixels that are not counts; None for counts.
        offset: counts to add to `values`.
        offsets: what `offset` may be.
    """

    values: Tensor
    gaussian_variance: float
    sigma: float | None
    offset: int
    offsets: range

    def likelihood(self, binning: int) -> Likelihood:
        """The likelihood of the image binned."""
        flat = bin_pixels(self.values, binning)
        if self.sigma is not None:
            return GaussianLikelihood(flat, self.sigma * binning)
        return PoissonLikelihood(
            flat + self.offset * binning**2, self.gaussian_variance * binning**2
        )

    def with_best_offset(self, expected: Tensor, binning: int) -> FitData:
        """The same, with the darkest pixel's count that an expectation (N,) makes likeliest."""
        if len(self.offsets) == 1:
            return self
        return replace(
            self,
            offset=max(
                self.offsets, key=lambda o: self._log_likelihood_of_offset(o, expected, binning)
            ),
        )

    def _log_likelihood_of_offset(self, offset: int, expected: Tensor, binning: int) -> float:
        """ln L of the fainter half of the pixels, factorials included.

        There the sky rules, and mass that the model lacks does little.
        """
        area, faint = binning**2, expected <= expected.median()
        m = expected[faint] + self.gaussian_variance * area
        d = (
            bin_pixels(self.values, binning)[faint] + (offset + self.gaussian_variance) * area
        ).clamp_min(0)
        return float((torch.xlogy(d, m) - m - torch.lgamma(d + 1)).sum())


def prepare_data(pixels: Pixels, spec: ImageSpec, device: str) -> FitData:
    """Pixels as `recover_counts` gives them, for a detector whose noise may be known."""
    values = torch.from_numpy(pixels.values).to(device)
    shortest, longest = (1.0, 1.0) if spec.exposure is None else spec.exposure.support
    exposure = math.sqrt(shortest * longest)  # until it is fitted
    sky, extra = spec.sky * exposure, (spec.background_rms * exposure) ** 2
    if not (pixels.are_counts and noise_is_known(spec)):
        return FitData(values, 0.0, estimate_noise(pixels.values), 0, range(1))
    if pixels.offset_known:
        return FitData(values, extra, None, 0, range(1))
    if shortest < longest and not extra:  # the sky's level says nothing
        found = max(0, round(estimate_offset(pixels.values)))
        return FitData(values, extra, None, found, range(found, found + 1))
    # The darkest of many pixels lies a few standard deviations below the sky.
    spread = math.sqrt(sky + extra)
    lowest = math.floor(sky - 8 * spread)
    low = lowest if extra else max(0, lowest)
    offsets = range(low, max(low, math.ceil(sky)) + 1)
    guess = min(max(round(sky - 3.5 * spread), low), offsets[-1])
    return FitData(values, extra, None, guess, offsets)


def noise_is_known(spec: ImageSpec) -> bool:
    """Whether an image's noise is Poisson's and a Gaussian one whose size the model has."""
    return spec.shot_noise and not spec.reproduce_bugs and spec.background is None


MAX_LEVELS = 100_000  # between the darkest and the brightest pixel; float32 tells no more apart


MIN_LEVELS = 8


MEAN_WINDOW_PIXELS = 5  # pixels across, whose mean says where an image is faint


MAX_ROUNDING_ERROR_COUNTS = 0.02  # of a count, how far from a whole number a pixel may be


@dataclass(frozen=True)
class Pixels:
    """An image as it is fitted.

    Attributes:
        values: (H, W) float64: counts, up to a constant if `offset_known` is false, or, where
            `are_counts` is false, numbers of an unknown unit and zero.
        are_counts: whether the pixels are whole counts.
        offset_known: whether no constant was taken away from them.
    """

    values: np.ndarray
    are_counts: bool
    offset_known: bool


def recover_counts(image: Image) -> Pixels:
    """Undo a scaling of whole counts.

    Whole numbers, some of them one apart, are taken as counts. Where an image was scaled, by its
    extremes or by mean and standard deviation, its pixels still stand on a grid whose spacing is
    one count (as long as some two of its thousands of pixels differ by one); the count of its
    darkest pixel is lost. Pictures (8-bit, usually stretched, often compressed with loss) tell no
    counts.

    Args:
        image: of one channel.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> counts = rng.poisson(30, (1, 64, 64))
        >>> scaled = (counts - counts.min()) / np.ptp(counts)
        >>> found = recover_counts(Image(scaled.astype(np.float32), None, "scaled.npy"))
        >>> bool((found.values == counts[0] - counts.min()).all()), found.offset_known
        (True, False)
    """
    values = image.pixels[0].astype(np.float64)
    if image.path.lower().endswith(PICTURE_SUFFIXES):
        return Pixels(values, are_counts=False, offset_known=False)
    if (values == np.rint(values)).all() and np.diff(np.unique(values)).min() == 1:
        return Pixels(values, are_counts=True, offset_known=True)
    levels = _integer_levels(values)
    if levels is None:
        return Pixels(values, are_counts=False, offset_known=False)
    return Pixels(levels, are_counts=True, offset_known=False)


def _integer_levels(values: np.ndarray) -> np.ndarray | None:
    """Whole numbers from 0 of which the values are a linear function, if there are such."""
    low, high = float(values.min()), float(values.max())
    blur = 4 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    gaps = np.diff(np.unique(values))
    gaps = gaps[gaps > blur]
    if len(gaps) < MIN_LEVELS:
        return None
    # The smallest gap is one count with the rounding of two pixels in it; the range is not.
    number = round((high - low) / float(np.median(gaps[gaps < 1.5 * gaps.min()])))
    if not MIN_LEVELS <= number <= MAX_LEVELS:
        return None
    levels = (values - low) * (number / (high - low))
    whole = np.rint(levels)
    return whole if float(np.abs(levels - whole).max()) < MAX_ROUNDING_ERROR_COUNTS else None


def estimate_offset(values: np.ndarray) -> float:
    """What was taken away from counts, by their noise: their variance is their mean.

    From second differences of neighbors, as `noise_of`, in the faintest quarter of the image,
    where little of them is the image's own.

    Args:
        values: (H, W) counts less a constant.

    Returns:
        The constant, uncertain by 0.02 of the counts there in images of 150 x 150 pixels.

    Example:
        >>> counts = np.random.default_rng(0).poisson(30, (150, 150))
        >>> abs(lost_constant(counts - 12.0) - 12) < 0.1 * 30
        True
    """
    around = uniform_filter(values, MEAN_WINDOW_PIXELS)
    faint = around <= np.quantile(around, 0.25)
    squares = [np.square(np.diff(values, 2, axis)) for axis in (0, 1)]
    variance = (squares[0][faint[1:-1]].mean() + squares[1][faint[:, 1:-1]].mean()) / 12
    return float(variance - values[faint].mean())


def estimate_noise(values: np.ndarray) -> float:
    """The standard deviation of a pixel's noise, from differences of neighbors.

    A second difference, x1 - 2 x2 + x3, has six times the variance of a pixel and little of a
    smooth image; the median of its modulus does not mind bright arcs.
    """
    second = np.abs(values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:])
    sigma = 1.4826 * float(np.median(second)) / np.sqrt(6)
    return max(sigma, 1e-3 * float(np.ptp(values)))
