"""Mass profiles that caustics lacks, or has not for speed, written in its manner."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reduced_deflection_angle_sis(
    x0: Tensor, y0: Tensor, Rein: Tensor, x: Tensor, y: Tensor, s: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The deflection of a singular isothermal sphere.

    Args:
        x0, y0: its centre, arcsec.
        Rein: Einstein radius, arcsec.
        x, y: where, arcsec; all arguments broadcast, so that an axis may be a row or a column.
        s: softening, added to the distance in quadrature, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    dx, dy = x - x0, y - y0
    strength = Rein / ((dx**2 + s**2) + dy**2).sqrt()
    return strength * dx, strength * dy


def reduced_deflection_angle_sie(
    x0: Tensor,
    y0: Tensor,
    q: Tensor,
    phi: Tensor,
    Rein: Tensor,
    x: Tensor,
    y: Tensor,
    s: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The deflection of a singular isothermal ellipsoid (Keeton 2001, eq. 34 and 35).

    As that of caustics, with Rein the radius of the intermediate axis, but in fewer passes over an
    image: what depends on one axis alone is never a whole image, artanh is a logarithm, and
    factors are joined.

    Args:
        x0, y0: its centre, arcsec.
        q: axis ratio, below 1.
        phi: of the major axis, radians from the x axis.
        Rein: Einstein radius, arcsec.
        x, y: where, arcsec; all arguments broadcast, so that an axis may be a row or a column.
        s: softening, added to the distance in quadrature, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    cos, sin, f = torch.cos(phi), torch.sin(phi), (1 - q**2).sqrt()
    dx, dy = x - x0, y - y0
    along, across = dx * (f * cos) + dy * (f * sin), dy * (f * cos) - dx * (f * sin)
    # psi^2 = q^2 u^2 + v^2 in the ellipse's frame, written out in dx and dy
    square = (dx**2 * (1 - (f * cos) ** 2) + s**2) + dy**2 * (1 - (f * sin) ** 2)
    psi = torch.addcmul(square, dx * (-2 * cos * sin * f**2), dy).sqrt()
    a_along = torch.atan(along / psi)
    a_across = torch.log((psi + across) / (psi - across))  # twice the artanh
    strength = Rein * q.sqrt() / f
    cos, sin = strength * cos, strength * sin
    return a_along * cos - a_across * (sin / 2), a_along * sin + a_across * (cos / 2)


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
    t from -L/2 to L/2 is R^2 / L * log((z + L/2) / (z - L/2)), whose real and imaginary parts
    are those of the distances from the two ends and the angle between them:

        a_x = R^2 / L * log(|z + L/2| / |z - L/2|) = R^2 / L * artanh(L x / (|z|^2 + L^2/4))
        a_y = R^2 / L * atan2(L y, |z|^2 - L^2/4)

    with the line along x. For L much below |z| this becomes the point mass.

    Args:
        x0, y0: the line's centre, arcsec.
        phi: its direction, radians from the x axis.
        length: arcsec, above zero.
        Rein: Einstein radius that its mass would have as a point, arcsec.
        x, y: where, arcsec; all arguments broadcast, so that an axis may be a row or a column.
        s: softening at the ends, in quadrature, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    cos, sin = torch.cos(phi), torch.sin(phi)
    dx, dy = x - x0, y - y0
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    before, behind, across2 = along + length / 2, along - length / 2, across**2 + s**2
    # At the ends themselves the deflection is logarithmically infinite.
    far, near = torch.addcmul(across2, before, before), torch.addcmul(across2, behind, behind)
    a_along = torch.log(far / near)  # twice the artanh
    a_across = torch.atan2(length * across, torch.addcmul(across2, before, behind))
    cos, sin = cos * Rein**2 / length, sin * Rein**2 / length
    return a_along * (cos / 2) - a_across * sin, a_along * (sin / 2) + a_across * cos


def potential_line(
    x0: Tensor, y0: Tensor, phi: Tensor, length: Tensor, Rein: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """The potential of the same line, R^2 times the mean of log|z - t| over its points t.

    Its antiderivative in t is -Re[(z - t) log(z - t) - (z - t)].

    Args:
        As `reduced_deflection_angle_line`.

    Returns:
        arcsec^2.
    """
    cos, sin = torch.cos(phi), torch.sin(phi)
    dx, dy = x - x0, y - y0
    along, across = dx * cos + dy * sin, dy * cos - dx * sin

    def part(u: Tensor) -> Tensor:  # Re[w log w - w] of w = u + i across
        log = 0.5 * torch.log(u**2 + across**2)
        return u * log - across * torch.atan2(across, u) - u

    return Rein**2 / length * (part(along + length / 2) - part(along - length / 2))


def reduced_deflection_angle_multipole(
    x0: Tensor, y0: Tensor, m: int, a_m: Tensor, phi_m: Tensor, x: Tensor, y: Tensor, s: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A multipole of an isothermal lens, of potential r a_m / (1 - m^2) cos(m (phi - phi_m)).

    Args:
        x0, y0: the centre, arcsec.
        m: its order, above 1.
        a_m: its amplitude, arcsec.
        phi_m: towards its first maximum, radians.
        x, y: where, arcsec; all arguments broadcast.
        s: softening at the centre, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec (Xu et al. 2015, eq. B11 and B12).
    """
    dx, dy = x - x0, y - y0
    r = ((dx**2 + s**2) + dy**2).sqrt()
    cos, sin = dx / r, dy / r
    cos_m, sin_m = cos, sin  # of m times the angle, without finding it
    for _ in range(m - 1):
        cos_m, sin_m = cos_m * cos - sin_m * sin, sin_m * cos + cos_m * sin
    turn, strength = m * phi_m, a_m / (1 - m**2)
    on, off = strength * torch.cos(turn), strength * torch.sin(turn)
    radial = on * cos_m + off * sin_m
    tangential = (m * on) * sin_m - (m * off) * cos_m
    return cos * radial + sin * tangential, sin * radial - cos * tangential


def mass_share_tnfw(r: Tensor, Rs: Tensor, tau: Tensor) -> Tensor:
    """The share of a truncated NFW halo's mass that is seen within a circle.

    Args:
        r: radius of the circle, arcsec, above zero.
        Rs: scale radius, arcsec.
        tau: truncation radius over scale radius.

    Returns:
        0 to 1 (Baltz, Marshall & Oguri 2009, eq. A.11 over eq. A.4).
    """
    g2, t2 = (r / Rs) ** 2, tau**2
    g = r / Rs
    root = (t2 + g2).sqrt()
    log = torch.log(g / (tau + root))
    inner = (t2 + 1 + 2 * (g2 - 1)) * _angle_of_nfw(g)
    shape = inner + tau * math.pi + (t2 - 1) * torch.log(tau)
    shape = shape + root * (-math.pi + (t2 - 1) / tau * log)
    return shape / ((t2 - 1) * torch.log(tau) + math.pi * tau - (t2 + 1))


def _angle_of_nfw(g: Tensor) -> Tensor:
    """arccos(1/g) / sqrt(g^2 - 1), continued below and through g = 1 (the same, eq. A.5)."""
    away = 1e-3
    below, above = g.clamp(max=1 - away), g.clamp(min=1 + away)
    near = 1 - 2 * (g - 1) / 3 + 7 * (g - 1) ** 2 / 15
    inner = torch.acosh(1 / below) / (1 - below**2).sqrt()
    outer = torch.acos(1 / above) / (above**2 - 1).sqrt()
    return torch.where(g < 1 - away, inner, torch.where(g > 1 + away, outer, near))
