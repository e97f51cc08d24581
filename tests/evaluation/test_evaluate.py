"""Evaluation of a run on its test images and on other data sets, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from halometry.compare.compare import Comparison
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import read_split
from halometry.errors import DataError, RunError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.metrics import regression_metrics
from halometry.evaluation.prediction_table import read_predictions
from halometry.evaluation.records import read_evaluation_record
from halometry.io import header
from halometry.runs.predict_rows import predict_rows
from halometry.runs.run import Run
from halometry.training.train import train
from helpers.comparison import NETWORKS, QUICK


@pytest.fixture(scope="module")
def class_run(classes: Comparison) -> Run:
    run = classes.evaluations[0].run
    assert isinstance(run, Run)
    return run


@pytest.fixture(scope="module")
def unresized_run(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "unresized"
    overrides = QUICK | {"size": None}
    return train("classification", lenses, NETWORKS[0], out, overrides=overrides)


def save_images(folder: Path, classes: tuple[str, ...], shape: tuple[int, ...]) -> Path:
    """A folder of four random images for each class."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(4):
            np.save(folder / name / f"{i}.npy", np.random.default_rng(i).random(shape))
    return folder


def test_only_test_images_of_the_training_set_are_evaluated(class_run: Run, lenses: Path) -> None:
    evaluation = evaluate(class_run, lenses, resamples=20)
    split = read_split(class_run.path / "split.json")
    np.testing.assert_array_equal(evaluation.rows, split.test)
    assert not set(evaluation.rows) & (set(split.train) | set(split.validation))
    assert "held-out test images" in evaluation.description


def test_all_images_of_another_data_set_are_evaluated_and_written(
    class_run: Run, tmp_path: Path
) -> None:
    other = simulate("demo_classification", 30, seed=9, out=tmp_path / "other.h5")
    out = tmp_path / "out"
    evaluation = evaluate(class_run, other, out=out, resamples=50)
    assert len(evaluation.truth) == 30
    figures = {"roc.png", "precision_recall.png", "confusion.png", "reliability.png"}
    tables = {"metrics.json", "predictions.csv", "predictions.csv.json"}
    assert {path.name for path in out.iterdir()} == tables | figures
    record = read_evaluation_record(out / "metrics.json")
    assert record.metrics == evaluation.metrics
    assert record.calibration == evaluation.calibration
    assert record.coverage == evaluation.coverage
    assert np.array(record.confusion).sum() == record.count == 30
    table = read_predictions(out / "predictions.csv")
    class_names = class_run.config.class_names
    assert class_names is not None
    assert table.class_names == class_names
    assert table.true == [class_names[label] for label in evaluation.truth]
    assert table.images == [f"{other}#{i}" for i in range(30)]
    assert table.coverage == 0.9
    assert table.probabilities is not None
    np.testing.assert_allclose(table.probabilities, evaluation.outputs, rtol=1e-5)


def test_training_images_are_recognized_in_copies_and_in_longer_sets(
    classes: Comparison, class_run: Run, lenses: Path, tmp_path: Path
) -> None:
    shutil.copyfile(lenses, tmp_path / "copy.h5")
    shutil.copytree(lenses.with_suffix(".shards"), tmp_path / "lenses.shards")
    np.testing.assert_array_equal(
        evaluate(class_run, tmp_path / "copy.h5", resamples=20).rows, classes.evaluations[0].rows
    )
    longer = simulate("demo_classification", 120, seed=1, out=tmp_path / "longer.h5")
    evaluation = evaluate(class_run, longer, resamples=20)
    np.testing.assert_array_equal(evaluation.rows, np.arange(90, 120))
    assert "follow the training set's" in evaluation.description
    shorter = simulate("demo_classification", 60, seed=1, out=tmp_path / "shorter.h5")
    with pytest.raises(DataError, match="among those of the training set .* another --seed"):
        evaluate(class_run, shorter)


def test_metrics_of_masses_are_those_of_the_written_predictions(
    fractions: Comparison, masses: Path, tmp_path: Path
) -> None:
    evaluation = evaluate(fractions.evaluations[0].run, masses, out=tmp_path, resamples=50)
    table = read_predictions(tmp_path / "predictions.csv")
    assert table.true is not None
    assert table.f_sub is not None
    truth = np.array([float(mass) for mass in table.true])
    metrics = regression_metrics(truth, table.f_sub, resamples=50)
    assert metrics["mse"].value == pytest.approx(evaluation.metrics["mse"].value, rel=1e-3)
    assert (tmp_path / "true_against_predicted.png").exists()
    record = read_evaluation_record(tmp_path / "metrics.json")
    assert record.calibration is record.confusion is record.class_names is None


def test_data_set_of_the_other_task_is_refused(fractions: Comparison, lenses: Path) -> None:
    with pytest.raises((RunError, DataError), match=r"regression|classification"):
        evaluate(fractions.evaluations[0].run, lenses)


def test_data_set_with_other_classes_is_refused(class_run: Run, tmp_path: Path) -> None:
    folder = save_images(tmp_path / "set", ("axion", "cdm", "no_sub"), (48, 48))
    with pytest.raises(DataError, match=r"has classes axion, cdm, no_sub; .* no, sphere, vort"):
        evaluate(class_run, folder)


def test_images_of_another_shape_are_refused_unless_the_run_resizes(
    class_run: Run, unresized_run: Run, tmp_path: Path
) -> None:
    class_names = ("no", "sphere", "vort")
    three_channels = save_images(tmp_path / "3", class_names, (3, 48, 48))
    smaller = save_images(tmp_path / "1", class_names, (1, 40, 40))
    with pytest.raises(DataError, match="3: each image has 3 channels, the run was trained on 1"):
        evaluate(class_run, three_channels)
    with pytest.raises(DataError, match="is 40 x 40 pixels, the run was trained on 48 x 48"):
        evaluate(unresized_run, smaller)
    assert len(evaluate(class_run, smaller, resamples=20).truth) == 12


def test_damaged_split_is_named(class_run: Run, lenses: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(class_run.path, tmp_path / "run"))
    (copy / "split.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"split\.json: cannot be read"):
        evaluate(copy, lenses)


def test_predictions_do_not_depend_on_the_batch_size(class_run: Run, lenses: Path) -> None:
    data = open_dataset(lenses)
    one, many = (predict_rows(class_run, data, np.arange(9), batch_size=n) for n in (1, 64))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_written_metrics_have_a_format(classes: Comparison) -> None:
    path = classes.out / "evaluations" / NETWORKS[0] / "metrics.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content)[:3] == list(header("evaluation"))
    with (path.parent / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file))[:3] == ["image", "true", "prediction"]
