"""What others get of a run: small, the same answers, nothing of this machine, a true card."""

from __future__ import annotations

import importlib
import json
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
from halometry.publish.publish import publish_run, to_half_precision, without_paths
from halometry.runs.run import Run, load_run
from halometry.training.train import train

KINDS, MASSES = "demo_classification/tiny", "demo_mass/tiny"


def figures_of(card: ModelCard) -> dict[str, float]:
    """What the Hub's own reader finds in a card's `model-index`."""
    return {result.metric_type: result.metric_value for result in card.data.eval_results}


@pytest.mark.parametrize("name", [KINDS, MASSES])
def test_published_weights_are_half_the_size_and_answer_the_same(
    shipped: Path, lenses: Path, name: str
) -> None:
    before, after = load_run(shipped / "runs" / name.split("/")[0]), load_run(name)
    sizes = [(run.path / "weights.safetensors").stat().st_size for run in (before, after)]
    assert sizes[1] < 0.55 * sizes[0]
    kinds = {tensor.dtype for tensor in load_file(after.path / "weights.safetensors").values()}
    assert kinds == {torch.int64, torch.float32, torch.float16}
    assert {p.dtype for p in after.predictor().parameters()} == {torch.float32}
    answers = [
        [[*a.probabilities.values(), a.f_sub or 0] for a in predict(run, lenses)]
        for run in (before, after)
    ]
    assert not np.array_equal(answers[0], answers[1])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-3)
    assert 0 < after.training_metrics()["max_change_half_precision"] < 1e-3


def test_nothing_of_this_machine_is_published(shipped: Path, lenses: Path) -> None:
    for file in (shipped / "weights").rglob("*.*"):
        if file.suffix != ".safetensors":
            text = file.read_text(encoding="utf-8")
            assert str(shipped.parent) not in text, file
            assert str(lenses.parent) not in text, file
    assert load_run(KINDS).config.data.path == "demo_classification, seed 1"


@pytest.mark.parametrize(
    ("start", "said"),
    [("/home/me/runs/easy", "easy"), (KINDS, KINDS), ("hf://me/easy", "hf://me/easy")],
)
def test_a_start_is_called_by_what_others_know(shipped: Path, start: str, said: str) -> None:
    config = load_run(KINDS).config
    begun = config.model_copy(update={"start": f"weights of the run {start} on demo_mass"})
    assert without_paths(begun).initial_weights == f"weights of the run {said} on demo_mass"


@pytest.mark.parametrize("name", [KINDS, MASSES])
def test_the_card_says_what_the_files_say(shipped: Path, name: str) -> None:
    run, card = load_run(name), ModelCard(read_card(name))
    record = run.record()
    found = figures_of(card)
    assert found == {hub_metric(k): m["value"] for k, m in record["test"]["metrics"].items()}
    data = card.data.to_dict()
    assert data["library_name"] == "halometry"
    assert data["license"] == "mit"
    assert data["pipeline_tag"] == {KINDS: "image-classification", MASSES: "other"}[name]
    assert {result.dataset_type for result in card.data.eval_results} == {name.split("/")[0]}
    for phrase in ("Begun from random weights", f"{record['split']['train']} trained the network",
                   "learning_rate: 0.002", "seed 1", "It learnt from simulated images",
                   "no probability" if name == KINDS else "standard deviations"):  # fmt: skip
        assert phrase in card.text, phrase


def test_published_weights_are_judged_on_images_they_have_not_seen(
    shipped: Path, lenses: Path, tmp_path: Path
) -> None:
    before = load_run(shipped / "runs" / "demo_classification")
    np.testing.assert_array_equal(evaluate(KINDS, lenses).rows, before.split().test)
    more = simulate("demo_classification", 120, seed=1, out=tmp_path / "more.h5")
    np.testing.assert_array_equal(evaluate(KINDS, more).rows, np.arange(90, 120))
    fewer = simulate("demo_classification", 60, seed=1, out=tmp_path / "fewer.h5")
    with pytest.raises(DataError, match="among those of the training set"):
        evaluate(KINDS, fewer)


