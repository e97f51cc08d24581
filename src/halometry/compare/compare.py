"""Train several networks on one set, judge them on the same images, and say which to choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from halometry.attribution.explain import Attribution, explain_rows
from halometry.compare.cost import measure_speed, model_cost
from halometry.compare.ranking import above_chance, best_model, conclusion
from halometry.compare.report import ExampleImages, pareto, write_report
from halometry.compare.tables import write_csv, write_differences
from halometry.config import Task
from halometry.datasets.dataset import LabeledImages, take_rows
from halometry.datasets.open import open_dataset
from halometry.datasets.splits import split_dataset
from halometry.errors import HalometryError, RunError, UsageError
from halometry.evaluation import figures
from halometry.evaluation.differences import differences, find_difference
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import key_metric, roc_curves
from halometry.evaluation.posterior_checks import posterior_record
from halometry.io import header, write_text
from halometry.log import logger
from halometry.models.backbones import check_pretrained, timm_name
from halometry.models.predictor import Predictor
from halometry.parallel import find_device
from halometry.provenance import command, machine, versions
from halometry.runs.recipe import RecipeFile, load_recipe
from halometry.runs.run import HISTORY, WEIGHTS, Run
from halometry.training.distributed import find_context
from halometry.training.train import train
from halometry.training.warm_start import load_initial_run

SPEED_SECONDS = 3.0  # spent on timing each network
WORST = 8  # examples shown of what the networks got most wrong
SAMPLES = 4  # examples shown of each class
LOOKS = 6  # of these, those beside a map


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        record: what `results.json` holds.
        gallery: arrays for the report's pictures.
        evaluations: of each network, in the order asked for.
        out: the folder.
    """

    record: dict[str, Any]
    examples: ExampleImages
    evaluations: list[Evaluation]
    out: Path

    @property
    def report(self) -> Path:
        return self.out / "report.html"


def compare_networks(
    task: Task,
    data: str | Path | LabeledImages,
    backbones: Sequence[str],
    out: str | Path,
    recipe: str | Path | RecipeFile = "default",
    overrides: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    init_from: str | Path | None = None,
    note: str | None = None,
    devices: int = 1,
) -> Comparison:
    """Compare networks by accuracy and cost; what is trained already in `out` is kept.

    Args:
        task: classification or regression.
        data: a labeled set or the path of one.
        backbones: names; see `halometry.models.backbones`.
        out: gets `runs/`, `evaluations/`, `results.csv`, `differences.csv`, `results.json`,
            figures, `report.html`.
        recipe: a name, a YAML file, or a recipe; see `train`.
        overrides: values that win over the recipe's.
        seed: of the split and of all training.
        device: `auto`, `cpu`, or as PyTorch names it.
        init_from: folder of finished runs, named like the backbones, to start from.
        note: a word on the data for the report.
        devices: processes on this machine that train a network together, see `train`.

    Raises:
        HalometryError: as `train` and `evaluate`.
    """
    out = Path(out)
    if find_context(devices, 1).processes > 1:
        raise UsageError("compare: starts its processes itself; use it without torchrun or srun")
    if len(set(backbones)) < len(backbones) or not backbones:
        raise UsageError("--backbones: give one or more names, each once, separated by commas")
    recipe_file = recipe if isinstance(recipe, RecipeFile) else load_recipe(recipe)
    for name in backbones:  # what cannot be is refused before anything is trained
        timm_name(name)
        resolved = recipe_file.resolve(task, name, overrides)
        if init_from and not (out / "runs" / name).exists():
            load_initial_run(Path(init_from) / name, task, name, out / "runs" / name)
        if resolved.pretrained and not init_from:
            check_pretrained(name)
    labeled = data if isinstance(data, LabeledImages) else open_dataset(data, task=task)
    evaluations = []
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
        evaluations.append(evaluate(run, labeled, out / "evaluations" / name, device))
    logger.info(f"timing {len(backbones)} networks, one image and batches, in turns")
    record = _record(task, labeled, recipe_file, evaluations, out, seed, device, note)
    named = {e.run.name: e for e in evaluations}
    gallery = select_examples(labeled, named, seed, best_model(record)["name"], device)
    comparison = Comparison(record, gallery, evaluations, out)
    write_comparison(comparison)
    return comparison


