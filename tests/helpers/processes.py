"""What several tests of training in several processes do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from halometry.runs.run import WEIGHTS

PLAIN = "test_convnext"  # without batch normalization, whose statistics are of a share
OPTIONS: dict[str, Any] = {
    "epochs": 8,  # of 3 steps: two batches of 25 and one of 22
    "batch_size": 25,
    "precision": "float32",
    "channels_last": True,
}


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


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not seen() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
