"""The published recipe and ours, network by network, on the same small sets.

    python research/recipes.py --out runs/recipes --epochs 8

At true masses and full size the published recipe is at chance for hours of two cores, so this is
done on the demonstration's sets: 48 pixels, substructure eight times heavier than real. Either
recipe begins from random weights, keeps the images' own size and channels, and sees the same number
of images; ours has no heavier substructure at first, for there it is heavy already. Everything else
is as the recipes have it. The same command goes on where it was stopped, and writes the table after
each pair. One seed: intervals hold the choice of test images, not that of the seed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import halometry
from halometry.config import Task
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.differences import differences
from halometry.evaluation.evaluate import Evaluation
from halometry.provenance import machine, versions
from halometry.runs.run import Run

SETS: dict[Task, str] = {"classification": "demo_classification", "regression": "demo_mass"}
RECIPES: dict[str, dict[str, Any]] = {
    "baseline": {"size": None, "channels": None, "pretrained": False},
    "default": {"curriculum_mass_factor": 1},
}
ERRORS = {"classification": "1 - AUC", "regression": "MSE"}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for images and runs")
    parser.add_argument("--results", type=Path, default=Path("results/recipes.json"))
    parser.add_argument("--backbones", nargs="+", default=["mobilenetv3_small", "resnet18"])
    parser.add_argument("--count", type=int, default=5000, help="images a task")
    parser.add_argument("--test", type=int, default=1000, help="of these")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    record: dict[str, Any] = {
        "what": "the published recipe and ours on the demonstration's sets, the same images seen",
        "command": shlex.join(["python", "research/recipes.py", *sys.argv[1:]]),
        "versions": versions(),
        "machine": machine(),
        "seed": options.seed,
        "test": options.test,
        "recipes": RECIPES,
        "pairs": [],
    }
    for backbone in options.backbones:
        for task, preset in SETS.items():
            store = options.out / f"{preset}.h5"
            halometry.simulate(
                preset, options.count, seed=options.seed, out=store, n_test=options.test
            )
            print(f"{backbone}, {task}", file=sys.stderr)
            judged = {recipe: judge(task, store, backbone, recipe, options) for recipe in RECIPES}
            record["pairs"].append(compared(task, backbone, judged))
            record["rows"] = [HEAD, *map(row, record["pairs"])]
            record["date"] = datetime.now(UTC).isoformat(timespec="seconds")
            options.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def judge(
    task: Task, store: Path, backbone: str, recipe: str, options: argparse.Namespace
) -> Evaluation:
    """Train by one recipe, and judge on the set's test images."""
    overrides = RECIPES[recipe] | {"epochs": options.epochs}
    out = options.out / f"{backbone}_{task}_{recipe}"
    run = halometry.train(
        task, store, backbone, out, recipe=recipe, overrides=overrides, seed=options.seed
    )
    return halometry.evaluate(run, store)


def compared(task: Task, backbone: str, judged: dict[str, Evaluation]) -> dict[str, Any]:
    """Figures of merit of both, and how they differ on the same images."""
    outputs = {recipe: judged[recipe].outputs for recipe in ("default", "baseline")}
    images = {}
    for recipe, one in judged.items():
        assert isinstance(one.run, Run)
        images[recipe] = one.run.training_metrics()["images"]
    return {
        "backbone": backbone,
        "task": task,
        "images": images,
        "metrics": {
            recipe: {key: value.to_dict() for key, value in one.metrics.items()}
            for recipe, one in judged.items()
        },
        "differences": [one.model_dump() for one in differences(judged["default"].truth, outputs)],
    }


HEAD = ["network", "task", "metric", "baseline", "default", "difference", "of the error is left"]


def row(pair: dict[str, Any]) -> list[str]:
    """A line of the table; what is left is of 1 - AUC, or of the MSE."""
    key, error = ("auc", "auc") if pair["task"] == "classification" else ("r2", "mse")
    values = {name: one[key] for name, one in pair["metrics"].items()}
    errors = {name: one[error]["value"] for name, one in pair["metrics"].items()}
    if error == "auc":
        errors = {name: 1 - value for name, value in errors.items()}
    apart = next(one for one in pair["differences"] if one["metric"] == key)
    return [
        pair["backbone"],
        pair["task"],
        "AUC" if key == "auc" else "R²",
        str(Interval(**values["baseline"])),
        str(Interval(**values["default"])),
        str(Interval(apart["value"], apart["low"], apart["high"])),
        f"{errors['default'] / errors['baseline']:.2f} ({ERRORS[pair['task']]})",
    ]


if __name__ == "__main__":
    main()
