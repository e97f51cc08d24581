"""Batches and augmentation of each training step, as functions of the seed and the step alone.

Nothing here keeps a state. A run that was stopped therefore resumes with the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from halometry.training.curriculum import Curriculum
from halometry.datasets.dataset import take_rows


@dataclass(frozen=True)
class BatchShard:
    """One process's part of every batch; the whole batch where there is one process.

    Attributes:
        rank: of the process.
        processes: that share each batch.
    """

    rank: int = 0
    processes: int = 1

    def indices(self, *part_sizes: int) -> np.ndarray:
        """Indices of this process's images in a batch, int64, increasing.

        Args:
            part_sizes: numbers of images in the parts of the batch. Each part is distributed
                over all processes.
        """
        indices, first = [], 0
        for size in part_sizes:
            indices.append(first + np.array_split(np.arange(size), self.processes)[self.rank])
            first += size
        return np.concatenate(indices)

    def padded_indices(self, *part_sizes: int) -> np.ndarray:
        """Indices as in `indices`, or the first image where there is none.

        All processes run the network equally often, or they would wait for each other. The
        padding has `weight` zero.
        """
        indices = self.indices(*part_sizes)
        return indices if len(indices) else np.zeros(1, np.int64)

    def weight(self, *part_sizes: int) -> float:
        """Factor of this shard's mean loss, such that the mean over processes is the batch mean."""
        return len(self.indices(*part_sizes)) * self.processes / sum(part_sizes)


WHOLE_BATCH = BatchShard()


class EpochSampler:
    """Order of the training images: a new permutation in each epoch.

    Args:
        count: number of training images.
        batch_size: images a step. The last batch of an epoch may be smaller. It is left out
            where it would hold a single image, which batch normalization cannot use.
        seed: of the permutations.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.batch_size = min(batch_size, count)
        full, rest = divmod(count, self.batch_size)
        self.steps_per_epoch = full + (rest > 1)

    def indices(self, step: int) -> np.ndarray:
        """Indices of the training images of one step, int64 (B,)."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        start = batch * self.batch_size
        return _permutation(self.count, self.seed, epoch)[start : start + self.batch_size]

    def images_seen(self, steps: int) -> int:
        """Number of images in the first `steps` steps, repeated ones counted each time."""
        epochs, batches = divmod(steps, self.steps_per_epoch)
        per_epoch = min(self.count, self.steps_per_epoch * self.batch_size)
        return epochs * per_epoch + min(batches * self.batch_size, per_epoch)


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


Batch = tuple[Tensor, Tensor, Tensor | None]


