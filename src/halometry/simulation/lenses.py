"""Deflection angles: caustics' pure functions, and a line of mass written in their manner."""

from __future__ import annotations

import torch
from caustics.lenses.func import (
    reduced_deflection_angle_external_shear,
    reduced_deflection_angle_point,
    reduced_deflection_angle_sie,
    reduced_deflection_angle_sis,
)
from torch import Tensor

from halometry.simulation.scene import Scene

SOFTENING = 1e-4  # arcsec; keeps the centres of singular profiles finite
ROUND = 0.9999  # axis ratio above which an ellipsoid is taken as a sphere
NEARLY_ONE = 1 - 1e-6
TOGETHER = 4  # subhalos at a time: more would not fit the processor's caches


def reduced_deflection_angle_line(
    x0: Tensor,
    y0: Tensor,
    phi: Tensor,
    length: Tensor,
    Rein: Tensor,
    x: Tensor,
    y: Tensor,
    s: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The deflection of a straight line of mass, uniform between its two ends.

    In complex notation a point mass at t deflects by a_x - i a_y = R^2 / (z - t). Its mean over
    t from -L/2 to L/2 is R^2 / L * log((z + L/2) / (z - L/2)), whose real and imaginary parts are
    an inverse hyperbolic tangent and an angle:

        a_x = R^2 / L * artanh(L x / (|z|^2 + L^2/4))
        a_y = R^2 / L * atan2(L y, |z|^2 - L^2/4)

    with the line along x. For L much below |z| this becomes the point mass.

    Args:
        x0, y0: the line's centre, arcsec.
        phi: its direction, radians from the x axis.
        length: arcsec, above zero.
        Rein: Einstein radius that its mass would have as a point, arcsec.
        x, y: where, arcsec; all arguments broadcast.
        s: softening at the ends, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    cos, sin = torch.cos(phi), torch.sin(phi)
    dx, dy = x - x0, y - y0
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    half2 = length**2 / 4
    r2 = along**2 + across**2
    strength = Rein**2 / length
    # At the ends themselves the deflection is logarithmically infinite.
    ratio = (length * along / (r2 + half2 + s**2)).clamp(-NEARLY_ONE, NEARLY_ONE)
    a_along = strength * torch.atanh(ratio)
    a_across = strength * torch.atan2(length * across, r2 - half2)
    return a_along * cos - a_across * sin, a_along * sin + a_across * cos


def deflection(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The whole deflection of each scene of a batch.

    Args:
        scene: B lenses.
        x, y: where, arcsec, (H, W).

    Returns:
        Both components (B, H, W), arcsec.
    """
    ax, ay = _main_lens(scene, x, y)
    gamma_1 = _column(scene.shear * torch.cos(2 * scene.shear_angle))
    gamma_2 = _column(scene.shear * torch.sin(2 * scene.shear_angle))
    zero = torch.zeros_like(gamma_1)
    bx, by = reduced_deflection_angle_external_shear(zero, zero, gamma_1, gamma_2, x, y)
    ax, ay = ax + bx, ay + by
    with_subhalos = torch.nonzero((scene.subhalo_mass > 0).any(dim=1))[:, 0]
    if len(with_subhalos):
        bx, by = _subhalos(scene.rows(with_subhalos), x, y)
        ax, ay = ax.index_add(0, with_subhalos, bx), ay.index_add(0, with_subhalos, by)
    with_line = torch.nonzero(scene.line_mass > 0)[:, 0]
    if len(with_line):
        bx, by = _line(scene.rows(with_line), x, y)
        ax, ay = ax.index_add(0, with_line, bx), ay.index_add(0, with_line, by)
    return ax, ay


def _main_lens(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    radius = _column(scene.einstein_radius)
    zero = torch.zeros_like(radius)
    if bool((scene.lens_axis_ratio > ROUND).all()):
        ax, ay = reduced_deflection_angle_sis(zero, zero, radius, x, y, SOFTENING)
    else:
        q = _column(scene.lens_axis_ratio.clamp(max=ROUND))  # its formula divides by 1 - q^2
        phi = _column(scene.lens_position_angle)
        ax, ay = reduced_deflection_angle_sie(zero, zero, q, phi, radius, x, y, SOFTENING)
    return ax, ay


def _subhalos(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over point masses, a few at a time, lightest places left out."""
    order = scene.subhalo_mass.argsort(dim=1, descending=True)
    places = int((scene.subhalo_mass > 0).sum(dim=1).max())

    def sorted_column(values: Tensor, first: int) -> Tensor:
        chosen = values.gather(1, order)[:, first : min(first + TOGETHER, places)]
        return chosen[:, :, None, None]

    ax = x.new_zeros(len(scene), *x.shape)
    ay = torch.zeros_like(ax)
    for first in range(0, places, TOGETHER):
        bx, by = reduced_deflection_angle_point(
            sorted_column(scene.subhalo_x, first),
            sorted_column(scene.subhalo_y, first),
            sorted_column(scene.subhalo_radius, first),
            x,
            y,
            SOFTENING,
        )
        ax, ay = ax + bx.sum(dim=1), ay + by.sum(dim=1)
    return ax, ay


def _line(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return reduced_deflection_angle_line(
        _column(scene.line_x),
        _column(scene.line_y),
        _column(scene.line_angle),
        _column(scene.line_length),
        _column(scene.line_radius),
        x,
        y,
        SOFTENING,
    )


def _column(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1), to broadcast against an image."""
    return values[:, None, None]
