"""The demonstration: its first answer, its report, and the commands that it ends with."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import pytest

from halometry.demo import NETWORKS, TRAINED, apply_trained_weights
from helpers.terminal import Command


def test_trained_weights_predict_new_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "halometry")
    answers = apply_trained_weights(tmp_path / "new.h5", seed=1, device="cpu")
    right = [one.predicted[TRAINED].startswith(f"{one.truth} ") for one in answers]
    assert len(answers) == 12
    assert sum(right) >= 11
    assert (tmp_path / "new.png").stat().st_size > 10_000
    assert "image 11  true: vort    predicted: " in caplog.text


@pytest.mark.parametrize(
    "networks", [("test_resnet",), pytest.param(NETWORKS, marks=pytest.mark.slow)]
)
def test_demo_writes_a_report_and_keeps_finished_work(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks: tuple[str, ...]
) -> None:
    monkeypatch.setattr("halometry.demo.NETWORKS", networks)
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "demo"
    recipe.write_text(
        "name: tiny\ndescription: A test.\nstandardize: true\nepochs: 1\nsize: 32\n"
        "precision: float32\nchannels_last: true\nregression: {standardize_target: true}\n"
    )
    words = ("demo", "--out", out, "--count", 60, "--recipe", recipe)
    first = command(*words)
    assert first.status == 0
    assert "50 x 150. Their substructure is 4 times as heavy" in first.err
    assert f"  classification, {len(networks)} networks: " in first.err
    assert all(first.out.count(name) >= 2 for name in networks)
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "easier problem" in report
    assert "those of test images did not" in report
    assert report.count('alt="simulated lens, image ') == 12
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert len(weights) == 2 * len(networks)
    _, next_lines = first.out.split(f"report: {out / 'report.html'}\ncommands to try next:\n")
    commands = [shlex.split(line) for line in next_lines.splitlines()]
    assert [line[:2] for line in commands] == [
        ["halometry", w] for w in ("show", "evaluate", "fit")
    ]
    assert [command(*line[1:]).status for line in commands] == [0, 0, 0]
    other_count = command("demo", "--out", out, "--count", 90, "--recipe", recipe)
    assert other_count.status == 2
    assert "holds a demonstration with --count 60 --seed 1; give the same" in other_count.err
    for function in ("evaluation.evaluate.write_evaluation", "compare.compare.write_comparison"):
        monkeypatch.setattr(f"halometry.{function}", lambda *_: None)  # not written again
    assert command(*words).status == 0
    assert weights == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
