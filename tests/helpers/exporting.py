"""What tests of exported runs share: images, answers, and weights that tell images apart."""

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


def settle(run: Run, images: np.ndarray) -> None:
    """Let answers differ from image to image, as they do once batch statistics have settled."""
    network = run.config.build_network()
    load_weights(run.path, network)
    for module in network.modules():
        if hasattr(module, "momentum"):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(Preprocessing(run.config.preprocessing)(torch.from_numpy(images)))
        network.head[0].weight *= 10
    write_weights(run.path / WEIGHTS, network)


def images_of(store: Path) -> np.ndarray:
    with open_store(store) as opened:
        return np.asarray(opened["images"][:])


def table(answers: list[Prediction]) -> np.ndarray:
    assert [a.error for a in answers] == [None] * len(answers)
    return np.array([list(answer.probabilities.values()) or [answer.f_sub] for answer in answers])


def exported_before(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Let PyTorch's exporter, which takes its time, give what is in a file already."""
    module = sys.modules[export.__module__]
    monkeypatch.setattr(module, "_content", lambda _: file.read_bytes())
