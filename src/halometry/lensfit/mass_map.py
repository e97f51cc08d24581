"""Gravitational imaging: the mass map that explains the residual of a smooth lens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from halometry.errors import UsageError
from halometry.lensfit.likelihood import Likelihood, Model, PoissonLikelihood, with_larger_pixels
from halometry.lensfit.optimize import damped_step
from halometry.lensfit.parametrization import Parametrization
from halometry.simulation import Preset, draw_scenes
from halometry.simulation.substructure_maps import substructure_mass

MAX_UNBINNED_PIXELS = 96  # along a side; larger images are binned by 2 x 2 pixels
CG_ITERATIONS = 20  # of conjugate gradients; what then remains is mostly noise
PRIOR_SCENES = 1024  # drawn for the mean square mass of a cell
PRIOR_SCENES_WITH_HALOS = 16  # the same for presets with halos, whose scenes take seconds to draw
SCENES_PER_BATCH = 16
RING_WIDTH_ARCSEC = 0.2  # of the rings over which the mean square mass is averaged
MIN_VARIANCE_FRACTION = 1e-3  # smallest prior variance of a cell over the largest


@dataclass(frozen=True)
class MassMapResult:
    """Residuals of smooth lenses and the mass maps that explain them, on a grid of cells.

    Attributes:
        counts: sums over the pixels of a cell (B, h, w).
        residual: (counts - expectation) / noise (B, h, w).
        mass: most likely mass in each cell over the mass of the halo (B, h, w).
    """

    counts: Tensor
    residual: Tensor
    mass: Tensor


class MassMapSolver:
    """Solver for the mass around smooth lenses, to first order in the mass.

    The residual r, in units of the noise, is modeled as E m: E is the linear response of the image
    to a mass m in each cell. A projection P removes what lens, shear and source can explain. With
    a Gaussian prior of variance S for the mass of a cell the most likely map is
    (E^T P E + 1/S)^-1 E^T P r, which is a Wiener filter. E is a convolution with the deflection of
    a point mass times the gradient of the source, so that conjugate gradients need only Fourier
    transforms.

    Args:
        preset: of the images. Its substructure defines the prior.
        parametrization: of the lens.
        mean_square_mass: prior variance, where `compute_mean_square_mass` was called already.

    Raises:
        UsageError: as `compute_mean_square_mass`.

    Reference:
        Koopmans (2005), MNRAS 363, 1136, who maps the potential; Vegetti & Koopmans (2009), MNRAS
        392, 945.
    """

    def __init__(
        self,
        preset: Preset,
        parametrization: Parametrization,
        mean_square_mass: Tensor | None = None,
    ) -> None:
        self.side, self.binning = map_grid(preset)
        self.full_model = Model(preset, parametrization)
        coarse_preset = with_larger_pixels(preset, self.binning, 1)
        self.coarse_model = Model(coarse_preset, parametrization, self.binning)
        self.cell_size = preset.image.pixel_scale * self.binning
        self.mean_square_mass = (
            compute_mean_square_mass(preset) if mean_square_mass is None else mean_square_mass
        )
        offsets = torch.fft.fftfreq(2 * self.side, 1 / (2 * self.side)) * self.cell_size
        y, x = torch.meshgrid(offsets, offsets, indexing="ij")
        square = x**2 + y**2 + (self.cell_size / 2) ** 2
        self.kernel = torch.fft.rfft2(torch.stack([x / square, y / square]))

    def solve_counts(
        self, theta: Tensor, counts: Tensor, gaussian_variance: float | Tensor = 0.0
    ) -> MassMapResult:
        """Map the mass in images of counts, after two steps towards the best smooth lens.

        Args:
            theta: coordinates near the maximum of the likelihood (B, P).
            counts: images (B, H, W).
            gaussian_variance: variance of the Gaussian noise of a pixel, counts squared; or (B, 1).
        """
        area = self.binning**2
        binned: Tensor = functional.avg_pool2d(counts[:, None].to(theta), self.binning) * area
        likelihood = PoissonLikelihood(binned.flatten(1), gaussian_variance * area)
        derivatives = self._derivatives(theta)
        theta = theta + self._step(theta, derivatives, likelihood)
        derivatives = self._derivatives(theta)
        theta = theta + self._step(theta, derivatives, likelihood)
        return self._solve(theta, derivatives, likelihood)

    def solve(self, theta: Tensor, likelihood: Likelihood) -> MassMapResult:
        """Map the mass in images of which the best smooth lens is known.

        Args:
            theta: coordinates of the lenses (B, P).
            likelihood: of the images (B, N), on the grid of the map.
        """
        return self._solve(theta, self._derivatives(theta), likelihood)

    def _solve(self, theta: Tensor, derivatives: Tensor, likelihood: Likelihood) -> MassMapResult:
        parametrization, shape = self.coarse_model.parametrization, (-1, self.side, self.side)
        expected = self._expected(theta)
        noise = likelihood.inverse_variance(expected).rsqrt()
        residual = (likelihood.data - expected) / noise
        responses = derivatives / noise[:, None]
        basis = torch.linalg.qr(responses.mT)[0]
        residual = _project_out_basis(residual, basis)
        source = parametrization.index("source_position")
        fields = parametrization.fields(theta)
        radius = fields.get("einstein_radius", parametrization.template.einstein_radius[:1])
        gradient = responses[:, source : source + 2].view(-1, 2, *shape[1:])
        gradient = gradient * (radius**2)[:, None, None, None]
        mass = self._most_likely_mass(residual, gradient, basis)
        counts = likelihood.data.expand(len(theta), -1)
        return MassMapResult(counts.view(shape), residual.view(shape), mass)

    def _most_likely_mass(self, residual: Tensor, gradient: Tensor, basis: Tensor) -> Tensor:
        """Compute the most likely mass of each cell (B, h, w) by conjugate gradients.

        The linear system is solved for the mass over the prior's standard deviation.

        Args:
            residual: in units of the noise, projected (B, N).
            gradient: of the source, times the squared Einstein radius (B, 2, h, w).
            basis: orthonormal columns that span the derivatives by the lens's parameters (B, N, P).
        """
        width, kernel = self.mean_square_mass.to(residual).sqrt(), self.kernel.to(residual.device)

        def transposed_response(image: Tensor) -> Tensor:
            return width * self._adjoint(image.view(-1, *width.shape), gradient, kernel)

        def matrix(mass: Tensor) -> Tensor:
            change = self._image_change(width * mass, gradient, kernel).flatten(1)
            return mass + transposed_response(_project_out_basis(change, basis))

        return width * conjugate_gradients(matrix, transposed_response(residual), CG_ITERATIONS)

    def _image_change(self, mass: Tensor, gradient: Tensor, kernel: Tensor) -> Tensor:
        """Compute the change of images (B, h, w), in units of the noise, by masses (B, h, w)."""
        size = (2 * self.side, 2 * self.side)
        deflection = torch.fft.irfft2(torch.fft.rfft2(mass, s=size)[:, None] * kernel, s=size)
        return (deflection[..., : self.side, : self.side] * gradient).sum(dim=1)

    def _adjoint(self, image: Tensor, gradient: Tensor, kernel: Tensor) -> Tensor:
        """Apply the transpose of `_image_change` to images (B, h, w)."""
        size = (2 * self.side, 2 * self.side)
        spectrum = torch.fft.rfft2(image[:, None] * gradient, s=size) * kernel.conj()
        summed: Tensor = torch.fft.irfft2(spectrum.sum(dim=1), s=size)
        return summed[:, : self.side, : self.side]

    def _expected(self, theta: Tensor) -> Tensor:
        """Compute expectations (B, N) with the full model, binned to cells."""
        side = self.full_model.preset.image.pixels
        full = self.full_model.expected(theta).view(-1, 1, side, side)
        pooled: Tensor = functional.avg_pool2d(full, self.binning) * self.binning**2
        return pooled.flatten(1)

    def _derivatives(self, theta: Tensor) -> Tensor:
        """Compute the derivatives of the expectations (B, P, N), with one ray per cell."""
        return self.coarse_model.linearized(theta)[1]

    def _step(self, theta: Tensor, derivatives: Tensor, likelihood: Likelihood) -> Tensor:
        """Compute one undamped step of Fisher scoring (B, P)."""
        steps = self.coarse_model.parametrization.steps.to(theta)
        undamped = torch.zeros_like(theta[:, 0])
        return damped_step(likelihood, self._expected(theta), derivatives, undamped, steps)[0]


def _project_out_basis(images: Tensor, basis: Tensor) -> Tensor:
    """Remove the components along orthonormal columns (B, N, P) from images (B, N)."""
    return images - (basis @ (basis.mT @ images[:, :, None]))[:, :, 0]


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], right: Tensor, iterations: int
) -> Tensor:
    """Solve A x = b for each system of a batch, for symmetric and positive definite A.

    Args:
        matrix: function from x to A x.
        right: b (B, ...).
        iterations: number of iterations.

    Reference:
        Hestenes & Stiefel (1952), J. Res. NBS 49, 409.
    """

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)

    x, residual, direction = torch.zeros_like(right), right, right
    square = product(residual, residual)
    tiny = torch.finfo(right.dtype).tiny
    for _ in range(iterations):
        image = matrix(direction)
        step = square / product(direction, image).clamp_min(tiny)
        x, residual = x + step * direction, residual - step * image
        previous, square = square, product(residual, residual)
        direction = residual + square / previous.clamp_min(tiny) * direction
    return x


def compute_mean_square_mass(preset: Preset) -> Tensor:
    """Compute the mean square of the mass in a cell, as a function of its distance from the lens.

    The mean is over scenes of the preset that have substructure.

    Returns:
        Mass over the mass of the halo, squared (h, w).

    Raises:
        UsageError: no scene has substructure.
    """
    side, width = map_grid(preset)[0], preset.image.pixels * preset.image.pixel_scale
    total, count = np.zeros((side, side)), 0
    scenes = PRIOR_SCENES if preset.halos is None else PRIOR_SCENES_WITH_HALOS
    for first in range(0, scenes, SCENES_PER_BATCH):
        scene = draw_scenes(preset, 0, first, SCENES_PER_BATCH)
        masses = substructure_mass(scene.parameters(), width, (side, side))
        total += np.square(masses, dtype=np.float64).sum(axis=0)
        count += int(masses.any(axis=(1, 2)).sum())
    if not count:
        raise UsageError(
            f"preset {preset.name} has no substructure, whose distribution is the prior of a mass"
            " map; give a preset that has"
        )
    position = (np.arange(side) - (side - 1) / 2) * (width / side)
    distance = np.hypot(position[:, None], position[None, :])
    ring = np.floor(distance / max(RING_WIDTH_ARCSEC, width / side)).astype(int)
    cells = np.bincount(ring.ravel()).clip(1)
    mean = np.bincount(ring.ravel(), total.ravel()) / cells / count
    return torch.from_numpy(np.maximum(mean, MIN_VARIANCE_FRACTION * mean.max())[ring])


def map_grid(preset: Preset) -> tuple[int, int]:
    """Return the cells along a side of a preset's mass maps, and the pixels along a cell's side."""
    spec = preset.image
    halved = spec.pixels > MAX_UNBINNED_PIXELS and spec.pixels % 2 == 0 and spec.kernel is None
    return (spec.pixels // 2, 2) if halved else (spec.pixels, 1)
