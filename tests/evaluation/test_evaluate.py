"""A run on the images kept aside and on other sets, and what it cannot be judged on."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from halometry.compare.compare import Comparison
from halometry.datasets.generate import simulate
from halometry.datasets.splits import read_split
from halometry.errors import DataError, RunError
from halometry.evaluation import figures
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import regression_metrics
from halometry.training.train import train
from helpers.comparison import QUICK


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_judged_only_on_what_was_kept_aside(classes: Comparison, lenses: Path) -> None:
    run = classes.evaluations[0].run
    found = evaluate(run, lenses)
    split = read_split(run.path / "split.json")
    np.testing.assert_array_equal(found.rows, split.test)
    assert not set(found.rows) & (set(split.train) | set(split.validation))
    assert "kept aside in training" in found.description


def test_another_set_is_used_whole(classes: Comparison, tmp_path: Path) -> None:
    other = simulate("demo_classification", 30, seed=9, out=tmp_path / "other.h5")
    found = evaluate(classes.evaluations[0].run, other, tmp_path / "out", resamples=50)
    assert len(found.truth) == 30
    names = {p.name for p in (tmp_path / "out").iterdir()}
    figures = {"roc.png", "confusion.png", "reliability.png"}
    assert names == {"metrics.json", "predictions.csv", "predictions.csv.json"} | figures
    rows = rows_of(tmp_path / "out/predictions.csv")
    assert len(rows) == 30
    assert sum(float(rows[0][f"prob_{c}"]) for c in ("no", "sphere", "vort")) == pytest.approx(
        1, abs=1e-4
    )


def test_no_training_image_is_judged_whatever_the_file_is_called(
    classes: Comparison, lenses: Path, tmp_path: Path
) -> None:
    run = classes.evaluations[0].run
    shutil.copyfile(lenses, tmp_path / "copy.h5")
    shutil.copytree(lenses.with_suffix(".shards"), tmp_path / "lenses.shards")
    np.testing.assert_array_equal(
        evaluate(run, tmp_path / "copy.h5", resamples=20).rows, classes.evaluations[0].rows
    )
    more = simulate("demo_classification", 120, seed=1, out=tmp_path / "more.h5")
    found = evaluate(run, more, resamples=20)
    np.testing.assert_array_equal(found.rows, np.arange(90, 120))
    assert "follow the training set's" in found.description
    fewer = simulate("demo_classification", 60, seed=1, out=tmp_path / "fewer.h5")
    with pytest.raises(DataError, match="among those of the training set .* another --seed"):
        evaluate(run, fewer)


def test_masses_are_judged_and_drawn(fractions: Comparison, masses: Path, tmp_path: Path) -> None:
    found = evaluate(fractions.evaluations[0].run, masses, tmp_path, resamples=50)
    rows = rows_of(tmp_path / "predictions.csv")
    truth, predicted = (np.array([float(r[k]) for r in rows]) for k in ("true", "f_sub"))
    again = regression_metrics(truth, predicted, resamples=50)
    assert again["mse"].value == pytest.approx(found.metrics["mse"].value, rel=1e-3)
    assert (tmp_path / "true_against_predicted.png").exists()


def test_a_run_of_the_other_task_is_refused(fractions: Comparison, lenses: Path) -> None:
    with pytest.raises((RunError, DataError), match=r"regression|classification"):
        evaluate(fractions.evaluations[0].run, lenses)


def test_other_classes_are_refused(classes: Comparison, tmp_path: Path) -> None:
    for name in ("axion", "cdm", "no_sub"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(4):
            array = np.random.default_rng(i).random((48, 48))
            np.save(tmp_path / "set" / name / f"{i}.npy", array)
    with pytest.raises(DataError, match=r"has classes axion, cdm, no_sub; .* no, sphere, vort"):
        evaluate(classes.evaluations[0].run, tmp_path / "set")


def test_images_of_another_shape_are_refused(tmp_path: Path, lenses: Path) -> None:
    run = train("classification", lenses, "mobilenetv3_small", tmp_path / "r", overrides=QUICK)
    whole = train("classification", lenses, "mobilenetv3_small", tmp_path / "s",
                  overrides=QUICK | {"size": None})  # fmt: skip
    for shape in ((3, 48, 48), (1, 40, 40)):
        for name in ("no", "sphere", "vort"):
            folder = tmp_path / str(shape[0]) / name
            folder.mkdir(parents=True)
            for i in range(4):
                np.save(folder / f"{i}.npy", np.random.default_rng(i).random(shape))
    with pytest.raises(DataError, match="3: each image has 3 channels, the run was trained on 1"):
        evaluate(run, tmp_path / "3")
    with pytest.raises(DataError, match="is 40 x 40 pixels, the run was trained on 48 x 48"):
        evaluate(whole, tmp_path / "1")
    assert len(evaluate(run, tmp_path / "1").truth) == 12  # this one resizes


def test_a_damaged_split_is_named(lenses: Path, tmp_path: Path) -> None:
    run = train("classification", lenses, "mobilenetv3_small", tmp_path / "r", overrides=QUICK)
    (run.path / "split.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"split\.json: cannot be read"):
        evaluate(run, lenses)


def test_every_answer_is_the_same_for_every_batch_size(classes: Comparison, lenses: Path) -> None:
    from halometry.datasets.open import open_dataset
    from halometry.runs.predict_rows import predict_rows

    data = open_dataset(lenses)
    run = classes.evaluations[0].run
    one, many = (predict_rows(run, data, np.arange(9), batch_size=n, point=True) for n in (1, 64))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_figures_draw_one_or_many(classes: Comparison) -> None:
    evaluations: list[Evaluation] = classes.evaluations
    confusion = evaluations[0].confusion
    assert confusion is not None
    one = figures.confusion_figure({"a": confusion}, ("no", "sphere", "vort"))
    assert isinstance(one, matplotlib.figure.Figure)
    assert figures.to_svg(one).startswith("<svg")