class TrainingBatches:
    """Batches of the training steps: (images (B, C, H, W), labels (B,), mass maps or None).

    A batch holds stored images, followed by images that a curriculum simulates for this step.
    Mass maps are (B, h, w), and NaN for images whose map is unknown.

    Args:
        images: a tensor, or anything that takes sorted integer arrays, such as a set on disk.
        labels: a tensor (N,).
        rows: of the training images in `images`, int64 (n,).
        sampler: of the training images.
        maps: of the mass in substructure of all images (N, h, w), or None. Either all are known,
            or all are NaN, see `unknown_mass_maps`.
        curriculum: simulates images for each step, or None.
        shard: which part of each batch this process gets.
    """

    def __init__(
        self,
        images: Any,
        labels: Tensor,
        rows: np.ndarray,
        sampler: EpochSampler,
        *,
        maps: Tensor | None = None,
        curriculum: Curriculum | None = None,
        shard: BatchShard = WHOLE_BATCH,
    ) -> None:
        self.images, self.labels, self.rows, self.sampler = images, labels, rows, sampler
        self.maps, self.curriculum, self.shard = maps, curriculum, shard
        self._stored_maps_known = maps is not None and bool(maps[:1].isfinite().all())

    def part_sizes(self, step: int) -> tuple[int, ...]:
        """Numbers of stored and, where there is a curriculum, of simulated images of a batch."""
        count = len(self.sampler.indices(step))
        if self.curriculum is None:
            return (count,)
        simulated = self.curriculum.images_per_step
        return max(0, count - simulated), simulated

    def mapped_sizes(self, step: int) -> tuple[int, ...]:
        """`part_sizes` without the stored images if their mass maps are unknown."""
        sizes = self.part_sizes(step)
        return sizes if self.maps is None or self._stored_maps_known else sizes[1:]

    def count_images(self, steps: int) -> tuple[int, int]:
        """Numbers of stored (repeated ones each time) and simulated images in `steps` steps."""
        simulated = 0 if self.curriculum is None else self.curriculum.images_per_step
        rest = self.sampler.count % self.sampler.batch_size
        small_batches = steps // self.sampler.steps_per_epoch if rest > 1 else 0
        replaced = simulated * (steps - small_batches) + min(simulated, rest) * small_batches
        return self.sampler.images_seen(steps) - replaced, simulated * steps

    def for_steps(self, start: int, stop: int) -> StepBatches:
        """The batches of the steps from `start` to `stop`, exclusive."""
        return StepBatches(self, range(start, stop))

    def batch(self, step: int) -> Batch:
        """This process's shard of the batch of a step."""
        rows = self.rows[self.sampler.indices(step)]
        if self.curriculum is None:
            return self._stored(np.sort(rows)[self.shard.padded_indices(len(rows))])
        sizes = self.part_sizes(step)
        own = self.shard.padded_indices(*sizes)
        stored, simulated = own[own < sizes[0]], own[own >= sizes[0]] - sizes[0]
        rows = np.sort(rows[: sizes[0]])[stored]
        if len(simulated) == 0:
            return self._stored(rows)
        images, labels, parameters = self.curriculum.simulate(
            step, int(simulated[0]), len(simulated)
        )
        maps = None
        if self.maps is not None:
            maps = self.curriculum.mass_maps(parameters, self.maps.shape[1:]).to(self.maps)
        if len(stored) == 0:
            return images, labels, maps
        stored_images, stored_labels, stored_maps = self._stored(rows)
        if stored_maps is not None and maps is not None:
            maps = torch.cat([stored_maps, maps])
        return (
            torch.cat([stored_images.to(images), images]),
            torch.cat([stored_labels, labels]),
            maps,
        )

    def _stored(self, rows: np.ndarray) -> Batch:
        """Stored images, labels and maps at sorted rows (files are read in order)."""
        indices = torch.from_numpy(rows)
        maps = None if self.maps is None else self.maps[indices]
        return take_rows(self.images, rows), self.labels[indices], maps


@dataclass(frozen=True)
class StepBatches:
    """Iterable over the batches of a range of steps."""

    batches: TrainingBatches
    steps: range

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.batches.batch, self.steps)


def augment(
    images: Tensor,
    flip_probability: float,
    rot90: bool,
    *,
    seed: int,
    shard: BatchShard = WHOLE_BATCH,
    part_sizes: tuple[int, ...] = (),
) -> Tensor:
    """Flip and rotate each image of a batch at random, on its device.

    Args:
        images: (B, C, H, W).
        flip_probability: of a left-right and, independently, of an up-down flip.
        rot90: rotate by 0, 90, 180 or 270 degrees with equal probabilities; images that are
            not square are rotated by 0 or 180 degrees.
        seed: of this batch.
        shard, part_sizes: which images of which batch these are, see `BatchShard.indices`.

    Returns:
        (B, C, H, W); each image in one of its eight symmetric forms.
    """
    if not (flip_probability or rot90):
        return images
    part_sizes = part_sizes or (len(images),)
    # Random numbers are drawn for the whole batch, so that they do not depend on the shard.
    draws = torch.rand(3, sum(part_sizes), generator=torch.Generator().manual_seed(seed))
    draws = draws[:, torch.from_numpy(shard.padded_indices(*part_sizes))]
    turns = (draws[2] * 4 * rot90).long()
    half = turns >= 2  # a rotation by 180 degrees is both flips
    quarter = turns % 2 if images.shape[-1] == images.shape[-2] else 0 * turns
    left_right, up_down = (draws[:2] < flip_probability) ^ half
    form = 4 * left_right + 2 * up_down + quarter
    # Images of one form are transformed together, then put back in their places.
    order = form.argsort().to(images.device)
    parts = []
    for k, part in enumerate(torch.split(images[order], form.bincount(minlength=8).tolist())):
        if len(part):
            part = part.flip([axis for axis, bit in ((-1, 4), (-2, 2)) if k & bit])
            parts.append(part.rot90(1, (-2, -1)) if k & 1 else part)
    return torch.cat(parts)[order.argsort()]


def step_seed(seed: int, step: int) -> int:
    """Seed of the random choices of one step, independent of the seeds of other steps."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
