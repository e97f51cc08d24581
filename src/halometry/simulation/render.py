"""Rendering of scenes: the expected counts in each pixel, and complete simulated images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, reduce

import torch
from torch import Tensor
from torch.nn import functional

from halometry.simulation.instrument import ImageSpec
from halometry.simulation.lenses import deflection
from halometry.simulation.light import lens_light, source_light
from halometry.simulation.noise import observe
from halometry.simulation.preset import Preset
from halometry.simulation.sampling import draw_scenes
from halometry.simulation.scene import Scene

BATCH_SUBPIXELS = 90_000  # rendered at a time on a CPU, so that they stay in its caches
MAX_BATCH_IMAGES = 16  # rendered at a time on a CPU
FAST_BATCH_FACTOR = 4  # how many times larger the batches of `sample_fast` are, per thread
GPU_BATCH_FACTOR = 128  # how many times larger batches are on a GPU
MIN_SAMPLED_SIGMA = 0.7  # pixels; above, a sampled Gaussian has the right width to 0.2 %
MIN_KERNEL_REACH = 3  # pixels from the center of a kernel to its edge
KERNEL_REACH_SIGMA = 4  # from the center of a Gaussian kernel to its edge, standard deviations


def render(scene: Scene, preset: Preset, batch_size: int | None = None) -> Tensor:
    """Compute the expected counts of each pixel before noise; differentiable in the scene.

    Args:
        scene: N lenses; their device and precision are those of the computation.
        preset: gives the detector, the pictures of galaxies, and the cosmology.
        batch_size: number of images rendered at a time; chosen for the device if not given.

    Returns:
        Expected counts (N, 1, H, W).
    """
    like = scene.einstein_radius
    pictures = preset.source.pictures
    sources = None if pictures is None else torch.from_numpy(pictures).to(like)
    factor = 1 if like.device.type == "cpu" else GPU_BATCH_FACTOR
    size = batch_size or images_per_batch(preset.image) * factor
    parts = [
        _render_batch(scene.rows(slice(first, first + size)), preset, sources)
        for first in range(0, len(scene), size)
    ]
    return torch.cat(parts)


def _render_batch(scene: Scene, preset: Preset, pictures: Tensor | None) -> Tensor:
    """Expected counts (B, 1, H, W) of a batch that is rendered at once."""
    spec = preset.image
    x, y = pixel_axes(spec, scene.einstein_radius)
    ax, ay = deflection(scene, x, y, preset.cosmology)
    light = source_light(scene, x - ax, y - ay, pictures)
    if preset.lens_light is not None:
        light = light + lens_light(scene, x, y)
    if spec.supersampling > 1:
        light = bin_pixels(light, spec.supersampling)
    light = (convolve_psf(light[:, None], spec) + spec.sky) * scene.exposure[:, None, None, None]
    return 2 * light if "light_twice" in spec.reproduce_bugs else light


def images_per_batch(spec: ImageSpec) -> int:
    """Return the number of images rendered at a time on a CPU, a power of two."""
    count = max(
        1, min(MAX_BATCH_IMAGES, BATCH_SUBPIXELS // (spec.pixels * spec.supersampling) ** 2)
    )
    return 1 << (count.bit_length() - 1)


def pixel_axes(spec: ImageSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return x of the columns (1, W) and y of the rows (H, 1) of the subpixels' centers, arcsec.

    The origin is the center of the image. Device and precision are those of `like`.
    """
    count = spec.pixels * spec.supersampling
    step = spec.pixel_scale / spec.supersampling
    axis = (torch.arange(count, device=like.device, dtype=like.dtype) - (count - 1) / 2) * step
    return axis[None, :], axis[:, None]


