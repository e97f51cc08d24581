"""Images that nobody has seen, for any training loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from halometry.errors import UsageError
from halometry.simulation.preset import Preset, load_preset
from halometry.simulation.render import sample


class OnlineImages(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of fresh images without end, or as many as told.

    The images are those of `simulate` with the same preset and seed, from `start` on in every pass:
    for images that are always new, make one pass without end. In a `DataLoader` give
    `batch_size=None`, for batches come from here; its workers share the batches.

    Args:
        preset: a name, a YAML file, or a preset.
        seed: of the images.
        batch_size: images a batch; a multiple of 16 loses no time on a CPU.
        device: where they are made and stay.
        batches: how many; without end if not given.
        start: number of the first image.

    Raises:
        UsageError, ConfigError: unknown or wrong preset, no images a batch.

    Example:
        >>> for images, labels in FreshImages("demo_classification", batch_size=4, batches=1):
        ...     print(images.shape, labels)
        torch.Size([4, 1, 48, 48]) tensor([0, 1, 2, 0])
    """

    def __init__(
        self,
        preset: str | Path | Preset,
        seed: int = 0,
        batch_size: int = 64,
        device: str = "cpu",
        batches: int | None = None,
        start: int = 0,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size = {batch_size}: must be at least 1")
        self.preset = preset if isinstance(preset, Preset) else load_preset(preset)
        self.seed, self.batch_size, self.device = seed, batch_size, device
        self.batches, self.start = batches, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Counts (B, 1, H, W), float32, and labels (B,): class indices or mass fractions."""
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        batch = first
        while self.batches is None or batch < self.batches:
            begin = self.start + batch * self.batch_size
            images, scene = sample(self.preset, self.seed, begin, self.batch_size, self.device)
            yield images, scene.labels.to(self.device)
            batch += step
