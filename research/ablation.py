"""What each part of the default recipe is worth: it is left out, and the rest stays as it is.

One variant has another schedule instead.

    python research/ablation.py --data ct1.h5 --out runs/ablation --set size=75 --set epochs=2

All variants see the same number of images of one simulated set, and are judged on its test images;
differences from the recipe as it is are paired, image by image. The same command goes on where it
was stopped. One seed each: a difference holds the choice of test images, not that of the seed.
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
from halometry.provenance import command, provenance, versions
from halometry.runs.recipe import load_recipe, parse_overrides
from halometry.runs.run import Run

WHOLE = "default"
WITHOUT: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "without the square root of counts": {"stretch": "none"},
    "with a rate that stays at its peak": {"schedule": "constant"},
    "with a cosine in the trapezoid's place": {"schedule": "cosine"},
    "without fresh images, and so without heavy ones": {"online_fraction": 0},
    "without heavy substructure at first": {"curriculum_mass_factor": 1},
    "without the map of the mass": {"aux_loss_weight": 0},
    "without either": {"curriculum_mass_factor": 1, "aux_loss_weight": 0},
    "without the running mean of weights": {"ema_decay": 0},
}


def main() -> None:
    options = _options()
    overrides = parse_overrides(options.set)
    data = halometry.open_dataset(options.data)
    task = data.task
    asked = load_recipe(WHOLE).resolve(task, options.backbone, overrides)
    evaluations: dict[str, Evaluation] = {}
    for number, (name, left_out) in enumerate(WITHOUT.items()):
        print(f"[{number + 1}/{len(WITHOUT)}] {name}", file=sys.stderr)
        run = halometry.train(
            task, data, options.backbone, options.out / f"{number}", recipe=WHOLE,
            overrides=overrides | left_out, seed=options.seed, device=options.device,
        )  # fmt: skip
        evaluations[name] = halometry.evaluate(run, data, device=options.device)
        record = {
            "what": f"the default recipe of {options.backbone} with one part left out",
            "command": command(),
            **provenance(),
            "versions": versions(),
            "data": data.description,
            "test": len(evaluations[name].truth),
            "seed": options.seed,
            "recipe": asked.model_dump(mode="json", exclude={"name", "description"}),
            "variants": {name: _measured(name, evaluations) for name in evaluations},
        }
        record["rows"] = _rows(record["variants"], task)
        options.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _measured(name: str, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    one, whole = evaluations[name], evaluations[WHOLE]
    assert isinstance(one.run, Run)
    training = one.run.training_metrics()
    found: dict[str, Any] = {
        "left_out": WITHOUT[name],
        "metrics": {key: value.to_dict() for key, value in one.metrics.items()},
        "validation": training["validation"],
        "images": training["images"],
    }
    if name != WHOLE:
        pair = {name: one.outputs, WHOLE: whole.outputs}
        worth = differences(whole.truth, pair)[0].interval
        found["difference"] = worth.to_dict() | {"text": str(worth)}
    return found


def _rows(variants: dict[str, Any], task: str) -> list[list[str]]:
    key, title = ("auc", "AUC") if task == "classification" else ("r2", "R²")
    rows = [["recipe", title, "difference"]]
    for name, one in variants.items():
        worth = one.get("difference", {"text": ""})["text"]
        rows.append([name, str(Interval(**one["metrics"][key])), worth])
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
