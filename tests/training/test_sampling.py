from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from halometry.runs.execution import Execution
from halometry.training.configure import stretch_of
from halometry.training.datamodule import Selection, Stretches
from halometry.training.sampling import Batches, Order, augment, step_seed


@given(count=st.integers(2, 300), batch=st.integers(1, 64), seed=st.integers(0, 1000))
def test_each_pass_shows_every_image_once(count: int, batch: int, seed: int) -> None:
    order = Order(count, batch, seed)
    shown = np.concatenate([order.indices(step) for step in range(order.steps_per_epoch)])
    left_out = count - len(shown)
    assert left_out == (1 if count > order.batch_size > 1 and count % order.batch_size == 1 else 0)
    assert len(np.unique(shown)) == len(shown)
    assert order.images_seen(order.steps_per_epoch) == len(shown)


def test_passes_differ_and_seeds_differ() -> None:
    order = Order(100, 100, seed=0)
    assert not np.array_equal(order.indices(0), order.indices(1))
    assert not np.array_equal(order.indices(0), Order(100, 100, seed=1).indices(0))


def test_batches_do_not_depend_on_where_they_begin() -> None:
    images, labels = torch.arange(20.0).view(20, 1, 1, 1), torch.arange(20)
    order = Order(10, 4, seed=0)
    chosen = np.arange(10, 20)
    all_of_them = list(Batches(images, labels, chosen, order).between(0, 6))
    later = list(Batches(images, labels, chosen, order).between(4, 6))
    for (a, la, _), (b, lb, _) in zip(all_of_them[4:], later, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)
    assert all((labels >= 10).all() for _, labels, _ in all_of_them)


def test_images_on_disk_give_the_same_batches() -> None:
    array = np.arange(20.0).reshape(20, 1, 1, 1)
    order, chosen, labels = Order(20, 6, seed=0), np.arange(20), torch.arange(20)
    memory = Batches(torch.from_numpy(array), labels, chosen, order).between(0, 4)
    disk = Batches(array, labels, chosen, order).between(0, 4)
    for (a, la, _), (b, lb, _) in zip(memory, disk, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)


def test_augmentation_gives_the_eight_symmetric_forms_and_no_other() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    turned = [torch.rot90(image, k, (2, 3)) for k in range(4)]
    forms = {tuple(form.flatten().tolist()) for t in turned for form in (t, t.flip(-1))}
    many = augment(image.expand(2000, -1, -1, -1), 0.5, True, seed=0)
    found = [tuple(one.flatten().tolist()) for one in many]
    assert set(found) == forms
    counts = [found.count(form) for form in forms]
    assert min(counts) > 180  # of 250 each


def test_published_flips_are_a_quarter_each() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2)
    many = augment(image.expand(4000, -1, -1, -1), 0.25, False, seed=0)
    same = (many == image).flatten(1).all(1).float().mean()
    assert abs(float(same) - 0.75**2) < 0.03


def test_no_augmentation_changes_nothing() -> None:
    images = torch.rand(5, 1, 4, 4)
    assert torch.equal(augment(images, 0.0, False, seed=3), images)


def test_images_that_are_not_square_keep_their_shape() -> None:
    images = torch.rand(50, 1, 3, 5)
    turned = augment(images, 0.5, True, seed=0)
    assert turned.shape == images.shape
    assert torch.equal(turned.flatten(1).sort(1).values, images.flatten(1).sort(1).values)


def test_step_seeds_are_unrelated() -> None:
    seeds = {step_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900


@given(
    count=st.integers(2, 5000), batch=st.integers(1, 64), epochs=st.integers(1, 5),
    often=st.integers(1, 4), longest=st.integers(1, 300),
)  # fmt: skip
def test_stretches_cover_all_steps_in_order(
    count: int, batch: int, epochs: int, often: int, longest: int
) -> None:
    order = Order(count, batch, 0)
    steps = epochs * order.steps_per_epoch
    stretches = Stretches(order, steps, often, longest)
    assert stretches.ends[0] == 0
    assert stretches.ends[-1] == steps
    assert np.diff(stretches.ends).min() >= 0
    assert np.diff(stretches.ends).max() <= longest + 1
    assert len(stretches) % stretches.per_validation == 0
    validated = stretches.ends[:: stretches.per_validation]
    assert validated == Stretches(order, steps, often, steps).ends  # whatever the machine's speed


def test_a_stretch_takes_two_minutes_or_a_step() -> None:
    assert stretch_of(Execution(images_per_second=6.4), 64) == 12
    assert stretch_of(Execution(images_per_second=0.1), 64) == 1


def test_the_selection_set_is_seen_whole_and_in_order() -> None:
    images, labels = torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50)
    rows = np.arange(3, 40)
    seen = [batch for _, batch in Selection(images, labels, rows, 16)]
    assert torch.cat(seen).tolist() == rows.tolist()
