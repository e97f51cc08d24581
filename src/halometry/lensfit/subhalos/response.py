"""Linear response of an image to subhalos, rendered once on a grid of positions and masses.

The image is taken as the sum of the responses to single subhalos, of which the part that lens,
shear and source can explain is removed. The likelihood of any number of subhalos then needs no
rendering, only products of responses with one another and with the residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from halometry.lensfit.likelihood import Model
from halometry.lensfit.linear import project_out
from halometry.lensfit.observation import FitData
from halometry.lensfit.optimize import Optimum, covariance
from halometry.lensfit.subhalos.priors import SubhaloPrior
from halometry.simulation.lenses import SOFTENING, deflection
from halometry.simulation.light import source_light
from halometry.simulation.render import bin_pixels, convolve_psf, pixel_axes
from halometry.simulation.scene import Scene

GRID_SPACING_ARCSEC = 0.1  # of the positions at which responses are rendered
MASS_RATIO = 4.0  # of neighboring masses at which responses are rendered
# Einstein radius of a subhalo, over the width of a point's image, below which its response is
# linear in the mass.
MAX_LINEAR_RADIUS_WIDTHS = 0.5
# Size of a pair of pixels, over the width of a point's image, up to which pixels are binned by 2.
MAX_BINNED_PIXEL_WIDTHS = 1.2
# Part of the Fisher information on the source's position that is lost with the outer pixels.
MAX_INFORMATION_LOSS = 1e-2
REPLACE_DISTANCE_ARCSEC = 0.25  # within it a subhalo may be a held one that moved


@dataclass(frozen=True)
class LinearResponse:
    """Linear response of an image to subhalos, as products of responses at nodes.

    A node is one of K positions with one of M masses. All responses are those to a unit of mass
    (the mass of the halo), in units of the noise, without the part that the lens can explain.

    Attributes:
        grid_index: index of the position at each point of a grid around the lens, or -1 (n, n).
        masses: over the mass of the halo, ascending (M,).
        products: of the responses of all pairs of nodes (K M, K M); masses vary fastest.
        projection: products of the responses with the data less the fitted lens (K M,).
        parameter_shifts: changes of the lens's coordinates that accompany a unit of mass (P, K M).
    """

    grid_index: np.ndarray
    masses: np.ndarray
    products: np.ndarray
    projection: np.ndarray
    parameter_shifts: np.ndarray

    def interpolate(
        self, x: np.ndarray, y: np.ndarray, mass: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Express subhalos (...) as weighted sums of nodes.

        The interpolation is bilinear in the position and linear in the logarithm of the mass.

        Args:
            x, y: positions, arcsec.
            mass: over the mass of the halo.

        Returns:
            Indices of the nodes and their weights, (..., 8) each.
        """
        center = (len(self.grid_index) - 1) / 2
        column, row = x / GRID_SPACING_ARCSEC + center, y / GRID_SPACING_ARCSEC + center
        i, j = np.floor(row).astype(int), np.floor(column).astype(int)
        v, u = row - i, column - j
        corners = [self.grid_index[i + a, j + b] for a in (0, 1) for b in (0, 1)]
        areas = [(v if a else 1 - v) * (u if b else 1 - u) for a in (0, 1) for b in (0, 1)]
        count = len(self.masses)
        with np.errstate(divide="ignore"):
            level = np.log(mass / self.masses[0]) / math.log(MASS_RATIO)
        level = level.clip(0, count - 1)
        lower = np.minimum(level.astype(int), max(count - 2, 0))
        above = level - lower
        upper = np.minimum(lower + 1, count - 1)
        nodes = [corner * count + k for corner in corners for k in (lower, upper)]
        weights = [mass * area * part for area in areas for part in (1 - above, above)]
        return np.stack(nodes, axis=-1), np.stack(weights, axis=-1)


def compute_response(
    model: Model, data: FitData, optimum: Optimum, prior: SubhaloPrior
) -> LinearResponse:
    """Render one more subhalo at each position of a grid and with each mass, beside a fitted lens.

    Close to a heavy subhalo that the lens has already, the response is that of replacing it.

    Args:
        model: at full resolution. The template of its parametrization may have subhalos.
        data: the image.
        optimum: one row, of this model.
        prior: defines the range of positions and masses.
    """
    scene = model.parametrization.scene(optimum.theta).to("cpu", torch.float32)
    window = _ImageWindow(model, data, optimum, scene)
    width = max(window.spec.psf_sigma, window.spec.pixel_scale)
    grid_index, x, y = _position_grid(prior.max_radius)
    masses = [prior.max_fraction]
    while window.radius * masses[0] ** 0.5 > MAX_LINEAR_RADIUS_WIDTHS * width:
        masses.insert(0, masses[0] / MASS_RATIO)
    fraction = (scene.subhalo_mass[0] / scene.halo_mass).numpy()
    subhalo_x, subhalo_y = scene.subhalo_x[0].numpy(), scene.subhalo_y[0].numpy()
    heavy = [
        (mass, px, py)
        for mass, px, py in zip(
            fraction.tolist(), subhalo_x.tolist(), subhalo_y.tolist(), strict=True
        )
        if mass > masses[0] / MASS_RATIO
    ]
    # Deflections of the whole lens, and of the lens without each of its heavy subhalos.
    deflections = [window.deflection]
    deflections += [
        window.deflection - mass * window.point_deflection(px, py) for mass, px, py in heavy
    ]
    images = [window.image(each) for each in deflections]
    rendered = torch.empty(len(x), len(masses), images[0].numel())
    for i, (px, py) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        distances = [math.hypot(px - qx, py - qy) for _, qx, qy in heavy]
        nearest = min(distances, default=math.inf)
        base = 1 + distances.index(nearest) if nearest < REPLACE_DISTANCE_ARCSEC else 0
        point = window.point_deflection(px, py)
        for k, mass in enumerate(masses):
            changed = window.image(deflections[base] + mass * point)
            rendered[i, k] = (changed - images[base]) / mass
    responses = rendered.flatten(0, 1).div_(window.noise)
    covariance_ = covariance(optimum.fisher[0], model.parametrization.steps.to(optimum.theta))
    shifts = covariance_ @ (window.derivatives @ responses.mT).to(covariance_)
    unexplained = project_out(responses[None], window.derivatives[None])[0]
    response = LinearResponse(
        grid_index,
        np.array(masses),
        (unexplained @ unexplained.mT).numpy(),
        (unexplained @ window.residual).double().numpy(),
        shifts.numpy(),
    )
    held = fraction > 0
    nodes, weights = response.interpolate(subhalo_x[held], subhalo_y[held], fraction[held])
    explained = response.products[:, nodes.ravel()] @ weights.ravel()
    return replace(response, projection=response.projection + explained)


