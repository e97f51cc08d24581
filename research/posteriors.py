"""Posteriors of masses against the plain head: scores and coverage on fresh images.

    python research/posteriors.py --work runs/posteriors --out results/demo_posteriors.json

Trains a plain run, a Gaussian and a flow from random weights with the same steps, and a flow that
begins from the plain run, with its backbone held and not; then two flows answer together. Repeat
the command to go on after a stop.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import halometry
from halometry.evaluation.cost import machine
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.figures import save
from halometry.evaluation.intervals import Estimate
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.evaluation.posteriors import posterior_record

METRICS = {
    "mse": "MSE",
    "nll": "NLL",
    "crps": "CRPS",
    "coverage_68": "68 % interval holds",
    "coverage_95": "95 % interval holds",
}
SHORT = 0.25  # of the steps, for a new head on a run that has learnt already


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--work", type=Path, required=True, help="a folder for images and runs")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--figure", type=Path, help="a picture of the posteriors' reliability")
    parser.add_argument("--preset", default="demo_mass")
    parser.add_argument("--backbone", default="d4net")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--train", type=int, default=8000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    store = options.work / f"{options.preset}.h5"
    halometry.simulate(
        options.preset, options.train + options.test, options.seed, store, test=options.test
    )
    judged: dict[str, Evaluation] = {}
    for name, run in _runs(options, store):
        judged[name] = evaluate(run, store)
        _write(options, judged)  # what there is so far


def _write(options: argparse.Namespace, judged: dict[str, Evaluation]) -> None:
    posteriors = {
        name: posterior_record(one.truth, one.posterior)
        for name, one in judged.items()
        if one.posterior is not None
    }
    if options.figure is not None and posteriors:
        save(posterior_figure(posteriors), options.figure)
    first = next(iter(judged.values()))
    record = {
        "what": "posteriors of masses against the plain head, on images that no run has seen",
        "command": "python research/posteriors.py --work runs/posteriors"
        f" --out results/{options.out.name} --train {options.train} --test {options.test}"
        f" --epochs {options.epochs} --preset {options.preset} --backbone {options.backbone}"
        f" --recipe {options.recipe} --seed {options.seed}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": halometry.__version__,
        "machine": machine(),
        "seed": options.seed,
        "test_images": len(first.truth),
        "variance": float(first.truth.var()),
        "rows": [["", *METRICS.values()], *(_row(name, one) for name, one in judged.items())],
        "metrics": {
            name: {key: value.to_dict() for key, value in one.metrics.items()}
            for name, one in judged.items()
        },
        "posteriors": posteriors,
    }
    options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _runs(options: argparse.Namespace, store: Path) -> Iterator[tuple[str, str]]:
    """The runs by what they are called, trained where they are not there yet."""
    short = max(1, round(SHORT * options.epochs))

    def run(name: str, start: str | None = None, seed: int = options.seed, **chosen: Any) -> str:
        overrides = {"epochs": options.epochs, "max_seconds": None} | chosen
        out = options.work / name
        halometry.train(
            "regression", store, options.backbone, out, options.recipe, overrides, seed, start=start
        )
        return str(out)

    later = {"posterior": "flow", "epochs": short}
    yield "plain", (plain := run("plain"))
    yield "flow on the plain run, held", run("held", plain, **later, freeze_backbone=True)
    yield "flow", (flow := run("flow", posterior="flow"))
    yield "gaussian", run("gaussian", posterior="gaussian")
    yield "flow on the plain run", run("later", plain, **later, learning_rate=0.0005)
    again = run("flow_2", seed=options.seed + 1, posterior="flow")
    yield "two flows together", f"{flow},{again}"


def _row(name: str, one: Evaluation) -> list[str]:
    metrics = one.metrics
    return [name, *(_cell(metrics.get(key)) for key in METRICS)]


def _cell(estimate: Estimate | None) -> str:
    return "" if estimate is None else str(estimate)


if __name__ == "__main__":
    main()
