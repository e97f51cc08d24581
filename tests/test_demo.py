"""Trained weights on new images, in a record, on the terminal and in the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from halometry.compare.tables import print_bundled_weights
from halometry.demo import evaluate_bundled_weights
from halometry.runs.run import load_run
from halometry.simulation.rng import DEMO_SEED_OFFSET


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halometry.demo.COUNT", 30)


@pytest.mark.parametrize(
    ("preset", "metric", "heading"),
    [("demo_classification", "auc", "AUC"), ("demo_mass", "r2", "R²")],
)
def test_weights_answer_for_images_made_now(
    shipped: Path, tmp_path: Path, preset: str, metric: str, heading: str
) -> None:
    found = evaluate_bundled_weights(preset, tmp_path, seed=3, device="cpu")
    assert found is not None
    record, gallery = found
    assert record["data"]["seed"] == DEMO_SEED_OFFSET + 3
    assert record["data"]["test"] == len(gallery.truth) == 30
    assert [model["name"] for model in record["models"]] == ["tiny"]
    estimate = record["models"][0]["metrics"][metric]
    assert estimate["low"] <= estimate["value"] <= estimate["high"]
    published = load_run(f"{preset}/tiny").training_metrics()["test"]["metrics"]
    assert record["models"][0]["card"] == published[metric]
    console = Console(width=100, record=True)
    print_bundled_weights(record, console)
    text = console.export_text()
    assert f"trained weights on 30 new images of {preset}" in text
    assert heading in text
    again = evaluate_bundled_weights(preset, tmp_path, seed=3, device="cpu")
    assert again is not None
    assert again[0] == record


def test_where_there_are_no_weights_nothing_is_made(shipped: Path, tmp_path: Path) -> None:
    assert evaluate_bundled_weights("halo_mass", tmp_path) is None
    assert not any(tmp_path.iterdir())
