"""A small network whose answer does not change when an image is flipped or turned.

Lensing does not know left from right. d4net is built of convolutions that commute with the eight
flips and quarter turns (`halometry.models.symmetry`), so that it need not learn each mark of
substructure eight times: eight times fewer weights for as many filters, and no augmentation.
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
)  # residual blocks of the network and the deeper one
RESIDUAL_BLOCKS = re.compile(r"stages\.\d+\.blocks\.")  # weights that a shallower one may lack
MAX_UNBINNED_SIDE = 96  # pixels; the sides of larger images are halved before all else


class D4Net(nn.Module):
    """From images to features that are invariant under the eight symmetries of a square.

    Images of more than 96 pixels are binned 2 x 2: where the point spread function is as broad as
    in the community's sets, the finer grid holds next to nothing more.

    Args:
        channels: of the image.
        widths: features at full resolution and after each halving, each in eight forms.
        depths: residual blocks after each of these.
        num_features: F, of the output.

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
        # As timm describes its networks: where maps of which size are to be had.
        self.feature_info = [
            {"num_chs": GROUP_ORDER * width, "reduction": 2 ** (i + 1), "module": f"stages.{i}"}
            for i, width in enumerate(widths)
        ]

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, F)."""
        features = self.norm(self.lift(bin_large_images(images))).relu()
        for stage in self.stages:
            features = stage(features)
        features = self.last_norm(self.last(features)).relu()
        return mean_over_group(features).mean(dim=(2, 3))


class Stage(nn.Module):
    """Halve the sides, change the number of features, then residual blocks.

    Args:
        before, after: features; a `before` of 0 leaves size and number as they are.
        depth: number of blocks.
    """

    def __init__(self, before: int, after: int, depth: int) -> None:
        super().__init__()
        self.halve = GroupConvolution(before, after, 3, stride=2) if before else None
        self.norm = GroupBatchNormalization(after) if before else None
        self.blocks = nn.Sequential(*(Block(after) for _ in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, 8 K, H, W) to (B, 8 K', H', W')."""
        if self.halve is not None and self.norm is not None:
            features = self.norm(self.halve(features)).relu()
        return self.blocks(features)


class Block(nn.Module):
    """A residual block of two convolutions, He et al. (2016), begun as the identity.

    Args:
        features: K.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.second = (GroupConvolution(features, features, 3) for _ in range(2))
        self.norm_first = GroupBatchNormalization(features)
        self.norm_second = GroupBatchNormalization(features, scale=0.0)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 8 K, H, W) to the same shape."""
        branch = self.norm_first(self.first(features)).relu()
        return (features + self.norm_second(self.second(branch))).relu()


def bin_large_images(images: Tensor) -> Tensor:
    """Images (B, C, H, W), their sides halved where they are long; the grid stays symmetric."""
    if min(images.shape[-2:]) <= MAX_UNBINNED_SIDE:
        return images
    odd = [side % 2 for side in images.shape[-2:]]
    kernel = [2 + one for one in odd]
    return functional.avg_pool2d(images, kernel, stride=2, padding=odd, count_include_pad=False)
