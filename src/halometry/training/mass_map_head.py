"""Auxiliary head that predicts a map of the mass in substructure, in training only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

MAX_REDUCTION = 8  # side of the image over side of the feature map that is read, at most


class MassMapHead(nn.Module):
    """Linear head on a feature map of the backbone, trained to predict the mass in each cell.

    A label is one number an image. A map says in hundreds of cells what the network should have
    detected. The target of a cell is log(1 + m / u), standardized, where m is the mass in the cell
    and u the mean mass of cells that have any. The logarithm keeps the heavy substructure of a
    curriculum from dominating the loss.

    Args:
        layer: name of the backbone's module whose output is read.
        channels: of this output.
        map_shape: rows and columns of this output.
    """

    def __init__(self, layer: str, channels: int, map_shape: tuple[int, int]) -> None:
        super().__init__()
        self._features: Tensor | None = None
        self.layer, self.map_shape = layer, map_shape
        self.linear = nn.Conv2d(channels, 1, 1)
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    unit: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def from_backbone(cls, backbone: nn.Module, example: Tensor) -> MassMapHead | None:
        """Create a head for a backbone; None if it has no feature maps, as transformers.

        Args:
            backbone: of timm or of this package.
            example: a batch of its input (B, C, H, W).
        """
        layers: Any = getattr(backbone, "feature_info", None) or []
        fine = [info for info in layers if info["reduction"] <= MAX_REDUCTION]
        if not fine:
            return None
        chosen = max(fine, key=lambda info: info["reduction"])
        shape: list[int] = []
        hook = backbone.get_submodule(chosen["module"]).register_forward_hook(
            lambda module, inputs, output: shape.extend(output.shape)
        )
        training = backbone.training
        with torch.no_grad():
            backbone.eval()(example)
        backbone.train(training)
        hook.remove()
        if len(shape) != 4 or shape[1] != chosen["num_chs"]:  # tokens, or channels come last
            return None
        return cls(chosen["module"], shape[1], (shape[2], shape[3]))

    def attach(self, backbone: nn.Module) -> RemovableHandle:
        """Read the features of a backbone in every forward pass from now on."""
        return backbone.get_submodule(self.layer).register_forward_hook(self._read)

    def _read(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._features = output

    def standardize(self, maps: Tensor) -> None:
        """Set unit, mean and standard deviation of the target from maps (N, h, w).

        A head that predicts the mean has then a loss of one on these maps.
        """
        masses = maps[maps > 0]
        if len(masses):
            self.unit.fill_(float(masses.mean()))
        logarithms = (maps / self.unit).log1p()
        self.mean.fill_(float(logarithms.mean()))
        self.std.fill_(float(logarithms.std().clamp_min(1e-12)))

    def loss(self, maps: Tensor) -> Tensor:
        """Mean squared error of the last batch, for maps (B, h, w), in units of their variance."""
        assert self._features is not None, "no forward pass has been made"
        predicted = self.linear(self._features.float())[:, 0]
        self._features = None
        target = ((maps / self.unit).log1p() - self.mean) / self.std
        return functional.mse_loss(predicted, target)
