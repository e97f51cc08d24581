"""How a network is executed: device, precision, memory format and threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import Field

from halometry.config import StrictModel


class Execution(StrictModel):
    """Device, precision, memory format and threads of a network.

    Attributes:
        device: `cpu`, `cuda`, or one GPU such as `cuda:1`.
        precision: of matrix products and convolutions; weights and sums are in float32.
        channels_last: memory format of images and filters.
        threads: of each process, on the CPU.
    """

    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    threads: int = Field(default=1, ge=1)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """Create a context in which networks run with this precision."""
        return torch.autocast(
            self.device.partition(":")[0], torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    def summary(self) -> str:
        """Description in one line."""
        layout = "channels last" if self.channels_last else "channels first"
        threads = f", {self.threads} threads" if self.device == "cpu" else ""
        return f"{self.device}, {self.precision}, {layout}{threads}"


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Set PyTorch's number of threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
