"""Checks that every backbone passes for every task, like those of scikit-learn's estimators."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from halometry.models import Network, Predictor, Preprocessing, PreprocessingConfig, TargetConfig

BACKBONES = ["mobilenetv3_small", "resnet18", "efficientnet_b5", "d4net", "convnextv2_atto"]
OUTPUTS = {"classification": 3, "regression": 1}
HEADS: dict[str, tuple[int, ...]] = {"plain": (), "hidden": (16,)}


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def images(count: int, channels: int = 1, side: int = 48) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("task", OUTPUTS)
def test_output_shape_of_one_and_of_many_images(backbone: str, task: str) -> None:
    net = Network(backbone, channels=1, n_outputs=OUTPUTS[task]).eval()
    with torch.inference_mode():
        assert net(images(1)).shape == (1, OUTPUTS[task])
        assert net(images(3)).shape == (3, OUTPUTS[task])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [33, 47, 64])
def test_channels_and_odd_sizes(backbone: str, channels: int, side: int) -> None:
    net = Network(backbone, channels=channels, n_outputs=2).eval()
    with torch.inference_mode():
        outputs = net(images(2, channels, side))
    assert outputs.shape == (2, 2)
    assert outputs.isfinite().all()


def test_rectangular_images(backbone: str) -> None:
    net = Network(backbone, channels=1, n_outputs=2).eval()
    with torch.inference_mode():
        assert net(torch.rand(2, 1, 40, 56)).isfinite().all()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("channels", "side", "outputs"), [(1, 48, 3), (3, 47, 1)])
def test_every_parameter_has_a_gradient(
    backbone: str, head: str, channels: int, side: int, outputs: int
) -> None:
    torch.manual_seed(0)
    net = Network(backbone, channels, outputs, hidden=HEADS[head], activation="relu").train()
    for p in net.parameters():  # weights that are initially zero would hide others
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    net(images(4, channels, side)).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
    without_gradient = [name for name, p in net.named_parameters() if not p.grad.any()]  # type: ignore[union-attr]
    assert without_gradient == []


def test_zero_initialized_residuals_have_gradients(backbone: str) -> None:
    torch.manual_seed(0)
    net = Network(backbone, channels=1, n_outputs=3, zero_init_residual=True).train()
    net(images(4)).square().sum().backward()
    with_gradient = [p for p in net.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(with_gradient) > 3


def test_output_in_evaluation_mode_is_independent_of_the_batch(backbone: str) -> None:
    net = Network(backbone, channels=1, n_outputs=3, dropout=0.5).eval()
    batch = images(4)
    with torch.inference_mode():
        together = net(batch)
        assert torch.equal(together, net(batch))
        alone = torch.cat([net(image[None]) for image in batch])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_saved_and_loaded_weights_give_the_same_output(backbone: str, tmp_path: Path) -> None:
    first = Network(backbone, channels=1, n_outputs=3, hidden=(16,)).eval()
    save_file({k: v.contiguous() for k, v in first.state_dict().items()}, tmp_path / "w")
    second = Network(backbone, channels=1, n_outputs=3, hidden=(16,)).eval()
    second.load_state_dict(load_file(tmp_path / "w"))
    with torch.inference_mode():
        assert torch.equal(first(images(2)), second(images(2)))


@pytest.mark.parametrize("task", OUTPUTS)
def test_predictor_returns_probabilities_or_positive_masses(backbone: str, task: str) -> None:
    predictor = Predictor(
        Preprocessing(PreprocessingConfig(scale="minmax", stretch="log", channels=3)),
        Network(backbone, channels=3, n_outputs=OUTPUTS[task]),
        task,  # type: ignore[arg-type]
        TargetConfig(transform="log", mean=-3.0, std=0.5),
    ).eval()
    with torch.inference_mode():
        predictions = predictor(images(2) * 900)
    if task == "classification":
        torch.testing.assert_close(predictions.sum(dim=1), torch.ones(2))
    else:
        assert predictions.shape == (2,)
        assert (predictions > 0).all()


def test_output_depends_on_the_image(backbone: str) -> None:
    torch.manual_seed(0)
    net = Network(backbone, channels=1, n_outputs=3).train()  # running statistics are untrained
    outputs = net(images(4))
    assert outputs.std(dim=0).max() > 1e-4
