"""Processes that train one network together: their context, and the connection between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from halometry.errors import HalometryError, UnavailableError, UsageError
from halometry.training.sampling import BatchShard

PROCESS_TIMEOUT = timedelta(minutes=30)  # after which a process that does not answer is lost
RESUME_HINT = "repeat the same command to continue from the last checkpoint"

T = TypeVar("T")


class PeerLostError(UnavailableError):
    """Another process has ended or does not answer."""


class PeerAbortedError(HalometryError):
    """The first process raised an error, which it reports; the others end without a message."""


@dataclass(frozen=True)
class DistributedContext:
    """The processes of one training, as seen by one of them; by default it is alone.

    Attributes:
        rank: of this process among all.
        local_rank: of this process among those on its machine.
        devices: processes on each machine, one for each device.
        nodes: machines.
        environment: Lightning's description of what started the processes.
    """

    rank: int = 0
    local_rank: int = 0
    devices: int = 1
    nodes: int = 1
    environment: ClusterEnvironment | None = None

    @property
    def processes(self) -> int:
        return self.devices * self.nodes

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    @property
    def shard(self) -> BatchShard:
        """This process's part of each batch."""
        return BatchShard(self.rank, self.processes)

    def strategy(self) -> DDPStrategy | str:
        """Create Lightning's strategy."""
        if self.environment is None:
            return "auto"
        return DDPStrategy(cluster_environment=self.environment, timeout=PROCESS_TIMEOUT)

    @contextmanager
    def connected(self, device: str) -> Iterator[None]:
        """Connect the processes within the context: by NCCL on GPUs, by Gloo on CPUs.

        Args:
            device: `cuda` or `cpu`.

        Raises:
            PeerLostError: another process did not connect, or ended.
        """
        if self.environment is None:
            yield
            return
        with self._peer_lost_errors():
            if not distributed.is_initialized():
                self._connect(device)
            yield
            distributed.barrier()

    def _connect(self, device: str) -> None:
        options: dict[str, Any] = {"timeout": PROCESS_TIMEOUT, "backend": "gloo"}
        if device.startswith("cuda"):
            torch.cuda.set_device(self.local_rank)
            options |= {"backend": "nccl", "device_id": torch.device("cuda", self.local_rank)}
        distributed.init_process_group(
            store=self._store(), rank=self.rank, world_size=self.processes, **options
        )

    def _store(self) -> Any:
        """Open the store of the process group at the address that the environment gives."""
        assert self.environment is not None
        os.environ["MASTER_ADDR"] = self.environment.main_address
        os.environ["MASTER_PORT"] = str(self.environment.main_port)
        meeting = rendezvous("env://", self.rank, self.processes, timeout=PROCESS_TIMEOUT)
        # torchrun keeps its store when it restarts processes, with keys of those that ended.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return PrefixStore(attempt, next(meeting)[0])

    @contextmanager
    def _peer_lost_errors(self) -> Iterator[None]:
        """Replace errors of the connection by `PeerLostError`."""
        try:
            yield
        except RuntimeError as error:
            is_connection_error = isinstance(error, distributed.DistError) or any(
                word in str(error) for word in ("gloo", "NCCL", "Gloo")
            )
            if is_connection_error:
                raise PeerLostError(
                    f"another of the {self.processes} processes has ended or does not answer"
                    f" (see its message); {RESUME_HINT}"
                ) from error
            raise

    def broadcast(self, function: Callable[[], T]) -> T:
        """Call a function in the first process and return its result in all processes.

        Raises:
            HalometryError: in the first process, what the function raised.
            PeerAbortedError: in the others, at the same time.
        """
        if self.environment is None:
            return function()
        message: list[Any] = [None, None]  # result, exit code of an error
        if self.is_first:
            try:
                message = [function(), None]
            except HalometryError as error:
                distributed.broadcast_object_list([None, error.exit_code])
                raise
        distributed.broadcast_object_list(message)
        result, exit_code = message
        if exit_code is not None:
            aborted = PeerAbortedError()
            aborted.exit_code = exit_code
            raise aborted
        return cast(T, result)

    def local_first(self, function: Callable[[], T]) -> T:
        """Call a function in all processes, in one of each machine first, which fills the cache."""
        if self.environment is None:
            return function()
        result = function() if self.local_rank == 0 else None
        distributed.barrier()
        return function() if result is None else result


def find_context(devices: int, nodes: int) -> DistributedContext:
    """Find the context in which torchrun, SLURM or `launch` started this process, or none.

    Args:
        devices: processes on each machine, as the user wants them.
        nodes: machines.

    Raises:
        UsageError: another number of processes was started.
    """
    for option, value in (("--devices", devices), ("--nodes", nodes)):
        if value < 1:
            raise UsageError(f"{option} {value}: must be 1 or more")
    launcher, environment = _find_environment()
    if environment is None:
        if nodes > 1:
            raise UsageError(
                f"--nodes {nodes}: start the same command on every machine, by torchrun or srun;"
                " see the documentation on devices"
            )
        return DistributedContext()
    started = environment.world_size()
    if started != devices * nodes:
        raise UsageError(
            f"{launcher} started {started} processes, but --devices {devices} --nodes {nodes} are"
            f" {devices * nodes}; use the same numbers"
        )
    if started == 1:
        return DistributedContext()
    return DistributedContext(
        environment.global_rank(), environment.local_rank(), devices, nodes, environment
    )


def is_first_process() -> bool:
    """Whether this process is alone, or the first of those that torchrun or SLURM started."""
    _, environment = _find_environment()
    return environment is None or environment.global_rank() == 0


def _find_environment() -> tuple[str, ClusterEnvironment | None]:
    """Name of the launcher, and Lightning's description of its environment."""
    if TorchElasticEnvironment.detect():
        return "torchrun", TorchElasticEnvironment()
    # SLURM sets this variable for what srun starts, not for the batch script.
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        try:
            return "srun", SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise UsageError(
                "srun: give the number of processes on a machine by --ntasks-per-node"
            ) from error
    return "", None
