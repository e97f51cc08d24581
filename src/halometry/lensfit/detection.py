"""How much a little mass would gain at every place of an image, to first order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from halometry.lensfit.likelihood import Model
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, fisher_information

MIN_UNEXPLAINED_FRACTION = (
    1e-4  # share of a mass' effect that the other parameters must leave unexplained
)


@dataclass(frozen=True)
class LinearizedImage:
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
    source_gradient: Tensor
    score: Tensor
    inverse_variance: Tensor
    derivatives: Tensor
    fisher: Tensor
    einstein_radius_squared: float

    def offset_grid(self) -> tuple[Tensor, Tensor]:
        """Offsets x and y, arcsec, between any two pixels, as a Fourier transform orders them."""
        height, width = self.inverse_variance.shape
        steps = [torch.fft.fftfreq(2 * n, 1 / (2 * n)) * self.pixel_scale for n in (height, width)]
        y, x = torch.meshgrid(*(s.to(self.inverse_variance) for s in steps), indexing="ij")
        return x, y

    def pixel_positions(self) -> tuple[Tensor, Tensor]:
        """Positions x (W,) and y (H,) of the pixels, arcsec from the center."""
        height, width = self.inverse_variance.shape
        x, y = (torch.arange(n).to(self.inverse_variance) - (n - 1) / 2 for n in (width, height))
        return x * self.pixel_scale, y * self.pixel_scale

    def delta_2lnl_map(self, kernel: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The gain in 2 ln L at every pixel, and the mass fraction that brings it.

        Args:
            kernel: deflection by the halo's mass on `grid`, both components.

        Returns:
            (H, W) each; 0 where a negative mass would be needed.
        """
        kx, ky = kernel
        first = self._correlate(self.score * self.source_gradient, torch.stack([kx, ky]))
        others = self._correlate(
            (self.inverse_variance * self.derivatives)[:, None] * self.source_gradient,
            torch.stack([kx, ky]),
        )
        sx, sy = self.source_gradient
        squares = torch.stack([sx**2, 2 * sx * sy, sy**2]) * self.inverse_variance
        own = self._correlate(squares, torch.stack([kx**2, kx * ky, ky**2]))
        flat = others.flatten(1)
        explained = (flat * torch.linalg.solve(self.fisher, flat)).sum(dim=0).view_as(own)
        left = own - explained
        usable = (left > MIN_UNEXPLAINED_FRACTION * own) & (first > 0)
        fraction = torch.where(usable, first / left, 0)
        return fraction * first.clamp_min(0), fraction

    def _correlate(self, pictures: Tensor, kernels: Tensor) -> Tensor:
        """Sum over the last picture dimension k of sum over x of picture_k(x) kernel_k(x - t)."""
        shape = kernels.shape[-2:]
        spectra = torch.fft.rfft2(pictures, s=shape) * torch.fft.rfft2(kernels).conj()
        height, width = self.inverse_variance.shape
        return torch.fft.irfft2(spectra.sum(dim=-3), s=shape)[..., :height, :width]


def linearize_image(
    model: Model, data: FitData, optimum: Optimum, binning: int = 1
) -> LinearizedImage:
    """Scores around an optimum (one row, at the data's own resolution), of an image binned."""
    likelihood = data.likelihood(1)
    side = data.values.shape

    def binned(pictures: Tensor) -> Tensor:
        pooled: Tensor = functional.avg_pool2d(pictures.view(-1, 1, *side), binning)
        return pooled[:, 0] * binning**2

    expected = binned(optimum.expected[0])
    variance = binned(1 / likelihood.inverse_variance(optimum.expected[0]))[0]
    derivatives = binned(optimum.derivatives[0])
    weight = 1 / variance
    pulled = (binned(likelihood.data)[0] - expected[0]) * weight
    fisher = fisher_information(derivatives.flatten(1)[None], weight.flatten()[None])[0]
    at = model.parametrization.index("source_position")
    fields = model.parametrization.fields(optimum.theta)
    template = model.parametrization.template
    radius = fields.get("einstein_radius", template.einstein_radius[:1])
    return LinearizedImage(
        pixel_scale=model.preset.image.pixel_scale * binning,
        source_gradient=derivatives[at : at + 2],
        score=pulled,
        inverse_variance=weight,
        derivatives=derivatives,
        fisher=fisher,
        einstein_radius_squared=float(radius[0]) ** 2,
    )
