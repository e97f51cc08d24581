"""The verb `population`: predictions in, priors from everywhere, what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import halometry
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split
from halometry.errors import DataError, RunError, UsageError
from halometry.population.prior import class_shares, labels_of
from halometry.population.reading import QUANTILES
from halometry.runs.run import Run, load_run
from halometry.runs.training_data import labels_of_run, preset_of_run

LINES = ["no", "sphere", "vort"]


def write(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    rows = [["a.npy", "no", 0.98, 0.01, 0.01, ""]] * 12
    rows += [["b.npy", "vort", 0.02, 0.08, 0.9, ""]] * 6 + [["c.npy", "", "", "", "", "is empty"]]
    return write(tmp_path / "predictions.csv", ["file", "class", *LINES, "error"], rows)


@pytest.fixture
def masses(tmp_path: Path) -> Path:
    steps = np.array([-0.02, -0.01, 0, 0.01, 0.02])
    rng = np.random.default_rng(0)
    rows = [[f"{k}.npy", *(rng.normal(0.2, 0.05) + steps), ""] for k in range(40)]
    return write(tmp_path / "predictions.csv", ["file", *QUANTILES, "error"], rows)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    drawn = np.random.default_rng(1).normal(0.22, 0.08, 2000)
    return write(tmp_path / "labels.csv", ["f_sub"], [[one] for one in drawn])


def run_with(**changes: Any) -> Run:
    """The package's own run, its training set described otherwise."""
    run = load_run("common_test_1/d4net")
    data = run.config.data.model_copy(update=changes)
    return replace(run, config=run.config.model_copy(update={"data": data}), source="runs/mine")


def test_fractions_of_classes_with_everything_written(classes: Path, tmp_path: Path) -> None:
    found = halometry.infer_population(classes, out=tmp_path / "out")
    assert (found.lenses, found.left_out, found.prior) == (18, 1, "equal shares")
    assert found.called == {"no": 12 / 18, "sphere": 0.0, "vort": 6 / 18}
    assert found.summaries["no"].median == pytest.approx(13 / 21, abs=0.03)
    record = json.loads((tmp_path / "out/population.json").read_text())
    assert record["posterior"]["vort"] == found.summaries["vort"].to_dict()
    assert record["effective_draws"] > 2000
    rows = list(csv.DictReader((tmp_path / "out/population.csv").read_text().splitlines()))
    assert [row["quantity"] for row in rows] == LINES
    assert float(rows[0]["low_95"]) == pytest.approx(found.summaries["no"].low_95, rel=1e-4)
    assert (tmp_path / "out/population.png").stat().st_size > 10_000


def test_the_same_seed_gives_the_same_answer(classes: Path) -> None:
    first, again, other = (halometry.infer_population(classes, seed=seed) for seed in (1, 1, 2))
    assert first.summaries == again.summaries != other.summaries


def test_masses_with_everything_written(masses: Path, labels: Path, tmp_path: Path) -> None:
    found = halometry.infer_population(masses, labels, out=tmp_path / "out")
    assert found.lenses == 40
    assert found.called is None
    assert found.prior.startswith(f"{labels}: 2,000 masses, mean 0.2")
    assert found.summaries["mean"].low_95 < 0.2 < found.summaries["mean"].high_95
    assert found.summaries["spread"].median == pytest.approx(0.05, abs=0.02)
    record = json.loads((tmp_path / "out/population.json").read_text())
    assert (record["of"], record["law"]) == ("masses", "gamma")
    assert (tmp_path / "out/population.png").stat().st_size > 10_000
    other = halometry.infer_population(masses, labels, law="log_normal").summaries["mean"]
    assert other != found.summaries["mean"]
    assert other.median == pytest.approx(found.summaries["mean"].median, abs=0.01)


def test_masses_that_evaluate_wrote_do_too(masses: Path, labels: Path, tmp_path: Path) -> None:
    text = masses.read_text().replace("f_sub", "median", 1)
    (tmp_path / "judged.csv").write_text(text)
    first, second = (
        halometry.infer_population(p, labels) for p in (masses, tmp_path / "judged.csv")
    )
    assert first.summaries == second.summaries


def test_predictions_of_evaluate_do_too(classes: Path, tmp_path: Path) -> None:
    rows = [["images[0]", "vort", 0.98, 0.01, 0.01]] * 12 + [
        ["images[1]", "no", 0.02, 0.08, 0.9]
    ] * 6
    judged = write(tmp_path / "judged.csv", ["image", "truth", *LINES], rows)
    assert (
        halometry.infer_population(judged).summaries
        == halometry.infer_population(classes).summaries
    )


def test_columns_that_are_no_classes_are_none(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with classes.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    more = [[*row[:5], "no sphere", 3.7, 0, row[5]] for row in rows]
    path = write(tmp_path / "more.csv", [*header[:5], "set", "novelty", "flag", "error"], more)
    assert (
        halometry.infer_population(path).summaries == halometry.infer_population(classes).summaries
    )
    more = [[*row[:5], 0, "faint" if k < 3 else "", row[5]] for k, row in enumerate(rows)]
    path = write(tmp_path / "more.csv", [*header[:5], "familiarity", "unusual", "error"], more)
    assert (
        halometry.infer_population(path).summaries == halometry.infer_population(classes).summaries
    )
    assert "warning: 3 of 18 lenses are unlike the training set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            ["file", "f_sub", "error"],
            ["a", 0.1, ""],
            "has masses without intervals .low_95, low",
        ),
        (["file", *QUANTILES], ["a", 0.1, 0.2, 0.15, 0.3, 0.4], "line 2: its median and intervals"),
        (["file", *QUANTILES], ["a", 0.1, "x", 0.3, 0.3, 0.4], "line 2: 'x' in column 'low_68'"),
        (["file", *QUANTILES], ["a", "", "", "", "", ""], "none of its rows has an answer"),
        (
            ["file", "class", "no", "vort"],
            ["a", "no", 0.5, 0.4],
            "line 2: the columns after 'class'",
        ),
        (["file", "class", "error"], ["a", "no", ""], "the columns after 'class' are no"),
        (["a", "b"], ["1", "2"], "has neither a column 'class' nor 'f_sub'; give a file that"),
    ],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, header: list[str], row: list[Any], message: str
) -> None:
    path = write(tmp_path / "p.csv", header, [row])
    with pytest.raises(DataError, match=rf"p\.csv: .*{message}"):
        halometry.infer_population(path, "halo_mass")


