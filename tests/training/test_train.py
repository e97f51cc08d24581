"""Training: run folders, going on after a stop, and what is refused."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from halometry.datasets.generate import simulate
from halometry.errors import (
    DataError,
    HalometryError,
    RunError,
    UsageError,
)
from halometry.evaluation.figures import learning_figure
from halometry.runs.run import HISTORY, METRICS, WEIGHTS, load_run, read_config, write_config
from halometry.training.module import Learner
from halometry.training.train import train

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "channels_last": True}
SMALL = "mobilenetv3_small"


@pytest.fixture(scope="module")
def run(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    return train("classification", lenses, SMALL, out, overrides=QUICK).path


def test_a_run_folder_holds_what_is_needed_and_no_pickle(run: Path) -> None:
    names = {p.name for p in run.iterdir()}
    expected = {"config.yaml", "weights.safetensors", "split.json", "history.csv", "metrics.json"}
    assert names == expected | {"conformal.json", "tensorboard"}
    for file in run.iterdir():
        if file.is_file():
            assert file.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"PK")


def test_a_run_predicts_from_its_folder_alone(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    run.rename(moved)
    try:
        predictor = load_run(moved).predictor()
        with torch.inference_mode():
            answers = predictor(torch.rand(2, 1, 48, 48) * 900)
        torch.testing.assert_close(answers.sum(1), torch.ones(2))
    finally:
        moved.rename(run)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("backbone", ["mobilenetv3_small", "resnet18", "efficientnet_b5"])
def test_every_published_network_trains_for_both_tasks(
    lenses: Path, masses: Path, tmp_path: Path, task: Any, backbone: str
) -> None:
    data = lenses if task == "classification" else masses
    overrides = QUICK | {"batch_size": 36, "size": 32}
    run = train(task, data, backbone, tmp_path / "run", overrides=overrides)
    assert run.config.n_outputs == (3 if task == "classification" else 1)
    history = (run.path / "history.csv").read_text().splitlines()
    assert len(history) == 2
    assert (run.path / WEIGHTS).stat().st_size > 1_000_000


def test_the_baseline_runs_to_the_letter_where_no_weights_are_fetched(
    lenses: Path, masses: Path, tmp_path: Path
) -> None:
    train("classification", lenses, SMALL, tmp_path / "a", "baseline", {"epochs": 1})
    config = read_config(tmp_path / "a")
    assert (config.preprocessing.size, config.preprocessing.channels) == (224, 3)
    overrides = {"epochs": 1, "pretrained": False, "target": "log"}
    run = train("regression", masses, SMALL, tmp_path / "b", "baseline", overrides)
    assert run.config.target.transform == "log"
    assert run.config.preprocessing.size == 150


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    lenses: Path, tmp_path: Path
) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("classification", lenses, SMALL, tmp_path / name, overrides=QUICK, seed=seed)
        weights.append(load_file(tmp_path / name / WEIGHTS)["head.0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_finished_run_is_kept(run: Path, lenses: Path) -> None:
    before = (run / WEIGHTS).stat().st_mtime_ns
    train("classification", lenses, SMALL, run, overrides=QUICK)
    assert (run / WEIGHTS).stat().st_mtime_ns == before


def test_another_run_in_the_folder_is_refused(run: Path, lenses: Path) -> None:
    with pytest.raises(RunError, match="holds another run \\(its seed and recipe differ\\)"):
        train("classification", lenses, SMALL, run, overrides={"epochs": 2}, seed=1)
    with pytest.raises(RunError, match="its backbone differ"):
        train("classification", lenses, "resnet18", run, overrides=QUICK)


def test_overwrite_throws_the_other_run_away(lenses: Path, tmp_path: Path) -> None:
    train("classification", lenses, SMALL, tmp_path / "a", overrides=QUICK)
    train("classification", lenses, SMALL, tmp_path / "a", overrides=QUICK, seed=1, overwrite=True)
    assert read_config(tmp_path / "a").seed == 1


@pytest.mark.parametrize("name", ["thesis.tex", "config.yaml"])
def test_a_folder_of_something_else_is_not_touched(lenses: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious: true")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="is not empty and not a run folder; choose another"):
            train("classification", lenses, SMALL, tmp_path, overrides=QUICK, overwrite=overwrite)
    assert (tmp_path / name).exists()


def test_overwrite_throws_nothing_away_for_a_run_that_cannot_be(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    hidden = QUICK | {"head_hidden": (4,)}
    other = train("classification", lenses, SMALL, tmp_path / "other", overrides=hidden).path
    pretrained = {"backbone": "d4net", "overrides": {"pretrained": True}}
    for wrong in ({"data": tmp_path / "gone.h5"}, {"backbone": "resnet81"}, {"start": run},
                  {"start": other}, pretrained):  # fmt: skip
        usual = {"task": "classification", "data": lenses, "backbone": SMALL, "out": run}
        with pytest.raises(HalometryError):
            train(**(usual | wrong), overwrite=True)
        load_run(run).predictor()


def test_a_run_without_its_end_is_not_taken_for_finished(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / METRICS).unlink()
    with pytest.raises(RunError, match="training has not finished; repeat its 'train'"):
        load_run(copy)


def test_a_start_that_saw_the_test_images_is_refused(
    run: Path, lenses: Path, tmp_path: Path
) -> None:
    words = r"--start .*: it has learnt from \d+ of the \d+ images .* \(--seed 0\), or train on"
    with pytest.raises(UsageError, match=words):
        train("classification", lenses, SMALL, tmp_path / "b", overrides=QUICK, seed=1, start=run)
    larger = simulate("demo_classification", 120, seed=1, out=tmp_path / "larger.h5")
    with pytest.raises(UsageError, match="--start .*: it has learnt from"):
        train("classification", larger, SMALL, tmp_path / "b", overrides=QUICK, start=run)


def test_a_network_for_one_size_says_so(lenses: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot take images of 48 x 48 .* try --set size=224"):
        train("classification", lenses, "vit_tiny_patch16_224", tmp_path / "a", overrides=QUICK)


def test_weights_of_another_run_are_where_training_begins(
    run: Path, lenses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = QUICK | {"learning_rate": 1e-12, "warmup": 0.0, "weight_decay": 0.0, "stretch": "log"}
    second = train("classification", lenses, SMALL, tmp_path / "b", overrides=still, start=run)
    assert "has learnt with stretch=sqrt; here it is otherwise" in capsys.readouterr().err
    first = load_file(run / WEIGHTS)["head.0.weight"]
    torch.testing.assert_close(load_file(second.path / WEIGHTS)["head.0.weight"], first)
    assert "weights of the run" in second.config.initial_weights
    with pytest.raises(RunError, match="is a mobilenetv3_small, not a resnet18"):
        train("classification", lenses, "resnet18", tmp_path / "c", start=run)


def test_a_deeper_network_begins_from_a_shallower_one(lenses: Path, tmp_path: Path) -> None:
    start = train("classification", lenses, "d4net", tmp_path / "d4net", overrides=QUICK)
    still = QUICK | {"learning_rate": 1e-12, "warmup": 0.0, "weight_decay": 0.0}
    deep = train(
        "classification", lenses, "d4net_deep", tmp_path / "deep", overrides=still, start=start.path
    )
    before, after = load_file(start.path / WEIGHTS), load_file(deep.path / WEIGHTS)
    assert {key.split(".")[3] for key in after.keys() - before.keys()} == {"blocks"}
    torch.testing.assert_close(after["head.0.weight"], before["head.0.weight"])
    assert deep.config.initial_weights.endswith(", with further blocks")
    with pytest.raises(RunError, match="does not fit this network"):
        train(
            "classification", lenses, "d4net_deep", tmp_path / "dropout",
            overrides=still | {"head_dropout": 0.2}, start=start.path,
        )  # fmt: skip
    with pytest.raises(RunError, match="is a d4net_deep, not a d4net; see --start"):
        train("classification", lenses, "d4net", tmp_path / "back", start=deep.path)


def test_a_run_goes_on_on_another_device(
    lenses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("classification", lenses, SMALL, tmp_path / "run", overrides=QUICK, device="cpu")
    (run.path / METRICS).unlink()  # as if it had been killed, on a machine with a GPU
    config = run.config.model_copy(
        update={"execution": run.config.execution.model_copy(update={"device": "cuda"})}
    )
    write_config(run.path, config)
    again = train("classification", lenses, SMALL, run.path, overrides=QUICK, device="cpu")
    assert again.config.execution.device == "cpu"
    assert "was begun on cuda, and goes on on cpu" in capsys.readouterr().err


def test_stopped_early_it_stays_stopped_where_it_is_repeated(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = QUICK | {"epochs": 40, "early_stopping_patience": 1, "learning_rate": 1e-12}

    def killed(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr("halometry.training.trainer._finish", killed)
        train("classification", lenses, SMALL, tmp_path / "run", overrides=options)
    before = (tmp_path / "run" / HISTORY).read_text()
    run = train("classification", lenses, SMALL, tmp_path / "run", overrides=options)
    assert (run.path / HISTORY).read_text() == before
    assert run.training_metrics()["stopped"] == "early"


def test_a_loss_without_bounds_is_not_the_end_of_patience(
    lenses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Learner.on_validation_epoch_end, list[int]()

    def once_infinite(self: Learner) -> None:
        seen.append(1)
        if len(seen) == 2:
            self._val_loss = math.inf
        original(self)

    monkeypatch.setattr(Learner, "on_validation_epoch_end", once_infinite)
    options = QUICK | {"epochs": 4, "early_stopping_patience": 5}
    run = train("classification", lenses, SMALL, tmp_path / "a", overrides=options)
    with (run.path / HISTORY).open(newline="") as file:
        lines = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [math.isinf(line["val_loss"]) for line in lines] == [False, True, False, False]
    assert run.training_metrics()["stopped"] != "early"
    assert learning_figure({"a": lines}, "AUC").axes[0].get_ylim()[1] < math.inf


def test_early_stopping_stops(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"epochs": 40, "early_stopping_patience": 1, "learning_rate": 1e-12}
    run = train("classification", lenses, SMALL, tmp_path / "a", overrides=options)
    assert len((run.path / "history.csv").read_text().splitlines()) < 40
    assert '"stopped": "early"' in (run.path / "metrics.json").read_text()


def test_a_time_budget_reduces_the_steps_at_the_start(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"epochs": 1000, "max_seconds": 0.5}
    run = train("classification", lenses, SMALL, tmp_path / "a", overrides=options)
    assert run.config.steps < 200


def test_a_diverging_run_says_so(lenses: Path, tmp_path: Path) -> None:
    options = QUICK | {"learning_rate": 1.0, "optimizer": "sgd", "warmup": 0.0, "epochs": 9}
    options |= {"gradient_clip": None, "batch_size": 4}
    with pytest.raises(DataError, match=r"the training loss became .*lower the learning rate"):
        train("regression", simulate("demo_mass", 60, out=tmp_path / "m.h5"), SMALL,
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
    with pytest.raises(RunError, match=r"is not a run folder \(config\.yaml is of something else"):
        load_run(copy)
    (copy / "config.yaml").write_text(config + "\nmistake: 1\n")
    with pytest.raises(RunError, match="unknown key 'mistake'"):
        load_run(copy)
