"""Helpers for tests of exported runs: images, prediction values, and batch statistics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halometry.datasets.store import open_store
from halometry.evaluation.predictions import Prediction
from halometry.models import Preprocessing
from halometry.publish.export import export
from halometry.runs.run import WEIGHTS, Run, load_weights, write_weights

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "channels_last": True}


def set_batch_statistics(run: Run, images: np.ndarray) -> None:
    """Set the batch statistics of a tiny run to those of images, so that predictions differ."""
    network = run.config.build_network()
    load_weights(run.path, network)
    for module in network.modules():
        if hasattr(module, "momentum"):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(Preprocessing(run.config.preprocessing)(torch.from_numpy(images)))
        network.head[0].weight *= 10
    write_weights(run.path / WEIGHTS, network)


def read_images(store: Path) -> np.ndarray:
    with open_store(store) as opened:
        return np.asarray(opened["images"][:])


def prediction_values(predictions: list[Prediction]) -> np.ndarray:
    """Probabilities (N, K), or mass fractions (N, 1)."""
    assert [each.error for each in predictions] == [None] * len(predictions)
    return np.array([list(each.probabilities.values()) or [each.f_sub] for each in predictions])


def reuse_exported_file(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Replace the slow exporter of PyTorch by the content of an exported file."""
    module = sys.modules[export.__module__]
    monkeypatch.setattr(module, "_to_bytes", lambda _: file.read_bytes())
