"""`train`: run folders, resumed runs, initial weights, early stopping."""

from __future__ import annotations

import csv
import math
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from halometry.datasets.generate import simulate
from halometry.errors import ChanceWarning, DataError, HalometryError, RunError, UsageError
from halometry.runs.run import HISTORY, METRICS, WEIGHTS, load_run, read_config, write_config
from halometry.training.module import TrainingModule
from halometry.training.train import train

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "channels_last": True}
SMALL = "mobilenetv3_small"
TINY = "test_resnet"


def test_run_folder_holds_what_is_needed_and_no_pickle(run: Path) -> None:
    names = {p.name for p in run.iterdir()}
    expected = {"config.yaml", "weights.safetensors", "split.json", "history.csv"}
    expected |= {"history.csv.json", "metrics.json", "conformal.json", "tensorboard"}
    assert names == expected
    for file in run.iterdir():
        if file.is_file():
            assert file.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"PK")


def test_run_without_tensorboard_has_its_history(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ChanceWarning)
        run = train("classification", lenses, TINY, tmp_path / "run", overrides=QUICK)
    assert not (run.path / "tensorboard").exists()
    assert len((run.path / HISTORY).read_text().splitlines()) > 1


def test_moved_run_predicts(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    run.rename(moved)
    try:
        predictor = load_run(moved).predictor()
        with torch.inference_mode():
            outputs = predictor(torch.rand(2, 1, 48, 48) * 900)
        torch.testing.assert_close(outputs.sum(1), torch.ones(2))
    finally:
        moved.rename(run)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    "backbone",
    ["mobilenetv3_small", "resnet18", pytest.param("efficientnet_b5", marks=pytest.mark.slow)],
)
def test_published_network_trains_for_both_tasks(
    lenses: Path, masses: Path, tmp_path: Path, task: Any, backbone: str
) -> None:
    data = lenses if task == "classification" else masses
    overrides = QUICK | {"batch_size": 36, "size": 32}
    run = train(task, data, backbone, tmp_path / "run", overrides=overrides)
    assert run.config.n_outputs == (3 if task == "classification" else 1)
    history = (run.path / "history.csv").read_text().splitlines()
    assert len(history) == 2
    assert (run.path / WEIGHTS).stat().st_size > 1_000_000


@pytest.mark.parametrize("backbone", [TINY, pytest.param(SMALL, marks=pytest.mark.slow)])
def test_baseline_recipe_trains_with_the_published_sizes(
    lenses: Path, masses: Path, tmp_path: Path, backbone: str
) -> None:
    options: dict[str, Any] = {"recipe": "baseline"}
    train("classification", lenses, backbone, tmp_path / "a", **options, overrides={"epochs": 1})
    config = read_config(tmp_path / "a")
    assert (config.preprocessing.size, config.preprocessing.channels) == (224, 3)
    overrides = {"epochs": 1, "pretrained": False, "target": "log"}
    run = train("regression", masses, SMALL, tmp_path / "b", **options, overrides=overrides)
    assert run.config.target.transform == "log"
    assert run.config.preprocessing.size == 150


