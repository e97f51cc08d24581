"""Weights that come with the package: each loads, predicts, and has a matching card."""

from __future__ import annotations

import pytest
import torch
from huggingface_hub import ModelCard

import halometry
from halometry.publish.card import hub_metric, model_card, read_card
from halometry.resources import weights_folder
from halometry.runs.run import load_run
from halometry.simulation import load_preset

MEGABYTE = 1_000_000


def test_bundled_weights_are_small() -> None:
    assert "common_test_1/d4net" in halometry.list_weights()
    files = [f for name in halometry.list_weights() for f in weights_folder(name).iterdir()]
    assert sum(file.stat().st_size for file in files) < 4 * MEGABYTE


@pytest.mark.parametrize("name", halometry.list_weights())
def test_bundled_run_predicts_and_has_a_matching_card(name: str) -> None:
    run = load_run(name)
    record = run.training_metrics()
    assert run.config.data.preset == name.split("/")[0]
    assert len(run.split().train) == record["split"]["train"]
    predictions = run.predictor()(100 * torch.rand(2, *run.config.data.shape))
    assert predictions.isfinite().all()
    assert len(predictions) == 2
    text = read_card(name)
    assert text == model_card(name, run.config, record)
    found = {r.metric_type: r.metric_value for r in ModelCard(text).data.eval_results}
    assert found == {hub_metric(k): m["value"] for k, m in record["test"]["metrics"].items()}
    assert record["license"] == "mit"


@pytest.mark.parametrize("name", halometry.list_weights())
def test_bundled_run_on_mass_maps_accepts_maps_made_with_its_preset(name: str) -> None:
    """A changed text of a preset, be it only a source, makes its mapped datasets unusable."""
    data = load_run(name).config.data
    if data.mass_map_preset is not None:
        assert data.preset is not None
        assert data.mass_map_preset == load_preset(data.preset).to_yaml()
