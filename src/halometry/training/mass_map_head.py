"""Auxiliary head that predicts a map of the mass in substructure, in training only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from halometry.datasets.dataset import LabeledImages, take_rows
from halometry.log import logger
from halometry.models import Network, Preprocessing
from halometry.runs.config import RunConfig
from halometry.simulation import Preset
from halometry.training.curriculum import (
    Curriculum,
    has_substructure_parameters,
    load_mass_maps,
    unknown_mass_maps,
)

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
        """Mean squared error of the last batch, in units of the variance of the target.

        Args:
            maps: (B, h, w); NaN for images whose map is unknown, which do not count.
        """
        assert self._features is not None, "no forward pass has been made"
        predicted = self.linear(self._features.float())[:, 0]
        self._features = None
        known = maps.isfinite()
        # The NaN are replaced before the difference, because zero times NaN is NaN in its gradient.
        target = ((maps.nan_to_num() / self.unit).log1p() - self.mean) / self.std
        squares = known * (predicted - target).square()
        return squares.sum() / known.sum().clamp_min(1)


def create_mass_map_head(
    network: Network,
    config: RunConfig,
    data: LabeledImages,
    train_rows: np.ndarray,
    *,
    preset: Preset | None,
    curriculum: Curriculum | None,
) -> tuple[MassMapHead | None, Tensor | None]:
    """Create the auxiliary head of a run, and the maps of its dataset.

    Args:
        network: of the run.
        config: of the run.
        data: dataset of N images.
        train_rows: rows of its training images (n,).
        preset: that the images follow, or None.
        curriculum: of the run, or None.

    Returns:
        The head and maps (N, h, w), which are NaN where the dataset has no true parameters. Then
        only images of the curriculum train the head. Both are None if the recipe wants no head, no
        map is known, or the network has no feature maps.
    """
    if not config.recipe.aux_loss_weight or preset is None:
        return None, None
    maps_known = has_substructure_parameters(data)
    if not maps_known and curriculum is None:
        return None, None
    example = take_rows(data.images, np.sort(train_rows[:1]))
    head = MassMapHead.from_backbone(network.backbone, Preprocessing(config.preprocessing)(example))
    if head is None:
        logger.info(f"{config.backbone}: has no feature maps; it is trained without mass maps")
        return None, None
    device = config.execution.device
    if maps_known:
        maps = load_mass_maps(data, preset, head.map_shape)
        head.standardize(maps[torch.from_numpy(train_rows)])
        return head, maps.to(device)
    assert curriculum is not None
    head.standardize(curriculum.example_mass_maps(head.map_shape))
    return head, unknown_mass_maps(len(data), head.map_shape, device)
