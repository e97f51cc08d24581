"""The counts behind an image's pixels, where the image still tells them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from halometry.datasets.readers import PICTURES, Image

MOST_LEVELS = 100_000  # between the darkest and the brightest pixel; float32 tells no more apart
FEWEST_LEVELS = 8
AROUND = 5  # pixels across, whose mean says where an image is faint
ROUNDING = 0.02  # of a count, how far from a whole number a pixel may be


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
    if image.path.lower().endswith(PICTURES):
        return Pixels(values, are_counts=False, offset_known=False)
    if (values == np.rint(values)).all() and np.diff(np.unique(values)).min() == 1:
        return Pixels(values, are_counts=True, offset_known=True)
    levels = _levels(values)
    if levels is None:
        return Pixels(values, are_counts=False, offset_known=False)
    return Pixels(levels, are_counts=True, offset_known=False)


def _levels(values: np.ndarray) -> np.ndarray | None:
    """Whole numbers from 0 of which the values are a linear function, if there are such."""
    low, high = float(values.min()), float(values.max())
    blur = 4 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    gaps = np.diff(np.unique(values))
    gaps = gaps[gaps > blur]
    if len(gaps) < FEWEST_LEVELS:
        return None
    # The smallest gap is one count with the rounding of two pixels in it; the range is not.
    number = round((high - low) / float(np.median(gaps[gaps < 1.5 * gaps.min()])))
    if not FEWEST_LEVELS <= number <= MOST_LEVELS:
        return None
    levels = (values - low) * (number / (high - low))
    whole = np.rint(levels)
    return whole if float(np.abs(levels - whole).max()) < ROUNDING else None


def lost_constant(values: np.ndarray) -> float:
    """What was taken away from counts, by their noise: their variance is their mean.

    From second differences of neighbours, as `noise_of`, in the faintest quarter of the image,
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
    around = uniform_filter(values, AROUND)
    faint = around <= np.quantile(around, 0.25)
    squares = [np.square(np.diff(values, 2, axis)) for axis in (0, 1)]
    variance = (squares[0][faint[1:-1]].mean() + squares[1][faint[:, 1:-1]].mean()) / 12
    return float(variance - values[faint].mean())


def noise_of(values: np.ndarray) -> float:
    """The standard deviation of a pixel's noise, from differences of neighbours.

    A second difference, x1 - 2 x2 + x3, has six times the variance of a pixel and little of a
    smooth image; the median of its modulus does not mind bright arcs.
    """
    second = np.abs(values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:])
    sigma = 1.4826 * float(np.median(second)) / np.sqrt(6)
    return max(sigma, 1e-3 * float(np.ptp(values)))
