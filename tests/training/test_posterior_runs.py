"""Runs that predict posteriors: trained, begun with the weights of plain runs, and applied."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from halometry.calibration.posterior import Grid, Posterior
from halometry.cli import app
from halometry.compare.compare import compare_networks
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.errors import DataError, RunError, UsageError
from halometry.evaluation.evaluate import evaluate
from halometry.evaluation.predict import predict
from halometry.publish.export import export
from halometry.publish.publish import publish_run
from halometry.runs.ensemble import Ensemble
from halometry.runs.lineage import without_paths
from halometry.runs.open import open_run
from halometry.runs.predict_rows import predict_rows
from halometry.runs.run import WEIGHTS, Run, load_run
from halometry.runs.training_data import labels_of_run
from halometry.training.train import train

QUICK: dict[str, Any] = {
    "epochs": 1,
    "precision": "float32",
    "channels_last": True,
    "aux_loss_weight": 0,
    "online_fraction": 0,
}
NETWORK = "test_resnet"


def trained(masses: Path, out: Path, seed: int = 0, **overrides: Any) -> Run:
    return train("regression", masses, NETWORK, out, overrides=QUICK | overrides, seed=seed)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that no run of this file is trained on."""
    return simulate("demo_mass", 40, seed=2, out=tmp_path_factory.mktemp("sets") / "others.h5")


