"""Network: a backbone with a head."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

import torch
from torch import Tensor, nn

from halometry.models.backbones import StemInit, create_backbone, feature_width


class Network(nn.Module):
    """Backbone from `halometry.models.backbones` with a head of linear layers.

    Args:
        backbone: name of the backbone.
        channels: channels of the input.
        n_outputs: number of outputs: classes, or 1 for a mass.
        hidden: widths of the head's hidden layers; empty for a single linear layer.
        activation: activation between the head's layers.
        dropout: dropout probability before the head's last layer.
        pretrained, stem_init: see `create_backbone`.
        zero_init_residual: initialize each residual block as the identity, see
            `zero_init_residuals`.
        freeze_backbone: train the head only; the backbone keeps weights and statistics.

    Example:
        >>> net = Network("resnet18", channels=1, n_outputs=3)
        >>> net(torch.zeros(2, 1, 48, 48)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        backbone: str,
        channels: int,
        n_outputs: int,
        *,
        hidden: tuple[int, ...] = (),
        activation: Literal["none", "relu"] = "none",
        dropout: float = 0.0,
        pretrained: bool = False,
        stem_init: StemInit = "summed",
        zero_init_residual: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(
            backbone, channels, pretrained=pretrained, stem_init=stem_init
        )
        widths = [feature_width(self.backbone), *hidden, n_outputs]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            if i and activation == "relu":
                layers.append(nn.ReLU())
            if dropout and i == len(hidden):
                layers.append(nn.Dropout(dropout))
            layers.append(nn.Linear(before, after))
        self.head = nn.Sequential(*layers)
        if zero_init_residual and not pretrained:
            zero_init_residuals(self.backbone)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map preprocessed images (B, C, H, W) to outputs (B, n_outputs)."""
        outputs: Tensor = self.head(self.backbone(images))
        return outputs


@torch.no_grad()
def zero_init_residuals(net: nn.Module) -> int:
    """Initialize each residual block as the identity: zero the weight of its last normalization.

    It lets deep networks learn from few images: Goyal et al. (2017), section 5.1. ResNets of timm
    do this themselves.

    Returns:
        The number of blocks that were changed.
    """
    count = 0
    for block in net.modules():
        last = getattr(block, "bn3", None) or getattr(block, "bn2", None)
        if getattr(block, "has_skip", False) and isinstance(last, nn.BatchNorm2d):
            last.weight.zero_()
            count += 1
    return count
