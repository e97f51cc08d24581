"""The command as a user types it: what it does, prints and leaves behind."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import halometry
from helpers.terminal import QUICK, Command


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_from_images_to_answers(command: Command, tmp_path: Path) -> None:
    store, run = tmp_path / "l.h5", tmp_path / "run"
    made = command("simulate", "demo_classification", "--count", 60, "--seed", 1, "--out", store)
    assert (made.status, made.out) == (0, f"60 images -> {store}, with l.shards/ beside it\n")
    trained = command("train", "--task", "classification", "--data", store,
                      "--backbone", "mobilenetv3_small", "--out", run, *QUICK)  # fmt: skip
    assert trained.status == 0
    assert f"halometry evaluate {run} --data {store} --out {run}/evaluation" in trained.out
    judged = command("evaluate", run, "--data", store, "--out", tmp_path / "judged")
    assert judged.status == 0
    assert "accuracy" in judged.out
    assert (tmp_path / "judged" / "metrics.json").exists()
    answered = command("predict", run, store, "--out", tmp_path / "p.csv")
    assert "probability" in answered.out
    assert answered.out.endswith(f"\n60 of 60 answered -> {tmp_path / 'p.csv'}\n")
    assert len(rows_of(tmp_path / "p.csv")) == 60
    drawn = command("show", store, "--out", tmp_path / "m.png", "--count", 3)
    assert drawn.status == 0


def test_the_demonstration_goes_through_and_is_not_repeated(
    command: Command, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halometry.demo.SHOWN", ("demo_mass", "halo_mass"))
    monkeypatch.setattr("halometry.demo.COUNT", 30)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "name: tiny\ndescription: A test.\nscale: minmax\nepochs: 1\nsize: 32\n"
        "precision: float32\nchannels_last: true\nregression: {standardize_target: true}\n"
    )
    out = tmp_path / "demo"
    words = ("demo", "--out", out, "--count", 60, "--recipe", recipe)
    first = command(*words)
    assert first.status == 0
    assert first.out.rstrip().endswith(f"report: {out / 'report.html'}")
    assert first.out.count("efficientnet_b5") >= 2
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "several times heavier" in page
    assert "trained weights on 30 new images of demo_mass" in first.out
    assert '<a href="#trained">' in page
    assert "demo_mass: regression, 30 images, seed 1000001" in page
    assert "halo_mass" not in page
    weights = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert len(weights) == 8
    other = command("demo", "--out", out, "--count", 90, "--recipe", recipe)
    assert other.status == 2
    assert "holds a demonstration with --count 60 --seed 1; give the same to go on" in other.err
    second = command(*words)
    assert second.status == 0
    assert weights == {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}


def test_a_run_is_published_listed_and_used_by_name(
    command: Command, shipped: Path, lenses: Path, tmp_path: Path
) -> None:
    run, to = shipped / "runs" / "demo_classification", tmp_path / "mine"
    made = command("publish", run, "--data", lenses, "--to", to, "--license", "mit")
    assert made.status == 0
    assert "half precision changed no answer by more than" in made.out
    assert made.out.endswith(f"weights and card -> {to}\n")
    assert "model-index" in command("weights", to).out
    listed = command("weights").out
    for words in ("demo_classification/tiny", "AUC", "0.37 M", "demo_mass/tiny", "R²"):
        assert words in listed
    name, out = "demo_classification/tiny", tmp_path / "p.csv"
    said = command("predict", name, lenses, "--out", out).out
    assert said.endswith(f"\n90 of 90 answered -> {out}\n")
    wrong = command("predict", "demo_classification/tinny", lenses)
    assert (wrong.status, "did you mean 'demo_classification/tiny'?" in wrong.err) == (1, True)
    nowhere = command("predict", "hf://lenses", lenses)
    assert (nowhere.status, "write it as hf://USER/REPO" in nowhere.err) == (2, True)


def test_ctrl_c_says_how_to_go_on(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("halometry.simulation.preset_text", interrupted)
    stopped = command("presets", "model_1")
    assert (stopped.status, stopped.err.strip()) == (130, "stopped")
    monkeypatch.setattr("halometry.datasets.generate.simulate", interrupted)
    stopped = command("simulate", "demo_mass", "--count", 4, "--out", tmp_path / "a.h5")
    assert stopped.status == 130
    assert "repeat the same command to go on" in stopped.err
    stopped = command("simulate", "demo_mass", "--out", tmp_path / "a.h5", "--overwrite")
    assert "go on, without --overwrite" in stopped.err


VERBS = ("simulate", "train", "evaluate", "compare", "predict", "calibrate", "population",
         "robustness", "sensitivity", "fit", "map", "export", "publish", "show", "backbones",
         "instruments", "presets", "recipes", "weights", "doctor", "demo")  # fmt: skip


def test_help_is_quick_and_names_every_verb() -> None:
    script = shutil.which("halometry", path=str(Path(sys.executable).parent))
    words = [script] if script else [sys.executable, "-m", "halometry"]
    shown = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True)
    for verb in VERBS:
        assert verb in shown.stdout
    code = "import sys, halometry.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_prediction_waits_for_nothing_that_only_training_needs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).poisson(50.0, (150, 150)))
    code = (
        "import sys, halometry; halometry.predict('common_test_1/d4net', sys.argv[1]);"
        "print({'timm', 'lightning', 'torchvision', 'matplotlib', 'astropy'} & {*sys.modules})"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.npy")]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_every_verb_is_a_function_of_the_package() -> None:
    for verb in VERBS:
        assert callable(getattr(halometry, verb))
