"""Group convolutions, d4net and test-time augmentation under flips and rotations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from halometry.models import Network, Predictor, Preprocessing, PreprocessingConfig
from halometry.models.d4net import DEEP_DEPTHS, D4Net
from halometry.models.predictor import symmetric_copies
from halometry.models.symmetry import (
    GROUP_ORDER,
    GroupBatchNormalization,
    GroupConvolution,
    LiftingConvolution,
    filter_transforms,
    inverse_elements,
    mean_over_group,
    multiplication_table,
)

SYMMETRIES: dict[str, Callable[[Tensor], Tensor]] = {
    f"{'flipped and ' if flip else ''}rotated by {90 * turn}": (
        lambda x, flip=flip, turn=turn: (x.flip(-1) if flip else x).rot90(turn, (-2, -1))
    )
    for flip in (False, True)
    for turn in range(4)
}
every_symmetry = pytest.mark.parametrize("symmetry", SYMMETRIES.values(), ids=SYMMETRIES.keys())


def with_statistics(net: nn.Module, example: Tensor) -> nn.Module:
    """Network with nonzero residual branches and running statistics, as after training."""
    for name, p in net.named_parameters():
        if "norm" in name:
            nn.init.uniform_(p, 0.5, 1.5)
    with torch.no_grad():
        for _ in range(3):
            net.train()(example + torch.rand(example.shape))
    return net.eval()


def test_multiplication_table_is_a_group() -> None:
    assert len({tuple(element) for element in filter_transforms(3)}) == GROUP_ORDER
    products, inverse = multiplication_table(), inverse_elements()
    for table in (products, products.T):
        assert all(sorted(row) == list(range(GROUP_ORDER)) for row in table)
    assert np.array_equal(products[0], np.arange(GROUP_ORDER))
    assert all(products[g, inverse[g]] == 0 for g in range(GROUP_ORDER))
    for a in range(GROUP_ORDER):
        for b in range(GROUP_ORDER):
            assert np.array_equal(products[products[a, b]], products[a][products[b]])


@every_symmetry
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [9, 12])
def test_group_convolutions_commute_with_the_symmetries(
    symmetry: Callable[[Tensor], Tensor], stride: int, side: int
) -> None:
    torch.manual_seed(0)
    lift, convolve = LiftingConvolution(2, 3, 5), GroupConvolution(3, 4, 3, stride=stride)
    images = torch.rand(2, 2, side, side)
    with torch.no_grad():
        expected = symmetry(mean_over_group(convolve(lift(images)).relu()))
        maps = mean_over_group(convolve(lift(symmetry(images))).relu())
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, mean_over_group(convolve(lift(images)).relu())) or (
        symmetry is SYMMETRIES["rotated by 0"]
    )


@every_symmetry
@pytest.mark.parametrize("side", [47, 48, 150, 151])
def test_d4net_is_invariant(symmetry: Callable[[Tensor], Tensor], side: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, side, side)
    net = with_statistics(D4Net(channels=1), images)
    with torch.inference_mode():
        outputs, turned = net(images), net(symmetry(images))
        other = net(torch.rand(3, 1, side, side))
    assert (turned - outputs).abs().max() < 1e-5 * outputs.abs().max()
    assert (other - outputs).abs().max() > 1e-3 * outputs.abs().max()


def test_d4net_of_rectangular_images_is_invariant_under_flips() -> None:
    torch.manual_seed(0)
    for sides in ((40, 57), (120, 131)):
        images = torch.rand(2, 1, *sides)
        net = with_statistics(D4Net(channels=1), images)
        with torch.inference_mode():
            for axes in ((-1,), (-2,), (-1, -2)):
                torch.testing.assert_close(net(images.flip(axes)), net(images), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("name", "count"), [("d4net", 69_217), ("d4net_deep", 163_889)])
def test_number_of_parameters_of_d4net(name: str, count: int) -> None:
    net = Network(name, channels=1, n_outputs=3)
    assert sum(p.numel() for p in net.parameters()) == count


@every_symmetry
def test_deep_d4net_initially_equals_the_shallow_one(
    symmetry: Callable[[Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, 48, 48)
    net = with_statistics(D4Net(channels=1), images)
    deeper = D4Net(channels=1, depths=DEEP_DEPTHS).eval()
    assert not deeper.load_state_dict(net.state_dict(), strict=False).unexpected_keys
    with torch.inference_mode():
        torch.testing.assert_close(deeper(images), net(images))
        deeper.stages[-1].blocks[-1].norm_second.scale.fill_(1.0)
        outputs, turned = deeper(images), deeper(symmetry(images))
        assert not torch.allclose(outputs, net(images))
    assert (turned - outputs).abs().max() < 1e-5 * outputs.abs().max()


def test_batch_statistics_are_pooled_over_orientations() -> None:
    norm = GroupBatchNormalization(2, momentum=1.0).train()
    features = torch.randn(4, 2 * GROUP_ORDER, 6, 6) * torch.rand(2 * GROUP_ORDER, 1, 1) + 3
    norm(features)
    by_feature = features.view(4, 2, -1).transpose(0, 1).reshape(2, -1)
    normalized = norm.eval()(features).view(4, 2, -1).transpose(0, 1).reshape(2, -1)
    expected = (by_feature - by_feature.mean(1, keepdim=True)) / by_feature.std(1, keepdim=True)
    torch.testing.assert_close(normalized, expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("sides", "count"), [((6, 6), 8), ((6, 9), 4)])
def test_symmetric_copies_are_all_distinct(sides: tuple[int, int], count: int) -> None:
    image = torch.arange(float(np.prod(sides))).view(1, 1, *sides)
    copies = symmetric_copies(image)
    assert len({tuple(copy.flatten().tolist()) for copy in copies}) == count
    assert all(copy.shape == image.shape for copy in copies)
    assert torch.equal(copies[0], image)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_tta_makes_any_network_invariant(task: str) -> None:
    torch.manual_seed(0)
    net = Network("mobilenetv3_small", channels=1, n_outputs=3 if task == "classification" else 1)
    plain = Predictor(Preprocessing(PreprocessingConfig()), net, task).eval()
    averaged = Predictor(plain.preprocessing, net, task, tta=True).eval()
    images = torch.rand(2, 1, 48, 48)
    with torch.inference_mode():
        predictions = averaged(images)
        for symmetry in SYMMETRIES.values():
            torch.testing.assert_close(
                averaged(symmetry(images)), predictions, rtol=1e-5, atol=1e-7
            )
        assert not torch.equal(plain(images.rot90(1, (-2, -1))), plain(images))
