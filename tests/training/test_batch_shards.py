"""Shards of a batch: together they are the batch of a single process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from halometry.datasets.open import open_dataset
from halometry.runs.recipe import Recipe
from halometry.simulation import load_preset
from halometry.training.curriculum import create_curriculum, load_mass_maps
from halometry.training.sampling import BatchShard, EpochSampler, TrainingBatches, augment


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any),
    processes=st.integers(1, 7),
)
def test_shards_make_up_the_batch_and_its_mean(sizes: list[int], processes: int) -> None:
    shards = [BatchShard(rank, processes) for rank in range(processes)]
    indices = [shard.indices(*sizes) for shard in shards]
    assert sorted(np.concatenate(indices)) == list(range(sum(sizes)))
    assert max(map(len, indices)) - min(map(len, indices)) <= len(sizes)
    values = np.random.default_rng(0).normal(size=sum(sizes))
    means = [s.weight(*sizes) * values[s.padded_indices(*sizes)].mean() for s in shards]
    np.testing.assert_allclose(np.mean(means), values.mean(), atol=1e-12)


def test_shards_of_augmented_batches_make_up_the_batch() -> None:
    images, labels, rows = torch.rand(20, 1, 4, 4), torch.arange(20), np.arange(20)
    sampler, ranks = EpochSampler(20, 7, seed=0), range(3)
    whole = TrainingBatches(images, labels, rows, sampler)
    parts = [
        TrainingBatches(images, labels, rows, sampler, shard=BatchShard(rank, 3)) for rank in ranks
    ]
    for step in range(3):
        batch, truth, _ = whole.batch(step)
        augmented = [
            augment(
                parts[rank].batch(step)[0],
                0.5,
                True,
                seed=5,
                shard=BatchShard(rank, 3),
                part_sizes=(len(batch),),
            )
            for rank in ranks
        ]
        assert torch.equal(torch.cat(augmented), augment(batch, 0.5, True, seed=5))
        assert torch.equal(torch.cat([part.batch(step)[1] for part in parts]), truth)


def test_simulated_images_and_maps_are_sharded_too(masses: Path) -> None:
    data = open_dataset(masses)
    recipe, preset = Recipe(online_fraction=0.4), load_preset("demo_mass")
    curriculum = create_curriculum(
        data, preset, recipe, steps=9, batch_size=10, seed=1, device="cpu"
    )
    assert curriculum is not None
    sampler, rows = EpochSampler(32, 10, seed=0), np.arange(32)
    images, labels = torch.from_numpy(data.images[:]), torch.from_numpy(data.labels)
    maps = load_mass_maps(data, preset, (6, 6))

    def batches(shard: BatchShard) -> TrainingBatches:
        return TrainingBatches(
            images, labels, rows, sampler, maps=maps, curriculum=curriculum, shard=shard
        )

    whole = batches(BatchShard())
    sizes = [whole.part_sizes(step) for step in range(4)]
    assert sizes == [(6, 4), (6, 4), (6, 4), (0, 4)]
    for rank in range(3):
        shard = BatchShard(rank, 3)
        for step, size in enumerate(sizes):
            indices = torch.from_numpy(shard.padded_indices(*size))
            pairs = zip(batches(shard).batch(step), whole.batch(step), strict=True)
            for part, complete in pairs:
                assert part is not None
                assert complete is not None
                torch.testing.assert_close(part, complete[indices])
