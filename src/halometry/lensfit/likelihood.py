"""The expected image of fitted parameters, its derivatives, and its agreement with data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from halometry.lensfit.parametrization import Parametrization
from halometry.simulation import render
from halometry.simulation.preset import Preset
from halometry.simulation.render import gaussian_kernel

DIFFERENCE_STEP_FRACTION = (
    1e-6  # of a coordinate's largest step, over which differences are derivatives
)
MIN_EXPECTED_COUNTS = 1e-3  # counts, below which no pixel's expectation falls


@dataclass(frozen=True)
class Model:
    """From coordinates to expected pixels.

    Attributes:
        preset: with the detector to render for.
        layout: of the coordinates.
        binning: how many pixels of the data, along a side, make one of `preset`'s.
        kept: derivatives (n, N) of the first n coordinates where these are not worth taking anew.
    """

    preset: Preset
    parametrization: Parametrization
    binning: int = 1
    fixed_derivatives: Tensor | None = None

    def expected(self, theta: Tensor) -> Tensor:
        """The pixels' expectations of coordinates (B, P): (B, N)."""
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
        """Expectations (B, N) and their derivatives (B, P, N), of coordinates in float64.

        By differences over steps so short that they lose 1e-4 at most, by cusps: rendering once
        more costs a fraction of carrying derivatives through the renderer, in either mode. Those of
        a line's or point mass' place are over a pixel, to both sides, since what happens at the
        rays misses what happens between them.
        """
        assert theta.dtype == torch.float64, "steps are too short for less"
        first = 0 if self.fixed_derivatives is None else len(self.fixed_derivatives)
        wide = self.parametrization.wide_steps(self.preset.image.pixel_scale / self.binning / 2)
        rough = [i for i in wide if i >= first]
        smooth = [i for i in range(first, theta.shape[1]) if i not in rough]
        expected = self.expected(theta)
        steps = self.parametrization.steps.to(theta)
        # A coordinate without a largest step is one that pixels are linear in, of their unit.
        over = torch.where(steps.isinf(), expected.abs().max(), DIFFERENCE_STEP_FRACTION * steps)
        over[rough] = torch.tensor([wide[i] for i in rough]).to(theta)
        ways = torch.diag(over)
        ways = torch.cat([ways[smooth], ways[rough], -ways[rough]])
        images = self.expected((theta[:, None] + ways).flatten(0, 1))
        ends = (len(smooth), len(smooth) + len(rough))
        near, ahead, behind = images.view(len(theta), len(ways), -1).tensor_split(ends, dim=1)
        derivatives = images.new_empty(len(theta), theta.shape[1], images.shape[1])
        if self.fixed_derivatives is not None:
            derivatives[:, :first] = self.fixed_derivatives
        derivatives[:, smooth] = (near - expected[:, None]) / over[smooth, None]
        derivatives[:, rough] = (ahead - behind) / (2 * over[rough, None])
        return expected, derivatives


@dataclass(frozen=True)
class Resolution:
    """One resolution at which images are fitted."""

    preset: Preset
    binning: int

    def model(self, parametrization: Parametrization) -> Model:
        """Parameters rendered at this resolution."""
        return Model(self.preset, parametrization, self.binning)


@dataclass(frozen=True)
class PoissonLikelihood:
    """Agreement with whole counts: Poisson noise, and Gaussian noise of a known variance.

    With both, data plus variance follow nearly a Poisson law of expectation plus variance, which
    has the right mean and variance (Snyder, Hammoud & White 1993, JOSA A 10, 1014).

    Attributes:
        data: counts (N,), or (B, N) of as many images as there are expectations.
        extra: variance of the Gaussian noise in a pixel, counts squared; or (B, 1).
    """

    data: Tensor
    gaussian_variance: float | Tensor = 0.0

    def deviance(self, expected: Tensor) -> Tensor:
        """-2 ln L up to a constant of the data, (B,) of expectations (B, N)."""
        d, m = (self.data + self.gaussian_variance).clamp_min(0), expected + self.gaussian_variance
        return 2 * (m - d + torch.xlogy(d, d / m)).sum(dim=1)

    def score(self, expected: Tensor) -> Tensor:
        """(data - expectation) / variance, the derivative of ln L by the expectation."""
        return (self.data - expected) * self.inverse_variance(expected)

    def inverse_variance(self, expected: Tensor) -> Tensor:
        """The information a pixel has on its expectation, 1 / variance."""
        return 1 / (expected + self.gaussian_variance)

    def reduced_chi2_std(self, expected: Tensor) -> float:
        """Standard deviation of the reduced chi-square, from the fourth moment of the noise."""
        per_pixel = 2 + expected / (expected + self.gaussian_variance) ** 2
        return float(per_pixel.sum().sqrt() / per_pixel.numel())


@dataclass(frozen=True)
class GaussianLikelihood:
    """Agreement with pixels of an unknown unit: Gaussian noise of one size.

    Attributes:
        data: (N,).
        sigma: the noise's standard deviation.
    """

    data: Tensor
    sigma: float

    def deviance(self, expected: Tensor) -> Tensor:
        """Chi-square, (B,) of expectations (B, N)."""
        return (((self.data - expected) / self.sigma) ** 2).sum(dim=1)

    def score(self, expected: Tensor) -> Tensor:
        """(data - expectation) / variance."""
        return (self.data - expected) / self.sigma**2

    def inverse_variance(self, expected: Tensor) -> Tensor:
        """1 / variance."""
        return torch.full_like(expected, self.sigma**-2)

    def reduced_chi2_std(self, expected: Tensor) -> float:
        """Standard deviation of the reduced chi-square of Gaussian noise."""
        return float((2 / expected.numel()) ** 0.5)


Likelihood = PoissonLikelihood | GaussianLikelihood


def with_larger_pixels(preset: Preset, binning: int, supersampling: int) -> Preset:
    """A preset with larger pixels, which hold the counts of a data pixel on average."""
    spec = preset.image
    return _with_image(
        preset,
        pixels=spec.pixels // binning,
        pixel_scale=spec.pixel_scale * binning,
        supersampling=supersampling,
    )


def bin_pixels(data: Tensor, binning: int) -> Tensor:
    """Sums over squares of pixels, flattened; (H, W) whose sides are multiples of `binning`."""
    pooled: Tensor = functional.avg_pool2d(data[None, None], binning) * binning**2
    return pooled.flatten()


def _with_image(preset: Preset, **changes: float) -> Preset:
    return preset.model_copy(update={"image": preset.image.model_copy(update=changes)})


def _convolve_gaussian(images: Tensor, sigma: Tensor) -> Tensor:
    """Each image (B, H, W) convolved with a Gaussian of its own width (B,), in pixels."""
    kernel = gaussian_kernel(sigma, images.shape[-1] - 1)[:, None]
    padded = functional.pad(images[None], (kernel.shape[-1] // 2,) * 4, mode="replicate")
    count = len(images)
    rows = functional.conv2d(padded, kernel[:, :, None, :], groups=count)
    return functional.conv2d(rows, kernel[:, :, :, None], groups=count)[0]
