"""Batches and augmentation of the training steps."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from halometry.training.sampling import EpochSampler, TrainingBatches, augment, step_seed


@given(count=st.integers(2, 300), batch=st.integers(1, 64), seed=st.integers(0, 1000))
def test_epoch_shows_every_image_once(count: int, batch: int, seed: int) -> None:
    sampler = EpochSampler(count, batch, seed)
    shown = np.concatenate([sampler.indices(step) for step in range(sampler.steps_per_epoch)])
    has_single_rest = count > sampler.batch_size > 1 and count % sampler.batch_size == 1
    assert count - len(shown) == (1 if has_single_rest else 0)
    assert len(np.unique(shown)) == len(shown)
    assert sampler.images_seen(sampler.steps_per_epoch) == len(shown)


def test_epochs_and_seeds_have_different_orders() -> None:
    sampler = EpochSampler(100, 100, seed=0)
    assert not np.array_equal(sampler.indices(0), sampler.indices(1))
    assert not np.array_equal(sampler.indices(0), EpochSampler(100, 100, seed=1).indices(0))


def test_batches_do_not_depend_on_the_first_step() -> None:
    images, labels = torch.arange(20.0).view(20, 1, 1, 1), torch.arange(20)
    sampler = EpochSampler(10, 4, seed=0)
    batches = TrainingBatches(images, labels, np.arange(10, 20), sampler)
    all_batches, later = list(batches.for_steps(0, 6)), list(batches.for_steps(4, 6))
    for (a, labels_a, _), (b, labels_b, _) in zip(all_batches[4:], later, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(labels_a, labels_b)
    assert all((labels >= 10).all() for _, labels, _ in all_batches)


def test_images_on_disk_give_the_same_batches_as_in_memory() -> None:
    array = np.arange(20.0).reshape(20, 1, 1, 1)
    sampler, rows, labels = EpochSampler(20, 6, seed=0), np.arange(20), torch.arange(20)
    memory = TrainingBatches(torch.from_numpy(array), labels, rows, sampler).for_steps(0, 4)
    disk = TrainingBatches(array, labels, rows, sampler).for_steps(0, 4)
    for (a, labels_a, _), (b, labels_b, _) in zip(memory, disk, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(labels_a, labels_b)


def test_augmentation_gives_the_eight_symmetric_forms_equally_often() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    rotated = [torch.rot90(image, k, (2, 3)) for k in range(4)]
    forms = {tuple(form.flatten().tolist()) for r in rotated for form in (r, r.flip(-1))}
    augmented = augment(image.expand(2000, -1, -1, -1), 0.5, True, seed=0)
    found = [tuple(form.flatten().tolist()) for form in augmented]
    assert set(found) == forms
    counts = [found.count(form) for form in forms]
    assert min(counts) > 180  # of 250 each


def test_flip_probability_is_that_of_each_flip() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2)
    augmented = augment(image.expand(4000, -1, -1, -1), 0.25, False, seed=0)
    unchanged = (augmented == image).flatten(1).all(1).float().mean()
    assert abs(float(unchanged) - 0.75**2) < 0.03


def test_no_augmentation_changes_nothing() -> None:
    images = torch.rand(5, 1, 4, 4)
    assert torch.equal(augment(images, 0.0, False, seed=3), images)


def test_augmentation_keeps_the_shape_of_images_that_are_not_square() -> None:
    images = torch.rand(50, 1, 3, 5)
    augmented = augment(images, 0.5, True, seed=0)
    assert augmented.shape == images.shape
    assert torch.equal(augmented.flatten(1).sort(1).values, images.flatten(1).sort(1).values)


def test_step_seeds_are_different() -> None:
    seeds = {step_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
