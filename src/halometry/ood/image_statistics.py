"""What an image looks like, in a few dozen numbers that flips and quarter turns do not change.

A network trained to tell substructure apart is blind to much else: it never had a reason to look at
the background's noise. These numbers are plain, and of what the network is given.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

RINGS = 8  # around the center, the last one to the corners
CENTERS = ((2.5, 6.0), (5.0, 10.0))  # pixels: radii of a disc in the middle and around it
FREQUENCIES = (0.0, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0)  # cycles/px
SHARES = (0.5, 0.8, 0.95, 0.99)  # of the pixels of familiar images, below each level
FLOOR = 1e-3  # of the pixels' standard deviation: what is less does not matter
# Straight and evenly curved light vanishes under it, white noise keeps its variance: Immerkaer
# (1996), https://doi.org/10.1006/cviu.1996.0060
ROUGHNESS = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))


def looks(images: Tensor, levels: Tensor) -> dict[str, Tensor]:
    """Describe images.

    Args:
        images: (B, C, H, W), in units of the pixels' standard deviation; three pixels a side at
            least.
        levels: of brightness, increasing (L,), between which noise is measured.

    Returns:
        For each side of an image, numbers of every channel (B, C * n):
        `light`, mean and logarithm of the scatter in rings around the center;
        `center`, by how much the middle is brighter than what is around it: a lens that shines;
        `spectrum`, logarithm of the power at frequencies from coarse to fine;
        `noise`, between any two levels, logarithms of the share of pixels, of the roughness (rms)
        and of the roughest pixel: noise against brightness, and what no lens makes.

    Example:
        >>> image = torch.rand(1, 1, 32, 32)
        >>> turned = looks(image.rot90(1, (2, 3)), torch.tensor([0.5]))
        >>> bool(torch.allclose(turned["noise"], looks(image, torch.tensor([0.5]))["noise"]))
        True
    """
    batch = len(images)
    single = images.flatten(0, 1)
    described = {"light": _light(single), "center": _center(single), "spectrum": _spectrum(single)}
    described["noise"] = _noise(single, levels)
    return {side: numbers.reshape(batch, -1) for side, numbers in described.items()}


def brightness_levels(images: Tensor) -> Tensor:
    """Levels between which `looks` may measure noise: quantiles of images like these (L,)."""
    smooth = _smooth(images.flatten(0, 1)).flatten().double()
    return torch.quantile(smooth[:: max(1, len(smooth) // 10**6)], smooth.new_tensor(SHARES))


def _light(images: Tensor) -> Tensor:
    """(B, H, W) to (B, 2 RINGS)."""
    rings = _rings(*images.shape[-2:]).to(images)
    flat = images.flatten(1)
    mean = flat @ rings
    variance = (flat.square() @ rings - mean.square()).clamp_min(0)
    return torch.cat([mean, _log(variance.sqrt())], dim=1)


def _center(images: Tensor) -> Tensor:
    """(B, H, W) to (B, CENTERS)."""
    return images.flatten(1) @ _discs(*images.shape[-2:]).to(images)


def _spectrum(images: Tensor) -> Tensor:
    """(B, H, W) to (B, frequencies); of white noise, the logarithm of its standard deviation."""
    window, bins = (constant.to(images) for constant in _frequencies(*images.shape[-2:]))
    centerd = images - images.mean(dim=(1, 2), keepdim=True)
    power = torch.fft.rfft2(centerd * window).abs().square() / window.square().sum()
    return _log((power.flatten(1) @ bins).sqrt())


def _noise(images: Tensor, levels: Tensor) -> Tensor:
    """(B, H, W) to (B, 3 (L + 1))."""
    kernel = images.new_tensor(ROUGHNESS)[None, None] / 6
    rough = functional.conv2d(images[:, None], kernel)[:, 0].abs()
    smooth = _smooth(images)
    total = rough[0].numel()
    edges = [-torch.inf, *levels.tolist(), torch.inf]
    numbers = []
    for low, high in pairwise(edges):
        within = (smooth > low) & (smooth <= high)
        count = within.sum(dim=(1, 2))
        chosen = rough * within
        rms = (chosen.square().sum(dim=(1, 2)) / count.clamp_min(1)).sqrt()
        share = ((count + 1) / total).log()
        numbers += [share, _log(rms), _log(chosen.amax(dim=(1, 2)))]
    return torch.stack(numbers, dim=1)


def _smooth(images: Tensor) -> Tensor:
    """Means of 3 x 3 pixels, (B, H, W) to (B, H - 2, W - 2)."""
    return functional.avg_pool2d(images[:, None], 3, stride=1)[:, 0]


def _log(values: Tensor) -> Tensor:
    return (values + FLOOR).log()


@lru_cache(maxsize=8)
def _rings(height: int, width: int) -> Tensor:
    """What takes the means over rings of a flattened image (H W, RINGS)."""
    radius = _radius(height, width) / (min(height, width) / 2)
    ring = (radius * (RINGS - 1)).long().clamp_max(RINGS - 1)
    return _means(functional.one_hot(ring, RINGS).float())


@lru_cache(maxsize=8)
def _discs(height: int, width: int) -> Tensor:
    """What takes the mean of a disc less that of what is around it (H W, CENTERS)."""
    radius = _radius(height, width)[:, None]
    inner, outer = torch.tensor(CENTERS).T
    return _means((radius < inner).float()) - _means(((radius >= inner) & (radius < outer)).float())


def _radius(height: int, width: int) -> Tensor:
    """Pixels from the center of a flattened image (H W,)."""
    y, x = (torch.arange(side) - (side - 1) / 2 for side in (height, width))
    return torch.hypot(y[:, None], x[None, :]).flatten()


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A window that hides the edges (H, W), and what takes means over frequencies (H W', n)."""
    hann = [torch.hann_window(side + 2, periodic=False)[1:-1] for side in (height, width)]
    fy, fx = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    frequency = torch.hypot(fy[:, None], fx[None, :]).flatten()
    edges = torch.tensor(FREQUENCIES)
    inside = (frequency[:, None] > edges[:-1]) & (frequency[:, None] <= edges[1:])
    # The other half of the plane is this one's mirror image, but for the columns of its axes.
    twice = torch.where((fx == 0) | (fx == 0.5), 1.0, 2.0).expand(height, -1).flatten()
    return hann[0][:, None] * hann[1][None, :], _means(inside * twice[:, None])


def _means(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=0).clamp_min(1)
