"""Images made in training, the map learnt beside the label, and the running mean of the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from halometry.datasets.dataset import LabeledImages, preset_from_dataset
from halometry.datasets.open import open_dataset
from halometry.models import Network
from halometry.models.backbones import PLAIN_NAMES
from halometry.runs.recipe import Recipe
from halometry.runs.run import WEIGHTS
from halometry.simulation import draw_scenes, load_preset
from halometry.simulation.substructure_maps import substructure_mass
from halometry.training.curriculum import Curriculum, curriculum, has_mass, mass_maps
from halometry.training.mass_map_head import MassMap
from halometry.training.sampling import Batches, Order
from halometry.training.train import train


@pytest.fixture(scope="module")
def data(masses: Path) -> LabeledImages:
    return open_dataset(masses, task="regression")


def wanted(data: LabeledImages, **options: Any) -> Curriculum | None:
    return curriculum(
        data,
        preset_from_dataset(data),
        Recipe(**options),
        steps=100,
        batch=16,
        seed=1,
        device="cpu",
    )


def test_a_simulated_set_knows_its_preset_and_others_have_none(data: LabeledImages) -> None:
    assert preset_from_dataset(data) == load_preset("demo_mass")
    folder = replace(data, attributes={})
    assert preset_from_dataset(folder) is None
    assert wanted(folder, online_fraction=0.5) is None
    assert has_mass(data)
    assert not has_mass(replace(data, source="a folder"))
    assert has_mass(replace(data, labels=data.labels[:5]))
    assert not has_mass(replace(data, labels=data.labels[5:]))  # whose rows are others'


def test_no_fresh_images_where_none_are_wanted(data: LabeledImages) -> None:
    assert wanted(data, online_fraction=0.0) is None


def test_a_preset_that_cannot_be_used_here_is_said(
    data: LabeledImages, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = replace(data, attributes={**data.attributes, "preset_yaml": "name: something"})
    assert wanted(damaged, online_fraction=0.5) is None
    assert "no fresh images" in capsys.readouterr().err


def test_fresh_images_follow_from_the_step_and_are_not_those_of_the_set(
    data: LabeledImages,
) -> None:
    fresh = wanted(data, online_fraction=0.5)
    assert fresh is not None
    images, labels, _ = fresh.images(3)
    assert images.shape == (8, 1, 48, 48)
    again, same, _ = fresh.images(3)
    assert torch.equal(images, again)
    assert torch.equal(labels, same)
    assert not torch.equal(images, fresh.images(4)[0])
    assert not np.isin(labels.numpy(), data.labels).any()


def test_substructure_is_heavy_at_first_and_fades_to_its_own(data: LabeledImages) -> None:
    fresh = wanted(data, online_fraction=1.0, curriculum_mass_factor=2.0, curriculum_fraction=0.5)
    assert fresh is not None
    assert [fresh.weight(step) for step in (0, 25, 50, 99)] == [2, pytest.approx(2**0.5), 1, 1]
    first, later = fresh.images(0)[1].mean(), fresh.images(60)[1].mean()
    assert 1.5 < float(first / later) < 2.7  # of 16 images


def test_stored_and_fresh_images_share_a_batch_with_their_labels_and_maps(
    data: LabeledImages,
) -> None:
    fresh, maps = (
        wanted(data, online_fraction=0.25),
        mass_maps(data, load_preset("demo_mass"), (6, 6)),
    )
    assert fresh is not None
    order, images = Order(len(data), 16, seed=0), torch.from_numpy(data.images)
    labels = torch.from_numpy(data.labels)
    batches = Batches(images, labels, np.arange(len(data)), order, maps, fresh)
    batch, truth, where = batches.of(0)
    assert len(batch) == len(truth) == 16
    assert where is not None
    # Subhalos of the demonstration may lie outside the image, but not many.
    torch.testing.assert_close(where.sum((1, 2)).double(), truth, rtol=0.3, atol=0)
    assert torch.equal(truth[12:], fresh.images(0)[1])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_images_are_counted_as_they_are_given(data: LabeledImages, share: float) -> None:
    order, images = Order(len(data), 16, seed=0), torch.from_numpy(data.images)
    labels = torch.from_numpy(data.labels)
    fresh = wanted(data, fresh=share)
    batches = Batches(images, labels, np.arange(len(data)), order, curriculum=fresh)
    for steps in (0, 5, 6, 13):
        counts = [batches.parts(step) for step in range(steps)]
        stored = sum(part[0] for part in counts)
        assert batches.seen(steps) == (stored, sum(map(sum, counts)) - stored)
    assert len(batches.of(5)[1]) == sum(batches.parts(5))


def test_all_images_may_be_fresh(data: LabeledImages) -> None:
    fresh = wanted(data, online_fraction=1.0)
    order, images = Order(len(data), 16, seed=0), torch.from_numpy(data.images)
    labels = torch.from_numpy(data.labels)
    batches = Batches(images, labels, np.arange(len(data)), order, curriculum=fresh)
    batch, truth, maps = batches.of(2)
    assert len(batch) == len(truth) == 16
    assert maps is None


def test_the_mass_of_a_line_lies_along_it() -> None:
    preset = load_preset("common_test_1")
    scene = draw_scenes(preset, seed=3, start=0, count=3).rows(slice(2, 3))
    scene = replace(
        scene,
        vortex_x=torch.tensor([0.0]),
        vortex_y=torch.tensor([1.0]),
        vortex_angle=torch.tensor([0.0]),
        vortex_length=torch.tensor([2.0]),
    )
    total = substructure_mass(scene.parameters(), side=7.5, cells=(15, 15))[0]
    share = float(scene.vortex_mass / scene.halo_mass)
    assert total.sum() == pytest.approx(share, rel=1e-5)
    assert np.flatnonzero(total.sum(axis=1)).tolist() == [9]  # 1.0" up is row 7.5 + 2
    assert np.flatnonzero(total.sum(axis=0)).tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("backbone", [*PLAIN_NAMES, "convnextv2_atto"])
def test_a_map_is_read_off_any_network_and_teaches_it(backbone: str) -> None:
    torch.manual_seed(0)
    net = Network(backbone, channels=1, outputs=1).train()
    images = torch.rand(4, 1, 64, 64)
    mass_map = MassMap.of(net.backbone, images[:1])
    assert mass_map is not None
    mass_map.read_from(net.backbone)
    side = 16 if "d4net" in backbone else 8  # which does not bin small images
    assert list(mass_map.cells) == [side, side]
    maps = torch.rand(4, side, side)
    mass_map.standardize(maps)
    torch.nn.init.ones_(mass_map.linear.weight)
    net(images)
    mass_map.loss(maps).backward()
    first = next(net.backbone.parameters()).grad
    assert first is not None
    assert first.any()


@pytest.mark.parametrize(
    "backbone", ["test_vit", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_a_network_without_maps_learns_none(backbone: str) -> None:
    side = 224 if "224" in backbone else 160
    net = Network(backbone, channels=1, outputs=1)
    assert MassMap.of(net.backbone, torch.rand(1, 1, side, side)) is None


def test_a_transformer_is_trained_without_a_map(
    lenses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "epochs": 1,
        "precision": "float32",
        "channels_last": True,
        "size": 160,
        "online_fraction": 0,
    }
    run = train("classification", lenses, "test_vit", tmp_path / "run", overrides=options)
    assert run.training_metrics()["steps"] > 0
    assert "it learns no map of the mass" in capsys.readouterr().err


def test_a_map_of_the_mean_has_a_loss_of_one() -> None:
    net = Network("resnet18", channels=1, outputs=1)
    mass_map = MassMap.of(net.backbone, torch.rand(1, 1, 64, 64))
    assert mass_map is not None
    mass_map.read_from(net.backbone)
    maps = torch.rand(50, 8, 8) * (torch.rand(50, 8, 8) > 0.8)
    mass_map.standardize(maps)
    net(torch.rand(50, 1, 64, 64))
    assert mass_map.loss(maps).item() == pytest.approx(1, rel=1e-3)


def test_the_running_mean_of_the_weights_is_judged_and_kept(lenses: Path, tmp_path: Path) -> None:
    quick = {"epochs": 2, "precision": "float32", "channels_last": True, "online_fraction": 0}
    runs = [
        train("classification", lenses, "d4net", tmp_path / name, overrides=quick | options)
        for name, options in {
            "last": {"ema_decay": 0},
            "mean": {"ema_decay": 0.999},
            "constant": {"ema_decay": 0.999, "learning_rate": 1e-12, "weight_decay": 0},
        }.items()
    ]
    last, mean, constant = (load_file(run.path / WEIGHTS) for run in runs)
    key = "head.0.weight"
    assert not torch.equal(last[key], mean[key])
    start = constant[key]
    # The mean lies between where training began and where it ended.
    assert (mean[key] - start).norm() < (last[key] - start).norm()
    assert (mean[key] - last[key]).norm() < (last[key] - start).norm()