def test_weights_follow_from_the_seed(lenses: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("classification", lenses, TINY, tmp_path / name, overrides=QUICK, seed=seed)
        weights.append(load_file(tmp_path / name / WEIGHTS)["head.0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_finished_run_is_returned_unchanged(run: Path, lenses: Path) -> None:
    before = (run / WEIGHTS).stat().st_mtime_ns
    train("classification", lenses, SMALL, run, overrides=QUICK)
    assert (run / WEIGHTS).stat().st_mtime_ns == before


def test_folder_of_another_run_is_refused(run: Path, lenses: Path) -> None:
    with pytest.raises(RunError, match="holds another run \\(its seed and recipe differ\\)"):
        train("classification", lenses, SMALL, run, overrides={"epochs": 2}, seed=1)
    with pytest.raises(RunError, match="its backbone differ"):
        train("classification", lenses, "resnet18", run, overrides=QUICK)


def test_overwrite_replaces_another_run(run: Path, lenses: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "a")
    train("classification", lenses, TINY, tmp_path / "a", overrides=QUICK, seed=1, overwrite=True)
    assert read_config(tmp_path / "a").backbone == TINY
    assert read_config(tmp_path / "a").seed == 1


@pytest.mark.parametrize("name", ["thesis.tex", "config.yaml"])
def test_folder_with_other_files_is_refused_and_kept(
    lenses: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("precious: true")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="is not empty and not a run folder; choose another"):
            train("classification", lenses, SMALL, tmp_path, overrides=QUICK, overwrite=overwrite)
    assert (tmp_path / name).exists()


def test_overwrite_keeps_the_run_if_the_new_one_is_impossible(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    hidden = QUICK | {"head_hidden": (4,)}
    other = train("classification", lenses, SMALL, tmp_path / "other", overrides=hidden).path
    pretrained = {"backbone": "d4net", "overrides": {"pretrained": True}}
    for wrong in ({"data": tmp_path / "gone.h5"}, {"backbone": "resnet81"}, {"init_from": run},
                  {"init_from": other}, pretrained):  # fmt: skip
        usual = {"task": "classification", "data": lenses, "backbone": SMALL, "out": run}
        with pytest.raises(HalometryError):
            train(**(usual | wrong), overwrite=True)
        load_run(run).predictor()


def test_run_without_metrics_is_not_finished(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / METRICS).unlink()
    with pytest.raises(RunError, match="training has not finished; repeat its 'train'"):
        load_run(copy)


def test_initial_run_that_saw_evaluation_images_is_refused(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    message = r"--init-from .*: was trained on \d+ of the \d+ .* \(--seed 0\), or train on other"
    with pytest.raises(UsageError, match=message):
        train(
            "classification", lenses, SMALL, tmp_path / "b", overrides=QUICK, seed=1, init_from=run
        )
    larger = simulate("demo_classification", 120, seed=1, out=tmp_path / "larger.h5")
    with pytest.raises(UsageError, match="--init-from .*: was trained on"):
        train("classification", larger, SMALL, tmp_path / "b", overrides=QUICK, init_from=run)


def test_network_for_another_image_size_is_refused(lenses: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot take images of 48 x 48 .* try --set size=224"):
        train("classification", lenses, "vit_tiny_patch16_224", tmp_path / "a", overrides=QUICK)


def test_training_begins_with_the_weights_of_the_initial_run(
    run: Path, lenses: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    still = QUICK | {"learning_rate": 1e-12, "warmup": 0.0, "weight_decay": 0.0, "stretch": "log"}
    second = train("classification", lenses, SMALL, tmp_path / "b", overrides=still, init_from=run)
    assert "was trained with stretch=sqrt; the recipe differs" in caplog.text
    first = load_file(run / WEIGHTS)["head.0.weight"]
    torch.testing.assert_close(load_file(second.path / WEIGHTS)["head.0.weight"], first)
    assert "weights of the run" in second.config.initial_weights
    with pytest.raises(RunError, match="is a mobilenetv3_small, not a resnet18"):
        train("classification", lenses, "resnet18", tmp_path / "c", init_from=run)


def test_deeper_network_begins_with_the_weights_of_a_shallower_one(
    lenses: Path, tmp_path: Path
) -> None:
    quick = QUICK | {"size": 24, "online_fraction": 0, "aux_loss_weight": 0}
    start = train("classification", lenses, "d4net", tmp_path / "d4net", overrides=quick)
    still = quick | {"learning_rate": 1e-12, "warmup": 0.0, "weight_decay": 0.0}
    deep = train(
        "classification",
        lenses,
        "d4net_deep",
        tmp_path / "deep",
        overrides=still,
        init_from=start.path,
    )
    before, after = load_file(start.path / WEIGHTS), load_file(deep.path / WEIGHTS)
    assert {key.split(".")[3] for key in after.keys() - before.keys()} == {"blocks"}
    torch.testing.assert_close(after["head.0.weight"], before["head.0.weight"])
    assert deep.config.initial_weights.endswith(", with further blocks")
    with pytest.raises(RunError, match="does not fit this network"):
        train(
            "classification", lenses, "d4net_deep", tmp_path / "dropout",
            overrides=still | {"head_dropout": 0.2}, init_from=start.path,
        )  # fmt: skip
    with pytest.raises(RunError, match="is a d4net_deep, not a d4net; see --init-from"):
        train("classification", lenses, "d4net", tmp_path / "back", init_from=deep.path)


def test_run_is_resumed_on_another_device(
    lenses: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="halometry")
    run = train("classification", lenses, TINY, tmp_path / "run", overrides=QUICK, device="cpu")
    (run.path / METRICS).unlink()  # as if it had been killed, on a machine with a GPU
    config = run.config.model_copy(
        update={"execution": run.config.execution.model_copy(update={"device": "cuda"})}
    )
    write_config(run.path, config)
    again = train("classification", lenses, TINY, run.path, overrides=QUICK, device="cpu")
    assert again.config.execution.device == "cpu"
    assert "was begun on cuda, and goes on on cpu" in caplog.text


def test_run_stopped_early_stays_stopped_when_resumed(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = QUICK | {"epochs": 40, "early_stopping_patience": 1, "learning_rate": 1e-12}

    def fail(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr("halometry.training.trainer._finish", fail)
        train("classification", lenses, TINY, tmp_path / "run", overrides=options)
    before = (tmp_path / "run" / HISTORY).read_text()
    run = train("classification", lenses, TINY, tmp_path / "run", overrides=options)
    assert (run.path / HISTORY).read_text() == before
    assert run.training_metrics()["stopped"] == "early"


def test_infinite_validation_loss_does_not_stop_early(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = TrainingModule.on_validation_epoch_end, list[int]()

    def infinite_once(self: TrainingModule) -> None:
        calls.append(1)
        if len(calls) == 2:
            self._val_loss = math.inf
        original(self)

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", infinite_once)
    options = QUICK | {"epochs": 4, "early_stopping_patience": 5}
    run = train("classification", lenses, TINY, tmp_path / "a", overrides=options)
    with (run.path / HISTORY).open(newline="") as file:
        lines = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [math.isinf(line["val_loss"]) for line in lines] == [False, True, False, False]
    assert run.training_metrics()["stopped"] != "early"


def test_early_stopping_ends_training(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"epochs": 40, "early_stopping_patience": 1, "learning_rate": 1e-12}
    run = train("classification", lenses, TINY, tmp_path / "a", overrides=options)
    assert len((run.path / "history.csv").read_text().splitlines()) < 40
    assert '"stopped": "early"' in (run.path / "metrics.json").read_text()


def test_diverging_training_is_an_error(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"learning_rate": 1.0, "optimizer": "sgd", "warmup": 0.0, "epochs": 9}
    options |= {"gradient_clip": None, "batch_size": 4}
    with pytest.raises(DataError, match=r"the training loss became .*lower the learning rate"):
        train("regression", simulate("demo_mass", 60, out=tmp_path / "m.h5"), TINY,
              tmp_path / "run", overrides=options)  # fmt: skip


def test_damaged_run_folders_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder; give the folder that 'halometry train'"):
        load_run(tmp_path / "gone")
    with pytest.raises(RunError, match=r"is not a run folder \(it has no config\.yaml\)"):
        load_run(tmp_path)
    with pytest.raises(RunError, match="is a run for classification, not for regression"):
        load_run(run, "regression")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    whole = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"weights\.safetensors: cannot be read"):
        load_run(copy).predictor()
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(
        config.replace("backbone: mobilenetv3_small", "backbone: resnet18")
    )
    (copy / WEIGHTS).write_bytes(whole)
    with pytest.raises(RunError, match="does not fit this network"):
        load_run(copy).predictor()
    (copy / "config.yaml").write_text("format: something-else\n")
    with pytest.raises(RunError, match="is not a halometry-run file"):
        load_run(copy)
    (copy / "config.yaml").write_text(config + "\nmistake: 1\n")
    with pytest.raises(RunError, match="unknown key 'mistake'"):
        load_run(copy)
