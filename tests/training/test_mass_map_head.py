"""Auxiliary head that predicts maps of the mass in substructure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from halometry.models import Network
from halometry.models.backbones import PLAIN_NAMES
from halometry.training.mass_map_head import MassMapHead
from halometry.training.train import train


@pytest.mark.parametrize("backbone", [*PLAIN_NAMES, "convnextv2_atto"])
def test_mass_map_loss_reaches_the_first_layer_of_any_network(backbone: str) -> None:
    torch.manual_seed(0)
    network = Network(backbone, channels=1, n_outputs=1).train()
    images = torch.rand(4, 1, 64, 64)
    head = MassMapHead.from_backbone(network.backbone, images[:1])
    assert head is not None
    head.attach(network.backbone)
    side = 16 if "d4net" in backbone else 8  # d4net does not bin small images
    assert list(head.map_shape) == [side, side]
    maps = torch.rand(4, side, side)
    head.standardize(maps)
    torch.nn.init.ones_(head.linear.weight)
    network(images)
    head.loss(maps).backward()
    gradient = next(network.backbone.parameters()).grad
    assert gradient is not None
    assert gradient.any()


@pytest.mark.parametrize(
    "backbone", ["test_vit", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_transformer_has_no_mass_map_head(backbone: str) -> None:
    side = 224 if "224" in backbone else 160
    network = Network(backbone, channels=1, n_outputs=1)
    assert MassMapHead.from_backbone(network.backbone, torch.rand(1, 1, side, side)) is None


def test_transformer_is_trained_without_mass_maps(
    lenses: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    options = {"epochs": 1, "precision": "float32", "size": 160, "online_fraction": 0}
    run = train("classification", lenses, "test_vit", tmp_path / "run", overrides=options)
    assert run.training_metrics()["steps"] > 0
    assert "it is trained without mass maps" in caplog.text


def test_mass_map_loss_of_the_mean_is_one() -> None:
    network = Network("resnet18", channels=1, n_outputs=1)
    head = MassMapHead.from_backbone(network.backbone, torch.rand(1, 1, 64, 64))
    assert head is not None
    head.attach(network.backbone)
    maps = torch.rand(50, 8, 8) * (torch.rand(50, 8, 8) > 0.8)
    head.standardize(maps)
    network(torch.rand(50, 1, 64, 64))
    assert head.loss(maps).item() == pytest.approx(1, rel=1e-3)
