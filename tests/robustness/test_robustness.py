"""Runs whose answers are known, on images that move away from their training preset."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halometry.errors import RunError, UsageError
from halometry.ood.detector import Novelty
from halometry.robustness.command import measure_robustness
from halometry.runs.run import Run, load_run
from halometry.simulation import load_preset, sample


@dataclass(frozen=True)
class KnownRun(Run):
    """A run for the demonstration's preset whose answers are a function of the images."""

    answer: Callable[[np.ndarray], np.ndarray] = np.asarray

    def answerer(self, *_: Any, **__: Any) -> Callable[[np.ndarray], np.ndarray]:
        return self.answer


def known(answer: Callable[[np.ndarray], np.ndarray], **changes: object) -> KnownRun:
    run = load_run("common_test_1/d4net")
    update = {"preset": "demo_classification", "path": "gone", "shape": (1, 48, 48), **changes}
    data = run.config.data.model_copy(update=update)
    config = run.config.model_copy(update={"data": data})
    return KnownRun(Path("gone"), config, "runs/known", answer)


class Oracle:
    """Right of every image with a confidence of 0.9, for classes come in turn."""

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        which = (self.seen + np.arange(len(images))) % self.count % 3
        self.seen += len(images)
        return np.where(np.arange(3) == which[:, None], 0.9, 0.05)


class BrightSky:
    """Finds images unusual whose sky is brighter than 20 counts."""

    def see(self, images: np.ndarray) -> None:
        self.seen = images

    def judge(self) -> list[Novelty]:
        bright = np.quantile(self.seen, 0.1, axis=(1, 2, 3)) > 20
        return [Novelty(0, 2, "light") if one else Novelty(1, 0, None) for one in bright]


def test_a_run_that_sees_all_is_robust_and_underconfident() -> None:
    found = measure_robustness(known(Oracle(45)), count=45, shifts=["sky", "psf"], resamples=50)
    assert [(step.shift, step.factor) for step in found.steps] == [
        *(("sky", factor) for factor in (0.25, 0.5, 2, 4)),
        *(("psf", factor) for factor in (0.5, 0.75, 1.5, 2)),
    ]
    for step in (found.unshifted, *found.steps):
        assert step.metrics["auc"].value == 1
        assert step.metrics["ece"].value == pytest.approx(0.1)
        assert "unlike" not in step.metrics
    assert all(step.change is not None and step.change.value == 0 for step in found.steps)
    assert found.unshifted.change is None


def by_brightness(images: np.ndarray) -> np.ndarray:
    """Classes told by the darkest tenth of an image: only the sky changes the answers."""
    dark = np.quantile(images, 0.1, axis=(1, 2, 3))
    chance = 1 / (1 + np.exp(-(dark - 15)))
    return np.stack([chance, (1 - chance) / 2, (1 - chance) / 2], axis=1)


def test_only_the_shift_changes_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def looking(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return by_brightness(images)

    found = measure_robustness(known(looking), count=30, shifts=["sky"], seed=4, resamples=50)
    own, quarter, half, twice, four = seen
    expected, _ = sample(load_preset("demo_classification"), found.seed, 0, 30)
    np.testing.assert_array_equal(own, expected.numpy())
    means = [images.mean() for images in (quarter, half, own, twice, four)]
    np.testing.assert_allclose(np.diff(means), [2.5, 5, 10, 20], atol=0.3)
    # Of the first image, the same noise: only the sky's own differs.
    assert np.corrcoef(own[0].ravel(), half[0].ravel())[0, 1] > 0.99
    ece = {step.factor: step.metrics["ece"].value for step in found.steps}
    assert ece[4] == pytest.approx(2 / 3, abs=0.01)  # all called 'no', with certainty
    again = measure_robustness(known(by_brightness), count=30, shifts=["sky"], seed=4, resamples=50)
    assert again.steps == found.steps


def test_everything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(30)
    watch = BrightSky()
    monkeypatch.setattr(
        "halometry.robustness.command.watched",
        lambda *_: (lambda images: watch.see(images) or oracle(images), watch),
    )
    found = measure_robustness(known(Oracle(30)), tmp_path, 30, ["sky", "shear"], resamples=20)
    record = json.loads((tmp_path / "robustness.json").read_text())
    assert record["rows"][0] == ["shift", "times", "AUC", "ECE", "unlike", "change of AUC"]
    assert record["command"] == (
        "halometry robustness runs/known --count 30 --seed 0 --shifts sky,shear"
    )
    assert record["rows"][1][0] == "none: demo_classification"
    assert len(record["rows"]) == len(record["steps"]) + 1 == 10
    assert record["steps"][4]["metrics"]["unlike"]["value"] == 1
    assert record["steps"][1]["metrics"]["unlike"]["value"] < 1
    rows = list(csv.DictReader((tmp_path / "robustness.csv").read_text().splitlines()))
    assert [row["shift"] for row in rows] == ["none", *["sky"] * 4, *["shear"] * 4]
    assert float(rows[1]["ece"]) == pytest.approx(found.steps[0].metrics["ece"].value, rel=1e-5)
    assert (tmp_path / "robustness.png").stat().st_size > 10_000


def test_another_preset_may_be_moved_away_from() -> None:
    run = known(by_brightness, preset=None)
    with pytest.raises(RunError, match="was not simulated from a preset; say which .* --preset"):
        measure_robustness(run, count=30)
    found = measure_robustness(
        run, count=30, shifts=["sky"], resamples=20, preset="demo_classification"
    )
    assert found.preset.name == "demo_classification"
    assert found.command.endswith("--preset demo_classification --shifts sky")


def test_a_plan_without_a_step_is_refused() -> None:
    with pytest.raises(UsageError, match="--shifts: leaves nothing to judge runs/known by"):
        measure_robustness(known(by_brightness), count=30, shifts=[])


def test_masses_are_judged_by_their_errors() -> None:
    run = known(lambda images: np.full(len(images), 0.3), preset="demo_mass")
    config = run.config.model_copy(update={"task": "regression", "class_names": None})
    found = measure_robustness(replace(run, config=config), count=30, shifts=["psf"], resamples=50)
    assert set(found.unshifted.metrics) == {"mse", "rmse", "mae", "r2", "bias"}
    for step in found.steps:
        assert step.metrics["mse"].value == found.unshifted.metrics["mse"].value
        assert step.change is not None
        assert step.change.value == 0


def test_what_cannot_be_judged_is_said() -> None:
    with pytest.raises(RunError, match="runs/known: was trained on gone, which was not simulated"):
        measure_robustness(known(by_brightness, preset=None))
    with pytest.raises(
        RunError, match="each image of preset common_test_1 is 150 x 150 pixels, the"
    ):
        measure_robustness(known(by_brightness, preset="common_test_1"))
    with pytest.raises(UsageError, match="--shifts skye: unknown, did you mean 'sky'"):
        measure_robustness(known(by_brightness), shifts=["skye"])
    with pytest.raises(UsageError, match="--shifts background: the preset demo_classification has"):
        measure_robustness(known(by_brightness), shifts=["background"])
    with pytest.raises(UsageError, match="--count 5: must be at least 30"):
        measure_robustness(known(by_brightness), count=5)
