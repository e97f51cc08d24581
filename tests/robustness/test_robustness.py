"""`measure_robustness` with runs whose predictions are known functions of the images."""

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
from halometry.evaluation.bootstrap import Interval
from halometry.ood.detector import OODResult
from halometry.robustness.command import measure_robustness
from halometry.robustness.core import ShiftStep
from halometry.robustness.figure import robustness_figure
from halometry.runs.run import Run, load_run
from halometry.simulation import load_preset, sample

PRESET = "demo_classification"


@dataclass(frozen=True)
class FunctionRun(Run):
    """A run for the demo preset whose predictions are a function of the images."""

    predict: Callable[[np.ndarray], np.ndarray] = np.asarray

    def predict_fn(self, *_: Any, **__: Any) -> Callable[[np.ndarray], np.ndarray]:
        return self.predict


def function_run(predict: Callable[[np.ndarray], np.ndarray], **changes: object) -> FunctionRun:
    run = load_run("common_test_1/d4net")
    update = {"preset": PRESET, "path": "gone", "shape": (1, 48, 48), **changes}
    data = run.config.data.model_copy(update=update)
    config = run.config.model_copy(update={"data": data})
    return FunctionRun(Path("gone"), config, "runs/known", predict)


class Oracle:
    """Predicts the true class with a probability of 0.9; classes alternate in the images."""

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        true = (self.seen + np.arange(len(images))) % self.count % 3
        self.seen += len(images)
        return np.where(np.arange(3) == true[:, None], 0.9, 0.05)


def flag_bright_sky(images: np.ndarray) -> list[OODResult]:
    """Flag images whose sky is brighter than 20 counts as out of distribution."""
    is_bright = np.quantile(images, 0.1, axis=(1, 2, 3)) > 20
    return [OODResult(0, 2, "light") if bright else OODResult(1, 0, None) for bright in is_bright]


def by_sky(images: np.ndarray) -> np.ndarray:
    """Probabilities that depend on the darkest tenth of an image alone, that is on the sky."""
    dark = np.quantile(images, 0.1, axis=(1, 2, 3))
    probability = 1 / (1 + np.exp(-(dark - 15)))
    return np.stack([probability, (1 - probability) / 2, (1 - probability) / 2], axis=1)


def test_exact_predictions_are_robust_and_underconfident() -> None:
    run = function_run(Oracle(45))
    result = measure_robustness(run, count=45, shifts=["sky", "psf"], resamples=50)
    assert [(step.shift, step.factor) for step in result.steps] == [
        *(("sky", factor) for factor in (0.25, 0.5, 2, 4)),
        *(("psf", factor) for factor in (0.5, 0.75, 1.5, 2)),
    ]
    for step in (result.unshifted, *result.steps):
        assert step.metrics["auc"].value == 1
        assert step.metrics["ece"].value == pytest.approx(0.1)
        assert "ood_fraction" not in step.metrics
    assert all(step.change is not None and step.change.value == 0 for step in result.steps)
    assert result.unshifted.change is None


def test_steps_differ_by_the_shift_alone() -> None:
    seen: list[np.ndarray] = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return by_sky(images)

    options: dict[str, Any] = {"count": 30, "shifts": ["sky"], "seed": 4, "resamples": 50}
    result = measure_robustness(function_run(predict), **options)
    unshifted, quarter, half, twice, four = seen
    expected, _ = sample(load_preset(PRESET), result.seed, 0, 30)
    np.testing.assert_array_equal(unshifted, expected.numpy())
    means = [images.mean() for images in (quarter, half, unshifted, twice, four)]
    np.testing.assert_allclose(np.diff(means), [2.5, 5, 10, 20], atol=0.3)
    assert np.corrcoef(unshifted[0].ravel(), half[0].ravel())[0, 1] > 0.99  # the same noise
    ece = {step.factor: step.metrics["ece"].value for step in result.steps}
    assert ece[4] == pytest.approx(2 / 3, abs=0.01)  # all predicted as 'no', with certainty
    repeated = measure_robustness(function_run(by_sky), **options)
    assert repeated.steps == result.steps


def test_images_are_not_those_of_a_training_set() -> None:
    seen: list[np.ndarray] = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return by_sky(images)

    measure_robustness(function_run(predict), count=30, shifts=["sky"], seed=1, resamples=10)
    training, _ = sample(load_preset(PRESET), seed=1, start=0, count=30)
    evaluation = np.concatenate(seen[:1])
    distances = np.abs(evaluation[:, None] - training.numpy()[None]).max(axis=(2, 3, 4))
    assert distances.min() > 10


