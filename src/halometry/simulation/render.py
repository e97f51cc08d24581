"""From scenes to images: the expected counts in each pixel, and what a detector makes of them."""

from __future__ import annotations

import torch
from caustics.light.func import brightness_sersic, k_sersic
from torch import Tensor
from torch.nn import functional

from halometry.simulation.lenses import deflection
from halometry.simulation.preset import ImageSpec, Preset
from halometry.simulation.scene import Purpose, Scene, draw_scenes, stream

TOGETHER = 4  # images at a time on a CPU, so that they stay in its caches


def render(scene: Scene, preset: Preset) -> Tensor:
    """Expected counts of each pixel, before noise; differentiable in the scene's tensors.

    Args:
        scene: N lenses, on the device and in the precision wanted.
        preset: for the detector.

    Returns:
        (N, 1, H, W) counts.
    """
    spec = preset.image
    size = TOGETHER if scene.f_sub.device.type == "cpu" else 128 * TOGETHER
    parts = [
        _render(scene.rows(slice(first, first + size)), spec)
        for first in range(0, len(scene), size)
    ]
    return torch.cat(parts)


def _render(scene: Scene, spec: ImageSpec) -> Tensor:
    x, y = pixel_grid(spec, scene.einstein_radius)
    ax, ay = deflection(scene, x, y)
    light = _source_light(scene, x - ax, y - ay)[:, None]
    if spec.supersampling > 1:
        light = functional.avg_pool2d(light, spec.supersampling)
    return blur(light, spec.psf_sigma / spec.pixel_scale) + spec.sky


def pixel_grid(spec: ImageSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the subpixels' centres, arcsec from the image's centre, each (H, W)."""
    count = spec.pixels * spec.supersampling
    step = spec.pixel_scale / spec.supersampling
    axis = (torch.arange(count, device=like.device, dtype=like.dtype) - (count - 1) / 2) * step
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def _source_light(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Surface brightness of the source at (B, H, W) positions in its plane, counts a pixel."""

    def column(values: Tensor) -> Tensor:
        return values[:, None, None]

    # caustics takes the major axis' radius, the preset the intermediate one.
    major = scene.source_radius / scene.source_axis_ratio.sqrt()
    light: Tensor = brightness_sersic(
        column(scene.source_x),
        column(scene.source_y),
        column(scene.source_axis_ratio),
        column(scene.source_position_angle),
        column(scene.source_index),
        column(major),
        column(scene.source_brightness),
        x,
        y,
        column(k_sersic(scene.source_index)),
        1e-6,
    )
    return light


def blur(images: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian; beyond the edge the outermost pixels go on.

    Args:
        images: (B, 1, H, W).
        sigma: pixels; 0 leaves the images alone.
    """
    if sigma == 0:
        return images
    reach = max(1, min(round(4 * sigma), images.shape[-1] - 1))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1))


def observe(expected: Tensor, preset: Preset, seed: int, start: int) -> Tensor:
    """Add the noise of images `start`, `start + 1`, ...: Poisson, and Gaussian where asked.

    On a CPU image k has its own NumPy stream, on a GPU its own seed of the device's generator:
    the same noise whatever the batch.

    Args:
        expected: counts (N, 1, H, W).
        preset: for the Gaussian part.
        seed: of the set.
        start: number of the first image.

    Returns:
        Whole counts (N, 1, H, W), float32.
    """
    images = [
        _observe(image, preset.image.background_rms, seed, start + i)
        for i, image in enumerate(expected)
    ]
    return torch.stack(images)


def _observe(expected: Tensor, rms: float, seed: int, image: int) -> Tensor:
    rng = stream(seed, image, Purpose.NOISE)
    if expected.is_cuda:
        generator = torch.Generator(expected.device).manual_seed(int(rng.integers(2**62)))
        counts = torch.poisson(expected.float(), generator)
        if rms:
            noise = torch.randn(expected.shape, generator=generator, device=expected.device)
            counts = (counts + rms * noise).round()
        return counts
    counts_cpu = rng.poisson(expected.double().numpy()).astype("float64")
    if rms:
        counts_cpu = (counts_cpu + rng.normal(0, rms, counts_cpu.shape)).round()
    return torch.from_numpy(counts_cpu).float()


def sample(
    preset: Preset, seed: int, start: int, count: int, device: str = "cpu"
) -> tuple[Tensor, Scene]:
    """Draw, render and observe images `start` to `start + count`.

    Returns:
        Whole counts (count, 1, H, W), float32 on the device, and their scenes, float64.

    Example:
        >>> from halometry.simulation import load_preset
        >>> images, scene = sample(load_preset("demo_mass"), seed=0, start=0, count=2)
        >>> images.shape
        torch.Size([2, 1, 48, 48])
    """
    scene = draw_scenes(preset, seed, start, count)
    with torch.no_grad():
        expected = render(scene.to(device, torch.float32), preset)
    return observe(expected, preset, seed, start), scene
