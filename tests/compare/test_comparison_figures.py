"""Data of the figures of a comparison."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from halometry.compare.figures import loss_figure, pareto_figure, validation_figure
from helpers.comparison import history_row, model_record


def test_pareto_figure_shows_latency_to_the_right_and_the_metric_upwards() -> None:
    models = [
        model_record("fast", 0.90, 1.0, half_width=0.02),
        model_record("beaten", 0.85, 2.0),
        model_record("best", 0.97, 9.0),
    ]
    panel = pareto_figure(models, "auc").axes[0]
    assert panel.get_xlabel() == "latency of one image, ms"
    assert panel.get_ylabel() == "AUC on test images, 95 % interval"
    points = {container.lines[0]: container for container in panel.containers}
    data = [tuple(np.ravel(line.get_data())) for line in points]
    assert data == [(1.0, 0.90), (2.0, 0.85), (9.0, 0.97)]
    hollow = [line.get_markerfacecolor() == "white" for line in points]
    assert hollow == [False, True, False]
    ((low, high),) = (bars[:, 1] for bars in panel.containers[0].lines[2][0].get_segments())
    assert (low, high) == (0.88, 0.92)
    x, y = panel.lines[0].get_data()  # the Pareto front, a step function
    assert list(zip(x, y, strict=True)) == [(1.0, 0.90), (9.0, 0.97), (27.0, 0.97)]


def test_pareto_figure_labels_do_not_overlap() -> None:
    names = ("one", "two", "three")
    models = [model_record(name, 0.9, 5.0, half_width=0.02) for name in names]
    labels = pareto_figure(models, "auc").axes[0].texts
    assert [label.get_text() for label in labels] == [f"{name}\n0.07 M" for name in names]
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_loss_figure_shows_losses_against_training_images() -> None:
    rows = [history_row(1, loss=3.0, val_loss=2.0), history_row(2, loss=1.5, val_loss=1.25)]
    (panel,) = loss_figure({"net": rows}).axes
    assert panel.get_xlabel() == "training images, thousands"
    training, validation = panel.lines
    assert training.get_linestyle() == "--"
    np.testing.assert_array_equal(np.transpose(training.get_data()), [(1, 3.0), (2, 1.5)])
    np.testing.assert_array_equal(np.transpose(validation.get_data()), [(1, 2.0), (2, 1.25)])
    assert panel.get_title(loc="left") == "Loss: validation (line), training (dashed)"


def test_validation_figure_shows_the_metric_against_training_images() -> None:
    (panel,) = validation_figure({"net": [history_row(1), history_row(2)]}, "AUC").axes
    assert panel.get_xlabel() == "training images, thousands"
    np.testing.assert_array_equal(np.transpose(panel.lines[0].get_data()), [(1, 0.1), (2, 0.2)])
    assert panel.get_title(loc="left") == "AUC on the validation set"


def test_loss_figure_is_drawn_for_infinite_losses() -> None:
    rows = [history_row(1, val_loss=math.inf), history_row(2, val_loss=0.5)]
    assert loss_figure({"net": rows}).axes[0].get_ylim()[1] < 1
