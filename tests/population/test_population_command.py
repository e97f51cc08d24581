"""The command `population`: prediction tables, priors, files, and error messages."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import halometry
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import Split
from halometry.errors import DataError, HalometryWarning, RunError, UsageError
from halometry.evaluation.predictions import QUANTILE_COLUMNS
from halometry.population.command import infer_population
from halometry.population.prior import prior_class_fractions, training_labels
from halometry.runs.run import Run, load_run
from halometry.runs.training_data import labels_of_run, preset_of_run

CLASSES = ("no", "sphere", "vort")
PROBABILITIES = [f"prob_{name}" for name in CLASSES]


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
    header = ["image", "prediction", *PROBABILITIES, "error"]
    return write(tmp_path / "predictions.csv", header, rows)


@pytest.fixture
def masses(tmp_path: Path) -> Path:
    steps = np.array([-0.02, -0.01, 0, 0.01, 0.02])
    rng = np.random.default_rng(0)
    rows = [[f"{k}.npy", *(rng.normal(0.2, 0.05) + steps), ""] for k in range(40)]
    return write(tmp_path / "predictions.csv", ["image", *QUANTILE_COLUMNS, "error"], rows)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    drawn = np.random.default_rng(1).normal(0.22, 0.08, 2000)
    return write(tmp_path / "labels.csv", ["f_sub"], [[mass] for mass in drawn])


def run_with(**changes: Any) -> Run:
    """A shipped run with another record of its training data."""
    run = load_run("common_test_1/d4net")
    data = run.config.data.model_copy(update=changes)
    return replace(run, config=run.config.model_copy(update={"data": data}), source="runs/mine")


def test_true_values_are_those_of_the_table(tmp_path: Path, labels: Path) -> None:
    rows = [[f"{k}.npy", name, 0.8, 0.1, 0.1] for k, name in enumerate(["no", "no", "no", "vort"])]
    table = write(tmp_path / "classes.csv", ["image", "true", *PROBABILITIES], rows)
    population = infer_population(table, out=tmp_path / "out")
    assert population.truth == {"no": 0.75, "sphere": 0.0, "vort": 0.25}
    assert json.loads((tmp_path / "out/population.json").read_text())["truth"] == population.truth
    table = write(
        tmp_path / "unknown.csv", ["image", "true", *PROBABILITIES], [*rows, ["", "", 1, 0, 0]]
    )
    assert infer_population(table).truth is None

    quantiles = 0.2 + np.array([-0.02, -0.01, 0, 0.01, 0.02])
    rows = [[f"{k}.npy", mass, *quantiles] for k, mass in enumerate((0.15, 0.25))]
    table = write(tmp_path / "masses.csv", ["image", "true", *QUANTILE_COLUMNS], rows)
    truth = infer_population(table, prior=labels, out=tmp_path / "out").truth
    assert truth == pytest.approx({"mean": 0.2, "std": 0.05})


def test_class_fractions_are_inferred_and_written(classes: Path, tmp_path: Path) -> None:
    population = infer_population(classes, out=tmp_path / "out")
    assert (population.n_lenses, population.n_excluded) == (18, 1)
    assert population.prior == "equal fractions"
    assert population.argmax_fraction == {"no": 12 / 18, "sphere": 0.0, "vort": 6 / 18}
    assert population.summaries["no"].median == pytest.approx(13 / 21, abs=0.03)
    record = json.loads((tmp_path / "out/population.json").read_text())
    assert record["posterior"]["vort"] == population.summaries["vort"].to_dict()
    assert record["argmax_fraction"] == population.argmax_fraction
    assert (record["n_lenses"], record["n_excluded"]) == (18, 1)
    assert record["effective_sample_size"] > 1000
    rows = list(csv.DictReader((tmp_path / "out/population.csv").read_text().splitlines()))
    assert [row["quantity"] for row in rows] == [*CLASSES]
    assert float(rows[0]["lo95"]) == pytest.approx(population.summaries["no"].lo95, rel=1e-4)
    assert (tmp_path / "out/population.png").stat().st_size > 10_000


def test_class_fractions_depend_on_the_seed_alone(classes: Path) -> None:
    first, again, other = (infer_population(classes, seed=seed) for seed in (1, 1, 2))
    assert first.summaries == again.summaries != other.summaries


def test_masses_are_inferred_and_written(masses: Path, labels: Path, tmp_path: Path) -> None:
    population = infer_population(masses, prior=labels, out=tmp_path / "out")
    assert population.n_lenses == 40
    assert population.argmax_fraction is None
    assert population.prior.startswith(f"{labels}: 2,000 masses, mean 0.2")
    assert population.summaries["mean"].lo95 < 0.2 < population.summaries["mean"].hi95
    assert population.summaries["std"].median == pytest.approx(0.05, abs=0.02)
    record = json.loads((tmp_path / "out/population.json").read_text())
    assert (record["task"], record["mass_distribution"]) == ("regression", "gamma")
    assert record["prior_support"][0] < 0.05 < 0.4 < record["prior_support"][1]
    assert record["max_std"] == pytest.approx(0.16, rel=0.1)
    assert (tmp_path / "out/population.png").stat().st_size > 10_000
    other = infer_population(masses, prior=labels, mass_distribution="log_normal")
    assert other.summaries["mean"] != population.summaries["mean"]
    assert other.summaries["mean"].median == pytest.approx(
        population.summaries["mean"].median, abs=0.01
    )


def test_lenses_outside_the_training_set_are_excluded(
    masses: Path, labels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with masses.open("a", newline="") as file:
        csv.writer(file).writerow(["far.npy", 4.8, 4.9, 5, 5.1, 5.2, ""])
    caplog.set_level(logging.INFO, logger="halometry")
    population = infer_population(masses, prior=labels)
    assert (population.n_lenses, population.n_excluded) == (40, 1)
    assert "1 lens excluded: outside the masses of the training set" in caplog.text


def test_other_columns_of_the_table_do_not_matter(classes: Path, tmp_path: Path) -> None:
    with classes.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    path = write(tmp_path / "more.csv", ["redshift", *reversed(header)],
                 [[0.5, *reversed(row)] for row in rows])  # fmt: skip
    population = infer_population(path)
    assert population.summaries.keys() == {*CLASSES}
    expected = infer_population(classes).summaries["sphere"]
    assert population.summaries["sphere"].median == pytest.approx(expected.median, abs=0.01)


def test_out_of_distribution_lenses_are_included_with_a_warning(
    classes: Path, tmp_path: Path
) -> None:
    with classes.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    reasons = [[*row, "faint" if k < 3 else ""] for k, row in enumerate(rows)]
    path = write(tmp_path / "ood.csv", [*header, "ood_reason"], reasons)
    with pytest.warns(HalometryWarning, match="3 of 18 lenses are out of distribution"):
        population = infer_population(path)
    assert population.summaries == infer_population(classes).summaries


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["image", "f_sub", "error"], ["a", 0.1, ""], "has masses without intervals"),
        (["image", *QUANTILE_COLUMNS], ["a", "", "", "", "", ""], "none of its rows has a predic"),
        (["image", *PROBABILITIES], ["a", "", "", ""], "none of its rows has a prediction"),
        (["a", "b"], ["1", "2"], "has no columns 'image' and 'prob_<class>' or 'f_sub'"),
    ],
)
def test_unusable_table_is_an_error(
    tmp_path: Path, header: list[str], row: list[Any], message: str
) -> None:
    path = write(tmp_path / "p.csv", header, [row])
    with pytest.raises(DataError, match=rf"p\.csv: .*{message}"):
        infer_population(path, prior="halo_mass")


def test_masses_without_a_prior_are_an_error(masses: Path) -> None:
    with pytest.raises(UsageError, match=r"predictions\.csv: masses need --prior, the training"):
        infer_population(masses)
    with pytest.raises(UsageError, match="--prior demo_classification: has classes, but"):
        infer_population(masses, prior="demo_classification")
    with pytest.raises(UsageError, match="--mass-distribution gama: did you mean 'gamma'"):
        infer_population(masses, prior="halo_mass", mass_distribution="gama")


@pytest.mark.parametrize("prior", ["vort=2,no=1, sphere=1", {"vort": 2, "no": 1, "sphere": 1}])
def test_class_fractions_of_a_prior_follow_the_order_of_the_classes(prior: Any) -> None:
    assert prior_class_fractions(prior, CLASSES)[0].tolist() == [0.25, 0.25, 0.5]


def test_class_fractions_of_a_prior_are_those_of_its_labels(lenses: Path) -> None:
    two = "common_test_1/d4net,common_test_1/d4net"
    for equal in ("demo_classification", lenses, "common_test_1/d4net", two):
        fractions, description = prior_class_fractions(equal, CLASSES)
        np.testing.assert_allclose(fractions, 1 / 3, atol=1e-3)
        assert description.startswith(f"{equal}: no 33.3 %, ")


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("no=a", "--prior no=a: write it as no=1,sphere=1,vort=1"),
        ("no=1", "--prior: has classes no; the predictions have no, sphere, vort"),
        ("no=1,sphere=1,vort=0", "--prior: the fraction of 'vort' is 0; it must be above zero"),
        ("halo_mass", "--prior halo_mass: has masses, but the predictions are of classes"),
        ("halomass", "--prior halomass: is not a run, preset, .*; did you mean 'halo_mass'"),
    ],
)
def test_unusable_prior_of_classes_is_an_error(prior: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prior_class_fractions(prior, CLASSES)


def test_training_labels_are_read_from_a_csv_file(labels: Path, tmp_path: Path) -> None:
    assert len(training_labels(labels)[0]) == 2000
    write(tmp_path / "evaluated.csv", ["true", "f_sub"], [[1, 5], [2, 6]])
    assert training_labels(tmp_path / "evaluated.csv")[0].tolist() == [1, 2]
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file"):
        training_labels(tmp_path / "none.csv")
    write(tmp_path / "other.csv", ["a"], [[1]])
    with pytest.raises(DataError, match=r"other\.csv: has no column f_sub"):
        training_labels(tmp_path / "other.csv")
    write(tmp_path / "words.csv", ["f_sub"], [["few"]])
    with pytest.raises(DataError, match=r"words\.csv: could not convert"):
        training_labels(tmp_path / "words.csv")


def test_preset_and_labels_of_a_run_are_those_of_its_training_set(lenses: Path) -> None:
    run = load_run("common_test_1/d4net")
    assert preset_of_run(run) == halometry.load_preset("common_test_1")
    assert np.bincount(labels_of_run(run)).tolist() == [1366, 1365, 1365]
    demo = run_with(path=str(lenses), preset="demo_classification", seed=1, images=90)
    assert preset_of_run(demo).image.pixels == 48
    named = run_with(path=str(lenses), preset="mine", seed=1)
    with pytest.raises(RunError, match="runs/mine: was trained on images of the preset 'mine', wh"):
        preset_of_run(named)
    not_simulated = run_with(path="dataset", preset=None, seed=None)
    with pytest.raises(
        RunError, match="runs/mine: was trained on dataset, which follows no known preset"
    ):
        preset_of_run(not_simulated)
    with pytest.raises(
        RunError, match="runs/mine: the dataset it was trained on, dataset, is not here"
    ):
        labels_of_run(not_simulated)


def test_labels_of_a_run_are_an_error_if_its_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_store(labels: np.ndarray) -> Path:
        with h5py.File(tmp_path / "own.h5", "w") as file:
            file.attrs.update(format="halometry-dataset", format_version=1, task="regression")
            file["images"] = np.random.default_rng(0).random((len(labels), 1, 8, 8))
            file["labels"] = labels
        return tmp_path / "own.h5"

    labels = np.linspace(0.01, 0.06, 20)
    data = open_dataset(write_store(labels))
    run = run_with(
        path=data.source, preset=None, seed=None, images=20, fingerprint=data.fingerprint
    )
    none = np.array([], dtype=int)
    split = Split(np.arange(20), none, none, none, seed=0)
    monkeypatch.setattr(Run, "split", lambda _: split)
    np.testing.assert_array_equal(labels_of_run(run), labels)
    write_store(labels + 0.9)
    with pytest.raises(RunError, match="has changed since the run was trained on it"):
        labels_of_run(run)
