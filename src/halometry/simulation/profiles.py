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
        x0, y0: its center, arcsec.
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
        x0, y0: its center, arcsec.
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


def reduced_deflection_angle_epl(
    x0: Tensor,
    y0: Tensor,
    q: Tensor,
    phi: Tensor,
    Rein: Tensor,
    t: Tensor,
    x: Tensor,
    y: Tensor,
    terms: int,
    s: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The deflection of an elliptical power law (Tessore & Metcalf 2015, eq. 13 and 29).

    As that of caustics, but its series in powers of -f e^(2 i phi), f = (1 - q) / (1 + q), is taken
    as one of cosines and sines and summed by Clenshaw's recurrence, without complex numbers.

    Args:
        x0, y0: its center, arcsec.
        q: axis ratio.
        phi: of the major axis, radians from the x axis.
        Rein: Einstein radius of the intermediate axis, arcsec.
        t: slope of the surface density, 1 where it is isothermal.
        x, y: where, arcsec; all arguments broadcast, so that an axis may be a row or a column.
        terms: of the series.
        s: softening, added to the distance in quadrature, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    cos, sin = torch.cos(phi), torch.sin(phi)
    dx, dy = x - x0, y - y0
    along, across = dx * (q * cos) + dy * (q * sin), dy * cos - dx * sin
    across2 = across**2
    r2 = torch.addcmul(across2 + s**2, along, along)
    per_r2 = 2 / r2  # of twice the elliptical angle, cosine and sine:
    cos_2, sin_2 = 1 - across2 * per_r2, along * across * per_r2
    factors, f = [torch.ones_like(q)], (1 - q) / (1 + q)
    for i in range(1, terms):
        factors.append(-f * (2 * i - (2 - t)) / (2 * i + (2 - t)) * factors[-1])
    twice, last, one = 2 * cos_2, torch.zeros_like(r2), factors[-1].expand_as(r2)
    for factor in factors[-2:0:-1]:
        last, one = one, torch.addcmul(factor - last, twice, one)
    real, imaginary = torch.addcmul(1 - last, cos_2, one), sin_2 * one
    strength = torch.exp((-t / 2) * r2.log()) * (2 / (1 + q) * (Rein * q.sqrt()) ** t)
    a_along = (along * real - across * imaginary) * strength
    a_across = (along * imaginary + across * real) * strength
    return a_along * cos - a_across * sin, a_along * sin + a_across * cos


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
        x0, y0: the line's center, arcsec.
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


def reduced_deflection_angle_multipole(
    x0: Tensor, y0: Tensor, m: int, a_m: Tensor, phi_m: Tensor, x: Tensor, y: Tensor, s: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A multipole of an isothermal lens, of potential r a_m / (1 - m^2) cos(m (phi - phi_m)).

    Args:
        x0, y0: the center, arcsec.
        m: its order, above 1.
        a_m: its amplitude, arcsec.
        phi_m: towards its first maximum, radians.
        x, y: where, arcsec; all arguments broadcast.
        s: softening at the center, arcsec.

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


def mass_fraction_tnfw(r: Tensor, Rs: Tensor, tau: Tensor) -> Tensor:
    """The share of a truncated NFW halo's mass that is seen within a circle.

    Args:
        r: radius of the circle, arcsec, above zero.
        Rs: scale radius, arcsec.
        tau: truncation radius over scale radius.

    Returns:
        0 to 1 (Baltz, Marshall & Oguri 2009, eq. A.11 over eq. A.4).
    """
    t2, g = tau**2, r / Rs
    g2 = g**2
    root = (g2 + t2).sqrt()
    of_tau = (t2 - 1) * torch.log(tau)
    shape = (2 * g2 + (t2 - 1)) * _nfw_function(g, g2) + (tau * math.pi + of_tau)
    log = torch.log(g / (root + tau))
    shape = torch.addcmul(shape, root, (t2 - 1) / tau * log - math.pi)
    return shape / (of_tau + math.pi * tau - (t2 + 1))


def _nfw_function(g: Tensor, g2: Tensor) -> Tensor:
    """arccos(1/g) / sqrt(g^2 - 1), continued below and through g = 1 (the same, eq. A.5)."""
    away = 1e-3
    inside, outside = (g < 1 - away).to(g.dtype), (g > 1 + away).to(g.dtype)
    below = (1 - g2.clamp(max=1 - away)).sqrt()
    above = (g2.clamp(min=1 + away) - 1).sqrt()
    inner = torch.log((1 + below) / g) / below
    outer = torch.atan(above) / above
    near = 1 - 2 * (g - 1) / 3 + 7 * (g - 1) ** 2 / 15
    # A mask that is multiplied takes a tenth of the time of one that chooses.
    return inside * inner + outside * outer + (1 - inside - outside) * near
