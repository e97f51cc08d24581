"""Interrupted simulations: the same command continues them to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

from halometry.datasets.generate import simulate
from halometry.errors import StorageError, UnavailableError
from halometry.simulation import load_preset
from helpers.resumed_dataset import PRESET, SEED, SHARD, again, content

SHARDS = 7
LONG = 1600  # images; enough to kill a process while it works


@pytest.fixture(scope="module")
def long_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that takes seconds to make."""
    return again(tmp_path_factory.mktemp("long") / "set.h5", LONG)


def finished_shards(index: Path) -> list[Path]:
    return sorted(index.with_suffix(".shards").glob("*.h5"))


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.01)


@contextmanager
def command(out: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """The command that makes the long dataset, in its own process group."""
    line = [sys.executable, "-m", "halometry", "simulate", PRESET, "--count", LONG, "--seed", SEED,
            "--shard-size", SHARD, "--n-test", 20, "--out", out, *words]  # fmt: skip
    process = subprocess.Popen(
        [str(word) for word in line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Background jobs of a shell ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def make_tiny_dataset(out: Path) -> Path:
    """A dataset of two shards, made in no time."""
    preset = load_preset(PRESET)
    image = preset.image.model_copy(update={"pixels": 16})
    return simulate(
        preset.model_copy(update={"image": image}), 34, seed=SEED, out=out, shard_size=SHARD
    )


def make_killed_at(event: int, out: Path) -> None:
    """Make the tiny dataset, and end just before the n-th event on its files."""
    remaining = event

    def hook(name: str, values: tuple[Any, ...]) -> None:
        nonlocal remaining
        watched = name in ("open", "os.rename", "os.remove", "os.mkdir")
        if watched and str(values[0]).startswith(str(out.parent)):
            remaining -= 1
            if remaining < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    make_tiny_dataset(out)


def test_kill_at_any_file_event_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    """A process is killed at each file that is opened, renamed or removed."""
    expected = content(make_tiny_dataset(tmp_path / "whole" / "set.h5"))
    context = get_context("forkserver")
    context.set_forkserver_preload(["halometry.datasets.generate", "psutil", "pytest"])
    kept, event, ended = set(), 0, False
    while not ended:
        out = tmp_path / str(event) / "set.h5"
        process = context.Process(target=make_killed_at, args=(event, out))
        process.start()
        process.join(60)
        ended = process.exitcode == 0
        assert ended or process.exitcode == -signal.SIGKILL
        kept.add(len(finished_shards(out)))
        make_tiny_dataset(out)
        assert content(out) == expected, f"killed at its file event {event}"
        assert [path.name for path in out.parent.iterdir()].count("set.h5") == 1
        assert len(list(out.parent.iterdir())) == 2
        event += 1
    assert event > 20
    assert kept == {0, 1, 2}


def test_killed_command_is_continued_with_another_number_of_processes(
    long_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        wait_until(lambda: len(finished_shards(out)) >= 3 or process.poll() is not None)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # the workers must notice it
        psutil.wait_procs(workers, timeout=20)
        assert not any(worker.is_running() for worker in workers)
    assert not out.exists()
    finished = {path: path.stat().st_mtime_ns for path in finished_shards(out)}
    assert 3 <= len(finished) < LONG // SHARD
    again(out, LONG, workers=1)
    assert content(out) == content(long_dataset)
    assert finished == {path: path.stat().st_mtime_ns for path in finished}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 2, 3, 4, 5, 6])
def test_killed_process_tree_is_continued(
    long_dataset: Path, tmp_path: Path, seconds: float
) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    again(out, LONG, workers=1 + int(seconds) % 2)
    assert content(out) == content(long_dataset)


def test_ctrl_c_stops_workers_and_keeps_finished_shards(long_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        wait_until(lambda: len(finished_shards(out)) >= 2 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; repeat the same command to continue" in messages
    assert "Traceback" not in messages
    folder = out.with_suffix(".shards")
    assert len(finished_shards(out)) < LONG // SHARD
    assert not list(folder.glob("*.partial"))
    again(out, LONG)
    assert content(out) == content(long_dataset)


def test_killed_worker_is_reported_with_how_to_continue(long_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"

    def kill_one() -> None:
        wait_until(lambda: len(finished_shards(out)) >= 2)
        workers = psutil.Process().children(recursive=True)
        next(w for w in workers if "spawn_main" in " ".join(w.cmdline())).kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(
        UnavailableError, match="worker process ended.*repeat the command to continue"
    ):
        again(out, LONG, workers=2)
    killer.join()
    assert len(finished_shards(out)) >= 2
    again(out, LONG)
    assert content(out) == content(long_dataset)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for half a dataset."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=440k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root and mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_full_disk_keeps_finished_shards(whole: Path, small_disk: Path, workers: int) -> None:
    out = small_disk / "set.h5"
    with pytest.raises(StorageError, match=f"the disk is full; free.* of {SHARDS} shards are kept"):
        again(out, workers=workers)
    assert 0 < len(finished_shards(out)) < SHARDS
    assert not list(small_disk.rglob("*.partial"))
    with pytest.raises(StorageError, match="the disk is full"):
        again(out, workers=workers)  # still
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    kept = small_disk / "set.shards" / "00000.h5"
    before = kept.stat().st_mtime_ns
    again(out, workers=workers)
    assert content(out) == content(whole)
    assert kept.stat().st_mtime_ns == before
