"""Group convolutions that commute with flips and 90-degree rotations of an image.

The group is the dihedral group D4 of the square. A feature has eight channels, one for each element
of the group: feature k in orientation g is channel 8 k + g. A flip or rotation of the image flips
or rotates each feature map and permutes the orientations, so that the mean over orientations and
positions is invariant. Cohen & Welling (2016), https://arxiv.org/abs/1602.07576, section 6.2 (there
p4m).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP_ORDER = 8  # elements of the group


@lru_cache(maxsize=16)
def filter_transforms(size: int) -> np.ndarray:
    """Permutations of a filter's pixels by the elements of the group.

    Args:
        size: side of the filter in pixels k.

    Returns:
        Indices (8, k * k): pixel p of the filter in orientation g is pixel `[g, p]` of the filter.
    """
    pixels = np.arange(size * size).reshape(size, size)
    mirrored = (pixels, pixels[:, ::-1])
    return np.stack([np.rot90(m, turn).ravel() for m in mirrored for turn in range(4)])


@lru_cache(maxsize=1)
def multiplication_table() -> np.ndarray:
    """Multiplication table of the group (8, 8): `[g, h]` is h followed by g."""
    elements = filter_transforms(3)
    index = {tuple(element): g for g, element in enumerate(elements)}
    return np.array([[index[tuple(h[g])] for h in elements] for g in elements])


def inverse_elements() -> np.ndarray:
    """Inverse of each element of the group (8,)."""
    return (multiplication_table() == 0).argmax(axis=1)


class LiftingConvolution(nn.Module):
    """Convolution from an image to features in eight orientations.

    Args:
        channels: channels of the image.
        features: number of features K.
        size: side of the filters in pixels, odd.
    """

    orientations: Tensor

    def __init__(self, channels: int, features: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.weight = nn.Parameter(torch.empty(features, channels, size * size))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (channels * size * size)))
        offsets = np.arange(channels)[:, None] * size * size
        pixels = offsets + filter_transforms(size)[:, None, :]
        flat = torch.from_numpy(pixels.reshape(-1))
        self.register_buffer("orientations", flat, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to features (B, 8 K, H, W)."""
        filters = self.weight.flatten(1).index_select(1, self.orientations)
        filters = filters.view(-1, self.channels, self.size, self.size)
        return functional.conv2d(images, filters, padding=self.size // 2)


class GroupConvolution(nn.Module):
    """Convolution between features in eight orientations that commutes with the group.

    Args:
        in_features, out_features: numbers of features K and K'.
        size: side of the filters in pixels, odd.
        stride: 1 or 2. For 2, an even side is averaged over pairs of pixels, and of an odd side
            every second pixel is used, the outermost ones included. Both keep the grid symmetric.
        gain: factor of the variance of initial weights; 2 before a rectifier.
    """

    sources: Tensor

    def __init__(
        self, in_features: int, out_features: int, size: int = 3, stride: int = 1, gain: float = 2.0
    ) -> None:
        super().__init__()
        self.in_features, self.size, self.stride = in_features, size, stride
        fan_in = in_features * GROUP_ORDER * size * size
        self.weight = nn.Parameter(
            torch.empty(out_features, in_features, GROUP_ORDER * size * size)
        )
        nn.init.normal_(self.weight, std=math.sqrt(gain / fan_in))
        table, inverse = multiplication_table(), inverse_elements()
        # Output orientation g sees input orientation h by the filter of g^-1 h in orientation g.
        relative = table[inverse]
        sources = relative[:, :, None] * size * size + filter_transforms(size)[:, None, :]
        # Order of a plain convolution: feature by feature.
        offsets = np.arange(in_features)[:, None, None] * GROUP_ORDER * size * size
        flat = torch.from_numpy((offsets + sources[:, None]).reshape(-1))
        self.register_buffer("sources", flat, persistent=False)

    def filters(self) -> Tensor:
        """Filters of the equivalent plain convolution (8 K', 8 K, k, k)."""
        filters = self.weight.flatten(1).index_select(1, self.sources)
        return filters.view(-1, GROUP_ORDER * self.in_features, self.size, self.size)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, 8 K, H, W) to (B, 8 K', H', W')."""
        filters, padding = self.filters(), self.size // 2
        if self.stride == 1:
            return functional.conv2d(features, filters, padding=padding)
        pooling = [2 if side % 2 == 0 else 1 for side in features.shape[-2:]]
        if pooling != [1, 1]:
            features = functional.avg_pool2d(features, pooling)
        stride = [2 // factor for factor in pooling]
        return functional.conv2d(features, filters, padding=padding, stride=stride)


class GroupBatchNormalization(nn.Module):
    """Batch normalization with the same mean, variance, scale and shift for all orientations.

    In training each orientation has its own batch statistics, whose differences vanish for large
    batches. In evaluation the running statistics are pooled over the orientations, so that the
    symmetry is exact.

    Args:
        features: number of features K.
        scale: initial scale; zero makes a residual block the identity.
        momentum: momentum of the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, scale: float = 1.0, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.scale = nn.Parameter(torch.full((features,), scale))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(GROUP_ORDER * features))
        self.register_buffer("running_var", torch.ones(GROUP_ORDER * features))

    def forward(self, features: Tensor) -> Tensor:
        """Normalize features (B, 8 K, H, W)."""
        mean, var = self.running_mean, self.running_var
        if not self.training:
            means = mean.view(-1, GROUP_ORDER)
            within = var.view(-1, GROUP_ORDER).mean(dim=1)
            var = (within + means.var(dim=1, correction=0)).repeat_interleave(GROUP_ORDER)
            mean = means.mean(dim=1).repeat_interleave(GROUP_ORDER)
        scale, shift = (p.repeat_interleave(GROUP_ORDER) for p in (self.scale, self.shift))
        return functional.batch_norm(
            features, mean, var, scale, shift, self.training, self.momentum
        )


def mean_over_group(features: Tensor) -> Tensor:
    """Average features (B, 8 K, H, W) over orientations, (B, K, H, W)."""
    batch, channels, *sides = features.shape
    return features.reshape(batch, channels // GROUP_ORDER, GROUP_ORDER, *sides).mean(dim=2)
