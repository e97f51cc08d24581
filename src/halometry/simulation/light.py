"""Surface brightness of scenes: Sersic profiles and pictures of galaxies."""

from __future__ import annotations

import torch
from caustics.light.func import k_sersic
from torch import Tensor
from torch.nn import functional

from halometry.simulation.scene import Scene

SOFTENING = 1e-6  # arcsec; keeps the gradient at a profile's center finite


def source_light(scene: Scene, x: Tensor, y: Tensor, pictures: Tensor | None) -> Tensor:
    """Compute the surface brightness of the sources.

    Args:
        scene: B lenses.
        x, y: positions in the source plane (B, H, W), arcsec.
        pictures: pictures (n, h, w) that `scene.source_picture` selects from; None for Sersic
            profiles.

    Returns:
        Counts per pixel (B, H, W).
    """
    if pictures is not None:
        return _picture_brightness(scene, x, y, pictures)
    return _sersic_brightness(
        scene.source_x,
        scene.source_y,
        scene.source_index,
        scene.source_radius,
        scene.source_brightness,
        scene.source_axis_ratio,
        scene.source_position_angle,
        x,
        y,
    )


def lens_light(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Compute the surface brightness of the lens galaxies.

    Args:
        scene: B lenses.
        x, y: positions, arcsec; (H, W) each, or a row (1, W) and a column (H, 1).

    Returns:
        Counts per pixel (B, H, W).
    """
    zero = torch.zeros_like(scene.lens_light_radius)
    return _sersic_brightness(
        zero,
        zero,
        scene.lens_light_index,
        scene.lens_light_radius,
        scene.lens_light_brightness,
        scene.lens_light_axis_ratio,
        scene.lens_light_position_angle,
        x,
        y,
    )


def _sersic_brightness(
    x0: Tensor,
    y0: Tensor,
    index: Tensor,
    radius: Tensor,
    brightness: Tensor,
    axis_ratio: Tensor,
    angle: Tensor,
    x: Tensor,
    y: Tensor,
) -> Tensor:
    """Elliptical Sersic profile I exp(-k ((r / R)^(1/n) - 1)), r along the intermediate axis.

    The profile and k are those of caustics. It takes fewer passes over an image: r^2 is a quadratic
    form, and its power is computed with a logarithm.
    """
    cos, sin, q = torch.cos(angle), torch.sin(angle), axis_ratio
    dx, dy = x - _column(x0), y - _column(y0)
    a_xx, a_yy = q * cos**2 + sin**2 / q, q * sin**2 + cos**2 / q
    a_xy = 2 * cos * sin * (q - 1 / q)
    r2 = dy * torch.addcmul(_column(a_yy) * dy, _column(a_xy), dx)
    r2 = torch.addcmul(r2, _column(a_xx) * dx, dx)
    k = k_sersic(index)
    power = torch.addcmul(
        _column(k.log() - radius.log() / index), _column(0.5 / index), (r2 + SOFTENING**2).log()
    ).exp()
    light: Tensor = _column(brightness) * torch.exp(_column(k) - power)
    return light


def _picture_brightness(scene: Scene, x: Tensor, y: Tensor, pictures: Tensor) -> Tensor:
    """Pictures of galaxies, rotated, shifted and scaled; zero beyond their edges."""
    dx, dy = x - _column(scene.source_x), y - _column(scene.source_y)
    cos = _column(torch.cos(scene.source_position_angle) / scene.source_radius)
    sin = _column(torch.sin(scene.source_position_angle) / scene.source_radius)
    height, width = pictures.shape[-2:]
    longer = max(height, width)
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    positions = torch.stack([along * (longer / width), across * (longer / height)], dim=-1)
    light = functional.grid_sample(
        pictures[scene.source_picture][:, None],
        positions,
        align_corners=False,
        padding_mode="zeros",
    )
    return light[:, 0] * _column(scene.source_brightness)


def _column(values: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, 1), to broadcast against images."""
    return values[:, None, None]
