"""Gravitational imaging: the map of mass that explains what a smooth lens leaves of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from halometry.errors import UsageError
from halometry.lensfit.likelihood import Likelihood, Model, PoissonLikelihood, with_larger_pixels
from halometry.lensfit.optimize import PRIOR_WIDTH_STEPS, fisher_information
from halometry.lensfit.parametrization import Parametrization
from halometry.simulation import Preset, draw_scenes
from halometry.simulation.substructure_maps import substructure_mass

MAX_UNBINNED_PIXELS = 96  # pixels; the sides of larger images are halved
CG_ITERATIONS = 20  # of conjugate gradients; what they have not settled by then is mostly noise
PRIOR_SCENES, RING_WIDTH_ARCSEC = (
    1024,
    0.2,
)  # scenes, and arcsec, over which the mass of a cell is averaged
PRIOR_SCENES_WITH_HALOS, SCENES_PER_BATCH = (
    16,
    16,
)  # scenes, where drawing one takes seconds; and how many at a time
MIN_VARIANCE_FRACTION = (
    1e-3  # of the largest variance of a cell: one that never holds mass holds some
)


@dataclass(frozen=True)
class MassMapResult:
    """Images as a smooth lens leaves them, on a grid that may be coarser than their own.

    Attributes:
        counts: (B, h, w), sums over the pixels of a cell.
        residual: (B, h, w), what the lens leaves, in units of the noise.
        mass: (B, h, w), share of the halo's mass in each cell that explains it best.
    """

    counts: Tensor
    residual: Tensor
    mass: Tensor


class MassMapSolver:
    """Maps mass around smooth lenses, to first order in the mass.

    The residual r, in units of the noise, is taken as the effect E of a mass m in each cell, what
    lens, shear and source could do as well taken out by a projection P. With a Gaussian prior of
    variance S for the mass of a cell the map is (E^T P E + 1/S)^-1 E^T P r: the most likely one,
    which a Wiener filter gives. E is a convolution with a point mass' deflection, times the
    source's slope, so that conjugate gradients need Fourier transforms alone.

    Args:
        preset: of the images, with substructure, whose mean square mass is the prior's variance.
        layout: of the lens' coordinates.
        allowed: what `mean_square_mass` says of the preset, where that is known already.

    Raises:
        UsageError: as `mean_square_mass`.

    Reference:
        Koopmans (2005), MNRAS 363, 1136, who maps the potential; Vegetti & Koopmans (2009), MNRAS
        392, 945.
    """

    def __init__(
        self, preset: Preset, layout: Parametrization, allowed: Tensor | None = None
    ) -> None:
        self.side, self.binning = map_grid(preset)
        self.full_model = Model(preset, layout)
        self.coarse_model = Model(with_larger_pixels(preset, self.binning, 1), layout, self.binning)
        self.cell_size = preset.image.pixel_scale * self.binning
        self.mean_square_mass = compute_mean_square_mass(preset) if allowed is None else allowed
        offsets = torch.fft.fftfreq(2 * self.side, 1 / (2 * self.side)) * self.cell_size
        y, x = torch.meshgrid(offsets, offsets, indexing="ij")
        square = x**2 + y**2 + (self.cell_size / 2) ** 2
        self.kernel = torch.fft.rfft2(torch.stack([x / square, y / square]))

    def solve_counts(
        self, theta: Tensor, counts: Tensor, extra: float | Tensor = 0.0
    ) -> MassMapResult:
        """Images of counts from lenses near the maximum of their likelihood.

        Args:
            theta: coordinates (B, P).
            counts: (B, H, W).
            extra: variance of the Gaussian noise of a pixel, counts squared; (B, 1) of each image.
        """
        area = self.binning**2
        binned: Tensor = functional.avg_pool2d(counts[:, None].to(theta), self.binning) * area
        likelihood = PoissonLikelihood(binned.flatten(1), extra * area)
        derivatives = self._derivatives(theta)
        theta = theta + self._step(theta, derivatives, likelihood)
        derivatives = self._derivatives(theta)
        theta = theta + self._step(theta, derivatives, likelihood)
        return self._solve(theta, derivatives, likelihood)

    def solve(self, theta: Tensor, likelihood: Likelihood) -> MassMapResult:
        """What lenses at (B, P) leave of images (B, N) on the imager's grid, and its map."""
        return self._solve(theta, self._derivatives(theta), likelihood)

    def _solve(self, theta: Tensor, derivatives: Tensor, likelihood: Likelihood) -> MassMapResult:
        expected = self._expected(theta)
        noise = likelihood.inverse_variance(expected).rsqrt()
        left = (likelihood.data - expected) / noise
        responses = derivatives / noise[:, None]
        basis = torch.linalg.qr(responses.mT)[0]
        left = _project_out_basis(left, basis)
        at, shape = (
            self.coarse_model.parametrization.index("source_position"),
            (len(theta), self.side, self.side),
        )
        fields = self.coarse_model.parametrization.fields(theta)
        radius = fields.get(
            "einstein_radius", self.coarse_model.parametrization.template.einstein_radius[:1]
        )
        slope = responses[:, at : at + 2].view(-1, 2, *shape[1:]) * (radius**2)[:, None, None, None]
        mass = self._most_likely_mass(left, slope, basis)
        counts = likelihood.data.expand(len(theta), -1)
        return MassMapResult(counts.view(shape), left.view(shape), mass)

    def _most_likely_mass(self, left: Tensor, slope: Tensor, basis: Tensor) -> Tensor:
        """The mass of each cell (B, h, w) by conjugate gradients, in units of the prior's width."""
        width, kernel = self.mean_square_mass.to(left).sqrt(), self.kernel.to(left.device)

        def gathered(image: Tensor) -> Tensor:
            return width * self._adjoint(image.view(-1, *width.shape), slope, kernel)

        def curved(mass: Tensor) -> Tensor:
            effect = self._image_change(width * mass, slope, kernel).flatten(1)
            return mass + gathered(_project_out_basis(effect, basis))

        return width * conjugate_gradients(curved, gathered(left), CG_ITERATIONS)

    def _image_change(self, mass: Tensor, slope: Tensor, kernel: Tensor) -> Tensor:
        """How masses (B, h, w) change the images, in units of the noise (B, h, w)."""
        size = (2 * self.side, 2 * self.side)
        moved = torch.fft.irfft2(torch.fft.rfft2(mass, s=size)[:, None] * kernel, s=size)
        return (moved[..., : self.side, : self.side] * slope).sum(dim=1)

    def _adjoint(self, image: Tensor, slope: Tensor, kernel: Tensor) -> Tensor:
        """The transpose of `_effect`."""
        size = (2 * self.side, 2 * self.side)
        pulled = torch.fft.rfft2(image[:, None] * slope, s=size) * kernel.conj()
        summed: Tensor = torch.fft.irfft2(pulled.sum(dim=1), s=size)
        return summed[:, : self.side, : self.side]

    def _expected(self, theta: Tensor) -> Tensor:
        """Expectations (B, N) as the full model has them."""
        side = self.full_model.preset.image.pixels
        fine = self.full_model.expected(theta).view(-1, 1, side, side)
        pooled: Tensor = functional.avg_pool2d(fine, self.binning) * self.binning**2
        return pooled.flatten(1)

    def _derivatives(self, theta: Tensor) -> Tensor:
        """Of the expectations (B, P, N), from one ray a cell."""
        return self.coarse_model.linearized(theta)[1]

    def _step(self, theta: Tensor, derivatives: Tensor, likelihood: Likelihood) -> Tensor:
        """A step of Fisher scoring, cut where it is longer than a coordinate's largest."""
        expected, steps = self._expected(theta), self.coarse_model.parametrization.steps.to(theta)
        fisher = fisher_information(derivatives, likelihood.inverse_variance(expected))
        gradient = derivatives @ likelihood.score(expected)[:, :, None]
        step = torch.linalg.solve(fisher + torch.diag((PRIOR_WIDTH_STEPS * steps) ** -2), gradient)[
            :, :, 0
        ]
        return step / (step.abs() / steps).amax(dim=1, keepdim=True).clamp_min(1)