class _ImageWindow:
    """Central pixels of an image, which contain its information on subhalos.

    Args:
        model, data, optimum: as in `compute_response`.
        scene: the fitted lens.

    Attributes:
        radius: the Einstein radius, arcsec.
        deflection: of each ray by the whole lens (2, H, W), arcsec.
        noise: of each of n pixels (n,).
        residual: of the pixels, in units of the noise (n,).
        derivatives: by the coordinates, in units of the noise (P, n).
    """

    def __init__(self, model: Model, data: FitData, optimum: Optimum, scene: Scene) -> None:
        fields = model.parametrization.fields(optimum.theta)
        spec = model.preset.image
        if "psf_sigma" in fields:
            spec = spec.model_copy(update={"psf_sigma": float(fields["psf_sigma"][0])})
        self.scene, self.spec, likelihood = scene, spec, data.likelihood(1)
        self.radius = float(scene.einstein_radius[0])
        square = (-1, spec.pixels, spec.pixels)
        variance = (1 / likelihood.inverse_variance(optimum.expected[0])).view(square).float()
        derivatives = optimum.derivatives[0].view(square).float()
        source = model.parametrization.index("source_position")
        gradient = derivatives[source : source + 2]
        low, high = _informative_box(gradient.square().sum(dim=0) / variance[0])
        box = (..., slice(low, high), slice(low, high))
        pair = 2 * spec.pixel_scale
        self.binning = 2 if pair <= MAX_BINNED_PIXEL_WIDTHS * spec.psf_sigma else 1
        self.noise = self._binned(variance[box])[0].sqrt()
        residual = (likelihood.data - optimum.expected[0]).view(square).float()
        self.residual = self._binned(residual[box])[0] / self.noise
        self.derivatives = self._binned(derivatives[box]) / self.noise
        rays = slice(low * spec.supersampling, high * spec.supersampling)
        x, y = pixel_axes(spec, scene.einstein_radius)
        self.x, self.y = x[:, rays], y[rays]
        self.deflection = torch.cat(deflection(scene, self.x, self.y, model.preset.cosmology))

    def point_deflection(self, x: float, y: float) -> Tensor:
        """Compute the deflection (2, H, W) by all of the halo's mass at one point."""
        dx, dy = self.x - x, self.y - y
        strength = self.radius**2 / (dx**2 + dy**2 + SOFTENING**2)
        return torch.stack([strength * dx, strength * dy])

    def image(self, deflection: Tensor) -> Tensor:
        """Compute the counts (n,) of the source's light through a deflection (2, H, W)."""
        light = source_light(self.scene, self.x - deflection[:1], self.y - deflection[1:], None)
        light = bin_pixels(light, self.spec.supersampling)
        return self._binned(self.scene.exposure * convolve_psf(light[:, None], self.spec)[:, 0])[0]

    def _binned(self, images: Tensor) -> Tensor:
        """Sum images (B, H, W) over squares of pixels and flatten them (B, n)."""
        pooled = functional.avg_pool2d(images[None], self.binning)[0]
        return pooled.flatten(1) * self.binning**2


def _informative_box(information: Tensor) -> tuple[int, int]:
    """Return the limits of the smallest central square with nearly all information (H, H)."""
    size = len(information)
    required = (1 - MAX_INFORMATION_LOSS) * float(information.sum())
    for half in range(size // 2, 1, -1):
        inside = slice(size // 2 - half + 1, size - (size // 2 - half + 1))
        if float(information[inside, inside].sum()) < required:
            break
    return size // 2 - half, size - (size // 2 - half)


def _position_grid(max_radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the grid of positions at which responses are rendered.

    All four grid points around any position within the radius are included.

    Args:
        max_radius: largest distance of a subhalo from the lens, arcsec.

    Returns:
        Index of the position at each grid point, or -1 (n, n); x and y of the positions, arcsec
        (K,).
    """
    steps = math.ceil(max_radius / GRID_SPACING_ARCSEC) + 1
    axis = np.arange(-steps, steps + 1) * GRID_SPACING_ARCSEC
    y, x = np.meshgrid(axis, axis, indexing="ij")
    near = np.hypot(x, y) <= max_radius + 1.5 * GRID_SPACING_ARCSEC
    index = np.full(x.shape, -1)
    index[near] = np.arange(near.sum())
    return index, x[near], y[near]
