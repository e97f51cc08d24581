"""What Lightning is fed: training in stretches, at whose ends a run can go on, and validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from halometry.datasets.dataset import take_rows
from halometry.training.sampling import ALL, Batches, Order, Share, Steps


class Selection:
    """The validation set in batches, in order; a share of it, where several look at it."""

    def __init__(
        self,
        images: Any,
        labels: Tensor,
        rows: np.ndarray,
        batch_size: int,
        share: Share = ALL,
    ) -> None:
        self.images, self.labels = images, labels
        rows = rows[share.of(len(rows))]
        self.parts = np.array_split(rows, max(1, -(-len(rows) // batch_size)))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.parts:
            yield take_rows(self.images, rows), self.labels[torch.from_numpy(rows)]


class Stretches:
    """Training cut into stretches, each a Lightning epoch, at whose ends a run can go on.

    Validations stand at fixed numbers of steps; between two of them lie equally many stretches.

    Args:
        order: of the training images.
        steps: in all.
        val_checks_per_epoch: how often in a pass.
        longest: steps of a stretch, at most.
    """

    def __init__(self, order: Order, steps: int, val_checks_per_epoch: int, longest: int) -> None:
        between = max(1, min(order.steps_per_epoch // val_checks_per_epoch, steps))
        self.per_validation = -(-between // longest)
        validations = -(-steps // between)
        ends = np.linspace(0, steps, validations * self.per_validation + 1).round().astype(int)
        self.ends = ends.tolist()

    def __len__(self) -> int:
        return len(self.ends) - 1

    def after(self, step: int) -> int:
        """The end of the stretch that begins at a step."""
        return next(end for end in self.ends if end > step)


class Feed(L.LightningDataModule):
    """Gives Lightning the batches of one stretch after the other, and the validation set.

    Args:
        batches: of the training images.
        validation: what chooses the checkpoint.
        stretches: in which training goes.
    """

    def __init__(self, batches: Batches, validation: Selection, stretches: Stretches) -> None:
        super().__init__()
        self.batches, self.validation, self.stretches = batches, validation, stretches

    def train_dataloader(self) -> Steps:
        assert self.trainer is not None
        start = self.trainer.global_step
        stop = self.stretches.after(start) if start < self.stretches.ends[-1] else start
        return self.batches.between(start, stop)

    def val_dataloader(self) -> Selection:
        return self.validation
