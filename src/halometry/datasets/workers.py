"""One shard after the other, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from halometry.datasets.build import Finished
from halometry.datasets.shards import Shard
from halometry.datasets.store import StoreWriter
from halometry.errors import StorageError, UnavailableError
from halometry.log import Tracker
from halometry.parallel import begin_as_child, block_interrupt
from halometry.simulation import Preset, sample, scene_units

RENDER_BATCH = 32  # images rendered together
LOOK_EVERY = 0.2  # seconds between looks at what the workers have done


@dataclass(frozen=True)
class ShardTask:
    """A shard to make.

    Attributes:
        home: the folder of the index.
        file: the shard's path from there.
        preset, seed: what its images follow from.
        start, count: the range of its images.
        device: to render on.
        attributes: for the file.
    """

    home: Path
    file: str
    preset: Preset
    seed: int
    start: int
    count: int
    device: str
    attributes: dict[str, str | int]


def make_shard(task: ShardTask, advance: Callable[[int], None]) -> Shard:
    """Render and write a shard; it appears under its name only when it is whole.

    Args:
        task: which.
        advance: is told how many images are done, batch by batch; it may raise to stop.

    Raises:
        StorageError: no room or no permission; nothing is left half-written.
    """
    writer = StoreWriter(
        task.home / task.file,
        count=task.count,
        shape=task.preset.image.shape,
        dtype="int32",
        task=task.preset.task,
        class_names=task.preset.class_names,
        attributes={**task.attributes},
        units=scene_units(task.preset),
    )
    with writer:
        for row in range(0, task.count, RENDER_BATCH):
            size = min(RENDER_BATCH, task.count - row)
            first = task.start + row
            images, scene = sample(task.preset, task.seed, first, size, task.device)
            writer.write(row, images.cpu().numpy(), scene.labels.numpy(), scene.parameters())
            advance(size)
    return Shard(task.file, task.start, task.count, 0, "").written(task.home)


def make_here(tasks: list[ShardTask], progress: Tracker, finished: Finished) -> None:
    """Make shards in this process."""
    for task in tasks:
        finished(make_shard(task, progress.advance))


def make_in_processes(
    tasks: list[ShardTask], workers: int, progress: Tracker, finished: Finished
) -> None:
    """Make shards in several processes on this machine.

    Args:
        tasks: the shards.
        workers: how many processes.
        progress: moves while they work.
        finished: is told of each shard.

    Raises:
        UnavailableError: a process was killed.
        StorageError: no room or no permission.
    """
    context = get_context("spawn")
    # Plain shared memory: a process that is killed can hold no lock and break no pipe.
    done, stop = context.RawArray("q", len(tasks)), context.RawValue("b", 0)
    pool = ProcessPoolExecutor(workers, context, _begin, (done, stop))
    waiting: set[Future[Shard]] = set()
    try:
        with block_interrupt():
            waiting = {pool.submit(_work, k, task) for k, task in enumerate(tasks)}
        before = progress.done
        while waiting:
            ready, waiting = wait(waiting, LOOK_EVERY, FIRST_COMPLETED)
            if more := before + sum(done) - progress.done:
                progress.advance(more)
            waiting |= ready  # until they are noted: another of them may have failed
            for future in ready:
                finished(future.result())
                waiting.remove(future)
    except BrokenProcessPool as error:
        raise UnavailableError(
            "a worker process ended unexpectedly, perhaps for want of memory; finished shards"
            " are kept: repeat the command to go on, with fewer --workers if it happens again"
        ) from error
    finally:
        stop.value = 1
        pool.shutdown(wait=True, cancel_futures=True)
        _note_the_rest(waiting, finished)


def _note_the_rest(futures: set[Future[Shard]], finished: Finished) -> None:
    """Lose nothing that was finished while others failed."""
    for future in futures:
        if not future.cancelled() and future.exception() is None:
            with suppress(StorageError):
                finished(future.result())


class _Board:
    """What a worker shares with the process that started it."""

    done: Any = None
    stop: Any = None


class _StoppedError(Exception):
    """The process that started this worker wants no more."""


def _begin(done: Any, stop: Any) -> None:
    _Board.done, _Board.stop = done, stop
    begin_as_child()
    torch.set_num_threads(1)


def _work(k: int, task: ShardTask) -> Shard:
    def advance(count: int) -> None:
        if _Board.stop.value:
            raise _StoppedError
        _Board.done[k] += count

    return make_shard(task, advance)
