"""What a detector makes of expected counts: Poisson noise, and Gaussian noise where asked."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from halometry.errors import DataError
from halometry.simulation.poisson import draw_poisson
from halometry.simulation.preset import Preset
from halometry.simulation.streams import Purpose, stream


def observe(expected: Tensor, preset: Preset, seed: int, start: int) -> Tensor:
    """Add the noise of images `start`, `start + 1`, ...: Poisson, and Gaussian where asked.

    Image k's noise follows from (seed, k) alone, whatever the batch; on a GPU it is another one
    than on a CPU.

    Args:
        expected: counts (N, 1, H, W), finite and not negative.
        preset: for the Gaussian part.
        seed: of the set.
        start: number of the first image.

    Returns:
        Whole counts (N, 1, H, W), float32.

    Raises:
        DataError: an expected count is negative, infinite or not a number; the image is named.
    """
    expected = expected.float()
    _check(expected, start)
    counts = torch.empty_like(expected)
    for i, image in enumerate(expected):
        counts[i] = _observe(image, preset.image.background_rms, seed, start + i)
    return counts


def _check(expected: Tensor, start: int) -> None:
    good = (expected >= 0) & (expected < torch.inf)
    if not bool(good.all()):
        first = int(torch.nonzero(~good.flatten(1).all(dim=1))[0, 0])
        raise DataError(
            f"image {start + first}: its expected counts are not all finite and positive or zero; "
            "check the values of its scene"
        )


def _observe(expected: Tensor, rms: float, seed: int, image: int) -> Tensor:
    rng = stream(seed, image, Purpose.NOISE)
    if expected.is_cuda:
        generator = _generator(rng, expected.device)
        counts = torch.poisson(expected, generator)
    else:
        counts = torch.from_numpy(draw_poisson(expected.numpy(), rng))
        generator = _generator(rng, expected.device)
    if rms:
        noise = torch.randn(expected.shape, generator=generator, device=expected.device)
        counts = noise.mul_(rms).add_(counts).round_()
    return counts


def _generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """A generator of the device, seeded by the image's own stream."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))
