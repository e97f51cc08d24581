"""A second thing to learn, from which the first is learnt sooner: where the mass is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

REDUCTION = 8  # sides of the image over those of the map, at best


class MassMap(nn.Module):
    """Reads a map of the mass in substructure off a backbone's features, in training only.

    A class is one number an image; a map says in hundreds of places what the network should have
    seen. It is one linear function of the features in each place, and what is learnt is the
    logarithm of one and the mass in units of what a place with some has on average, so that a
    curriculum's heavy substructure does not drown the rest.

    Args:
        layer: of the backbone, whose maps are read, see `read_from`.
        channels: of these.
        cells: their rows and columns.
    """

    def __init__(self, layer: str, channels: int, cells: tuple[int, int]) -> None:
        super().__init__()
        self._features: Tensor | None = None
        self.layer, self.cells = layer, cells
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
    def of(cls, backbone: nn.Module, example: Tensor) -> MassMap | None:
        """One for backbones like this; None for those without maps, such as transformers.

        Args:
            backbone: of timm's, or ours.
            example: a batch of its input (B, C, H, W).
        """
        layers: Any = getattr(backbone, "feature_info", None) or []
        fine = [info for info in layers if info["reduction"] <= REDUCTION]
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

    def read_from(self, backbone: nn.Module) -> RemovableHandle:
        """Read a backbone's features from now on, whenever it is at work."""
        return backbone.get_submodule(self.layer).register_forward_hook(self._read)

    def _read(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._features = output

    def standardize(self, maps: Tensor) -> None:
        """Let the loss of the mean of some maps (N, h, w) be one."""
        some = maps[maps > 0]
        if len(some):
            self.unit.fill_(float(some.mean()))
        logarithms = (maps / self.unit).log1p()
        self.mean.fill_(float(logarithms.mean()))
        self.std.fill_(float(logarithms.std().clamp_min(1e-12)))

    def loss(self, maps: Tensor) -> Tensor:
        """Mean squared error of the last batch's maps (B, h, w), in units of their variance."""
        read = self.linear(self._last().float())[:, 0]
        self._features = None
        wanted = ((maps / self.unit).log1p() - self.mean) / self.std
        return functional.mse_loss(read, wanted)

    def _last(self) -> Tensor:
        assert self._features is not None
        return self._features
