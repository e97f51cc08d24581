"""Light of scenes: Sersic profiles and pictures of galaxies."""

from __future__ import annotations

import torch
from caustics.light.func import k_sersic
from torch import Tensor
from torch.nn import functional

from halometry.simulation.scene import Scene

SOFTENING = 1e-6  # arcsec; keeps the gradient at a profile's center finite


def source_light(scene: Scene, x: Tensor, y: Tensor, pictures: Tensor | None) -> Tensor:
    """Surface brightness of the sources.

    Args:
        scene: B lenses.
        x, y: positions in the source's plane (B, H, W), arcsec.
        pictures: (n, h, w) of which `source_picture` chooses; None if it never does.

    Returns:
        (B, H, W) counts a pixel.
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
    """Surface brightness of lens galaxies (B, H, W), counts a pixel; x, y as in `deflection`."""
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
    """I exp(-k ((r / R)^(1/n) - 1)), r being the radius of the ellipse's intermediate axis.

    The profile and k are those of caustics, in fewer passes over an image: r^2 as a quadratic form,
    its power by a logarithm.
    """

    def column(values: Tensor) -> Tensor:
        return values[:, None, None]

    cos, sin, q = torch.cos(angle), torch.sin(angle), axis_ratio
    dx, dy = x - column(x0), y - column(y0)
    of_x, of_y = q * cos**2 + sin**2 / q, q * sin**2 + cos**2 / q
    of_both = 2 * cos * sin * (q - 1 / q)
    r2 = dy * torch.addcmul(column(of_y) * dy, column(of_both), dx)
    r2 = torch.addcmul(r2, column(of_x) * dx, dx)
    k = k_sersic(index)
    power = torch.addcmul(
        column(k.log() - radius.log() / index), column(0.5 / index), (r2 + SOFTENING**2).log()
    ).exp()
    light: Tensor = column(brightness) * torch.exp(column(k) - power)
    return light


def _picture_brightness(scene: Scene, x: Tensor, y: Tensor, pictures: Tensor) -> Tensor:
    """Pictures turned, moved and stretched; dark beyond their edges."""

    def column(values: Tensor) -> Tensor:
        return values[:, None, None]

    dx, dy = x - column(scene.source_x), y - column(scene.source_y)
    cos = column(torch.cos(scene.source_position_angle) / scene.source_radius)
    sin = column(torch.sin(scene.source_position_angle) / scene.source_radius)
    height, width = pictures.shape[-2:]
    longer = max(height, width)
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    at = torch.stack([along * (longer / width), across * (longer / height)], dim=-1)
    light = functional.grid_sample(
        pictures[scene.source_picture][:, None], at, align_corners=False, padding_mode="zeros"
    )
    return light[:, 0] * column(scene.source_brightness)
