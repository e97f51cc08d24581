from __future__ import annotations

import pytest
import torch
from torch import nn

from halometry.errors import UnavailableError, UsageError
from halometry.models import Network, create_backbone, list_backbones
from halometry.models import list_backbones as listing
from halometry.models.backbones import TIMM_NAMES, feature_width, pretraining_note, timm_name
from halometry.models.network import zero_init_residuals


def test_timm_name_of_a_backbone() -> None:
    assert timm_name("mobilenetv3_small") == "mobilenetv3_small_100"
    assert timm_name("convnextv2_tiny") == "convnextv2_tiny"


def test_misspelled_backbone_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown backbone 'resnet81', did you mean 'resnet\d+'"):
        timm_name("resnet81")


def test_unknown_backbone_gets_the_list_of_names() -> None:
    with pytest.raises(UsageError, match="known: mobilenetv3_small, resnet18, efficientnet_b5"):
        create_backbone("zzzzqqqq", channels=1)


def test_feature_widths_equal_those_of_the_published_heads() -> None:
    widths = {info.name: info.n_features for info in list_backbones([*TIMM_NAMES])}
    assert widths == {"mobilenetv3_small": 1024, "resnet18": 512, "efficientnet_b5": 2048}


def test_list_backbones_counts_parameters() -> None:
    (info,) = listing(["resnet18"])
    net = create_backbone("resnet18", channels=1)
    assert info.n_parameters == sum(p.numel() for p in net.parameters())
    assert info.stride == 32


def test_head_without_activation_has_linear_layers_only() -> None:
    head = Network("efficientnet_b5", channels=3, n_outputs=3, hidden=(1024,)).head
    assert [(m.in_features, m.out_features) for m in head] == [(2048, 1024), (1024, 3)]  # type: ignore[union-attr]


def test_head_with_relu_has_none_after_the_last_layer() -> None:
    head = Network("resnet18", channels=1, n_outputs=1, hidden=(256,), activation="relu").head
    assert [type(m) for m in head] == [nn.Linear, nn.ReLU, nn.Linear]


def test_zero_initialized_residual_block_is_the_identity() -> None:
    net = create_backbone("efficientnet_b5", channels=1)
    assert zero_init_residuals(net) == 32
    block = net.blocks[1][1].eval()  # type: ignore[union-attr, index]
    features = torch.randn(1, 40, 6, 6)
    torch.testing.assert_close(block(features), features)


def test_unavailable_pretrained_weights_are_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"ImageNet weights of 'resnet18'.*--no-pretrained"):
        create_backbone("resnet18", channels=1, pretrained=True)


def test_stem_init_of_pretrained_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(name: str, channels: int) -> nn.Module:
        import timm

        net: nn.Module = timm.create_model(name, in_chans=channels, num_classes=0)
        nn.init.ones_(net.conv1.weight)  # type: ignore[union-attr, arg-type]
        return net

    monkeypatch.setattr("halometry.models.backbones._pretrained", loaded)
    kept = create_backbone("resnet18", 1, pretrained=True, stem_init="summed")
    anew = create_backbone("resnet18", 1, pretrained=True, stem_init="random")
    three = create_backbone("resnet18", 3, pretrained=True, stem_init="random")
    assert (kept.conv1.weight == 1).all()  # type: ignore[union-attr]
    assert not (anew.conv1.weight == 1).any()  # type: ignore[union-attr]
    assert (three.conv1.weight == 1).all()  # type: ignore[union-attr]
    assert feature_width(kept) == 512


def test_pretraining_note_describes_the_first_convolution() -> None:
    assert "summed into one" in pretraining_note("resnet18", 1, "summed")
    assert "random first convolution" in pretraining_note("resnet18", 1, "random")
    said = pretraining_note("efficientnet_b5", 3, "random")
    assert "repeated to three" in said
    assert "(sw_in12k_ft_in1k)" in said
