"""Deflection angles of whole scenes, in one plane or through many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from caustics.lenses.func import reduced_deflection_angle_external_shear
from torch import Tensor

from halometry.simulation.cosmology import DEFAULT_COSMOLOGY, Cosmology, distances, einstein_radius
from halometry.simulation.profiles import (
    mass_fraction_tnfw,
    reduced_deflection_angle_epl,
    reduced_deflection_angle_line,
    reduced_deflection_angle_multipole,
    reduced_deflection_angle_sie,
    reduced_deflection_angle_sis,
)
from halometry.simulation.scene import MIN_MASS_FRACTION, Scene

SOFTENING = 1e-5  # arcsec; keeps the centers of singular profiles finite
MIN_ROUND_AXIS_RATIO = 0.9999  # axis ratio above which an ellipsoid is taken as a sphere
MIN_SERIES_TERMS = 8  # of the power law's series
MAX_BATCHED_OFFSETS = (
    20_000  # differences between positions and subhalos; more would not fit caches
)
PLANE_TOLERANCE = 1e-6  # in redshift

Deflection = tuple[Tensor, Tensor]


def deflection(
    scene: Scene, x: Tensor, y: Tensor, cosmology: Cosmology = DEFAULT_COSMOLOGY
) -> Deflection:
    """The whole deflection of each scene of a batch, to the source's plane.

    Args:
        scene: B lenses.
        x, y: where, arcsec, together (H, W): (H, W) each, or a row (1, W) and a column (H, 1).
        cosmology: for halos before and behind the lens.

    Returns:
        Both components (B, H, W), arcsec.
    """
    off_plane = (scene.subhalo_z - scene.z_lens[:, None]).abs() > PLANE_TOLERANCE
    if bool((off_plane & (scene.subhalo_mass > 0)).any()):
        each = [
            _through_planes(scene.rows(slice(k, k + 1)), x, y, cosmology) for k in range(len(scene))
        ]
        return torch.cat([ax for ax, _ in each]), torch.cat([ay for _, ay in each])
    ax, ay = _main_plane(scene, x, y)
    for chosen, part in (
        ((scene.subhalo_mass > 0).any(dim=1), _subhalos),
        (scene.vortex_mass > 0, _vortex),
    ):
        ax, ay = _add_where_present(chosen, part, scene, x, y, (ax, ay))
    return ax, ay


def _add_where_present(
    chosen: Tensor,
    part: Callable[[Scene, Tensor, Tensor], Deflection],
    scene: Scene,
    x: Tensor,
    y: Tensor,
    total: Deflection,
) -> Deflection:
    """Add a part to those images that have it; x and y are of two dimensions or (B, H, W)."""
    if bool(chosen.all()):
        bx, by = part(scene, x, y)
        return total[0] + bx, total[1] + by
    which = torch.nonzero(chosen)[:, 0]
    if not len(which):
        return total
    at = (x, y) if x.ndim == 2 else (x[which], y[which])
    bx, by = part(scene.rows(which), *at)
    return total[0].index_add(0, which, bx), total[1].index_add(0, which, by)


def _main_plane(scene: Scene, x: Tensor, y: Tensor) -> Deflection:
    """The main lens with its shear and multipoles."""
    ax, ay = _main_lens(scene, x, y)
    gamma_1 = _column(scene.shear * torch.cos(2 * scene.shear_angle))
    gamma_2 = _column(scene.shear * torch.sin(2 * scene.shear_angle))
    zero = torch.zeros_like(gamma_1)
    bx, by = reduced_deflection_angle_external_shear(zero, zero, gamma_1, gamma_2, x, y)
    ax, ay = ax + bx, ay + by
    for order, amplitude, angle in (
        (3, scene.multipole_3, scene.multipole_3_angle),
        (4, scene.multipole_4, scene.multipole_4_angle),
    ):
        if bool((amplitude != 0).any()):
            strength = _column(amplitude * scene.einstein_radius)
            bx, by = reduced_deflection_angle_multipole(
                zero, zero, order, strength, _column(angle), x, y, SOFTENING
            )
            ax, ay = ax + bx, ay + by
    return ax, ay


def _main_lens(scene: Scene, x: Tensor, y: Tensor) -> Deflection:
    radius = _column(scene.einstein_radius)
    zero = torch.zeros_like(radius)
    if bool((scene.lens_slope != 2).any()):
        q = _column(scene.lens_axis_ratio)
        phi, t = _column(scene.lens_position_angle), _column(scene.lens_slope - 1)
        terms = _epl_terms(float(q.min()), min(1e-8, torch.finfo(q.dtype).eps))
        return reduced_deflection_angle_epl(zero, zero, q, phi, radius, t, x, y, terms, SOFTENING)
    if bool((scene.lens_axis_ratio > MIN_ROUND_AXIS_RATIO).all()):
        ax, ay = reduced_deflection_angle_sis(zero, zero, radius, x, y, SOFTENING)
        return ax, ay
    q = _column(
        scene.lens_axis_ratio.clamp(max=MIN_ROUND_AXIS_RATIO)
    )  # its formula divides by 1 - q^2
    phi = _column(scene.lens_position_angle)
    ax, ay = reduced_deflection_angle_sie(zero, zero, q, phi, radius, x, y, SOFTENING)
    return ax, ay


def _epl_terms(axis_ratio: float, max_remainder: float) -> int:
    """How many terms of the series in (1 - q) / (1 + q) leave a rest at most."""
    f = (1 - axis_ratio) / (1 + axis_ratio)
    return max(
        MIN_SERIES_TERMS, math.ceil(math.log(max_remainder) / math.log(max(f, max_remainder)))
    )


def _subhalos(scene: Scene, x: Tensor, y: Tensor) -> Deflection:
    """The sum over subhalos in the lens plane, one at a time, empty places left out."""
    return _sum_of_subhalos(scene, scene.subhalo_radius, x, y)


def _sum_of_subhalos(scene: Scene, radius: Tensor, x: Tensor, y: Tensor) -> Deflection:
    order = scene.subhalo_mass.argsort(dim=1, descending=True)
    order = order[:, : int((scene.subhalo_mass > 0).sum(dim=1).max())]
    extended = bool((scene.subhalo_scale_radius > 0).any())
    total: Deflection | None = None
    # Differences along an axis are made for many at once, those of whole images for one.
    for some in order.split(max(1, MAX_BATCHED_OFFSETS // x.numel()), dim=1):
        x0, y0, scale, cut = (
            values.gather(1, some)[:, :, None, None]
            for values in (
                scene.subhalo_x,
                scene.subhalo_y,
                scene.subhalo_scale_radius,
                scene.subhalo_truncation_radius,
            )
        )
        dx, dy = x.unsqueeze(-3) - x0, y.unsqueeze(-3) - y0
        mass = radius.gather(1, some)[:, :, None, None] ** 2
        parts = (dx**2 + SOFTENING**2, dy**2, mass * dx, mass * dy, scale, cut)
        for dx2, dy2, to_x, to_y, one, end in zip(*(t.unbind(1) for t in parts), strict=True):
            r2 = dx2 + dy2
            strength = _enclosed_fraction(r2, one, end) / r2 if extended else r2.reciprocal_()
            if total is None:
                total = to_x * strength, to_y * strength
            else:  # in place, which no derivative minds: it needs the factors, not the sum
                total[0].addcmul_(to_x, strength)
                total[1].addcmul_(to_y, strength)
    assert total is not None
    return total


def _enclosed_fraction(r2: Tensor, scale: Tensor, cut: Tensor) -> Tensor:
    """The share of a halo's mass within a distance; 1 for a point."""
    point = scale == 0
    scale = torch.where(point, 1.0, scale)
    tau = torch.where(point, 1.0, cut) / scale
    return torch.where(point, 1.0, mass_fraction_tnfw(r2.sqrt(), scale, tau))