def test_result_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(30)
    monkeypatch.setattr(
        "halometry.robustness.command.predict_with_ood",
        lambda *_: lambda images: (oracle(images), flag_bright_sky(images)),
    )
    result = measure_robustness(
        function_run(Oracle(30)), out=tmp_path, count=30, shifts=["sky", "shear"], resamples=20
    )
    record = json.loads((tmp_path / "robustness.json").read_text())
    assert record["format"] == "halometry-robustness"
    assert "version" not in record
    assert record["rows"][0] == ["shift", "factor", "AUC", "ECE", "OOD fraction", "change of AUC"]
    assert record["command"] == (
        "halometry robustness runs/known --count 30 --seed 0 --shifts sky,shear"
    )
    assert record["rows"][1][0] == f"none: {PRESET}"
    assert len(record["rows"]) == len(record["steps"]) + 1 == 10
    assert record["steps"][4]["metrics"]["ood_fraction"]["value"] == 1
    assert record["steps"][1]["metrics"]["ood_fraction"]["value"] < 1
    rows = list(csv.DictReader((tmp_path / "robustness.csv").read_text().splitlines()))
    assert [row["shift"] for row in rows] == ["none", *["sky"] * 4, *["shear"] * 4]
    assert float(rows[1]["ece"]) == pytest.approx(result.steps[0].metrics["ece"].value, rel=1e-5)
    assert (tmp_path / "robustness.png").stat().st_size > 10_000


def test_figure_shows_the_metrics_at_their_factors() -> None:
    def step(shift: str | None, factor: float, auc: float, ece: float) -> ShiftStep:
        metrics = {
            "auc": Interval(auc, auc - 0.02, auc + 0.01),
            "ece": Interval(ece, ece - 0.002, ece + 0.001),
        }
        return ShiftStep(shift, factor, metrics, None)

    unshifted = step(None, 1.0, 0.9, 0.05)
    steps = [step("sky", 4, 0.7, 0.3), step("sky", 0.5, 0.95, 0.04), step("psf", 2, 0.6, 0.2)]
    figure = robustness_figure(unshifted, steps, {"auc": "AUC", "ece": "ECE"})
    sky_auc, psf_auc, sky_ece, psf_ece = figure.axes
    for panel, ticks, values in (
        (sky_auc, ["0.5", "1", "4"], [0.95, 0.9, 0.7]),
        (psf_auc, ["1", "2"], [0.9, 0.6]),
        (sky_ece, ["0.5", "1", "4"], [0.04, 0.05, 0.3]),
        (psf_ece, ["1", "2"], [0.05, 0.2]),
    ):
        assert [tick.get_text() for tick in panel.get_xticklabels()] == ticks
        (errorbar,) = panel.containers
        np.testing.assert_allclose(errorbar[0].get_ydata(), values)
        start = next(line for line in panel.get_lines() if line.get_markerfacecolor() == "white")
        assert start.get_xdata()[0] == 1
        assert list(errorbar[0].get_xdata()) == [float(tick) for tick in ticks]
        assert start.get_ydata()[0] == values[ticks.index("1")]
    (bars,) = sky_auc.containers[0][2]
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [0.93, 0.96])
    assert [panel.get_ylabel() for panel in (sky_auc, sky_ece)] == ["AUC", "ECE"]


def test_preset_option_replaces_that_of_the_run() -> None:
    run = function_run(by_sky, preset=None)
    with pytest.raises(RunError, match="follows no known preset; say which .* --preset"):
        measure_robustness(run, count=30)
    result = measure_robustness(run, count=30, shifts=["sky"], resamples=20, preset=PRESET)
    assert result.preset.name == PRESET
    assert result.command.endswith(f"--preset {PRESET} --shifts sky")


def test_regression_has_errors_instead_of_auc() -> None:
    run = function_run(lambda images: np.full(len(images), 0.3), preset="demo_mass")
    config = run.config.model_copy(update={"task": "regression", "class_names": None})
    result = measure_robustness(replace(run, config=config), count=30, shifts=["psf"], resamples=50)
    assert set(result.unshifted.metrics) == {"mse", "rmse", "mae", "r2", "bias"}
    for step in result.steps:
        assert step.metrics["mse"].value == result.unshifted.metrics["mse"].value
        assert step.change is not None
        assert step.change.value == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shifts": []}, "--shifts: no step is left for runs/known"),
        ({"shifts": ["skye"]}, "--shifts skye: unknown, did you mean 'sky'"),
        ({"shifts": ["background"]}, f"--shifts background: does not apply to .* {PRESET}"),
        ({"count": 5}, "--count 5: must be at least 30"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure_robustness(function_run(by_sky), **options)


def test_runs_without_a_suitable_preset_are_refused() -> None:
    with pytest.raises(RunError, match="on gone, which follows no known preset"):
        measure_robustness(function_run(by_sky, preset=None))
    with pytest.raises(
        RunError, match="each image of preset common_test_1 is 150 x 150 pixels, the"
    ):
        measure_robustness(function_run(by_sky, preset="common_test_1"))
