"""Training in processes that torchrun or SLURM started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from halometry.compare.compare import compare_networks
from halometry.errors import UsageError
from halometry.runs.run import RESUME
from halometry.training.distributed import find_context
from helpers.processes import PLAIN, assert_same, train_words, wait_for


@pytest.mark.slow
def test_torchrun_gives_the_run_of_one_process(alone: Path, lenses: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "halometry", *train_words(lenses, tmp_path / "run", "--devices=2")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.count("run ->") == 1
    assert done.stderr.count("from random weights") == 1
    assert_same(alone, tmp_path / "run")
    refused = subprocess.run([*command, "--seed=1"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.count("error: ") == 1
    assert "holds another run (its seed differ)" in refused.stderr


@pytest.mark.slow
def test_torchrun_restarts_killed_processes(alone: Path, lenses: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [
        *torchrun,
        "--max-restarts=1",
        "-m",
        "halometry",
        *train_words(lenses, out, "--devices=2"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for((out / RESUME).exists, process)
    psutil.Process(process.pid).children()[0].kill()
    _, printed = process.communicate(timeout=250)
    assert process.returncode == 0
    assert printed.count("from random weights") == 2
    assert_same(alone, out)


@pytest.mark.slow
def test_slurm_gives_the_run_of_one_process(alone: Path, lenses: Path, tmp_path: Path) -> None:
    processes = slurm(train_words(lenses, tmp_path / "run", "--nodes=2"))
    printed = [process.communicate(timeout=250)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "from random weights" in printed[0]
    assert printed[1] == ""
    assert_same(alone, tmp_path / "run")


@pytest.mark.slow
def test_killed_slurm_process_ends_the_other(lenses: Path, tmp_path: Path) -> None:
    processes = slurm(train_words(lenses, tmp_path / "run", "--nodes=2", epochs=500))
    wait_for((tmp_path / "run" / RESUME).exists, processes[0])
    processes[1].kill()
    _, printed = processes[0].communicate(timeout=30)
    processes[1].communicate()
    assert processes[0].returncode == 1
    assert "another of the 2 processes has ended or does not answer" in printed.splitlines()[-1]
    assert "Traceback" not in printed


def slurm(words: list[str]) -> list[subprocess.Popen[str]]:
    """Start two processes as SLURM does on two nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"SLURM_STEP_NUM_TASKS": 2, "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 1}
    variables |= {"SLURM_NNODES": 2, "SLURM_JOB_ID": 1, "SLURM_LOCALID": 0, "MASTER_PORT": port}
    usual = os.environ | {key: str(value) for key, value in variables.items()}
    usual["SLURM_NODELIST"] = "localhost"
    return [
        subprocess.Popen(
            [sys.executable, "-m", "halometry", *words],
            env=usual | {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_compare_refuses_torchrun(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match="compare: starts its processes itself"):
        compare_networks("classification", lenses, [PLAIN], tmp_path, devices=2)


def test_context_follows_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_context(4, 1).processes == 1  # nobody yet
    variables = {"TORCHELASTIC_RUN_ID": "a", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    with monkeypatch.context() as torchrun:
        for key, value in variables.items():
            torchrun.setenv(key, value)
        context = find_context(2, 2)
        assert (context.rank, context.local_rank, context.processes) == (3, 1, 4)
        assert not context.is_first
        with pytest.raises(UsageError, match="torchrun started 4 processes, but --devices 1 --no"):
            find_context(1, 1)
    variables = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"}
    variables |= {"SLURM_LOCALID": "0", "SLURM_JOB_NAME": "lenses"}
    with monkeypatch.context() as srun:
        for key, value in variables.items():
            srun.setenv(key, value)
        with pytest.raises(
            UsageError, match="srun: give the number of processes .* --ntasks-per-node"
        ):
            find_context(2, 2)
        srun.setenv("SLURM_NTASKS_PER_NODE", "2")
        context = find_context(2, 2)
        assert (context.rank, context.local_rank, context.processes) == (2, 0, 4)