def test_a_file_of_errors_alone_has_no_answer(tmp_path: Path) -> None:
    rows = [[f"{k}.npy", "", "", "", "", "is empty"] for k in range(3)]
    file = write(tmp_path / "p.csv", ["file", "class", *LINES, "error"], rows)
    with pytest.raises(DataError, match="none of its rows has an answer"):
        halometry.infer_population(file)


def test_masses_are_refused_without_what_the_network_was_trained_on(masses: Path) -> None:
    with pytest.raises(
        UsageError, match=r"predictions\.csv: masses need --prior, which is divided"
    ):
        halometry.infer_population(masses)
    with pytest.raises(
        UsageError, match="--prior demo_classification: is for classes; these are m"
    ):
        halometry.infer_population(masses, "demo_classification")
    with pytest.raises(UsageError, match="--law gama: did you mean 'gamma'"):
        halometry.infer_population(masses, "halo_mass", law="gama")


def test_shares_of_classes(lenses: Path, masses: Path, tmp_path: Path) -> None:
    names = ("no", "sphere", "vort")
    for prior in ("vort=2,no=1, sphere=1", {"vort": 2, "no": 1, "sphere": 1}):
        assert class_shares(prior, names)[0].tolist() == [0.25, 0.25, 0.5]
    two = "common_test_1/d4net,common_test_1/d4net"
    for equal in ("demo_classification", lenses, "common_test_1/d4net", two):
        shares, told = class_shares(equal, names)
        np.testing.assert_allclose(shares, 1 / 3, atol=1e-3)
        assert told.startswith(f"{equal}: no 33.3 %, ")
    with pytest.raises(UsageError, match=r"--prior no=a: write it as no=1,sphere=1,vort=1"):
        class_shares("no=a", names)
    with pytest.raises(
        UsageError, match="--prior: has classes no; the predictions have no, sphere"
    ):
        class_shares("no=1", names)
    with pytest.raises(UsageError, match="--prior: the share of 'vort' is 0, not above zero"):
        class_shares("no=1,sphere=1,vort=0", names)
    with pytest.raises(UsageError, match="--prior halo_mass: is for masses; these are classes"):
        class_shares("halo_mass", names)
    with pytest.raises(UsageError, match="--prior halomass: is no run, preset, labeled set or CSV"
                                         " file; did you mean 'halo_mass'"):  # fmt: skip
        class_shares("halomass", names)


def test_masses_of_a_set_and_of_a_file(masses: Path, labels: Path, tmp_path: Path) -> None:
    assert len(labels_of(labels)[0]) == 2000
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file"):
        labels_of(tmp_path / "none.csv")
    write(tmp_path / "other.csv", ["a"], [[1]])
    with pytest.raises(DataError, match=r"other\.csv: has no column f_sub"):
        labels_of(tmp_path / "other.csv")
    write(tmp_path / "words.csv", ["f_sub"], [["few"]])
    with pytest.raises(DataError, match=r"words\.csv: could not convert"):
        labels_of(tmp_path / "words.csv")


def test_a_run_tells_its_preset_and_its_labels(lenses: Path) -> None:
    run = load_run("common_test_1/d4net")
    assert preset_of_run(run) == halometry.load_preset("common_test_1")
    assert np.bincount(labels_of_run(run)).tolist() == [1366, 1365, 1365]
    here = run_with(path=str(lenses), preset="demo_classification", seed=1, images=90)
    assert preset_of_run(here).image.pixels == 48
    named = run_with(path=str(lenses), preset="mine", seed=1)
    with pytest.raises(RunError, match="runs/mine: was trained on images of the preset 'mine', wh"):
        preset_of_run(named)
    real = run_with(path="dataset", preset=None, seed=None)
    with pytest.raises(
        RunError, match="runs/mine: was trained on dataset, which was not simulated"
    ):
        preset_of_run(real)
    with pytest.raises(
        RunError, match="runs/mine: the set it was trained on, dataset, is not here"
    ):
        labels_of_run(real)


def test_labels_are_those_of_the_very_file_that_a_run_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(labels: np.ndarray) -> Path:
        with h5py.File(tmp_path / "own.h5", "w") as file:
            file.attrs["format"], file.attrs["task"] = "halometry-store", "regression"
            file["images"] = np.random.default_rng(0).random((len(labels), 1, 8, 8))
            file["labels"] = labels
        return tmp_path / "own.h5"

    labels = np.linspace(0.01, 0.06, 20)
    data = open_dataset(own(labels))
    run = run_with(
        path=data.source, preset=None, seed=None, images=20, fingerprint=data.fingerprint
    )
    split = Split.from_dict({"seed": 0, "parts": "t" * 20})
    monkeypatch.setattr(Run, "split", lambda _: split)
    np.testing.assert_array_equal(labels_of_run(run), labels)
    own(labels + 0.9)
    with pytest.raises(RunError, match="has changed since it was trained on it"):
        labels_of_run(run)
