"""Typed contents of `results.json`: a comparison of networks."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from halometry.config import Task
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.differences import Difference
from halometry.evaluation.metrics import key_metric
from halometry.evaluation.records import (
    CalibrationRecord,
    CoverageRecord,
    PosteriorRecord,
    Record,
    read_record,
    write_record,
)

Machine = dict[str, str | int | float | None]


class ComparisonData(Record):
    """Data set of a comparison.

    Attributes:
        path, description: of the data set.
        images: number of all images.
        train, validation, calibration, test: number of images in each part of the split.
        shape: of an image, (C, H, W).
        class_names: K names; None for regression.
        preset, seed: of simulated images.
        note: remark for the report.
    """

    path: str
    description: str
    images: int
    train: int
    validation: int
    calibration: int = 0
    test: int
    shape: tuple[int, ...]
    class_names: tuple[str, ...] | None
    preset: str | None
    seed: int | None
    note: str | None = None


class RecipeRecord(Record):
    """Name and description of the training recipe."""

    name: str
    summary: str


class Quartiles(Record):
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float


class CostRecord(Record):
    """Cost of a network, see `halometry.compare.cost`.

    Attributes:
        parameters: their number.
        macs: multiply-accumulate operations for one image.
        checkpoint_bytes: size of the file with the weights.
        peak_memory_bytes: largest memory of weights and tensors for a batch.
        batch_size: images in that batch.
        latency_ms: time for one image.
        throughput: images per second in batches.
    """

    parameters: int
    macs: int
    checkpoint_bytes: int | None
    peak_memory_bytes: int
    batch_size: int
    latency_ms: Quartiles
    throughput: Quartiles


class ValidationRecord(Record):
    """Result of the best checkpoint on the validation set.

    Attributes:
        loss: the loss.
        metric, value: name and value of AUC or R².
        above_chance: whether predictions without any skill would rarely reach this value; None in
            runs of versions before this was recorded.
    """

    loss: float
    metric: str
    value: float
    above_chance: bool | None = None


class TrainingRecord(Record):
    """Training of a network, from the `metrics.json` of its run folder.

    Attributes:
        validation: result of the best checkpoint.
        best_step, steps: step of the best checkpoint, and of the last one.
        images, online_images: training images, repetitions included; those simulated online.
        epochs: passes through the stored training images.
        seconds, images_per_second: duration and speed.
        processes: that trained together.
        precision: of the computation.
        stopped: why training ended.
        date: of its end.
    """

    validation: ValidationRecord
    best_step: int
    steps: int
    images: int
    online_images: int = 0
    epochs: float
    seconds: float
    images_per_second: float
    processes: int = 1
    precision: str
    stopped: str
    date: str


class HistoryRow(Record):
    """Row of `history.csv`: losses, validation metric and learning rate at one step."""

    step: float
    images: float
    seconds: float
    loss: float
    val_loss: float
    val_metric: float
    learning_rate: float


class ModelRecord(Record):
    """Network of a comparison.

    Attributes:
        name: of the network.
        start: what its weights were initialized from.
        metrics: metrics on the test images, with 95 % intervals.
        confusion: number of images by true class (rows) and predicted class (columns); None for
            regression.
        run: its run folder, relative to the folder of the comparison.
        calibration: calibration of its class probabilities; None for regression.
        coverage: coverage of its conformal sets or intervals.
        roc: false and true positive rates for each class; None for regression.
        posterior: checks of its posteriors, if it gives any.
        cost, training, history: see there.
        command, date: of its comparison, where several comparisons were merged.
    """

    name: str
    start: str
    metrics: dict[str, Interval]
    confusion: tuple[tuple[int, ...], ...] | None
    run: str
    calibration: CalibrationRecord | None = None
    coverage: CoverageRecord | None = None
    roc: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] | None
    posterior: PosteriorRecord | None = None
    cost: CostRecord
    training: TrainingRecord
    history: tuple[HistoryRow, ...]
    command: str | None = None
    date: str | None = None

    @property
    def latency(self) -> float:
        """Median latency of one image, ms."""
        return self.cost.latency_ms.median


class PublishedResult(Record):
    """Result that others published for a network of an experiment.

    Attributes:
        network: its name, as in `ModelRecord`.
        metrics: values by name of the metric; no intervals are known.
        confusion: number of images by true class (rows) and predicted class (columns).
        remark: how the network was trained or tested.
    """

    network: str
    metrics: dict[str, float]
    confusion: tuple[tuple[int, ...], ...] | None = None
    remark: str = ""


class ComparisonRecord(Record):
    """Comparison of networks on one data set: contents of `results.json`.

    Attributes:
        task: classification or regression.
        data, recipe: what the networks were trained on, and how.
        seed: of the split and the training.
        date, command, versions, machine: provenance.
        models: the networks.
        differences: between every two networks, on the same images.
        best_minus_second: difference of the two best networks in the key metric; None if fewer
            than two are better than chance.
        conclusion: sentences that summarize the ranking.
        published: results that others published for the same experiment.
    """

    task: Task
    data: ComparisonData
    recipe: RecipeRecord
    seed: int
    date: str
    command: str
    versions: dict[str, str]
    machine: Machine
    models: tuple[ModelRecord, ...] = Field(min_length=1)
    differences: tuple[Difference, ...] = ()
    best_minus_second: Interval | None = None
    conclusion: tuple[str, ...] = ()
    published: tuple[PublishedResult, ...] = ()

    @property
    def key_metric(self) -> str:
        """Metric by which the networks are ranked."""
        return key_metric(self.task)


def write_comparison_record(path: Path, record: ComparisonRecord) -> None:
    """Write `results.json`.

    Raises:
        StorageError: no room or no permission.
    """
    write_record(path, "comparison", record)


def read_comparison_record(path: Path) -> ComparisonRecord:
    """Read `results.json`.

    Raises:
        FormatError: it cannot be read, is of another format or version, or is not valid.
    """
    return read_record(path, "comparison", ComparisonRecord)
