"""Posteriors from the features of a plain run, compared with its own predictions on new images.

    python research/posteriors.py --plain runs/hm/runs/d4net --data hm.h5 --work runs/posteriors \
        --out results/posteriors.json --figure docs/images/posteriors.png

Trains a Gaussian and a flow on the frozen backbone of a plain run, then the whole network with the
flow, and evaluates all on the same new images. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import halometry
from halometry.evaluation.differences import differences
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.io import write_json
from halometry.plotting import save_figure
from halometry.provenance import command, provenance

METRICS = {
    "mse": "MSE",
    "nll": "NLL",
    "crps": "CRPS",
    "coverage_68": "within 68 %",
    "coverage_95": "within 95 %",
}
# Training of the head only, with online images: the backbone may predict the masses of its training
# images better than those of new images.
HEAD: dict[str, Any] = {
    "curriculum_mass_factor": 1,
    "aux_loss_weight": 0,
    "online_fraction": 1,
    "freeze_backbone": True,
}
WHOLE_NETWORK: dict[str, Any] = {"freeze_backbone": False, "learning_rate": 0.0003}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", required=True, help="a finished run on simulated images")
    parser.add_argument("--data", type=Path, required=True, help="dataset that it was trained on")
    parser.add_argument("--work", type=Path, required=True, help="folder for images and runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--figure", type=Path, help="figure of the reliability")
    parser.add_argument("--count", type=int, default=2000, help="new images")
    parser.add_argument("--seed", type=int, default=101, help="seed of the new images")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    preset = halometry.load_run(options.plain).config.data.preset
    assert preset is not None, f"{options.plain}: not from simulated images"
    images = options.work / f"{preset}_{options.seed}.h5"
    halometry.simulate(preset, options.count, seed=options.seed, out=images)
    evaluations: dict[str, Evaluation] = {}
    for name, run in _runs(options):
        evaluations[name] = evaluate(run, images)
        _write(options, evaluations)  # results so far


def _runs(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Names and folders of the runs, which are trained unless they exist."""
    config = halometry.load_run(options.plain).config

    def run(name: str, init_from: str, **settings: Any) -> str:
        recipe = config.recipe.model_dump(exclude={"name", "description"})
        overrides = recipe | {"epochs": options.epochs} | HEAD | settings
        out = options.work / name
        halometry.train(
            "regression", options.data, config.backbone, out, overrides=overrides,
            seed=config.seed, init_from=init_from,
        )  # fmt: skip
        return str(out)

    yield "plain", options.plain
    yield "flow, frozen backbone", (frozen := run("flow_held", options.plain, posterior="flow"))
    yield "Gaussian, frozen backbone", run("gaussian_held", options.plain, posterior="gaussian")
    yield "flow, whole network", run("flow", frozen, posterior="flow", **WHOLE_NETWORK)


def _write(options: argparse.Namespace, evaluations: dict[str, Evaluation]) -> None:
    posteriors = {
        name: one.posterior_checks
        for name, one in evaluations.items()
        if one.posterior_checks is not None
    }
    if options.figure is not None and posteriors:
        save_figure(posterior_figure(posteriors), options.figure)
    plain = evaluations["plain"]
    r2_difference = {
        name: differences(plain.truth, {name: one.outputs, "": plain.outputs})[0].interval.to_dict()
        for name, one in evaluations.items()
        if name in posteriors
    }
    record = {
        "what": "posteriors from the features of a plain run, compared with its own predictions on"
        " new images",
        "command": command(),
        **provenance(),
        "seed": options.seed,
        "preset": plain.run.config.data.preset,
        "backbone": plain.run.config.backbone,
        "test_images": len(plain.truth),
        "variance": float(plain.truth.var()),
        "rows": [["", *METRICS.values()], *(_row(name, one) for name, one in evaluations.items())],
        "r2_minus_plain": r2_difference,
        "metrics": {
            name: {key: value.to_dict() for key, value in one.metrics.items()}
            for name, one in evaluations.items()
        },
        "posteriors": {name: one.model_dump(mode="json") for name, one in posteriors.items()},
    }
    write_json(options.out, "measurement", record)


def _row(name: str, one: Evaluation) -> list[str]:
    return [name, *(str(one.metrics[key]) if key in one.metrics else "" for key in METRICS)]


if __name__ == "__main__":
    main()
