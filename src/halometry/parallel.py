"""Processes of one's own on this machine: how they are begun, and how they end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from typing import Literal

import torch

from halometry.errors import UsageError


@contextmanager
def block_interrupt() -> Iterator[None]:
    """Start processes that Ctrl-C on the terminal does not reach: they stop when told."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_as_child() -> None:
    """In a process that was started: leave Ctrl-C to the one that started it, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


Workers = int | Literal["auto"]


def check_workers(workers: Workers) -> None:
    """Refuse what is no number of processes.

    Raises:
        UsageError: it is neither `auto` nor a number from 1.
    """
    if workers != "auto" and (not isinstance(workers, int) or workers < 1):
        raise UsageError(f"--workers {workers}: must be 'auto' or a number from 1")


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


DEVICE_TYPES = ("cpu", "cuda")


def find_device(name: str = "auto") -> str:
    """The device to use: the one named, or a GPU where there is one.

    Raises:
        UsageError: the device does not exist here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not _is_usable(name):
        raise UsageError(f"device '{name}' is not usable here; use --device cpu")
    return name


def _is_usable(name: str) -> bool:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        return False
    return name.partition(":")[0] in DEVICE_TYPES


def check_devices(device: str, devices: int, nodes: int = 1) -> str:
    """The device, if there are so many of its kind on this machine.

    Raises:
        UsageError: fewer GPUs, or one that is named by its number.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda" and devices * nodes > 1:
        if number:
            raise UsageError(f"--device {device}: is one GPU; use --device cuda")
        if devices > (there := torch.cuda.device_count()):
            raise UsageError(
                f"--devices {devices}: this machine has {there} GPU{'s' if there != 1 else ''};"
                f" use --devices {there}, or --device cpu"
            )
    return device
