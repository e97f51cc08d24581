"""Runs that end at chance say so; others do not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from halometry.datasets.dataset import LabeledImages
from halometry.errors import ChanceWarning
from halometry.evaluation.metrics import regression_metrics
from halometry.runs.run import load_run
from halometry.training.chance import chance_limit
from halometry.training.train import train

OPTIONS: dict[str, Any] = {"epochs": 6, "batch_size": 32, "precision": "float32"}
OPTIONS |= {"channels_last": True, "aux_loss_weight": 0, "online_fraction": 0}
SIDE = 24


def squares(labels: np.ndarray, seed: int = 0) -> LabeledImages:
    """Images of noise with a square whose brightness is the label."""
    images = np.random.default_rng(seed).random((len(labels), 1, SIDE, SIDE)).astype(np.float32)
    images[:, 0, 8:16, 8:16] += 3 * labels[:, None, None]
    is_mass = labels.dtype.kind == "f"
    return LabeledImages(
        images=images,
        labels=labels,
        task="regression" if is_mass else "classification",
        class_names=None if is_mass else ("no", "sphere", "vort"),
        names=[str(i) for i in range(len(labels))],
        source="squares",
        description="squares",
    )


CLASSES, MASSES = np.arange(300) % 3, np.linspace(0, 1, 300)


@pytest.mark.parametrize("count", [30, 300])
def test_predictions_without_skill_seldom_exceed_the_limit(count: int) -> None:
    rng, classes, masses = np.random.default_rng(0), CLASSES[:count], MASSES[:count]
    aucs, r2s = [], []
    for _ in range(300):
        scores = rng.random((count, 3))
        probabilities = scores / scores.sum(axis=1, keepdims=True)
        aucs.append(roc_auc_score(classes, probabilities, multi_class="ovr"))
        # The best scale that an offset-free network without skill could have.
        noise = rng.permutation(masses) - masses.mean()
        slope = noise @ (masses - masses.mean()) / (noise @ noise)
        predicted = masses.mean() + slope * noise
        r2s.append(1 - ((predicted - masses) ** 2).mean() / masses.var())
    assert np.mean(np.array(aucs) > chance_limit("classification", classes)) < 0.04
    # Its slope was chosen with the truth, and may be negative: twice as many exceed the limit.
    assert np.mean(np.array(r2s) > chance_limit("regression", masses)) < 0.08


def test_limit_agrees_with_the_bootstrap_interval_of_r2() -> None:
    rng, limit = np.random.default_rng(1), chance_limit("regression", MASSES)
    for factor in (0.3, 8):  # between these the interval is the wider one
        r2, noise = factor * limit, rng.standard_normal(len(MASSES))
        centered = MASSES - MASSES.mean()
        noise -= noise.mean() + centered * (noise @ centered) / (centered @ centered)
        noise *= centered.std() / noise.std()
        predicted = MASSES.mean() + r2 * centered + np.sqrt(r2 * (1 - r2)) * noise
        interval = regression_metrics(MASSES, predicted)["r2"]
        assert interval.value == pytest.approx(r2)
        assert (interval.low > 0) == (factor > 1)


def test_too_few_images_cannot_show_skill() -> None:
    assert chance_limit("classification", np.array([0, 1, 2])) > 1
    assert chance_limit("classification", np.zeros(9, int)) == np.inf
    assert chance_limit("regression", MASSES[:2]) == np.inf


@pytest.mark.parametrize("labels", [CLASSES, MASSES], ids=["classes", "masses"])
def test_run_that_learned_gives_no_warning(labels: np.ndarray, tmp_path: Path) -> None:
    data = squares(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChanceWarning)
        run = train(data.task, data, "test_resnet", tmp_path / "run", overrides=OPTIONS)
    assert run.training_metrics()["validation"]["above_chance"] is True


@pytest.mark.parametrize("labels", [CLASSES, MASSES], ids=["classes", "masses"])
def test_run_at_chance_gives_a_warning_with_its_metric_and_options(
    labels: np.ndarray, tmp_path: Path
) -> None:
    data = squares(labels)
    shuffled = replace(data, labels=np.random.default_rng(0).permutation(labels))
    options = OPTIONS | {"epochs": 1, "learning_rate": 1e-6}
    with pytest.warns(ChanceWarning) as caught:
        run = train(data.task, shuffled, "test_resnet", tmp_path / "run", overrides=options)
    metrics = run.training_metrics()
    assert metrics["validation"]["above_chance"] is False
    name = "AUC" if data.task == "classification" else "R²"
    message = str(caught[0].message)
    assert f"{run.source}: the network is not better than chance" in message
    assert f"Its validation {name} is {metrics['validation']['value']:.3f} on" in message
    assert f"It saw {metrics['images']} images in training." in message
    assert "too small" not in message
    assert "must learn the lens before it can see substructure" in message
    assert "Try --recipe default --preset FILE, --inputs maps --preset FILE," in message
    assert "--epochs above 1, or more images." in message
    assert "--init-from" not in message
    with warnings.catch_warnings():  # once, when it ends
        warnings.simplefilter("error", ChanceWarning)
        train(data.task, shuffled, "test_resnet", tmp_path / "run", overrides=options)


def test_simulated_set_at_chance_needs_no_preset(lenses: Path, tmp_path: Path) -> None:
    options = {"epochs": 1, "precision": "float32", "learning_rate": 1e-6}
    with pytest.warns(
        ChanceWarning, match=r"too small to show .*Try --inputs maps, --epochs above 1, or more"
    ):
        train("classification", lenses, "test_resnet", tmp_path / "run", overrides=options)


def test_mapped_set_at_chance_needs_no_maps(mapped: Path, tmp_path: Path) -> None:
    options = {"epochs": 1, "precision": "float32", "learning_rate": 1e-6}
    with pytest.warns(
        ChanceWarning, match=r"too small to show any skill.* Try --epochs above 1, or more images\."
    ):
        train("classification", mapped, "test_resnet", tmp_path / "run", overrides=options)


def test_weights_that_fit_are_recommended(lenses: Path, shipped: Path, tmp_path: Path) -> None:
    options = {"epochs": 1, "precision": "float32", "learning_rate": 1e-6}
    scale = load_run("demo_classification/tiny").config.recipe.scale
    with pytest.warns(ChanceWarning, match="--init-from demo_classification/tiny,"):
        train("classification", lenses, "test_resnet", tmp_path / "fits", overrides=options)
    other = options | {"scale": "none" if scale == "minmax" else "minmax"}
    with pytest.warns(ChanceWarning) as caught:
        train("classification", lenses, "test_resnet", tmp_path / "other", overrides=other)
    assert "--init-from" not in str(caught[0].message)
