"""Deflection angles of scenes, with all mass in one lens plane or in many."""

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
MIN_ROUND_AXIS_RATIO = 0.9999  # above, an ellipsoid is computed as a sphere
MIN_SERIES_TERMS = 8  # of the elliptical power law
MAX_BATCHED_OFFSETS = (
    20_000  # from positions to subhalos, held at a time: more do not fit in caches
)
PLANE_TOLERANCE = 1e-6  # redshift difference below which halos are in one plane

Deflection = tuple[Tensor, Tensor]


def deflection(
    scene: Scene, x: Tensor, y: Tensor, cosmology: Cosmology = DEFAULT_COSMOLOGY
) -> Deflection:
    """Compute the total reduced deflection of each scene of a batch.

    Args:
        scene: B lenses.
        x, y: positions, arcsec; (H, W) each, or a row (1, W) and a column (H, 1).
        cosmology: used for halos in front of and behind the lens.

    Returns:
        Both components (B, H, W), arcsec.
    """
    off_plane = (scene.subhalo_z - scene.z_lens[:, None]).abs() > PLANE_TOLERANCE
    if bool((off_plane & (scene.subhalo_mass > 0)).any()):
        deflections = [
            _through_planes(scene.rows(slice(k, k + 1)), x, y, cosmology) for k in range(len(scene))
        ]
        return torch.cat([ax for ax, _ in deflections]), torch.cat([ay for _, ay in deflections])
    ax, ay = _main_plane(scene, x, y)
    for present, part in (
        ((scene.subhalo_mass > 0).any(dim=1), _subhalos),
        (scene.vortex_mass > 0, _vortex),
    ):
        ax, ay = _add_where_present(present, part, scene, x, y, (ax, ay))
    return ax, ay


def _add_where_present(
    present: Tensor,
    part: Callable[[Scene, Tensor, Tensor], Deflection],
    scene: Scene,
    x: Tensor,
    y: Tensor,
    total: Deflection,
) -> Deflection:
    """Add the deflection of a component to that of the images that have it.

    Args:
        present: whether an image has the component (B,).
        part: computes the component's deflection.
        scene: B lenses.
        x, y: positions, arcsec; of two dimensions, or (B, H, W).
        total: deflection without the component.
    """
    if bool(present.all()):
        bx, by = part(scene, x, y)
        return total[0] + bx, total[1] + by
    rows = torch.nonzero(present)[:, 0]
    if not len(rows):
        return total
    positions = (x, y) if x.ndim == 2 else (x[rows], y[rows])
    bx, by = part(scene.rows(rows), *positions)
    return total[0].index_add(0, rows, bx), total[1].index_add(0, rows, by)


def _main_plane(scene: Scene, x: Tensor, y: Tensor) -> Deflection:
    """Deflection of the main lens with its external shear and its multipoles."""
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
    """Deflection of the main lens: a power law, or an isothermal ellipsoid or sphere."""
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
    q = _column(scene.lens_axis_ratio.clamp(max=MIN_ROUND_AXIS_RATIO))  # avoids 1 - q^2 = 0
    phi = _column(scene.lens_position_angle)
    ax, ay = reduced_deflection_angle_sie(zero, zero, q, phi, radius, x, y, SOFTENING)
    return ax, ay


def _epl_terms(axis_ratio: float, max_remainder: float) -> int:
    """Number of terms of a series in powers of (1 - q) / (1 + q) with a remainder below a limit."""
    f = (1 - axis_ratio) / (1 + axis_ratio)
    return max(
        MIN_SERIES_TERMS, math.ceil(math.log(max_remainder) / math.log(max(f, max_remainder)))
    )


def _subhalos(scene: Scene, x: Tensor, y: Tensor) -> Deflection:
    """Deflection of all subhalos in the lens plane."""
    return _sum_of_subhalos(scene, scene.subhalo_radius, x, y)