def write_comparison(comparison: Comparison) -> None:
    """Write `results.json`, the tables, the accuracy-against-latency plot and the report."""
    out, record = comparison.out, comparison.record
    write_text(out / "results.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_csv(out / "results.csv", record)
    write_differences(out / "differences.csv", record)
    figures.save_figure(pareto(record), out / "accuracy_against_latency.png")
    title = f"{len(record['models'])} networks compared: {record['task']}"
    write_report(comparison.report, [(record, comparison.examples)], title)
    logger.info(f"results and report -> {out}")


def _record(
    task: Task,
    data: LabeledImages,
    recipe: RecipeFile,
    evaluations: list[Evaluation],
    out: Path,
    seed: int,
    device: str,
    note: str | None,
) -> dict[str, Any]:
    split = split_dataset(data, seed=seed)
    where = find_device(device)
    costs = _costs(evaluations, data, where)
    record: dict[str, Any] = {
        **header("comparison"),
        "task": task,
        "data": {
            "path": data.source,
            "description": data.description,
            "images": len(data),
            "train": len(split.train),
            "validation": len(split.validation),
            "calibration": len(split.calibration),
            "test": len(split.test),
            "shape": list(data.images.shape[1:]),
            "class_names": list(data.class_names) if data.class_names else None,
            "preset": data.attributes.get("preset"),
            "seed": _plain(data.attributes.get("seed")),
            "note": note,
        },
        "recipe": {"name": recipe.name, "summary": recipe.description},
        "seed": seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "versions": versions(),
        "machine": machine(where),
        "models": [_model(e, costs[e.run.name], out) for e in evaluations],
    }
    answers = {e.run.name: e.outputs for e in evaluations}
    found = differences(evaluations[0].truth, answers)
    record["differences"] = [one.to_dict() for one in found]
    record["lead"] = _lead(record)
    record["conclusion"] = conclusion(record)
    return record


def _lead(record: dict[str, Any]) -> dict[str, float] | None:
    """How much better the best network is than the next, on the same images."""
    key = key_metric(record)
    ranked = [model["name"] for model in above_chance(record["models"], key)]
    if len(ranked) < 2:
        return None
    return find_difference(record["differences"], key, *ranked[:2]).to_dict()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _model(evaluation: Evaluation, cost: dict[str, Any], out: Path) -> dict[str, Any]:
    run, config = _folder(evaluation), evaluation.run.config
    confusion = evaluation.confusion
    roc = None
    if config.class_names:
        curves = roc_curves(evaluation.truth, evaluation.outputs, config.class_names)
        roc = {
            name: [np.round(fpr, 5).tolist(), np.round(tpr, 5).tolist()]
            for name, (fpr, tpr) in curves.items()
        }
    posterior = None
    if evaluation.posterior is not None:
        posterior = posterior_record(evaluation.truth, evaluation.posterior)
    return {
        "name": run.name,
        "run": str(run.path.relative_to(out)) if run.path.is_relative_to(out) else str(run.path),
        "start": config.initial_weights,
        "metrics": {key: value.to_dict() for key, value in evaluation.metrics.items()},
        "trust": evaluation.trust,
        "confusion": confusion.tolist() if confusion is not None else None,
        "roc": roc,
        "posterior": posterior,
        "cost": cost,
        "training": run.training_metrics(),
        "history": read_history(run),
    }


def read_history(run: Run) -> list[dict[str, float]]:
    """The lines of a run's `history.csv`: step, images, losses, validation metric, rate.

    Raises:
        RunError: it is missing or damaged.
    """
    import csv

    path = run.path / HISTORY
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error


def _folder(evaluation: Evaluation) -> Run:
    """The run folder that was judged; what `compare` judges it has trained."""
    assert isinstance(evaluation.run, Run)
    return evaluation.run


def _costs(
    evaluations: list[Evaluation], data: LabeledImages, device: str
) -> dict[str, dict[str, Any]]:
    """Size, work, memory and speed of each network, all timed in turns on this machine."""
    raw = take_rows(data.images, np.arange(1)).float()
    predictors: dict[str, Callable[[Tensor], Tensor]] = {}
    costs: dict[str, dict[str, Any]] = {}
    for evaluation in evaluations:
        run = _folder(evaluation)
        predictor: Predictor = run.predictor(device)
        costs[run.name] = model_cost(predictor, raw, run.path / WEIGHTS)
        predictors[run.name] = predictor
    seconds = SPEED_SECONDS * len(predictors)
    speeds = measure_speed(predictors, raw.to(device), seconds=seconds)
    return {name: costs[name] | speeds[name] for name in predictors}


def select_examples(
    data: LabeledImages,
    evaluations: dict[str, Evaluation],
    seed: int,
    explain: str | None = None,
    device: str = "auto",
) -> ExampleImages:
    """Pictures for the report: what the images look like, and what was most mistaken.

    Args:
        data: the images.
        evaluations: of each network on the same of them.
        seed: of the choice of samples.
        explain: a network, for maps of what its answers rest on where captum is installed.
        device: that it works on.
    """
    named, first = evaluations.items(), next(iter(evaluations.values()))
    truth, rows = first.truth, first.rows
    rng = np.random.default_rng(seed)
    if data.class_names:
        wrong = np.mean([1 - e.outputs[np.arange(len(truth)), truth] for _, e in named], axis=0)
        shown = [rng.permutation(np.flatnonzero(truth == k))[:SAMPLES] for k in np.unique(truth)]
        picks = np.concatenate(shown)
    else:
        wrong = np.mean([(e.outputs - truth) ** 2 for _, e in named], axis=0)
        ranks = np.linspace(0, len(truth) - 1, 3 * SAMPLES).astype(int)
        picks = np.argsort(truth)[ranks]

    def label(i: int) -> str:
        return data.class_names[int(truth[i])] if data.class_names else f"{truth[i]:.3f}"

    def said(evaluation: Evaluation, i: int) -> str:
        output = evaluation.outputs[i]
        if data.class_names:
            return f"{data.class_names[int(output.argmax())]} {output.max():.0%}"
        return f"{output:.3f}"

    def image(i: int) -> np.ndarray:
        return data.display_image(rows[i])

    def looks() -> list[Attribution]:
        if explain is None or not find_spec("captum"):
            return []
        few = picks[np.linspace(0, len(picks) - 1, LOOKS).round().astype(int)]
        try:
            seen = explain_rows(evaluations[explain].run, data, rows[few], device)
        except (HalometryError, RuntimeError, ImportError) as error:  # such as no memory for it
            logger.info(f"the report will not show where {explain} looks: {error}")
            return []
        return [replace(one, name=f"truly {label(i)}") for one, i in zip(seen, few, strict=True)]

    return ExampleImages(
        truth=truth,
        outputs={name: e.outputs for name, e in named},
        samples=[(image(i), label(i)) for i in picks],
        worst=[
            {
                "name": first.image_names[i],
                "image": image(i),
                "truth": label(i),
                "predicted": {name: said(e, i) for name, e in named},
            }
            for i in np.argsort(-wrong)[:WORST]
        ],
        looks=looks(),
    )
