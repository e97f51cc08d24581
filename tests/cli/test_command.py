"""The command as a user types it: its results, its output and the files that it writes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.terminal import QUICK, Command


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_simulate_train_evaluate_predict_show(command: Command, tmp_path: Path) -> None:
    dataset, run, table = tmp_path / "l.h5", tmp_path / "run", tmp_path / "p.csv"
    simulated = command(
        "simulate", "demo_classification", "--count", 60, "--seed", 1, "--out", dataset
    )
    text = f"60 images -> {dataset}, with l.shards/ beside it\n"
    assert (simulated.status, simulated.out) == (0, text)
    trained = command("train", "--task", "classification", "--data", dataset,
                      "--backbone", "mobilenetv3_small", "--out", run, *QUICK)  # fmt: skip
    assert trained.status == 0
    assert f"halometry evaluate {run} --data {dataset} --out {run}/evaluation" in trained.out
    evaluated = command("evaluate", run, "--data", dataset, "--out", tmp_path / "evaluation")
    assert evaluated.status == 0
    assert "accuracy" in evaluated.out
    assert (tmp_path / "evaluation" / "metrics.json").exists()
    predicted = command("predict", run, dataset, "--out", table)
    assert "probability" in predicted.out
    assert predicted.out.endswith(f"\n60 of 60 predicted -> {table}\n")
    assert len(read_rows(table)) == 60
    shown = command("show", dataset, "--out", tmp_path / "m.png", "--count", 3)
    assert shown.status == 0
    assert (tmp_path / "m.png").exists()


def test_published_run_is_listed_and_used_by_name(
    command: Command, shipped: Path, lenses: Path, tmp_path: Path
) -> None:
    run, folder = shipped / "runs" / "demo_classification", tmp_path / "mine"
    published = command("publish", run, "--data", lenses, "--out", folder, "--license", "mit")
    assert published.status == 0
    assert "half precision changed no prediction by more than" in published.out
    assert published.out.endswith(f"weights and card -> {folder}\n")
    assert "model-index" in command("weights", folder).out
    listed = command("weights").out
    for text in ("demo_classification/tiny", "AUC", "0.37 M", "demo_mass/tiny", "R²"):
        assert text in listed
    name, table = "demo_classification/tiny", tmp_path / "p.csv"
    predicted = command("predict", name, lenses, "--out", table).out
    assert predicted.endswith(f"\n90 of 90 predicted -> {table}\n")
    misspelled = command("predict", "demo_classification/tinny", lenses)
    assert misspelled.status == 1
    assert "did you mean 'demo_classification/tiny'?" in misspelled.err
    incomplete = command("predict", "hf://lenses", lenses)
    assert incomplete.status == 2
    assert "write it as hf://USER/REPO" in incomplete.err


def test_ctrl_c_prints_how_to_continue(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("halometry.simulation.preset_text", interrupt)
    stopped = command("presets", "model_1")
    assert (stopped.status, stopped.err.strip()) == (130, "stopped")
    monkeypatch.setattr("halometry.datasets.generate.simulate", interrupt)
    words = ("simulate", "demo_mass", "--count", 4, "--out", tmp_path / "a.h5")
    stopped = command(*words)
    assert stopped.status == 130
    assert stopped.err.endswith("stopped; repeat the same command to continue\n")
    stopped = command(*words, "--overwrite")
    assert stopped.err.endswith("repeat the same command to continue, without --overwrite\n")


def test_prediction_does_not_import_packages_for_training(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).poisson(50.0, (150, 150)))
    code = (
        "import sys, halometry; halometry.predict('common_test_1/d4net', sys.argv[1]);"
        "print({'timm', 'lightning', 'torchvision', 'matplotlib', 'astropy'} & {*sys.modules})"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.npy")]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
