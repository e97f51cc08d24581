"""Lens finding from folders to metrics: three channels, two classes, few lenses."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halometry.compare.tables import columns_of
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import split_dataset
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.records import read_evaluation_record
from halometry.runs.predict_rows import point_predictions, predict_rows
from halometry.training.train import train
from helpers.comparison import model_record
from helpers.terminal import Command

OPTIONS: dict[str, Any] = {"precision": "float32", "channels_last": True}
PARTS = ("train", "test")


@pytest.fixture(scope="module")
def survey(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The survey cut-outs of `../shared/data`, linked into the published layout."""
    root = tmp_path_factory.mktemp("survey")
    for name in ("lenses", "nonlenses"):
        for part in PARTS:
            (root / f"{part}_{name}").mkdir()
            for file in (shared_data / "lens_finding" / name).glob(f"{part}_*.npy"):
                (root / f"{part}_{name}" / file.name).symlink_to(file)
    return root


@pytest.fixture(scope="module")
def imbalanced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Color images of 24 pixels; one in ten is a lens, which has a red ring in noise."""
    root, rng = tmp_path_factory.mktemp("imbalanced"), np.random.default_rng(0)
    radius = np.hypot(*np.mgrid[-1:1:24j, -1:1:24j])
    ring = np.exp(-(((radius - 0.6) / 0.1) ** 2))
    for name, count, light in (("lenses", 40, 0.6), ("nonlenses", 360, 0.0)):
        for part in PARTS:
            (root / f"{part}_{name}").mkdir()
            for i in range(count):
                pixels = rng.random((3, 24, 24), np.float32)
                pixels[0] += light * ring
                pixels /= pixels.max(axis=(1, 2), keepdims=True)
                np.save(root / f"{part}_{name}" / f"{i}.npy", pixels)
    return root


def test_survey_cutouts_are_read_trained_and_evaluated(survey: Path, tmp_path: Path) -> None:
    data = open_dataset(survey)
    assert data.class_names == ("lenses", "nonlenses")
    assert data.images.shape == (40, 3, 64, 64)
    assert data.images.dtype == np.float32
    assert data.roles is not None
    for role in PARTS:
        np.testing.assert_array_equal(np.bincount(data.labels[data.roles == role]), [10, 10])
    assert all(
        name.startswith(f"{role}_") for name, role in zip(data.names, data.roles, strict=True)
    )
    run = train("classification", data, "test_resnet", tmp_path / "run", overrides=OPTIONS)
    assert run.config.preprocessing.channels == 3
    evaluation = evaluate(run, survey, out=tmp_path / "evaluation", resamples=50)
    np.testing.assert_array_equal(evaluation.rows, np.flatnonzero(data.roles == "test"))
    assert list(evaluation.roc) == ["lenses"]
    figures = {"roc.png", "precision_recall.png", "confusion.png", "reliability.png"}
    assert figures < {path.name for path in (tmp_path / "evaluation").iterdir()}
    metrics = read_evaluation_record(tmp_path / "evaluation" / "metrics.json").metrics
    assert {"average_precision", "ap_lenses", "ap_nonlenses"} < set(metrics)


def test_class_weights_leave_probabilities_calibrated(
    imbalanced: Path, tmp_path: Path, command: Command
) -> None:
    overrides = OPTIONS | {"class_weights": "balanced", "epochs": 6}
    run = train("classification", imbalanced, "test_resnet", tmp_path / "run", overrides=overrides)
    assert run.config.class_weights == (5.0, 5 / 9)
    assert run.config.bias[0] < -0.5  # around -log(9) / 2 = -1.1
    data = open_dataset(imbalanced)
    test = split_dataset(data, seed=0).test
    probabilities = point_predictions(run, predict_rows(run, data, test))
    assert probabilities[:, 0].mean() == pytest.approx(0.1, abs=0.04)
    evaluation = evaluate(run, data, resamples=50)
    assert evaluation.metrics["auc"].value > 0.7
    assert evaluation.uncalibrated[:, 0].mean() > 1.5 * probabilities[:, 0].mean()
    result = command("evaluate", run.path, "--data", imbalanced, "--out", tmp_path / "evaluation")
    assert "positive class: lenses" in result.out
    assert "ap_lenses" in result.out
    assert "auc_lenses" not in result.out
    with (tmp_path / "evaluation" / "predictions.csv").open(encoding="utf-8") as file:
        assert {row["true"] for row in csv.DictReader(file)} == {"lenses", "nonlenses"}


def test_tables_of_a_comparison_show_the_precision_of_the_positive_class() -> None:
    keys = ("auc", "accuracy", "loss", "average_precision", "ap_lenses", "ap_nonlenses")
    metrics = dict.fromkeys(keys, Interval(0.9, 0.8, 0.95))
    update: dict[str, Any] = {"metrics": metrics, "confusion": ((9, 1), (2, 8))}
    two = model_record("net", 0.9).model_copy(update=update)
    shown = {"auc": "AUC", "accuracy": "accuracy", "ap_lenses": "AP of lenses"}
    assert columns_of("classification", [two]) == shown
    without = two.model_copy(update={"metrics": {key: metrics[key] for key in keys[:3]}})
    assert [*columns_of("classification", [without])] == ["auc", "accuracy", "loss"]
    metrics = dict.fromkeys([*keys[:4], "ap_a", "ap_b", "ap_c"], Interval(0.9, 0.8, 0.95))
    for counts, last in (((9, 9, 9), "loss"), ((9, 9, 18), "average_precision")):
        update = {"metrics": metrics, "confusion": np.diag(counts).tolist()}
        three = two.model_copy(update=update)
        assert [*columns_of("classification", [three])] == ["auc", "accuracy", last]
