"""A backbone with a head: images in, one number a class or one mass out."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

import torch
from torch import Tensor, nn

from halometry.models.backbones import StemInit, create_backbone, feature_width


class Network(nn.Module):
    """A backbone from `halometry.models.backbones` and a head of linear layers.

    Args:
        backbone: its name.
        channels: of the input.
        outputs: of the head: classes, or 1 for a mass.
        hidden: widths of the head's hidden layers; none gives a single linear layer.
        activation: between the head's layers; the published heads of EfficientNet-B5 have none.
        dropout: probability, before the head's last layer.
        pretrained, stem_init: begin from ImageNet weights, see `create_backbone`.
        zero_init_residual: begin with every residual branch switched off (its last
            normalization's weight zero), as in Goyal et al. (2017), section 5.1; it lets deep
            networks learn from few images.
        freeze_backbone: let only the head learn; the backbone keeps weights and statistics.

    Example:
        >>> net = Network("resnet18", channels=1, outputs=3)
        >>> net(torch.zeros(2, 1, 48, 48)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        backbone: str,
        channels: int,
        outputs: int,
        hidden: tuple[int, ...] = (),
        activation: Literal["none", "relu"] = "none",
        dropout: float = 0.0,
        pretrained: bool = False,
        stem_init: StemInit = "summed",
        zero_init_residual: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(backbone, channels, pretrained, stem_init)
        widths = [feature_width(self.backbone), *hidden, outputs]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            if i and activation == "relu":
                layers.append(nn.ReLU())
            if dropout and i == len(hidden):
                layers.append(nn.Dropout(dropout))
            layers.append(nn.Linear(before, after))
        self.head = nn.Sequential(*layers)
        if zero_init_residual and not pretrained:
            switch_off_residuals(self.backbone)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; what is frozen is always in the latter."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map preprocessed images (B, C, H, W) to (B, outputs)."""
        outputs: Tensor = self.head(self.backbone(images))
        return outputs


@torch.no_grad()
def switch_off_residuals(net: nn.Module) -> int:
    """Set the last normalization's weight of each residual branch to zero.

    Returns:
        How many branches were switched off; timm's ResNets begin so by themselves.
    """
    switched = 0
    for block in net.modules():
        last = getattr(block, "bn3", None) or getattr(block, "bn2", None)
        if getattr(block, "has_skip", False) and isinstance(last, nn.BatchNorm2d):
            last.weight.zero_()
            switched += 1
    return switched
