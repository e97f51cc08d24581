"""Deflection angles of mass profiles, in the conventions of caustics.

These are profiles that caustics does not have, and faster versions of some that it has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reduced_deflection_angle_sis(
    x0: Tensor, y0: Tensor, Rein: Tensor, x: Tensor, y: Tensor, s: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Deflection angle of a singular isothermal sphere.

    Args:
        x0, y0: center, arcsec.
        Rein: Einstein radius, arcsec.
        x, y: positions, arcsec; all arguments broadcast, so that x may be a row and y a column.
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
    """Deflection angle of a singular isothermal ellipsoid (Keeton 2001, eq. 34 and 35).

    The same as in caustics, with Rein along the intermediate axis. It takes fewer passes over an
    image: terms of one coordinate stay rows or columns, artanh is a logarithm, and factors are
    merged.

    Args:
        x0, y0: center, arcsec.
        q: axis ratio, below 1.
        phi: direction of the major axis, radians from the x axis.
        Rein: Einstein radius, arcsec.
        x, y: positions, arcsec; all arguments broadcast, so that x may be a row and y a column.
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
    """Deflection angle of an elliptical power law (Tessore & Metcalf 2015, eq. 13 and 29).

    The same as in caustics. The series in powers of -f e^(2 i phi), f = (1 - q) / (1 + q), is
    written in cosines and sines and summed by Clenshaw's recurrence, without complex numbers.

    Args:
        x0, y0: center, arcsec.
        q: axis ratio.
        phi: direction of the major axis, radians from the x axis.
        Rein: Einstein radius along the intermediate axis, arcsec.
        t: slope of the surface density; 1 is isothermal.
        x, y: positions, arcsec; all arguments broadcast, so that x may be a row and y a column.
        terms: number of terms of the series.
        s: softening, added to the distance in quadrature, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    cos, sin = torch.cos(phi), torch.sin(phi)
    dx, dy = x - x0, y - y0
    along, across = dx * (q * cos) + dy * (q * sin), dy * cos - dx * sin
    across2 = across**2
    r2 = torch.addcmul(across2 + s**2, along, along)
    per_r2 = 2 / r2
    # Cosine and sine of twice the elliptical angle.
    cos_2, sin_2 = 1 - across2 * per_r2, along * across * per_r2
    factors, f = [torch.ones_like(q)], (1 - q) / (1 + q)
    for i in range(1, terms):
        factors.append(-f * (2 * i - (2 - t)) / (2 * i + (2 - t)) * factors[-1])
    two_cos_2, b_next, b = 2 * cos_2, torch.zeros_like(r2), factors[-1].expand_as(r2)
    for factor in factors[-2:0:-1]:
        b_next, b = b, torch.addcmul(factor - b_next, two_cos_2, b)
    real, imaginary = torch.addcmul(1 - b_next, cos_2, b), sin_2 * b
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
    """Deflection angle of a straight line of mass with uniform density between its ends.

    In complex notation a point mass at t deflects by a_x - i a_y = R^2 / (z - t). The mean over t
    from -L/2 to L/2 is R^2 / L * log((z + L/2) / (z - L/2)). Its real part depends on the distances
    from the two ends, its imaginary part on the angle between them:

        a_x = R^2 / L * log(|z + L/2| / |z - L/2|) = R^2 / L * artanh(L x / (|z|^2 + L^2/4))
        a_y = R^2 / L * atan2(L y, |z|^2 - L^2/4)

    with the line along x. For L << |z| this is the deflection of a point mass.

    Args:
        x0, y0: center of the line, arcsec.
        phi: direction of the line, radians from the x axis.
        length: length of the line, arcsec, above zero.
        Rein: Einstein radius of a point with the mass of the line, arcsec.
        x, y: positions, arcsec; all arguments broadcast, so that x may be a row and y a column.
        s: softening, added to the distance from the line in quadrature, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    cos, sin = torch.cos(phi), torch.sin(phi)
    dx, dy = x - x0, y - y0
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    from_start, from_end, across2 = along + length / 2, along - length / 2, across**2 + s**2
    # Without softening the deflection diverges logarithmically at the two ends.
    start2 = torch.addcmul(across2, from_start, from_start)
    end2 = torch.addcmul(across2, from_end, from_end)
    a_along = torch.log(start2 / end2)  # twice the artanh
    a_across = torch.atan2(length * across, torch.addcmul(across2, from_start, from_end))
    cos, sin = cos * Rein**2 / length, sin * Rein**2 / length
    return a_along * (cos / 2) - a_across * sin, a_along * (sin / 2) + a_across * cos