def _project_out_basis(images: Tensor, basis: Tensor) -> Tensor:
    """Images (B, N) without what lies along orthonormal columns (B, N, P)."""
    return images - (basis @ (basis.mT @ images[:, :, None]))[:, :, 0]


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], right: Tensor, iterations: int
) -> Tensor:
    """Solve A x = b for each of a batch (B, ...), A symmetric and positive (Hestenes & Stiefel).

    Args:
        matrix: x to A x.
        right: b.
        iterations: how many.
    """

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)

    x, left, way = torch.zeros_like(right), right, right
    square = product(left, left)
    tiny = torch.finfo(right.dtype).tiny
    for _ in range(iterations):
        along = matrix(way)
        far = square / product(way, along).clamp_min(tiny)
        x, left = x + far * way, left - far * along
        before, square = square, product(left, left)
        way = left + square / before.clamp_min(tiny) * way
    return x


def compute_mean_square_mass(preset: Preset) -> Tensor:
    """The mean square of the mass in a cell, at each distance from the lens (h, w).

    Of images of a preset that have substructure; shares of the halo's mass.

    Raises:
        UsageError: none of them has.
    """
    side, width = map_grid(preset)[0], preset.image.pixels * preset.image.pixel_scale
    total, count = np.zeros((side, side)), 0
    for first in range(
        0, PRIOR_SCENES if preset.halos is None else PRIOR_SCENES_WITH_HALOS, SCENES_PER_BATCH
    ):
        scene = draw_scenes(preset, 0, first, SCENES_PER_BATCH)
        masses = substructure_mass(scene.parameters(), width, (side, side))
        total += np.square(masses, dtype=np.float64).sum(axis=0)
        count += int(masses.any(axis=(1, 2)).sum())
    if not count:
        raise UsageError(
            f"preset {preset.name} has no substructure, whose law would say how much mass a place"
            " may hold; give one that has"
        )
    at = (np.arange(side) - (side - 1) / 2) * (width / side)
    ring = np.floor(
        np.hypot(at[:, None], at[None, :]) / max(RING_WIDTH_ARCSEC, width / side)
    ).astype(int)
    cells = np.bincount(ring.ravel()).clip(1)
    mean = np.bincount(ring.ravel(), total.ravel()) / cells / count
    return torch.from_numpy(np.maximum(mean, MIN_VARIANCE_FRACTION * mean.max())[ring])


def map_grid(preset: Preset) -> tuple[int, int]:
    """Cells along a side of a preset's maps, and pixels along a side of a cell."""
    spec = preset.image
    halved = spec.pixels > MAX_UNBINNED_PIXELS and spec.pixels % 2 == 0 and spec.kernel is None
    return (spec.pixels // 2, 2) if halved else (spec.pixels, 1)
