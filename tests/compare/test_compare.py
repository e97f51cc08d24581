"""Comparison of networks: its files, its tables and its report."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from rich.console import Console

from halometry.compare.compare import Comparison, compare_networks
from halometry.compare.ranking import CHANCE
from halometry.compare.report import ReportSection, write_report
from halometry.compare.schema import ComparisonRecord, read_comparison_record
from halometry.compare.tables import markdown_table, print_table, write_csv
from halometry.errors import FormatError, RunError, UnavailableError, UsageError
from helpers.comparison import NETWORKS, QUICK


class Page(HTMLParser):
    """Addresses that a page loads, its tags and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.unnamed_images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        named = dict(attrs)
        is_image = tag == "img" or named.get("role") == "img"
        if is_image and not (named.get("alt") or named.get("aria-label")):
            self.unnamed_images.append(named)

    def handle_data(self, data: str) -> None:
        self.text += data


def changed(record: ComparisonRecord, change: Any) -> ComparisonRecord:
    """A record changed by a function of its JSON content."""
    content = record.model_dump(mode="json")
    change(content)
    return ComparisonRecord.model_validate(content)


def test_results_have_all_metrics_and_costs(classes: Comparison) -> None:
    record = read_comparison_record(classes.out / "results.json")
    assert record == classes.record
    assert [model.name for model in record.models] == NETWORKS
    for model in record.models:
        areas = {"auc", "auc_no", "auc_sphere", "auc_vort"}
        precision = {"average_precision", "ap_no", "ap_sphere", "ap_vort"}
        assert areas | precision | {"accuracy", "loss", "ece"} == set(model.metrics)
        for interval in model.metrics.values():
            assert interval.low <= interval.value <= interval.high
        assert model.cost.parameters > 1e5
        assert model.cost.macs > 1e5
        assert (model.cost.checkpoint_bytes or 0) > 4 * model.cost.parameters
        assert model.cost.peak_memory_bytes > 4 * model.cost.parameters
        assert model.latency > 0
        assert model.cost.throughput.median > 0
        assert np.array(model.confusion).sum() == record.data.test
        assert model.calibration is not None
        assert model.calibration.after.ece == model.metrics["ece"]
        assert model.training.images == model.history[-1].images
        assert [path.name for path in (classes.out / model.run).glob("config.yaml")]
    assert record.machine["processor"]
    assert record.seed == 0
    data = record.data
    assert data.train + data.validation + data.calibration + data.test == data.images == 90


def test_results_of_regression_have_its_metrics(fractions: Comparison) -> None:
    for model in fractions.record.models:
        assert set(model.metrics) == {"mse", "rmse", "mae", "r2", "bias"}
        assert model.confusion is model.roc is model.calibration is None


def test_results_of_another_version_or_with_unknown_keys_are_refused(
    classes: Comparison, tmp_path: Path
) -> None:
    content = json.loads((classes.out / "results.json").read_text(encoding="utf-8"))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content | {"format_version": 99}))
    with pytest.raises(FormatError, match="has format version 99"):
        read_comparison_record(path)
    content["models"][0]["trust"] = {}
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"(?s)is not a valid comparison file.*models\.0\.trust"):
        read_comparison_record(path)


def test_all_networks_are_evaluated_on_the_same_images(classes: Comparison) -> None:
    first, second = classes.evaluations
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.truth, second.truth)


def test_csv_has_one_row_per_network(classes: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO((classes.out / "results.csv").read_text())))
    assert [row["name"] for row in rows] == NETWORKS
    for row, model in zip(rows, classes.record.models, strict=True):
        assert float(row["auc"]) == pytest.approx(model.metrics["auc"].value)
        assert float(row["latency_ms_median"]) > 0


def test_pareto_plot_is_written(classes: Comparison) -> None:
    with Picture.open(classes.out / "accuracy_against_latency.png") as plot:
        assert plot.size[0] > 400
        assert np.asarray(plot.convert("L")).std() > 5


