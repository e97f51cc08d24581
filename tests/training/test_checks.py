"""What `train` refuses before any work is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halometry.datasets.open import open_dataset
from halometry.errors import ConfigError, DataError, RunError, UsageError
from halometry.training.train import train

SMALL = "mobilenetv3_small"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "regression"}, UsageError, "holds classes; use --task classification"),
        ({"backbone": "resnet81"}, UsageError, "unknown backbone 'resnet81', did you mean"),
        ({"recipe": "bseline"}, UsageError, "unknown recipe 'bseline', did you mean 'baseline'"),
        ({"overrides": {"epoch": 1}}, ConfigError, "unknown key 'epoch', did you mean 'epochs'"),
        ({"data": "gone.h5"}, DataError, "gone.h5: no such file or folder"),
        ({"init_from": "gone"}, RunError, "gone: no such folder"),
        ({"device": "cuda:77"}, UsageError, "device 'cuda:77' is not usable here"),
        ({"overrides": {"freeze_backbone": True}}, UsageError, "give one with --init-from RUN"),
        ({"overrides": {"posterior": "flow"}}, UsageError, "is for --task regression"),
    ],
)
def test_wrong_arguments_are_refused_before_training(
    lenses: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    usual = {"task": "classification", "data": lenses, "backbone": SMALL, "out": tmp_path / "run"}
    with pytest.raises(error, match=message):
        train(**(usual | options))
    assert not (tmp_path / "run").exists()


def test_masses_without_logarithm_or_variance_are_refused(masses: Path, tmp_path: Path) -> None:
    data = open_dataset(masses)
    count = len(data)
    with_zero = replace(data, labels=data.labels * (np.arange(count) > 0))
    with pytest.raises(DataError, match="--target log needs labels above zero"):
        train("regression", with_zero, SMALL, tmp_path / "run", overrides={"target": "log"})
    with pytest.raises(DataError, match=r"all labels are 0\.3"):
        train("regression", replace(data, labels=np.full(count, 0.3)), SMALL, tmp_path / "run")


def test_class_without_images_is_refused(lenses: Path, tmp_path: Path) -> None:
    data = open_dataset(lenses)
    two_classes = replace(data, labels=np.minimum(data.labels, 1))
    with pytest.raises(DataError, match="has no image of class 'vort"):
        train("classification", two_classes, SMALL, tmp_path / "run")
    assert not (tmp_path / "run").exists()
