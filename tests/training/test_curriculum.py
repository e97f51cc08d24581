"""Simulation of training images, and the EMA of the weights that such training uses."""

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
from halometry.runs.recipe import Recipe
from halometry.runs.run import WEIGHTS
from halometry.simulation import draw_scenes, load_preset
from halometry.simulation.substructure_maps import substructure_mass
from halometry.training.curriculum import (
    Curriculum,
    create_curriculum,
    has_substructure_parameters,
    load_mass_maps,
)
from halometry.training.sampling import EpochSampler, TrainingBatches
from halometry.training.train import train


@pytest.fixture(scope="module")
def data(masses: Path) -> LabeledImages:
    return open_dataset(masses, task="regression")


def curriculum_of_recipe(data: LabeledImages, **recipe: Any) -> Curriculum | None:
    return create_curriculum(
        data,
        preset_from_dataset(data),
        Recipe(**recipe),
        steps=100,
        batch_size=16,
        seed=1,
        device="cpu",
    )


def create_batches(
    data: LabeledImages, curriculum: Curriculum | None, maps: torch.Tensor | None = None
) -> TrainingBatches:
    return TrainingBatches(
        torch.from_numpy(data.images),
        torch.from_numpy(data.labels),
        np.arange(len(data)),
        EpochSampler(len(data), 16, seed=0),
        maps=maps,
        curriculum=curriculum,
    )


def test_only_simulated_sets_have_a_preset_and_a_curriculum(data: LabeledImages) -> None:
    assert preset_from_dataset(data) == load_preset("demo_mass")
    folder = replace(data, attributes={})
    assert preset_from_dataset(folder) is None
    assert curriculum_of_recipe(folder, online_fraction=0.5) is None
    assert has_substructure_parameters(data)
    assert not has_substructure_parameters(replace(data, source="a folder"))
    assert has_substructure_parameters(replace(data, labels=data.labels[:5]))
    other_rows = replace(data, labels=data.labels[5:])
    assert not has_substructure_parameters(other_rows)


def test_no_curriculum_without_online_fraction(data: LabeledImages) -> None:
    assert curriculum_of_recipe(data, online_fraction=0.0) is None


def test_no_curriculum_for_mass_maps(data: LabeledImages) -> None:
    mapped = replace(data, attributes={**data.attributes, "mass_map_preset": "name: preset"})
    assert curriculum_of_recipe(mapped, online_fraction=0.5) is None


def test_unusable_preset_gives_a_message_and_no_curriculum(
    data: LabeledImages, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    damaged = replace(data, attributes={**data.attributes, "preset_yaml": "name: something"})
    assert curriculum_of_recipe(damaged, online_fraction=0.5) is None
    assert "the preset in" in caplog.text


def test_simulated_images_follow_from_the_step_and_are_new(data: LabeledImages) -> None:
    curriculum = curriculum_of_recipe(data, online_fraction=0.5)
    assert curriculum is not None
    images, labels, _ = curriculum.simulate(3)
    assert images.shape == (8, 1, 48, 48)
    same_images, same_labels, _ = curriculum.simulate(3)
    assert torch.equal(images, same_images)
    assert torch.equal(labels, same_labels)
    assert not torch.equal(images, curriculum.simulate(4)[0])
    assert not np.isin(labels.numpy(), data.labels).any()


def test_mass_factor_falls_to_one(data: LabeledImages) -> None:
    curriculum = curriculum_of_recipe(
        data, online_fraction=1.0, curriculum_mass_factor=2.0, curriculum_fraction=0.5
    )
    assert curriculum is not None
    factors = [curriculum.mass_factor_at(step) for step in (0, 25, 50, 99)]
    assert factors == [2, pytest.approx(2**0.5), 1, 1]
    first, later = curriculum.simulate(0)[1].mean(), curriculum.simulate(60)[1].mean()
    assert 1.5 < float(first / later) < 2.7  # of 16 images


def test_batch_holds_stored_and_simulated_images_with_labels_and_maps(
    data: LabeledImages,
) -> None:
    curriculum = curriculum_of_recipe(data, online_fraction=0.25)
    assert curriculum is not None
    maps = load_mass_maps(data, load_preset("demo_mass"), (6, 6))
    images, labels, batch_maps = create_batches(data, curriculum, maps).batch(0)
    assert len(images) == len(labels) == 16
    assert batch_maps is not None
    # A few subhalos of the demonstration lie outside the image.
    torch.testing.assert_close(batch_maps.sum((1, 2)).double(), labels, rtol=0.3, atol=0)
    assert torch.equal(labels[12:], curriculum.simulate(0)[1])


@pytest.mark.parametrize("online_fraction", [0.0, 0.25, 1.0])
def test_number_of_images_is_that_of_the_batches(
    data: LabeledImages, online_fraction: float
) -> None:
    batches = create_batches(data, curriculum_of_recipe(data, online_fraction=online_fraction))
    for steps in (0, 5, 6, 13):
        sizes = [batches.part_sizes(step) for step in range(steps)]
        stored = sum(size[0] for size in sizes)
        assert batches.count_images(steps) == (stored, sum(map(sum, sizes)) - stored)
    assert len(batches.batch(5)[1]) == sum(batches.part_sizes(5))


def test_all_images_of_a_batch_may_be_simulated(data: LabeledImages) -> None:
    batches = create_batches(data, curriculum_of_recipe(data, online_fraction=1.0))
    images, labels, maps = batches.batch(2)
    assert len(images) == len(labels) == 16
    assert maps is None


def test_mass_of_a_vortex_lies_along_it() -> None:
    preset = load_preset("common_test_1")
    scene = draw_scenes(preset, seed=3, start=0, count=3).rows(slice(2, 3))
    scene = replace(
        scene,
        vortex_x=torch.tensor([0.0]),
        vortex_y=torch.tensor([1.0]),
        vortex_angle=torch.tensor([0.0]),
        vortex_length=torch.tensor([2.0]),
    )
    mass_map = substructure_mass(scene.parameters(), side=7.5, cells=(15, 15))[0]
    fraction = float(scene.vortex_mass / scene.halo_mass)
    assert mass_map.sum() == pytest.approx(fraction, rel=1e-5)
    assert np.flatnonzero(mass_map.sum(axis=1)).tolist() == [9]  # 1.0" up is row 7.5 + 2
    assert np.flatnonzero(mass_map.sum(axis=0)).tolist() == [5, 6, 7, 8, 9]


def test_ema_of_the_weights_is_saved(lenses: Path, tmp_path: Path) -> None:
    quick = {"epochs": 2, "precision": "float32", "channels_last": True, "online_fraction": 0}
    quick |= {"aux_loss_weight": 0}
    runs = [
        train("classification", lenses, "test_resnet", tmp_path / name, overrides=quick | options)
        for name, options in {
            "last": {"ema_decay": 0},
            "mean": {"ema_decay": 0.999},
            "initial": {"ema_decay": 0.999, "learning_rate": 1e-12, "weight_decay": 0},
        }.items()
    ]
    key = "head.0.weight"
    last, mean, initial = (load_file(run.path / WEIGHTS)[key] for run in runs)
    assert not torch.equal(last, mean)
    # The EMA lies between the initial and the last weights.
    assert (mean - initial).norm() < (last - initial).norm()
    assert (mean - last).norm() < (last - initial).norm()
