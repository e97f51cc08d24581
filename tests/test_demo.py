"""Evaluation of the bundled weights on new images: record, terminal and report."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from halometry.compare.tables import print_bundled_weights
from halometry.demo import evaluate_bundled_weights
from halometry.evaluation.bootstrap import Interval
from halometry.runs.run import load_run
from halometry.seeds import DEMO_SEED_OFFSET


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halometry.demo.BUNDLED_TEST_IMAGES", 30)


@pytest.mark.parametrize(
    ("preset", "metric", "heading"),
    [("demo_classification", "auc", "AUC"), ("demo_mass", "r2", "R²")],
)
def test_bundled_weights_are_evaluated_on_new_images(
    shipped: Path, tmp_path: Path, preset: str, metric: str, heading: str
) -> None:
    section = evaluate_bundled_weights(preset, tmp_path, seed=3, device="cpu")
    assert section is not None
    record = section.record
    assert record.seed == DEMO_SEED_OFFSET + 3
    assert record.images == len(section.examples.truth) == 30
    (model,) = record.models
    assert model.name == "tiny"
    interval = model.metrics[metric]
    assert interval.low <= interval.value <= interval.high
    published = load_run(f"{preset}/tiny").training_metrics()["test"]["metrics"]
    assert model.published == Interval(**published[metric])
    console = Console(width=100, record=True)
    print_bundled_weights(record, console)
    text = console.export_text()
    assert f"bundled weights on 30 new images of {preset}" in text
    assert heading in text
    again = evaluate_bundled_weights(preset, tmp_path, seed=3, device="cpu")
    assert again is not None
    assert again.record == record


def test_preset_without_bundled_weights_is_not_simulated(shipped: Path, tmp_path: Path) -> None:
    assert evaluate_bundled_weights("halo_mass", tmp_path) is None
    assert not any(tmp_path.iterdir())
