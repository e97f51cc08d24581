"""Comparison of networks: train them on one data set and evaluate them on the same images."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from halometry.attribution.explain import Attribution, explain_rows
from halometry.compare.cost import measure_speed, model_cost
from halometry.compare.ranking import best_minus_second, best_model, conclusion
from halometry.compare.report import ExampleImages, ReportSection, WorstImage, write_report
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
from halometry.config import Task
from halometry.datasets.dataset import LabeledImages, take_rows
from halometry.datasets.open import open_dataset
from halometry.errors import HalometryError, RunError, UsageError
from halometry.evaluation.differences import differences
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import key_metric
from halometry.log import logger, with_progress
from halometry.models.backbones import check_pretrained, timm_name
from halometry.models.predictor import Predictor
from halometry.parallel import find_device
from halometry.plotting import save_figure
from halometry.provenance import command, machine, versions
from halometry.runs.recipe import RecipeFile, load_recipe
from halometry.runs.run import HISTORY, WEIGHTS, Run
from halometry.training.distributed import find_context
from halometry.training.train import train
from halometry.training.warm_start import load_initial_run

TIMING_SECONDS = 3.0  # per network
N_WORST_IMAGES = 8
SAMPLES_PER_CLASS = 4
N_ATTRIBUTIONS = 6


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
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data, task=task)
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
    save_figure(comparison.section.figures["pareto"], out / "accuracy_against_latency.png")
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


def select_examples(
    data: LabeledImages,
    evaluations: Mapping[str, Evaluation],
    *,
    seed: int,
    explain: str | None = None,
    device: str = "auto",
) -> ExampleImages:
    """Images for a report: samples of the data set, and the images with the largest errors.

    Args:
        data: the data set.
        evaluations: of each network, on the same images.
        seed: of the choice of samples.
        explain: network whose predictions are explained by attributions, if captum is installed.
        device: where attributions are computed.
    """
    first = next(iter(evaluations.values()))
    truth, rows, class_names = first.truth, first.rows, data.class_names
    samples = _sample_positions(truth, bool(class_names), seed)
    if class_names:
        true_class = np.arange(len(truth)), truth
        errors = np.mean([1 - e.outputs[true_class] for e in evaluations.values()], axis=0)
    else:
        errors = np.mean([(e.outputs - truth) ** 2 for e in evaluations.values()], axis=0)
    labels = [class_names[int(label)] if class_names else f"{label:.3f}" for label in truth]
    return ExampleImages(
        truth=truth,
        outputs={name: e.outputs for name, e in evaluations.items()},
        samples=[(data.display_image(rows[i]), labels[i]) for i in samples],
        worst=[
            WorstImage(
                name=first.image_names[i],
                image=data.display_image(rows[i]),
                truth=labels[i],
                predicted={
                    name: _format_prediction(e.outputs[i], class_names)
                    for name, e in evaluations.items()
                },
            )
            for i in np.argsort(-errors)[:N_WORST_IMAGES]
        ],
        attributions=[]
        if explain is None
        else _explain(evaluations[explain], data, samples, labels, device),
    )


def _sample_positions(truth: np.ndarray, classes: bool, seed: int) -> np.ndarray:
    """Positions of some test images: several of each class, or in equal steps of the mass."""
    if classes:
        rng = np.random.default_rng(seed)
        return np.concatenate(
            [
                rng.permutation(np.flatnonzero(truth == k))[:SAMPLES_PER_CLASS]
                for k in np.unique(truth)
            ]
        )
    ranks = np.linspace(0, len(truth) - 1, 3 * SAMPLES_PER_CLASS).astype(int)
    positions: np.ndarray = np.argsort(truth)[ranks]
    return positions


def _format_prediction(output: np.ndarray, class_names: tuple[str, ...] | None) -> str:
    if class_names:
        return f"{class_names[int(output.argmax())]} {output.max():.0%}"
    return f"{output:.3f}"


def _explain(
    evaluation: Evaluation,
    data: LabeledImages,
    samples: np.ndarray,
    labels: Sequence[str],
    device: str,
) -> list[Attribution]:
    """Attributions for some of the samples; none if they cannot be computed."""
    if not find_spec("captum"):
        return []
    chosen = samples[np.linspace(0, len(samples) - 1, N_ATTRIBUTIONS).round().astype(int)]
    try:
        attributions = explain_rows(evaluation.run, data, evaluation.rows[chosen], device)
    except (HalometryError, RuntimeError, ImportError) as error:  # such as a lack of memory
        logger.info(f"the report has no attributions of {evaluation.run.name}: {error}")
        return []
    return [
        replace(attribution, name=f"true: {labels[i]}")
        for attribution, i in zip(attributions, chosen, strict=True)
    ]
