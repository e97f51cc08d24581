"""Simulation of shards by the workers of a Dask cluster."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import torch

from halometry.datasets.build import Shards
from halometry.datasets.shards import Shard
from halometry.datasets.workers import ShardTask, make_shard
from halometry.errors import DataError, UnavailableError, UsageError
from halometry.extras import import_optional
from halometry.log import Tracker, logger
from halometry.parallel import find_device
from halometry.provenance import simulation_versions

CONNECT_TIMEOUT_SECONDS = 15
FILE_TIMEOUT_SECONDS = 30  # until a file that another machine wrote is visible here


def make_on_cluster(tasks: list[ShardTask], address: str, progress: Tracker) -> Shards:
    """Render and write shards on the workers of an existing cluster, which see the same files.

    If a worker is lost, other workers make its shards.

    Args:
        tasks: the shards; their folder is an absolute path.
        address: address of the scheduler, such as `tcp://10.0.0.1:8786`.
        progress: advanced by each shard.

    Yields:
        Each finished shard.

    Raises:
        UnavailableError: the package `distributed` is missing, no scheduler answers, or workers
            were killed again and again.
        UsageError: a worker has other versions of packages.
        DataError: a worker writes to another disk.
    """
    distributed = import_optional("distributed", extra="cluster")
    client = _connect(distributed, address)
    futures = []
    try:
        if not client.scheduler_info()["workers"]:
            logger.info(f"{address}: has no workers yet; waiting for them")
        futures = [client.submit(make_on_worker, task, pure=False) for task in tasks]
        with client.as_current():
            for future in distributed.as_completed(futures):
                shard = future.result()
                _wait_for_file(tasks[0].base / shard.file, shard.bytes)
                progress.advance(shard.count)
                yield shard
    except distributed.KilledWorker as error:
        raise UnavailableError(
            f"--scheduler {address}: several workers ended while making the same shard, perhaps"
            " because their memory was full"
        ) from error
    except (OSError, CancelledError) as error:
        raise UnavailableError(f"--scheduler {address}: does not answer any more") from error
    finally:
        if client.status == "running":
            client.cancel(futures)
        client.close()


def _connect(distributed: Any, address: str) -> Any:
    try:
        return distributed.Client(address, timeout=CONNECT_TIMEOUT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"--scheduler {address}: no Dask scheduler answers there; give its address as the"
            " scheduler prints it, such as tcp://10.0.0.1:8786"
        ) from error


def make_on_worker(task: ShardTask) -> Shard:
    """Render and write a shard in a process of a cluster.

    Raises:
        UsageError: this process has other versions of packages, or no such device.
        StorageError: no room or no permission.
    """
    for name, installed in simulation_versions().items():
        if installed != task.attributes[name]:
            package = name.removesuffix("_version")
            raise UsageError(
                f"a worker has {package} {installed}, not {task.attributes[name]}: its images could"
                " differ; give all machines the same environment"
            )
    find_device(task.device)
    torch.set_num_threads(1)
    return make_shard(task, lambda _: None)


def _wait_for_file(path: Path, size: int) -> None:
    """Wait until a file that another machine wrote is visible here with its size in bytes."""
    deadline = time.monotonic() + FILE_TIMEOUT_SECONDS
    while not path.exists() or path.stat().st_size != size:
        if time.monotonic() > deadline:
            raise DataError(
                f"{path}: was written by a worker but is not seen here; --out must be on a file"
                " system that all machines share"
            )
        time.sleep(0.1)
