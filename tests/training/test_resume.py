"""Training that is stopped: killed, and by Ctrl-C."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from halometry.errors import RunError
from halometry.runs.run import RESUME, WEIGHTS, load_run
from halometry.training.callbacks import improves
from halometry.training.trainer import interruptible

SMALL = "mobilenetv3_small"

SCRIPT = """
import json, sys, torch
torch.set_num_threads(1)
from halometry.training import configure as prepare
from halometry.training.train import train
prepare.stretch_of = lambda *_: 3
options = {"epochs": 12, "precision": "float32", "channels_last": True, "batch_size": 16}
options |= json.loads(sys.argv[3])
train("classification", sys.argv[1], "mobilenetv3_small", sys.argv[2], overrides=options)
"""


@pytest.mark.parametrize(
    "options",
    [
        {},  # 5 steps an epoch: stretches of 2 and 3
        {"schedule": "plateau", "plateau_patience": 0, "early_stopping_patience": 10},
        {"batch_size": 9, "epochs": 10},  # 8 steps: three stretches between validations
    ],
    ids=["cosine", "plateau", "uneven"],
)
def test_killed_at_any_moment_it_ends_with_the_same_weights(
    lenses: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SCRIPT, str(lenses), str(out), json.dumps(options)]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, stdout=quiet, stderr=quiet)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(whole).wait() == 0
    for stop_after in (3, 6):
        process = start(cut)
        deadline = time.monotonic() + 120
        history = cut / "history.csv"
        while process.poll() is None and time.monotonic() < deadline:
            if history.exists() and len(history.read_text().splitlines()) > stop_after:
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.005)
        process.wait()
        assert (cut / RESUME).exists(), "it was over before it could be killed"
        with pytest.raises(RunError, match="training has not finished; repeat its 'train'"):
            load_run(cut)
    assert start(cut).wait() == 0
    assert (whole / WEIGHTS).read_bytes() == (cut / WEIGHTS).read_bytes()
    columns = [0, 1, 3, 4, 5, 6]  # all but the seconds
    histories = [
        np.loadtxt(p / "history.csv", delimiter=",", skiprows=1)[:, columns] for p in (whole, cut)
    ]
    np.testing.assert_array_equal(*histories)


def test_ctrl_c_ends_training_and_leaves_a_run_to_go_on_with(lenses: Path, tmp_path: Path) -> None:
    words = ["train", "--task", "classification", "--data", lenses, "--backbone", SMALL]
    words += ["--out", tmp_path / "run", "--epochs", 500, "--set", "precision=float32"]
    command = [sys.executable, "-m", "halometry", *map(str, words)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a background job's is not
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / RESUME).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "stopped; repeat the same command to go on"
    assert "Traceback" not in said
    assert (tmp_path / "run" / RESUME).exists()


def test_what_ctrl_c_breaks_is_still_ctrl_c() -> None:
    trainer: Any = SimpleNamespace(interrupted=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible(trainer):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise RuntimeError("half a file") from error
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(RuntimeError, match="by itself"), interruptible(trainer):
            raise RuntimeError("by itself")
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_first_number_is_better_than_none() -> None:
    assert improves(0.1, math.nan)
    assert improves(-3.0, -math.inf)
    assert improves(0.2, 0.1)
    assert not improves(math.nan, 0.1)
    assert not improves(math.nan, math.nan)
