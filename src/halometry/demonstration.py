"""The main job on an embedded default: two small sets, six networks, one report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from halometry.data.generate import simulate
from halometry.evaluation.compare import Comparison, compare
from halometry.evaluation.report import write_report
from halometry.models.backbone import PLAIN_NAMES
from halometry.models.predictor import Task
from halometry.progress import duration, say
from halometry.training.recipe import load_recipe

PRESETS: dict[Task, str] = {"classification": "demo_classification", "regression": "demo_mass"}
INTRO = (
    "Both entrance experiments of the field in small: images of 48 x 48 pixels with substructure"
    " several times heavier than the published sets have, and a few minutes of training for each"
    " network, shared out as the networks need them. The figures say what these networks make of"
    " this easier problem, not how they do on the published one."
)


@dataclass(frozen=True)
class Demo:
    """What the demonstration made: a comparison a task, and the report's path."""

    comparisons: list[Comparison]
    report: Path


def demo(
    out: str | Path = "demo",
    count: int = 4000,
    seed: int = 1,
    recipe: str = "demo",
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
    out = Path(out)
    begin = time.monotonic()
    say(f"Six networks on two tasks; about ten minutes on two cores. All of it goes to {out}/")
    comparisons = []
    for task, preset in PRESETS.items():
        store = out / f"{task}.h5"
        if not store.exists():
            simulate(preset, count, seed=seed, out=store, device=device)
        comparison = compare(
            task, store, [*PLAIN_NAMES], out / task, load_recipe(recipe), seed=seed, device=device
        )
        comparisons.append(comparison)
    report = write_report(
        out / "report.html",
        [(c.record, c.gallery) for c in comparisons],
        "Dark matter in simulated lenses: six networks compared",
        INTRO,
    )
    say(f"done in {duration(time.monotonic() - begin)}")
    return Demo(comparisons, report)
