"""Lineage: images that initial weights were trained on neither calibrate nor evaluate a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, HalometryWarning, RunError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.publish.export import export
from halometry.publish.publish import publish_run
from halometry.runs.calibrate import calibrate, split_in_half
from halometry.runs.exported import load_exported
from halometry.runs.run import LINEAGE, Run, load_run
from halometry.training.train import train

QUICK: dict[str, Any] = {
    "epochs": 1,
    "precision": "float32",
    "channels_last": True,
    "online_fraction": 0,
}
TINY = "test_resnet"


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset with a test set of its own."""
    path = tmp_path_factory.mktemp("sets") / "fixed.h5"
    return simulate("demo_classification", 90, seed=5, out=path, n_test=12)


@pytest.fixture(scope="module")
def first(fixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "first"
    return train("classification", fixed, TINY, out, overrides=QUICK)


@pytest.fixture(scope="module")
def second(first: Run, lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run that starts from `first`, on another dataset."""
    out = tmp_path_factory.mktemp("runs") / "second"
    return train("classification", lenses, TINY, out, overrides=QUICK, init_from=first.path)


def seen_rows(run: Run) -> np.ndarray:
    split = run.split()
    return np.concatenate([split.train, split.validation])


def test_initial_run_with_the_same_split_is_accepted(
    first: Run, fixed: Path, tmp_path: Path
) -> None:
    again = train(
        "classification", fixed, TINY, tmp_path / "b", overrides=QUICK, init_from=first.path
    )
    assert [one.data for one in again.lineage()] == [first.config.data]
    assert not np.isin(evaluate(again, fixed).rows, seen_rows(first)).any()


def test_initial_run_trained_on_calibration_images_is_refused(
    first: Run, fixed: Path, tmp_path: Path
) -> None:
    words = r"was trained on \d+ of the \d+ validation, calibration and test images of the new run"
    with pytest.raises(UsageError, match=words):  # though the test images are the same
        train(
            "classification",
            fixed,
            TINY,
            tmp_path / "b",
            overrides=QUICK,
            seed=1,
            init_from=first.path,
        )


def test_lineage_of_the_initial_run_is_checked(second: Run, fixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(--seed 0\)"):
        train(
            "classification",
            fixed,
            TINY,
            tmp_path / "c",
            overrides=QUICK,
            seed=1,
            init_from=second.path,
        )


def test_evaluation_excludes_images_of_the_lineage(
    first: Run, second: Run, fixed: Path, tmp_path: Path
) -> None:
    unseen = np.setdiff1d(np.arange(90), seen_rows(first))
    found = evaluate(second, fixed)
    assert set(found.rows) <= set(unseen)
    longer = simulate("demo_classification", 120, seed=5, out=tmp_path / "longer.h5")
    rows = evaluate(second, longer).rows
    assert set(rows) == set(unseen) | set(range(90, 120))

    export(second, tmp_path / "second.onnx")
    assert set(evaluate(tmp_path / "second.onnx", longer).rows) == set(rows)
    judged = publish_run(second, longer, tmp_path / "published", device="cpu").evaluation
    assert set(judged.rows) == set(rows)
    public = (tmp_path / "published" / LINEAGE).read_text()
    assert str(fixed.parent) not in public
    assert str(fixed.parent) not in load_exported(tmp_path / "second.onnx").metadata["lineage"]


def test_calibration_excludes_images_of_the_lineage(
    first: Run, second: Run, tmp_path: Path
) -> None:
    longer = simulate("demo_classification", 120, seed=5, out=tmp_path / "longer.h5")
    copy = Path(shutil.copytree(second.path, tmp_path / "copy"))
    made = calibrate(copy, longer, device="cpu")
    unseen = np.concatenate([np.setdiff1d(np.arange(90), seen_rows(first)), np.arange(90, 120)])
    assert len(made.conformal.scores) == 3
    assert sum(map(len, made.conformal.scores)) == len(split_in_half(unseen)[1])


def test_evaluation_without_unseen_images_is_refused(
    second: Run, fixed: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(second.path, tmp_path / "copy"))
    content = json.loads((copy / LINEAGE).read_text())
    content["datasets"][0]["split"] = {"seed": 0, "parts": "t" * 90}
    (copy / LINEAGE).write_text(json.dumps(content))
    with pytest.raises(DataError, match="all its test images were training images of the weights"):
        evaluate(load_run(copy), fixed)
    (copy / LINEAGE).write_text("[{}]")
    with pytest.raises(RunError, match=r"lineage\.json: is not a halometry-lineage file; train"):
        evaluate(load_run(copy), fixed)


def test_evaluation_on_calibration_images_warns(first: Run, tmp_path: Path) -> None:
    longer = simulate("demo_classification", 120, seed=5, out=tmp_path / "longer.h5")
    copy = Path(shutil.copytree(first.path, tmp_path / "copy"))
    calibrate(copy, longer, device="cpu")
    with pytest.warns(HalometryWarning, match="was calibrated on images of"):
        evaluate(copy, open_dataset(longer))
