"""Each process's share of a batch: together they are what one process alone would see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from halometry.datasets.open import open_dataset
from halometry.runs.recipe import Recipe
from halometry.simulation import load_preset
from halometry.training.curriculum import curriculum, mass_maps
from halometry.training.datamodule import Selection
from halometry.training.sampling import Batches, Order, Share, augment


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any),
    processes=st.integers(1, 7),
)
def test_shares_make_up_the_batch(counts: list[int], processes: int) -> None:
    shares = [Share(rank, processes) for rank in range(processes)]
    parts = [share.of(*counts) for share in shares]
    assert sorted(np.concatenate(parts)) == list(range(sum(counts)))
    assert max(map(len, parts)) - min(map(len, parts)) <= len(counts)
    values = np.random.default_rng(0).normal(size=sum(counts))
    means = [share.weight(*counts) * values[share.positions(*counts)].mean() for share in shares]
    np.testing.assert_allclose(np.mean(means), values.mean(), atol=1e-12)


def test_each_process_sees_its_images_as_one_alone_would() -> None:
    images, labels = torch.rand(20, 1, 4, 4), torch.arange(20)
    order = Order(20, 7, seed=0)
    whole = list(Batches(images, labels, np.arange(20), order).between(0, 3))
    shared = [
        list(Batches(images, labels, np.arange(20), order, share=Share(rank, 3)).between(0, 3))
        for rank in range(3)
    ]
    for step, (batch, truth, _) in enumerate(whole):
        count = (len(batch),)
        together = [
            augment(part[step][0], 0.5, True, 5, Share(rank, 3), count)
            for rank, part in enumerate(shared)
        ]
        assert torch.equal(torch.cat(together), augment(batch, 0.5, True, 5))
        assert torch.equal(torch.cat([part[step][1] for part in shared]), truth)


def test_fresh_images_and_maps_are_shared_out_too(masses: Path) -> None:
    data = open_dataset(masses)
    recipe, preset = Recipe(online_fraction=0.4), load_preset("demo_mass")
    fresh = curriculum(data, preset, recipe, steps=9, batch=10, seed=1, device="cpu")
    assert fresh is not None
    order, rows = Order(32, 10, seed=0), np.arange(32)
    images, labels = torch.from_numpy(data.images[:]), torch.from_numpy(data.labels)
    maps = mass_maps(data, preset, (6, 6))

    whole = Batches(images, labels, rows, order, maps, fresh)
    counts = [whole.parts(step) for step in range(4)]
    assert counts == [(6, 4), (6, 4), (6, 4), (0, 4)]
    for rank in range(3):
        share = Share(rank, 3)
        shared = Batches(images, labels, rows, order, maps, fresh, share)
        for step, count in enumerate(counts):
            mine = torch.from_numpy(share.positions(*count))
            for part, all_of_it in zip(shared.of(step), whole.of(step), strict=True):
                assert part is not None
                assert all_of_it is not None
                torch.testing.assert_close(part, all_of_it[mine])


def test_the_selection_set_is_shared_without_repeats() -> None:
    images, labels = torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50)
    rows = np.arange(3, 40)
    parts = [Selection(images, labels, rows, 16, Share(rank, 4)) for rank in range(4)]
    assert torch.cat([batch for part in parts for _, batch in part]).tolist() == rows.tolist()
