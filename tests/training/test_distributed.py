"""Training in several processes on this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import halometry.training.hardware
from halometry.calibration.temperature import undo_temperature
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, UnavailableError, UsageError
from halometry.parallel import check_devices
from halometry.runs.predict_rows import predict_rows
from halometry.runs.run import RESUME
from halometry.training.train import train
from helpers.processes import (
    OPTIONS,
    PLAIN,
    assert_same,
    read_history,
    train_words,
    training_processes,
    wait_for,
)

CPU: dict[str, Any] = {"overrides": OPTIONS, "device": "cpu"}
NO_GUARD = """
import sys
from halometry import train

train("classification", sys.argv[1], "test_convnext", sys.argv[2], device="cpu", devices=2)
"""


def kill_one_process_once_there_is(checkpoint: Path, *, newer_than: int = 0) -> threading.Thread:
    """Start a thread that kills one of the training processes once a checkpoint is written."""
    this = psutil.Process()

    def kill() -> None:
        wait_for(lambda: modification_time(checkpoint) > newer_than)
        training_processes(this.pid)[1].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def modification_time(path: Path) -> int:
    """Time at which a file was written in ns, or 0 if there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def test_killed_process_ends_training_and_one_or_two_processes_resume_it(
    alone: Path, lenses: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    thread = kill_one_process_once_there_is(out / RESUME)
    message = r"process 2 of 2 was killed \(signal 9\), perhaps .*; repeat the same command"
    with pytest.raises(UnavailableError, match=message):
        train("classification", lenses, PLAIN, out, **CPU, devices=2)
    thread.join()
    assert not training_processes(psutil.Process().pid)
    shutil.copytree(out, tmp_path / "copy")
    train("classification", lenses, PLAIN, out, **CPU, devices=2)
    assert_same(alone, out)
    train("classification", lenses, PLAIN, tmp_path / "copy", **CPU)
    assert_same(alone, tmp_path / "copy")


@pytest.mark.slow
def test_two_processes_give_the_run_of_one(alone: Path, lenses: Path, tmp_path: Path) -> None:
    run = train("classification", lenses, PLAIN, tmp_path / "run", **CPU, devices=2)
    assert_same(alone, run.path)
    assert '"processes": 2' in (run.path / "metrics.json").read_text()
    assert {p.name for p in run.path.iterdir()} == {p.name for p in alone.iterdir()}
    assert len(list((run.path / "tensorboard").glob("events*"))) == 1


@pytest.mark.slow
def test_two_processes_resume_between_validations(
    alone: Path, lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halometry.training.hardware, "MAX_STEPS_PER_CHECKPOINT", 2)
    out = tmp_path / "run"
    for _ in range(2):
        before = modification_time(out / RESUME)
        thread = kill_one_process_once_there_is(out / RESUME, newer_than=before)
        with pytest.raises(UnavailableError):
            train("classification", lenses, PLAIN, out, **CPU, devices=2)
        thread.join()
    train("classification", lenses, PLAIN, out, **CPU, devices=2)
    assert_same(alone, out)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(lenses: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "halometry", *train_words(lenses, out, "--devices=2", epochs=500)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for((out / RESUME).exists, process)
    children = training_processes(process.pid)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == 130
    assert printed.splitlines()[-1] == "stopped; repeat the same command to continue"
    assert "Traceback" not in printed
    assert not any(child.is_running() for child in children)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_training_processes_end_with_their_parent(
    lenses: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "halometry"]
    command += train_words(lenses, tmp_path / "run", "--devices=2", epochs=500)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "run" / RESUME).exists, process)
    children = training_processes(process.pid)
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    _, alive = psutil.wait_procs(children, timeout=30)
    assert len(children) == 2
    assert not alive


@pytest.mark.slow
def test_script_without_main_guard_gets_a_clear_error(lenses: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(NO_GUARD)
    command = [sys.executable, str(script), str(lenses), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 1
    assert "UnavailableError: process" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith('call train under: if __name__ == "__main__":')


@pytest.mark.slow
def test_error_in_a_process_is_raised_in_the_parent(masses: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"learning_rate": 1.0, "optimizer": "sgd", "warmup": 0.0}
    options |= {"gradient_clip": None, "stretch": "none", "standardize": False}
    with pytest.raises(DataError, match=r"the training loss became .*lower the learning rate"):
        train("regression", masses, PLAIN, tmp_path / "run", overrides=options, device="cpu",
              devices=2)  # fmt: skip


@pytest.mark.slow
def test_r2_is_computed_over_the_images_of_all_processes(masses: Path, tmp_path: Path) -> None:
    for name, devices in (("one", 1), ("two", 2)):
        train("regression", masses, PLAIN, tmp_path / name, **CPU, devices=devices)
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_validation_uses_the_batch_statistics_that_are_saved(lenses: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"tta": False}
    run = train("classification", lenses, "test_resnet", tmp_path / "run", overrides=options,
                device="cpu", devices=2)  # fmt: skip
    data, rows = open_dataset(lenses), run.split().validation
    outputs = predict_rows(run, data, rows, point=True)
    outputs = undo_temperature(outputs, run.config.temperature, run.config.bias)
    loss = -np.log(outputs[np.arange(len(rows)), data.labels[rows]]).mean()
    assert np.isclose(loss, read_history(run.path)[:, 3].min(), rtol=1e-4)


def test_run_of_another_device_is_not_resumed_by_two_processes(
    alone: Path, lenses: Path, tmp_path: Path
) -> None:
    shutil.copytree(alone, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace("device: cpu", "device: cuda:1"))
    with pytest.raises(UsageError, match="was begun on cuda:1, not on cpu; go on with --device"):
        train("classification", lenses, PLAIN, tmp_path / "run", **CPU, devices=2)


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
def test_wrong_number_of_processes_is_refused(
    lenses: Path, tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train("classification", lenses, PLAIN, tmp_path / "run", **CPU, **options)
    assert not (tmp_path / "run").exists()


def test_more_devices_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_devices("cuda", 2) == "cuda"
    with pytest.raises(UsageError, match="--devices 3: this machine has 2 GPUs; use --devices 2"):
        check_devices("cuda", 3)
    with pytest.raises(UsageError, match="--device cuda:1: is one GPU; use --device cuda"):
        check_devices("cuda:1", 2)
    assert check_devices("cuda:1", 1) == "cuda:1"
