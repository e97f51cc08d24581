"""Cost of a network: parameters, operations, memory, latency and throughput on this machine."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

BATCH_SIZE = 64


def model_cost(
    net: nn.Module, example: Tensor, checkpoint: Path | None = None, *, batch_size: int = BATCH_SIZE
) -> dict[str, Any]:
    """Size, operations and memory of a network.

    Args:
        net: in evaluation mode, on its device.
        example: one input (1, C, H, W).
        checkpoint: the file with its weights.
        batch_size: images in the batch whose peak memory is measured.

    Returns:
        `parameters`, `macs` (multiply-accumulate operations for one image), `checkpoint_bytes`,
        `peak_memory_bytes` (largest memory of live tensors and weights for a batch), `batch_size`.
    """
    device = next(net.parameters()).device
    example = example.to(device)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(False), torch.no_grad(), counter:
        net(example)
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "macs": counter.get_total_flops() // 2,
        "checkpoint_bytes": checkpoint.stat().st_size if checkpoint else None,
        "peak_memory_bytes": peak_memory(net, example.expand(batch_size, -1, -1, -1).contiguous()),
        "batch_size": batch_size,
    }


def peak_memory(net: nn.Module, batch: Tensor) -> int:
    """Largest memory of weights, input and intermediate results at one time, in bytes."""
    weights = sum(t.nbytes for t in [*net.parameters(), *net.buffers()])
    if batch.is_cuda:
        torch.cuda.reset_peak_memory_stats(batch.device)
        before = torch.cuda.memory_allocated(batch.device)
        with torch.inference_mode():
            net(batch)
        peak = torch.cuda.max_memory_allocated(batch.device)
        return int(peak - before + weights + batch.nbytes)
    tally = LiveTensors(excluded=[*net.parameters(), *net.buffers(), batch])
    with torch.no_grad(), tally:
        net(batch)
    return int(weights + batch.nbytes + tally.peak)


class LiveTensors(TorchDispatchMode):
    """Count of the bytes of all tensors that operations created and that are still in use.

    Args:
        excluded: tensors whose memory is not counted.
    """

    def __init__(self, excluded: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen = {t.untyped_storage().data_ptr() for t in excluded}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._seen or size == 0:
            return
        self._seen.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, address, size)

    def _freed(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.live -= size


def measure_speed(
    nets: dict[str, Callable[[Tensor], Tensor]],
    example: Tensor,
    *,
    batch_size: int = BATCH_SIZE,
    seconds: float = 12.0,
) -> dict[str, dict[str, Any]]:
    """Latency of one image and throughput of batches; the networks are measured in turns.

    Args:
        nets: functions of a batch, by name.
        example: one input (1, C, H, W) on the device.
        batch_size: images per batch.
        seconds: total duration; at least three rounds are measured.

    Returns:
        For each name, `latency_ms` and `throughput` (images/s), each with `median` and the
        quartiles `low` and `high`.
    """
    batch = example.expand(batch_size, -1, -1, -1).contiguous()
    single: dict[str, list[float]] = {name: [] for name in nets}
    many: dict[str, list[float]] = {name: [] for name in nets}
    with torch.inference_mode():
        for net in nets.values():  # warm up
            _seconds(net, example)
            _seconds(net, batch)
        begin = time.monotonic()
        rounds = 0
        while rounds < 3 or time.monotonic() - begin < seconds:
            for name, net in nets.items():
                single[name] += [1e3 * _seconds(net, example) for _ in range(5)]
                many[name].append(batch_size / _seconds(net, batch))
            rounds += 1
    return {
        name: {"latency_ms": _quartiles(single[name]), "throughput": _quartiles(many[name])}
        for name in nets
    }


def _seconds(net: Callable[[Tensor], Tensor], images: Tensor) -> float:
    start = time.perf_counter()
    net(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start


def _quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "low": float(low), "high": float(high)}
