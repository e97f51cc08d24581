"""Simulation of shards, in this process or in worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from halometry.datasets.build import Shards
from halometry.datasets.shards import Shard, ShardRange
from halometry.datasets.store import StoreWriter
from halometry.log import Tracker
from halometry.parallel import ProcessPool
from halometry.simulation import Preset, sample, scene_units

RENDER_BATCH = 32  # images rendered together


@dataclass(frozen=True)
class ShardTask:
    """A shard to simulate.

    Attributes:
        base: folder of the index.
        shard: the shard.
        preset, seed: the images depend on these.
        device: device to render on.
        attributes: attributes of the file.
    """

    base: Path
    shard: ShardRange
    preset: Preset
    seed: int
    device: str
    attributes: dict[str, str | int]


def make_shard(task: ShardTask, advance: Callable[[int], None]) -> Shard:
    """Render and write a shard.

    Args:
        task: the shard.
        advance: called with the number of images of each batch; may raise to stop.

    Raises:
        StorageError: no room or no permission; no partial file is left.
    """
    shard = task.shard
    writer = StoreWriter(
        task.base / shard.file,
        count=shard.count,
        shape=task.preset.image.shape,
        dtype="int32",
        task=task.preset.task,
        class_names=task.preset.class_names,
        attributes={**task.attributes},
        units=scene_units(task.preset),
    )
    with writer:
        for row in range(0, shard.count, RENDER_BATCH):
            size = min(RENDER_BATCH, shard.count - row)
            first = shard.start + row
            images, scene = sample(task.preset, task.seed, first, size, task.device)
            writer.write(row, images.cpu().numpy(), scene.labels.numpy(), scene.parameters())
            advance(size)
    return Shard.from_file(shard, task.base)


def make_shards(tasks: list[ShardTask], workers: int, progress: Tracker) -> Shards:
    """Render and write shards.

    Args:
        tasks: the shards.
        workers: number of processes; 1 is this process.
        progress: advanced by each image.

    Yields:
        Each finished shard.

    Raises:
        UnavailableError: a worker process was killed.
        StorageError: no room or no permission.
    """
    if workers == 1:
        for task in tasks:
            yield make_shard(task, progress.advance)
        return
    with ProcessPool(workers) as pool:
        for _, shard in pool.map(make_shard, tasks, progress):
            yield shard
