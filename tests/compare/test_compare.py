"""Comparison of networks, its files and its report, on a set of two minutes' worth."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from rich.console import Console

from halometry.compare.compare import Comparison, compare_networks
from halometry.compare.ranking import CHANCE_LIMITS
from halometry.compare.report import write_report
from halometry.compare.tables import markdown_table, print_table, write_csv
from halometry.errors import RunError, UnavailableError, UsageError
from helpers.comparison import NETWORKS, QUICK


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
        areas = {"auc", "auc_no", "auc_sphere", "auc_vort"}
        assert areas | {"accuracy", "loss", "ece"} == set(model["metrics"])
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
    parts = ("train", "validation", "calibration", "test")
    assert sum(record["data"][part] for part in parts) == 90


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
    write_report(tmp_path / "r.html", [(record, classes.examples)], "<b>title</b>")
    page = Page(tmp_path / "r.html")
    assert "script" not in page.tags
    assert "<b>title</b>" in page.text


def test_networks_with_and_without_posteriors_stand_in_one_report(
    fractions: Comparison, tmp_path: Path
) -> None:
    record = json.loads(json.dumps(fractions.record))
    record["models"][0]["metrics"]["nll"] = {"value": -2.5, "low": -2.6, "high": -2.4}
    text = Page(write_report(tmp_path / "r.html", [(record, fractions.examples)], "mixed")).text
    assert "NLL" in text
    assert "-2.50" in text
    write_csv(tmp_path / "r.csv", record)
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["nll"] == "-2.5"
    assert rows[1]["nll"] == ""


def test_repeating_trains_nothing_again(classes: Comparison, lenses: Path) -> None:
    weights = sorted(classes.out.glob("runs/*/weights.safetensors"))
    before = [w.stat().st_mtime_ns for w in weights]
    again = compare_networks("classification", lenses, NETWORKS, classes.out, overrides=QUICK)
    assert [w.stat().st_mtime_ns for w in weights] == before
    values = [m["metrics"] for m in again.record["models"]]
    assert values == [m["metrics"] for m in classes.record["models"]]


@pytest.mark.parametrize("names", [[], ["resnet18", "resnet18"]])
def test_names_are_given_once(lenses: Path, tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UsageError, match="--backbones: give one or more names, each once"):
        compare_networks("classification", lenses, names, tmp_path / "c")


def test_what_cannot_be_is_refused_before_anything_is_trained(
    classes: Comparison, lenses: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        compare_networks(
            "classification", lenses, ["mobilenetv3_small", "resnet81"], tmp_path / "c"
        )
    assert not (tmp_path / "c").exists()
    names = ["mobilenetv3_small", "resnet18"]
    with pytest.raises(RunError, match="resnet18: no such folder"):
        (tmp_path / "s").mkdir()
        shutil.copytree(classes.out / "runs" / names[0], tmp_path / "s" / names[0])
        compare_networks("classification", lenses, names, tmp_path / "c", init_from=tmp_path / "s")
    with pytest.raises(UsageError, match="'epoch'"):
        compare_networks("classification", lenses, names, tmp_path / "c", overrides={"epoch": 3})
    with pytest.raises(UnavailableError, match="no ImageNet weights of 'd4net'"):
        more, pretrained = [*names, "d4net"], {"pretrained": True}
        compare_networks("classification", lenses, more, tmp_path / "c", overrides=pretrained)
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


def test_the_lead_of_the_best_is_measured_on_the_same_images(
    classes: Comparison, lenses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHANCE_LIMITS, "auc", 0.0)  # whatever they learnt in one pass
    again = compare_networks("classification", lenses, NETWORKS, classes.out, overrides=QUICK)
    values = sorted(model["metrics"]["auc"]["value"] for model in again.record["models"])
    assert again.record["lead"]["value"] == pytest.approx(values[1] - values[0])
    assert "on the same images the difference is" in again.record["conclusion"][1]


def test_a_network_at_chance_is_not_called_the_fastest(classes: Comparison, tmp_path: Path) -> None:
    record = json.loads(json.dumps(classes.record))
    fast, slow = record["models"]
    fast["metrics"]["auc"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    slow["metrics"]["auc"] = {"value": 0.9, "low": 0.8, "high": 0.95}
    fast["cost"]["latency_ms"]["median"], slow["cost"]["latency_ms"]["median"] = 1.0, 9.0
    write_report(tmp_path / "r.html", [(record, classes.examples)], "title")
    text = Page(tmp_path / "r.html").text
    assert "9.0 msan image with resnet18, the fastest" in text


def test_each_network_may_begin_from_a_run_of_its_name(
    classes: Comparison, lenses: Path, tmp_path: Path
) -> None:
    before = classes.out / "runs"
    out = tmp_path / "warm"
    names = ["mobilenetv3_small"]
    warm = compare_networks("classification", lenses, names, out, overrides=QUICK, init_from=before)
    assert str(before / names[0]) in warm.record["models"][0]["start"]
    with pytest.raises(RunError, match="efficientnet_b5: no such folder"):
        compare_networks("classification", lenses, ["efficientnet_b5"], out, init_from=before)