def reduced_deflection_angle_multipole(
    x0: Tensor, y0: Tensor, m: int, a_m: Tensor, phi_m: Tensor, x: Tensor, y: Tensor, s: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Deflection angle of a multipole of an isothermal lens (Xu et al. 2015, eq. B11 and B12).

    The potential is r a_m / (1 - m^2) cos(m (phi - phi_m)).

    Args:
        x0, y0: center, arcsec.
        m: order, above 1.
        a_m: amplitude, arcsec.
        phi_m: direction of the first maximum, radians.
        x, y: positions, arcsec; all arguments broadcast.
        s: softening at the center, arcsec.

    Returns:
        Both components of the reduced deflection, arcsec.
    """
    dx, dy = x - x0, y - y0
    r = ((dx**2 + s**2) + dy**2).sqrt()
    cos, sin = dx / r, dy / r
    cos_m, sin_m = cos, sin  # of m times the angle, by recurrence
    for _ in range(m - 1):
        cos_m, sin_m = cos_m * cos - sin_m * sin, sin_m * cos + cos_m * sin
    phase, strength = m * phi_m, a_m / (1 - m**2)
    a_cos, a_sin = strength * torch.cos(phase), strength * torch.sin(phase)
    radial = a_cos * cos_m + a_sin * sin_m
    tangential = (m * a_cos) * sin_m - (m * a_sin) * cos_m
    return cos * radial + sin * tangential, sin * radial - cos * tangential


def mass_fraction_tnfw(r: Tensor, Rs: Tensor, tau: Tensor) -> Tensor:
    """Fraction of the mass of a truncated NFW halo within a circle in projection.

    Args:
        r: radius of the circle, arcsec, above zero.
        Rs: scale radius, arcsec.
        tau: truncation radius over scale radius.

    Returns:
        Numbers from 0 to 1 (Baltz, Marshall & Oguri 2009, eq. A.11 over eq. A.4).
    """
    t2, g = tau**2, r / Rs
    g2 = g**2
    root = (g2 + t2).sqrt()
    tau_term = (t2 - 1) * torch.log(tau)
    shape = (2 * g2 + (t2 - 1)) * _nfw_function(g, g2) + (tau * math.pi + tau_term)
    log = torch.log(g / (root + tau))
    shape = torch.addcmul(shape, root, (t2 - 1) / tau * log - math.pi)
    return shape / (tau_term + math.pi * tau - (t2 + 1))


def _nfw_function(g: Tensor, g2: Tensor) -> Tensor:
    """arccos(1/g) / sqrt(g^2 - 1) and its continuation to g <= 1 (Baltz et al. 2009, eq. A.5)."""
    margin = 1e-3  # around g = 1, where a series is used
    inside, outside = (g < 1 - margin).to(g.dtype), (g > 1 + margin).to(g.dtype)
    below = (1 - g2.clamp(max=1 - margin)).sqrt()
    above = (g2.clamp(min=1 + margin) - 1).sqrt()
    inner = torch.log((1 + below) / g) / below
    outer = torch.atan(above) / above
    series = 1 - 2 * (g - 1) / 3 + 7 * (g - 1) ** 2 / 15
    # Multiplying by masks takes a tenth of the time of torch.where.
    return inside * inner + outside * outer + (1 - inside - outside) * series
