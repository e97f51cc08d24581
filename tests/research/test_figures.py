"""Figures of the documentation that are drawn from records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "research"))

import learning_curves_figure
import robustness_together
import true_against_predicted


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": min(1.0, value + 0.02)}


def test_learning_curves_have_a_panel_per_network_and_a_line_per_way_of_training() -> None:
    arms: list[dict[str, Any]] = [
        {
            "name": name,
            "network": network,
            "inputs": "maps" if name == "mass maps" else "raw",
            "train_images": count,
            "history": [{"images": count * k, "val_auc": auc} for k, auc in ((1, 0.5), (2, best))],
            "test_auc": interval(best),
        }
        for network in ("d4net", "resnet18")
        for name, count, best in (("images", 27_000, 0.6), ("mass maps", 9_000, 0.97))
    ]
    figure = learning_curves_figure.draw(arms)
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["d4net", "resnet18"]
    for panel in figure.axes:
        lines = {line.get_label(): line for line in panel.get_lines()}
        x, y = lines["mass maps (9,000 images)"].get_data()
        assert (list(x), list(y)) == ([9_000, 18_000], [0.5, 0.97])
        marks = [container.lines[0].get_xydata().tolist() for container in panel.containers]
        assert marks == [[[54_000, 0.6]], [[18_000, 0.97]]]


def step(shift: str | None, factor: float, auc: float) -> dict[str, Any]:
    return {"shift": shift, "factor": factor, "metrics": {"auc": interval(auc)}}


def test_robustness_of_runs_names_runs_that_were_not_measured() -> None:
    records: list[dict[str, Any]] = [
        {
            "run": "set/first",
            "task": "classification",
            "preset": "set",
            "steps": [step(None, 1, 0.9), step("sky", 2, 0.8), step("psf", 2, 0.6)],
        },
        {
            "run": "set/second",
            "task": "classification",
            "preset": "set",
            "steps": [step(None, 1, 1.0), step("sky", 2, 0.7)],
        },
    ]
    sky, psf = robustness_together.draw(records).axes[:2]
    assert not sky.texts
    assert [text.get_text() for text in psf.texts] == ["second: not measured"]
    first, *_ = sky.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[1, 0.1], [2, 0.2]])
    hollow = [line for line in sky.get_lines() if line.get_markerfacecolor() == "white"]
    assert [tuple(line.get_xydata()[0]) for line in hollow] == [(1, robustness_together.ZERO)]


def test_true_against_predicted_has_the_number_of_images_of_each_method() -> None:
    truth = np.linspace(0.01, 0.08, 20)
    found = {"raw": truth[::-1], "sampling": truth[:5] + 0.001}
    raw, sampling = true_against_predicted.draw(truth, found).axes
    rmse = np.sqrt(np.mean((truth[::-1] - truth) ** 2))
    assert raw.texts[0].get_text() == f"RMSE {rmse:.4f}\n20 images"
    assert sampling.texts[0].get_text() == "RMSE 0.0010\n5 images"
    assert sampling.get_lines()[1].get_xydata() == pytest.approx(
        np.stack([truth[:5], truth[:5] + 0.001], axis=1)
    )
