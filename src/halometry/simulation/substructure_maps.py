"""Maps of the convergence of substructure, and of its mass in the cells of a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from halometry.simulation.preset import Preset
from halometry.simulation.profiles import mass_fraction_tnfw
from halometry.simulation.render import pixel_grid
from halometry.simulation.scene import Scene

SMOOTHING_ARCSEC = 0.08  # standard deviation; makes point masses visible
VORTEX_POINTS = 64  # points that represent a vortex in `substructure_mass`


def substructure_map(scene: Scene, preset: Preset) -> Tensor:
    """Compute maps of the convergence of substructure, for figures.

    Args:
        scene: B lenses of the preset.
        preset: gives the pixels.

    Returns:
        Convergence at the pixels' centers (B, H, W), smoothed with `SMOOTHING_ARCSEC`.
    """
    pixels = preset.image.model_copy(update={"supersampling": 1})
    return substructure_convergence(scene, *pixel_grid(pixels, scene.f_sub), SMOOTHING_ARCSEC)


def substructure_convergence(scene: Scene, x: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Compute the convergence of subhalos and vortices, convolved with a Gaussian.

    Point masses and lines are smoothed exactly. A truncated NFW halo is not convolved: smoothing is
    added to the distance from its center in quadrature. Halos at other redshifts are shown as
    halos of the same mass in the lens plane.

    Args:
        scene: B lenses.
        x, y: positions (H, W), arcsec.
        smoothing: standard deviation of the Gaussian, arcsec.

    Returns:
        Convergence (B, H, W): surface density over the critical surface density.
    """
    maps = [
        _convergence_of_scene(scene.rows(slice(k, k + 1)), x, y, smoothing)
        for k in range(len(scene))
    ]
    return torch.stack(maps)


def _convergence_of_scene(scene: Scene, x: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Convergence (H, W) of the substructure of one lens."""
    total = torch.zeros_like(x)
    radius = scene.subhalo_radius[0]
    for i in torch.nonzero(scene.subhalo_mass[0] > 0)[:, 0].tolist():
        dx, dy = x - scene.subhalo_x[0, i], y - scene.subhalo_y[0, i]
        r2 = dx**2 + dy**2
        scale = float(scene.subhalo_scale_radius[0, i])
        if scale == 0:  # a point mass of Einstein radius R has the mass pi R^2
            total = total + radius[i] ** 2 / (2 * smoothing**2) * _gaussian(r2, smoothing)
        else:
            tau = float(scene.subhalo_truncation_radius[0, i]) / scale
            total = total + radius[i] ** 2 * _tnfw_convergence(
                (r2 + smoothing**2).sqrt(), scale, tau
            )
    if float(scene.vortex_mass[0]) > 0:
        total = total + _vortex_convergence(scene, x, y, smoothing)
    return total


def _gaussian(r2: Tensor, sigma: float) -> Tensor:
    """Gaussian with a maximum of 1, as a function of the squared radius."""
    return torch.exp(-0.5 * r2 / sigma**2)


def _vortex_convergence(scene: Scene, x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """Convergence of a line convolved with a Gaussian: Gaussian across, error functions along."""
    cos, sin = torch.cos(scene.vortex_angle[0]), torch.sin(scene.vortex_angle[0])
    dx, dy = x - scene.vortex_x[0], y - scene.vortex_y[0]
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    half, length = scene.vortex_length[0] / 2, scene.vortex_length[0]
    root = math.sqrt(2) * sigma
    ends = torch.erf((along + half) / root) - torch.erf((along - half) / root)
    per_length = math.pi * scene.vortex_radius[0] ** 2 / length
    return per_length * ends / 2 * _gaussian(across**2, sigma) / (math.sqrt(2 * math.pi) * sigma)


def _tnfw_convergence(r: Tensor, scale: float, tau: float) -> Tensor:
    """Convergence of a truncated NFW halo of mass pi, by the derivative of its enclosed mass."""
    r = r.detach().requires_grad_()
    with torch.enable_grad():
        fraction = mass_fraction_tnfw(r, torch.tensor(scale), torch.tensor(tau)).sum()
    (slope,) = torch.autograd.grad(fraction, r)
    return slope / (2 * r.detach())


def substructure_mass(
    parameters: Mapping[str, np.ndarray], side: float, cells: tuple[int, int]
) -> np.ndarray:
    """Compute the mass of substructure in each cell of a grid, as a fraction of the halo's mass.

    Args:
        parameters: parameters of B scenes, as in `Scene.parameters` and in stored datasets.
        side: width of the image, arcsec; cells are square.
        cells: number of rows h and of columns w.

    Returns:
        Mass fractions (B, h, w), float32; substructure outside of the image is not counted.

    Example:
        >>> from halometry.simulation import draw_scenes, load_preset
        >>> scene = draw_scenes(load_preset("halo_mass"), seed=1, start=0, count=1)
        >>> total = substructure_mass(scene.parameters(), side=7.5, cells=(19, 19)).sum()
        >>> bool(abs(total - scene.f_sub.item()) < 1e-6)
        True
    """
    halo = parameters["halo_mass"][:, None]
    steps = (np.arange(VORTEX_POINTS) + 0.5) / VORTEX_POINTS - 0.5
    along = parameters["vortex_length"][:, None] * steps
    angle = parameters["vortex_angle"][:, None]
    line = np.broadcast_to(parameters["vortex_mass"][:, None] / VORTEX_POINTS, along.shape)
    x = np.hstack(
        [parameters["subhalo_x"], parameters["vortex_x"][:, None] + along * np.cos(angle)]
    )
    y = np.hstack(
        [parameters["subhalo_y"], parameters["vortex_y"][:, None] + along * np.sin(angle)]
    )
    fraction = np.hstack([parameters["subhalo_mass"], line]) / halo
    rows, columns = cells
    cell = side / columns
    column = np.floor(x / cell + columns / 2).astype(np.int64)
    row = np.floor(y / cell + rows / 2).astype(np.int64)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    image = np.broadcast_to(np.arange(len(x))[:, None], x.shape)
    total = np.zeros((len(x), rows, columns), np.float32)
    np.add.at(total, (image[inside], row[inside], column[inside]), fraction[inside])
    return total