def pixel_grid(spec: ImageSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and y of the subpixels' centers, arcsec from the image's center, (H, W) each."""
    x, y = pixel_axes(spec, like)
    return x.expand(y.shape[0], -1), y.expand(-1, x.shape[1])


def convolve_psf(images: Tensor, spec: ImageSpec) -> Tensor:
    """Convolve images (B, 1, H, W) with the point spread function of a detector.

    Beyond the edges the images are continued by their outermost pixels.
    """
    if spec.kernel is None:
        return convolve_gaussian(images, spec.psf_sigma / spec.pixel_scale)
    kernel = torch.from_numpy(spec.kernel).to(images)
    height, width = (side // 2 for side in kernel.shape)
    padded = functional.pad(images, (width, width, height, height), mode="replicate")
    return functional.conv2d(padded, kernel.flip(0, 1)[None, None])


def convolve_gaussian(images: Tensor, sigma: float) -> Tensor:
    """Convolve images with a Gaussian; beyond the edges the outermost pixels continue.

    The weights are applied to shifted images, which is faster than a convolution on a CPU.

    Args:
        images: images (B, 1, H, W).
        sigma: standard deviation, pixels; 0 returns the images unchanged.
    """
    if sigma == 0:
        return images
    kernel = gaussian_kernel(torch.tensor([sigma], dtype=torch.float64), images.shape[-1] - 1)
    reach = kernel.shape[1] // 2
    weights = kernel[0, reach:].tolist()
    images = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    for dim in (-1, -2):
        size = images.shape[dim] - 2 * reach
        blurred = images.narrow(dim, reach, size) * weights[0]
        for step in range(1, reach + 1):
            left, right = (images.narrow(dim, reach + shift, size) for shift in (-step, step))
            blurred = torch.add(blurred, left + right, alpha=weights[step])
        images = blurred
    return images


def gaussian_kernel(sigma: Tensor, max_reach: int) -> Tensor:
    """Compute Gaussian kernels with sum 1; differentiable in sigma.

    Wide kernels are a Gaussian sampled at the centers of pixels. Below `MIN_SAMPLED_SIGMA` this has
    the wrong width. Narrow kernels are therefore discrete Gaussians (Lindeberg 1990), with the
    Fourier transform exp(sigma^2 (cos w - 1)) and the variance sigma^2 at any width.

    Args:
        sigma: standard deviations (B,), pixels, above 0.
        max_reach: maximum number of pixels from the center of a kernel to its edge.

    Returns:
        Weights (B, 2 n + 1), where n is four times the largest sigma and at least
        `MIN_KERNEL_REACH`, but at most `max_reach`.
    """
    widest = float(sigma.detach().max())
    reach = min(max(MIN_KERNEL_REACH, round(KERNEL_REACH_SIGMA * widest)), max_reach)
    steps = torch.arange(-reach, reach + 1, device=sigma.device, dtype=sigma.dtype)
    width = sigma[:, None]
    kernel = torch.exp(-0.5 * (steps / width) ** 2)
    if float(sigma.detach().min()) < MIN_SAMPLED_SIGMA:
        w = torch.arange(32, device=sigma.device, dtype=sigma.dtype) * (2 * math.pi / 32)
        discrete = torch.exp(width**2 * (torch.cos(w) - 1)) @ torch.cos(w[:, None] * steps)
        kernel = torch.where(width < MIN_SAMPLED_SIGMA, discrete, kernel)
    return kernel / kernel.sum(dim=1, keepdim=True)


def bin_pixels(images: Tensor, factor: int) -> Tensor:
    """Average over squares of pixels: (B, H, W) to (B, H / factor, W / factor)."""
    rows = [images[:, step::factor] for step in range(factor)]
    images = reduce(torch.add, rows)
    columns = [images[..., step::factor] for step in range(factor)]
    return reduce(torch.add, columns) / factor**2


def sample(
    preset: Preset, seed: int, start: int, count: int, device: str = "cpu"
) -> tuple[Tensor, Scene]:
    """Simulate images `start` to `start + count` of a preset: draw, render and add noise.

    On a CPU this uses one thread and fixed groups of neighboring images. The bytes of an image
    therefore do not depend on how a dataset is divided. For speed use several processes, or
    `sample_fast`.

    Args:
        preset: preset of the images.
        seed: seed of the dataset.
        start: number of the first image.
        count: number of images, at least 1.
        device: PyTorch device.

    Returns:
        Integer counts (count, 1, H, W), float32 on the device, and their scenes, float64.

    Raises:
        DataError: an expected count is negative, too large or NaN.
        UnavailableError: the preset needs pyHalo, which is not installed.

    Example:
        >>> from halometry.simulation import load_preset
        >>> images, scene = sample(load_preset("demo_mass"), seed=0, start=0, count=2)
        >>> images.shape
        torch.Size([2, 1, 48, 48])
    """
    group = images_per_batch(preset.image)
    first = start - start % group
    stop = -(-(start + count) // group) * group
    scene = draw_scenes(preset, seed, first, stop - first)
    requested = slice(start - first, start - first + count)
    # One thread: vector instructions round differently at the ends of a thread's part of an array.
    with torch.no_grad(), limited_threads(1) if device == "cpu" else nullcontext():
        expected = render(scene.to(device, torch.float32), preset)[requested]
    scene = scene.rows(requested)
    return observe(expected, preset, seed, start, scene.background_rms), scene


def sample_fast(
    preset: Preset, seed: int, start: int, count: int, device: str = "cpu"
) -> tuple[Tensor, Scene]:
    """Simulate the images of `sample` up to rounding, faster: with all threads and larger batches.

    Expected counts may differ from those of `sample` in the last digits of float32. A few pixels
    therefore differ by one count. The same call with the same number of threads gives the same
    bytes. Arguments, return values and exceptions are those of `sample`.
    """
    if device != "cpu":
        return sample(preset, seed, start, count, device)
    scene, spec = draw_scenes(preset, seed, start, count), preset.image
    subpixels = (spec.pixels * spec.supersampling) ** 2
    batch = max(1, FAST_BATCH_FACTOR * BATCH_SUBPIXELS * torch.get_num_threads() // subpixels)
    threads = max(1, min(batch, count) * subpixels // BATCH_SUBPIXELS)
    with torch.no_grad(), limited_threads(threads):
        expected = render(scene.to(device, torch.float32), preset, batch)
    return observe(expected, preset, seed, start, scene.background_rms), scene


@contextmanager
def limited_threads(max_threads: int) -> Iterator[None]:
    """Context in which PyTorch uses at most a given number of CPU threads."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(min(max_threads, threads_before))
    _keep_memory()
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)


@lru_cache(maxsize=1)
def _keep_memory() -> None:
    """Free 30 MB once, so that glibc keeps freed memory for later allocations.

    Otherwise it may return the memory of each image to the system and get it back page by page,
    which takes up to a fifth of the time. The pages are never written, so they take no memory.
    """
    torch.empty(30_000_000, dtype=torch.uint8)
