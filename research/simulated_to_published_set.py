"""Evaluate a network trained on simulated images of a published set on its published images.

    python research/simulated_to_published_set.py hackathon_2020 \
        --data ../shared/data/hackathon_2020 --work runs/simulated --epochs 16

Simulates the preset, trains on it, and evaluates the run on its own test images and on all
published ones. The same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import halometry
from halometry.evaluation.evaluate import Evaluation
from halometry.io import write_json
from halometry.provenance import provenance, versions

SHOWN_METRICS = ("auc", "accuracy", "loss", "ece")


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--data", type=Path, required=True, help="the published images, labeled")
    parser.add_argument("--work", type=Path, required=True, help="a folder for images and runs")
    parser.add_argument("--out", type=Path, help="results/PRESET_simulated.json if not given")
    parser.add_argument("--backbone", default="d4net")
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--test", type=int, default=2000, help="number of test images")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    store = options.work / f"{options.preset}.h5"
    halometry.simulate(
        options.preset, options.count, seed=options.seed, out=store, n_test=options.test
    )
    run = halometry.train(
        "classification", store, options.backbone, options.work / options.backbone,
        overrides={"epochs": options.epochs}, seed=options.seed,
    )  # fmt: skip
    evaluations = {
        "simulated": halometry.evaluate(run, store),
        "published": halometry.evaluate(run, options.data),
    }
    record = {
        "what": f"a network trained on simulated {options.preset} alone, on simulated and on"
        " published images",
        "command": f"python research/simulated_to_published_set.py {options.preset}"
        f" --data {options.data.name} --work runs/simulated --epochs {options.epochs}",
        **provenance(),
        "versions": versions(),
        "network": options.backbone,
        "seed": options.seed,
        "training": run.training_metrics()["images"],
        "evaluations": {name: describe(one) for name, one in evaluations.items()},
        "rows": [
            ["images", "number", "AUC", "accuracy", "loss", "calibration error"],
            *(
                [name, f"{len(one.truth):,}", *(str(one.metrics[key]) for key in SHOWN_METRICS)]
                for name, one in evaluations.items()
            ),
        ],
    }
    out = options.out or Path(f"results/{options.preset}_simulated.json")
    write_json(out, "measurement", record)
    print("\n".join(" | ".join(row) for row in record["rows"]))


def describe(one: Evaluation) -> dict[str, object]:
    """Metrics, and quantiles of the probability of the second class for each true class."""
    quantiles = {
        str(k): np.quantile(one.outputs[one.truth == k, 1], (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
        for k in np.unique(one.truth)
    }
    assert one.confusion is not None
    return {
        "images": len(one.truth),
        "metrics": {key: value.to_dict() for key, value in one.metrics.items()},
        "confusion": one.confusion.tolist(),
        "quantiles_of_second_class": quantiles,
    }


if __name__ == "__main__":
    main()