@pytest.fixture(scope="module")
def plain(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(masses, tmp_path_factory.mktemp("runs") / "plain")


@pytest.fixture(scope="module")
def flow(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(masses, tmp_path_factory.mktemp("runs") / "flow", posterior="flow")


@pytest.fixture(scope="module")
def gaussian(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "gaussian"
    return trained(masses, out, seed=1, posterior="gaussian", target="log")


def test_predictions_are_densities_on_the_grid_of_the_run(
    flow: Run, gaussian: Run, others: Path
) -> None:
    for run in (flow, gaussian):
        grid = load_run(run.path).config.grid
        assert grid is not None
        assert grid.low == 0
        images = np.random.default_rng(0).poisson(20, (3, 1, 48, 48)).astype(np.float32)
        answers = run.predict_fn("cpu")(images)
        assert answers.shape == (3, grid.cells)
        np.testing.assert_allclose(answers.sum(axis=1) * grid.width, 1, rtol=1e-4)


def test_evaluation_covers_the_mean_and_the_posterior(
    flow: Run, others: Path, tmp_path: Path
) -> None:
    found = evaluate(flow, others, out=tmp_path, device="cpu", resamples=20)
    assert found.posterior is not None
    np.testing.assert_array_equal(found.outputs, found.posterior.mean)
    errors = (found.posterior.mean - found.truth) ** 2
    assert found.metrics["mse"].value == pytest.approx(errors.mean())
    assert {"nll", "crps", "coverage_68", "coverage_95"} <= set(found.metrics)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert sum(record["posterior"]["pit"]) == record["count"] == 40
    assert (tmp_path / "posterior.png").stat().st_size > 10_000
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ends = ["f_sub_lo95", "f_sub_lo68", "f_sub", "f_sub_hi68", "f_sub_hi95"]
    assert list(rows[0])[:3] == ["image", "true", "f_sub"]
    for row in rows:
        values = [float(row[end]) for end in ends]
        assert values == sorted(values)


def test_evaluation_of_a_plain_run_has_no_posterior(
    plain: Run, others: Path, tmp_path: Path
) -> None:
    found = evaluate(plain, others, out=tmp_path, device="cpu", resamples=20)
    assert found.posterior is None
    assert list(found.metrics) == ["mse", "rmse", "mae", "r2", "bias"]
    assert not (tmp_path / "posterior.png").exists()
    assert (tmp_path / "predictions.csv").read_text().startswith("image,true,f_sub,conformal")


def test_predict_gives_median_and_intervals(flow: Run, others: Path, tmp_path: Path) -> None:
    answers = predict(flow, others, out=tmp_path / "p.csv", device="cpu")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ends = ["f_sub_lo68", "f_sub_hi68", "f_sub_lo95", "f_sub_hi95"]
    ends += ["conformal_lo_90", "conformal_hi_90"]
    assert list(rows[0]) == ["image", "f_sub", *ends, "error"]
    for answer, row in zip(answers, rows, strict=True):
        assert answer.posterior is not None
        assert answer.predicted_class is None
        assert answer.f_sub == answer.posterior.median[0]
        (low, high), (lower, higher) = answer.intervals["68"], answer.intervals["95"]
        assert lower < low < answer.f_sub < high < higher
        below, above = (float(row[f"conformal_{end}_90"]) for end in ("lo", "hi"))
        assert below < answer.f_sub < above
        assert float(row["f_sub_lo95"]) == pytest.approx(lower, rel=1e-4)
        assert float(row["f_sub_hi68"]) == pytest.approx(high, rel=1e-4)


def test_unreadable_file_is_a_row_without_numbers(flow: Run, others: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.random.default_rng(0).poisson(20, (48, 48)))
    (tmp_path / "bad.npy").write_bytes(b"no array")
    predict(flow, tmp_path, out=tmp_path / "p.csv", device="cpu")
    with (tmp_path / "p.csv").open(newline="") as file:
        bad, good = csv.DictReader(file)
    assert bad["error"]
    assert [bad[key] for key in ("f_sub", "f_sub_lo68", "f_sub_hi95")] == ["", "", ""]
    assert not good["error"]


def test_command_prints_intervals_and_coverage(flow: Run, others: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["predict", str(flow.path), str(others), "--out", str(tmp_path / "p.csv")]
    )
    assert done.exit_code == 0, done.output
    assert "68 % interval" in done.output
    assert "... and 30 more" in done.output
    done = CliRunner().invoke(
        app, ["evaluate", str(flow.path), "--data", str(others), "--out", str(tmp_path / "e")]
    )
    assert done.exit_code == 0, done.output
    assert "heaviest third by truth" in done.output
    assert "crps" in done.output


def test_flow_begins_with_the_backbone_of_a_plain_run(
    plain: Run, masses: Path, tmp_path: Path
) -> None:
    run = train(
        "regression", masses, NETWORK, tmp_path / "run", init_from=plain.path,
        overrides=QUICK | {"posterior": "flow", "freeze_backbone": True},
    )  # fmt: skip
    assert (
        run.config.initial_weights
        == f"weights of the run {plain.path} on demo_mass, with a new head"
    )
    assert without_paths(run.config).initial_weights.startswith(
        "weights of the run plain on demo_mass,"
    )
    before, after = load_file(plain.path / WEIGHTS), load_file(run.path / WEIGHTS)
    backbone = [key for key in before if key.startswith("backbone.")]
    assert len(backbone) > 10
    for key in backbone:  # statistics of batch normalization among them
        torch.testing.assert_close(after[key], before[key], rtol=1e-5, atol=1e-7)
    assert after["head.0.weight"].shape != before["head.0.weight"].shape


def test_backbone_is_trained_unless_frozen(plain: Run, masses: Path, tmp_path: Path) -> None:
    run = train(
        "regression", masses, NETWORK, tmp_path / "run", init_from=plain.path,
        overrides=QUICK | {"posterior": "gaussian"},
    )  # fmt: skip
    before, after = load_file(plain.path / WEIGHTS), load_file(run.path / WEIGHTS)
    weights = [key for key in before if key.startswith("backbone.") and before[key].ndim == 4]
    assert all((after[key] != before[key]).any() for key in weights)


def test_impossible_posteriors_are_refused(
    lenses: Path, masses: Path, plain: Run, flow: Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="posterior=flow is for --task regression"):
        train("classification", lenses, NETWORK, tmp_path / "a",
              overrides=QUICK | {"posterior": "flow"})  # fmt: skip
    with pytest.raises(UsageError, match="freeze_backbone=true needs a trained backbone"):
        trained(masses, tmp_path / "b", posterior="flow", freeze_backbone=True)
    with pytest.raises(RunError, match="some predict posteriors and others masses"):
        open_run(f"{plain.path},{flow.path}")


def test_ensemble_of_posteriors_predicts_the_mean_density(
    flow: Run, gaussian: Run, others: Path, tmp_path: Path
) -> None:
    wider = Grid(low=0.0, high=0.35, cells=600)
    other = replace(gaussian, config=gaussian.config.model_copy(update={"grid": wider}))
    both = Ensemble((flow, other))
    assert both.source == f"{flow.path},{gaussian.path}"
    resizing = flow.config.preprocessing.model_copy(update={"size": 32})
    first = replace(flow, config=flow.config.model_copy(update={"preprocessing": resizing}))
    np.testing.assert_array_equal(labels_of_run(Ensemble((first, other))), labels_of_run(other))
    with pytest.raises(UsageError, match="give runs with commas between them"):
        open_run(f"{flow.path},")
    assert open_run(both.source).name == f"2 x {NETWORK}"
    found = evaluate(both, others, out=tmp_path, device="cpu", resamples=20)
    assert found.posterior is not None
    singles = [evaluate(run, others, device="cpu", resamples=20) for run in (flow, other)]
    parts = [one.posterior for one in singles]
    assert parts[0] is not None
    assert parts[1] is not None
    assert parts[0].grid != parts[1].grid
    np.testing.assert_allclose(
        found.outputs, np.mean([one.outputs for one in singles], axis=0), rtol=1e-3
    )
    grid = found.posterior.grid
    assert (grid.high, grid.cells) == (parts[0].grid.high, 720)
    mixture = Posterior(grid, parts[0].on_grid(grid).density + parts[1].on_grid(grid).density)
    np.testing.assert_allclose(found.posterior.density, mixture.density, atol=1e-6)
    assert json.loads((tmp_path / "metrics.json").read_text())["backbone"] == f"2 x {NETWORK}"
    answers = predict(both, others, device="cpu")
    assert answers[3].f_sub == pytest.approx(found.posterior.median[3], rel=1e-4)


def test_ensemble_of_masses_predicts_their_mean(
    plain: Run, masses: Path, others: Path, tmp_path: Path
) -> None:
    again = trained(masses, tmp_path / "again", seed=1)
    rows = np.arange(10)
    data = open_dataset(others)
    both, one, other = (
        predict_rows(open_run(name), data, rows, point=True)
        for name in (f"{plain.path}, {again.path}", plain.path, again.path)
    )
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-6)
    # Two seeds keep different tenths aside: none of the images is new to both, or a few.
    common = np.intersect1d(plain.split().test, again.split().test)
    if len(common) < 2:
        with pytest.raises(DataError):
            evaluate(f"{plain.path},{again.path}", masses, device="cpu")
    else:
        found = evaluate(f"{plain.path},{again.path}", masses, device="cpu")
        np.testing.assert_array_equal(found.rows, common)


def test_posterior_is_the_same_in_onnx(
    flow: Run, masses: Path, others: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    made = export(flow, tmp_path / "flow.onnx", check=others)
    assert made.difference <= 1e-4
    mine, theirs = (predict(one, others, device="cpu") for one in (flow, made.path))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.intervals["95"], b.intervals["95"], rtol=1e-3)
    together = open_run(f"{flow.path},{made.path}")
    assert predict(together, others, device="cpu")[0].f_sub == pytest.approx(
        mine[0].f_sub, rel=1e-3
    )


def test_posteriors_are_published_and_compared(
    gaussian: Run, masses: Path, others: Path, tmp_path: Path
) -> None:
    made = publish_run(gaussian, others, tmp_path / "small", device="cpu")
    assert made.evaluation.posterior is not None
    assert "| CRPS |" in (tmp_path / "small" / "README.md").read_text()
    assert "as a posterior" in (tmp_path / "small" / "README.md").read_text()
    found = compare_networks("regression", masses, [NETWORK], tmp_path / "cmp",
                    overrides=QUICK | {"posterior": "gaussian"})  # fmt: skip
    assert found.record.models[0].posterior.count == 9
    assert "<h3>Posteriors</h3>" in found.report.read_text()


def test_python_of_the_documentation_of_posteriors_runs(
    flow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/howto/calibrate.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "flow").symlink_to(flow.path)
    (tmp_path / "my_images").mkdir()
    np.save(tmp_path / "my_images" / "1.npy", np.random.default_rng(0).poisson(20, (48, 48)))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.startswith("my_images/1.npy 0.")
