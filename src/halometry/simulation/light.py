"""Light of scenes: Sersic profiles and pictures of galaxies."""

from __future__ import annotations

import torch
from caustics.light.func import brightness_sersic, k_sersic
from torch import Tensor
from torch.nn import functional

from halometry.simulation.scene import Scene

SOFTENING = 1e-6  # arcsec; keeps the gradient at a profile's centre finite


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
        return _picture(scene, x, y, pictures)
    return _sersic(
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
    """Surface brightness of the lens galaxies at (H, W) positions, (B, H, W) counts a pixel."""
    zero = torch.zeros_like(scene.lens_light_radius)
    return _sersic(
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


def _sersic(
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
    def column(values: Tensor) -> Tensor:
        return values[:, None, None]

    # caustics takes the major axis' radius, a scene has the intermediate one.
    major = radius / axis_ratio.sqrt()
    light: Tensor = brightness_sersic(
        column(x0),
        column(y0),
        column(axis_ratio),
        column(angle),
        column(index),
        column(major),
        column(brightness),
        x,
        y,
        column(k_sersic(index)),
        SOFTENING,
    )
    return light


def _picture(scene: Scene, x: Tensor, y: Tensor, pictures: Tensor) -> Tensor:
    """Pictures turned, moved and stretched; dark beyond their edges."""

    def column(values: Tensor) -> Tensor:
        return values[:, None, None]

    dx, dy = x - column(scene.source_x), y - column(scene.source_y)
    cos = column(torch.cos(scene.source_position_angle) / scene.source_radius)
    sin = column(torch.sin(scene.source_position_angle) / scene.source_radius)
    at = torch.stack([dx * cos + dy * sin, dy * cos - dx * sin], dim=-1)
    light = functional.grid_sample(
        pictures[scene.source_picture][:, None], at, align_corners=True, padding_mode="zeros"
    )
    return light[:, 0] * column(scene.source_brightness)
