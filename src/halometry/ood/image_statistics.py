"""Image statistics: a few dozen numbers that describe light, spectrum and noise of an image.

A network that was trained to find substructure ignores much else, such as the noise of the
background. These statistics see it. They are computed from the network's input and do not change
when the image is flipped or rotated by 90 degrees.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

N_RINGS = 8  # rings around the center; the last one reaches the corners
CENTER_RADII = ((2.5, 6.0), (5.0, 10.0))  # pixels: of a central disk and the ring around it
# Edges of the bins of the spectrum, in cycles per pixel.
FREQUENCY_EDGES = (0.0, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0)
LEVEL_QUANTILES = (0.5, 0.8, 0.95, 0.99)  # fraction of in-distribution pixels below each level
LOG_FLOOR = 1e-3  # added before logarithms, in units of the pixels' standard deviation
# Noise filter of Immerkaer (1996), https://doi.org/10.1006/cviu.1996.0060: it removes linear and
# quadratic brightness; divided by 6 it keeps the variance of white noise.
NOISE_KERNEL = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))


def image_statistics(images: Tensor, levels: Tensor) -> dict[str, Tensor]:
    """Compute the statistics of images.

    Args:
        images: (B, C, H, W), in units of the pixels' standard deviation; at least 3 x 3 pixels.
        levels: increasing brightness levels (L,), which separate the bins of `noise`.

    Returns:
        Name of a group to its numbers for all channels (B, C * n):

        - `light`: mean and logarithm of the standard deviation in rings around the center.
        - `center`: brightness of the central disk above that of the ring around it, which shows
          the light of a lens.
        - `spectrum`: logarithm of the amplitude in bins of spatial frequency.
        - `noise`: for each bin of brightness the logarithms of the fraction of pixels, and of rms
          and maximum of the filtered image (`NOISE_KERNEL`).

    Example:
        >>> image = torch.rand(1, 1, 32, 32)
        >>> levels = torch.tensor([0.5])
        >>> rotated = image_statistics(image.rot90(1, (2, 3)), levels)
        >>> bool(torch.allclose(rotated["noise"], image_statistics(image, levels)["noise"]))
        True
    """
    batch = len(images)
    single = images.flatten(0, 1)
    groups = {
        "light": _light(single),
        "center": _center(single),
        "spectrum": _spectrum(single),
        "noise": _noise(single, levels),
    }
    return {name: numbers.reshape(batch, -1) for name, numbers in groups.items()}


def brightness_levels(images: Tensor) -> Tensor:
    """Brightness levels for `image_statistics`: quantiles of smoothed images (L,)."""
    smooth = _smooth(images.flatten(0, 1)).flatten().double()
    return torch.quantile(
        smooth[:: max(1, len(smooth) // 10**6)], smooth.new_tensor(LEVEL_QUANTILES)
    )


def _light(images: Tensor) -> Tensor:
    """Compute `light` of (B, H, W), (B, 2 N_RINGS)."""
    rings = _rings(*images.shape[-2:]).to(images)
    flat = images.flatten(1)
    mean = flat @ rings
    variance = (flat.square() @ rings - mean.square()).clamp_min(0)
    return torch.cat([mean, _log(variance.sqrt())], dim=1)


def _center(images: Tensor) -> Tensor:
    """Compute `center` of (B, H, W), (B, len(CENTER_RADII))."""
    return images.flatten(1) @ _disks(*images.shape[-2:]).to(images)


def _spectrum(images: Tensor) -> Tensor:
    """Compute `spectrum` of (B, H, W), (B, bins); for white noise, the logarithm of its rms."""
    window, bins = (constant.to(images) for constant in _frequencies(*images.shape[-2:]))
    centered = images - images.mean(dim=(1, 2), keepdim=True)
    power = torch.fft.rfft2(centered * window).abs().square() / window.square().sum()
    return _log((power.flatten(1) @ bins).sqrt())


def _noise(images: Tensor, levels: Tensor) -> Tensor:
    """Compute `noise` of (B, H, W), (B, 3 (L + 1))."""
    kernel = images.new_tensor(NOISE_KERNEL)[None, None] / 6
    rough = functional.conv2d(images[:, None], kernel)[:, 0].abs()
    smooth = _smooth(images)
    total = rough[0].numel()
    edges = [-torch.inf, *levels.tolist(), torch.inf]
    columns = []
    for low, high in pairwise(edges):
        within = (smooth > low) & (smooth <= high)
        count = within.sum(dim=(1, 2))
        selected = rough * within
        rms = (selected.square().sum(dim=(1, 2)) / count.clamp_min(1)).sqrt()
        fraction = ((count + 1) / total).log()
        columns += [fraction, _log(rms), _log(selected.amax(dim=(1, 2)))]
    return torch.stack(columns, dim=1)


def _smooth(images: Tensor) -> Tensor:
    """Average 3 x 3 pixels, (B, H, W) to (B, H - 2, W - 2)."""
    return functional.avg_pool2d(images[:, None], 3, stride=1)[:, 0]


def _log(values: Tensor) -> Tensor:
    """Logarithm with a floor."""
    return (values + LOG_FLOOR).log()


@lru_cache(maxsize=8)
def _rings(height: int, width: int) -> Tensor:
    """Matrix that averages a flattened image over rings (H W, N_RINGS)."""
    radius = _radius(height, width) / (min(height, width) / 2)
    ring = (radius * (N_RINGS - 1)).long().clamp_max(N_RINGS - 1)
    return _means(functional.one_hot(ring, N_RINGS).float())


@lru_cache(maxsize=8)
def _disks(height: int, width: int) -> Tensor:
    """Matrix that subtracts the mean of a ring from that of the disk inside (H W, radii)."""
    radius = _radius(height, width)[:, None]
    inner, outer = torch.tensor(CENTER_RADII).T
    return _means((radius < inner).float()) - _means(((radius >= inner) & (radius < outer)).float())


def _radius(height: int, width: int) -> Tensor:
    """Distance from the center in pixels, for a flattened image (H W,)."""
    y, x = (torch.arange(side) - (side - 1) / 2 for side in (height, width))
    return torch.hypot(y[:, None], x[None, :]).flatten()


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Window that suppresses the edges (H, W), and matrix of frequency bins (H W', n)."""
    hann = [torch.hann_window(side + 2, periodic=False)[1:-1] for side in (height, width)]
    fy, fx = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    frequency = torch.hypot(fy[:, None], fx[None, :]).flatten()
    edges = torch.tensor(FREQUENCY_EDGES)
    inside = (frequency[:, None] > edges[:-1]) & (frequency[:, None] <= edges[1:])
    # rfft2 gives half of the plane; all columns but the first and the Nyquist one count twice.
    twice = torch.where((fx == 0) | (fx == 0.5), 1.0, 2.0).expand(height, -1).flatten()
    return hann[0][:, None] * hann[1][None, :], _means(inside * twice[:, None])


def _means(weights: Tensor) -> Tensor:
    """Divide each column by its sum, so that the matrix averages."""
    return weights / weights.sum(dim=0).clamp_min(1)
