"""Comparison of networks, its files and its report, on a set of two minutes' worth."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image as Picture
from rich.console import Console

from halometry.data.generate import simulate
from halometry.data.split import Split
from halometry.errors import DataError, RunError, StorageError, UsageError
from halometry.evaluation import figures
from halometry.evaluation.compare import Comparison, compare
from halometry.evaluation.conclude import CHANCE
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import regression_metrics
from halometry.evaluation.report import write_report
from halometry.evaluation.show import show
from halometry.evaluation.tables import markdown_table, print_table
from halometry.training import train

QUICK: dict[str, Any] = {"epochs": 1, "size": 32, "precision": "float32", "channels_last": True}
NETWORKS = ["mobilenetv3_small", "resnet18"]


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def classes(lenses: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "classes"
    return compare("classification", lenses, NETWORKS, out, overrides=QUICK)


@pytest.fixture(scope="module")
def fractions(masses: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "masses"
    return compare("regression", masses, NETWORKS, out, overrides=QUICK)


class Page(HTMLParser):
    """Collects what a page would load, and its headings and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_results_hold_every_figure_of_merit_and_every_cost(classes: Comparison) -> None:
    record = json.loads((classes.out / "results.json").read_text(encoding="utf-8"))
    assert [m["name"] for m in record["models"]] == NETWORKS
    for model in record["models"]:
        assert {"auc", "auc_no", "auc_sphere", "auc_vort", "accuracy", "loss"} == set(
            model["metrics"]
        )
        for estimate in model["metrics"].values():
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
        cost = model["cost"]
        assert cost["parameters"] > 1e6
        assert cost["macs"] > 1e6
        assert cost["checkpoint_bytes"] > 4e6
        assert cost["peak_memory_bytes"] > cost["checkpoint_bytes"]
        assert cost["latency_ms"]["median"] > 0
        assert cost["throughput"]["median"] > 0
        assert np.array(model["confusion"]).sum() == record["data"]["test"]
    assert record["machine"]["processor"]
    assert record["seed"] == 0
    assert record["data"]["train"] + record["data"]["selection"] + record["data"]["test"] == 90


def test_masses_have_their_own_figures_of_merit(fractions: Comparison) -> None:
    for model in fractions.record["models"]:
        assert set(model["metrics"]) == {"mse", "rmse", "mae", "r2", "bias"}
        assert model["confusion"] is None


def test_all_are_judged_on_the_same_images(classes: Comparison) -> None:
    first, second = classes.evaluations
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.truth, second.truth)


def test_the_csv_has_a_row_a_network(classes: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO((classes.out / "results.csv").read_text())))
    assert [row["name"] for row in rows] == NETWORKS
    for row, model in zip(rows, classes.record["models"], strict=True):
        assert float(row["auc"]) == pytest.approx(model["metrics"]["auc"]["value"])
        assert float(row["latency_ms_median"]) > 0


def test_the_plot_is_a_picture(classes: Comparison) -> None:
    with Picture.open(classes.out / "accuracy_against_latency.png") as plot:
        assert plot.size[0] > 400
        assert np.asarray(plot.convert("L")).std() > 5


