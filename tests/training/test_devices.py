"""Training in several processes: as one would, whoever is killed, and what is refused."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from halometry.data.dataset import open_dataset
from halometry.devices import check_devices
from halometry.errors import DataError, HalometryError, RunError, UnavailableError, UsageError
from halometry.evaluation.compare import compare
from halometry.evaluation.evaluate import outputs_of
from halometry.simulation import load_preset
from halometry.training import train
from halometry.training.batches import Batches, Order, Share, augment
from halometry.training.feed import Selection
from halometry.training.fresh import curriculum, mass_maps, preset_of
from halometry.training.group import LostError, find_group
from halometry.training.launch import _complain
from halometry.training.recipe import Recipe
from halometry.training.run import RESUME, WEIGHTS

PLAIN = "test_convnext"  # without batch normalisation, whose statistics are of a share
OPTIONS: dict[str, Any] = {
    "epochs": 8,  # of 3 steps: two batches of 25 and one of 22
    "batch_size": 25,
    "precision": "float32",
    "channels_last": True,
}
SHORT_STRETCHES = """
from halometry.training import feed

feed.STRETCH = 2  # in all processes: a way back that no validation goes with

if __name__ == "__main__":
    from halometry.cli import main

    main()
"""


def words(data: Path, out: Path, *more: str, **options: Any) -> list[str]:
    """The command's words after `halometry`."""
    pairs = [f"--set={key}={value}" for key, value in (OPTIONS | options).items()]
    usual = ["train", "--task=classification", f"--data={data}", f"--backbone={PLAIN}"]
    return [*usual, f"--out={out}", "--device=cpu", *pairs, *more]


def history(run: Path) -> np.ndarray:
    """All of a run's history but the seconds."""
    return np.loadtxt(run / "history.csv", delimiter=",", skiprows=1)[:, [0, 1, 3, 4, 5, 6]]


def assert_same(one: Path, other: Path) -> None:
    np.testing.assert_allclose(history(one), history(other), rtol=1e-3, atol=1e-5)
    a, b = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    return train("classification", lenses, PLAIN, out, overrides=OPTIONS, device="cpu").path


def test_two_processes_end_where_one_does(alone: Path, lenses: Path, tmp_path: Path) -> None:
    run = train(
        "classification",
        lenses,
        PLAIN,
        tmp_path / "run",
        overrides=OPTIONS,
        device="cpu",
        devices=2,
    )
    assert_same(alone, run.path)
    assert '"processes": 2' in (run.path / "metrics.json").read_text()
    assert {p.name for p in run.path.iterdir()} == {p.name for p in alone.iterdir()}
    assert len(list((run.path / "tensorboard").glob("events*"))) == 1


