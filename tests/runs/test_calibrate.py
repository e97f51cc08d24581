"""Calibration of runs: at the end of training, later, and after publishing and exporting."""

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
from halometry.calibration.temperature import apply_temperature, fit_temperature
from halometry.datasets.dataset import LabeledImages
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split
from halometry.errors import DataError, HalometryWarning, RunError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.predict import predict
from halometry.publish.export import export
from halometry.publish.publish import without_paths
from halometry.runs.calibrate import calibrate, calibration_rows, split_in_half
from halometry.runs.exported import load_exported
from halometry.runs.ood import fit_ood_detector
from halometry.runs.predict_rows import predict_rows
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


def uncalibrated(run: Run, data: LabeledImages, rows: np.ndarray) -> np.ndarray:
    """Point predictions of a run without temperature and biases, for sorted rows."""
    plain = run.config.model_copy(update={"temperature": 1.0, "bias": ()})
    return predict_rows(replace(run, config=plain), data, np.sort(rows), point=True)


def remove_calibration(run: Path) -> None:
    (run / CONFORMAL).unlink()
    content = yaml.safe_load((run / "config.yaml").read_text())
    content |= {"temperature": 1.0, "bias": []}
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def test_training_ends_with_calibration(run: Path, lenses: Path) -> None:
    found, data = load_run(run), open_dataset(lenses)
    split = found.split()
    assert (len(split.validation), len(split.calibration)) == (6, 3)
    answers = uncalibrated(found, data, split.validation)
    temperature, bias = fit_temperature(data.labels[split.validation], answers)
    assert found.config.temperature == pytest.approx(temperature, abs=1e-3)
    assert found.config.bias == pytest.approx(bias, abs=1e-3)
    conformal = found.conformal()
    assert conformal is not None
    assert conformal.held_out
    assert conformal.images == "3 images held out of the training set for this"
    answers = predict_rows(found, data, np.sort(split.calibration), point=True)
    truth = data.labels[np.sort(split.calibration)]
    for k, scores in enumerate(conformal.scores):
        np.testing.assert_allclose(scores, np.sort(1 - answers[truth == k, k]), atol=1e-6)


def test_dataset_without_calibration_images_uses_validation_images() -> None:
    none = np.array([], dtype=np.int64)
    rows = calibration_rows(Split(np.arange(10, 30), np.arange(10), none, none, seed=1))
    assert not rows.held_out
    assert len(rows.temperature_rows) == len(rows.conformal_rows) == 5
    assert {*rows.temperature_rows, *rows.conformal_rows} == {*range(10)}


def test_calibration_with_tta_is_of_the_mean(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"tta": True}
    found = train("classification", lenses, "test_resnet", tmp_path / "run", overrides=options)
    data = open_dataset(lenses)
    rows = found.split().validation
    temperature, bias = fit_temperature(data.labels[rows], uncalibrated(found, data, rows))
    assert found.config.temperature == pytest.approx(temperature, abs=1e-3)
    assert found.config.bias == pytest.approx(bias, abs=1e-3)
    images = torch.from_numpy(data.images[:3]).float()
    predictor = found.predictor()
    flipped = predictor(images.flip(-1))
    torch.testing.assert_close(predictor(images), flipped, atol=1e-5, rtol=1e-4)


def test_masses_have_conformal_scores_and_no_temperature(mass_run: Path, masses: Path) -> None:
    found, data = load_run(mass_run), open_dataset(masses)
    conformal = found.conformal()
    assert conformal is not None
    assert (found.config.temperature, found.config.bias) == (1, ())
    rows = found.split().calibration
    errors = np.abs(predict_rows(found, data, rows, point=True) - data.labels[rows])
    np.testing.assert_allclose(conformal.scores[0], np.sort(errors), rtol=1e-5)


def test_run_without_calibration_predicts_and_can_be_calibrated(run: Path, lenses: Path) -> None:
    calibrated, data = load_run(run), open_dataset(lenses)
    expected = uncalibrated(calibrated, data, np.arange(5))
    remove_calibration(run)
    plain = load_run(run)
    assert plain.conformal() is None
    np.testing.assert_allclose(
        predict_rows(plain, data, np.arange(5), point=True), expected, atol=1e-6
    )
    assert all(prediction.conformal is None for prediction in predict(plain, lenses))
    with pytest.raises(RunError, match="has no conformal scores .*; leave --coverage out"):
        predict(plain, lenses, coverage=0.9)
    calibration = calibrate(plain, lenses, device="cpu")
    assert calibration.temperature == calibrated.config.temperature
    assert calibration.bias == calibrated.config.bias
    assert calibration.conformal == calibrated.conformal() == load_run(run).conformal()
    assert predict(run, lenses)[0].conformal is not None


