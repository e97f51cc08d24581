"""Data of a fit: the pixels of one image, their noise, and the count offset lost by scaling."""

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
    sum_pixels,
)
from halometry.simulation.instrument import ImageSpec

MIN_LEVELS = 8  # distinct pixel values of an image whose counts can be recovered
MAX_LEVELS = 100_000  # counts between darkest and brightest pixel that float32 still resolves
MAX_ROUNDING_ERROR_COUNTS = 0.02  # largest distance of a recovered count from a whole number
MEAN_WINDOW_PIXELS = 5  # side of the window whose mean tells where an image is faint


@dataclass(frozen=True, eq=False)
class FitData:
    """Pixels of one image and what is known of their noise.

    Attributes:
        values: (H, W), float64.
        gaussian_variance: variance of the Gaussian noise, counts squared.
        sigma: standard deviation of the noise of pixels that are not counts; None for counts.
        offset: counts to add to `values`.
        offsets: possible values of `offset`.
    """

    values: Tensor
    gaussian_variance: float
    sigma: float | None
    offset: int
    offsets: range

    def likelihood(self, binning: int) -> Likelihood:
        """Return the likelihood of the image, binned by `binning` x `binning` pixels."""
        flat = sum_pixels(self.values, binning)
        if self.sigma is not None:
            return GaussianLikelihood(flat, self.sigma * binning)
        area = binning**2
        return PoissonLikelihood(flat + self.offset * area, self.gaussian_variance * area)

    def with_best_offset(self, expected: Tensor, binning: int) -> FitData:
        """Return the data with the most likely offset.

        Args:
            expected: expectation of the binned pixels (N,).
            binning: pixels along a side of a binned one.
        """
        if len(self.offsets) == 1:
            return self

        def log_likelihood(offset: int) -> float:
            return self._log_likelihood_of_offset(offset, expected, binning)

        return replace(self, offset=max(self.offsets, key=log_likelihood))

    def _log_likelihood_of_offset(self, offset: int, expected: Tensor, binning: int) -> float:
        """Compute ln L, including factorials, of the fainter half of the pixels.

        The sky dominates these pixels, and mass that the model lacks changes them little.
        """
        area, faint = binning**2, expected <= expected.median()
        m = expected[faint] + self.gaussian_variance * area
        shift = (offset + self.gaussian_variance) * area
        d = (sum_pixels(self.values, binning)[faint] + shift).clamp_min(0)
        return float((torch.xlogy(d, m) - m - torch.lgamma(d + 1)).sum())


def prepare_data(pixels: Pixels, spec: ImageSpec, device: str) -> FitData:
    """Return the data of a fit.

    Args:
        pixels: as `recover_counts` returns them.
        spec: the detector, whose noise may be known.
        device: as PyTorch names it.
    """
    values = torch.from_numpy(pixels.values).to(device)
    shortest, longest = (1.0, 1.0) if spec.exposure is None else spec.exposure.support
    exposure = math.sqrt(shortest * longest)  # until it is fitted
    sky, gaussian_variance = spec.sky * exposure, (spec.background_rms * exposure) ** 2
    if not (pixels.are_counts and noise_is_known(spec)):
        return FitData(values, 0.0, estimate_noise(pixels.values), 0, range(1))
    if pixels.offset_known:
        return FitData(values, gaussian_variance, None, 0, range(1))
    if shortest < longest and not gaussian_variance:  # the level of the sky is unknown
        offset = max(0, round(estimate_offset(pixels.values)))
        return FitData(values, gaussian_variance, None, offset, range(offset, offset + 1))
    # The darkest of many pixels lies a few standard deviations below the sky.
    noise = math.sqrt(sky + gaussian_variance)
    lowest = math.floor(sky - 8 * noise)
    low = lowest if gaussian_variance else max(0, lowest)
    offsets = range(low, max(low, math.ceil(sky)) + 1)
    guess = min(max(round(sky - 3.5 * noise), low), offsets[-1])
    return FitData(values, gaussian_variance, None, guess, offsets)


