"""Comparison of networks: train them on one data set and evaluate them on the same images."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from halometry.compare.cost import measure_speed, model_cost
from halometry.compare.examples import select_examples
from halometry.compare.figures import pareto_figure
from halometry.compare.ranking import best_minus_second, best_model, conclusion
from halometry.compare.report import ReportSection, write_report
from halometry.compare.schema import (
    ComparisonData,
    ComparisonRecord,
    CostRecord,
    HistoryRow,
    ModelRecord,
    RecipeRecord,
    TrainingRecord,
    write_comparison_record,
)
from halometry.compare.tables import write_csv, write_differences
from halometry.config import Inputs, Task
from halometry.datasets.dataset import LabeledImages, take_rows
from halometry.errors import RunError, UsageError
from halometry.evaluation.differences import differences
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import key_metric
from halometry.log import logger, with_progress
from halometry.models.backbones import check_pretrained, timm_name
from halometry.models.predictor import Predictor
from halometry.parallel import Workers, find_device
from halometry.plotting import save_figure
from halometry.provenance import command, machine, versions
from halometry.runs.recipe import RecipeFile, load_recipe
from halometry.runs.run import HISTORY, WEIGHTS, Run
from halometry.simulation import Preset
from halometry.training.distributed import find_context
from halometry.training.inputs import open_inputs
from halometry.training.train import train
from halometry.training.warm_start import load_initial_run

TIMING_SECONDS = 3.0  # per network


@dataclass(frozen=True)
class Comparison:
    """Comparison of networks.

    Attributes:
        section: the record and images of the comparison, as a section of a report.
        evaluations: of each network, in the given order.
        out: the folder.
    """

    section: ReportSection
    evaluations: list[Evaluation]
    out: Path

    @property
    def record(self) -> ComparisonRecord:
        """Contents of `results.json`."""
        return self.section.record

    @property
    def report(self) -> Path:
        """The report of this comparison."""
        return self.out / "report.html"


@with_progress
def compare_networks(
    task: Task,
    data: str | Path | LabeledImages,
    backbones: Sequence[str],
    out: str | Path,
    *,
    inputs: Inputs = "raw",
    preset: str | Path | Preset | None = None,
    workers: Workers = "auto",
    recipe: str | Path | RecipeFile = "default",
    overrides: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    init_from: str | Path | None = None,
    note: str | None = None,
    devices: int = 1,
    progress: bool = True,
) -> Comparison:
    """Compare networks by accuracy and cost; runs that are finished in `out` are used again.

    Args:
        task: classification or regression.
        data: a labeled data set or its path.
        backbones: names; see `halometry.models.backbones`.
        out: folder for `runs/`, `evaluations/`, `results.csv`, `differences.csv`, `results.json`,
            figures and `report.html`.
        inputs, preset, workers: see `train`.
        recipe: a name, a YAML file, or a recipe; see `train`.
        overrides: values that replace those of the recipe.
        seed: of the split and of all training.
        device: `auto`, `cpu`, or as PyTorch names it.
        init_from: a folder of finished runs, named like the backbones, whose weights are the
            initial weights.
        note: a remark on the data for the report.
        devices: number of processes on this machine that train a network together, see `train`.
        progress: whether to show progress bars.

    Raises:
        HalometryError: as `train` and `evaluate`.
    """
    out = Path(out)
    recipe_file = recipe if isinstance(recipe, RecipeFile) else load_recipe(recipe)
    _check(task, backbones, out, recipe_file, overrides, init_from, devices)
    first = recipe_file.resolve(task, backbones[0], overrides)
    labeled = open_inputs(data, task, inputs, preset, workers, recipe=first)
    evaluations = {}
    for i, name in enumerate(backbones):
        logger.info(f"[{i + 1}/{len(backbones)}] {name}: training for {task}")
        run = train(
            task,
            labeled,
            name,
            out / "runs" / name,
            recipe=recipe_file,
            overrides=overrides,
            seed=seed,
            device=device,
            init_from=Path(init_from) / name if init_from else None,
            devices=devices,
        )
        evaluations[name] = evaluate(run, labeled, out=out / "evaluations" / name, device=device)
    logger.info(f"measuring the speed of {len(backbones)} networks")
    where = find_device(device)
    record = _record(task, labeled, recipe_file, list(evaluations.values()), out, seed, where, note)
    best = best_model(record.models, record.key_metric).name
    examples = select_examples(labeled, evaluations, seed=seed, explain=best, device=device)
    section = ReportSection(record, examples)
    comparison = Comparison(section, list(evaluations.values()), out)
    write_comparison(comparison)
    return comparison


def _check(
    task: Task,
    backbones: Sequence[str],
    out: Path,
    recipe: RecipeFile,
    overrides: dict[str, Any] | None,
    init_from: str | Path | None,
    devices: int,
) -> None:
    """Check all options before anything is trained.

    Raises:
        HalometryError: a network cannot be trained like this.
    """
    if find_context(devices, 1).processes > 1:
        raise UsageError("compare: starts its processes itself; use it without torchrun or srun")
    if len(set(backbones)) < len(backbones) or not backbones:
        raise UsageError("--backbones: give one or more names, each once, separated by commas")
    for name in backbones:
        timm_name(name)
        resolved = recipe.resolve(task, name, overrides)
        if init_from and not (out / "runs" / name).exists():
            load_initial_run(Path(init_from) / name, task, name, out / "runs" / name)
        if resolved.pretrained and not init_from:
            check_pretrained(name)


def write_comparison(comparison: Comparison) -> None:
    """Write `results.json`, the tables, the accuracy-against-latency plot and the report."""
    out, record = comparison.out, comparison.record
    write_comparison_record(out / "results.json", record)
    write_csv(out / "results.csv", record)
    write_differences(out / "differences.csv", record)
    save_figure(
        pareto_figure(record.models, record.key_metric), out / "accuracy_against_latency.png"
    )
    title = f"{len(record.models)} networks compared: {record.task}"
    write_report(comparison.report, [comparison.section], title)
    logger.info(f"results and report -> {out}")


def _record(
    task: Task,
    data: LabeledImages,
    recipe: RecipeFile,
    evaluations: Sequence[Evaluation],
    out: Path,
    seed: int,
    device: str,
    note: str | None,
) -> ComparisonRecord:
    costs = _measure_costs(evaluations, data, device)
    models = [_model_record(e, costs[e.run.name], out) for e in evaluations]
    outputs = {e.run.name: e.outputs for e in evaluations}
    pairs = differences(evaluations[0].truth, outputs)
    record = ComparisonRecord(
        task=task,
        data=_data_record(data, _run(evaluations[0]), note),
        recipe=RecipeRecord(name=recipe.name, summary=recipe.description),
        seed=seed,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command(),
        versions=versions(),
        machine=machine(device),
        models=tuple(models),
        differences=tuple(pairs),
        best_minus_second=best_minus_second(models, pairs, key_metric(task)),
    )
    return record.model_copy(update={"conclusion": tuple(conclusion(record))})


def _data_record(data: LabeledImages, run: Run, note: str | None) -> ComparisonData:
    split, seed = run.split(), data.attributes.get("seed")
    return ComparisonData(
        path=data.source,
        description=data.description,
        images=len(data),
        train=len(split.train),
        validation=len(split.validation),
        calibration=len(split.calibration),
        test=len(split.test),
        shape=tuple(data.images.shape[1:]),
        class_names=data.class_names or None,
        preset=data.attributes.get("preset"),
        seed=None if seed is None else int(seed),
        note=note,
    )


def _model_record(evaluation: Evaluation, cost: CostRecord, out: Path) -> ModelRecord:
    run, confusion = _run(evaluation), evaluation.confusion
    roc = {
        name: (tuple(np.round(fpr, 5).tolist()), tuple(np.round(tpr, 5).tolist()))
        for name, (fpr, tpr, _) in evaluation.roc.items()
    }
    return ModelRecord(
        name=run.name,
        run=str(run.path.relative_to(out)) if run.path.is_relative_to(out) else str(run.path),
        start=run.config.initial_weights,
        metrics=evaluation.metrics,
        calibration=evaluation.calibration,
        coverage=evaluation.coverage,
        confusion=None if confusion is None else confusion.tolist(),
        roc=roc or None,
        posterior=evaluation.posterior_checks,
        cost=cost,
        training=_training_record(run),
        history=read_history(run),
    )


def _training_record(run: Run) -> TrainingRecord:
    record = run.training_metrics()
    return TrainingRecord.model_validate(
        {key: record[key] for key in TrainingRecord.model_fields if key in record}
    )


def read_history(run: Run) -> tuple[HistoryRow, ...]:
    """Rows of a run's `history.csv`.

    Raises:
        RunError: it is missing or damaged.
    """
    path = run.path / HISTORY
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(HistoryRow.model_validate(row) for row in csv.DictReader(file))
    except (OSError, ValidationError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error


def _run(evaluation: Evaluation) -> Run:
    """Run folder of an evaluation; all runs of a comparison are run folders."""
    assert isinstance(evaluation.run, Run)
    return evaluation.run


def _measure_costs(
    evaluations: Sequence[Evaluation], data: LabeledImages, device: str
) -> dict[str, CostRecord]:
    """Size, operations, memory and speed of each network; the speed of all is measured in turns."""
    example = take_rows(data.images, np.arange(1)).float()
    predictors: dict[str, Callable[[Tensor], Tensor]] = {}
    sizes: dict[str, dict[str, Any]] = {}
    for evaluation in evaluations:
        run = _run(evaluation)
        predictor: Predictor = run.predictor(device)
        sizes[run.name] = model_cost(predictor, example, run.path / WEIGHTS)
        predictors[run.name] = predictor
    seconds = TIMING_SECONDS * len(predictors)
    speeds = measure_speed(predictors, example.to(device), seconds=seconds)
    return {name: CostRecord.model_validate(sizes[name] | speeds[name]) for name in predictors}
