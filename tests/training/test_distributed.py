"""Training in several processes: as one would, whoever is killed, and what is refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from halometry.calibration.temperature import undo_temperature
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, HalometryError, RunError, UnavailableError, UsageError
from halometry.parallel import check_devices
from halometry.runs.predict_rows import predict_rows
from halometry.runs.run import RESUME
from halometry.training.distributed import LostError
from halometry.training.launch import _complain
from halometry.training.train import train
from helpers.processes import OPTIONS, PLAIN, assert_same, history, wait_for, words

SHORT_STRETCHES = """
from halometry.training import configure as prepare

prepare.stretch_of = lambda *_: 2  # in all processes: a way back that no validation goes with

if __name__ == "__main__":
    from halometry.cli import main

    main()
"""


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
    options = OPTIONS | {"learning_rate": 1.0, "optimizer": "sgd", "warmup": 0.0}
    options |= {"gradient_clip": None, "stretch": "none", "standardize": False}
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
def test_batch_normalization_is_judged_as_it_is_kept(lenses: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"tta": False}
    run = train("classification", lenses, "test_resnet", tmp_path / "run", overrides=options,
                device="cpu", devices=2)  # fmt: skip
    data, rows = open_dataset(lenses), run.split().validation
    answers = undo_temperature(
        predict_rows(run, data, rows, point=True), run.config.temperature, run.config.bias
    )
    loss = -np.log(answers[np.arange(len(rows)), data.labels[rows]]).mean()
    assert np.isclose(loss, history(run.path)[:, 3].min(), rtol=1e-4)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "--devices 0: must be 1 or more"),
        ({"nodes": -1}, "--nodes -1: must be 1 or more"),
        ({"nodes": 2}, "--nodes 2: start the same command on every machine, by torchrun or srun"),
        ({"devices": 30}, "30 processes cannot share the 25 images of a batch; use fewer"),
        ({"devices": 10}, "10 processes cannot share the 6 images of the validation set"),
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
