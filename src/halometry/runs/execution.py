"""TODO docstring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import Field

from halometry.config import StrictModel


class Execution(StrictModel):
    """How a network is run.

    Attributes:
        device: `cpu` or `cuda`.
        precision: of the matrix products; weights and sums stay in float32.
        channels_last: memory format of images and filters.
        threads: on the CPU.
        images_per_second: training speed measured for this choice.
    """

    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    threads: int = Field(default=1, ge=1)
    images_per_second: float | None = None

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """A context in which the network runs at this precision."""
        return torch.autocast(
            self.device.partition(":")[0], torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    def summary(self) -> str:
        """One line for the person who waits."""
        layout = "channels last" if self.channels_last else "channels first"
        threads = f", {self.threads} threads" if self.device == "cpu" else ""
        speed = f", {self.images_per_second:.0f} images/s" if self.images_per_second else ""
        return f"{self.device}, {self.precision}, {layout}{threads}{speed}"


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """A number of threads for PyTorch, and what was before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
