"""A run is calibrated at the end of its training, or later, and takes that with it everywhere."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from halometry import cli
from halometry.calibration.temperature import fit_temperature, tempered
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, RunError, UsageError
from halometry.evaluation.evaluate import evaluate, predict_points
from halometry.evaluation.predict import predict
from halometry.publish.export import export
from halometry.publish.publish import without_paths
from halometry.runs.calibrate import calibrate
from halometry.runs.calibration_fit import halves, reserved
from halometry.runs.exported import load_exported
from halometry.runs.ood import fit_ood_detector
from halometry.runs.run import CONFORMAL, Run, load_run, write_config
from halometry.training.train import train

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "channels_last": True}
NAMES = ("no", "sphere", "vort")


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published / "runs" / "demo_classification", tmp_path / "run"))


@pytest.fixture
def mass_run(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published / "runs" / "demo_mass", tmp_path / "run"))


def untempered(run: Run, data: LabeledImages, rows: np.ndarray) -> np.ndarray:
    plain = run.config.model_copy(update={"temperature": 1.0, "bias": ()})
    return predict_points(replace(run, config=plain), data, np.sort(rows))


def as_of_before(run: Path) -> None:
    """Make a run folder such as earlier versions wrote."""
    (run / CONFORMAL).unlink()
    text = (run / "config.yaml").read_text()
    content = yaml.safe_load(text)
    del content["temperature"], content["bias"]
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    split = (run / "split.json").read_text().replace("c", "s")
    (run / "split.json").write_text(split)


def test_training_ends_with_a_calibration(run: Path, lenses: Path) -> None:
    found, data = load_run(run), open_dataset(lenses)
    split = found.split()
    assert (len(split.validation), len(split.calibration)) == (6, 3)
    answers = untempered(found, data, split.validation)
    temperature, bias = fit_temperature(data.labels[split.validation], answers)
    assert found.config.temperature == pytest.approx(temperature, abs=1e-3)
    assert found.config.bias == pytest.approx(bias, abs=1e-3)
    conformal = found.conformal()
    assert conformal is not None
    assert conformal.untouched
    assert conformal.images == "3 images of the training set, kept aside for this"
    answers = predict_points(found, data, np.sort(split.calibration))
    truth = data.labels[np.sort(split.calibration)]
    for k, scores in enumerate(conformal.scores):
        np.testing.assert_allclose(scores, np.sort(1 - answers[truth == k, k]), atol=1e-6)


def test_with_symmetries_the_mean_is_what_is_calibrated(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"tta": True}
    found = train("classification", lenses, "test_resnet", tmp_path / "run", overrides=options)
    data = open_dataset(lenses)
    rows = found.split().validation
    temperature, bias = fit_temperature(data.labels[rows], untempered(found, data, rows))
    assert found.config.temperature == pytest.approx(temperature, abs=1e-3)
    assert found.config.bias == pytest.approx(bias, abs=1e-3)
    images = torch.from_numpy(data.images[:3]).float()
    predictor = found.predictor()
    forms = predictor(images.flip(-1))
    torch.testing.assert_close(predictor(images), forms, atol=1e-5, rtol=1e-4)


def test_masses_have_intervals_and_no_temperature(mass_run: Path, masses: Path) -> None:
    found, data = load_run(mass_run), open_dataset(masses)
    conformal = found.conformal()
    assert conformal is not None
    assert (found.config.temperature, found.config.bias) == (1, ())
    rows = found.split().calibration
    errors = np.abs(predict_points(found, data, rows) - data.labels[rows])
    np.testing.assert_allclose(conformal.scores[0], np.sort(errors), rtol=1e-5)


def test_a_run_of_before_answers_as_it_did_and_can_be_calibrated(
    run: Path, lenses: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = load_run(run)
    data = open_dataset(lenses)
    expected = untempered(before, data, np.arange(5))
    as_of_before(run)
    old = load_run(run)
    assert old.conformal() is None
    np.testing.assert_allclose(predict_points(old, data, np.arange(5)), expected, atol=1e-6)
    answers = predict(old, lenses)
    assert all(answer.conformal is None for answer in answers)
    with pytest.raises(RunError, match="has nothing to make sets or intervals from; leave --level"):
        predict(old, lenses, coverage=0.9)
    assert "conformal" not in evaluate(old, lenses, resamples=20).trust
    made = calibrate(old, lenses, "cpu")
    assert made.conformal.images == "4 images of the training set, which also chose the checkpoint"
    assert not made.conformal.untouched
    assert load_run(run).config.temperature == made.temperature != 1
    assert load_run(run).conformal() == made.conformal
    assert predict(run, lenses)[0].conformal is not None


def test_images_for_calibration_are_those_that_nothing_else_was_done_with(
    run: Path, lenses: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    again = calibrate(run, lenses, "cpu")
    assert again.temperature == load_run(run).config.temperature
    assert again.conformal.untouched
    more = simulate("demo_classification", 130, seed=1, out=tmp_path / "more.h5", n_test=10)
    made = calibrate(run, more, "cpu")  # of 130, 90 began as the training set, 10 are for testing
    assert made.conformal.images == "15 images of demo_classification, seed 1"
    assert sum(map(len, made.conformal.scores)) == 15
    other = simulate("demo_classification", 24, seed=5, out=tmp_path / "other.h5")
    made = calibrate(run, other, "cpu")
    assert made.conformal.images == "12 images of demo_classification, seed 5"
    capfd.readouterr()
    evaluate(run, other, resamples=20)
    assert "was calibrated on images of" in capfd.readouterr().err
    fewer = simulate("demo_classification", 60, seed=1, out=tmp_path / "fewer.h5")
    with pytest.raises(DataError, match="has 0 images to calibrate with, once those that"):
        calibrate(run, fewer, "cpu")


def test_what_cannot_be_calibrated_is_refused(run: Path, masses: Path) -> None:
    with pytest.raises(RunError, match="is a run for classification"):
        calibrate(run, masses)
    with pytest.raises(UsageError, match=r"a\.onnx: calibrate the run that it was made of"):
        calibrate("a.onnx", masses)


def test_halves_are_all_of_it_once() -> None:
    first, second = halves(np.arange(100, 201))
    assert (len(first), len(second)) == (51, 50)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(100, 201))
    assert 120 < np.mean(first) < 180


def test_few_images_are_answered_however_large_the_set(
    run: Path, lenses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.runs.calibration_fit.MOST", 2)
    made = calibrate(run, lenses, "cpu")
    assert made.conformal.images.startswith("2 images")
    assert len(reserved(load_run(run).split()).fitted) == 2


def test_a_published_and_an_exported_run_are_calibrated_as_it_was(
    published: Path, lenses: Path, tmp_path: Path
) -> None:
    run = load_run(published / "runs" / "demo_classification")
    weights = load_run(published / "weights" / "demo_classification" / "tiny")
    assert weights.config.temperature == run.config.temperature
    assert weights.conformal() == run.conformal()
    assert "have not been calibrated" not in (weights.path / "README.md").read_text()
    # As far from 1 as could be: the file must have it.
    update = {"temperature": 4.0, "bias": (0.5, 0.0, -0.5)}
    hot = without_paths(run.config).model_copy(update=update)
    copy = Path(shutil.copytree(run.path, tmp_path / "hot"))
    write_config(copy, hot)
    made = export(copy, tmp_path / "hot.onnx", check=lenses)
    assert made.difference < 1e-4
    exported = load_exported(made.path)
    assert (exported.config.temperature, exported.config.bias) == (4.0, (0.5, 0.0, -0.5))
    assert exported.conformal() == run.conformal()
    data = open_dataset(lenses)
    expected = tempered(untempered(run, data, np.arange(6)), 4.0, (0.5, 0.0, -0.5))
    np.testing.assert_allclose(predict_points(exported, data, np.arange(6)), expected, atol=1e-5)


def test_a_bias_that_is_not_one_for_each_class_is_refused(run: Path) -> None:
    text = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(text | {"bias": [0.1, -0.1]}))
    with pytest.raises(RunError, match="'bias' has 2 numbers, not one for each class"):
        load_run(run)


def test_predictions_have_sets_at_a_level(run: Path, lenses: Path, tmp_path: Path) -> None:
    other = simulate("demo_classification", 60, seed=5, out=tmp_path / "other.h5")
    conformal = calibrate(run, other, "cpu").conformal
    probabilities = [f"prob_{name}" for name in NAMES]
    for level, column in ((None, "conformal_set_90"), (0.68, "conformal_set_68")):
        answers = predict(run, lenses, out=tmp_path / "p.csv", coverage=level)
        with (tmp_path / "p.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["image", "prediction", *probabilities, column, "error"]
        limits = conformal.thresholds(level or 0.9)
        for answer, row in zip(answers, rows, strict=True):
            assert answer.conformal is not None
            classes = answer.conformal.classes
            inside = {n for n, limit in zip(NAMES, limits, strict=True)
                      if round(1 - answer.probabilities[n], 7) <= limit}  # fmt: skip
            assert set(classes or ()) == inside
            assert row[column] == "|".join(classes or ())
            assert list(classes or ()) == sorted(inside, key=lambda n: -answer.probabilities[n])


def test_predictions_have_intervals_at_a_level(
    mass_run: Path, masses: Path, tmp_path: Path
) -> None:
    other = simulate("demo_mass", 60, seed=5, out=tmp_path / "other.h5")
    conformal = calibrate(mass_run, other, "cpu").conformal
    (tmp_path / "bad.npy").write_bytes(b"")
    answers = predict(
        mass_run, [tmp_path / "bad.npy", masses], out=tmp_path / "p.csv", coverage=0.8
    )
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    ends = ["conformal_lo_80", "conformal_hi_80"]
    assert list(rows[0]) == ["image", "f_sub", *ends, "error"]
    assert [rows[0][end] for end in ends] == ["", ""]
    assert answers[0].conformal is None
    half = conformal.thresholds(0.8)[0]
    for row in rows[1:]:
        low, high = (float(row[end]) for end in ends)
        assert (low, high) == pytest.approx(
            (max(0, float(row["f_sub"]) - half), float(row["f_sub"]) + half), abs=1e-5
        )


def test_an_evaluation_says_how_far_it_can_be_trusted(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    found = evaluate(run, lenses, tmp_path / "out", resamples=20)
    assert found.metrics["ece"].to_dict() == found.trust["calibration"]["after"]["ece"]
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["calibration"]["temperature"] == found.run.config.temperature
    assert record["calibration"]["bias"] == list(found.run.config.bias)
    assert [one["level"] for one in record["conformal"]["levels"]] == [0.68, 0.9, 0.95]
    data = open_dataset(lenses)
    plain = untempered(load_run(run), data, found.rows)
    np.testing.assert_allclose(found.untempered, plain, atol=1e-6)
    assert (tmp_path / "out" / "reliability.png").stat().st_size > 5000


def test_the_command_calibrates_and_asks_for_a_level(
    run: Path, lenses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def command(*words: object) -> str:
        monkeypatch.setattr("sys.argv", ["halometry", *map(str, words)])
        cli.main()
        return capsys.readouterr().out

    with pytest.raises(SystemExit, match="0"):
        command("calibrate", run, "--data", lenses, "--device", "cpu")
    said = capsys.readouterr().out
    config = load_run(run).config
    assert f"temperature {config.temperature:.3f}, bias no {config.bias[0]:+.3f}, sphere" in said
    assert "sets and intervals from 3 images of the training set, kept aside for this" in said
    out = tmp_path / "p.csv"
    with pytest.raises(SystemExit, match="0"):
        command("predict", run, lenses, "--out", out, "--level", "0.5")
    assert "set_50" in out.read_text().splitlines()[0]
    with pytest.raises(SystemExit, match="2"):
        command("predict", run, lenses, "--out", out, "--level", "50")
    assert "level 50: must lie between 0 and 1, such as 0.9" in capsys.readouterr().err


@pytest.mark.parametrize("change", [calibrate, fit_ood_detector])
def test_what_came_with_the_package_stays_as_it_came(
    change: Callable[..., object], tmp_path: Path
) -> None:
    lenses = simulate("demo_classification", 30, seed=5, out=tmp_path / "lenses.h5")
    with pytest.raises(UsageError, match=r"d4net: stays as it came; copy .*weights.*d4net to a"):
        change("common_test_1/d4net", lenses)
