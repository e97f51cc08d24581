"""A set of shards and its index, made so that a stop costs one shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from halometry.datasets.index import is_index_of, write_index
from halometry.datasets.manifest import Ledger
from halometry.datasets.shards import Shard, shard_folder
from halometry.errors import StorageError
from halometry.log import Tracker, logger, track

MAX_SHARDS = 200  # HDF5 may hold all of them open, and some systems allow 256 open files

Finished = Callable[[Shard], None]
Make = Callable[[list[Shard], Tracker, Finished], None]


def min_shard_size(count: int) -> int:
    """Images of a shard, with which a set has no more than `MOST_SHARDS`."""
    return -(-count // MAX_SHARDS)


def plan_shards(out: Path, count: int, size: int) -> list[Shard]:
    """The shards of a set to be, without their bytes and checksums.

    Args:
        out: the index.
        count: images in all.
        size: images of a shard, but for the last one.
    """
    folder = shard_folder(out).name
    return [
        Shard(f"{folder}/{k:05d}.h5", start, min(size, count - start), 0, "")
        for k, start in enumerate(range(0, count, size))
    ]


def build_dataset(
    out: Path,
    plan: list[Shard],
    settings: dict[str, Any],
    test_from: int,
    overwrite: bool,
    title: str,
    make: Make,
) -> Path:
    """Make what is not there yet of a set, and its index.

    Args:
        out: the index.
        plan: all its shards.
        settings: what the set follows from, to know it again.
        test_from: number of the first image for testing.
        overwrite: remove a set that is there.
        title: of the work, for the person who waits.
        make: makes shards of the plan; tells the tracker of each image, and then of each shard.

    Returns:
        `out`.

    Raises:
        UsageError: another set is there, or another process makes this one.
        StorageError: no room or no permission; finished shards are kept.
    """
    ledger = Ledger(out)
    if not overwrite:
        ledger.refuse_foreign()
    with ledger.claim():
        if overwrite:
            ledger.clear()
        ledger.agree(settings)
        ledger.sweep()
        with track("checking what is there", len(plan)) as progress:
            good = ledger.verified(plan, lambda _: progress.advance())
        done = {shard.file: shard for shard in good}
        left = [shard for shard in plan if shard.file not in done]
        if not left and is_index_of(out, good, test_from):
            logger.info(f"{out}: complete already; its shards are as they were written")
            return out
        ledger.rewrite(good)

        def finished(shard: Shard) -> None:
            ledger.record(shard)
            done[shard.file] = shard

        with track(title, sum(shard.count for shard in plan)) as progress:
            progress.start_at(sum(shard.count for shard in good))
            try:
                make(left, progress, finished)
            except StorageError as error:
                kept = f"{len(done)} of {len(plan)} shards are kept: repeat the command to go on"
                raise StorageError(f"{error}; {kept}") from error
        shards = [done[shard.file] for shard in plan]
        ledger.rewrite(shards)
        write_index(out, shards, test_from)
        ledger.sweep()  # what a lost worker of a cluster had begun
    return out
