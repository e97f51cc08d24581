"""Worker processes and devices: a process pool, counts of cores, names of devices."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from typing import Any, Literal, Self, TypeVar

import torch

from halometry.errors import UnavailableError, UsageError
from halometry.log import Tracker

DEVICE_TYPES = ("cpu", "cuda")
TASKS_PER_WORKER = 2  # submitted at a time, so that no worker waits for its next task
POLL_SECONDS = 0.2  # between two updates of a progress bar

Workers = int | Literal["auto"]
Advance = Callable[[int], None]
Task = TypeVar("Task")
Result = TypeVar("Result")


class ProcessPool:
    """Worker processes on this machine, each with one thread.

    The processes are spawned, ignore Ctrl-C, and end with the context or with this process. When
    the context ends early, tasks stop at their next call of `advance`.

    Args:
        workers: number of processes.
        initializer: called once in each process.
        arguments: its arguments.

    Example:
        >>> with ProcessPool(2) as pool:  # doctest: +SKIP
        ...     for task, result in pool.map(function, tasks):
        ...         print(task, result)
    """

    def __init__(
        self,
        workers: int,
        initializer: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> None:
        context = get_context("spawn")
        self._max_submitted = TASKS_PER_WORKER * workers
        # Plain shared memory: a process that is killed can hold no lock and break no pipe.
        self._counts = context.RawArray("q", self._max_submitted)
        self._stop = context.RawValue("b", 0)
        state = (self._counts, self._stop, initializer, arguments)
        self._executor = ProcessPoolExecutor(workers, context, _initialize_worker, state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.value = 1
        self._executor.shutdown(wait=True, cancel_futures=True)

    def map(
        self,
        function: Callable[[Task, Advance], Result],
        tasks: Iterable[Task],
        progress: Tracker | None = None,
    ) -> Iterator[tuple[Task, Result]]:
        """Call a function for each task, a few tasks ahead of the result that is asked for.

        Args:
            function: called with a task and a function `advance`, which it may call with the
                number of items that it has finished since the last call.
            tasks: the tasks.
            progress: advanced by these numbers.

        Yields:
            Each task and its result, in the order of the tasks.

        Raises:
            UnavailableError: a worker process was killed.
            Exception: what the function raised.
        """
        remaining = enumerate(tasks)
        submitted: deque[tuple[int, Task, Future[Result]]] = deque()
        finished = progress.done if progress else 0  # items of tasks whose results are known

        def submit(count: int) -> None:
            for number, task in islice(remaining, count):
                slot = number % self._max_submitted
                with block_interrupt():  # a process may be spawned
                    future = self._executor.submit(_run_task, function, task, slot)
                submitted.append((slot, task, future))

        def update() -> None:
            if progress:
                progress.advance(finished + sum(self._counts) - progress.done)

        try:
            submit(self._max_submitted)
            while submitted:
                slot, task, future = submitted.popleft()
                while wait([future], POLL_SECONDS if progress else None).not_done:
                    update()
                update()
                yield task, future.result()
                finished += self._counts[slot]
                self._counts[slot] = 0
                submit(1)
        except BrokenProcessPool as error:
            raise UnavailableError(
                "a worker process ended unexpectedly, perhaps because the memory was full; use"
                " fewer --workers, and start a Python script's work below"
                " 'if __name__ == \"__main__\":'"
            ) from error


class _WorkerState:
    """Memory that a worker process shares with the process that started it.

    Attributes:
        counts: finished items of each submitted task.
        stop: whether tasks are to stop.
    """

    counts: Any = None
    stop: Any = None


class _StoppedError(Exception):
    """The process that started this worker has left its pool."""


def _initialize_worker(
    counts: Any, stop: Any, initializer: Callable[..., None] | None, arguments: tuple[Any, ...]
) -> None:
    _WorkerState.counts, _WorkerState.stop = counts, stop
    begin_as_child()
    torch.set_num_threads(1)
    if initializer is not None:
        initializer(*arguments)


def _run_task(function: Callable[[Task, Advance], Result], task: Task, slot: int) -> Result:
    def advance(count: int) -> None:
        if _WorkerState.stop.value:
            raise _StoppedError
        _WorkerState.counts[slot] += count

    return function(task, advance)


@contextmanager
def block_interrupt() -> Iterator[None]:
    """Block Ctrl-C, so that processes spawned meanwhile do not get it from the terminal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_as_child() -> None:
    """Make this process ignore Ctrl-C and end when the process that started it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def check_workers(workers: Workers) -> None:
    """Check a number of worker processes.

    Raises:
        UsageError: it is neither `auto` nor an integer of at least 1.
    """
    if workers != "auto" and (not isinstance(workers, int) or workers < 1):
        raise UsageError(f"--workers {workers}: must be 'auto' or a number from 1")


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_device(name: str = "auto") -> str:
    """Return the name of a usable device.

    Args:
        name: a device as PyTorch names it; `auto` takes a GPU if there is one.

    Raises:
        UsageError: there is no such device on this machine.
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
    return device_type(name) in DEVICE_TYPES


def device_type(device: str) -> str:
    """Type of a device: its name without its number.

    Example:
        >>> device_type("cuda:1")
        'cuda'
    """
    return device.partition(":")[0]


def check_devices(device: str, devices: int, nodes: int = 1) -> str:
    """Check that this machine has a number of devices.

    Args:
        device: their type.
        devices: their number on each machine.
        nodes: number of machines.

    Returns:
        `device`.

    Raises:
        UsageError: there are fewer GPUs, or `device` is one GPU by its number.
    """
    if device_type(device) == "cuda" and devices * nodes > 1:
        if device != "cuda":
            raise UsageError(f"--device {device}: is one GPU; use --device cuda")
        if devices > (available := torch.cuda.device_count()):
            raise UsageError(
                f"--devices {devices}: this machine has {available}"
                f" GPU{'s' if available != 1 else ''}; use --devices {available}, or --device cpu"
            )
    return device
