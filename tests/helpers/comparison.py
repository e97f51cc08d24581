"""Networks and options of the comparisons that several tests share, and records made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halometry.compare.compare import Comparison, compare_networks
from halometry.compare.schema import (
    ComparisonData,
    ComparisonRecord,
    CostRecord,
    HistoryRow,
    ModelRecord,
    Quartiles,
    RecipeRecord,
    TrainingRecord,
    ValidationRecord,
)
from halometry.config import Task
from halometry.evaluation.bootstrap import Interval

QUICK: dict[str, Any] = {"epochs": 1, "size": 32, "precision": "float32", "channels_last": True}
NETWORKS = ["test_resnet", "test_convnext"]


def compare_quickly(task: Task, data: Path, out: Path) -> Comparison:
    """Compare the networks after one epoch."""
    return compare_networks(task, data, NETWORKS, out, overrides=QUICK)


def history_row(step: float, loss: float = 1.0, val_loss: float = 1.0) -> HistoryRow:
    return HistoryRow(
        step=step, images=1000 * step, seconds=step, loss=loss, val_loss=val_loss,
        val_metric=0.1 * step, learning_rate=0.001,
    )  # fmt: skip


def model_record(
    name: str, value: float, latency: float = 1.0, *, key: str = "auc", half_width: float = 0.01
) -> ModelRecord:
    """A network with one metric and a latency in ms."""
    quartiles = Quartiles(median=latency, low=latency, high=latency)
    return ModelRecord(
        name=name,
        run=f"runs/{name}",
        start="random weights",
        metrics={key: Interval(value, value - half_width, value + half_width)},
        confusion=None,
        roc=None,
        cost=CostRecord(
            parameters=70_000, macs=10**6, checkpoint_bytes=280_000, peak_memory_bytes=10**7,
            batch_size=64, latency_ms=quartiles, throughput=quartiles,
        ),
        training=TrainingRecord(
            validation=ValidationRecord(loss=0.5, metric=key, value=value),
            best_step=1, steps=2, images=128, epochs=1.0, seconds=1.0, images_per_second=128.0,
            precision="float32", stopped="at the planned number of steps", date="2026-01-01",
        ),
        history=(history_row(1), history_row(2)),
    )  # fmt: skip


def comparison_record(
    *models: ModelRecord,
    task: Task = "classification",
    best_minus_second: Interval | None = None,
) -> ComparisonRecord:
    """A comparison of some networks."""
    return ComparisonRecord(
        task=task,
        data=ComparisonData(
            path="lenses.h5", description="400 images", images=400, train=200, validation=50,
            calibration=50, test=100, shape=(1, 48, 48), class_names=None, preset=None, seed=None,
        ),
        recipe=RecipeRecord(name="default", summary="The default recipe."),
        seed=0,
        date="2026-01-01T00:00:00+00:00",
        command="halometry compare",
        versions={"halometry": "0.1.0"},
        machine={"processor": "a processor", "cores": 2, "device": "CPU", "load": None},
        models=models,
        best_minus_second=best_minus_second,
    )  # fmt: skip
