"""d4net: a small network that is invariant under flips and 90-degree rotations of the image.

Lensing has no preferred direction. d4net consists of convolutions that commute with the eight flips
and rotations (`halometry.models.symmetry`). It needs no augmentation, and eight times fewer weights
for the same number of filters.
"""

from __future__ import annotations

import re

from torch import Tensor, nn
from torch.nn import functional

from halometry.models.symmetry import (
    GROUP_ORDER,
    GroupBatchNormalization,
    GroupConvolution,
    LiftingConvolution,
    mean_over_group,
)

DEPTHS, DEEP_DEPTHS = (
    (0, 1, 1, 1),
    (0, 2, 3, 3),
)  # residual blocks after each stage
RESIDUAL_BLOCKS = re.compile(r"stages\.\d+\.blocks\.")  # names of their weights
MAX_UNBINNED_SIDE = 96  # pixels; larger images are binned 2 x 2 first


class D4Net(nn.Module):
    """Network from images to features that are invariant under the symmetries of a square.

    Images of more than 96 pixels are binned 2 x 2, since the point spread function of the published
    sets is wide and a finer grid contains little more information.

    Args:
        channels: channels of the image.
        widths: features at full resolution and after each halving, each in eight orientations.
        depths: number of residual blocks after each of these.
        num_features: number of output features F.

    Example:
        >>> import torch
        >>> net, images = D4Net(channels=1).eval(), torch.rand(1, 1, 48, 48)
        >>> bool(torch.allclose(net(images), net(images.rot90(1, (2, 3))), atol=1e-5))
        True
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...] = (2, 4, 8, 16),
        depths: tuple[int, ...] = DEPTHS,
        num_features: int = 64,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.lift = LiftingConvolution(channels, widths[0], 5)
        self.norm = GroupBatchNormalization(widths[0])
        self.stages = nn.ModuleList(
            Stage(before, after, depth)
            for before, after, depth in zip((0, *widths), widths, depths, strict=False)
        )
        self.last = GroupConvolution(widths[-1], num_features, 1)
        self.last_norm = GroupBatchNormalization(num_features)
        # Feature maps of the stages, in the format of timm.
        self.feature_info = [
            {"num_chs": GROUP_ORDER * width, "reduction": 2 ** (i + 1), "module": f"stages.{i}"}
            for i, width in enumerate(widths)
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to features (B, F)."""
        features = self.norm(self.lift(bin_large_images(images))).relu()
        for stage in self.stages:
            features = stage(features)
        features = self.last_norm(self.last(features)).relu()
        return mean_over_group(features).mean(dim=(2, 3))


class Stage(nn.Module):
    """Stage: halve the sides and change the number of features, then residual blocks.

    Args:
        in_features, out_features: numbers of features K and K'; K = 0 keeps size and number.
        depth: number of residual blocks.
    """

    def __init__(self, in_features: int, out_features: int, depth: int) -> None:
        super().__init__()
        self.halve = (
            GroupConvolution(in_features, out_features, 3, stride=2) if in_features else None
        )
        self.norm = GroupBatchNormalization(out_features) if in_features else None
        self.blocks = nn.Sequential(*(Block(out_features) for _ in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, 8 K, H, W) to (B, 8 K', H', W')."""
        if self.halve is not None and self.norm is not None:
            features = self.norm(self.halve(features)).relu()
        return self.blocks(features)


class Block(nn.Module):
    """Residual block of two convolutions, He et al. (2016), initially the identity.

    Args:
        features: number of features K.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.second = (GroupConvolution(features, features, 3) for _ in range(2))
        self.norm_first = GroupBatchNormalization(features)
        self.norm_second = GroupBatchNormalization(features, scale=0.0)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, 8 K, H, W) to the same shape."""
        branch = self.norm_first(self.first(features)).relu()
        return (features + self.norm_second(self.second(branch))).relu()


def bin_large_images(images: Tensor) -> Tensor:
    """Bin large images (B, C, H, W) 2 x 2, with one pixel more for an odd side."""
    if min(images.shape[-2:]) <= MAX_UNBINNED_SIDE:
        return images
    odd = [side % 2 for side in images.shape[-2:]]
    kernel = [2 + remainder for remainder in odd]
    return functional.avg_pool2d(images, kernel, stride=2, padding=odd, count_include_pad=False)