def test_calibration_uses_only_images_that_serve_nothing_else(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    again = calibrate(run, lenses, device="cpu")
    assert again.temperature == load_run(run).config.temperature
    assert again.conformal.held_out
    more = simulate("demo_classification", 130, seed=1, out=tmp_path / "more.h5", n_test=10)
    made = calibrate(run, more, device="cpu")  # 90 of 130 are the training set's, 10 test images
    assert made.conformal.images == "15 images of demo_classification, seed 1"
    assert sum(map(len, made.conformal.scores)) == 15
    other = simulate("demo_classification", 24, seed=5, out=tmp_path / "other.h5")
    made = calibrate(run, other, device="cpu")
    assert made.conformal.images == "12 images of demo_classification, seed 5"
    with pytest.warns(HalometryWarning, match="was calibrated on images of"):
        evaluate(run, other, resamples=20)
    fewer = simulate("demo_classification", 60, seed=1, out=tmp_path / "fewer.h5")
    with pytest.raises(DataError, match="has 0 images to calibrate with, without test images"):
        calibrate(run, fewer, device="cpu")


def test_calibrating_another_task_or_an_exported_file_is_refused(run: Path, masses: Path) -> None:
    with pytest.raises(RunError, match="is a run for classification"):
        calibrate(run, masses)
    with pytest.raises(UsageError, match=r"a\.onnx: calibrate the run that it was made of"):
        calibrate("a.onnx", masses)


def test_split_in_half_contains_each_row_once() -> None:
    first, second = split_in_half(np.arange(100, 201))
    assert (len(first), len(second)) == (51, 50)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(100, 201))
    assert 120 < np.mean(first) < 180


def test_number_of_calibration_images_is_limited(
    run: Path, lenses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.runs.calibrate.MAX_IMAGES", 2)
    made = calibrate(run, lenses, device="cpu")
    assert made.conformal.images.startswith("2 images")
    assert len(calibration_rows(load_run(run).split()).temperature_rows) == 2


def test_published_and_exported_runs_keep_the_calibration(
    published: Path, lenses: Path, tmp_path: Path
) -> None:
    run = load_run(published / "runs" / "demo_classification")
    weights = load_run(published / "weights" / "demo_classification" / "tiny")
    assert weights.config.temperature == run.config.temperature
    assert weights.conformal() == run.conformal()
    assert "have not been calibrated" not in (weights.path / "README.md").read_text()
    # Far from 1, so that a file without it would differ.
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
    expected = apply_temperature(uncalibrated(run, data, np.arange(6)), 4.0, (0.5, 0.0, -0.5))
    np.testing.assert_allclose(
        predict_rows(exported, data, np.arange(6), point=True), expected, atol=1e-5
    )


def test_config_with_wrong_number_of_biases_is_refused(run: Path) -> None:
    text = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(text | {"bias": [0.1, -0.1]}))
    with pytest.raises(RunError, match="'bias' has 2 numbers, not one for each class"):
        load_run(run)


def test_prediction_table_has_sets_for_the_coverage(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    other = simulate("demo_classification", 60, seed=5, out=tmp_path / "other.h5")
    conformal = calibrate(run, other, device="cpu").conformal
    probabilities = [f"prob_{name}" for name in NAMES]
    for coverage, column in ((None, "conformal_set_90"), (0.68, "conformal_set_68")):
        answers = predict(run, lenses, out=tmp_path / "p.csv", coverage=coverage)
        with (tmp_path / "p.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["image", "prediction", *probabilities, column, "error"]
        limits = conformal.thresholds(coverage or 0.9)
        for answer, row in zip(answers, rows, strict=True):
            assert answer.conformal is not None
            classes = answer.conformal.classes
            inside = {n for n, limit in zip(NAMES, limits, strict=True)
                      if round(1 - answer.probabilities[n], 7) <= limit}  # fmt: skip
            assert set(classes or ()) == inside
            assert row[column] == "|".join(classes or ())
            assert list(classes or ()) == sorted(inside, key=lambda n: -answer.probabilities[n])


def test_prediction_table_has_intervals_for_the_coverage(
    mass_run: Path, masses: Path, tmp_path: Path
) -> None:
    other = simulate("demo_mass", 60, seed=5, out=tmp_path / "other.h5")
    conformal = calibrate(mass_run, other, device="cpu").conformal
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


def test_evaluation_reports_calibration_and_coverage(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    found = evaluate(run, lenses, out=tmp_path / "out", resamples=20)
    assert found.metrics["ece"] == found.calibration.after.ece
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["calibration"]["temperature"] == found.run.config.temperature
    assert record["calibration"]["bias"] == list(found.run.config.bias)
    assert [level["nominal"] for level in record["coverage"]["levels"]] == [0.68, 0.9, 0.95]
    data = open_dataset(lenses)
    plain = uncalibrated(load_run(run), data, found.rows)
    np.testing.assert_allclose(found.uncalibrated, plain, atol=1e-6)
    assert (tmp_path / "out" / "reliability.png").stat().st_size > 5000


def test_command_calibrates_and_predicts_with_coverage(
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
    assert "sets and intervals from 3 images held out of the training set for this" in said
    out = tmp_path / "p.csv"
    with pytest.raises(SystemExit, match="0"):
        command("predict", run, lenses, "--out", out, "--coverage", "0.5")
    assert "set_50" in out.read_text().splitlines()[0]
    with pytest.raises(SystemExit, match="2"):
        command("predict", run, lenses, "--out", out, "--coverage", "50")
    assert "coverage 50: must lie between 0 and 1, such as 0.9" in capsys.readouterr().err


@pytest.mark.parametrize("change", [calibrate, fit_ood_detector])
def test_weights_of_the_package_cannot_be_changed(
    change: Callable[..., object], tmp_path: Path
) -> None:
    lenses = simulate("demo_classification", 30, seed=5, out=tmp_path / "lenses.h5")
    with pytest.raises(UsageError, match=r"d4net: cannot be changed; copy .*weights.*d4net to a"):
        change("common_test_1/d4net", lenses)
