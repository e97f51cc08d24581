"""Image model and likelihood: expected pixels of parameters, derivatives, agreement with data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from halometry.lensfit.parametrization import Parametrization
from halometry.simulation import render
from halometry.simulation.preset import Preset
from halometry.simulation.render import gaussian_kernel

DIFFERENCE_STEP_FRACTION = 1e-6  # step of a derivative's difference over the largest step
MIN_EXPECTED_COUNTS = 1e-3  # lower limit of a pixel's expectation


@dataclass(frozen=True)
class Model:
    """Function from coordinates to expected pixels.

    Attributes:
        preset: describes the detector and the renderer.
        parametrization: of the coordinates.
        binning: number of the data's pixels along a side of one of `preset`'s pixels.
        fixed_derivatives: derivatives (n, N) by the first n coordinates, used in place of new
            ones; None to compute all.
    """

    preset: Preset
    parametrization: Parametrization
    binning: int = 1
    fixed_derivatives: Tensor | None = None

    def expected(self, theta: Tensor) -> Tensor:
        """Compute the expectation of each pixel (B, N) for coordinates (B, P)."""
        fields = self.parametrization.fields(theta)
        preset, spec = self.preset, self.preset.image
        sigma, sky = fields.get("psf_sigma"), fields.get("sky")
        if sigma is not None:
            preset = _with_image(preset, psf_sigma=0.0)
        scene = self.parametrization.scene(theta)
        images = render(scene, preset)[:, 0]
        if sigma is not None:
            images = _convolve_gaussian(images, sigma / spec.pixel_scale)
        if sky is not None:
            images = images + ((sky - spec.sky) * scene.exposure)[:, None, None]
        flat = self.binning**2 * images.flatten(1)
        if "unit" in fields:
            return fields["zero"][:, None] + fields["unit"][:, None] * flat
        return flat.clamp_min(MIN_EXPECTED_COUNTS)

    def linearized(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Compute expectations (B, N) and their derivatives (B, P, N).

        Derivatives are differences of renderings, which is faster than automatic differentiation
        in either mode. The steps are so short that the error is 1e-4 at most, near cusps. The
        position of a vortex or a point mass is differentiated over one pixel, by a central
        difference, because the derivative at the rays misses what happens between them.

        Args:
            theta: coordinates (B, P), float64.
        """
        assert theta.dtype == torch.float64, "the steps are too short for float32"
        first = 0 if self.fixed_derivatives is None else len(self.fixed_derivatives)
        half_pixel = self.preset.image.pixel_scale / self.binning / 2
        wide_steps = self.parametrization.wide_steps(half_pixel)
        wide = [i for i in wide_steps if i >= first]
        narrow = [i for i in range(first, theta.shape[1]) if i not in wide]
        expected = self.expected(theta)
        largest = self.parametrization.steps.to(theta)
        # Pixels are linear in a coordinate without a largest step, which has the pixels' unit.
        step = torch.where(
            largest.isinf(), expected.abs().max(), DIFFERENCE_STEP_FRACTION * largest
        )
        step[wide] = torch.tensor([wide_steps[i] for i in wide]).to(theta)
        shifts = torch.diag(step)
        shifts = torch.cat([shifts[narrow], shifts[wide], -shifts[wide]])
        images = self.expected((theta[:, None] + shifts).flatten(0, 1))
        ends = (len(narrow), len(narrow) + len(wide))
        near, ahead, behind = images.view(len(theta), len(shifts), -1).tensor_split(ends, dim=1)
        derivatives = images.new_empty(len(theta), theta.shape[1], images.shape[1])
        if self.fixed_derivatives is not None:
            derivatives[:, :first] = self.fixed_derivatives
        derivatives[:, narrow] = (near - expected[:, None]) / step[narrow, None]
        derivatives[:, wide] = (ahead - behind) / (2 * step[wide, None])
        return expected, derivatives


@dataclass(frozen=True)
class Resolution:
    """Resolution at which images are fitted.

    Attributes:
        preset: with the pixels and rays of this resolution.
        binning: number of the data's pixels along a side of one of `preset`'s pixels.
    """

    preset: Preset
    binning: int

    def model(self, parametrization: Parametrization) -> Model:
        """Return the model of some parameters, rendered at this resolution."""
        return Model(self.preset, parametrization, self.binning)


