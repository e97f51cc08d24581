"""Simulation on a Dask cluster: the same bytes as on one machine, also if a worker is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from halometry.datasets import cluster
from halometry.datasets.generate import simulate
from halometry.errors import UnavailableError, UsageError

pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

PRESET, COUNT, SHARD = "demo_mass", 640, 32


def content(index: Path) -> dict[str, bytes]:
    files = [index, *index.with_suffix(".shards").iterdir()]
    return {path.name: path.read_bytes() for path in files}


class Cluster:
    """A scheduler and its workers, in processes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start("dask_scheduler", "--port", "0", "--host", "127.0.0.1")
        while not self.file.exists():
            time.sleep(0.05)

    def _start(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{program}", *words,
                "--scheduler-file", str(self.file), "--no-dashboard"]  # fmt: skip
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def worker(self) -> subprocess.Popen[bytes]:
        return self._start("dask_worker", "--nthreads", "1", "--no-nanny")

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


def test_cluster_that_loses_a_worker_writes_the_same_bytes(
    scheduler: Cluster, tmp_path: Path
) -> None:
    expected = content(simulate(PRESET, COUNT, out=tmp_path / "here" / "set.h5", shard_size=SHARD))
    out = tmp_path / "there" / "set.h5"
    workers = [scheduler.worker() for _ in range(2)]
    shards, finished = out.with_suffix(".shards"), []

    def kill_one() -> None:
        while (count := len(list(shards.glob("*.h5")))) < 5:
            time.sleep(0.01)
        workers[0].kill()
        finished.append(count)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    simulate(PRESET, COUNT, out=out, shard_size=SHARD, scheduler=scheduler.address)
    killer.join(10)
    assert finished[0] < COUNT // SHARD
    assert [worker.poll() is None for worker in workers] == [False, True]
    assert content(out) == expected


def test_missing_scheduler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(UnavailableError, match=f"--scheduler {address}: no Dask scheduler"):
            simulate(PRESET, 40, out=tmp_path / "set.h5", scheduler=address)


def test_missing_package_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UnavailableError, match=r"pip install 'halometry\[cluster\]'"):
        simulate(PRESET, 40, out=tmp_path / "set.h5", scheduler="tcp://127.0.0.1:9")


def test_worker_with_other_versions_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from halometry.datasets.generate import _tasks
    from halometry.datasets.shards import plan_shards
    from halometry.simulation import load_preset

    out = tmp_path / "set.h5"
    (task,) = _tasks(plan_shards(out, 10, 32), load_preset(PRESET), 0, "cpu", 10, out)
    outdated = replace(task, attributes=task.attributes | {"torch_version": "0.1"})
    with pytest.raises(UsageError, match=r"a worker has torch .*, not 0\.1"):
        cluster.make_on_worker(outdated)
    assert cluster.make_on_worker(task).count == 10
