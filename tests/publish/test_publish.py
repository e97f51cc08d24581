"""Published runs: small, with the same predictions, without local paths, with a correct card."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import halometry
from halometry.datasets.generate import simulate
from halometry.errors import DataError, RunError, StorageError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.predict import predict
from halometry.publish.card import hub_metric, read_card
from halometry.publish.publish import publish_run, to_half_precision
from halometry.runs.lineage import without_paths
from halometry.runs.run import Run, load_run
from halometry.training.train import train
from helpers.exporting import prediction_values

CLASSES, MASSES = "demo_classification/tiny", "demo_mass/tiny"


def card_metrics(card: ModelCard) -> dict[str, float]:
    """Metrics in the `model-index` of a card, read by the Hub's own reader."""
    return {result.metric_type: result.metric_value for result in card.data.eval_results}


@pytest.mark.parametrize("name", [CLASSES, MASSES])
def test_published_weights_are_half_the_size_with_the_same_predictions(
    shipped: Path, lenses: Path, name: str
) -> None:
    before, after = load_run(shipped / "runs" / name.split("/")[0]), load_run(name)
    sizes = [(run.path / "weights.safetensors").stat().st_size for run in (before, after)]
    assert sizes[1] < 0.55 * sizes[0]
    dtypes = {tensor.dtype for tensor in load_file(after.path / "weights.safetensors").values()}
    assert dtypes == {torch.int64, torch.float32, torch.float16}
    assert {p.dtype for p in after.predictor().parameters()} == {torch.float32}
    original, published = (prediction_values(predict(run, lenses)) for run in (before, after))
    assert not np.array_equal(original, published)
    np.testing.assert_allclose(original, published, atol=1e-3)
    assert 0 < after.training_metrics()["max_change_half_precision"] < 1e-3


def test_published_files_hold_no_local_path(shipped: Path, lenses: Path) -> None:
    for file in (shipped / "weights").rglob("*.*"):
        if file.suffix != ".safetensors":
            text = file.read_text(encoding="utf-8")
            assert str(shipped.parent) not in text, file
            assert str(lenses.parent) not in text, file
    assert load_run(CLASSES).config.data.path == "demo_classification, seed 1"


@pytest.mark.parametrize(
    ("start", "expected"),
    [("/home/me/runs/easy", "easy"), (CLASSES, CLASSES), ("hf://me/easy", "hf://me/easy")],
)
def test_initial_weights_are_named_without_local_path(
    shipped: Path, start: str, expected: str
) -> None:
    config = load_run(CLASSES).config
    update = {"initial_weights": f"weights of the run {start} on demo_mass"}
    changed = config.model_copy(update=update)
    assert without_paths(changed).initial_weights == f"weights of the run {expected} on demo_mass"


@pytest.mark.parametrize("name", [CLASSES, MASSES])
def test_card_agrees_with_the_files(shipped: Path, name: str) -> None:
    run, card = load_run(name), ModelCard(read_card(name))
    record = run.training_metrics()
    assert card_metrics(card) == {
        hub_metric(k): m["value"] for k, m in record["test"]["metrics"].items()
    }
    data = card.data.to_dict()
    assert data["library_name"] == "halometry"
    assert data["license"] == "mit"
    assert data["pipeline_tag"] == {CLASSES: "image-classification", MASSES: "other"}[name]
    assert {result.dataset_type for result in card.data.eval_results} == {name.split("/")[0]}
    split = record["split"]
    for phrase in (
        "Initial weights: random weights",
        f"| {split['train']} | {split['validation']} | {split['calibration']} | {split['test']} |",
        "learning_rate: 0.002",
        "seed 1",
        "The training images are simulated",
        "no probability" if name == CLASSES else "standard deviations",
    ):
        assert phrase in card.text, phrase


def test_published_weights_are_evaluated_on_images_that_are_new_to_them(
    shipped: Path, lenses: Path, tmp_path: Path
) -> None:
    before = load_run(shipped / "runs" / "demo_classification")
    np.testing.assert_array_equal(evaluate(CLASSES, lenses).rows, before.split().test)
    more = simulate("demo_classification", 120, seed=1, out=tmp_path / "more.h5")
    np.testing.assert_array_equal(evaluate(CLASSES, more).rows, np.arange(90, 120))
    fewer = simulate("demo_classification", 60, seed=1, out=tmp_path / "fewer.h5")
    with pytest.raises(DataError, match="among those of the training set"):
        evaluate(CLASSES, fewer)


