"""How a machine runs a network fastest: measured at the start, since no rule holds everywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from halometry.runs.execution import Execution, pinned_threads

MARGIN = 1.15  # another way must be this much faster than plain float32 to be taken


def choose_execution(
    build: Callable[[], nn.Module],
    example: Tensor,
    device: str = "cpu",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    channels_last: bool | None = None,
    max_seconds: float = 20.0,
) -> Execution:
    """Time a few training steps each way and take the fastest.

    Args:
        build: makes a network like the one to be trained.
        example: a batch of its input (B, C, H, W).
        device: where it will run.
        precision: not to be measured, if it is given.
        channels_last: likewise the memory format.
        max_seconds: no further way is tried once this much time is spent.
    """
    threads = torch.get_num_threads()
    precisions = ("float32", "bfloat16") if precision == "auto" else (precision,)
    ways = [
        Execution(device=device, precision=p, channels_last=last, threads=threads)
        for last in ((True, False) if channels_last is None else (channels_last,))
        for p in precisions
    ]
    begin = time.monotonic()
    best: Execution | None = None
    for way in ways:
        if best is not None and time.monotonic() - begin > max_seconds:
            break
        best = _faster(build, example, way, best)
    assert best is not None
    fewer = threads // 2  # small networks may lose more by sharing than they gain
    if device == "cpu" and fewer and time.monotonic() - begin <= max_seconds:
        best = _faster(build, example, best.model_copy(update={"threads": fewer}), best)
    return best


def _faster(
    build: Callable[[], nn.Module], example: Tensor, way: Execution, best: Execution | None
) -> Execution:
    """A way with its speed, if it is faster than the best so far; else that.

    Before it gives way the best is timed again: something else may have been at work before.
    """

    def rate(of: Execution) -> float:
        with pinned_threads(of.threads):
            return round(_training_rate(build, example, of), 1)

    found = rate(way)
    if best is not None:
        known = best.images_per_second or 0.0
        if found > MARGIN * known:
            known = max(known, rate(best))
        if found <= MARGIN * known:
            return best.model_copy(update={"images_per_second": known})
    return way.model_copy(update={"images_per_second": found})


def _training_rate(build: Callable[[], nn.Module], example: Tensor, way: Execution) -> float:
    """Images a second of the fastest of a few training steps."""
    with torch.random.fork_rng(devices=[]):
        net = build().to(way.device).to(memory_format=way.memory_format).train()
    images = example.to(way.device, memory_format=way.memory_format)
    fastest = float("inf")
    spent = 0.0
    for step in range(4):
        start = time.monotonic()
        with way.autocast():
            loss = net(images).float().square().mean()
        loss.backward()
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        seconds = time.monotonic() - start
        spent += seconds
        if step or seconds > 5:  # the first step also allocates and compiles
            fastest = min(fastest, seconds)
        if spent > 5:
            break
    return len(images) / fastest
