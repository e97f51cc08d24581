"""Training that is killed or interrupted, and resumed."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from halometry.errors import RunError
from halometry.runs.execution import pinned_threads
from halometry.runs.run import RESUME, WEIGHTS, load_run
from halometry.training import hardware
from halometry.training.callbacks import improves
from halometry.training.contexts import interruptible
from halometry.training.train import train
from helpers.processes import read_history, wait_for

BACKBONE = "test_resnet"
OPTIONS: dict[str, Any] = {
    "epochs": 12,
    "precision": "float32",
    "channels_last": True,
    "batch_size": 16,
}
STEPS_PER_CHECKPOINT = 3
SCRIPT = f"""
import json, sys, torch
torch.set_num_threads(1)
from halometry.training import hardware
from halometry.training.train import train
hardware.MAX_STEPS_PER_CHECKPOINT = {STEPS_PER_CHECKPOINT}
train("classification", sys.argv[1], "{BACKBONE}", sys.argv[2], overrides=json.loads(sys.argv[3]))
"""
PLATEAU = {"schedule": "plateau", "plateau_patience": 0, "early_stopping_patience": 10}
UNEVEN = {"batch_size": 9, "epochs": 8}  # 8 steps an epoch: three intervals between validations


@pytest.mark.parametrize(
    ("options", "kill_after"),
    [
        pytest.param(PLATEAU | UNEVEN, [3], id="plateau, uneven intervals"),
        pytest.param({}, [3, 6], id="cosine", marks=pytest.mark.slow),
        pytest.param(PLATEAU, [3, 6], id="plateau", marks=pytest.mark.slow),
        pytest.param(UNEVEN, [2, 5], id="uneven intervals", marks=pytest.mark.slow),
    ],
)
def test_run_killed_at_any_moment_ends_with_the_same_weights(
    lenses: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    kill_after: list[int],
) -> None:
    monkeypatch.setattr(hardware, "MAX_STEPS_PER_CHECKPOINT", STEPS_PER_CHECKPOINT)
    overrides = OPTIONS | options

    def train_here(out: Path) -> None:
        with pinned_threads(1):
            train("classification", lenses, BACKBONE, out, overrides=overrides)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_here(whole)
    for validations in kill_after:
        kill_after_validations(lenses, killed, overrides, validations)
        with pytest.raises(RunError, match="training has not finished; repeat its 'train'"):
            load_run(killed)
    train_here(killed)
    weights, expected = load_file(killed / WEIGHTS), load_file(whole / WEIGHTS)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    np.testing.assert_array_equal(read_history(whole), read_history(killed))


def kill_after_validations(
    data: Path, out: Path, overrides: dict[str, Any], validations: int
) -> None:
    """Train in another process, and kill it when its history has so many rows."""
    command = [sys.executable, "-c", SCRIPT, str(data), str(out), json.dumps(overrides)]
    history = out / "history.csv"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True)
    wait_for(
        lambda: history.exists() and len(history.read_text().splitlines()) > validations, process
    )
    process.kill()
    process.wait()
    assert (out / RESUME).exists(), "it ended before it could be killed"


def test_ctrl_c_ends_training_and_leaves_a_checkpoint(lenses: Path, tmp_path: Path) -> None:
    words = ["train", "--task", "classification", "--data", lenses, "--backbone", BACKBONE]
    words += ["--out", tmp_path / "run", "--epochs", 500, "--set", "precision=float32"]
    command = [sys.executable, "-m", "halometry", *map(str, words)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell ignores the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for((tmp_path / "run" / RESUME).exists, process)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert printed.splitlines()[-1] == "stopped; repeat the same command to continue"
    assert "Traceback" not in printed
    assert (tmp_path / "run" / RESUME).exists()


def test_errors_of_interrupted_code_become_keyboard_interrupts() -> None:
    trainer: Any = SimpleNamespace(interrupted=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible(trainer):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise RuntimeError("half a file") from error
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(RuntimeError, match="of its own"), interruptible(trainer):
            raise RuntimeError("of its own")
    finally:
        signal.signal(signal.SIGINT, before)


def test_first_finite_value_is_an_improvement() -> None:
    assert improves(0.1, math.nan)
    assert improves(-3.0, -math.inf)
    assert improves(0.2, 0.1)
    assert not improves(math.nan, 0.1)
    assert not improves(math.nan, math.nan)