@dataclass(frozen=True)
class PoissonLikelihood:
    """Likelihood of whole counts: Poisson noise, and Gaussian noise of a known variance.

    With both, the sum of data and variance follows nearly a Poisson distribution whose mean is the
    sum of expectation and variance. Its mean and variance are exact (Snyder, Hammoud & White 1993,
    JOSA A 10, 1014).

    Attributes:
        data: counts (N,), or (B, N) of as many images as there are expectations.
        gaussian_variance: variance of the Gaussian noise in a pixel, counts squared; or (B, 1).
    """

    data: Tensor
    gaussian_variance: float | Tensor = 0.0

    def deviance(self, expected: Tensor) -> Tensor:
        """Compute -2 ln L (B,) of expectations (B, N), up to a constant of the data."""
        d = (self.data + self.gaussian_variance).clamp_min(0)
        m = expected + self.gaussian_variance
        return 2 * (m - d + torch.xlogy(d, d / m)).sum(dim=1)

    def score(self, expected: Tensor) -> Tensor:
        """Compute (data - expectation) / variance, the derivative of ln L by the expectation."""
        return (self.data - expected) * self.inverse_variance(expected)

    def inverse_variance(self, expected: Tensor) -> Tensor:
        """Compute 1 / variance, the Fisher information of a pixel on its expectation."""
        return 1 / (expected + self.gaussian_variance)

    def reduced_chi2_std(self, expected: Tensor) -> float:
        """Standard deviation of the reduced chi-square, from the fourth moment of the noise."""
        per_pixel = 2 + expected / (expected + self.gaussian_variance) ** 2
        return float(per_pixel.sum().sqrt() / per_pixel.numel())


@dataclass(frozen=True)
class GaussianLikelihood:
    """Likelihood of pixels in an unknown unit: Gaussian noise with one standard deviation.

    Attributes:
        data: pixels (N,).
        sigma: standard deviation of the noise.
    """

    data: Tensor
    sigma: float

    def deviance(self, expected: Tensor) -> Tensor:
        """Compute the chi-square (B,) of expectations (B, N)."""
        return (((self.data - expected) / self.sigma) ** 2).sum(dim=1)

    def score(self, expected: Tensor) -> Tensor:
        """Compute (data - expectation) / variance, the derivative of ln L by the expectation."""
        return (self.data - expected) / self.sigma**2

    def inverse_variance(self, expected: Tensor) -> Tensor:
        """Compute 1 / variance, the Fisher information of a pixel on its expectation."""
        return torch.full_like(expected, self.sigma**-2)

    def reduced_chi2_std(self, expected: Tensor) -> float:
        """Standard deviation of the reduced chi-square."""
        return float((2 / expected.numel()) ** 0.5)


Likelihood = PoissonLikelihood | GaussianLikelihood


def with_larger_pixels(preset: Preset, binning: int, supersampling: int) -> Preset:
    """Return a preset with larger pixels, each the mean of `binning` x `binning` of its own.

    Args:
        preset: to change.
        binning: number of its pixels along a side of a new one.
        supersampling: rays along a side of a new pixel.
    """
    spec = preset.image
    return _with_image(
        preset,
        pixels=spec.pixels // binning,
        pixel_scale=spec.pixel_scale * binning,
        supersampling=supersampling,
    )


def sum_pixels(data: Tensor, binning: int) -> Tensor:
    """Sum over squares of pixels and flatten.

    Args:
        data: (H, W), both multiples of `binning`.
        binning: pixels along a side of a square.
    """
    pooled: Tensor = functional.avg_pool2d(data[None, None], binning) * binning**2
    return pooled.flatten()


def _with_image(preset: Preset, **changes: float) -> Preset:
    """Return a preset with another detector."""
    return preset.model_copy(update={"image": preset.image.model_copy(update=changes)})


def _convolve_gaussian(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve each image (B, H, W) with a Gaussian of its own width (B,), in pixels."""
    kernel = gaussian_kernel(sigma, images.shape[-1] - 1)[:, None]
    padded = functional.pad(images[None], (kernel.shape[-1] // 2,) * 4, mode="replicate")
    count = len(images)
    rows = functional.conv2d(padded, kernel[:, :, None, :], groups=count)
    return functional.conv2d(rows, kernel[:, :, :, None], groups=count)[0]