def _vortex(scene: Scene, x: Tensor, y: Tensor) -> Deflection:
    return reduced_deflection_angle_line(
        _column(scene.vortex_x),
        _column(scene.vortex_y),
        _column(scene.vortex_angle),
        _column(scene.vortex_length),
        _column(scene.vortex_radius),
        x,
        y,
        SOFTENING,
    )


def _through_planes(scene: Scene, x: Tensor, y: Tensor, cosmology: Cosmology) -> Deflection:
    """One lens whose halos lie at many redshifts: rays bent at each plane in turn.

    A ray at theta meets plane j at theta - sum over the planes i before it of b_ij alpha_i, with
    alpha_i the deflection reduced to the source and b_ij = D_ij D_s / (D_j D_is) (Schneider,
    Ehlers & Falco 1992, eq. 9.7 and 9.10).
    """
    z_lens, z_source = float(scene.z_lens[0]), float(scene.z_source[0])
    z = scene.subhalo_z[0].double().cpu().numpy().round(6)
    present = (scene.subhalo_mass[0] > 0).cpu().numpy() & (z < z_source - PLANE_TOLERANCE)
    z = np.where(np.abs(z - z_lens) < PLANE_TOLERANCE, round(z_lens, 6), z)
    planes = sorted({round(z_lens, 6), *z[present].tolist()})
    bent: list[tuple[float, Tensor, Tensor]] = []
    for plane in planes:
        at_x, at_y = x[None], y[None]
        for before, ax, ay in bent:
            share = _coupling(before, plane, z_source, cosmology)
            at_x, at_y = at_x - share * ax, at_y - share * ay
        ax, ay = torch.zeros_like(at_x), torch.zeros_like(at_y)
        if plane == round(z_lens, 6):
            ax, ay = _main_plane(scene, at_x, at_y)
            ax, ay = _add_where_present(scene.vortex_mass > 0, _vortex, scene, at_x, at_y, (ax, ay))
        here = torch.from_numpy(present & (z == plane)).to(x.device)
        if bool(here.any()):
            bx, by = _deflection_of_plane(scene, here, plane, at_x, at_y, cosmology)
            ax, ay = ax + bx, ay + by
        bent.append((plane, ax, ay))
    ax = torch.stack([ax for _, ax, _ in bent]).sum(dim=0)
    return ax, torch.stack([ay for _, _, ay in bent]).sum(dim=0)


def _deflection_of_plane(
    scene: Scene, here: Tensor, z: float, x: Tensor, y: Tensor, cosmology: Cosmology
) -> Deflection:
    mass = torch.where(here, scene.subhalo_mass, 0.0)
    of_one = float(einstein_radius(1.0, z, float(scene.z_source[0]), which=cosmology))
    radius = of_one * mass.clamp_min(MIN_MASS_FRACTION).sqrt()
    return _sum_of_subhalos(replace(scene, subhalo_mass=mass), radius, x, y)


def _coupling(z_i: float, z_j: float, z_source: float, cosmology: Cosmology) -> float:
    between = distances(z_i, z_j, which=cosmology)
    behind = distances(z_i, z_source, which=cosmology)
    return float(between.between * behind.source / (between.source * behind.between))


def _column(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1), to broadcast against an image."""
    return values[:, None, None]
