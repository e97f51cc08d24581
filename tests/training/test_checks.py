"""What `train` refuses before the work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halometry.datasets.generate import simulate
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
        ({"start": "gone"}, RunError, "gone: no such folder"),
        ({"device": "cuda:77"}, UsageError, "device 'cuda:77' is not usable here"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    lenses: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    usual = {"task": "classification", "data": lenses, "backbone": SMALL, "out": tmp_path / "run"}
    with pytest.raises(error, match=message):
        train(**(usual | options))
    assert not (tmp_path / "run").exists()


def test_the_logarithm_of_zero_is_refused(tmp_path: Path) -> None:
    data = open_dataset(simulate("demo_mass", 20, out=tmp_path / "a.h5"))
    zero = replace(data, labels=data.labels * (np.arange(20) > 0))
    with pytest.raises(DataError, match="--target log needs labels above zero"):
        train("regression", zero, SMALL, tmp_path / "run", overrides={"target": "log"})
    with pytest.raises(DataError, match=r"all labels are 0\.3"):
        train("regression", replace(data, labels=np.full(20, 0.3)), SMALL, tmp_path / "run")


def test_a_class_without_images_is_refused_before_the_work(lenses: Path, tmp_path: Path) -> None:
    data = open_dataset(lenses)
    none = replace(data, labels=np.minimum(data.labels, 1))
    with pytest.raises(DataError, match="has no image of class 'vort'"):
        train("classification", none, SMALL, tmp_path / "run")
    assert not (tmp_path / "run").exists()
