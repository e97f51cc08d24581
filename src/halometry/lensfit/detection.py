"""How much a little mass would gain at every place of an image, to first order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from halometry.lensfit.likelihood import Model
from halometry.lensfit.observation import Data
from halometry.lensfit.optimize import Optimum, information

LEAST_LEFT = 1e-4  # share of a mass' effect that the other parameters must leave unexplained


@dataclass(frozen=True)
class Scores:
    """The linearized image around an optimum, as pictures.

    A mass of deflection f alpha(x - t) changes the image by f times the sum over both axes of
    alpha_k dm/ds_k, where s is the source's position: moving the source and deflecting the light
    are the same but for the sign. Sums over pixels of such terms are correlations, done for all t
    at once by Fourier transforms. The blurring is taken before the product, which is right where
    alpha changes little over its width.

    Attributes:
        pixel_scale: arcsec.
        slope: derivatives by the source's position (2, H, W).
        pulled: residual over variance (H, W).
        weight: 1 / variance (H, W).
        derivatives: by all coordinates (P, H, W).
        fisher: information of these (P, P).
        strength: squared Einstein radius of the main lens, arcsec^2.
    """

    pixel_scale: float
    slope: Tensor
    pulled: Tensor
    weight: Tensor
    derivatives: Tensor
    fisher: Tensor
    strength: float

    def grid(self) -> tuple[Tensor, Tensor]:
        """Offsets x and y, arcsec, between any two pixels, as a Fourier transform orders them."""
        height, width = self.weight.shape
        steps = [torch.fft.fftfreq(2 * n, 1 / (2 * n)) * self.pixel_scale for n in (height, width)]
        y, x = torch.meshgrid(*(s.to(self.weight) for s in steps), indexing="ij")
        return x, y

    def places(self) -> tuple[Tensor, Tensor]:
        """Positions x (W,) and y (H,) of the pixels, arcsec from the center."""
        height, width = self.weight.shape
        x, y = (torch.arange(n).to(self.weight) - (n - 1) / 2 for n in (width, height))
        return x * self.pixel_scale, y * self.pixel_scale

    def map(self, kernel: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The gain in 2 ln L at every pixel, and the mass fraction that brings it.

        Args:
            kernel: deflection by the halo's mass on `grid`, both components.

        Returns:
            (H, W) each; 0 where a negative mass would be needed.
        """
        kx, ky = kernel
        first = self._correlate(self.pulled * self.slope, torch.stack([kx, ky]))
        others = self._correlate(
            (self.weight * self.derivatives)[:, None] * self.slope, torch.stack([kx, ky])
        )
        sx, sy = self.slope
        squares = torch.stack([sx**2, 2 * sx * sy, sy**2]) * self.weight
        own = self._correlate(squares, torch.stack([kx**2, kx * ky, ky**2]))
        flat = others.flatten(1)
        explained = (flat * torch.linalg.solve(self.fisher, flat)).sum(dim=0).view_as(own)
        left = own - explained
        usable = (left > LEAST_LEFT * own) & (first > 0)
        fraction = torch.where(usable, first / left, 0)
        return fraction * first.clamp_min(0), fraction

    def _correlate(self, pictures: Tensor, kernels: Tensor) -> Tensor:
        """Sum over the last picture dimension k of sum over x of picture_k(x) kernel_k(x - t)."""
        shape = kernels.shape[-2:]
        spectra = torch.fft.rfft2(pictures, s=shape) * torch.fft.rfft2(kernels).conj()
        height, width = self.weight.shape
        return torch.fft.irfft2(spectra.sum(dim=-3), s=shape)[..., :height, :width]


def scores_of(model: Model, data: Data, optimum: Optimum, binning: int = 1) -> Scores:
    """Scores around an optimum (one row, at the data's own resolution), of an image binned."""
    likelihood = data.at(1)
    side = data.values.shape

    def binned(pictures: Tensor) -> Tensor:
        pooled: Tensor = functional.avg_pool2d(pictures.view(-1, 1, *side), binning)
        return pooled[:, 0] * binning**2

    expected = binned(optimum.expected[0])
    variance = binned(1 / likelihood.weight(optimum.expected[0]))[0]
    derivatives = binned(optimum.derivatives[0])
    weight = 1 / variance
    pulled = (binned(likelihood.data)[0] - expected[0]) * weight
    fisher = information(derivatives.flatten(1)[None], weight.flatten()[None])[0]
    at = model.layout.index("source_position")
    fields = model.layout.fields(optimum.theta)
    template = model.layout.template
    radius = fields.get("einstein_radius", template.einstein_radius[:1])
    return Scores(
        pixel_scale=model.preset.image.pixel_scale * binning,
        slope=derivatives[at : at + 2],
        pulled=pulled,
        weight=weight,
        derivatives=derivatives,
        fisher=fisher,
        strength=float(radius[0]) ** 2,
    )
