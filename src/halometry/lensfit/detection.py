"""Detection map: gain in 2 ln L by a small mass at each position of an image, to first order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from halometry.lensfit.likelihood import Model
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, fisher_information

# Part of a mass' effect on the image that other parameters must leave unexplained.
MIN_UNEXPLAINED_FRACTION = 1e-4


@dataclass(frozen=True)
class LinearizedImage:
    """Image linearized around an optimum, for detection maps of small masses.

    A mass with deflection f alpha(x - t) changes the image by f times the sum over both axes k of
    alpha_k dm/ds_k, where s is the source's position: moving the source and deflecting its light
    differ only by the sign. Sums of such terms over pixels are correlations, computed for all
    positions t at once by Fourier transforms. The PSF is applied before the product. This is
    right where alpha changes little over the width of the PSF.

    Attributes:
        pixel_scale: arcsec.
        source_gradient: derivatives by the source's position (2, H, W).
        score: residual over variance (H, W).
        inverse_variance: (H, W).
        derivatives: by all coordinates (P, H, W).
        fisher: Fisher information of the coordinates (P, P).
        einstein_radius_squared: of the main lens, arcsec^2.
    """

    pixel_scale: float
    source_gradient: Tensor
    score: Tensor
    inverse_variance: Tensor
    derivatives: Tensor
    fisher: Tensor
    einstein_radius_squared: float

    def offset_grid(self) -> tuple[Tensor, Tensor]:
        """Return the offsets x and y (2 H, 2 W), arcsec, in the order of a Fourier transform."""
        height, width = self.inverse_variance.shape
        steps = [torch.fft.fftfreq(2 * n, 1 / (2 * n)) * self.pixel_scale for n in (height, width)]
        y, x = torch.meshgrid(*(s.to(self.inverse_variance) for s in steps), indexing="ij")
        return x, y

    def pixel_positions(self) -> tuple[Tensor, Tensor]:
        """Return x (W,) and y (H,) of the pixels, arcsec from the center."""
        height, width = self.inverse_variance.shape
        x, y = (torch.arange(n).to(self.inverse_variance) - (n - 1) / 2 for n in (width, height))
        return x * self.pixel_scale, y * self.pixel_scale

    def delta_2lnl_map(self, kernel: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the gain in 2 ln L by a mass at each pixel, and the mass that achieves it.

        Args:
            kernel: both components of the deflection by the whole halo's mass, on `offset_grid`.

        Returns:
            The gain (H, W), and the mass over the halo's mass (H, W). Both are 0 where the mass
            would be negative.
        """
        kx, ky = kernel
        first = self._correlate(self.score * self.source_gradient, torch.stack([kx, ky]))
        with_parameters = self._correlate(
            (self.inverse_variance * self.derivatives)[:, None] * self.source_gradient,
            torch.stack([kx, ky]),
        )
        sx, sy = self.source_gradient
        squares = torch.stack([sx**2, 2 * sx * sy, sy**2]) * self.inverse_variance
        information = self._correlate(squares, torch.stack([kx**2, kx * ky, ky**2]))
        flat = with_parameters.flatten(1)
        explained = (flat * torch.linalg.solve(self.fisher, flat)).sum(dim=0)
        unexplained = information - explained.view_as(information)
        usable = (unexplained > MIN_UNEXPLAINED_FRACTION * information) & (first > 0)
        fraction = torch.where(usable, first / unexplained, 0)
        return fraction * first.clamp_min(0), fraction

    def _correlate(self, images: Tensor, kernels: Tensor) -> Tensor:
        """Compute the sum over k and x of image_k(x) kernel_k(x - t), at each pixel t.

        Args:
            images: (..., K, H, W).
            kernels: (K, 2 H, 2 W), on `offset_grid`.
        """
        shape = kernels.shape[-2:]
        spectra = torch.fft.rfft2(images, s=shape) * torch.fft.rfft2(kernels).conj()
        height, width = self.inverse_variance.shape
        return torch.fft.irfft2(spectra.sum(dim=-3), s=shape)[..., :height, :width]


def linearize_image(
    model: Model, data: FitData, optimum: Optimum, binning: int = 1
) -> LinearizedImage:
    """Linearize an image around an optimum.

    Args:
        model: at the data's own resolution.
        data: the image.
        optimum: one row, of this model.
        binning: pixels along a side that are summed into one.
    """
    likelihood = data.likelihood(1)
    side = data.values.shape

    def binned(images: Tensor) -> Tensor:
        pooled: Tensor = functional.avg_pool2d(images.view(-1, 1, *side), binning)
        return pooled[:, 0] * binning**2

    expected = binned(optimum.expected[0])
    variance = binned(1 / likelihood.inverse_variance(optimum.expected[0]))[0]
    derivatives = binned(optimum.derivatives[0])
    inverse_variance = 1 / variance
    score = (binned(likelihood.data)[0] - expected[0]) * inverse_variance
    fisher = fisher_information(derivatives.flatten(1)[None], inverse_variance.flatten()[None])[0]
    source = optimum.parametrization.index("source_position")
    fields = optimum.parametrization.fields(optimum.theta)
    template = optimum.parametrization.template
    radius = fields.get("einstein_radius", template.einstein_radius[:1])
    return LinearizedImage(
        pixel_scale=model.preset.image.pixel_scale * binning,
        source_gradient=derivatives[source : source + 2],
        score=score,
        inverse_variance=inverse_variance,
        derivatives=derivatives,
        fisher=fisher,
        einstein_radius_squared=float(radius[0]) ** 2,
    )
