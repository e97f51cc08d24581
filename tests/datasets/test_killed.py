"""Whatever is killed, interrupted or full, the same command goes on to the same bytes."""

from __future__ import annotations

import os
import re
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
from helpers.resumed_set import PRESET, SEED, SHARD, again, content

SHARDS = 7
LONG = 1600  # images enough that a process can be met at work


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that takes seconds."""
    return again(tmp_path_factory.mktemp("long") / "set.h5", LONG)


def sums(index: Path) -> int:
    """How many shards are noted as finished."""
    path = index.with_suffix(".shards") / "SHA256SUMS"
    return path.read_text().count("\n") if path.exists() else 0


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@contextmanager
def command(out: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, making the long set."""
    line = [sys.executable, "-m", "halometry", "simulate", PRESET, "--count", LONG, "--seed", SEED,
            "--shard", SHARD, "--test", 20, "--out", out, *words]  # fmt: skip
    process = subprocess.Popen(
        [str(word) for word in line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a background job's is not
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def tiny(out: Path) -> Path:
    """A set of two shards that takes no time."""
    preset = load_preset(PRESET)
    image = preset.image.model_copy(update={"pixels": 16})
    return simulate(
        preset.model_copy(update={"image": image}), 34, seed=SEED, out=out, shard_size=SHARD
    )


def killed_at(event: int, out: Path) -> None:
    """Make the tiny set, and die just before touching its files for the n-th time."""
    left = event

    def hook(name: str, values: tuple[Any, ...]) -> None:
        nonlocal left
        watched = name in ("open", "os.rename", "os.remove", "os.mkdir")
        if watched and str(values[0]).startswith(str(out.parent)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    tiny(out)


def test_a_kill_at_any_moment_costs_no_byte(tmp_path: Path) -> None:
    """Each file that is opened, renamed or removed marks a moment; a set is killed at each."""
    expected = content(tiny(tmp_path / "whole" / "set.h5"))
    context = get_context("forkserver")
    context.set_forkserver_preload(["halometry.datasets.generate", "psutil", "pytest"])
    kept, event, ended = set(), 0, False
    while not ended:
        out = tmp_path / str(event) / "set.h5"
        process = context.Process(target=killed_at, args=(event, out))
        process.start()
        process.join(60)
        ended = process.exitcode == 0
        assert ended or process.exitcode == -signal.SIGKILL
        kept.add(sums(out))
        tiny(out)
        assert content(out) == expected, f"killed at its file event {event}"
        assert [path.name for path in out.parent.iterdir()].count("set.h5") == 1
        assert len(list(out.parent.iterdir())) == 2
        event += 1
    assert event > 20
    assert kept == {0, 1, 2}


def test_a_killed_command_is_gone_on_with_by_another_number_of_processes(
    long: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        until(lambda: sums(out) >= 3 or process.poll() is not None)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # the workers are not told, and must notice
        psutil.wait_procs(workers, timeout=20)
        assert not any(worker.is_running() for worker in workers)
    assert not out.exists()
    noted = sums(out)
    assert 3 <= noted < LONG // SHARD
    folder = out.with_suffix(".shards")
    finished = re.findall(r"\d{5}\.h5", (folder / "SHA256SUMS").read_text())
    first = {name: (folder / name).stat().st_mtime_ns for name in finished}
    again(out, LONG, workers=1)
    assert content(out) == content(long)
    assert first == {name: (folder / name).stat().st_mtime_ns for name in first}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 2, 3, 4, 5, 6])
def test_a_killed_process_tree_is_gone_on_with(long: Path, tmp_path: Path, seconds: float) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    again(out, LONG, workers=1 + int(seconds) % 2)
    assert content(out) == content(long)


def test_ctrl_c_stops_the_workers_and_keeps_what_is_finished(long: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    with command(out, "--workers", 2) as process:
        until(lambda: sums(out) >= 2 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; repeat the same command to go on" in said
    assert "Traceback" not in said
    folder = out.with_suffix(".shards")
    assert sums(out) == len(list(folder.glob("*.h5"))) < LONG // SHARD
    assert not list(folder.glob("*.partial"))
    again(out, LONG)
    assert content(out) == content(long)


def test_a_worker_that_is_killed_is_an_error_that_says_how_to_go_on(
    long: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set.h5"

    def kill_one() -> None:
        until(lambda: sums(out) >= 2)
        workers = psutil.Process().children(recursive=True)
        next(w for w in workers if "spawn_main" in " ".join(w.cmdline())).kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(UnavailableError, match="worker process ended.*repeat the command to go on"):
        again(out, LONG, workers=2)
    killer.join()
    assert sums(out) >= 2
    again(out, LONG)
    assert content(out) == content(long)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for half a set."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=440k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root and mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_loses_nothing(whole: Path, small_disk: Path, workers: int) -> None:
    out = small_disk / "set.h5"
    with pytest.raises(StorageError, match=f"the disk is full; free.* of {SHARDS} shards are kept"):
        again(out, workers=workers)
    assert 0 < sums(out) < SHARDS
    assert not list(small_disk.rglob("*.partial"))
    with pytest.raises(StorageError, match="the disk is full"):
        again(out, workers=workers)  # still
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    kept = small_disk / "set.shards" / "00000.h5"
    before = kept.stat().st_mtime_ns
    again(out, workers=workers)
    assert content(out) == content(whole)
    assert kept.stat().st_mtime_ns == before