def test_one_killed_ends_the_other_and_the_same_command_goes_on(
    alone: Path, lenses: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kill_one([sys.executable, "-m", "halometry", *words(lenses, out, "--devices=2")], out)
    usual: dict[str, Any] = {"overrides": OPTIONS, "device": "cpu"}
    shutil.copytree(out, tmp_path / "copy")
    train("classification", lenses, PLAIN, out, **usual, devices=2)
    assert_same(alone, out)
    train("classification", lenses, PLAIN, tmp_path / "copy", **usual)
    assert_same(alone, tmp_path / "copy")


@pytest.mark.slow
def test_it_goes_on_from_between_validations_too(alone: Path, lenses: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "command.py", tmp_path / "run"
    script.write_text(SHORT_STRETCHES)
    command = [sys.executable, str(script), *words(lenses, out, "--devices=2")]
    for _ in range(2):
        kill_one(command, out)
    subprocess.run(command, check=True, capture_output=True)
    assert_same(alone, out)


def kill_one(command: list[str], out: Path) -> None:
    """Start a command that trains in two processes, and kill one of them."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    before = written(out / RESUME)
    wait_for(lambda: written(out / RESUME) > before, process)
    children = workers(process.pid)
    assert len(children) == 2
    children[1].kill()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1, "it was over before it could be killed"
    last = said.splitlines()[-1]
    assert last.startswith("error: process ")
    assert "of 2 was killed (signal 9), perhaps for want of memory; repeat the same" in last
    assert "Traceback" not in said
    assert not any(child.is_running() for child in children)


def written(path: Path) -> int:
    """When a file was written; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not seen() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def workers(parent: int) -> list[psutil.Process]:
    """The processes that train, of one that started them."""
    children = psutil.Process(parent).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(lenses: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "halometry", *words(lenses, out, "--devices=2", epochs=500)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for((out / RESUME).exists, process)
    children = workers(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped; repeat the same command to go on"
    assert not any(child.is_running() for child in children)


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(lenses: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "halometry"]
    command += words(lenses, tmp_path / "run", "--devices=2", epochs=500)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "run" / RESUME).exists, process)
    children = workers(process.pid)
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert len(children) == 2
    assert not alive


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_said_once(masses: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"learning_rate": 1.0, "optimiser": "sgd", "warmup": 0.0}
    options |= {"gradient_clip": None, "stretch": "none", "standardise": False}
    with pytest.raises(DataError, match=r"the training loss became .*lower the learning rate"):
        train("regression", masses, PLAIN, tmp_path / "run", overrides=options, device="cpu",
              devices=2)  # fmt: skip


@pytest.mark.slow
def test_the_coefficient_of_determination_is_of_all_images(masses: Path, tmp_path: Path) -> None:
    for name, devices in (("one", 1), ("two", 2)):
        train("regression", masses, PLAIN, tmp_path / name, overrides=OPTIONS, device="cpu",
              devices=devices)  # fmt: skip
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_batch_normalisation_is_judged_as_it_is_kept(lenses: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"average_symmetries": False}
    run = train("classification", lenses, "test_resnet", tmp_path / "run", overrides=options,
                device="cpu", devices=2)  # fmt: skip
    data, rows = open_dataset(lenses), run.split().selection
    answers = outputs_of(run, data, rows)
    loss = -np.log(answers[np.arange(len(rows)), data.labels[rows]]).mean()
    assert np.isclose(loss, history(run.path)[:, 3].min(), rtol=1e-4)


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(alone: Path, lenses: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "halometry", *words(lenses, tmp_path / "run", "--devices=2")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.count("run ->") == 1
    assert done.stderr.count("from random weights") == 1
    assert_same(alone, tmp_path / "run")
    refused = subprocess.run([*command, "--seed=1"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.count("error: ") == 1
    assert "holds another run (its seed differ)" in refused.stderr


@pytest.mark.slow
def test_torchrun_starts_anew_where_one_was_killed(
    alone: Path, lenses: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "--max-restarts=1", "-m", "halometry", *words(lenses, out, "--devices=2")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for((out / RESUME).exists, process)
    trained_by = psutil.Process(process.pid).children()
    trained_by[0].kill()
    _, said = process.communicate(timeout=250)
    assert process.returncode == 0
    assert said.count("from random weights") == 2
    assert_same(alone, out)


@pytest.mark.slow
def test_slurm_starts_the_processes_as_well(alone: Path, lenses: Path, tmp_path: Path) -> None:
    processes = slurm(words(lenses, tmp_path / "run", "--nodes=2"))
    said = [process.communicate(timeout=250)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "from random weights" in said[0]
    assert said[1] == ""
    assert_same(alone, tmp_path / "run")


@pytest.mark.slow
def test_one_killed_by_whom_slurm_is_told_ends_the_other(lenses: Path, tmp_path: Path) -> None:
    processes = slurm(words(lenses, tmp_path / "run", "--nodes=2", epochs=500))
    wait_for((tmp_path / "run" / RESUME).exists, processes[0])
    processes[1].kill()
    _, said = processes[0].communicate(timeout=30)
    processes[1].communicate()
    assert processes[0].returncode == 1
    assert "another of the 2 processes has ended or does not answer" in said.splitlines()[-1]
    assert "Traceback" not in said


def slurm(words: list[str]) -> list[subprocess.Popen[str]]:
    """Two processes as SLURM starts them on two nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"SLURM_STEP_NUM_TASKS": 2, "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 1}
    told |= {"SLURM_NNODES": 2, "SLURM_JOB_ID": 1, "SLURM_LOCALID": 0, "MASTER_PORT": port}
    usual = os.environ | {key: str(value) for key, value in told.items()}
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


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any),
    processes=st.integers(1, 7),
)
def test_shares_make_up_the_batch(counts: list[int], processes: int) -> None:
    shares = [Share(rank, processes) for rank in range(processes)]
    parts = [share.of(*counts) for share in shares]
    assert sorted(np.concatenate(parts)) == list(range(sum(counts)))
    assert max(map(len, parts)) - min(map(len, parts)) <= len(counts)
    values = np.random.default_rng(0).normal(size=sum(counts))
    means = [share.weight(*counts) * values[share.positions(*counts)].mean() for share in shares]
    np.testing.assert_allclose(np.mean(means), values.mean(), atol=1e-12)


def test_each_process_sees_its_images_as_one_alone_would() -> None:
    images, labels = torch.rand(20, 1, 4, 4), torch.arange(20)
    order = Order(20, 7, seed=0)
    whole = list(Batches(images, labels, np.arange(20), order).between(0, 3))
    shared = [
        list(Batches(images, labels, np.arange(20), order, share=Share(rank, 3)).between(0, 3))
        for rank in range(3)
    ]
    for step, (batch, truth, _) in enumerate(whole):
        count = (len(batch),)
        together = [
            augment(part[step][0], 0.5, True, 5, Share(rank, 3), count)
            for rank, part in enumerate(shared)
        ]
        assert torch.equal(torch.cat(together), augment(batch, 0.5, True, 5))
        assert torch.equal(torch.cat([part[step][1] for part in shared]), truth)


def test_fresh_images_and_maps_are_shared_out_too(masses: Path) -> None:
    data = open_dataset(masses)
    fresh = curriculum(
        data, preset_of(data), Recipe(fresh=0.4), steps=9, batch=10, seed=1, device="cpu"
    )
    assert fresh is not None
    order, rows = Order(32, 10, seed=0), np.arange(32)
    images, labels = torch.from_numpy(data.images[:]), torch.from_numpy(data.labels)
    maps = mass_maps(data, load_preset("demo_mass"), (6, 6))

    whole = Batches(images, labels, rows, order, maps, fresh)
    counts = [whole.parts(step) for step in range(4)]
    assert counts == [(6, 4), (6, 4), (6, 4), (0, 4)]
    for rank in range(3):
        share = Share(rank, 3)
        shared = Batches(images, labels, rows, order, maps, fresh, share)
        for step, count in enumerate(counts):
            mine = torch.from_numpy(share.positions(*count))
            for part, all_of_it in zip(shared.of(step), whole.of(step), strict=True):
                assert part is not None
                assert all_of_it is not None
                torch.testing.assert_close(part, all_of_it[mine])


def test_a_run_goes_on_with_more_devices_of_its_kind_only(
    alone: Path, lenses: Path, tmp_path: Path
) -> None:
    shutil.copytree(alone, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace("device: cpu", "device: cuda:1"))
    with pytest.raises(UsageError, match="was begun on cuda:1, not on cpu; go on with --device"):
        train("classification", lenses, PLAIN, tmp_path / "run", overrides=OPTIONS, device="cpu",
              devices=2)  # fmt: skip


def test_compare_is_not_started_by_torchrun(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match="compare: starts its processes itself"):
        compare("classification", lenses, [PLAIN], tmp_path, devices=2)


def test_the_selection_set_is_shared_without_repeats() -> None:
    images, labels = torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50)
    rows = np.arange(3, 40)
    parts = [Selection(images, labels, rows, 16, Share(rank, 4)) for rank in range(4)]
    assert torch.cat([batch for part in parts for _, batch in part]).tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "--devices 0: must be 1 or more"),
        ({"nodes": -1}, "--nodes -1: must be 1 or more"),
        ({"nodes": 2}, "--nodes 2: start the same command on every machine, by torchrun or srun"),
        ({"devices": 30}, "30 processes cannot share the 25 images of a batch; use fewer"),
        ({"devices": 10}, "10 processes cannot share the 9 images of the selection set"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    lenses: Path, tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train("classification", lenses, PLAIN, tmp_path / "run", overrides=OPTIONS, device="cpu",
              **options)  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_more_devices_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_devices("cuda", 2) == "cuda"
    with pytest.raises(UsageError, match="--devices 3: this machine has 2 GPUs; use --devices 2"):
        check_devices("cuda", 3)
    with pytest.raises(UsageError, match="--device cuda:1: is one GPU; use --device cuda"):
        check_devices("cuda:1", 2)
    assert check_devices("cuda:1", 1) == "cuda:1"


def test_who_started_the_processes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_group(4, 1).processes == 1  # nobody yet
    told = {"TORCHELASTIC_RUN_ID": "a", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    with monkeypatch.context() as torchrun:
        for key, value in told.items():
            torchrun.setenv(key, value)
        group = find_group(2, 2)
        assert (group.rank, group.local_rank, group.processes) == (3, 1, 4)
        assert not group.is_first
        with pytest.raises(UsageError, match="torchrun started 4 processes, but --devices 1 --no"):
            find_group(1, 1)
    told = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"}
    told |= {"SLURM_LOCALID": "0", "SLURM_JOB_NAME": "lenses"}
    with monkeypatch.context() as srun:
        for key, value in told.items():
            srun.setenv(key, value)
        with pytest.raises(UsageError, match="srun: say how many processes .* --ntasks-per-node"):
            find_group(2, 2)
        srun.setenv("SLURM_NTASKS_PER_NODE", "2")
        group = find_group(2, 2)
        assert (group.rank, group.local_rank, group.processes) == (2, 0, 4)


@pytest.mark.parametrize(
    ("codes", "said", "error", "message"),
    [
        ((1, 1), (LostError("lost"), RunError("bad")), RunError, "bad"),
        ((1, -9), (LostError("lost"), None), UnavailableError, "process 2 of 2 was killed"),
        ((1, 1), (LostError("lost"), "Traceback ..."), RuntimeError, "2 of 2 failed:\nTraceback"),
        ((1, None), (LostError("lost"), None), LostError, "lost"),
        ((1, None), (None, None), UnavailableError, "before it could train; in a script"),
    ],
)
def test_the_cause_is_told_rather_than_what_follows(
    codes: tuple[int | None, ...],
    said: tuple[HalometryError | str | None, ...],
    error: type[Exception],
    message: str,
) -> None:
    lines = []
    for one in said:
        here, there = Pipe()
        if one is not None:
            there.send(one)
        lines.append(here)
    with pytest.raises(error, match=message):
        _complain([SimpleNamespace(exitcode=code) for code in codes], lines)
