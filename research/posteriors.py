"""Posteriors on a plain run's features against its own answers, on fresh images.

    python research/posteriors.py --plain runs/hm/runs/d4net --data hm.h5 --work runs/posteriors \
        --out results/posteriors.json --figure docs/images/posteriors.jpg

Simulates images that no run has seen, puts a Gaussian and a flow on the plain run's backbone, held
still, lets the whole network go on with the flow, and judges all of them on the same images. Repeat
the command to go on after a stop.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import halometry
from halometry.evaluation.differences import differences
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.posterior_figures import posterior_figure
from halometry.plotting import save_figure
from halometry.provenance import provenance

METRICS = {
    "mse": "MSE",
    "nll": "NLL",
    "crps": "CRPS",
    "coverage_68": "within 68 %",
    "coverage_95": "within 95 %",
}
# A curriculum and a map of the mass have done their work; images of the training set itself are
# ones whose masses the backbone may know better than it will know those of others.
HEAD: dict[str, Any] = {
    "curriculum_mass_factor": 1,
    "aux_loss_weight": 0,
    "online_fraction": 1,
    "freeze_backbone": True,
}
GOING_ON: dict[str, Any] = {"freeze_backbone": False, "learning_rate": 0.0003}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", required=True, help="a finished run, with simulated images")
    parser.add_argument("--data", type=Path, required=True, help="the set it was trained on")
    parser.add_argument("--work", type=Path, required=True, help="a folder for images and runs")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--figure", type=Path, help="a picture of the posteriors' reliability")
    parser.add_argument("--count", type=int, default=2000, help="fresh images")
    parser.add_argument("--seed", type=int, default=101, help="of these")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    preset = halometry.load_run(options.plain).config.data.preset
    assert preset is not None, f"{options.plain}: not from simulated images"
    fresh = options.work / f"{preset}_{options.seed}.h5"
    halometry.simulate(preset, options.count, seed=options.seed, out=fresh)
    judged: dict[str, Evaluation] = {}
    for name, run in _runs(options):
        judged[name] = evaluate(run, fresh)
        _write(options, judged)  # what there is so far


def _runs(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The runs by what they are called, trained where they are not there yet."""
    config = halometry.load_run(options.plain).config

    def run(name: str, start: str, **chosen: Any) -> str:
        recipe = config.recipe.model_dump(exclude={"name", "description"})
        overrides = recipe | {"epochs": options.epochs} | HEAD | chosen
        out = options.work / name
        halometry.train(
            "regression", options.data, config.backbone, out, overrides=overrides,
            seed=config.seed, init_from=start,
        )  # fmt: skip
        return str(out)

    yield "plain", options.plain
    yield "flow, backbone held", (held := run("flow_held", options.plain, posterior="flow"))
    yield "Gaussian, backbone held", run("gaussian_held", options.plain, posterior="gaussian")
    yield "flow, all going on", run("flow", held, posterior="flow", **GOING_ON)


def _write(options: argparse.Namespace, judged: dict[str, Evaluation]) -> None:
    posteriors = {
        name: one.posterior_checks
        for name, one in judged.items()
        if one.posterior_checks is not None
    }
    if options.figure is not None and posteriors:
        save_figure(posterior_figure(posteriors), options.figure)
    plain = judged["plain"]
    gain = {
        name: differences(plain.truth, {name: one.outputs, "": plain.outputs})[0].interval.to_dict()
        for name, one in judged.items()
        if name in posteriors
    }
    record = {
        "what": "posteriors on a plain run's features against its own answers, on images that no"
        " run has seen",
        "command": f"python research/posteriors.py {shlex.join(sys.argv[1:])}",
        **provenance(),
        "seed": options.seed,
        "preset": plain.run.config.data.preset,
        "backbone": plain.run.config.backbone,
        "test_images": len(plain.truth),
        "variance": float(plain.truth.var()),
        "rows": [["", *METRICS.values()], *(_row(name, one) for name, one in judged.items())],
        "r2_more_than_plain": gain,
        "metrics": {
            name: {key: value.to_dict() for key, value in one.metrics.items()}
            for name, one in judged.items()
        },
        "posteriors": {name: one.model_dump(mode="json") for name, one in posteriors.items()},
    }
    options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _row(name: str, one: Evaluation) -> list[str]:
    return [name, *(str(one.metrics[key]) if key in one.metrics else "" for key in METRICS)]


if __name__ == "__main__":
    main()