def noise_is_known(spec: ImageSpec) -> bool:
    """Whether an image's noise is Poisson noise and Gaussian noise of a known variance."""
    return spec.shot_noise and not spec.reproduce_bugs and spec.background is None


@dataclass(frozen=True)
class Pixels:
    """Pixels of an image, as counts where these could be recovered.

    Attributes:
        values: (H, W), float64. If `are_counts`, whole counts, less a constant unless
            `offset_known`. Otherwise numbers in an unknown unit with an unknown zero point.
        are_counts: whether the pixels are whole counts.
        offset_known: whether no constant was subtracted from the counts.
    """

    values: np.ndarray
    are_counts: bool
    offset_known: bool


def recover_counts(image: Image) -> Pixels:
    """Recover the whole counts of an image that may have been scaled.

    Whole numbers, some of them one apart, are taken as counts. The pixels of an image that was
    scaled, by its extremes or by mean and standard deviation, still lie on a grid with a spacing
    of one count, as long as some two of its thousands of pixels differ by one. The count of the
    darkest pixel is lost. Counts cannot be recovered from pictures: these have 8 bits and are
    usually stretched and often compressed with loss.

    Args:
        image: of one channel.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> counts = rng.poisson(30, (1, 64, 64))
        >>> scaled = (counts - counts.min()) / np.ptp(counts)
        >>> pixels = recover_counts(Image(scaled.astype(np.float32), None, "scaled.npy"))
        >>> bool((pixels.values == counts[0] - counts.min()).all()), pixels.offset_known
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
    """Return whole numbers from 0 that are a linear function of the values; None if none are."""
    low, high = float(values.min()), float(values.max())
    resolution = 4 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    gaps = np.diff(np.unique(values))
    gaps = gaps[gaps > resolution]
    if len(gaps) < MIN_LEVELS:
        return None
    # The smallest gap is one count, but with the rounding of two pixels; the range is exact.
    number = round((high - low) / float(np.median(gaps[gaps < 1.5 * gaps.min()])))
    if not MIN_LEVELS <= number <= MAX_LEVELS:
        return None
    levels = (values - low) * (number / (high - low))
    whole = np.rint(levels)
    return whole if float(np.abs(levels - whole).max()) < MAX_ROUNDING_ERROR_COUNTS else None


def estimate_offset(values: np.ndarray) -> float:
    """Estimate the constant that was subtracted from counts, from their noise.

    The variance of Poisson counts is their mean. The variance is taken from second differences of
    neighbors, as in `estimate_noise`, in the faintest quarter of the image.

    Args:
        values: counts less a constant (H, W).

    Returns:
        The constant. Its error is 2 % of the mean count there, for 150 x 150 pixels.

    Example:
        >>> counts = np.random.default_rng(0).poisson(30, (150, 150))
        >>> abs(estimate_offset(counts - 12.0) - 12) < 0.1 * 30
        True
    """
    means = uniform_filter(values, MEAN_WINDOW_PIXELS)
    faint = means <= np.quantile(means, 0.25)
    squares = [np.square(np.diff(values, 2, axis)) for axis in (0, 1)]
    variance = (squares[0][faint[1:-1]].mean() + squares[1][faint[:, 1:-1]].mean()) / 12
    return float(variance - values[faint].mean())


def estimate_noise(values: np.ndarray) -> float:
    """Estimate the standard deviation of a pixel's noise from differences of neighbors.

    A second difference, x1 - 2 x2 + x3, has six times the variance of a pixel, and that of a
    smooth image is small. The median of its modulus is robust to bright arcs.

    Args:
        values: pixels (H, W).
    """
    second = np.abs(values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:])
    sigma = 1.4826 * float(np.median(second)) / np.sqrt(6)
    return max(sigma, 1e-3 * float(np.ptp(values)))
