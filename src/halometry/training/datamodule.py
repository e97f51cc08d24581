"""Lightning data module: training batches up to the next checkpoint, and validation batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from halometry.datasets.dataset import take_rows
from halometry.training.sampling import (
    WHOLE_BATCH,
    BatchShard,
    EpochSampler,
    StepBatches,
    TrainingBatches,
)


class ValidationBatches:
    """The validation set in batches, in order of its rows; one process's shard of them.

    Args:
        images: a tensor, or anything that takes sorted integer arrays, such as a set on disk.
        labels: a tensor (N,).
        rows: of the validation set, int64 (n,), sorted.
        batch_size: images a batch, at most.
        shard: which part of the rows this process evaluates.
    """

    def __init__(
        self,
        images: Any,
        labels: Tensor,
        rows: np.ndarray,
        batch_size: int,
        shard: BatchShard = WHOLE_BATCH,
    ) -> None:
        self.images, self.labels = images, labels
        rows = rows[shard.indices(len(rows))]
        self.batches = np.array_split(rows, max(1, -(-len(rows) // batch_size)))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.batches:
            yield take_rows(self.images, rows), self.labels[torch.from_numpy(rows)]


class CheckpointIntervals:
    """Intervals of training steps, each a Lightning epoch that ends with a checkpoint.

    Validations stand at fixed numbers of steps. Between two of them lie equally many intervals.

    Args:
        sampler: of the training images.
        steps: of the run.
        val_checks_per_epoch: validations in one pass over the training images.
        max_steps: of an interval, up to rounding.
    """

    def __init__(
        self, sampler: EpochSampler, steps: int, *, val_checks_per_epoch: int, max_steps: int
    ) -> None:
        between = max(1, min(sampler.steps_per_epoch // val_checks_per_epoch, steps))
        self.per_validation = -(-between // max_steps)
        validations = -(-steps // between)
        ends = np.linspace(0, steps, validations * self.per_validation + 1).round().astype(int)
        self.ends = ends.tolist()

    def __len__(self) -> int:
        return len(self.ends) - 1

    def end_after(self, step: int) -> int:
        """Return the end of the interval that begins at a step."""
        return next(end for end in self.ends if end > step)


class DataModule(L.LightningDataModule):
    """Lightning data module of a run.

    Args:
        batches: of the training images.
        validation: batches of the validation set.
        intervals: of the training steps.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        validation: ValidationBatches,
        intervals: CheckpointIntervals,
    ) -> None:
        super().__init__()
        self.batches, self.validation, self.intervals = batches, validation, intervals

    def train_dataloader(self) -> StepBatches:
        """Return the batches from the current step to the end of its interval."""
        assert self.trainer is not None
        start, last = self.trainer.global_step, self.intervals.ends[-1]
        stop = self.intervals.end_after(start) if start < last else start
        return self.batches.for_steps(start, stop)

    def val_dataloader(self) -> ValidationBatches:
        """Return the batches of the validation set."""
        return self.validation
