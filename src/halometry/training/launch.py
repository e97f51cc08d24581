"""Start of training processes on this machine, by PyTorch's elastic launcher."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
    record,
)
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from halometry import errors
from halometry.errors import HalometryError, UnavailableError
from halometry.log import (
    printed_level,
    printed_messages,
    progress_is_shown,
    silence,
    without_progress,
)
from halometry.parallel import begin_as_child
from halometry.training.distributed import RESUME_HINT, PeerLostError, find_context

HOST = "localhost"
SECONDS_FOR_CAUSE = 5.0  # that a process waits before it reports the loss of another
HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # by the launcher


def launch(
    function: Callable[..., None], *args: Any, devices: int, device: str, threads: int
) -> None:
    """Call `function(*args, context)` in several processes on this machine, and wait for them.

    When one of them fails or is killed, the others are ended.

    Args:
        function: of a module; called with a `DistributedContext` after `args`.
        args: of the function.
        devices: number of processes.
        device: `cuda`, of which each process has its own, or `cpu`.
        threads: of each process.

    Raises:
        HalometryError: what a process raised.
        UnavailableError: a process was killed.
    """
    with TemporaryDirectory(prefix="halometry-") as folder, _launcher_environment() as stopped:
        # In a file: Python would wait forever to hand large arguments to a process that has ended.
        work = Path(folder) / "work.pickle"
        with work.open("wb") as file:
            pickle.dump((function, args), file)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id="halometry",
            rdzv_backend="c10d",
            rdzv_endpoint=f"{HOST}:0",
            local_addr=HOST,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        run = elastic_launch(config, _run_process)
        try:
            run(work, printed_level(), progress_is_shown(), devices, device, threads)
        except ChildFailedError as error:
            raise _cause(*error.get_first_failure(), devices) from None
        except SignalException as error:
            stopped.append(error.sigval)


@record
def _run_process(
    work: Path,
    level: int | None,
    show_progress: bool,
    devices: int,
    device: str,
    threads: int,
) -> None:
    """Do the work in one process.

    Args:
        work: pickle file with the function and its arguments.
        level: from which messages are printed, or None if they are not.
        show_progress: whether to show progress.
        devices, device, threads: as for `launch`.
    """
    begin_as_child()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the launcher's; files are written whole or not
    torch.set_num_threads(threads)
    with work.open("rb") as file:
        function, args = pickle.load(file)
    context = find_context(devices, nodes=1)
    printing: AbstractContextManager[None] = nullcontext()
    if not context.is_first:
        silence()
    elif level is not None:
        printing = printed_messages(quiet=level >= logging.ERROR, verbose=level <= logging.DEBUG)
    try:
        with printing, without_progress(not show_progress), context.connected(device):
            function(*args, context)
    except PeerLostError:
        time.sleep(SECONDS_FOR_CAUSE)  # the launcher reports the process that ends first
        raise
    distributed.destroy_process_group()


def _cause(rank: int, failure: ProcessFailure, devices: int) -> Exception:
    """The error to raise for the process that failed first."""
    name = f"process {rank + 1} of {devices}"
    if failure.exitcode < 0:
        return UnavailableError(
            f"{name} was killed (signal {-failure.exitcode}), perhaps because memory was short;"
            f" {RESUME_HINT}"
        )
    message = failure.error_file_data["message"]
    if isinstance(message, str):  # it failed before an error could be recorded
        return UnavailableError(
            f"{name} ended before it could train; in a script, call train under:"
            ' if __name__ == "__main__":'
        )
    kind, _, text = message["message"].partition(": ")
    error = PeerLostError if kind == PeerLostError.__name__ else getattr(errors, kind, None)
    if isinstance(error, type) and issubclass(error, HalometryError):
        return error(text)
    return RuntimeError(f"{name} failed:\n{message['extraInfo']['py_callstack']}")


@contextmanager
def _launcher_environment() -> Iterator[list[int]]:
    """Hide the launcher's log within the context, and restore the signal handlers that it replaces.

    Yields:
        A list for a signal that the launcher has received, which is then raised again.
    """
    received: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in HANDLED_SIGNALS if in_main_thread}
    loggers = [logging.getLogger(name) for name in ("torch.distributed", "torch.multiprocessing")]
    propagated, hidden = [log.propagate for log in loggers], logging.NullHandler()
    for log in loggers:
        log.addHandler(hidden)
        log.propagate = False
    try:
        yield received
    finally:
        for log, propagate in zip(loggers, propagated, strict=True):
            log.removeHandler(hidden)
            log.propagate = propagate
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