@pytest.mark.parametrize("which", ["classes", "fractions"])
def test_report_is_self_contained(which: str, request: pytest.FixtureRequest) -> None:
    comparison: Comparison = request.getfixturevalue(which)
    page = Page(comparison.report)
    assert all(address.startswith(("data:", "#")) for address in page.loaded)
    style = comparison.report.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(\s*['\"]?https?:", style)
    assert page.tags.count("svg") >= 3
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for network in NETWORKS:
        assert network in page.text
    for sentence in comparison.record.conclusion:
        assert sentence in page.text


@pytest.mark.parametrize("which", ["classes", "fractions"])
def test_report_fits_small_screens_paper_and_screen_readers(
    which: str, request: pytest.FixtureRequest
) -> None:
    comparison: Comparison = request.getfixturevalue(which)
    page, text = Page(comparison.report), comparison.report.read_text(encoding="utf-8")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert page.unnamed_images == []
    assert len(re.findall(r'role="img"', text)) == page.tags.count("svg")
    assert len(re.findall(r'<div class="card scroll"><table>', text)) == page.tags.count("table")
    assert len(re.findall(r'<svg [^>]*width="', text)) == 0  # a fixed width would not shrink
    print_rules = text[text.index("@media print") : text.index("</style>")]
    for rule in ("background:#fff", "break-inside:avoid", "overflow:visible", "display:none"):
        assert rule in print_rules


def test_report_defines_its_metrics_and_sets(classes: Comparison) -> None:
    text = Page(classes.report).text
    for definition in ("Area under the ROC curve", "Time for one image", "choose the checkpoint"):
        assert definition in text


def test_report_escapes_names(classes: Comparison, tmp_path: Path) -> None:
    def add_markup(content: dict[str, Any]) -> None:
        content["data"]["path"] = content["data"]["description"] = "<script>alert(1)</script>"

    record = changed(classes.record, add_markup)
    section = ReportSection(record, classes.section.examples)
    page = Page(write_report(tmp_path / "r.html", [section], "<b>title</b>"))
    assert "script" not in page.tags
    assert "<b>title</b>" in page.text


def test_report_of_networks_with_and_without_posteriors(
    fractions: Comparison, tmp_path: Path
) -> None:
    def add_nll(content: dict[str, Any]) -> None:
        content["models"][0]["metrics"]["nll"] = {"value": -2.5, "low": -2.6, "high": -2.4}

    record = changed(fractions.record, add_nll)
    section = ReportSection(record, fractions.section.examples)
    text = Page(write_report(tmp_path / "r.html", [section], "mixed")).text
    assert "NLL" in text
    assert "-2.50" in text
    write_csv(tmp_path / "r.csv", record)
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["nll"] == "-2.5"
    assert rows[1]["nll"] == ""


def test_repeated_comparison_trains_nothing_and_compares_the_two_best(
    classes: Comparison, lenses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHANCE, "auc", -1)  # whatever they learned in one epoch
    weights = sorted(classes.out.glob("runs/*/weights.safetensors"))
    before = [w.stat().st_mtime_ns for w in weights]
    again = compare_networks("classification", lenses, NETWORKS, classes.out, overrides=QUICK)
    assert [w.stat().st_mtime_ns for w in weights] == before
    metrics = [model.metrics for model in again.record.models]
    assert metrics == [model.metrics for model in classes.record.models]
    values = sorted(metric["auc"].value for metric in metrics)
    assert again.record.best_minus_second is not None
    assert again.record.best_minus_second.value == pytest.approx(values[1] - values[0])
    assert "on the same images is" in again.record.conclusion[1]


@pytest.mark.parametrize("names", [[], ["resnet18", "resnet18"]])
def test_repeated_or_missing_backbones_are_refused(
    lenses: Path, tmp_path: Path, names: list[str]
) -> None:
    with pytest.raises(UsageError, match="--backbones: give one or more names, each once"):
        compare_networks("classification", lenses, names, tmp_path / "c")


def test_invalid_options_are_refused_before_any_training(
    classes: Comparison, lenses: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        compare_networks("classification", lenses, [*NETWORKS, "resnet81"], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(RunError, match=f"{NETWORKS[1]}: no such folder"):
        (tmp_path / "s").mkdir()
        shutil.copytree(classes.out / "runs" / NETWORKS[0], tmp_path / "s" / NETWORKS[0])
        compare_networks(
            "classification", lenses, NETWORKS, tmp_path / "c", init_from=tmp_path / "s"
        )
    with pytest.raises(UsageError, match="'epoch'"):
        compare_networks("classification", lenses, NETWORKS, tmp_path / "c", overrides={"epoch": 3})
    with pytest.raises(UnavailableError, match="no ImageNet weights of 'd4net'"):
        overrides = {"pretrained": True}
        compare_networks("classification", lenses, ["d4net"], tmp_path / "c", overrides=overrides)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("which", ["classes", "fractions"])
def test_table_fits_80_columns_and_marks_the_pareto_front(
    which: str, request: pytest.FixtureRequest
) -> None:
    comparison: Comparison = request.getfixturevalue(which)

    def lengthen(content: dict[str, Any]) -> None:
        content["models"][0]["name"] = "mobilenetv3_small"

    text = io.StringIO()
    print_table(changed(comparison.record, lengthen), Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for network in ("mobilenetv3_small", NETWORKS[1]):
        assert network in text.getvalue()
    assert "…" not in text.getvalue()
    assert any(line.rstrip().endswith("yes") for line in lines)


def test_markdown_table_marks_the_best_values(classes: Comparison) -> None:
    lines = markdown_table(classes.record).splitlines()
    assert len(lines) == 2 + len(NETWORKS)
    assert len({line.count("|") for line in lines}) == 1
    assert sum("**" in line for line in lines[2:]) >= 1


def test_report_excludes_networks_at_chance_level_from_the_fastest(
    classes: Comparison, tmp_path: Path
) -> None:
    def set_numbers(content: dict[str, Any]) -> None:
        fast, slow = content["models"]
        fast["metrics"]["auc"] = {"value": 0.5, "low": 0.4, "high": 0.6}
        slow["metrics"]["auc"] = {"value": 0.9, "low": 0.8, "high": 0.95}
        fast["cost"]["latency_ms"]["median"], slow["cost"]["latency_ms"]["median"] = 1.0, 9.0

    section = ReportSection(changed(classes.record, set_numbers), classes.section.examples)
    text = Page(write_report(tmp_path / "r.html", [section], "title")).text
    assert f"9.0 mslatency of {NETWORKS[1]}, the fastest" in text
    assert "not better than chance" in text


def test_networks_are_initialized_from_the_runs_of_their_names(
    classes: Comparison, lenses: Path, tmp_path: Path
) -> None:
    folder = classes.out / "runs"
    warm = compare_networks(
        "classification", lenses, NETWORKS[:1], tmp_path / "warm", overrides=QUICK,
        init_from=folder,
    )  # fmt: skip
    assert str(folder / NETWORKS[0]) in warm.record.models[0].start
