"""OOD detector of a run: fitted by `train`, kept by `publish_run`, used by `predict`."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binom

import halometry
from halometry import hub
from halometry.datasets.generate import simulate
from halometry.errors import DataError, RunError
from halometry.evaluation.predict import predict
from halometry.publish.publish import publish_run
from halometry.runs.exported import ExportedRun
from halometry.runs.ood import DETECTOR, fit_ood_detector, predict_with_ood, read_detector
from halometry.runs.run import Run, load_run, write_tensors
from halometry.training.train import train

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "channels_last": True}
QUICK |= {"size": 24, "online_fraction": 0.0, "aux_loss_weight": 0.0}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("demo_classification", 480, seed=1, out=tmp_path_factory.mktemp("s") / "a.h5")


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "kinds"
    return train("classification", images, "test_resnet", out, overrides=QUICK)


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Run:
    """A copy that a test may damage."""
    return load_run(shutil.copytree(whole.path, tmp_path / "run"))


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """An image of noise only."""
    image = np.random.default_rng(0).poisson(10, (48, 48)).astype(np.float32)
    np.save(tmp_path / "noise.npy", image)
    return tmp_path / "noise.npy"


def test_predict_flags_noise_and_few_images_of_the_training_preset(
    whole: Run, noise: Path, tmp_path: Path
) -> None:
    assert (whole.path / DETECTOR).stat().st_size < 100_000
    detector = read_detector(whole.path)
    assert detector is not None
    lenses = simulate("demo_classification", 300, seed=2, out=tmp_path / "lenses.h5")
    predictions = predict(whole, [lenses, noise], out=tmp_path / "p.csv")
    results = [prediction.ood for prediction in predictions]
    first, last = results[0], results[-1]
    assert first is not None
    assert last is not None
    assert last.p_value == pytest.approx(1 / (len(detector.reference_scores) + 1))
    flagged = sum(result is not None and result.reason is not None for result in results[:-1])
    # There are 21 reference images, so that the true rate is uncertain itself.
    assert flagged <= binom.ppf(1 - 1e-4, 300, 0.15)
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["ood_reason"]) for row in rows) == flagged + 1
    assert rows[-1]["ood_reason"] == last.reason
    assert float(rows[0]["ood_p_value"]) == pytest.approx(first.p_value, rel=0.01)


def test_predictions_are_the_same_with_and_without_detector(
    run: Run, lenses: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    detected = predict(run, lenses)
    assert "no OOD detector" not in caplog.text
    (run.path / DETECTOR).unlink()
    alone = predict(run, lenses)
    assert caplog.text.count("has no OOD detector; fit it with halometry.fit_ood_detector") == 1
    assert [a.probabilities for a in detected] == [a.probabilities for a in alone]
    assert all(a.ood is None for a in alone)


def test_detector_fitted_later_equals_that_of_training(run: Run, images: Path) -> None:
    before = load_file(run.path / DETECTOR)
    (run.path / DETECTOR).unlink()
    assert fit_ood_detector(run, images) is not None
    after = load_file(run.path / DETECTOR)
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        torch.testing.assert_close(after[key], tensor, rtol=1e-3, atol=1e-5)


def test_detector_is_fitted_to_the_training_dataset_or_a_larger_one(
    run: Run, images: Path, tmp_path: Path
) -> None:
    larger = simulate("demo_classification", 500, seed=1, out=tmp_path / "larger.h5")
    before = load_file(run.path / DETECTOR)
    halometry.fit_ood_detector(run.path, larger)
    assert torch.equal(before["scaling.levels"], load_file(run.path / DETECTOR)["scaling.levels"])
    smaller = simulate("demo_classification", 60, seed=1, out=tmp_path / "smaller.h5")
    other = simulate("demo_classification", 60, seed=3, out=tmp_path / "other.h5")
    for wrong in (smaller, other):
        with pytest.raises(DataError, match=r"is not the dataset that .*run was trained on \(480"):
            fit_ood_detector(run, wrong)


def test_too_few_images_give_no_detector(
    lenses: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    run = train("classification", lenses, "test_resnet", tmp_path / "run", overrides=QUICK)
    assert "9 validation and calibration images are too few to fit one; 40 are" in caplog.text
    assert not (run.path / DETECTOR).exists()
    assert fit_ood_detector(run, lenses) is None


def test_regression_run_has_a_detector(noise: Path, tmp_path: Path) -> None:
    masses = simulate("demo_mass", 480, seed=1, out=tmp_path / "m.h5")
    options = QUICK | {"channels": 3}
    run = train("regression", masses, "test_resnet", tmp_path / "run", overrides=options)
    (prediction,) = predict(run, noise)
    assert prediction.ood is not None
    reasons = ("features", "light", "center", "spectrum", "noise", "unit")
    assert prediction.ood.reason in reasons


def test_images_in_another_unit_are_flagged(tmp_path: Path) -> None:
    lenses = halometry.open_dataset(simulate("halo_mass", 8, seed=2, out=tmp_path / "m.h5"))
    counts = np.asarray(lenses.images)
    kinds = {"scaled": counts / counts.max(), "brighter": 10 * counts, "hot": counts.copy()}
    kinds["hot"][..., 70, :] = 65535  # a row of the detector
    reasons = {
        kind: {a.ood.reason for a in predict("halo_mass/d4net", images) if a.ood}
        for kind, images in kinds.items()
    }
    assert reasons["scaled"] == reasons["brighter"] == {"unit"}
    assert None not in reasons["hot"]
    assert "unit" not in reasons["hot"]


def test_ood_score_with_tta_is_that_of_the_image_as_it_is(run: Run, lenses: Path) -> None:
    def with_tta(tta: bool) -> Run:
        recipe = run.config.recipe.model_copy(update={"tta": tta})
        return replace(run, config=run.config.model_copy(update={"recipe": recipe}))

    alone, mean = (predict(with_tta(tta), lenses) for tta in (False, True))
    assert [a.probabilities for a in alone] != [a.probabilities for a in mean]
    for one, other in zip(alone, mean, strict=True):
        assert one.ood is not None
        assert other.ood is not None
        assert one.ood.score == pytest.approx(other.ood.score, rel=1e-3)


def test_weights_of_the_package_flag_noise_and_few_lenses(tmp_path: Path) -> None:
    lenses = simulate("common_test_1", 48, seed=2, out=tmp_path / "lenses.h5")
    results = [prediction.ood for prediction in predict("common_test_1/d4net", lenses)]
    flagged = sum(result is not None and result.reason is not None for result in results)
    assert flagged <= binom.ppf(1 - 1e-4, 48, 0.015)
    for k, sky in enumerate((1, 10, 1000)):
        noise = np.random.default_rng(k).poisson(sky, (150, 150)).astype(np.float32)
        np.save(tmp_path / f"{sky}.npy", noise)
    predictions = predict("common_test_1/d4net", [tmp_path / f"{sky}.npy" for sky in (1, 10, 1000)])
    assert all(prediction.ood and prediction.ood.reason for prediction in predictions)


def test_published_weights_keep_the_detector(run: Run, lenses: Path, tmp_path: Path) -> None:
    other = simulate("demo_classification", 30, seed=3, out=tmp_path / "other.h5")
    publish_run(run, other, tmp_path / "published", device="cpu")
    assert (tmp_path / "published" / DETECTOR).read_bytes() == (run.path / DETECTOR).read_bytes()
    assert DETECTOR in hub.RUN_FILES
    before, after = predict(run, lenses), predict(tmp_path / "published", lenses)
    pairs = [(a.ood, b.ood) for a, b in zip(before, after, strict=True)]
    for one, other in pairs:
        assert one is not None
        assert other is not None
        assert one.score == pytest.approx(other.score, rel=0.05)


def test_exported_file_has_no_detector(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    monkeypatch.setattr(ExportedRun, "predict_fn", lambda self, device: lambda images: images + 1)
    exported = ExportedRun(Path("model.onnx"), run.config, {})
    predictions, results = predict_with_ood(exported)(np.zeros(3))
    assert (predictions.tolist(), results) == ([1, 1, 1], None)
    assert "model.onnx: an exported file has no OOD detector; a single run has one" in caplog.text


def test_damaged_detector_is_named(run: Run, noise: Path) -> None:
    (run.path / DETECTOR).write_bytes(b"\x08")
    with pytest.raises(RunError, match=rf"{DETECTOR}: is damaged .*remove it, or fit it with"):
        predict(run, noise)
    write_tensors(run.path / DETECTOR, {"scaling.unit": torch.ones(())}, "ood")
    with pytest.raises(RunError, match="is damaged .'scaling.levels'"):
        predict(run, noise)


def test_detector_of_another_format_version_is_refused(run: Run) -> None:
    metadata = {"format": "halometry-ood", "format_version": "99"}
    save_file(load_file(run.path / DETECTOR), run.path / DETECTOR, metadata)
    with pytest.raises(RunError, match=rf"{DETECTOR}: has format version 99.*or fit it with"):
        read_detector(run.path)


def test_each_batch_has_its_own_results(run: Run) -> None:
    predict_fn = predict_with_ood(run, "cpu")
    rng = np.random.default_rng(0)
    images = rng.poisson(10, (4, 1, 48, 48)).astype(np.float32)
    together = predict_fn(images)[1]
    apart = [*(predict_fn(images[:3])[1] or []), *(predict_fn(images[3:])[1] or [])]
    assert together is not None
    assert len(apart) == len(together) == 4
    for one, other in zip(apart, together, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-4)


def test_python_code_of_the_docs_page_runs(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole.path, tmp_path / "runs" / "classes")
    simulate("demo_classification", 480, seed=1, out=tmp_path / "lenses.h5")
    (tmp_path / "my_images").mkdir()
    noise = np.random.default_rng(0).poisson(10, (150, 150)).astype(np.float32)
    np.save(tmp_path / "my_images" / "noise.npy", noise)
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "explanation/ood.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
    assert "OODResult(p_value=0.000" in capsys.readouterr().out


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