def _sum_of_subhalos(scene: Scene, radius: Tensor, x: Tensor, y: Tensor) -> Deflection:
    """Sum of the deflections of subhalos; empty slots are skipped.

    Args:
        scene: B lenses.
        radius: Einstein radii of the subhalos as point masses (B, n), arcsec.
        x, y: positions, arcsec.
    """
    order = scene.subhalo_mass.argsort(dim=1, descending=True)
    order = order[:, : int((scene.subhalo_mass > 0).sum(dim=1).max())]
    extended = bool((scene.subhalo_scale_radius > 0).any())
    total: Deflection | None = None
    # Offsets along one axis are computed for many subhalos at a time, whole images for one.
    for subset in order.split(max(1, MAX_BATCHED_OFFSETS // x.numel()), dim=1):
        x0, y0, scale, truncation = (
            values.gather(1, subset)[:, :, None, None]
            for values in (
                scene.subhalo_x,
                scene.subhalo_y,
                scene.subhalo_scale_radius,
                scene.subhalo_truncation_radius,
            )
        )
        dx, dy = x.unsqueeze(-3) - x0, y.unsqueeze(-3) - y0
        mass = radius.gather(1, subset)[:, :, None, None] ** 2
        parts = (dx**2 + SOFTENING**2, dy**2, mass * dx, mass * dy, scale, truncation)
        for dx2, dy2, m_dx, m_dy, r_s, r_t in zip(*(t.unbind(1) for t in parts), strict=True):
            r2 = dx2 + dy2
            strength = _enclosed_fraction(r2, r_s, r_t) / r2 if extended else r2.reciprocal_()
            if total is None:
                total = m_dx * strength, m_dy * strength
            else:  # in place: a derivative needs the factors, not the sum
                total[0].addcmul_(m_dx, strength)
                total[1].addcmul_(m_dy, strength)
    assert total is not None
    return total


def _enclosed_fraction(r2: Tensor, scale: Tensor, truncation: Tensor) -> Tensor:
    """Fraction of a truncated NFW halo's mass within a squared radius; 1 for a point mass."""
    point = scale == 0
    scale = torch.where(point, 1.0, scale)
    tau = torch.where(point, 1.0, truncation) / scale
    return torch.where(point, 1.0, mass_fraction_tnfw(r2.sqrt(), scale, tau))


def _vortex(scene: Scene, x: Tensor, y: Tensor) -> Deflection:
    """Deflection of the vortex."""
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
    """Deflection of one lens with halos at many redshifts, by multi-plane ray tracing.

    A ray at theta meets plane j at theta - sum over the planes i in front of it of b_ij alpha_i,
    where alpha_i is the reduced deflection of plane i and b_ij = D_ij D_s / (D_j D_is) (Schneider,
    Ehlers & Falco 1992, eq. 9.7 and 9.10).
    """
    z_lens, z_source = float(scene.z_lens[0]), float(scene.z_source[0])
    z = scene.subhalo_z[0].double().cpu().numpy().round(6)
    present = (scene.subhalo_mass[0] > 0).cpu().numpy() & (z < z_source - PLANE_TOLERANCE)
    z = np.where(np.abs(z - z_lens) < PLANE_TOLERANCE, round(z_lens, 6), z)
    planes = sorted({round(z_lens, 6), *z[present].tolist()})
    deflections: list[tuple[float, Tensor, Tensor]] = []
    for plane in planes:
        ray_x, ray_y = x[None], y[None]
        for front, ax, ay in deflections:
            factor = _coupling(front, plane, z_source, cosmology)
            ray_x, ray_y = ray_x - factor * ax, ray_y - factor * ay
        ax, ay = torch.zeros_like(ray_x), torch.zeros_like(ray_y)
        if plane == round(z_lens, 6):
            main = _main_plane(scene, ray_x, ray_y)
            ax, ay = _add_where_present(scene.vortex_mass > 0, _vortex, scene, ray_x, ray_y, main)
        in_plane = torch.from_numpy(present & (z == plane)).to(x.device)
        if bool(in_plane.any()):
            bx, by = _deflection_of_plane(scene, in_plane, plane, ray_x, ray_y, cosmology)
            ax, ay = ax + bx, ay + by
        deflections.append((plane, ax, ay))
    ax = torch.stack([ax for _, ax, _ in deflections]).sum(dim=0)
    return ax, torch.stack([ay for _, _, ay in deflections]).sum(dim=0)


def _deflection_of_plane(
    scene: Scene, in_plane: Tensor, z: float, x: Tensor, y: Tensor, cosmology: Cosmology
) -> Deflection:
    """Deflection of the halos in the plane at redshift z; `in_plane` (n,) marks them."""
    mass = torch.where(in_plane, scene.subhalo_mass, 0.0)
    unit_radius = float(einstein_radius(1.0, z, float(scene.z_source[0]), cosmology=cosmology))
    radius = unit_radius * mass.clamp_min(MIN_MASS_FRACTION).sqrt()
    return _sum_of_subhalos(replace(scene, subhalo_mass=mass), radius, x, y)


def _coupling(z_i: float, z_j: float, z_source: float, cosmology: Cosmology) -> float:
    """Factor b_ij = D_ij D_s / (D_j D_is) from the deflection in plane i to the ray in plane j."""
    to_plane = distances(z_i, z_j, cosmology=cosmology)
    to_source = distances(z_i, z_source, cosmology=cosmology)
    return float(to_plane.between * to_source.source / (to_plane.source * to_source.between))


def _column(values: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, 1), to broadcast against images."""
    return values[:, None, None]
