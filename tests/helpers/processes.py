"""Helpers for tests of training in several processes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import load_file

from halometry.runs.run import WEIGHTS

PLAIN = "test_convnext"  # without batch normalization, whose statistics are of one shard
OPTIONS: dict[str, Any] = {
    "epochs": 8,  # of 3 steps: two batches of 25 and one of 22
    "batch_size": 25,
    "precision": "float32",
    "channels_last": True,
}
SECONDS_COLUMN = "seconds"


def train_words(data: Path, out: Path, *more: str, **options: Any) -> list[str]:
    """Words of a `halometry train` command with `OPTIONS`."""
    pairs = [f"--set={key}={value}" for key, value in (OPTIONS | options).items()]
    usual = ["train", "--task=classification", f"--data={data}", f"--backbone={PLAIN}"]
    return [*usual, f"--out={out}", "--device=cpu", *pairs, *more]


def read_history(run: Path) -> np.ndarray:
    """Rows of a run's history without the seconds: step, images, and what follows."""
    path = run / "history.csv"
    names = path.read_text(encoding="utf-8").partition("\n")[0].split(",")
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    return table[:, [i for i, name in enumerate(names) if name != SECONDS_COLUMN]]


def assert_same(run: Path, other: Path) -> None:
    """Assert that two run folders hold nearly the same history and weights."""
    np.testing.assert_allclose(read_history(run), read_history(other), rtol=1e-3, atol=1e-5)
    weights, other_weights = load_file(run / WEIGHTS), load_file(other / WEIGHTS)
    for key, value in weights.items():
        torch.testing.assert_close(value, other_weights[key], rtol=1e-3, atol=1e-5)


def training_processes(parent: int) -> list[psutil.Process]:
    """The processes that train, of the process that started them."""
    children = psutil.Process(parent).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until a condition holds, a process has ended, or 200 s have passed."""
    deadline = time.monotonic() + 200
    while not condition() and time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            return
        time.sleep(0.01)
