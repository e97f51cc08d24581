"""From scenes to images: the expected counts in each pixel."""

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
MAX_BATCH_IMAGES = 16  # images at a time on a CPU
FAST_BATCH_FACTOR = (
    4  # times as much for each thread, where bytes do not matter: fewer and longer operations
)
MIN_SAMPLED_SIGMA = 0.7  # pixels; above, a sampled Gaussian has the right width to 0.2 %
MIN_KERNEL_REACH = 3  # pixels that a kernel reaches at least
KERNEL_REACH_SIGMA = 4  # of a Gaussian point spread function, standard deviations


def render(scene: Scene, preset: Preset, batch_size: int | None = None) -> Tensor:
    """Expected counts of each pixel, before noise; differentiable in the scene's tensors.

    Args:
        scene: N lenses, on the device and in the precision wanted.
        preset: for the detector, the pictures of galaxies, and the cosmology.
        together: how many are rendered at a time; as many as suit the device if not given.

    Returns:
        (N, 1, H, W) counts.
    """
    like = scene.einstein_radius
    pictures = preset.source.pictures
    chosen = None if pictures is None else torch.from_numpy(pictures).to(like)
    size = batch_size or images_per_batch(preset.image) * (1 if like.device.type == "cpu" else 128)
    parts = [
        _render_batch(scene.rows(slice(first, first + size)), preset, chosen)
        for first in range(0, len(scene), size)
    ]
    return torch.cat(parts)


def _render_batch(scene: Scene, preset: Preset, pictures: Tensor | None) -> Tensor:
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
    """How many images are rendered at a time on a CPU."""
    fit = max(1, min(MAX_BATCH_IMAGES, BATCH_SUBPIXELS // (spec.pixels * spec.supersampling) ** 2))
    return 1 << (fit.bit_length() - 1)  # a power of two, which divides the batches of a set


def pixel_axes(spec: ImageSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    """x of the subpixels' columns (1, W) and y of their rows (H, 1), arcsec from the center."""
    count = spec.pixels * spec.supersampling
    step = spec.pixel_scale / spec.supersampling
    axis = (torch.arange(count, device=like.device, dtype=like.dtype) - (count - 1) / 2) * step
    return axis[None, :], axis[:, None]


def pixel_grid(spec: ImageSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the subpixels' centers, arcsec from the image's center, each (H, W)."""
    x, y = pixel_axes(spec, like)
    return x.expand(y.shape[0], -1), y.expand(-1, x.shape[1])


def convolve_psf(images: Tensor, spec: ImageSpec) -> Tensor:
    """Convolve images (B, 1, H, W) with the point spread function of a detector."""
    if spec.kernel is None:
        return convolve_gaussian(images, spec.psf_sigma / spec.pixel_scale)
    kernel = torch.from_numpy(spec.kernel).to(images)
    height, width = (side // 2 for side in kernel.shape)
    padded = functional.pad(images, (width, width, height, height), mode="replicate")
    return functional.conv2d(padded, kernel.flip(0, 1)[None, None])


def convolve_gaussian(images: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian; beyond the edge the outermost pixels go on.

    The few weights are applied to shifted images, which on a CPU is faster than a convolution.

    Args:
        images: (B, 1, H, W).
        sigma: pixels; 0 leaves the images alone.
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
            left, right = (images.narrow(dim, reach + way, size) for way in (-step, step))
            blurred = torch.add(blurred, left + right, alpha=weights[step])
        images = blurred
    return images


def gaussian_kernel(sigma: Tensor, max_reach: int) -> Tensor:
    """Weights of pixels in Gaussian kernels of sum 1, differentiable in their widths.

    Values at the pixels' centers, as usual; where these are too few for the right width, the
    discrete Gaussian (Lindeberg 1990), whose variance is sigma^2 whatever the width: the kernel
    with the Fourier transform exp(sigma^2 (cos w - 1)).

    Args:
        sigma: pixels (B,), above 0.
        farthest: pixels that a kernel may reach from its center.

    Returns:
        (B, 2 n + 1), n being four times the widest sigma or what a narrow one needs.
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
    """Means over squares of pixels, (B, H, W) to (B, H / factor, W / factor)."""
    rows = [images[:, step::factor] for step in range(factor)]
    images = reduce(torch.add, rows)
    columns = [images[..., step::factor] for step in range(factor)]
    return reduce(torch.add, columns) / factor**2


def sample(
    preset: Preset, seed: int, start: int, count: int, device: str = "cpu"
) -> tuple[Tensor, Scene]:
    """Draw, render and observe images `start` to `start + count`.

    On a CPU it uses one thread and always the same groups of neighbors, so that an image is the
    same to the byte however a set is divided; run several processes for speed, or see
    `sample_quickly`.

    Args:
        preset: what the images are like.
        seed: of the set.
        start: number of the first image.
        count: how many, one at least.
        device: as PyTorch names it.

    Returns:
        Whole counts (count, 1, H, W), float32 on the device, and their scenes, float64.

    Raises:
        DataError: an expected count is too large, or none at all.
        UnavailableError: the preset has halos of pyHalo's, which is not installed.

    Example:
        >>> from halometry.simulation import load_preset
        >>> images, scene = sample(load_preset("demo_mass"), seed=0, start=0, count=2)
        >>> images.shape
        torch.Size([2, 1, 48, 48])
    """
    together = images_per_batch(preset.image)
    first = start - start % together
    stop = -(-(start + count) // together) * together
    scene = draw_scenes(preset, seed, first, stop - first)
    wanted = slice(start - first, start - first + count)
    # Vector instructions round otherwise at the ends of a thread's share than within it.
    with torch.no_grad(), limited_threads(1) if device == "cpu" else nullcontext():
        expected = render(scene.to(device, torch.float32), preset)[wanted]
    scene = scene.rows(wanted)
    return observe(expected, preset, seed, start, scene.background_rms), scene


def sample_fast(
    preset: Preset, seed: int, start: int, count: int, device: str = "cpu"
) -> tuple[Tensor, Scene]:
    """The same images as `sample` up to rounding, on a CPU by all threads, and more at a time.

    An expected count may differ in float32's last digits from that of `sample`, and so a pixel here
    and there by a count; the same call on as many threads gives the same bytes.

    Args, returns, raises: as `sample`.
    """
    if device != "cpu":
        return sample(preset, seed, start, count, device)
    scene, spec = draw_scenes(preset, seed, start, count), preset.image
    subpixels = (spec.pixels * spec.supersampling) ** 2
    together = max(1, FAST_BATCH_FACTOR * BATCH_SUBPIXELS * torch.get_num_threads() // subpixels)
    with (
        torch.no_grad(),
        limited_threads(max(1, min(together, count) * subpixels // BATCH_SUBPIXELS)),
    ):
        expected = render(scene.to(device, torch.float32), preset, together)
    return observe(expected, preset, seed, start, scene.background_rms), scene


@contextmanager
def limited_threads(most: int) -> Iterator[None]:
    """Use at most so many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(most, before))
    _keep_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _keep_memory() -> None:
    """Free 30 MB once: from then on glibc keeps what is freed for what comes next.

    Otherwise it may return each image's memory to the system and get it back page by page, which
    takes up to a fifth of the time. Nothing is written into them, so that they cost nothing.
    """
    torch.empty(30_000_000, dtype=torch.uint8)