def test_training_begins_from_a_name(shipped: Path, lenses: Path, tmp_path: Path) -> None:
    def begin(seed: int, out: Path) -> Run:
        options = {"epochs": 1, "precision": "float32", "channels_last": True}
        return train("classification", lenses, "test_resnet", out, overrides=options, seed=seed,
                     init_from=KINDS)  # fmt: skip

    run = begin(0, tmp_path / "run")
    assert run.config.initial_weights == f"weights of the run {KINDS} on demo_classification"
    with pytest.raises(UsageError, match=rf"{KINDS}: it has learnt from \d+ of the 18 images"):
        begin(1, tmp_path / "other")


def test_numbers_beyond_half_precision_stay_as_they_are() -> None:
    given = {"large": torch.tensor([[1e6, 1.0]]), "matrix": torch.ones(3, 2)}
    given |= {"scales": torch.ones(3), "count": torch.tensor(7)}
    made = to_half_precision(given)
    single, half = torch.float32, torch.float16
    assert [made[key].dtype for key in given] == [single, half, single, torch.int64]


def test_weights_that_half_precision_would_change_stay_single(
    published: Path, lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("halometry.publish.publish")  # the function has its name
    monkeypatch.setattr(module, "LARGEST_CHANGE", 0.0)
    run = published / "runs" / "demo_classification"
    made = publish_run(run, lenses, tmp_path / "p")
    assert made.change is None
    weights = "weights.safetensors"
    for key, tensor in load_file(tmp_path / "p" / weights).items():
        assert torch.equal(tensor, load_file(run / weights)[key])
    text = read_card(tmp_path / "p")
    assert "The weights are in single precision." in text
    assert "Not stated" in text


def test_a_set_of_files_is_described_without_its_place(
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
    assert "Measured on all 12 images of mine:" in text
    assert "The figures above are of other images." in text
    assert str(tmp_path) not in text


def test_a_folder_that_is_there_is_left_alone(published: Path, lenses: Path) -> None:
    run, there = published / "runs" / "demo_classification", published / "weights"
    with pytest.raises(StorageError, match="weights: is there already; remove it, or choose"):
        publish_run(run, lenses, there)
    with pytest.raises(RunError, match="is a run for classification"):
        publish_run(run, simulate("demo_mass", 12, out=published / "m.h5"), published / "new")
    assert not (published / "new").exists()


def test_names_lead_to_the_package_and_wrong_ones_to_the_nearest(
    shipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert halometry.list_weights() == [KINDS, MASSES]
    assert load_run(KINDS).path == shipped / "weights" / KINDS
    with pytest.raises(RunError, match=f"demo_mas/tiny: no such folder; did you mean '{MASSES}'"):
        load_run("demo_mas/tiny")
    with pytest.raises(RunError, match="a name from 'halometry weights'"):
        load_run("runs/mine")
    capfd.readouterr()
    shutil.copytree(shipped / "runs" / "demo_mass", tmp_path / KINDS)
    assert load_run(KINDS).config.task == "regression"
    assert f"{KINDS}: the folder here, not the weights of that name" in capfd.readouterr().err


def test_weights_in_an_archive_load(
    shipped: Path, lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(KINDS, lenses)
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for file in (shipped / "weights").rglob("*.*"):
            archive.write(file, file.relative_to(shipped))
    packed = zipfile.Path(tmp_path / "package.zip")
    monkeypatch.setattr("halometry.resources._folder", lambda name: packed.joinpath(name))
    assert halometry.list_weights() == [KINDS, MASSES]
    assert predict(KINDS, lenses) == expected


def test_a_run_without_a_card_says_so(published: Path) -> None:
    with pytest.raises(RunError, match="has no card; 'halometry publish' writes one"):
        read_card(published / "runs" / "demo_mass")


def test_a_damaged_record_is_named(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "weights" / MASSES, tmp_path / "copy")
    (tmp_path / "copy" / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"metrics\.json: cannot be read"):
        load_run(tmp_path / "copy").training_metrics()


def test_the_record_is_plain_json(published: Path) -> None:
    record = json.loads((published / "weights" / KINDS / "metrics.json").read_text())
    assert record["split"] == {"train": 72, "validation": 6, "calibration": 3, "test": 9}
    assert record["test"]["count"] == 9
    assert record["parameters"] == sum(
        p.numel() for p in load_run(published / "weights" / KINDS).predictor().parameters()
    )
