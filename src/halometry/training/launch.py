"""Processes on this machine that train together, watched by the one that started them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from halometry import log as progress
from halometry.errors import HalometryError, UnavailableError
from halometry.parallel import begin_as_child, block_interrupt
from halometry.training.distributed import GO_ON, TIMEOUT, LostError, local_group

HOST = "127.0.0.1"
GRACE = 2.0  # seconds for the others to say what went wrong, once one has ended


@dataclass(frozen=True)
class _Seat:
    """What a process is told when it begins."""

    rank: int
    devices: int
    device: str
    threads: int
    port: int


def run_in_processes(
    devices: int, device: str, threads: int, work: Callable[..., None], *args: Any
) -> None:
    """Call `work(*args, group)` in several processes on this machine, and wait for them.

    When one fails or is killed, the others are ended too.

    Args:
        devices: how many.
        device: `cuda`, of which each has its own, or `cpu`.
        threads: of each process.
        work: a function of a module.
        args: for it.

    Raises:
        HalometryError: what one of them raised.
        UnavailableError: one of them was killed.
    """
    context = get_context("spawn")
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
    processes, lines = [], []
    try:
        with block_interrupt():
            for rank in range(devices):
                here, there = context.Pipe()
                seat = _Seat(rank, devices, device, threads, store.port)
                process = context.Process(target=_begin, args=(seat, there), daemon=True)
                process.start()
                there.close()
                processes.append(process)
                lines.append(here)
        _hand_over(lines, ForkingPickler.dumps((work, args)))
        _await(processes)
        _complain(processes, lines)
    finally:
        # What they write is whole or not there, so that they can be ended at any moment.
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _hand_over(lines: list[connection.Connection], job: Any) -> None:
    """Give all the job, once all are beginning; one that is gone is found by its status."""
    for line in lines:
        try:
            line.send_bytes(job)
        except OSError:
            return


def _await(processes: list[Any]) -> None:
    """Until all have ended, or one has failed and the others had time to notice."""
    running = {process.sentinel: process for process in processes}
    deadline: float | None = None
    while running:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ended = connection.wait(list(running), left)
        if deadline is not None and not ended:
            return
        for sentinel in ended:
            process = running.pop(sentinel)
            process.join()
            if process.exitcode and deadline is None:
                deadline = time.monotonic() + GRACE


def _complain(processes: list[Any], lines: list[connection.Connection]) -> None:
    """Raise the cause of what went wrong, rather than its consequences."""
    said = [_answer(line) for line in lines]
    causes = [one for one in said if isinstance(one, HalometryError)]
    for error in causes:
        if not isinstance(error, LostError):
            raise error
    for rank, process in enumerate(processes):
        if (process.exitcode or 0) < 0:
            raise UnavailableError(
                f"process {rank + 1} of {len(processes)} was killed (signal {-process.exitcode}),"
                f" perhaps for want of memory; {GO_ON}"
            )
    for rank, one in enumerate(said):
        if isinstance(one, str):
            raise RuntimeError(f"process {rank + 1} of {len(processes)} failed:\n{one}")
        if one is None and processes[rank].exitcode:
            raise UnavailableError(
                f"process {rank + 1} of {len(processes)} ended before it could train; in a script,"
                ' train under: if __name__ == "__main__":'
            )
    if causes:
        raise causes[0]


def _answer(line: connection.Connection) -> Any:
    try:
        return line.recv() if line.poll() else None
    except (EOFError, OSError):
        return None


def _begin(seat: _Seat, line: connection.Connection) -> None:
    """What a process does: learn its job, do it, and say what went wrong."""
    begin_as_child()
    torch.set_num_threads(seat.threads)
    if seat.rank:
        progress.silence()
    try:
        work, args = line.recv()
        group = local_group(seat.rank, seat.devices)
        store = TCPStore(HOST, seat.port, is_master=False, timeout=TIMEOUT)
        with group.joined(seat.device, store):
            work(*args, group)
        distributed.destroy_process_group()
    except HalometryError as error:
        line.send(error)
        raise SystemExit(1) from error
    except Exception:
        line.send(traceback.format_exc())
        raise SystemExit(1) from None
