"""Building of a sharded dataset; an interrupted build loses at most the shards in progress."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from halometry.datasets.index import list_shards, write_index
from halometry.datasets.manifest import Manifest
from halometry.datasets.shards import Shard, ShardRange
from halometry.errors import StorageError, UnavailableError
from halometry.log import Tracker, logger, track

Shards = Generator[Shard, None, None]


def build_dataset(
    index: Path,
    plan: list[ShardRange],
    make_shards: Callable[[list[ShardRange], Tracker], Shards],
    *,
    settings: dict[str, Any],
    test_from: int,
    title: str,
    overwrite: bool,
) -> Path:
    """Make the missing shards of a dataset, and its index.

    Args:
        index: path of the dataset.
        plan: all its shards.
        make_shards: generator of finished shards, called with those to make and a progress bar
            that it advances by each image.
        settings: everything that the dataset depends on; an existing one must have the same.
        test_from: number of the first test image.
        title: description of the work, for the progress bar.
        overwrite: whether to remove an existing dataset first.

    Returns:
        `index`.

    Raises:
        UsageError: another dataset exists, or another process makes this one.
        StorageError: no room or no permission; finished shards are kept.
        UnavailableError: a worker process was killed; finished shards are kept.
    """
    manifest = Manifest(index)
    if not overwrite:
        manifest.check_foreign_files()
    with manifest.lock():
        if overwrite:
            manifest.clear()
        manifest.check_settings(settings)
        manifest.remove_partial_files()
        finished = manifest.finished_shards(plan)
        missing = [shard for shard in plan if shard.file not in finished]
        if not missing and list_shards(index) == [finished[shard.file] for shard in plan]:
            logger.info(f"{index}: complete already")
            return index
        with track(title, sum(shard.count for shard in plan)) as progress:
            progress.start_at(sum(shard.count for shard in finished.values()))
            try:
                with closing(make_shards(missing, progress)) as shards:
                    finished |= {shard.file: shard for shard in shards}
            except (StorageError, UnavailableError) as error:
                count = sum((index.parent / shard.file).exists() for shard in plan)
                kept = f"{count} of {len(plan)} shards are kept: repeat the command to continue"
                raise type(error)(f"{error}; {kept}") from error
        shards_in_order = [finished[shard.file] for shard in plan]
        manifest.write_checksums(shards_in_order)
        write_index(index, shards_in_order, test_from)
        manifest.remove_partial_files()  # of workers of a cluster that were lost
    return index
