"""The main job on an embedded default: two small sets, eight networks, one report.

Beside them stand the weights that come with the package, on new images of the published sets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halometry.compare.compare import Comparison, compare_networks, select_examples
from halometry.compare.report import ExampleImages, write_report
from halometry.config import Task
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.store import open_store
from halometry.errors import UsageError
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import METRIC_TITLES, key_metric
from halometry.log import duration, logger
from halometry.massmaps.dataset import map_mass
from halometry.models.backbones import TIMM_NAMES
from halometry.resources import list_weights, weights_folder
from halometry.runs.recipe import load_recipe
from halometry.runs.run import Run, load_run
from halometry.simulation.rng import DEMO_SEED_OFFSET

PRESETS: dict[Task, str] = {"classification": "demo_classification", "regression": "demo_mass"}
NETWORKS = (*TIMM_NAMES, "d4net")
SHOWN = ("common_test_1", "halo_mass")  # presets whose trained weights are shown at work
INTRO = (
    "Both entrance experiments of the field in small: images of 48 x 48 pixels with substructure"
    " several times heavier than the published sets have, and a few minutes of training for each"
    " network, shared out as the networks need them. The figures say what these networks make of"
    " this easier problem, not how they do on the published one."
)


@dataclass(frozen=True)
class Demo:
    """What the demonstration made: a comparison a task, records of trained weights, the report."""

    comparisons: list[Comparison]
    trained: list[dict[str, Any]]
    report: Path


def run_demo(
    out: str | Path = "demo",
    count: int = 4000,
    seed: int = 1,
    recipe: str | Path = "demo",
    device: str = "auto",
) -> Demo:
    """Simulate, train, judge and compare; what an earlier call finished is kept.

    Args:
        out: the folder for everything.
        count: images a task, test images included.
        seed: of the images and of the training.
        recipe: of the training.
        device: `auto`, `cpu`, or as PyTorch names it.
    """
    out, names, recipe_file = Path(out), list(NETWORKS), load_recipe(recipe)
    begin = time.monotonic()
    logger.info(f"Both experiments in small, {len(names)} networks each; everything goes to {out}/")
    comparisons = []
    for i, (task, preset) in enumerate(PRESETS.items()):
        logger.info(f"{task}, {i + 1} of {len(PRESETS)}")
        store = out / f"{task}.h5"
        if not store.exists():
            simulate(preset, count, seed=seed, out=store, device=device)
        _check_store(store, count, seed)
        networks = out / task
        comparisons.append(
            compare_networks(task, store, names, networks, recipe_file, seed=seed, device=device)
        )
    trained = [
        shown
        for preset in SHOWN
        if (shown := evaluate_bundled_weights(preset, out / "weights", seed, device)) is not None
    ]
    report = write_report(
        out / "report.html",
        [(c.record, c.examples) for c in comparisons],
        f"Dark matter in simulated lenses: {len(names)} networks compared on two tasks",
        INTRO,
        trained,
    )
    logger.info(f"done in {duration(time.monotonic() - begin)}")
    return Demo(comparisons, [record for record, _ in trained], report)


def _check_store(store: Path, count: int, seed: int) -> None:
    """Refuse to go on from a demonstration with other images.

    Raises:
        UsageError: it had another number of images or another seed.
    """
    with open_store(store) as file:
        there = len(file["labels"]), int(file.attrs["seed"])
    if there != (count, seed):
        raise UsageError(
            f"{store.parent}: holds a demonstration with --count {there[0]} --seed {there[1]};"
            " give the same to go on, or choose another --out"
        )


COUNT = 200  # images


def evaluate_bundled_weights(
    preset: str, out: Path, seed: int = 1, device: str = "auto"
) -> tuple[dict[str, Any], ExampleImages] | None:
    """Judge the package's weights of a preset on new images of it.

    Args:
        preset: its name.
        out: a folder for the images and each network's evaluation; images there are kept.
        seed: another gives other images.
        device: `auto`, `cpu`, or as PyTorch names it.

    Returns:
        A record and pictures for the report; None where no weights of this preset came with
        the package.
    """
    names = [name for name in list_weights() if name.startswith(f"{preset}/")]
    if not names:
        return None
    seed += DEMO_SEED_OFFSET
    store = out / f"{preset}_{seed}.h5"
    if not store.exists():
        logger.info(f"{COUNT} new images of {preset} for the weights that come with halometry")
        simulate(preset, COUNT, seed=seed, out=store, device=device)
    data, mapped = open_dataset(store), store.with_stem(f"{store.stem}_mapped")
    evaluations = {}
    for name in names:
        run, images = load_run(weights_folder(name)), data
        if run.config.data.mass_map_preset is not None:
            if not mapped.exists():
                map_mass(data, mapped, no_truth_init=True)
            images = open_dataset(mapped)
        evaluations[name.rpartition("/")[2]] = evaluate(run, images, out / name, device)
    first = next(iter(evaluations.values()))
    task = first.run.config.task
    record: dict[str, Any] = {
        "task": task,
        "key": METRIC_TITLES[key_metric({"task": task})],
        "data": {
            "preset": preset,
            "seed": seed,
            "test": len(first.truth),
            "class_names": data.class_names,
        },
        "models": [_model(name, evaluation) for name, evaluation in evaluations.items()],
    }
    return record, select_examples(data, evaluations, seed)


def _model(name: str, evaluation: Evaluation) -> dict[str, Any]:
    assert isinstance(evaluation.run, Run)
    config, published = evaluation.run.config, evaluation.run.training_metrics()
    confusion = evaluation.confusion
    key = key_metric({"task": config.task})
    return {
        "name": name,
        "start": config.initial_weights,
        "parameters": f"{published['parameters'] / 1e6:.2f} M",
        "card": published["test"]["metrics"][key],
        "metrics": {key: value.to_dict() for key, value in evaluation.metrics.items()},
        "confusion": confusion.tolist() if confusion is not None else None,
    }
