"""Shards made by the workers of a Dask cluster."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import torch

from halometry.datasets.build import Finished
from halometry.datasets.shards import Shard
from halometry.datasets.workers import ShardTask, make_shard
from halometry.errors import DataError, UnavailableError, UsageError
from halometry.log import Tracker, logger
from halometry.parallel import find_device
from halometry.provenance import versions

CONNECT_TIMEOUT_SECONDS = 15  # seconds that a scheduler has to answer
FILE_TIMEOUT_SECONDS = 30  # seconds until a file of another machine must be seen here
KEPT = "finished shards are kept: repeat the command to go on"


def make_on_cluster(
    tasks: list[ShardTask], address: str, progress: Tracker, finished: Finished
) -> None:
    """Make shards by the workers of an existing cluster, which see the same files.

    A worker that is lost costs the shards it was at; the others make them.

    Args:
        tasks: the shards, their folder as an absolute path.
        address: of the scheduler, such as `tcp://10.0.0.1:8786`.
        progress: moves with each shard.
        finished: is told of each shard.

    Raises:
        UnavailableError: the package `distributed` is missing, no scheduler answers, or workers
            were killed again and again.
        UsageError: workers with other versions of the packages.
        DataError: workers that write to another disk.
    """
    distributed = _distributed()
    client = _connect(distributed, address)
    futures = []
    try:
        if not client.scheduler_info()["workers"]:
            logger.info(f"{address}: has no workers yet; waiting for them")
        futures = [client.submit(make_on_worker, task, pure=False) for task in tasks]
        with client.as_current():
            for future in distributed.as_completed(futures):
                shard = future.result()
                _await(tasks[0].home / shard.file, shard)
                finished(shard)
                progress.advance(shard.count)
    except distributed.KilledWorker as error:
        raise UnavailableError(
            f"--scheduler {address}: several workers died while making the same shard, perhaps"
            f" for want of memory; {KEPT}"
        ) from error
    except (OSError, CancelledError) as error:
        raise UnavailableError(
            f"--scheduler {address}: does not answer any more; {KEPT}"
        ) from error
    finally:
        if client.status == "running":
            client.cancel(futures)
        client.close()


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UnavailableError(
            "--scheduler needs the package distributed: pip install 'halometry[cluster]'"
        ) from error
    return distributed


def _connect(distributed: Any, address: str) -> Any:
    try:
        return distributed.Client(address, timeout=CONNECT_TIMEOUT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"--scheduler {address}: no Dask scheduler answers there; give its address as the"
            " scheduler prints it, such as tcp://10.0.0.1:8786"
        ) from error


def make_on_worker(task: ShardTask) -> Shard:
    """Make a shard in a process of a cluster."""
    for name, here in versions().items():
        if here != task.attributes[name]:
            package = name.removesuffix("_version")
            raise UsageError(
                f"a worker has {package} {here}, not {task.attributes[name]}: its images could"
                " differ; give all machines the same environment"
            )
    find_device(task.device)
    torch.set_num_threads(1)
    return make_shard(task, lambda _: None)


def _await(path: Path, shard: Shard) -> None:
    """Wait until a file that another machine wrote is seen here; networks take a moment."""
    deadline = time.monotonic() + FILE_TIMEOUT_SECONDS
    while not path.exists() or path.stat().st_size != shard.bytes:
        if time.monotonic() > deadline:
            raise DataError(
                f"{path}: was written by a worker but is not seen here; --out must be on a file"
                " system that all machines share"
            )
        time.sleep(0.1)
