"""The processes that train one network together, and which of them this one is."""

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
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from halometry.errors import HalometryError, UnavailableError, UsageError
from halometry.training.sampling import Share

TIMEOUT = timedelta(minutes=30)  # until a process that neither answers nor ends is given up
GO_ON = "repeat the same command to go on from the last point written"

T = TypeVar("T")


class LostError(UnavailableError):
    """Another process of the group has ended or does not answer."""


class RefusedError(HalometryError):
    """The first process refused; it says why, and the others only end."""


@dataclass(frozen=True)
class Group:
    """The processes of one training, as this one sees them; by itself, unless told otherwise.

    Attributes:
        rank: of this process among all.
        local_rank: among those on this machine.
        devices: processes on each machine, one a device.
        nodes: machines.
        environment: how Lightning calls whoever started them.
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
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """Of each batch, what is this process's."""
        return Share(self.rank, self.processes)

    def strategy(self) -> DDPStrategy | str:
        """How Lightning is to train."""
        if self.environment is None:
            return "auto"
        return DDPStrategy(cluster_environment=self.environment, timeout=TIMEOUT)

    @contextmanager
    def joined(self, device: str, store: Any = None) -> Iterator[None]:
        """Connect the processes: NCCL between GPUs, Gloo between CPUs.

        Args:
            device: `cuda` or `cpu`.
            store: where they meet; without it, where the environment says.

        Raises:
            LostError: the others did not come, or one of them ended.
        """
        if self.environment is None:
            yield
            return
        with self._losses():
            if not distributed.is_initialized():
                self._connect(device, store)
            yield
            distributed.barrier()

    def _connect(self, device: str, store: Any) -> None:
        options: dict[str, Any] = {"timeout": TIMEOUT, "backend": "gloo"}
        if device.startswith("cuda"):
            torch.cuda.set_device(self.local_rank)
            options |= {"backend": "nccl", "device_id": torch.device("cuda", self.local_rank)}
        if store is None:
            store = self._meeting_place()
        distributed.init_process_group(
            store=store, rank=self.rank, world_size=self.processes, **options
        )

    def _meeting_place(self) -> Any:
        """A store at the address that the environment gives."""
        assert self.environment is not None
        os.environ["MASTER_ADDR"] = self.environment.main_address
        os.environ["MASTER_PORT"] = str(self.environment.main_port)
        meeting = rendezvous("env://", self.rank, self.processes, timeout=TIMEOUT)
        # torchrun keeps its store when it starts anew: what the dead wrote there is not for us.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return PrefixStore(attempt, next(meeting)[0])

    @contextmanager
    def _losses(self) -> Iterator[None]:
        """One line where another process was lost, instead of what the connection says."""
        try:
            yield
        except RuntimeError as error:
            known = isinstance(error, distributed.DistError)
            if known or any(word in str(error) for word in ("gloo", "NCCL", "Gloo")):
                raise LostError(
                    f"another of the {self.processes} processes has ended or does not answer"
                    f" (see what it says); {GO_ON}"
                ) from error
            raise

    def agreed(self, settle: Callable[[], T]) -> T:
        """What the first process settles, in all of them.

        Raises:
            HalometryError: what it raises, in it.
            RefusedError: the same in the others.
        """
        if self.environment is None:
            return settle()
        found: list[Any] = [None, None]
        if self.is_first:
            try:
                found = [settle(), None]
            except HalometryError as error:
                distributed.broadcast_object_list([None, error.exit_code])
                raise
        distributed.broadcast_object_list(found)
        answer, exit_code = found
        if exit_code is not None:
            refused = RefusedError()  # without a word: the first has said it
            refused.exit_code = exit_code
            raise refused
        return cast(T, answer)

    def in_turn(self, work: Callable[[], T]) -> T:
        """Let one process of each machine work before the others, which find its cache."""
        if self.environment is None:
            return work()
        mine = work() if self.local_rank == 0 else None
        distributed.barrier()
        return work() if mine is None else mine


def find_group(devices: int, nodes: int) -> Group:
    """The group this process was started in by torchrun or SLURM, or itself alone.

    Args:
        devices: processes on each machine that are wanted.
        nodes: machines.

    Raises:
        UsageError: another number of processes was started.
    """
    for option, value in (("--devices", devices), ("--nodes", nodes)):
        if value < 1:
            raise UsageError(f"{option} {value}: must be 1 or more")
    starter, environment = _starter()
    if environment is None:
        if nodes > 1:
            raise UsageError(
                f"--nodes {nodes}: start the same command on every machine, by torchrun or srun;"
                " see the documentation on devices"
            )
        return Group()
    started = environment.world_size()
    if started != devices * nodes:
        raise UsageError(
            f"{starter} started {started} processes, but --devices {devices} --nodes {nodes} are"
            f" {devices * nodes}; let them agree"
        )
    if started == 1:
        return Group()
    return Group(environment.global_rank(), environment.local_rank(), devices, nodes, environment)


def local_group(local_rank: int, devices: int) -> Group:
    """The group of processes that this package started on this machine."""
    os.environ["LOCAL_RANK"] = str(local_rank)
    return Group(local_rank, local_rank, devices, 1, LightningEnvironment())


def is_first_process() -> bool:
    """Whether this process is the first of those that torchrun or SLURM started, or alone."""
    _, environment = _starter()
    return environment is None or environment.global_rank() == 0


def _starter() -> tuple[str, ClusterEnvironment | None]:
    if TorchElasticEnvironment.detect():
        return "torchrun", TorchElasticEnvironment()
    # SLURM sets this for what srun starts, not for the script itself.
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        try:
            return "srun", SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise UsageError(
                "srun: say how many processes a machine has by --ntasks-per-node"
            ) from error
    return "", None
