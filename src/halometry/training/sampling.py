"""Which images make up which step, and what is done to them: a function of seed and step alone.

Nothing here keeps a state, so a run that was stopped goes on with the same batches.
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
class Share:
    """What is one process's of a batch that several share; all of it for one alone.

    Attributes:
        rank: of the process.
        processes: how many share.
    """

    rank: int = 0
    processes: int = 1

    def of(self, *counts: int) -> np.ndarray:
        """Positions in a batch, an int64 array, increasing.

        Args:
            counts: images of the batch; of its parts, where each is to be shared by all.
        """
        shares, first = [], 0
        for count in counts:
            shares.append(first + np.array_split(np.arange(count), self.processes)[self.rank])
            first += count
        return np.concatenate(shares)

    def positions(self, *counts: int) -> np.ndarray:
        """The same; where it is nothing, the first image, which then has no weight.

        All processes go through the network equally often, or they would wait for each other.
        """
        mine = self.of(*counts)
        return mine if len(mine) else np.zeros(1, np.int64)

    def weight(self, *counts: int) -> float:
        """What the mean over this share counts in the mean of all processes' means.

        That is then the mean over the batch, though the shares may differ by an image.
        """
        return len(self.of(*counts)) * self.processes / sum(counts)


ALL = Share()


class Order:
    """The order in which training images are seen: each pass a new permutation.

    Args:
        count: number of training images.
        batch_size: images a step. The last batch of a pass may be smaller; where it would
            hold a single image, which batch normalization cannot use, it is left out.
        seed: of the permutations.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.batch_size = min(batch_size, count)
        full, rest = divmod(count, self.batch_size)
        self.steps_per_epoch = full + (rest > 1)

    def indices(self, step: int) -> np.ndarray:
        """Positions of the images of one step, an int64 array (B,)."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        start = batch * self.batch_size
        return _permutation(self.count, self.seed, epoch)[start : start + self.batch_size]

    def images_seen(self, steps: int) -> int:
        """How many images were shown in the first `steps` steps, repeats counted."""
        epochs, batches = divmod(steps, self.steps_per_epoch)
        per_epoch = min(self.count, self.steps_per_epoch * self.batch_size)
        return epochs * per_epoch + min(batches * self.batch_size, per_epoch)


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


Batch = tuple[Tensor, Tensor, Tensor | None]


class Batches:
    """What each step of a training is given: (images (B, C, H, W), labels (B,), maps or None).

    Stored images, and behind them those made for the step, where there is a curriculum; maps are
    (B, h, w).

    Args:
        images: a tensor, or anything that takes sorted integer arrays, such as a set on disk.
        labels: a tensor (N,).
        chosen: positions of the training images in `images`, int64 (n,).
        order: of the training images.
        maps: of the mass in substructure, of all images (N, h, w), or None.
        curriculum: makes fresh images, or None.
        share: of each batch, what is given.
    """

    def __init__(
        self,
        images: Any,
        labels: Tensor,
        chosen: np.ndarray,
        order: Order,
        maps: Tensor | None = None,
        curriculum: Curriculum | None = None,
        share: Share = ALL,
    ) -> None:
        self.images, self.labels, self.chosen, self.order = images, labels, chosen, order
        self.maps, self.curriculum, self.share = maps, curriculum, share

    def parts(self, step: int) -> tuple[int, ...]:
        """How many images of a step's whole batch are stored, and how many are made for it."""
        count = len(self.order.indices(step))
        if self.curriculum is None:
            return (count,)
        return max(0, count - self.curriculum.count), self.curriculum.count

    def seen(self, steps: int) -> tuple[int, int]:
        """How many images the first `steps` steps show: stored ones, repeats counted, and fresh."""
        fresh = 0 if self.curriculum is None else self.curriculum.count
        rest = self.order.count % self.order.batch_size
        short = steps // self.order.steps_per_epoch if rest > 1 else 0  # batches that are smaller
        displaced = fresh * (steps - short) + min(fresh, rest) * short
        return self.order.images_seen(steps) - displaced, fresh * steps

    def between(self, start: int, stop: int) -> Steps:
        """The batches of the steps from `start` to `stop`."""
        return Steps(self, range(start, stop))

    def of(self, step: int) -> Batch:
        """The share of a step's batch."""
        rows = self.chosen[self.order.indices(step)]
        if self.curriculum is None:
            return self._stored(np.sort(rows)[self.share.positions(len(rows))])
        parts = self.parts(step)
        mine = self.share.positions(*parts)
        stored, fresh = mine[mine < parts[0]], mine[mine >= parts[0]] - parts[0]
        rows = np.sort(rows[: parts[0]])[stored]
        if len(fresh) == 0:
            return self._stored(rows)
        images, labels, parameters = self.curriculum.images(step, int(fresh[0]), len(fresh))
        maps = None
        if self.maps is not None:
            maps = self.curriculum.maps(parameters, self.maps.shape[1:]).to(self.maps)
        if len(stored) == 0:
            return images, labels, maps
        one = self._stored(rows)
        together = torch.cat([one[2], maps]) if one[2] is not None and maps is not None else None
        return torch.cat([one[0].to(images), images]), torch.cat([one[1], labels]), together

    def _stored(self, rows: np.ndarray) -> Batch:
        """Images at rows that are sorted, since files are read in order."""
        at = torch.from_numpy(rows)
        maps = None if self.maps is None else self.maps[at]
        return take_rows(self.images, rows), self.labels[at], maps


@dataclass(frozen=True)
class Steps:
    """The batches of some steps, one after the other."""

    batches: Batches
    steps: range

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.batches.of, self.steps)


def augment(
    images: Tensor,
    flip_probability: float,
    rot90: bool,
    seed: int,
    share: Share = ALL,
    counts: tuple[int, ...] = (),
) -> Tensor:
    """Flip and turn each image of a batch at random, on its device.

    Args:
        images: (B, C, H, W).
        flip_probability: of a left-right and, independently, of an up-down flip.
        rot90: turn by 0, 90, 180 or 270 degrees with equal chances; images that are
            not square are turned by 0 or 180 degrees.
        seed: of this batch.
        share, counts: which images of a batch these are, and how many it has, see `Share.of`.

    Returns:
        (B, C, H, W); each image in one of its eight symmetric forms.
    """
    if not (flip_probability or rot90):
        return images
    counts = counts or (len(images),)
    # Drawn for all the batch: an image is flipped the same way, whoever has it.
    every = torch.rand(3, sum(counts), generator=torch.Generator().manual_seed(seed))
    draw = every[:, torch.from_numpy(share.positions(*counts))]
    turns = (draw[2] * 4 * rot90).long()
    half = turns >= 2  # a half turn is both flips
    quarter = turns % 2 if images.shape[-1] == images.shape[-2] else 0 * turns
    left_right, up_down = (draw[:2] < flip_probability) ^ half
    form = 4 * left_right + 2 * up_down + quarter
    # Together those of one form, so that each image is moved once, and back to their places.
    order = form.argsort().to(images.device)
    parts = []
    for k, part in enumerate(torch.split(images[order], form.bincount(minlength=8).tolist())):
        if len(part):
            part = part.flip([axis for axis, bit in ((-1, 4), (-2, 2)) if k & bit])
            parts.append(part.rot90(1, (-2, -1)) if k & 1 else part)
    return torch.cat(parts)[order.argsort()]


def step_seed(seed: int, step: int) -> int:
    """A seed for the random choices of one step, unrelated to that of any other."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