def test_training_starts_from_named_weights(shipped: Path, lenses: Path, tmp_path: Path) -> None:
    def begin(seed: int, out: Path) -> Run:
        options = {"epochs": 1, "precision": "float32", "channels_last": True}
        return train("classification", lenses, "test_resnet", out, overrides=options, seed=seed,
                     init_from=CLASSES)  # fmt: skip

    run = begin(0, tmp_path / "run")
    assert run.config.initial_weights == f"weights of the run {CLASSES} on demo_classification"
    with pytest.raises(UsageError, match=rf"{CLASSES}: was trained on \d+ of the 18 validation"):
        begin(1, tmp_path / "other")


def test_values_out_of_range_stay_in_single_precision() -> None:
    given = {"large": torch.tensor([[1e6, 1.0]]), "matrix": torch.ones(3, 2)}
    given |= {"scales": torch.ones(3), "count": torch.tensor(7)}
    made = to_half_precision(given)
    single, half = torch.float32, torch.float16
    assert [made[key].dtype for key in given] == [single, half, single, torch.int64]


def test_weights_stay_in_single_precision_if_predictions_would_change(
    published: Path, lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("halometry.publish.publish")  # the function has its name
    monkeypatch.setattr(module, "MAX_CHANGE", 0.0)
    run = published / "runs" / "demo_classification"
    result = publish_run(run, lenses, tmp_path / "p")
    assert result.change is None
    weights = "weights.safetensors"
    for key, tensor in load_file(tmp_path / "p" / weights).items():
        assert torch.equal(tensor, load_file(run / weights)[key])
    text = read_card(tmp_path / "p")
    assert "The weights are in single precision." in text
    assert "Not stated" in text


def test_dataset_of_files_is_described_without_its_path(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for name in ("no", "sphere", "vort"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(4):
            np.save(tmp_path / "mine" / name / f"{i}.npy", rng.random((48, 48)))
    run = published / "runs" / "demo_classification"
    publish_run(run, tmp_path / "mine", tmp_path / "p")
    text = read_card(tmp_path / "p")
    assert "Evaluated on all 12 images of mine:" in text
    assert "The evaluation above is on other images." in text
    assert str(tmp_path) not in text


def test_existing_folder_is_not_overwritten(published: Path, lenses: Path) -> None:
    run, there = published / "runs" / "demo_classification", published / "weights"
    with pytest.raises(StorageError, match="weights: exists already; remove it, or choose"):
        publish_run(run, lenses, there)
    with pytest.raises(RunError, match="is a run for classification"):
        publish_run(run, simulate("demo_mass", 12, out=published / "m.h5"), published / "new")
    assert not (published / "new").exists()


def test_names_of_weights_are_resolved_and_corrected(
    shipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="halometry")
    monkeypatch.chdir(tmp_path)
    assert halometry.list_weights() == [CLASSES, MASSES]
    assert load_run(CLASSES).path == shipped / "weights" / CLASSES
    with pytest.raises(RunError, match=f"demo_mas/tiny: no such folder; did you mean '{MASSES}'"):
        load_run("demo_mas/tiny")
    with pytest.raises(RunError, match="a name from 'halometry weights'"):
        load_run("runs/mine")
    shutil.copytree(shipped / "runs" / "demo_mass", tmp_path / CLASSES)
    assert load_run(CLASSES).config.task == "regression"
    assert f"{CLASSES}: the folder here, not the weights of that name" in caplog.text


def test_weights_load_from_a_zip_archive(
    shipped: Path, lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(CLASSES, lenses)
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for file in (shipped / "weights").rglob("*.*"):
            archive.write(file, "runs" / file.relative_to(shipped))
    packed = zipfile.Path(tmp_path / "package.zip")
    monkeypatch.setattr("halometry.resources._folder", lambda name: packed.joinpath(name))
    assert halometry.list_weights() == [CLASSES, MASSES]
    assert predict(CLASSES, lenses) == expected


def test_missing_card_is_an_error(published: Path) -> None:
    with pytest.raises(RunError, match="has no card; 'halometry publish' writes one"):
        read_card(published / "runs" / "demo_mass")


def test_damaged_record_is_an_error(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "weights" / MASSES, tmp_path / "copy")
    (tmp_path / "copy" / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"metrics\.json: cannot be read"):
        load_run(tmp_path / "copy").training_metrics()


def test_metrics_record_is_plain_json(published: Path) -> None:
    record = json.loads((published / "weights" / CLASSES / "metrics.json").read_text())
    assert record["split"] == {"train": 72, "validation": 6, "calibration": 3, "test": 9}
    assert record["test"]["count"] == 9
    assert record["parameters"] == sum(
        p.numel() for p in load_run(published / "weights" / CLASSES).predictor().parameters()
    )
