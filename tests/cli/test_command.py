"""The command as a user types it: its results, its output and the files that it writes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from halometry.demo import NETWORKS
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


@pytest.mark.parametrize(
    "networks", [("test_resnet",), pytest.param(NETWORKS, marks=pytest.mark.slow)]
)
def test_demo_writes_a_report_and_keeps_finished_work(
    command: Command, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    networks: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setattr("halometry.demo.NETWORKS", networks)
    monkeypatch.setattr("halometry.demo.BUNDLED_PRESETS", ("demo_mass", "halo_mass"))
    monkeypatch.setattr("halometry.demo.BUNDLED_TEST_IMAGES", 30)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "name: tiny\ndescription: A test.\nscale: minmax\nepochs: 1\nsize: 32\n"
        "precision: float32\nchannels_last: true\ntta: false\n"
        "regression: {standardize_target: true}\n"
    )
    out = tmp_path / "demo"
    words = ("demo", "--out", out, "--count", 60, "--recipe", recipe)
    first = command(*words)
    assert first.status == 0
    assert first.out.rstrip().endswith(f"report: {out / 'report.html'}")
    assert all(first.out.count(name) >= 2 for name in networks)
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "several times heavier" in report
    assert "bundled weights on 30 new images of demo_mass" in first.out
    assert '<a href="#bundled">' in report
    assert "demo_mass: regression, 30 images, seed 1000001" in report
    assert "halo_mass" not in report
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert len(weights) == 2 * len(networks)
    other_count = command("demo", "--out", out, "--count", 90, "--recipe", recipe)
    assert other_count.status == 2
    assert "holds a demonstration with --count 60 --seed 1; give the same" in other_count.err
    for function in ("evaluation.evaluate.write_evaluation", "compare.compare.write_comparison"):
        monkeypatch.setattr(f"halometry.{function}", lambda *_: None)  # not written again
    second = command(*words)
    assert second.status == 0
    assert weights == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


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
