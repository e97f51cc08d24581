"""Images simulated during training, as a PyTorch dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from halometry.errors import UsageError
from halometry.simulation.preset import Preset, load_preset
from halometry.simulation.render import sample


class OnlineImages(IterableDataset[tuple[Tensor, Tensor]]):
    """Iterable dataset of simulated batches, endless or with a given number of batches.

    The images are those of `simulate` with the same preset and seed. Each pass begins with image
    `start` again: for images that are always new, make one endless pass. In a `DataLoader` set
    `batch_size=None`, because the dataset yields batches; its workers share the batches.

    Args:
        preset: name, YAML file, or preset.
        seed: seed of the images.
        batch_size: images per batch; multiples of 16 are fastest on a CPU.
        device: device on which images are simulated.
        batches: number of batches; endless if not given.
        start: number of the first image.

    Raises:
        UsageError: unknown preset, or a batch size below 1.
        ConfigError: invalid preset.

    Example:
        >>> for images, labels in OnlineImages("demo_classification", batch_size=4, batches=1):
        ...     print(images.shape, labels)
        torch.Size([4, 1, 48, 48]) tensor([0, 1, 2, 0])
    """

    def __init__(
        self,
        preset: str | Path | Preset,
        seed: int = 0,
        *,
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
        """Yield counts (B, 1, H, W), float32, and labels (B,): class indices or mass fractions."""
        worker = get_worker_info()
        batch, step = (worker.id, worker.num_workers) if worker else (0, 1)
        while self.batches is None or batch < self.batches:
            first = self.start + batch * self.batch_size
            images, scene = sample(self.preset, self.seed, first, self.batch_size, self.device)
            yield images, scene.labels.to(self.device)
            batch += step