@pytest.mark.parametrize("which", ["classes", "fractions"])
def test_the_report_needs_nothing_but_itself(which: str, request: pytest.FixtureRequest) -> None:
    comparison: Comparison = request.getfixturevalue(which)
    page = Page(comparison.report)
    assert all(place.startswith(("data:", "#")) for place in page.loaded)
    style = comparison.report.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(\s*['\"]?https?:", style)
    assert page.tags.count("svg") >= 3
    assert "script" not in page.tags
    for network in NETWORKS:
        assert network in page.text
    for sentence in comparison.record["conclusion"]:
        assert sentence in page.text


def test_names_in_the_report_are_text_not_markup(classes: Comparison, tmp_path: Path) -> None:
    record = json.loads(json.dumps(classes.record))
    record["data"]["path"] = record["data"]["description"] = "<script>alert(1)</script>"
    write_report(tmp_path / "r.html", [(record, classes.gallery)], "<b>title</b>")
    page = Page(tmp_path / "r.html")
    assert "script" not in page.tags
    assert "<b>title</b>" in page.text


def test_repeating_trains_nothing_again(classes: Comparison, lenses: Path) -> None:
    weights = sorted(classes.out.glob("runs/*/weights.safetensors"))
    before = [w.stat().st_mtime_ns for w in weights]
    again = compare("classification", lenses, NETWORKS, classes.out, overrides=QUICK)
    assert [w.stat().st_mtime_ns for w in weights] == before
    values = [m["metrics"] for m in again.record["models"]]
    assert values == [m["metrics"] for m in classes.record["models"]]


@pytest.mark.parametrize("names", [[], ["resnet18", "resnet18"]])
def test_names_are_given_once(lenses: Path, tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UsageError, match="--backbones: give one or more names, each once"):
        compare("classification", lenses, names, tmp_path / "c")


def test_an_unknown_name_is_refused_before_anything_is_trained(
    lenses: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        compare("classification", lenses, ["mobilenetv3_small", "resnet81"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("which", ["classes", "fractions"])
def test_the_table_fits_a_terminal(which: str, request: pytest.FixtureRequest) -> None:
    comparison: Comparison = request.getfixturevalue(which)
    text = io.StringIO()
    print_table(comparison.record, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for network in NETWORKS:
        assert network in text.getvalue()
    assert "…" not in text.getvalue()


def test_the_markdown_table_marks_the_best(classes: Comparison) -> None:
    lines = markdown_table(classes.record).splitlines()
    assert len(lines) == 2 + len(NETWORKS)
    assert len({line.count("|") for line in lines}) == 1
    assert sum("**" in line for line in lines[2:]) >= 1


def test_a_run_is_judged_only_on_what_was_kept_aside(classes: Comparison, lenses: Path) -> None:
    run = classes.evaluations[0].run
    found = evaluate(run, lenses)
    split = Split.from_json((run.path / "split.json").read_text())
    np.testing.assert_array_equal(found.rows, split.test)
    assert not set(found.rows) & (set(split.train) | set(split.selection))
    assert "kept aside in training" in found.description


def test_another_set_is_used_whole(classes: Comparison, tmp_path: Path) -> None:
    other = simulate("demo_classification", 30, seed=9, out=tmp_path / "other.h5")
    found = evaluate(classes.evaluations[0].run, other, tmp_path / "out", resamples=50)
    assert len(found.truth) == 30
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"metrics.json", "predictions.csv", "roc.png", "confusion.png"}
    rows = rows_of(tmp_path / "out/predictions.csv")
    assert len(rows) == 30
    assert sum(float(rows[0][c]) for c in ("no", "sphere", "vort")) == pytest.approx(1, abs=1e-4)


def test_no_training_image_is_judged_whatever_the_file_is_called(
    classes: Comparison, lenses: Path, tmp_path: Path
) -> None:
    run = classes.evaluations[0].run
    shutil.copyfile(lenses, tmp_path / "copy.h5")
    shutil.copytree(lenses.with_suffix(".shards"), tmp_path / "lenses.shards")
    np.testing.assert_array_equal(
        evaluate(run, tmp_path / "copy.h5", resamples=20).rows, classes.evaluations[0].rows
    )
    more = simulate("demo_classification", 120, seed=1, out=tmp_path / "more.h5")
    found = evaluate(run, more, resamples=20)
    np.testing.assert_array_equal(found.rows, np.arange(90, 120))
    assert "follow the training set's" in found.description
    fewer = simulate("demo_classification", 60, seed=1, out=tmp_path / "fewer.h5")
    with pytest.raises(DataError, match="among those of the training set .* another --seed"):
        evaluate(run, fewer)


def test_masses_are_judged_and_drawn(fractions: Comparison, masses: Path, tmp_path: Path) -> None:
    found = evaluate(fractions.evaluations[0].run, masses, tmp_path, resamples=50)
    rows = rows_of(tmp_path / "predictions.csv")
    truth, predicted = (np.array([float(r[k]) for r in rows]) for k in ("truth", "predicted"))
    again = regression_metrics(truth, predicted, resamples=50)
    assert again["mse"].value == pytest.approx(found.metrics["mse"].value, rel=1e-3)
    assert (tmp_path / "true_against_predicted.png").exists()


def test_a_run_of_the_other_task_is_refused(fractions: Comparison, lenses: Path) -> None:
    with pytest.raises((RunError, DataError), match=r"regression|classification"):
        evaluate(fractions.evaluations[0].run, lenses)


def test_other_classes_are_refused(classes: Comparison, tmp_path: Path) -> None:
    for name in ("axion", "cdm", "no_sub"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(4):
            array = np.random.default_rng(i).random((48, 48))
            np.save(tmp_path / "set" / name / f"{i}.npy", array)
    with pytest.raises(DataError, match=r"has classes axion, cdm, no_sub; .* no, sphere, vort"):
        evaluate(classes.evaluations[0].run, tmp_path / "set")


def test_images_of_another_shape_are_refused(tmp_path: Path, lenses: Path) -> None:
    run = train("classification", lenses, "mobilenetv3_small", tmp_path / "r", overrides=QUICK)
    whole = train("classification", lenses, "mobilenetv3_small", tmp_path / "s",
                  overrides=QUICK | {"size": None})  # fmt: skip
    for shape in ((3, 48, 48), (1, 40, 40)):
        for name in ("no", "sphere", "vort"):
            folder = tmp_path / str(shape[0]) / name
            folder.mkdir(parents=True)
            for i in range(4):
                np.save(folder / f"{i}.npy", np.random.default_rng(i).random(shape))
    with pytest.raises(DataError, match="3: each image has 3 channels, the run was trained on 1"):
        evaluate(run, tmp_path / "3")
    with pytest.raises(DataError, match="is 40 x 40 pixels, the run was trained on 48 x 48"):
        evaluate(whole, tmp_path / "1")
    assert len(evaluate(run, tmp_path / "1").truth) == 12  # this one resizes


def test_a_damaged_split_is_named(lenses: Path, tmp_path: Path) -> None:
    run = train("classification", lenses, "mobilenetv3_small", tmp_path / "r", overrides=QUICK)
    (run.path / "split.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"split\.json: cannot be read"):
        evaluate(run, lenses)


def test_every_answer_is_the_same_for_every_batch_size(classes: Comparison, lenses: Path) -> None:
    from halometry.data.dataset import open_dataset
    from halometry.evaluation.evaluate import outputs_of

    data = open_dataset(lenses)
    run = classes.evaluations[0].run
    one, many = (outputs_of(run, data, np.arange(9), batch_size=n) for n in (1, 64))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_figures_draw_one_or_many(classes: Comparison) -> None:
    evaluations: list[Evaluation] = classes.evaluations
    confusion = evaluations[0].confusion
    assert confusion is not None
    one = figures.confusion_figure({"a": confusion}, ("no", "sphere", "vort"))
    assert isinstance(one, matplotlib.figure.Figure)
    assert figures.to_svg(one).startswith("<svg")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_show_draws_a_preset(tmp_path: Path, suffix: str) -> None:
    path = show("demo_classification", tmp_path / f"m.{suffix}", count=3)
    assert path is not None
    assert path.stat().st_size > 1000


def test_show_draws_a_set_and_a_folder(lenses: Path, shared_data: Path, tmp_path: Path) -> None:
    for i, what in enumerate((lenses, shared_data / "common_test_1")):
        path = show(what, tmp_path / f"{i}.png", count=6)
        assert path is not None
        with Picture.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_show_knows_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a file or folder nor a preset; did you mean"):
        show("common_test1", tmp_path / "x.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images found"):
        show(tmp_path / "empty", tmp_path / "x.png")
    with pytest.raises(UsageError, match="--count 0: must be at least 1"):
        show("model_1", tmp_path / "x.png", count=0)


def test_a_picture_that_cannot_be_drawn_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"m\.xyz: cannot draw a '\.xyz' file; use \.png, \.svg"):
        show("demo_mass", tmp_path / "m.xyz", count=1)
    monkeypatch.setattr("matplotlib.get_backend", lambda: "agg")
    with pytest.raises(UsageError, match=r"no screen to show a window on; write a file with --out"):
        show("demo_mass", count=1)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.png"
    path.write_text("earlier")

    def full(_: object, partial: Path, **__: object) -> None:
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", full)
    with pytest.raises(StorageError, match=r"m\.png: cannot be written \(No space left on device"):
        show("demo_mass", path, count=1)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_the_lead_of_the_best_is_measured_on_the_same_images(
    classes: Comparison, lenses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHANCE, "auc", 0.0)  # whatever they learnt in one pass
    again = compare("classification", lenses, NETWORKS, classes.out, overrides=QUICK)
    values = sorted(model["metrics"]["auc"]["value"] for model in again.record["models"])
    assert again.record["lead"]["value"] == pytest.approx(values[1] - values[0])
    assert "on the same images the difference is" in again.record["conclusion"][1]


def test_a_network_at_chance_is_not_called_the_fastest(classes: Comparison, tmp_path: Path) -> None:
    record = json.loads(json.dumps(classes.record))
    fast, slow = record["models"]
    fast["metrics"]["auc"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    slow["metrics"]["auc"] = {"value": 0.9, "low": 0.8, "high": 0.95}
    fast["cost"]["latency_ms"]["median"], slow["cost"]["latency_ms"]["median"] = 1.0, 9.0
    write_report(tmp_path / "r.html", [(record, classes.gallery)], "title")
    text = Page(tmp_path / "r.html").text
    assert "9.0 msan image with resnet18, the fastest" in text


def test_each_network_may_begin_from_a_run_of_its_name(
    classes: Comparison, lenses: Path, tmp_path: Path
) -> None:
    before = classes.out / "runs"
    out = tmp_path / "warm"
    names = ["mobilenetv3_small"]
    warm = compare("classification", lenses, names, out, overrides=QUICK, start=before)
    assert str(before / names[0]) in warm.record["models"][0]["start"]
    with pytest.raises(RunError, match="efficientnet_b5: no such folder"):
        compare("classification", lenses, ["efficientnet_b5"], out, start=before)
