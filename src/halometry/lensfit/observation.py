"""One image's pixels as the likelihood takes them, at any binning and any count of the darkest."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from halometry.lensfit.counts import Pixels, lost_constant, noise_of
from halometry.lensfit.likelihood import Counts, Likelihood, Scaled, binned
from halometry.simulation.instrument import ImageSpec


@dataclass(frozen=True, eq=False)
class Data:
    """What is fitted.

    Attributes:
        values: (H, W) float64.
        extra: variance of the Gaussian noise, counts squared.
        sigma: noise of pixels that are not counts; None for counts.
        offset: counts to add to `values`.
        offsets: what `offset` may be.
    """

    values: Tensor
    extra: float
    sigma: float | None
    offset: int
    offsets: range

    def at(self, binning: int) -> Likelihood:
        """The likelihood of the image binned."""
        flat = binned(self.values, binning)
        if self.sigma is not None:
            return Scaled(flat, self.sigma * binning)
        return Counts(flat + self.offset * binning**2, self.extra * binning**2)

    def with_offset_for(self, expected: Tensor, binning: int) -> Data:
        """The same, with the darkest pixel's count that an expectation (N,) makes likeliest."""
        if len(self.offsets) == 1:
            return self
        return replace(
            self, offset=max(self.offsets, key=lambda o: self._chance(o, expected, binning))
        )

    def _chance(self, offset: int, expected: Tensor, binning: int) -> float:
        """ln L of the fainter half of the pixels, factorials included.

        There the sky rules, and mass that the model lacks does little.
        """
        area, faint = binning**2, expected <= expected.median()
        m = expected[faint] + self.extra * area
        d = (binned(self.values, binning)[faint] + (offset + self.extra) * area).clamp_min(0)
        return float((torch.xlogy(d, m) - m - torch.lgamma(d + 1)).sum())


def data_of(pixels: Pixels, spec: ImageSpec, device: str) -> Data:
    """Pixels as `recover_counts` gives them, for a detector whose noise may be known."""
    values = torch.from_numpy(pixels.values).to(device)
    shortest, longest = (1.0, 1.0) if spec.exposure is None else spec.exposure.support
    exposure = math.sqrt(shortest * longest)  # until it is fitted
    sky, extra = spec.sky * exposure, (spec.background_rms * exposure) ** 2
    if not (pixels.are_counts and noise_is_known(spec)):
        return Data(values, 0.0, noise_of(pixels.values), 0, range(1))
    if pixels.offset_known:
        return Data(values, extra, None, 0, range(1))
    if shortest < longest and not extra:  # the sky's level says nothing
        found = max(0, round(lost_constant(pixels.values)))
        return Data(values, extra, None, found, range(found, found + 1))
    # The darkest of many pixels lies a few standard deviations below the sky.
    spread = math.sqrt(sky + extra)
    lowest = math.floor(sky - 8 * spread)
    low = lowest if extra else max(0, lowest)
    offsets = range(low, max(low, math.ceil(sky)) + 1)
    guess = min(max(round(sky - 3.5 * spread), low), offsets[-1])
    return Data(values, extra, None, guess, offsets)


def noise_is_known(spec: ImageSpec) -> bool:
    """Whether an image's noise is Poisson's and a Gaussian one whose size the model has."""
    return spec.shot_noise and not spec.defects and spec.background is None
