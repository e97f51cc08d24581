"""Demonstration: both tasks on small simulated data sets, several networks, one report.

The report also shows the weights that come with the package on new images of their presets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halometry.compare.compare import Comparison, compare_networks
from halometry.compare.examples import select_examples
from halometry.compare.report import BundledSection, write_report
from halometry.compare.schema import BundledModel, BundledRecord
from halometry.config import Task
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.datasets.store import open_store
from halometry.errors import UsageError
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import key_metric
from halometry.log import duration, logger, with_progress
from halometry.models.backbones import TIMM_NAMES
from halometry.resources import list_weights, weights_folder
from halometry.runs.recipe import load_recipe
from halometry.runs.run import Run, load_run
from halometry.seeds import DEMO_SEED_OFFSET

PRESETS: dict[Task, str] = {"classification": "demo_classification", "regression": "demo_mass"}
NETWORKS = (*TIMM_NAMES, "d4net")
BUNDLED_PRESETS = ("common_test_1", "halo_mass")  # whose bundled weights are evaluated
BUNDLED_TEST_IMAGES = 200
INTRO = (
    "Classification and regression in small: images of 48 x 48 pixels with substructure several"
    " times heavier than in the published sets, and a few minutes of training for each network."
    " These numbers hold for this easier problem, not for the published sets."
)


@dataclass(frozen=True)
class Demo:
    """Results of the demonstration.

    Attributes:
        comparisons: one per task.
        bundled: evaluations of the bundled weights, one per preset.
        report: the HTML file.
    """

    comparisons: list[Comparison]
    bundled: list[BundledRecord]
    report: Path


@with_progress
def run_demo(
    out: str | Path = "demo",
    *,
    count: int = 4000,
    seed: int = 1,
    recipe: str | Path = "demo",
    device: str = "auto",
    backbones: Sequence[str] | None = None,
    progress: bool = True,
) -> Demo:
    """Simulate, train, evaluate and compare; what an earlier call finished is used again.

    Args:
        out: the folder for all files.
        count: number of images per task, test images included.
        seed: of the images and of the training.
        recipe: of the training.
        device: `auto`, `cpu`, or as PyTorch names it.
        backbones: the networks; `NETWORKS` if not given.
        progress: whether to show progress bars.
    """
    out, recipe_file, backbones = Path(out), load_recipe(recipe), backbones or NETWORKS
    begin = time.monotonic()
    logger.info(f"two tasks, {len(backbones)} networks each; all files are written to {out}/")
    comparisons = []
    for i, (task, preset) in enumerate(PRESETS.items()):
        logger.info(f"{task}, {i + 1} of {len(PRESETS)}")
        store = out / f"{task}.h5"
        if not store.exists():
            simulate(preset, count, seed=seed, out=store, device=device)
        _check_store(store, count, seed)
        comparisons.append(
            compare_networks(
                task, store, backbones, out / task, recipe=recipe_file, seed=seed, device=device
            )
        )
    bundled = [
        section
        for preset in BUNDLED_PRESETS
        if (section := evaluate_bundled_weights(preset, out / "weights", seed=seed, device=device))
    ]
    report = write_report(
        out / "report.html",
        [comparison.section for comparison in comparisons],
        f"Dark matter in simulated lenses: {len(backbones)} networks compared on two tasks",
        intro=INTRO,
        bundled=bundled,
    )
    logger.info(f"done in {duration(time.monotonic() - begin)}")
    return Demo(comparisons, [section.record for section in bundled], report)


def _check_store(store: Path, count: int, seed: int) -> None:
    """Check that the data set of an earlier demonstration is of the same images.

    Raises:
        UsageError: it has another number of images or another seed.
    """
    with open_store(store) as file:
        stored = len(file["labels"]), int(file.attrs["seed"])
    if stored != (count, seed):
        raise UsageError(
            f"{store.parent}: holds a demonstration with --count {stored[0]} --seed {stored[1]};"
            " give the same to continue, or choose another --out"
        )


def evaluate_bundled_weights(
    preset: str, out: Path, *, seed: int = 1, device: str = "auto"
) -> BundledSection | None:
    """Evaluate the package's weights of one preset on new images of it.

    Args:
        preset: its name.
        out: a folder for the images and each network's evaluation; images there are used again.
        seed: of the images.
        device: `auto`, `cpu`, or as PyTorch names it.

    Returns:
        A section of the report; None if no weights of this preset come with the package.
    """
    names = [name for name in list_weights() if name.startswith(f"{preset}/")]
    if not names:
        return None
    seed += DEMO_SEED_OFFSET
    store = out / f"{preset}_{seed}.h5"
    if not store.exists():
        logger.info(f"{BUNDLED_TEST_IMAGES} new images of {preset} for the bundled weights")
        simulate(preset, BUNDLED_TEST_IMAGES, seed=seed, out=store, device=device)
    data = open_dataset(store)
    evaluations: dict[str, Evaluation] = {}
    for name in names:
        run = load_run(weights_folder(name))
        evaluations[name.rpartition("/")[2]] = evaluate(run, data, out=out / name, device=device)
    first = next(iter(evaluations.values()))
    record = BundledRecord(
        task=first.run.config.task,
        preset=preset,
        seed=seed,
        images=len(first.truth),
        class_names=data.class_names,
        models=tuple(_bundled_model(name, e) for name, e in evaluations.items()),
    )
    return BundledSection(record, select_examples(data, evaluations, seed=seed))


def _bundled_model(name: str, evaluation: Evaluation) -> BundledModel:
    assert isinstance(evaluation.run, Run)
    config, published = evaluation.run.config, evaluation.run.training_metrics()
    confusion = evaluation.confusion
    return BundledModel(
        name=name,
        start=config.initial_weights,
        parameters=published["parameters"],
        published=Interval(**published["test"]["metrics"][key_metric(config.task)]),
        metrics=evaluation.metrics,
        confusion=None if confusion is None else confusion.tolist(),
    )
