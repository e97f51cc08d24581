"""Checkpoint intervals and validation batches."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from halometry.training.datamodule import CheckpointIntervals, ValidationBatches
from halometry.training.sampling import BatchShard, EpochSampler

IMAGES, LABELS = torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50)
ROWS = np.arange(3, 40)


@given(
    count=st.integers(2, 5000), batch=st.integers(1, 64), epochs=st.integers(1, 5),
    checks=st.integers(1, 4), max_steps=st.integers(1, 300),
)  # fmt: skip
def test_checkpoint_intervals_cover_all_steps_and_keep_the_validations(
    count: int, batch: int, epochs: int, checks: int, max_steps: int
) -> None:
    sampler = EpochSampler(count, batch, 0)
    steps = epochs * sampler.steps_per_epoch
    intervals = CheckpointIntervals(
        sampler, steps, val_checks_per_epoch=checks, max_steps=max_steps
    )
    assert intervals.ends[0] == 0
    assert intervals.ends[-1] == steps
    assert np.diff(intervals.ends).min() >= 0
    assert np.diff(intervals.ends).max() <= max_steps + 1
    assert len(intervals) % intervals.per_validation == 0
    single = CheckpointIntervals(sampler, steps, val_checks_per_epoch=checks, max_steps=steps)
    assert intervals.ends[:: intervals.per_validation] == single.ends


def test_validation_batches_hold_all_rows_in_order() -> None:
    seen = [batch for _, batch in ValidationBatches(IMAGES, LABELS, ROWS, 16)]
    assert torch.cat(seen).tolist() == ROWS.tolist()


def test_processes_share_the_validation_set_without_repeats() -> None:
    shards = [ValidationBatches(IMAGES, LABELS, ROWS, 16, BatchShard(k, 4)) for k in range(4)]
    assert torch.cat([batch for s in shards for _, batch in s]).tolist() == ROWS.tolist()
