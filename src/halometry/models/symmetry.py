"""Convolutions that commute with the flips and quarter turns of an image.

A feature is seen in eight forms, one for each element of the dihedral group D4: feature k in the
form g is channel 8 k + g. Turning or flipping the image turns and flips each map and permutes the
forms, so that an average over forms and positions does not change at all. Cohen & Welling (2016),
https://arxiv.org/abs/1602.07576, section 6.2 (there p4m).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP_ORDER = 8  # of the group


@lru_cache(maxsize=16)
def filter_transforms(size: int) -> np.ndarray:
    """Where each form of a filter takes its pixels from.

    Args:
        size: side of the filter in pixels, k.

    Returns:
        Indices (8, k * k): pixel p of form g is pixel `[g, p]` of the filter.
    """
    pixels = np.arange(size * size).reshape(size, size)
    mirrored = (pixels, pixels[:, ::-1])
    return np.stack([np.rot90(m, turn).ravel() for m in mirrored for turn in range(4)])


@lru_cache(maxsize=1)
def multiplication_table() -> np.ndarray:
    """The group's table (8, 8): which form h followed by g makes, at `[g, h]`."""
    forms = filter_transforms(3)
    number = {tuple(form): g for g, form in enumerate(forms)}
    return np.array([[number[tuple(h[g])] for h in forms] for g in forms])


def inverse_elements() -> np.ndarray:
    """The form that undoes each (8,)."""
    return (multiplication_table() == 0).argmax(axis=1)


class LiftingConvolution(nn.Module):
    """From an image to features in eight forms.

    Args:
        channels: of the image.
        features: K.
        size: side of the filters in pixels, odd.
    """

    forms: Tensor

    def __init__(self, channels: int, features: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.weight = nn.Parameter(torch.empty(features, channels, size * size))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (channels * size * size)))
        offsets = np.arange(channels)[:, None] * size * size
        forms = offsets + filter_transforms(size)[:, None, :]
        self.register_buffer("forms", torch.from_numpy(forms.reshape(-1)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 8 K, H, W)."""
        filters = self.weight.flatten(1).index_select(1, self.forms)
        filters = filters.view(-1, self.channels, self.size, self.size)
        return functional.conv2d(images, filters, padding=self.size // 2)


class GroupConvolution(nn.Module):
    """From features in eight forms to others, each form with the same filters in that form.

    Args:
        before, after: features K and K'.
        size: side of the filters in pixels, odd.
        stride: 1 or 2. Of 2, an even side is halved by averaging first, and an odd side keeps
            every second pixel, the outermost ones included: either grid is symmetric.
        gain: of the weights' variance, 2 before a rectifier.
    """

    sources: Tensor

    def __init__(
        self, before: int, after: int, size: int = 3, stride: int = 1, gain: float = 2.0
    ) -> None:
        super().__init__()
        self.before, self.size, self.stride = before, size, stride
        fan_in = before * GROUP_ORDER * size * size
        self.weight = nn.Parameter(torch.empty(after, before, GROUP_ORDER * size * size))
        nn.init.normal_(self.weight, std=math.sqrt(gain / fan_in))
        products, inverse, forms = (
            multiplication_table(),
            inverse_elements(),
            filter_transforms(size),
        )
        # Form g of the output sees form h of the input with the filter for g^-1 h, in form g.
        relative = products[inverse]
        sources = relative[:, :, None] * size * size + forms[:, None, :]
        # In the order in which a plain convolution wants them, feature by feature.
        offsets = np.arange(before)[:, None, None] * GROUP_ORDER * size * size
        flat = torch.from_numpy((offsets + sources[:, None]).reshape(-1))
        self.register_buffer("sources", flat, persistent=False)

    def filters(self) -> Tensor:
        """The filters of a plain convolution (8 K', 8 K, k, k)."""
        chosen = self.weight.flatten(1).index_select(1, self.sources)
        return chosen.view(-1, GROUP_ORDER * self.before, self.size, self.size)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 8 K, H, W) to (B, 8 K', H', W')."""
        filters, padding = self.filters(), self.size // 2
        if self.stride == 1:
            return functional.conv2d(features, filters, padding=padding)
        halved = [2 if side % 2 == 0 else 1 for side in features.shape[-2:]]
        if halved != [1, 1]:
            features = functional.avg_pool2d(features, halved)
        stride = [2 // by for by in halved]
        return functional.conv2d(features, filters, padding=padding, stride=stride)


class GroupBatchNormalization(nn.Module):
    """Batch normalization with one mean, variance, scale and shift for all forms of a feature.

    In training the statistics of a batch are those of each form, whose differences vanish as the
    batch grows; the running ones, used afterwards, are pooled over the forms, exactly.

    Args:
        features: K.
        scale: to begin with; zero switches a residual branch off.
        momentum: of the running statistics.
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
        """(B, 8 K, H, W) to the same shape."""
        mean, var = self.running_mean, self.running_var
        if not self.training:
            forms = mean.view(-1, GROUP_ORDER)
            within = var.view(-1, GROUP_ORDER).mean(dim=1)
            var = (within + forms.var(dim=1, correction=0)).repeat_interleave(GROUP_ORDER)
            mean = forms.mean(dim=1).repeat_interleave(GROUP_ORDER)
        scale, shift = (p.repeat_interleave(GROUP_ORDER) for p in (self.scale, self.shift))
        return functional.batch_norm(
            features, mean, var, scale, shift, self.training, self.momentum
        )


def mean_over_group(features: Tensor) -> Tensor:
    """Features (B, 8 K, H, W) to maps (B, K, H, W) that turn and flip as the image does."""
    batch, channels, *sides = features.shape
    return features.reshape(batch, channels // GROUP_ORDER, GROUP_ORDER, *sides).mean(dim=2)
