"""Noise of the detector: Poisson and Gaussian noise, and JPEG compression."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from halometry.errors import DataError
from halometry.simulation.poisson import draw_poisson
from halometry.simulation.preset import Preset
from halometry.simulation.rng import Purpose, image_rng
from halometry.simulation.sampling import draw_scenes

MAX_EXPECTED_COUNTS = 1e9  # per pixel; twice as many do not fit in 32 bits


def observe(
    expected: Tensor, preset: Preset, seed: int, start: int, background: Tensor | None = None
) -> Tensor:
    """Add noise to the expected counts of images `start`, `start + 1`, ...

    The noise is Poisson noise, and Gaussian noise where the preset has a background. The noise of
    image k depends on (seed, k) only, and not on the batch. It differs between CPU and GPU.

    Args:
        expected: expected counts (N, 1, H, W), finite and not negative.
        preset: preset of the images.
        seed: seed of the dataset.
        start: number of the first image.
        background: standard deviation of the Gaussian noise (N,), `Scene.background_rms`; drawn
            again if not given.

    Returns:
        Integer counts (N, 1, H, W), float32.

    Raises:
        DataError: an expected count is negative, too large, infinite or NaN; the image is named.
    """
    expected, spec = expected.float(), preset.image
    _check_expected(expected, start)
    noisy = expected
    if "no_noise" not in spec.reproduce_bugs:
        noisy = _with_noise(expected, preset, seed, start, background)
    return noisy.round() if spec.jpeg_quality is None else as_jpeg(noisy, spec.jpeg_quality)


def _with_noise(
    expected: Tensor, preset: Preset, seed: int, start: int, background: Tensor | None
) -> Tensor:
    """Noisy counts, not rounded; the arguments are those of `observe`."""
    spec = preset.image
    if background is None:
        background = draw_scenes(preset, seed, start, len(expected)).background_rms
    counts = torch.empty_like(expected)
    add = _add_noise if spec.shot_noise else _add_gaussian
    add = _add_noise_twice if "noise_twice" in spec.reproduce_bugs else add
    for i, (image, rms) in enumerate(zip(expected, background.tolist(), strict=True)):
        rng = image_rng(seed, start + i, Purpose.NOISE)
        counts[i] = add(image, rms, rng)
    return counts.abs() if "absolute_value" in spec.reproduce_bugs else counts


def _check_expected(expected: Tensor, start: int) -> None:
    """Raise DataError unless all expected counts are from 0 to `MAX_EXPECTED_COUNTS`."""
    low, high = expected.aminmax()
    if not (float(low) >= 0 and float(high) < MAX_EXPECTED_COUNTS):  # also for NaN
        good = (expected >= 0) & (expected < MAX_EXPECTED_COUNTS)
        first = int(torch.nonzero(~good.flatten(1).all(dim=1))[0, 0])
        raise DataError(
            f"image {start + first}: its expected counts are not all from 0 to"
            f" {MAX_EXPECTED_COUNTS:.0e}; check the values of its scene"
        )


def _add_noise(expected: Tensor, rms: float, rng: np.random.Generator) -> Tensor:
    """Poisson counts of an image, plus Gaussian noise."""
    generator = _torch_generator(rng, expected.device)
    counts = _poisson(expected, rng, generator)
    return _normal_like(counts, generator).mul_(rms).add_(counts) if rms else counts


def _add_gaussian(expected: Tensor, rms: float, rng: np.random.Generator) -> Tensor:
    """Expected counts of an image plus Gaussian noise."""
    generator = _torch_generator(rng, expected.device)
    return _normal_like(expected, generator).mul_(rms).add_(expected)


def _add_noise_twice(expected: Tensor, rms: float, rng: np.random.Generator) -> Tensor:
    """Gaussian noise of the variance of Poisson noise, then Poisson noise of the noisy image."""
    generator = _torch_generator(rng, expected.device)
    sigma = (expected + rms**2).sqrt()
    noisy = _normal_like(expected, generator).mul_(sigma).add_(expected).clamp_(min=0)
    return _poisson(noisy, rng, generator)


def _poisson(expected: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """Poisson counts; on a CPU drawn with `rng`, on a GPU with `generator`."""
    if expected.is_cuda:
        return torch.poisson(expected, generator)
    return torch.from_numpy(draw_poisson(expected.numpy(), rng))


def _normal_like(image: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape of an image."""
    return torch.randn(image.shape, generator=generator, device=image.device)


def _torch_generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """A generator on a device, seeded from the image's random number generator."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))


def as_jpeg(images: Tensor, quality: int) -> Tensor:
    """Compress images as gray JPEG files of 8 bits and read them again.

    Args:
        images: images (N, 1, H, W), each with a pixel above zero.
        quality: quality of the compression, 1 to 95.

    Returns:
        Integers from 0 to 255 (N, 1, H, W); the brightest pixel of each image is scaled to 255
        before compression.
    """
    brightest = images.flatten(1).amax(dim=1).clamp_min(torch.finfo(images.dtype).tiny)
    scaled = (images / brightest[:, None, None, None] * 255).round().clamp(0, 255)
    pixels = scaled.to("cpu", torch.uint8).numpy()
    decoded = np.stack([_jpeg_round_trip(image[0], quality) for image in pixels])
    return torch.from_numpy(decoded)[:, None].to(images)


def _jpeg_round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Encode an image (H, W) as JPEG and decode it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
