"""Ablation of the default recipe: each part is left out, and the rest is kept.

One variant has another schedule instead.

    python research/ablation.py --data ct1.h5 --out runs/ablation --set size=75 --set epochs=2

All variants see the same number of images of one simulated set and are evaluated on its test
images. Differences from the complete recipe are paired, image by image. Repeat the command to
continue where it was stopped. There is one seed, so intervals cover the choice of test images, not
that of the seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import halometry
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.differences import differences
from halometry.evaluation.evaluate import Evaluation
from halometry.io import header
from halometry.provenance import command, provenance, versions
from halometry.runs.recipe import load_recipe, parse_overrides
from halometry.runs.run import Run

RECIPE = "default"
VARIANTS: dict[str, dict[str, Any]] = {
    RECIPE: {},
    "without the square root of counts": {"stretch": "none"},
    "with a constant learning rate": {"schedule": "constant"},
    "with a cosine schedule": {"schedule": "cosine"},
    "without online simulation": {"online_fraction": 0},
    "without curriculum": {"curriculum_mass_factor": 1},
    "without mass maps": {"aux_loss_weight": 0},
    "without curriculum and mass maps": {"curriculum_mass_factor": 1, "aux_loss_weight": 0},
    "without EMA": {"ema_decay": 0},
}


def main() -> None:
    options = _options()
    overrides = parse_overrides(options.set)
    data = halometry.open_dataset(options.data)
    task = data.task
    complete = load_recipe(RECIPE).resolve(task, options.backbone, overrides)
    evaluations: dict[str, Evaluation] = {}
    for number, (name, left_out) in enumerate(VARIANTS.items()):
        print(f"[{number + 1}/{len(VARIANTS)}] {name}", file=sys.stderr)
        run = halometry.train(
            task, data, options.backbone, options.out / f"{number}", recipe=RECIPE,
            overrides=overrides | left_out, seed=options.seed, device=options.device,
        )  # fmt: skip
        evaluations[name] = halometry.evaluate(run, data, device=options.device)
        record = {
            **header("measurement"),
            "what": f"the default recipe of {options.backbone} with one part left out",
            "command": command(),
            **provenance(),
            "versions": versions(),
            "data": data.description,
            "test": len(evaluations[name].truth),
            "seed": options.seed,
            "recipe": complete.model_dump(mode="json", exclude={"name", "description"}),
            "variants": {name: _variant_record(name, evaluations) for name in evaluations},
        }
        record["rows"] = _rows(record["variants"], task)
        options.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _variant_record(name: str, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    variant, complete = evaluations[name], evaluations[RECIPE]
    assert isinstance(variant.run, Run)
    training = variant.run.training_metrics()
    record: dict[str, Any] = {
        "left_out": VARIANTS[name],
        "metrics": {key: value.to_dict() for key, value in variant.metrics.items()},
        "validation": training["validation"],
        "images": training["images"],
    }
    if name != RECIPE:
        pair = {name: variant.outputs, RECIPE: complete.outputs}
        interval = differences(complete.truth, pair)[0].interval
        record["difference"] = interval.to_dict() | {"text": str(interval)}
    return record


def _rows(variants: dict[str, Any], task: str) -> list[list[str]]:
    key, title = ("auc", "AUC") if task == "classification" else ("r2", "R²")
    rows = [["recipe", title, "difference"]]
    for name, variant in variants.items():
        difference = variant.get("difference", {"text": ""})["text"]
        rows.append([name, str(Interval(**variant["metrics"][key])), difference])
    return rows


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a simulated store")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--results", type=Path, default=Path("results/ablation.json"))
    parser.add_argument("--backbone", default="d4net")
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
