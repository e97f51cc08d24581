"""What a detector makes of expected counts: Poisson noise, and Gaussian noise where asked."""

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

MAX_EXPECTED_COUNTS = (
    1e9  # counts that a pixel may be expected to hold; more than twice do not fit 32 bits
)


def observe(
    expected: Tensor, preset: Preset, seed: int, start: int, background: Tensor | None = None
) -> Tensor:
    """Add the noise of images `start`, `start + 1`, ...: Poisson, and Gaussian where asked.

    Image k's noise follows from (seed, k) alone, whatever the batch; on a GPU it is another one
    than on a CPU.

    Args:
        expected: counts (N, 1, H, W), finite and not negative.
        preset: for the Gaussian part, and for defects of other codes.
        seed: of the set.
        start: number of the first image.
        background: rms of the Gaussian part (N,), as `background_rms` of their scene; drawn again
            if not given.

    Returns:
        Whole counts (N, 1, H, W), float32.

    Raises:
        DataError: an expected count is negative, infinite or not a number; the image is named.
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
    low, high = expected.aminmax()
    if not (
        float(low) >= 0 and float(high) < MAX_EXPECTED_COUNTS
    ):  # false where one is not a number
        good = (expected >= 0) & (expected < MAX_EXPECTED_COUNTS)
        first = int(torch.nonzero(~good.flatten(1).all(dim=1))[0, 0])
        raise DataError(
            f"image {start + first}: its expected counts are not all from 0 to"
            f" {MAX_EXPECTED_COUNTS:.0e}; check the values of its scene"
        )


def _add_noise(expected: Tensor, rms: float, rng: np.random.Generator) -> Tensor:
    generator = _torch_generator(rng, expected.device)
    counts = _poisson(expected, rng, generator)
    return _normal_like(counts, generator).mul_(rms).add_(counts) if rms else counts


def _add_gaussian(expected: Tensor, rms: float, rng: np.random.Generator) -> Tensor:
    generator = _torch_generator(rng, expected.device)
    return _normal_like(expected, generator).mul_(rms).add_(expected)


def _add_noise_twice(expected: Tensor, rms: float, rng: np.random.Generator) -> Tensor:
    """Noise of about the right size, then Poisson noise of the noisy image."""
    generator = _torch_generator(rng, expected.device)
    sigma = (expected + rms**2).sqrt()
    noisy = _normal_like(expected, generator).mul_(sigma).add_(expected).clamp_(min=0)
    return _poisson(noisy, rng, generator)


def _poisson(expected: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    if expected.is_cuda:
        return torch.poisson(expected, generator)
    return torch.from_numpy(draw_poisson(expected.numpy(), rng))


def _normal_like(image: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(image.shape, generator=generator, device=image.device)


def _torch_generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """A generator of the device, seeded by the image's own stream."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))


def as_jpeg(images: Tensor, quality: int) -> Tensor:
    """What is left of images in gray JPEG files.

    Args:
        images: (N, 1, H, W), each with something above zero.
        quality: of the compression, 1 to 95.

    Returns:
        Whole numbers from 0 to 255, the brightest pixel of each having been stretched to 255.
    """
    brightest = images.flatten(1).amax(dim=1).clamp_min(torch.finfo(images.dtype).tiny)
    stretched = (images / brightest[:, None, None, None] * 255).round().clamp(0, 255)
    pixels = stretched.to("cpu", torch.uint8).numpy()
    read = np.stack([_jpeg_round_trip(image[0], quality) for image in pixels])
    return torch.from_numpy(read)[:, None].to(images)


def _jpeg_round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
